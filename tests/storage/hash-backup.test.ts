import { describe, expect, test } from "bun:test";
import { BackupPath, call, volume } from "../helpers/backup-path.ts";
import { expectError } from "../helpers/errors.ts";

const mib = 1024 * 1024;
const proxyHosts = ["p0"];

/** A volume that is backed up and followed. */
async function running(seed: number, options: ConstructorParameters<typeof BackupPath>[1] = {}): Promise<BackupPath> {
  const path = new BackupPath(seed, { sizeLb: 4096, ...options });
  await path.world.complete(() => path.open());
  await path.world.complete(() => path.writes(20));
  await path.arrived(await path.world.complete(() => path.backup()));
  await path.world.complete(() => path.writes(5));
  await path.arrived(await path.world.complete(() => path.snapshot()));
  return path;
}

const statusOf = (path: BackupPath) => path.world.complete(() => path.storageVolume());

/** Stops the volume in order and empties its log: ready for a backup. Some writes are lost to it. */
async function resetVolume(path: BackupPath): Promise<void> {
  await path.world.complete(async () => {
    await call(path.storage, "stop", { volume, mode: "graceful" });
    await path.writes(7);
    await call(path.storage, "reset", { volume });
    await path.writes(3);
  });
}

/** Writes on, and sees that all points are right and nothing is left over. */
async function finish(path: BackupPath, gid: bigint): Promise<void> {
  await path.arrived(gid, 600_000);
  await path.world.complete(() => path.writes(5));
  await path.arrived(await path.world.complete(() => path.snapshot()), 600_000);
  expect(path.verify()).toBeGreaterThan(2);
  const status = await statusOf(path);
  expect(status).toMatchObject({ state: "Target" });
  expect(status.trouble).toBeUndefined();
  await path.world.run(2_000);
  expect(path.leasedBytes).toBe(0);
  const files = path.proxyHosts.flatMap((host) => host.storage.paths());
  expect(files.filter((file) => file.includes("/diffs/"))).toEqual([]);
}

