/** @module Images of the demo: sending what changed to the volume, recording it as it is live, comparing. */
import { closeSync, constants, copyFileSync, fstatSync, ftruncateSync, openSync, readSync, writeSync } from "node:fs";
import { WalbError } from "../../errors.ts";
import type { NbdClient } from "./nbd.ts";

const chunkBytes = 1 << 20;
const blockBytes = 4096;
const inFlightMax = 8;

/** Copies an image, sharing blocks where the file system can. */
export function copyImage(from: string, to: string): void {
  copyFileSync(from, to, constants.COPYFILE_FICLONE);
}

/** Writes the blocks in which `image` differs from `before` (or from zeroes) to the volume, and flushes. @returns bytes. */
export async function writeChanges(volume: NbdClient, image: string, before: string | undefined): Promise<number> {
  const now = openSync(image, "r");
  const then = before === undefined ? undefined : openSync(before, "r");
  let writtenBytes = 0;
  try {
    await forEachChunk(fstatSync(now).size, async (offset, size) => {
      const chunk = readChunk(now, offset, size);
      const old = then === undefined ? Buffer.alloc(size) : readChunk(then, offset, size);
      for (const [start, end] of differingRuns(chunk, old)) {
        await volume.write(offset + start, chunk.subarray(start, end));
        writtenBytes += end - start;
      }
    });
  } finally {
    closeSync(now);
    if (then !== undefined) closeSync(then);
  }
  await volume.flush();
  return writtenBytes;
}

/** Reads the whole volume into a sparse file. */
export async function recordVolume(volume: NbdClient, path: string): Promise<void> {
  const file = openSync(path, "w");
  try {
    ftruncateSync(file, volume.sizeBytes);
    await forEachChunk(volume.sizeBytes, async (offset, size) => {
      const chunk = await volume.read(offset, size);
      if (!isZero(chunk)) writeSync(file, chunk, 0, size, offset);
    });
  } finally {
    closeSync(file);
  }
}

/** Offset of the first byte in which two files differ, undefined when they are equal. @throws when sizes differ. */
export async function firstDifference(a: string, b: string): Promise<number | undefined> {
  const one = openSync(a, "r");
  const two = openSync(b, "r");
  try {
    const sizeBytes = fstatSync(one).size;
    if (fstatSync(two).size !== sizeBytes) throw new WalbError("damaged", { what: `${b} has another size than ${a}` });
    // Two buffers for all chunks: fresh ones would cost more than the reading.
    const leftBuffer = Buffer.alloc(chunkBytes);
    const rightBuffer = Buffer.alloc(chunkBytes);
    for (let offset = 0; offset < sizeBytes; offset += chunkBytes) {
      const size = Math.min(chunkBytes, sizeBytes - offset);
      const left = readInto(one, offset, leftBuffer.subarray(0, size));
      const right = readInto(two, offset, rightBuffer.subarray(0, size));
      if (!left.equals(right)) return offset + left.findIndex((byte, i) => byte !== right[i]);
    }
    return undefined;
  } finally {
    closeSync(one);
    closeSync(two);
  }
}

/** Runs of blocks that differ, as [start, end) in bytes. */
function* differingRuns(chunk: Buffer, old: Buffer): Generator<[number, number]> {
  if (chunk.equals(old)) return;
  let start = -1;
  for (let at = 0; at < chunk.length; at += blockBytes) {
    const end = Math.min(at + blockBytes, chunk.length);
    const isSame = chunk.subarray(at, end).equals(old.subarray(at, end));
    if (isSame && start >= 0) {
      yield [start, at];
      start = -1;
    } else if (!isSame && start < 0) {
      start = at;
    }
  }
  if (start >= 0) yield [start, chunk.length];
}

async function forEachChunk(sizeBytes: number, work: (offset: number, size: number) => Promise<void>): Promise<void> {
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < sizeBytes) {
      const offset = next;
      next += chunkBytes;
      await work(offset, Math.min(chunkBytes, sizeBytes - offset));
    }
  };
  await Promise.all(Array.from({ length: inFlightMax }, worker));
}

function readChunk(file: number, offset: number, size: number): Buffer {
  return readInto(file, offset, Buffer.allocUnsafeSlow(size));
}

function readInto(file: number, offset: number, chunk: Buffer): Buffer {
  const count = readSync(file, chunk, 0, chunk.length, offset);
  if (count !== chunk.length)
    throw new WalbError("io", { what: `read ${count} of ${chunk.length} bytes at ${offset}` });
  return chunk;
}

const zeroes = Buffer.alloc(chunkBytes);

function isZero(chunk: Uint8Array): boolean {
  return zeroes.subarray(0, chunk.length).equals(chunk);
}
