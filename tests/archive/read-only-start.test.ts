import { expect, test } from "bun:test";
import { lackingFor, onSmallFileSystem } from "../helpers/small-file-systems.ts";

const lacking = lackingFor("tmpfs");
test.skipIf(lacking.length > 0)(
  "an archive on a file system that is read-only says how to restore from it, which works and changes nothing there",
  async () => {
    const found = await onSmallFileSystem("tmpfs", `${import.meta.dir}/programs/read-only-start.ts`);
    expect(found).toEqual({
      code: "read-only",
      hint: expect.stringMatching(/remount,rw\. To restore from it as it is/),
      statuses: [0, 0],
      gids: [0, 1, 2, 3],
      isUnchanged: true,
    });
  },
  60_000,
);
