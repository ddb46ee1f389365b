import { describe, expect, test } from "bun:test";
import { mib } from "../../src/units.ts";
import { BackupPath, call, volume } from "../helpers/backup-path.ts";

describe("a volume under continuous backup", () => {
  test("is copied while it is written to, and every snapshot after it is the volume at that moment", async () => {
    const path = new BackupPath(1, { sizeLb: 4096 });
    const { world } = path;
    await world.complete(() => path.open());
    await world.complete(() => path.writes(50));
    const writing = world.complete(async () => {
      const backup = path.backup();
      await path.writes(60, 5);
      return await backup;
    });
    const base = await writing;
    await path.arrived(base);
    for (let round = 0; round < 5; round++) {
      await world.complete(() => path.writes(20, 3));
      await path.arrived(await world.complete(() => path.snapshot()));
    }
    expect(path.verify()).toBeGreaterThan(5);
    expect(path.archive.latest.gidB).toBeGreaterThan(base);
    expect((await world.complete(() => path.storageVolume())).trouble).toBeUndefined();
    path.close();
  });

  test("goes in smaller transfers to a proxy whose disk is smaller than what has piled up", async () => {
    const path = new BackupPath(2, { sizeLb: 65_536, logBytes: 96 * mib });
    const { world } = path;
    await world.complete(() => path.open());
    await path.arrived(await world.complete(() => path.backup()));
    world.network.refuse("s0", "p0");
    await world.complete(async () => {
      for (let round = 0; round < 6; round++) {
        for (let i = 0; i < 4; i++) await path.writeAt(2048 * (4 * round + i), 2048);
        await path.storageHost.platform.clock.sleep(11_000);
      }
    });
    const { storage, platform } = path.proxyHosts[0]!;
    const { totalBytes, freeBytes } = await world.complete(() => platform.disk.freeSpace("/proxy"));
    storage.setCapacity(totalBytes - freeBytes + 10 * mib);
    world.network.accept("s0", "p0");
    await path.arrived(await world.complete(() => path.snapshot()), 600_000);
    expect(path.verify()).toBeGreaterThan(3);
    expect((await world.complete(() => path.storageVolume())).trouble).toBeUndefined();
    path.close();
  });

  describe("that has more log in one piece than its proxy has room for", () => {
    /** A path whose proxy has room for 10 MiB, and `writtenMib` of log that was written while nothing was sent. */
    async function piledUp(seed: number, writtenMib: number, meanwhile: (path: BackupPath) => Promise<void>) {
      const path = new BackupPath(seed, { sizeLb: 65_536, logBytes: 96 * mib });
      const { world } = path;
      await world.complete(() => path.open());
      await path.arrived(await world.complete(() => path.backup()));
      await world.complete(() => call(path.storage, "stop", { volume, mode: "graceful" }));
      const { storage, platform } = path.proxyHosts[0]!;
      const { totalBytes, freeBytes } = await world.complete(() => platform.disk.freeSpace("/proxy"));
      storage.setCapacity(totalBytes - freeBytes + 10 * mib);
      await world.complete(async () => {
        for (let i = 0; i < writtenMib; i++) await path.writeAt(2048 * (i % 32), 2048);
        await meanwhile(path);
        await call(path.storage, "start", { volume, mode: "target" });
      });
      return path;
    }

    test("is cut where only the clock took a snapshot of it", async () => {
      const path = await piledUp(3, 40, async () => undefined);
      await path.world.run(120_000);
      await path.arrived(await path.world.complete(() => path.snapshot()), 60_000);
      expect(path.verify()).toBeGreaterThan(1);
      expect((await path.world.complete(() => path.storageVolume())).trouble).toBeUndefined();
      path.close();
    });

    test("is cut at a snapshot that was asked for while shipping failed", async () => {
      const path = await piledUp(4, 1, async () => undefined);
      const { world } = path;
      world.network.refuse("s0", "p0");
      await world.complete(() => path.writes(1));
      await world.run(5_000);
      await world.complete(async () => {
        for (let i = 0; i < 40; i++) await path.writeAt(2048 * (i % 32), 2048);
      });
      const gid = await world.complete(() => path.snapshot());
      world.network.accept("s0", "p0");
      await path.arrived(gid, 120_000);
      expect(path.verify()).toBeGreaterThan(1);
      path.close();
    });

    test("says so when no gid is left for a cut, and what to do; it goes when there is room", async () => {
      let gid = 0n;
      const path = await piledUp(5, 40, async (stopped) => {
        gid = await stopped.snapshot();
      });
      const { world } = path;
      await world.run(60_000);
      const { trouble, waiting } = await world.complete(() => path.storageVolume());
      expect(trouble!.message).toContain(`log on the way to snapshot ${gid} goes in one piece of 41 MiB`);
      expect(trouble!.message).toMatch(/the proxy has \d+ MiB free, but needs 41 MiB/);
      expect(waiting!.next).toMatch(/add one that has it.*walb stop vol0 .*walb reset vol0 .*walb backup vol0/);
      path.proxyHosts[0]!.storage.setCapacity(1024 * mib);
      await path.arrived(gid, 30_000);
      expect(path.verify()).toBeGreaterThan(1);
      path.close();
    });

    test("is the same volume after the backup that is proposed", async () => {
      const path = await piledUp(6, 40, async (stopped) => {
        await stopped.snapshot();
      });
      const { world } = path;
      await world.run(30_000);
      await world.complete(async () => {
        await call(path.storage, "stop", { volume, mode: "graceful" });
        await call(path.storage, "reset", { volume });
      });
      await path.arrived(await world.complete(() => path.backup("hash")), 60_000);
      expect(path.verify()).toBeGreaterThan(1);
      expect((await world.complete(() => path.storageVolume())).trouble).toBeUndefined();
      path.close();
    });
  });
});