describe("a hash backup", () => {
  test("sends what differs while the volume is written to, and all is followed again", async () => {
    for (let seed = 1; seed <= 8; seed++) {
      const path = await running(seed, { storage: { fullScanBytesPerS: mib } });
      const before = path.archive.latest;
      await resetVolume(path);
      const gid = await path.world.complete(async () => {
        const writing = path.writes(30, 40);
        const taken = await path.backup("hash");
        await writing;
        return taken;
      });
      expect(gid).toBeGreaterThan(before.gidE);
      await finish(path, gid);
      path.close();
    }
  });

  test("after an overflow makes the archive equal again, and gives out no gid a second time", async () => {
    const options = { logBytes: mib, overflow: "keep-writing", storage: { retryDelayMsMax: 5_000 } } as const;
    const path = await running(2, options);
    const { world } = path;
    for (const host of proxyHosts) world.network.refuse("s0", host);
    await world.complete(() => path.writes(2));
    for (let i = 0; i < 9; i++) path.snapshots.delete(await world.complete(() => path.snapshot()));
    const undelivered = await world.complete(() => path.snapshot());
    await world.complete(async () => {
      for (let i = 0; i < 30; i++) await path.writeAt(0, 128);
    });
    await world.run(15_000);
    expect(await statusOf(path)).toMatchObject({ state: "Stopped", isOverflow: true });
    // It never arrives: nobody may take its gid for something else.
    path.snapshots.delete(undelivered);
    for (const host of proxyHosts) world.network.accept("s0", host);
    await world.complete(() => call(path.storage, "reset", { volume }));
    expect((await statusOf(path)).doneGid).toBeGreaterThan(undelivered);
    const { latest } = path.archive;
    expect(latest.gidE).toBeLessThan(undelivered);
    const gid = await world.complete(() => path.backup("hash"));
    expect(gid).toBeGreaterThan(undelivered);
    expect(await statusOf(path)).toMatchObject({ isOverflow: false });
    await finish(path, gid);
    const uuids = new Set(path.archive.asked.map(({ request }) => request.uuid));
    expect(uuids.size).toBe(2);
    path.close();
  });

  test("after the storage's metadata was lost: init and backup are enough", async () => {
    for (let seed = 1; seed <= 4; seed++) {
      const path = await running(seed);
      const { world, storageHost } = path;
      const { gidE } = path.archive.latest;
      await world.complete(async () => {
        await path.storage.close("force");
        await storageHost.platform.disk.removeTree("/storage");
        await path.writes(4);
        await path.openStorage();
        const device = { kind: "user", name: "dev0" };
        await call(path.storage, "init", { volume, device });
      });
      expect((await statusOf(path)).state).toBe("SyncReady");
      const gid = await world.complete(() => path.backup("hash"));
      expect(gid).toBeGreaterThan(gidE + 1n);
      await finish(path, gid);
      path.close();
    }
  });

  test("of nearly the same data moves little", async () => {
    const path = await running(3, { sizeLb: 65536, logBytes: 96 * mib });
    const { world } = path;
    await world.complete(async () => {
      for (let at = 0; at < 65536; at += 256) await path.writeAt(at, 256);
      await path.snapshot();
    });
    await path.arrived(await world.complete(() => path.snapshot()), 600_000);
    await world.complete(async () => {
      await call(path.storage, "stop", { volume, mode: "graceful" });
      await path.writeAt(1000, 8);
      await path.writeAt(50_000, 8);
      await call(path.storage, "reset", { volume });
    });
    const { sentBytes, scannedBytes } = await world.complete(() =>
      call<{ sentBytes: number; scannedBytes: number }>(path.storage, "backup", { volume, mode: "hash" }),
    );
    expect(scannedBytes).toBe(32 * mib);
    // Two bulks of 256 KiB, two headers at most, a byte for each hash.
    expect(sentBytes).toBeLessThan(2 * 262_144 + 2 * 4096 + 1024);
    expect(path.archive.packs.reduce((sum, pack) => sum + pack.records, 0)).toBe(2);
    await world.complete(() => path.writes(1));
    await path.arrived(await world.complete(() => path.snapshot()), 600_000);
    path.verify();
    path.close();
  });

  for (const step of ["decide", "begin", "bulk", "finish", "commit"] as const) {
    test(`whose archive fails at step ${step} leaves the volume ready for the next, which works`, async () => {
      const path = await running(4);
      const { world } = path;
      await resetVolume(path);
      path.archive.onStep = (now) => {
        if (now === step) throw new Error("the archive fails here");
      };
      await expectError(world.complete(() => path.backup("hash")));
      const failed = await statusOf(path);
      expect(failed.state).toBe("SyncReady");
      expect(failed.trouble?.message).toContain("hash backup");
      expect(path.archive.state).toBe("Archived");
      path.archive.onStep = undefined;
      await world.complete(() => path.writes(5));
      await finish(path, await world.complete(() => path.backup("hash")));
      for (const { decision } of path.archive.asked) {
        if (decision.kind !== "word") continue;
        expect(["syncing", "different-uuid", "wdiff-recv"]).toContain(decision.word);
      }
      path.close();
    });
  }

  test("whose archive has committed but whose Ack is lost can be repeated at once", async () => {
    for (let seed = 5; seed <= 8; seed++) {
      const path = await running(seed);
      const { world } = path;
      await resetVolume(path);
      path.archive.onStep = (step) => {
        if (step === "commit") world.network.cut("s0", "a0");
      };
      await expectError(world.complete(() => path.backup("hash")));
      expect((await statusOf(path)).state).toBe("SyncReady");
      // A copy of a time span, which the next backup completes.
      expect(path.archive.latest.gidE).toBeGreaterThan(path.archive.latest.gidB);
      path.archive.onStep = undefined;
      await world.complete(() => path.writes(5));
      await finish(path, await world.complete(() => path.backup("hash")));
      path.close();
    }
  });

  test("that the archive refuses says why, and touches nothing", async () => {
    const path = await running(6);
    const { world } = path;
    await resetVolume(path);
    const { uuid } = await statusOf(path);
    path.archive.state = "SyncReady";
    await expectError(
      world.complete(() => path.backup("hash")),
      "bad state SyncReady",
    );
    expect((await statusOf(path)).uuid).toBe(uuid!);
    await world.run(100);
    expect(path.leasedBytes).toBe(0);
    path.close();
  });

  test("can be cancelled at any moment, and stopped by force; both leave SyncReady and no trouble", async () => {
    for (let seed = 1; seed <= 16; seed++) {
      const path = await running(seed, { storage: { fullScanBytesPerS: 4 * mib } });
      const { world } = path;
      await resetVolume(path);
      const job = await world.complete(async () => {
        const started = await path.storage.control.call("backup", { volume, mode: "hash" });
        if (started.kind !== "job") throw new Error("no job");
        await path.storageHost.platform.clock.sleep(world.random.between(0, 400));
        if (seed % 2 === 0) await path.storage.control.cancelJob(started.job.id);
        else await call(path.storage, "stop", { volume, mode: "force" });
        return path.storage.control.job(started.job.id);
      });
      expect(job.state === "done" ? "done" : job.error!.code).toMatch(/done|cancelled/);
      if (job.state !== "done") {
        const status = await statusOf(path);
        expect(status.state).toBe("SyncReady");
        expect(status.trouble).toBeUndefined();
        await world.run(1_000);
        expect(path.leasedBytes).toBe(0);
        await finish(path, await world.complete(() => path.backup("hash")));
      }
      path.close();
    }
  });

  for (const how of ["power loss", "kill"] as const) {
    test(`survives the death of the storage host (${how}) at any operation`, async () => {
      let backups = 0;
      for (let operation = 1; operation <= 45; operation += 2) {
        const path = await running(operation, { sizeLb: 1024 });
        const { world, storageHost } = path;
        await resetVolume(path);
        storageHost.crashAtOperation(operation, { kill: how === "kill", seed: operation });
        world.after(0, () => {
          void path.backup("hash").catch(() => undefined);
          void path.writes(10, 20).catch(() => undefined);
        });
        await world.run(20_000);
        if (storageHost.isUp) storageHost.crash({ keep: "all" });
        await world.complete(() => path.restartStorageHost());
        await world.complete(() => path.forgetLostWrites());
        const { state } = await statusOf(path);
        expect(["SyncReady", "Target"]).toContain(state);
        if (state === "SyncReady") {
          backups += 1;
          await world.complete(() => path.backup("hash"));
        }
        await world.complete(() => path.writes(3));
        await finish(path, await world.complete(() => path.snapshot()));
        path.close();
      }
      expect(backups).toBeGreaterThan(3);
    }, 300_000);
  }

  test("survives connections that break after any number of bytes", async () => {
    for (let seed = 1; seed <= 24; seed++) {
      const path = await running(seed, { sizeLb: 2048 });
      const { world } = path;
      await resetVolume(path);
      const [from, to] = world.random.pick([
        ["s0", "a0"],
        ["a0", "s0"],
        ["s0", "p0"],
      ] as const);
      world.network.cutAfterBytes(from, to, world.random.between(1, from === "s0" ? 40_000 : 400));
      await world.complete(() => path.backup("hash").catch(() => undefined));
      const { state } = await statusOf(path);
      const gid = await world.complete(() => (state === "SyncReady" ? path.backup("hash") : path.snapshot()));
      await finish(path, gid);
      path.close();
    }
  }, 300_000);

  test("keeps its rate, also when the archive waits long for the next sign of life", async () => {
    const rate = 64 * 1024;
    const path = await running(6, { storage: { fullScanBytesPerS: rate } });
    const { world } = path;
    await world.complete(async () => {
      for (let at = 0; at < 4096; at += 256) await path.writeAt(at, 256);
    });
    await resetVolume(path);
    const startMs = world.nowMs();
    const gid = await world.complete(() => path.backup("hash"));
    const elapsedS = (world.nowMs() - startMs) / 1000;
    expect(elapsedS).toBeGreaterThan((2 * mib) / rate - 4.1);
    expect(elapsedS).toBeLessThan((2 * mib) / rate + 6);
    await finish(path, gid);
    path.close();
  });
});

describe("a volume that becomes standby after an overflow", () => {
  test("does not go back to gids it has given out", async () => {
    const path = await running(7, { logBytes: mib, overflow: "keep-writing" });
    const { world } = path;
    const { latest } = path.archive;
    await world.complete(async () => {
      await call(path.storage, "stop", { volume, mode: "graceful" });
      await call(path.storage, "reset", { volume });
      for (let i = 0; i < 30; i++) await path.writeAt(0, 128);
    });
    expect((await statusOf(path)).isOverflow).toBe(true);
    await world.complete(() => call(path.storage, "start", { volume, mode: "standby" }));
    expect((await statusOf(path)).doneGid).toBeGreaterThan(latest.gidE);
    await world.complete(() => call(path.storage, "stop", { volume, mode: "graceful" }));
    await finish(path, await world.complete(() => path.backup("hash")));
    path.close();
  });
});
