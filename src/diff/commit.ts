/** @module The durable end of writing a diff file. */
import { dirname } from "node:path";
import type { Disk } from "../platform/disk.ts";
import type { AppendFile } from "./append.ts";

/**
 * Makes a file that was written under a temporary name durable under its final one, and closes it: fsync, rename, fsync of
 * the directory. After a crash in between, the final name does not exist or is complete. Both names must be in one directory.
 */
export async function commitDiffFile(disk: Disk, file: AppendFile, finalPath: string): Promise<void> {
  const isOneStep = file.syncAs !== undefined;
  try {
    await (file.syncAs === undefined ? file.sync() : file.syncAs(finalPath));
  } finally {
    await file.close();
  }
  if (isOneStep) return;
  await disk.rename(file.path, finalPath);
  await disk.syncDirectory(dirname(finalPath));
}
