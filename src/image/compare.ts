/** @module Comparing two images block by block. */

import type { ImageReadOptions } from "../diff/chunks.ts";
import type { DiffInput } from "../diff/stream.ts";
import { checkAborted, type DiffIo } from "../diff/types.ts";
import { settleAll } from "../diff/window.ts";
import { checkRange, mib } from "../units.ts";

/** One block that differs. The bytes are valid during the call only; at the end of an input they are fewer. */
export interface BlockDifference {
  readonly block: number;
  readonly a: Uint8Array;
  readonly b: Uint8Array;
}

/** How to compare. */
export interface CompareOptions extends ImageReadOptions {
  /** Default 512; at most 1 MiB. */
  readonly blockBytes?: number;
  /** Hears every block that differs, in order. */
  readonly onDifference?: (difference: BlockDifference) => void;
}

/** Outcome of a comparison. */
export interface CompareResult {
  /** Blocks of the longer input; the last may be a part of one. */
  readonly blocks: number;
  /** Blocks that differ, those that only one input has included. */
  readonly differing: number;
  readonly aBytes: number;
  readonly bBytes: number;
}

/** Reads both inputs to their ends. What only the longer one has counts as different. */
export async function compareImages(
  io: Pick<DiffIo, "memory">,
  a: DiffInput,
  b: DiffInput,
  options: CompareOptions = {},
): Promise<CompareResult> {
  const blockBytes = checkRange(options.blockBytes ?? 512, 1, mib, "blockBytes");
  const readBytes = blockBytes * Math.max(1, Math.floor(mib / blockBytes));
  // Both halves in one lease, so that it never waits for room while it holds some.
  const lease = await io.memory.lease(2 * readBytes);
  const halves = [lease.slice(0, readBytes), lease.slice(readBytes, readBytes)] as const;
  const result = { blocks: 0, differing: 0, aBytes: 0, bBytes: 0 };
  try {
    for (;;) {
      checkAborted(options.signal, "comparing");
      const reads = [a.read(halves[0]), b.read(halves[1])] as const;
      await settleAll(reads);
      const [aBytes, bBytes] = [await reads[0], await reads[1]];
      compareChunk(
        halves[0].bytes.subarray(0, aBytes),
        halves[1].bytes.subarray(0, bBytes),
        blockBytes,
        result,
        options,
      );
      result.aBytes += aBytes;
      result.bBytes += bBytes;
      options.onProgress?.(Math.max(result.aBytes, result.bBytes));
      if (aBytes < readBytes && bBytes < readBytes) return result;
    }
  } finally {
    lease.release();
  }
}

function compareChunk(
  a: Uint8Array,
  b: Uint8Array,
  blockBytes: number,
  result: { blocks: number; differing: number },
  options: CompareOptions,
): void {
  const firstBlock = result.blocks;
  const sizeBytes = Math.max(a.length, b.length);
  result.blocks += Math.ceil(sizeBytes / blockBytes);
  if (Buffer.compare(a, b) === 0) return;
  for (let at = 0; at < sizeBytes; at += blockBytes) {
    const ofA = a.subarray(at, at + blockBytes);
    const ofB = b.subarray(at, at + blockBytes);
    if (Buffer.compare(ofA, ofB) === 0) continue;
    result.differing += 1;
    options.onDifference?.({ block: firstBlock + at / blockBytes, a: ofA, b: ofB });
  }
}
