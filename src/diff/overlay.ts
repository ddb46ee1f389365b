/**
 * @module Overlay of wdiff records: of all records, in order, the later one wins wherever they overlap.
 *
 * The rule (`docs/formats.md`, overlay) is stated one record at a time: an added record cuts away what it overlaps. The
 * outcome does not depend on the steps: what is left of a record is the parts of it that no later record covers. So the
 * overlay is computed as a merge sort: runs of ascending records are merged in pairs, the newer run winning, in
 * O(n log runs) over typed arrays; or, of many runs, by a sweep over the addresses. Cutting to a maximal size comes last, because the cut positions depend only on where
 * the original record started (sorted kind) or on the address alone (indexed kind).
 */

import { PieceBuffer, type PieceList } from "./pieces.ts";
import type { RecordIndex } from "./record-index.ts";
import { sweepRecords } from "./sweep.ts";
import { imageLbMax, RecordKind } from "./types.ts";

export type { PieceList } from "./pieces.ts";

/** From so many runs on, as random writes make them, records are swept in order of address instead of merged. */
const sweptRunsMin = 64;

/** The overlay of all records of an index, in the order of the index, before any cutting to a maximal size. */
export function overlayRecords(records: RecordIndex): PieceList {
  let ends = runEnds(records);
  if (ends.length >= sweptRunsMin) return sweepRecords(records);
  let from = new PieceBuffer(Math.max(1, records.count));
  for (let i = 0; i < records.count; i++) from.push(records.addressLb[i]!, records.blocksLb[i]!, i);
  if (ends.length === 1) return from;
  let into = new PieceBuffer(1);
  while (ends.length > 1) {
    into.ensure(from.count + 16);
    into.count = 0;
    const nextEnds: number[] = [];
    for (let run = 0, start = 0; run < ends.length; run += 2) {
      const middle = ends[run]!;
      const end = run + 1 < ends.length ? ends[run + 1]! : middle;
      overlayRuns(from, start, middle, end, into);
      nextEnds.push(into.count);
      start = end;
    }
    ends = nextEnds;
    const swap = from;
    from = into;
    into = swap;
  }
  return from;
}

/** Where runs of ascending records without overlap end; not all of them when they are many. */
function runEnds(records: RecordIndex): number[] {
  const ends: number[] = [];
  let runEndLb = 0;
  for (let i = 0; i < records.count && ends.length < sweptRunsMin; i++) {
    const addressLb = records.addressLb[i]!;
    if (addressLb < runEndLb) ends.push(i);
    runEndLb = addressLb + records.blocksLb[i]!;
  }
  ends.push(records.count);
  return ends;
}

/** Overlays run [middle, end) on run [start, middle) of `from`; both ascend without overlap. Appends to `into`. */
function overlayRuns(from: PieceBuffer, start: number, middle: number, end: number, into: PieceBuffer): void {
  const { addressLb, blocksLb, record } = from;
  let older = start;
  let newer = middle;
  // What is left of the older piece in hand starts at olderLb.
  let olderLb = older < middle ? addressLb[older]! : Number.POSITIVE_INFINITY;
  while (newer < end) {
    const newerLb = addressLb[newer]!;
    while (olderLb < newerLb) {
      const olderEndLb = addressLb[older]! + blocksLb[older]!;
      const cutLb = olderEndLb < newerLb ? olderEndLb : newerLb;
      if (cutLb > olderLb) into.push(olderLb, cutLb - olderLb, record[older]!);
      if (olderEndLb > newerLb) {
        olderLb = newerLb;
      } else {
        older++;
        olderLb = older < middle ? addressLb[older]! : Number.POSITIVE_INFINITY;
      }
    }
    into.push(newerLb, blocksLb[newer]!, record[newer]!);
    const newerEndLb = newerLb + blocksLb[newer]!;
    newer++;
    while (olderLb < newerEndLb) {
      const olderEndLb = addressLb[older]! + blocksLb[older]!;
      if (olderEndLb > newerEndLb) {
        olderLb = newerEndLb;
      } else {
        older++;
        olderLb = older < middle ? addressLb[older]! : Number.POSITIVE_INFINITY;
      }
    }
  }
  while (older < middle) {
    into.push(olderLb, addressLb[older]! + blocksLb[older]! - olderLb, record[older]!);
    older++;
    olderLb = older < middle ? addressLb[older]! : Number.POSITIVE_INFINITY;
  }
}

