import { expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { withTemporaryDirectory } from "../helpers/temporary.ts";

/** A small file system needs a mount namespace of its own. */
const canMount = spawnSync("unshare", ["-rm", "sh", "-c", "mount -t tmpfs walb /mnt"]).status === 0;
const why = canMount ? "" : " (skipped: this host lets nobody mount a small file system)";

test.skipIf(!canMount)(
  `a proxy starts, delivers and makes room on a file system that is full to the last byte${why}`,
  async () => {
    await withTemporaryDirectory(async (directory) => {
      const program = `${import.meta.dir}/programs/full-disk.ts`;
      const script = `mount -t tmpfs -o size=80m walb "$1" && exec "$2" run "$3" "$1"`;
      const { stdout, stderr } = spawnSync(
        "unshare",
        ["-rm", "sh", "-c", script, "sh", directory, process.execPath, program],
        { encoding: "utf8", timeout: 90_000 },
      );
      if (stdout === "") throw new Error(stderr);
      expect(JSON.parse(stdout)).toEqual({
        filesBefore: 8,
        freeBytes: 0,
        afterFirst: [0, 8],
        afterSecond: [0, 0],
        files: 0,
        hasReserve: true,
      });
    });
  },
  100_000,
);
