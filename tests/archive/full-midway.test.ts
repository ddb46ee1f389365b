import { expect, test } from "bun:test";
import { lackingFor, onSmallFileSystem, smallFileSystems } from "../helpers/small-file-systems.ts";

for (const kind of smallFileSystems) {
  const lacking = lackingFor(kind);
  if (lacking.length > 0) console.log(`skipping a ${kind} that fills up: there is no ${lacking.join(", ")}`);
  test.skipIf(lacking.length > 0)(
    `what an archive receives while its ${kind} fills up fails with a reason, leaves nothing behind, and can be sent again`,
    async () => {
      const first = "20270115080001----0-1.wdiff";
      const second = "20270115080002----1-2.wdiff";
      // The protocol has no word for it: the sender hears that the connection ended, the status says why.
      const failed = { code: "unreachable", trouble: "no-space", again: "accept" };
      expect(await onSmallFileSystem(kind, `${import.meta.dir}/programs/full-midway.ts`)).toEqual({
        copy: { ...failed, state: "SyncReady", left: [] },
        pack: { ...failed, state: "Archived", left: [] },
        row: { ...failed, state: "Archived", left: [first] },
        gids: [0, 1, 2],
        hash: { ...failed, state: "Archived", left: [first, second] },
        gidsAfterStart: [0, 1, 2],
      });
    },
    100_000,
  );
}
