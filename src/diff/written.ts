/** @module Ranges that a merge writes as a whole: whoever copies the image first may leave them out. */
import { alignDown, alignUp, lbBytes } from "../units.ts";
import type { MergePlan } from "./merge.ts";
import { type DiscardPolicy, RecordKind } from "./types.ts";

/** Blocks of file systems: what is copied around a range keeps to them, or direct I/O becomes slow. */
const blockBytes = 4096;
/** Shorter ranges are copied along: reading on in order is cheaper than more requests. */
const rangeBytesMin = 256 * 1024;

/**
 * Answers where the next range at or after an offset begins and ends, in bytes; undefined when none follows. To be asked
 * with ascending offsets.
 */
export function writtenRanges(
  plan: MergePlan,
  discard: DiscardPolicy,
): (offsetBytes: number) => { readonly startBytes: number; readonly endBytes: number } | undefined {
  const { records, pieces } = plan;
  let next = 0;
  let range: { readonly startBytes: number; readonly endBytes: number } | undefined;
  const isWritten = (piece: number): boolean =>
    discard !== "ignore" || records.kind[pieces.record[piece]!] !== RecordKind.discard;
  const advance = (): void => {
    range = undefined;
    while (next < pieces.count && range === undefined) {
      const first = next++;
      if (!isWritten(first)) continue;
      const startLb = pieces.addressLb[first]!;
      let endLb = startLb + pieces.blocksLb[first]!;
      for (; next < pieces.count && pieces.addressLb[next] === endLb && isWritten(next); next++) {
        endLb += pieces.blocksLb[next]!;
      }
      const startBytes = alignUp(startLb * lbBytes, blockBytes);
      const endBytes = alignDown(endLb * lbBytes, blockBytes);
      if (endBytes - startBytes >= rangeBytesMin) range = { startBytes, endBytes };
    }
  };
  advance();
  return (offsetBytes) => {
    while (range !== undefined && range.endBytes <= offsetBytes) advance();
    return range;
  };
}
