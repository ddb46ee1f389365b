import { describe, expect, test } from "bun:test";
import { mib } from "../../src/units.ts";
import { BackupPath } from "../helpers/backup-path.ts";

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
});
