/** @module Copying what a virtual image reads as, without reading or writing what is hole in both. */
import { checkAborted } from "../../../diff/types.ts";
import type { VirtualImage } from "../../../diff/virtual.ts";
import { inOrder, settleAll } from "../../../diff/window.ts";
import type { Compute } from "../../../native/codec.ts";
import type { Lease, Memory } from "../../../native/memory.ts";
import type { DiskFile, PlacedWrite } from "../../../platform/disk.ts";
import { kib, mib } from "../../../units.ts";
import { SequentialOutput } from "./stdio.ts";
import type { Tool } from "./tool.ts";

const copiesMax = 4;

/** A part of an image. */
interface Part {
  readonly atBytes: number;
  readonly sizeBytes: number;
}

/**
 * Copies [startBytes, endBytes) of an image to the start of an output, several reads at once. A file stays sparse, and
 * what need not be in it is not read.
 */
export async function copyImage(
  tool: Tool,
  image: VirtualImage,
  startBytes: number,
  endBytes: number,
  output: DiskFile,
  bulkBytes = mib,
): Promise<void> {
  const { memory, compute } = tool.platform;
  const isSparse = !output.isBlockDevice && !(output instanceof SequentialOutput);
  const parts = isSparse
    ? dataParts(image, startBytes, endBytes, bulkBytes)
    : allParts(startBytes, endBytes, bulkBytes);
  let isDone = false;
  const readNext = async (): Promise<{ lease: Lease; data: Memory; at: number } | undefined> => {
    const step = await parts.next();
    if (step.done === true) {
      isDone = true;
      return undefined;
    }
    const { atBytes, sizeBytes } = step.value;
    const lease = await memory.lease(sizeBytes);
    try {
      const data = lease.slice(0, sizeBytes);
      await image.read(atBytes, data);
      return { lease, data, at: atBytes - startBytes };
    } catch (error) {
      lease.release();
      throw error;
    }
  };
  const start = (): ReturnType<typeof readNext> | undefined => {
    checkAborted(tool.signal, "reading the image");
    return isDone ? undefined : readNext();
  };
  for await (const read of inOrder(start, copiesMax, (result) => result?.lease.release())) {
    if (read === undefined) continue;
    const { lease, data, at } = read;
    try {
      if (isSparse) await writeSparse(output, at, data, compute);
      else await output.write(at, data);
    } finally {
      lease.release();
    }
    tool.progress(at + data.sizeBytes, endBytes - startBytes);
  }
  if (isSparse) await output.truncate(endBytes - startBytes);
}

async function* allParts(startBytes: number, endBytes: number, bulkBytes: number): AsyncGenerator<Part, void> {
  for (let at = startBytes; at < endBytes; at += bulkBytes) {
    yield { atBytes: at, sizeBytes: Math.min(bulkBytes, endBytes - at) };
  }
}

/** Smaller gaps between data are read with it. */
const gapBytesMax = 64 * kib;

/** Parts of a range that hold all of its data, cut where bulks would be. */
async function* dataParts(
  image: VirtualImage,
  startBytes: number,
  endBytes: number,
  bulkBytes: number,
): AsyncGenerator<Part, void> {
  let next = await image.nextData(startBytes);
  while (next !== undefined && next.startBytes < endBytes) {
    const from = next.startBytes;
    const limit = Math.min(endBytes, from + bulkBytes - ((from - startBytes) % bulkBytes));
    let to = Math.min(next.endBytes, limit);
    if (next.endBytes > limit) next = { startBytes: limit, endBytes: next.endBytes };
    else next = await image.nextData(next.endBytes);
    while (next !== undefined && next.startBytes < limit && next.startBytes - to <= gapBytesMax) {
      to = Math.min(next.endBytes, limit);
      next =
        next.endBytes > limit ? { startBytes: limit, endBytes: next.endBytes } : await image.nextData(next.endBytes);
    }
    yield { atBytes: from, sizeBytes: to - from };
  }
}

/** Smallest hole that is kept: many small ones would cost more than they save. */
const holeBytes = 16 * kib;

/** Writes what is not zero to a file that is all hole there. */
async function writeSparse(output: DiskFile, startBytes: number, data: Memory, compute: Compute): Promise<void> {
  const writes: PlacedWrite[] = [];
  let runAt = -1;
  const end = (at: number): void => {
    if (runAt >= 0) writes.push({ offsetBytes: startBytes + runAt, source: data.slice(runAt, at - runAt) });
    runAt = -1;
  };
  for (let at = 0; at < data.sizeBytes; at += holeBytes) {
    const cell = data.bytes.subarray(at, Math.min(at + holeBytes, data.sizeBytes));
    if (compute.isZeroNow(cell)) end(at);
    else if (runAt < 0) runAt = at;
  }
  end(data.sizeBytes);
  if (writes.length > 1 && output.writeMany !== undefined) await output.writeMany(writes);
  else await settleAll(writes.map(({ offsetBytes, source }) => output.write(offsetBytes, source)));
}
