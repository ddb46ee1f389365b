/** @module The durable end of a new file as one job: each step by itself would wait for the event loop. */
import { dirname } from "node:path";
import { errnoError } from "../../native/errno.ts";
import { Op } from "../../native/layout.ts";
import { checkRange } from "../../units.ts";
import type { OpenFile } from "./open-file.ts";
import { withPaths } from "./path-table.ts";

/** Cut to a size if one is given, fdatasync, rename to `path` in the same directory, fsync of the directory. */
export async function commitFile(file: OpenFile, path: string, sizeBytes: number | undefined): Promise<void> {
  if (sizeBytes !== undefined) checkRange(sizeBytes, 0, Number.MAX_SAFE_INTEGER, "size of the file");
  const directory = dirname(path);
  const { result, result2 } = await withPaths([file.path, path, directory], ([from = 0, to = 0, of = 0]) =>
    file.raw({ op: Op.commitFile, isSlow: true, size: sizeBytes ?? -1, address: from, extra: to, table: of }),
  );
  if (result >= 0) return;
  const steps = ["truncate", "fdatasync", `rename to ${path}`, "fsync"];
  throw errnoError(steps[result2] ?? "", -result, { file: result2 === 3 ? directory : file.path });
}
