/** @module Proving that diffs can be read: every image is checked and expanded, nothing is written. */
import { lbBytes } from "../units.ts";
import { batchBytesMax, batchEnd, planImages } from "./images.ts";
import { checkImages, leaseBatch, readImages } from "./load.ts";
import { planMerge } from "./merge.ts";
import { type DiffSet, type DiffSetOptions, openDiffSet } from "./set.ts";
import { checkAborted, type DiffIo, type DiffProgress, type DiffStats } from "./types.ts";
import { inOrder } from "./window.ts";

/** How to verify. */
export interface VerifyDiffOptions extends DiffSetOptions {
  readonly onProgress?: (progress: DiffProgress) => void;
  /** Batches worked on at once; default 4. */
  readonly inFlightMax?: number;
  /** Looks at the opened file before its data is read; throws when it is not the one that is meant. */
  readonly identify?: (set: DiffSet) => void;
}

/**
 * Verifies one diff file: its index by every rule of the format, and all data it refers to.
 * @returns the file's counts. @throws WalbError `bad-format` or `damaged`, naming the first fault.
 */
export async function verifyDiff(io: DiffIo, path: string, options: VerifyDiffOptions = {}): Promise<DiffStats> {
  const set = await openDiffSet(io, [path], options);
  try {
    options.identify?.(set);
    const { records } = set;
    const { pieces, totalLb } = planMerge(records, { maxIoLb: 0 });
    const bytesMax = Math.min(batchBytesMax, Math.floor(io.memory.budgetBytes / 8));
    const costOf = (piece: number, isNewImage: boolean): number => {
      const record = pieces.record[piece]!;
      return isNewImage ? records.storedBytes[record]! + records.imageLb[record]! * lbBytes : 0;
    };
    const check = async (from: number, to: number): Promise<number> => {
      const plan = planImages(records, pieces, from, to, 0, () => true);
      const lease = await leaseBatch(io, plan.endOffset);
      try {
        await readImages(set, plan, lease);
        await checkImages(io, set, plan, lease, true);
      } finally {
        lease.release();
      }
      let doneLb = 0;
      for (let i = from; i < to; i++) doneLb += pieces.blocksLb[i]!;
      return doneLb;
    };
    let next = 0;
    const start = (): Promise<number> | undefined => {
      if (next >= pieces.count) return undefined;
      checkAborted(options.signal, "verifying a diff");
      const from = next;
      next = batchEnd(records, pieces, from, bytesMax, costOf);
      return check(from, next);
    };
    let doneLb = 0;
    for await (const partLb of inOrder(start, options.inFlightMax ?? 4, () => undefined)) {
      doneLb += partLb;
      options.onProgress?.({ doneLb, totalLb });
    }
    return set.stats;
  } finally {
    await set.close();
  }
}
