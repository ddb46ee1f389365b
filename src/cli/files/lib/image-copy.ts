/** @module Copying what a virtual image reads as, without reading or writing what is hole in both. */
import { checkAborted } from "../../../diff/types.ts";
import type { VirtualImage } from "../../../diff/virtual.ts";
import { inOrder, settleAll } from "../../../diff/window.ts";
import type { Compute } from "../../../native/codec.ts";
import type { Lease, Memory } from "../../../native/memory.ts";
import type { DiskFile, PlacedWrite } from "../../../platform/disk.ts";
import { alignDown, kib, mib } from "../../../units.ts";
import { SequentialOutput } from "./stdio.ts";
import type { Tool } from "./tool.ts";

const copiesMax = 4;

/** What was read of an image: nothing where it is all zero up to `endBytes` and need not be written. */
interface ReadPart {
  readonly lease: Lease | undefined;
  readonly data: Memory | undefined;
  readonly at: number;
  readonly endBytes: number;
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
  let next = startBytes;
  const readNext = async (atBytes: number, sizeBytes: number): Promise<ReadPart> => {
    const at = atBytes - startBytes;
    if (isSparse) {
      const heldBytes = await image.nextDataBytes(atBytes);
      if (heldBytes >= atBytes + sizeBytes) {
        // Whole bulks only, so that what follows is read as if all had been.
        const skipBytes = alignDown(Math.min(heldBytes, endBytes) - atBytes, bulkBytes);
        next = Math.max(next, atBytes + skipBytes);
        return { lease: undefined, data: undefined, at, endBytes: at + Math.max(sizeBytes, skipBytes) };
      }
    }
    const lease = await memory.lease(sizeBytes);
    try {
      const data = lease.slice(0, sizeBytes);
      await image.read(atBytes, data);
      return { lease, data, at, endBytes: at + sizeBytes };
    } catch (error) {
      lease.release();
      throw error;
    }
  };
  const start = (): ReturnType<typeof readNext> | undefined => {
    if (next >= endBytes) return undefined;
    checkAborted(tool.signal, "reading the image");
    const sizeBytes = Math.min(bulkBytes, endBytes - next);
    next += sizeBytes;
    return readNext(next - sizeBytes, sizeBytes);
  };
  for await (const part of inOrder(start, copiesMax, (read) => read.lease?.release())) {
    const { lease, data, at } = part;
    try {
      if (data !== undefined && isSparse) await writeSparse(output, at, data, compute);
      else if (data !== undefined) await output.write(at, data);
    } finally {
      lease?.release();
    }
    tool.progress(part.endBytes, endBytes - startBytes);
  }
  if (isSparse) await output.truncate(endBytes - startBytes);
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
