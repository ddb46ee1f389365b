/** @module Copies an image onto a block device or to a new file: data read and written in parallel, holes zeroed or kept. */
import { dirname } from "node:path";
import { checkAborted } from "../diff/types.ts";
import type { MemoryPool } from "../native/memory.ts";
import type { Disk, DiskFile } from "../platform/disk.ts";
import { alignDown, alignUp, gib, kib, lbBytes, mib } from "../units.ts";
import type { ByteRange, CopyContent, CopyOptions, CopySource } from "./image.ts";
import { openForBlocks } from "./open.ts";

const partBytes = mib;
const partsInFlightMax = 8;
/** Longest range zeroed by one call, so that cancelling stays lively. */
const zeroBytesMax = gib;
/** Blocks of file systems: writes keep to them, or direct I/O becomes slow. */
const blockBytes = 4096;
/** Shorter holes between data are written along: that is cheaper than more requests. */
const holeBytesMin = 64 * kib;

/** What to copy. */
export interface CopyParts {
  readonly from: CopySource;
  readonly to: DiskFile;
  /** From address 0; what the source does not have is zeroed. */
  readonly sizeBytes: number;
  readonly memory: MemoryPool;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress: (doneBytes: number) => void;
  /** See {@link CopyOptions}. */
  readonly throttle?: CopyOptions["throttle"] | undefined;
  /** The target is a new file: what is not written is a hole. Default false. */
  readonly isFresh?: boolean;
}

/**
 * Copies an image, or what is to be copied in its place, to a new file, durably; holes stay holes.
 * @throws WalbError `already-exists`, `no-space`, `cancelled`.
 */
export async function copyToFile(
  disk: Disk,
  memory: MemoryPool,
  from: string,
  to: string,
  { signal, onProgress, throttle, content }: CopyOptions,
): Promise<void> {
  const image = await openForBlocks(disk, from, "read");
  try {
    const source: CopyContent = (await content?.(image)) ?? Object.assign(sourceOf(image), { memory });
    await (await disk.open(to, { mode: "create" })).close();
    const target = await openForBlocks(disk, to, "write");
    try {
      const sizeBytes = await source.size();
      await target.truncate(sizeBytes);
      const progress = (doneBytes: number): void => onProgress?.(doneBytes, sizeBytes);
      const ends = { from: source, to: target, sizeBytes, memory: source.memory };
      await copyImage({ ...ends, signal, throttle, onProgress: progress, isFresh: true });
      await target.sync();
      await target.close();
      await disk.syncDirectory(dirname(to));
    } catch (error) {
      await target.close();
      await disk.remove(to);
      throw error;
    }
  } finally {
    await image.close();
  }
}

function sourceOf(image: DiskFile): CopySource {
  return {
    size: () => image.size(),
    nextData: (offsetBytes) => image.nextData(offsetBytes),
    read: (offsetBytes, target) => image.read(offsetBytes, target),
  };
}

interface Part {
  readonly kind: "data" | "hole";
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

/** Holes, and data in parts that end at multiples of their size. */
async function* piecesOf({ from, sizeBytes }: CopyParts): AsyncGenerator<Part, void> {
  const readable = Math.min(sizeBytes, await from.size());
  const dataAt = async (offsetBytes: number): Promise<ByteRange | undefined> => {
    const extent = offsetBytes < readable ? await from.nextData(offsetBytes) : undefined;
    if (extent === undefined || extent.startBytes >= readable) return undefined;
    return { startBytes: extent.startBytes, endBytes: Math.max(extent.endBytes, extent.startBytes + lbBytes) };
  };
  for (let at = 0; at < sizeBytes; ) {
    const extent = await dataAt(at);
    const holeEnd = extent === undefined ? sizeBytes : Math.max(at, alignDown(extent.startBytes, blockBytes));
    for (; at < holeEnd; at += zeroBytesMax) {
      yield { kind: "hole", offsetBytes: at, sizeBytes: Math.min(zeroBytesMax, holeEnd - at) };
    }
    at = holeEnd;
    for (let dataEnd = extent?.endBytes ?? at; at < dataEnd && at < readable; ) {
      const partEnd = Math.min(readable, alignDown(at, partBytes) + partBytes);
      while (dataEnd < partEnd) {
        const next = await dataAt(dataEnd);
        if (next === undefined || next.startBytes - dataEnd >= holeBytesMin) break;
        dataEnd = next.endBytes;
      }
      const end = Math.min(partEnd, alignUp(dataEnd, blockBytes));
      yield { kind: "data", offsetBytes: at, sizeBytes: end - at };
      at = end;
    }
  }
}

async function copyPart({ from, to, memory, isFresh, throttle }: CopyParts, part: Part): Promise<Part> {
  if (part.kind === "hole") {
    if (isFresh !== true) await to.zero(part.offsetBytes, part.sizeBytes);
    return part;
  }
  await throttle?.(part.sizeBytes);
  const lease = await memory.lease(part.sizeBytes);
  try {
    const data = lease.slice(0, part.sizeBytes);
    await from.read(part.offsetBytes, data);
    await to.write(part.offsetBytes, data);
  } finally {
    lease.release();
  }
  return part;
}
