import { describe, expect, test } from "bun:test";
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
});
