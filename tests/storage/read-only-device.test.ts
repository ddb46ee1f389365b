import { expect, test } from "bun:test";
import { BackupPath } from "../helpers/backup-path.ts";
import { expectError } from "../helpers/errors.ts";

test("a device that takes no more writes shows in the status of the storage, and fails a snapshot at once", async () => {
  const path = new BackupPath(1, { sizeLb: 1024 });
  const { world } = path;
  await world.complete(() => path.open());
  await world.complete(() => path.writes(3));
  await path.arrived(await world.complete(() => path.backup()));
  expect((await world.complete(() => path.storageVolume())).trouble).toBeUndefined();
  path.storageHost.storage.inject({ kinds: ["sync"], pathIncludes: "dev0.log", effect: "io" });
  await world.complete(() => path.write());
  await world.run(3_000);
  const { trouble } = await world.complete(() => path.storageVolume());
  expect(trouble).toMatchObject({ code: "read-only", hint: expect.stringContaining("disks") });
  const startMs = world.nowMs();
  await expectError(
    world.complete(() => path.snapshot()),
    { code: "read-only" },
  );
  expect(world.nowMs() - startMs).toBeLessThan(1_000);
  path.close();
});
