import { expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { withTemporaryDirectory } from "../helpers/temporary.ts";

/** A small file system needs a mount namespace of its own. */
const canMount = spawnSync("unshare", ["-rm", "sh", "-c", "mount -t tmpfs walb /mnt"]).status === 0;
const why = canMount ? "" : " (skipped: this host lets nobody mount a small file system)";

test.skipIf(!canMount)(
  `an archive on a full file system refuses clearly, keeps all points, and can apply and reset${why}`,
  async () => {
    await withTemporaryDirectory(async (directory) => {
      const program = `${import.meta.dir}/programs/full-disk.ts`;
      const script = `mount -t tmpfs -o size=160m walb "$1" && exec "$2" run "$3" "$1"`;
      const { stdout, stderr } = spawnSync(
        "unshare",
        ["-rm", "sh", "-c", script, "sh", directory, process.execPath, program],
        { encoding: "utf8", timeout: 90_000 },
      );
      if (stdout === "") throw new Error(stderr);
      const all = Array.from({ length: 17 }, (_, gid) => gid);
      expect(JSON.parse(stdout)).toEqual({
        hasReserve: true,
        freeBytesWhenFull: 0,
        refusal: "text",
        trouble: expect.objectContaining({ code: "no-space", message: expect.stringContaining("MiB free") }),
        merge: "no-space",
        keep: "no-space",
        gidsWhenFull: all,
        apply: "none",
        base: "<|14|>",
        gidsAfterApply: [14, 15, 16],
        hasReserveAfterApply: true,
        afterReset: { state: "SyncReady", files: [".reserved-space", "vol0", "walb.lock"] },
        backupAgain: "accept",
        gidsAfterReset: [0],
      });
    });
  },
  100_000,
);
