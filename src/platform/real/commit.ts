/** @module The durable end of a new file as one job: each step by itself would wait for the event loop. */
import { dirname } from "node:path";
import { errnoError } from "../../native/errno.ts";
import { Op } from "../../native/layout.ts";
import type { OpenFile } from "./open-file.ts";
import { withPaths } from "./path-table.ts";

/** fdatasync, rename to `path` in the same directory, fsync of the directory. */
export async function commitFile(file: OpenFile, path: string): Promise<void> {
  const directory = dirname(path);
  const { result, result2 } = await withPaths([file.path, path, directory], ([from = 0, to = 0, of = 0]) =>
    file.raw({ op: Op.commitFile, isSlow: true, address: from, extra: to, table: of }),
  );
  if (result >= 0) return;
  const steps = ["fdatasync", `rename to ${path}`, "fsync"];
  throw errnoError(steps[result2] ?? "", -result, { file: result2 === 2 ? directory : file.path });
}