/**
 * Cuts pieces as the sorted kind does: a record longer than `maxIoLb` is cut every `maxIoLb` from its own start, and the
 * pieces of it keep those cuts. Normal data is never left longer than {@link imageLbMax}; 0 means no other limit.
 * @param fromImage cut from where the record's image starts instead, for pieces that join the slices of an image.
 */
export function cutPieces(pieces: PieceList, records: RecordIndex, maxIoLb: number, fromImage = false): PieceList {
  const dataMaxLb = maxIoLb === 0 ? imageLbMax : Math.min(maxIoLb, imageLbMax);
  const emptyMaxLb = emptyLimitLb(pieces, records, maxIoLb);
  let needed = false;
  for (let i = 0; i < pieces.count && !needed; i++) {
    const record = pieces.record[i]!;
    const maxLb = records.kind[record] === RecordKind.normal ? dataMaxLb : emptyMaxLb;
    needed = maxLb > 0 && Math.max(records.blocksLb[record]!, pieces.blocksLb[i]!) > maxLb;
  }
  if (!needed) return pieces;
  const into = new PieceBuffer(pieces.count + 16);
  for (let i = 0; i < pieces.count; i++) {
    const record = pieces.record[i]!;
    const maxLb = records.kind[record] === RecordKind.normal ? dataMaxLb : emptyMaxLb;
    let addressLb = pieces.addressLb[i]!;
    const endLb = addressLb + pieces.blocksLb[i]!;
    if (maxLb === 0) {
      into.push(addressLb, endLb - addressLb, record);
      continue;
    }
    const recordLb = records.addressLb[record]! - (fromImage ? records.sliceLb[record]! : 0);
    while (addressLb < endLb) {
      const cutLb = Math.min(endLb, recordLb + (Math.floor((addressLb - recordLb) / maxLb) + 1) * maxLb);
      into.push(addressLb, cutLb - addressLb, record);
      addressLb = cutLb;
    }
  }
  return into;
}

/** Most records that the cutting of records without data may add: beyond 1 TiB of them at the usual 2048 blocks. */
const emptyCutsMax = 2 ** 20;

/**
 * The limit for records without data: as asked, or doubled until their number is bounded. The discard of a whole volume
 * would else become millions of records, and a few bytes of hostile input gigabytes of memory.
 */
function emptyLimitLb(pieces: PieceList, records: RecordIndex, maxIoLb: number): number {
  if (maxIoLb === 0) return 0;
  let emptyLb = 0;
  for (let i = 0; i < pieces.count; i++) {
    if (records.kind[pieces.record[i]!] !== RecordKind.normal) emptyLb += pieces.blocksLb[i]!;
  }
  let limitLb = maxIoLb;
  while (emptyLb / limitLb > emptyCutsMax) limitLb *= 2;
  return limitLb;
}

/** Largest power of two that divides an address, at most 2^31; 2^31 for address 0. */
export function alignmentLb(addressLb: number): number {
  const low = addressLb % 0x8000_0000;
  return low === 0 ? 0x8000_0000 : (low & -low) >>> 0;
}

/** Largest power of two ≤ `value`, for 1 ≤ value < 2^32; 0 for 0. */
export function pow2floor(value: number): number {
  return value === 0 ? 0 : 2 ** (31 - Math.clz32(value));
}

/** Size of the first part of a range that is split into aligned powers of two, as the indexed kind does.
 * @param maxLb bound of a part, a power of two; 0 for none. */
export function alignedPartLb(addressLb: number, leftLb: number, maxLb: number): number {
  let sizeLb = alignmentLb(addressLb);
  if (sizeLb > leftLb) sizeLb = pow2floor(leftLb);
  return maxLb > 0 && sizeLb > maxLb ? maxLb : sizeLb;
}

/** Bounds of the parts of the indexed kind, powers of two or 0 for none: for data, and for records without. */
export function splitLimitsLb(
  pieces: PieceList,
  records: RecordIndex,
  maxIoLb: number,
): { readonly dataLb: number; readonly emptyLb: number } {
  const limit = (lb: number): number => (lb >= 2 ** 32 ? 0 : pow2floor(lb));
  return { dataLb: limit(maxIoLb), emptyLb: limit(emptyLimitLb(pieces, records, maxIoLb)) };
}
