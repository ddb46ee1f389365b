/** @module Copies a block device to a new file, leaving out what is zero; durable when done. */
import { WalbError } from "../../errors.ts";
import type { MemoryPool } from "../../native/memory.ts";
import type { Disk, DiskFile, FileCopyOptions } from "../../platform/disk.ts";
import { mib } from "../../units.ts";

const partBytes = mib;
const partsInFlightMax = 8;
const zeroes = Buffer.alloc(partBytes);

/** What to copy. */
export interface SparseCopy extends FileCopyOptions {
  readonly disk: Disk;
  readonly memory: MemoryPool;
  readonly from: DiskFile;
  /** Must not exist; removed again when the copy fails. */
  readonly path: string;
}

/** Copies all of it. @throws WalbError `already-exists`, `no-space`, `cancelled`. */
export async function copyToSparseFile(copy: SparseCopy): Promise<void> {
  const { disk, from, path } = copy;
  const totalBytes = await from.size();
  const to = await disk.open(path, { mode: "create" });
  try {
    await to.truncate(totalBytes);
    await copyParts(copy, to, totalBytes);
    await to.sync();
    await to.close();
  } catch (error) {
    await to.close();
    await disk.remove(path);
    throw error;
  }
}

async function copyParts({ memory, from, signal, onProgress }: SparseCopy, to: DiskFile, totalBytes: number) {
  const jobs: Promise<number>[] = [];
  let doneBytes = 0;
  const finishOne = async (): Promise<void> => {
    doneBytes += (await jobs.shift()) ?? 0;
    onProgress?.(doneBytes, totalBytes);
  };
  const part = async (at: number, sizeBytes: number): Promise<number> => {
    const lease = await memory.lease(sizeBytes);
    try {
      await from.read(at, lease);
      if (Buffer.compare(lease.bytes, zeroes.subarray(0, sizeBytes)) !== 0) await to.write(at, lease);
    } finally {
      lease.release();
    }
    return sizeBytes;
  };
  try {
    for (let at = 0; at < totalBytes; at += partBytes) {
      if (signal?.aborted === true) {
        throw signal.reason ?? new WalbError("cancelled", { what: "copying the image was cancelled" });
      }
      const job = part(at, Math.min(partBytes, totalBytes - at));
      job.catch(() => undefined);
      jobs.push(job);
      if (jobs.length >= partsInFlightMax) await finishOne();
    }
    while (jobs.length > 0) await finishOne();
  } finally {
    await Promise.allSettled(jobs);
  }
}
