import { expect, test } from "bun:test";
import { lackingFor, onSmallFileSystem, smallFileSystems } from "../helpers/small-file-systems.ts";

for (const kind of smallFileSystems) {
  const lacking = lackingFor(kind);
  if (lacking.length > 0) console.log(`skipping a full ${kind}: there is no ${lacking.join(", ")}`);
  test.skipIf(lacking.length > 0)(
    `an archive on a full ${kind} refuses clearly, keeps all points, and can be read, apply and reset`,
    async () => {
      const found = await onSmallFileSystem(kind, `${import.meta.dir}/programs/full-disk.ts`);
      const all = Array.from({ length: 17 }, (_, gid) => gid);
      expect(found).toEqual({
        hasReserve: true,
        freeBytesWhenFull: expect.any(Number),
        refusal: "text",
        trouble: expect.objectContaining({ code: "no-space", message: expect.stringContaining("MiB free") }),
        merge: "no-space",
        keep: "no-space",
        gidsWhenFull: all,
        apply: "no error",
        base: "<|14|>",
        gidsAfterApply: [14, 15, 16],
        hasReserveAfterApply: true,
        withoutReserve: {
          hasReserve: false,
          gids: [14, 15, 16],
          verified: { damage: [], checkedCount: 2, isKept: false },
          refusal: "text",
        },
        deliveryWithRoom: "accept",
        gidsAfterDelivery: [14, 15, 16, 17],
        afterReset: { state: "SyncReady", files: [".reserved-space", "vol0", "walb.lock"] },
        backupAgain: "accept",
        gidsAfterReset: [0],
      });
      // Some of XFS no file can have.
      expect((found as { freeBytesWhenFull: number }).freeBytesWhenFull).toBeLessThan(64 * 1024);
    },
    100_000,
  );
}
