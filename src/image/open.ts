/** @module Opens images and copies of them: past the page cache, where blocks of 512 bytes can be written so. */
import type { Disk, DiskFile } from "../platform/disk.ts";
import { lbBytes } from "../units.ts";

/** Opens a file or device for I/O in blocks of 512 bytes. */
export async function openForBlocks(disk: Disk, path: string, mode: "read" | "write"): Promise<DiskFile> {
  const direct = await disk.open(path, { mode, direct: true });
  if (lbBytes % direct.alignmentBytes === 0) return direct;
  // On larger blocks of the disk, the page cache puts those of the volume together.
  await direct.close();
  return disk.open(path, { mode });
}
