/** @module Merging diffs: the plan over their indexes alone. Writing it out is in `output.ts`. */
import { checkRange } from "../units.ts";
import { joinPieces } from "./join.ts";
import { cutPieces, overlayRecords, type PieceList } from "./overlay.ts";
import type { RecordIndex } from "./record-index.ts";
import { countRecord, emptyStats } from "./stats.ts";
import { type DiffStats, defaultMaxIoLb } from "./types.ts";

/** What a merge of diffs consists of: non-overlapping pieces of their records, ascending. */
export interface MergePlan {
  readonly records: RecordIndex;
  readonly pieces: PieceList;
  /** End of the last piece; 0 for none. Must not be above the size of what the plan is applied to. */
  readonly endLb: number;
  /** Sum of the pieces. */
  readonly totalLb: number;
  /** Counts of the pieces; data bytes are not known before they are written. */
  readonly stats: DiffStats;
  /** True when piece i is all of record i. */
  readonly isWhole: boolean;
}

/** The pieces of records that ascend without overlap: all of each. */
class WholeRecords implements PieceList {
  readonly #records: RecordIndex;
  #record: Uint32Array | undefined;

  constructor(records: RecordIndex) {
    this.#records = records;
  }

  get count(): number {
    return this.#records.count;
  }

  get addressLb(): Float64Array {
    return this.#records.addressLb;
  }

  get blocksLb(): Uint32Array {
    return this.#records.blocksLb;
  }

  /** Made when it is asked for: who takes the records as they are does without. */
  get record(): Uint32Array {
    this.#record ??= Uint32Array.from({ length: this.count }, (_, i) => i);
    return this.#record;
  }
}

/**
 * The plan of a set that is one sorted diff, without looking at its records: they ascend without overlap, and none is
 * longer than images may be. @param stats of its records.
 */
export function planLone(records: RecordIndex, stats: DiffStats): MergePlan {
  const last = records.count - 1;
  const endLb = last < 0 ? 0 : records.addressLb[last]! + records.blocksLb[last]!;
  const totalLb = stats.normalLb + stats.zeroLb + stats.discardLb;
  const pieces = new WholeRecords(records);
  return { records, pieces, endLb, totalLb, stats: { ...stats, files: 0, dataBytes: 0 }, isWhole: true };
}

/**
 * Plans the merge of all records of an index: later records win, whatever their kinds; a record longer than
 * `maxIoLb` is cut. Nothing is joined, converted or dropped, so that the outcome is the one `docs/formats.md` defines.
 * @param options.maxIoLb default 2048; 0 for no limit.
 * @param options.joinSlices joins the slices into which an indexed diff cuts an IO. The content stays the same, with fewer
 * records, and IOs that were not overwritten pass on compressed instead of being compressed anew. Default false.
 */
export function planMerge(
  records: RecordIndex,
  options: { readonly maxIoLb?: number; readonly joinSlices?: boolean } = {},
): MergePlan {
  const maxIoLb = checkRange(options.maxIoLb ?? defaultMaxIoLb, 0, 0xffff_ffff, "maxIoLb");
  const isJoined = options.joinSlices === true;
  const overlaid = overlayRecords(records);
  const joined = isJoined ? joinPieces(records, overlaid, () => false) : overlaid;
  const pieces = cutPieces(joined, records, maxIoLb, isJoined);
  const stats = emptyStats();
  let totalLb = 0;
  for (let i = 0; i < pieces.count; i++) {
    countRecord(stats, records.kind[pieces.record[i]!]!, pieces.blocksLb[i]!);
    totalLb += pieces.blocksLb[i]!;
  }
  const last = pieces.count - 1;
  const endLb = last < 0 ? 0 : pieces.addressLb[last]! + pieces.blocksLb[last]!;
  return { records, pieces, endLb, totalLb, stats, isWhole: false };
}
