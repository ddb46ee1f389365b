import { describe, expect, test } from "bun:test";
import { BackupPath, call, volume } from "../helpers/backup-path.ts";
import { expectError } from "../helpers/errors.ts";

async function newPath(seed: number, options: ConstructorParameters<typeof BackupPath>[1] = {}): Promise<BackupPath> {
  const path = new BackupPath(seed, { sizeLb: 4096, ...options });
  await path.world.complete(() => path.open());
  await path.world.complete(() => path.writes(20));
  return path;
}

const stateOf = async (path: BackupPath) => (await path.world.complete(() => path.storageVolume())).state;

describe("a full backup", () => {
  for (const step of ["decide", "begin", "bulk", "finish", "commit"] as const) {
    test(`whose archive fails at step ${step} leaves the volume ready for the next, which works`, async () => {
      const path = await newPath(3);
      const { world } = path;
      path.archive.onStep = (now) => {
        if (now === step) throw new Error("the archive fails here");
      };
      await expectError(world.complete(() => path.backup()));
      expect(await stateOf(path)).toBe("SyncReady");
      expect((await world.complete(() => path.storageVolume())).trouble?.message).toContain("full backup");
      path.archive.onStep = undefined;
      await world.complete(() => path.writes(5));
      await path.arrived(await world.complete(() => path.backup()), 600_000);
      await world.complete(() => path.writes(5));
      await path.arrived(await world.complete(() => path.snapshot()));
      expect(path.verify()).toBeGreaterThan(1);
      expect((await world.complete(() => path.storageVolume())).trouble).toBeUndefined();
      // The diffs of the first log were dropped, and only because the archive follows another.
      const dropped = path.archive.asked.filter(({ decision }) => decision.kind === "word");
      for (const { decision } of dropped)
        expect(["syncing", "different-uuid", "wdiff-recv"]).toContain(decision.kind === "word" ? decision.word : "");
      await world.run(1_000);
      expect(path.leasedBytes).toBe(0);
      path.close();
    });
  }

  test("whose archive has committed but whose Ack is lost can be repeated once the archive is reset", async () => {
    const path = await newPath(4);
    const { world } = path;
    path.archive.onStep = (step) => {
      if (step === "commit") world.network.cut("s0", "a0");
    };
    await expectError(world.complete(() => path.backup()));
    expect(path.archive.state).toBe("Archived");
    path.archive.onStep = undefined;
    // The archive says so before anything at the storage is touched.
    const { uuid } = await world.complete(() => path.storageVolume());
    await expectError(
      world.complete(() => path.backup()),
      "Archived",
    );
    expect((await world.complete(() => path.storageVolume())).uuid).toBe(uuid!);
    path.archive.state = "SyncReady";
    await path.arrived(await world.complete(() => path.backup()), 600_000);
    expect(path.verify()).toBeGreaterThan(0);
    path.close();
  });

  test("can be cancelled at any moment, and stopped by force; both leave SyncReady and no trouble", async () => {
    for (let seed = 1; seed <= 16; seed++) {
      const path = await newPath(seed, { storage: { fullScanBytesPerS: 4 * 1024 * 1024 } });
      const { world } = path;
      const outcome = world.complete(async () => {
        const started = await path.storage.control.call("backup", { volume, mode: "full" });
        if (started.kind !== "job") throw new Error("no job");
        await path.storageHost.platform.clock.sleep(world.random.between(0, 400));
        if (seed % 2 === 0) await path.storage.control.cancelJob(started.job.id);
        else await call(path.storage, "stop", { volume, mode: "force" });
        return path.storage.control.job(started.job.id);
      });
      const job = await outcome;
      expect(job.state === "done" ? "done" : job.error!.code).toMatch(/done|cancelled/);
      if (job.state !== "done") {
        expect(await stateOf(path)).toBe("SyncReady");
        expect((await world.complete(() => path.storageVolume())).trouble).toBeUndefined();
        await world.run(1_000);
        expect(path.leasedBytes).toBe(0);
        await path.arrived(await world.complete(() => path.backup()), 600_000);
        expect(path.verify()).toBeGreaterThan(0);
      }
      path.close();
    }
  });

  test("is waited for by a graceful stop, which a forced one overtakes", async () => {
    const path = await newPath(5, { storage: { fullScanBytesPerS: 1024 * 1024 } });
    const { world } = path;
    const [backup, graceful] = await world.complete(async () => {
      const running = path.backup().then(
        () => "done",
        (error: Error) => error.message,
      );
      await path.storageHost.platform.clock.sleep(200);
      const stopping = call(path.storage, "stop", { volume, mode: "graceful" }).then(() => "stopped");
      await path.storageHost.platform.clock.sleep(200);
      expect((await path.storageVolume()).stopState).toBe("stopping");
      await expectError(call(path.storage, "snapshot", { volume }), "stopping");
      await call(path.storage, "stop", { volume, mode: "force" });
      return [await running, await stopping] as const;
    });
    expect(backup).toContain("cancelled");
    expect(graceful).toBe("stopped");
    expect(await stateOf(path)).toBe("SyncReady");
    path.close();
  });

  test("survives the death of the storage in the middle: the volume is ready for another", async () => {
    for (let operation = 1; operation <= 13; operation += 2) {
      const path = await newPath(operation);
      const { world } = path;
      path.storageHost.crashAtOperation(operation, { kill: true });
      world.after(0, () => void path.backup().catch(() => undefined));
      await world.run(20_000);
      if (path.storageHost.isUp) path.storageHost.kill();
      await world.complete(() => path.restartStorageHost());
      const state = await stateOf(path);
      expect(["SyncReady", "Target"]).toContain(state);
      if (state === "SyncReady") {
        path.archive.state = "SyncReady";
        await world.complete(() => path.backup());
      }
      await world.complete(() => path.writes(3));
      await path.arrived(await world.complete(() => path.snapshot()), 600_000);
      expect(path.verify()).toBeGreaterThan(0);
      path.close();
    }
  });

  test("keeps its rate", async () => {
    const rate = 512 * 1024;
    const path = await newPath(6, { storage: { fullScanBytesPerS: rate } });
    const { world } = path;
    // No holes, so that all 2 MiB are read.
    await world.complete(async () => {
      for (let at = 0; at < 4096; at += 256) await path.writeAt(at, 256);
    });
    const startMs = world.nowMs();
    await world.complete(() => path.backup());
    const elapsedS = (world.nowMs() - startMs) / 1000;
    expect(elapsedS).toBeGreaterThan((2 * 1024 * 1024) / rate - 1.1);
    expect(elapsedS).toBeLessThan((2 * 1024 * 1024) / rate + 3);
    path.close();
  });
});
