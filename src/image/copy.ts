/** @module Copies an image onto a block device or to a new file: data read and written in parallel, holes zeroed or kept. */
import { dirname } from "node:path";
import { checkAborted } from "../diff/types.ts";
import type { MemoryPool } from "../native/memory.ts";
import type { Disk, DiskFile } from "../platform/disk.ts";
import { gib, mib } from "../units.ts";
import type { CopyOptions } from "./image.ts";
import { openForBlocks } from "./open.ts";

const partBytes = mib;
const partsInFlightMax = 8;
/** Longest range zeroed by one call, so that cancelling stays lively. */
const zeroBytesMax = gib;

/** What to copy. */
export interface CopyParts {
  readonly from: DiskFile;
  readonly to: DiskFile;
  /** From address 0; what the source does not have is zeroed. */
  readonly sizeBytes: number;
  readonly memory: MemoryPool;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress: (doneBytes: number) => void;
  /** See {@link CopyOptions}. */
  readonly nextWritten?: CopyOptions["nextWritten"];
  /** The target is a new file: what is not written is a hole. Default false. */
  readonly isFresh?: boolean;
}

/** Copies an image to a new file, durably; holes stay holes. @throws WalbError `already-exists`, `no-space`, `cancelled`. */
export async function copyToFile(
  disk: Disk,
  memory: MemoryPool,
  from: string,
  to: string,
  { signal, onProgress, nextWritten }: CopyOptions,
): Promise<void> {
  const source = await openForBlocks(disk, from, "read");
  try {
    await (await disk.open(to, { mode: "create" })).close();
    const target = await openForBlocks(disk, to, "write");
    try {
      const sizeBytes = await source.size();
      await target.truncate(sizeBytes);
      const progress = (doneBytes: number): void => onProgress?.(doneBytes, sizeBytes);
      const skip = nextWritten === undefined ? {} : { nextWritten };
      const ends = { from: source, to: target, sizeBytes };
      await copyImage({ ...ends, memory, signal, onProgress: progress, isFresh: true, ...skip });
      await target.sync();
      await target.close();
      await disk.syncDirectory(dirname(to));
    } catch (error) {
      await target.close();
      await disk.remove(to);
      throw error;
    }
  } finally {
    await source.close();
  }
}

interface Part {
  /** `left`: will be written anyway. */
  readonly kind: "data" | "hole" | "left";
  readonly offsetBytes: number;
  readonly sizeBytes: number;
}

/** Copies; not durable before the target's sync. @returns bytes of data copied. */
export async function copyImage(parts: CopyParts): Promise<number> {
  const pieces = piecesOf(parts);
  let next = await pieces.next();
  let dataBytes = 0;
  let doneBytes = 0;
  const jobs: Promise<Part>[] = [];
  const finishOne = async (): Promise<void> => {
    const job = jobs.shift();
    if (job === undefined) return;
    const part = await job;
    doneBytes += part.sizeBytes;
    if (part.kind === "data") dataBytes += part.sizeBytes;
    parts.onProgress(doneBytes);
  };
  try {
    while (next.done !== true) {
      checkAborted(parts.signal, "copying the base image");
      const job = copyPart(parts, next.value);
      job.catch(() => undefined);
      jobs.push(job);
      if (jobs.length >= partsInFlightMax) await finishOne();
      next = await pieces.next();
    }
    while (jobs.length > 0) await finishOne();
  } finally {
    await Promise.allSettled(jobs);
  }
  return dataBytes;
}

async function* piecesOf({ from, sizeBytes, nextWritten }: CopyParts): AsyncGenerator<Part, void> {
  const readable = Math.min(sizeBytes, await from.size());
  let at = 0;
  while (at < sizeBytes) {
    const extent = at < readable ? await from.nextData(at) : undefined;
    const startBytes = Math.min(extent?.startBytes ?? sizeBytes, readable, sizeBytes);
    const holeEnd = extent === undefined || startBytes >= readable ? sizeBytes : Math.max(at, startBytes);
    for (; at < holeEnd; at += zeroBytesMax) {
      yield { kind: "hole", offsetBytes: at, sizeBytes: Math.min(zeroBytesMax, holeEnd - at) };
    }
    at = holeEnd;
    if (extent === undefined || at >= sizeBytes) continue;
    const dataEnd = Math.min(Math.max(extent.endBytes, at + 512), readable);
    while (at < dataEnd) {
      const written = nextWritten?.(at);
      const isLeft = written !== undefined && written.startBytes <= at;
      const end = Math.min(dataEnd, (isLeft ? written.endBytes : written?.startBytes) ?? dataEnd);
      const size = isLeft ? end - at : Math.min(partBytes, end - at);
      yield { kind: isLeft ? "left" : "data", offsetBytes: at, sizeBytes: size };
      at += size;
    }
  }
}

async function copyPart({ from, to, memory, isFresh }: CopyParts, part: Part): Promise<Part> {
  if (part.kind === "left") return part;
  if (part.kind === "hole") {
    if (isFresh !== true) await to.zero(part.offsetBytes, part.sizeBytes);
    return part;
  }
  const lease = await memory.lease(part.sizeBytes);
  try {
    await from.read(part.offsetBytes, lease);
    await to.write(part.offsetBytes, lease);
  } finally {
    lease.release();
  }
  return part;
}
