import { describe, expect, test } from "bun:test";
import type { StorageStatus } from "../../src/control/storage.ts";
import { connectUserDevice } from "../../src/device/user/control/client.ts";
import { lsidOffsetBytes } from "../../src/log/geometry.ts";
import { BackupPath, call, volume } from "../helpers/backup-path.ts";
import { expectError } from "../helpers/errors.ts";

const mib = 1024 * 1024;

async function running(seed: number, options: ConstructorParameters<typeof BackupPath>[1] = {}): Promise<BackupPath> {
  const path = new BackupPath(seed, { sizeLb: 1024, ...options });
  await path.world.complete(() => path.open());
  await path.world.complete(() => path.writes(5));
  await path.arrived(await path.world.complete(() => path.backup()));
  return path;
}

const statusOf = (path: BackupPath) => path.world.complete(() => path.storageVolume());

describe("the scan rate", () => {
  test("can be changed while a backup runs, and holds until the daemon ends", async () => {
    const path = new BackupPath(1, { sizeLb: (64 * mib) / 512, storage: { fullScanBytesPerS: 256 * 1024 } });
    const { world } = path;
    await world.complete(() => path.open());
    // Holes are not read.
    await world.complete(async () => {
      for (let at = 0; at < path.model.sizeLb; at += 1024) await path.writeAt(at, 1024);
    });
    let isDone = false;
    world.after(0, () => void path.backup().then(() => (isDone = true)));
    await world.run(20_000);
    const before = (await statusOf(path)).running.find(({ action }) => action === "FullSync")!;
    expect(before.doneBytes!).toBeLessThan(8 * mib);
    expect(before.totalBytes).toBe(64 * mib);
    await world.complete(() => call(path.storage, "set-scan-rate", { bytesPerS: 8 * mib }));
    await world.runUntil(() => isDone, { limitMs: 20_000 });
    const status = await world.complete(() => call<StorageStatus>(path.storage, "status"));
    expect(status.settings!.fullScanBytesPerS).toBe(8 * mib);
    path.close();
  });
});

describe("a header of the log", () => {
  test("is written to a file as it is, and what is wrong with it is told", async () => {
    const path = await running(2);
    const { world } = path;
    world.network.refuse("s0", "p0");
    await world.complete(() => path.writes(3));
    const { doneLsid, latestLsid } = await statusOf(path);
    const dump = (lsid: number) =>
      world.complete(() => call<{ file: string; fault?: string }>(path.storage, "dump-log-header", { volume, lsid }));
    const good = await dump(doneLsid!);
    expect(good).toEqual({ file: `/storage/vol0/logpackheader-${doneLsid}` });
    const { disk } = path.storageHost.platform;
    expect((await world.complete(() => disk.readSmall(good.file, 4096))).length).toBe((await statusOf(path)).pbsBytes!);
    expect((await dump(doneLsid! + 1)).fault).toBeString();
    await expectError(dump(latestLsid!), /holds those from/);
    path.close();
  });

  test("that is damaged is kept by itself when the log cannot be sent, once, and the status names it", async () => {
    const path = await running(3);
    const { world, storageHost } = path;
    world.network.refuse("s0", "p0");
    await world.complete(() => path.writes(3));
    const { doneLsid, pbsBytes } = await statusOf(path);
    await world.complete(async () => {
      const device = connectUserDevice(storageHost.platform, "/device/control.sock", "dev0");
      const info = await device.info();
      await device.close();
      const file = await storageHost.platform.disk.open(info.logPath, { mode: "write" });
      const lease = await storageHost.platform.memory.lease(pbsBytes!);
      lease.bytes.fill(7);
      await file.write(lsidOffsetBytes(info, doneLsid!), lease);
      lease.release();
      await file.close();
    });
    world.network.accept("s0", "p0");
    await world.run(30_000);
    const { trouble, waiting } = await statusOf(path);
    expect(trouble).toMatchObject({ code: "damaged", step: "reading the log" });
    expect(waiting).toMatchObject({ step: "reading the log", why: expect.stringContaining(`${doneLsid}`) });
    const dumps = storageHost.storage.paths().filter((name) => name.includes("logpackheader-"));
    expect(dumps).toEqual([`/storage/vol0/logpackheader-${doneLsid}`]);
    path.close();
  });
});

describe("the distance to the archive", () => {
  test("is asked for every minute and told; an archive that does not answer is told as well", async () => {
    const path = await running(4);
    const { world } = path;
    await world.run(70_000);
    const delta = (await statusOf(path)).archiveDelta!;
    expect(delta).toMatchObject({ archive: "a0", archiveGid: path.archive.latest.gidB });
    expect(delta.deltaS).toBe(0);
    world.network.refuse("p0", "a0");
    await world.complete(() => path.writes(3));
    await world.run(120_000);
    const late = (await statusOf(path)).archiveDelta!;
    expect(late.gid).toBeGreaterThan(late.archiveGid!);
    expect(late.checkedMs).toBeGreaterThan(delta.checkedMs);
    world.network.refuse("s0", "a0");
    await world.run(70_000);
    const status = await world.complete(() => call<StorageStatus>(path.storage, "status"));
    expect(status.archiveError).toContain("a0:10200");
    world.network.accept("s0", "a0");
    await world.run(70_000);
    expect((await world.complete(() => call<StorageStatus>(path.storage, "status"))).archiveError).toBeUndefined();
    path.close();
  });
});

describe("a volume that does not move", () => {
  test("says which host it waits for, at which step, since when, and what comes next, in every state", async () => {
    const path = new BackupPath(5, { sizeLb: 1024 });
    const { world } = path;
    await world.complete(() => path.open());
    expect((await statusOf(path)).waiting).toMatchObject({
      host: "s0",
      why: "it has never been backed up",
      next: expect.stringContaining("walb backup vol0"),
    });
    await path.arrived(await world.complete(() => path.backup()));
    await world.run(60_000);
    const idle = (await statusOf(path)).waiting!;
    expect(idle.why).toBe("all that was written is delivered");
    await world.run(60_000);
    expect((await statusOf(path)).waiting!.sinceMs).toBe(idle.sinceMs!);
    path.proxyHosts[0]!.kill();
    const { clock } = path.storageHost.platform;
    const downMs = clock.nowMs();
    await world.complete(() => path.writes(3));
    await world.run(100_000);
    const down = (await statusOf(path)).waiting!;
    expect(down).toMatchObject({ host: "p0:10100", next: expect.stringContaining("walb kick vol0") });
    expect(down.sinceMs! - downMs).toBeLessThan(20_000);
    expect(down.nextMs).toBeGreaterThan(clock.nowMs());
    const { proxies } = await world.complete(() => call<StorageStatus>(path.storage, "status"));
    expect(proxies[0]).toMatchObject({ isAvailable: false, error: expect.stringContaining("p0:10100") });
    await world.complete(() => call(path.storage, "stop", { volume, mode: "force" }));
    expect((await statusOf(path)).waiting).toMatchObject({
      why: expect.any(String),
      next: expect.stringContaining("walb start vol0"),
    });
    path.close();
  });
});
