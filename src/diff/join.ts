/** @module Joining neighbouring pieces, where record boundaries do not matter. */
import { sameImage, sliceOf } from "./images.ts";
import type { PieceList } from "./overlay.ts";
import type { RecordIndex } from "./record-index.ts";
import { RecordKind } from "./types.ts";

/**
 * Joins pieces that follow each other: slices of one image that do so in the image too, and pieces without data when
 * `joinsEmpty` says so for their kinds. A joined piece has the record of its first part.
 */
export function joinPieces(
  records: RecordIndex,
  pieces: PieceList,
  joinsEmpty: (kind: RecordKind, nextKind: RecordKind) => boolean,
): PieceList {
  const addressLb = new Float64Array(pieces.count);
  const blocksLb = new Uint32Array(pieces.count);
  const record = new Uint32Array(pieces.count);
  let count = 0;
  for (let i = 0; i < pieces.count; i++) {
    const r = pieces.record[i]!;
    const last = count - 1;
    if (last >= 0 && addressLb[last]! + blocksLb[last]! === pieces.addressLb[i]) {
      const lastRecord = record[last]!;
      const lastKind = records.kind[lastRecord]! as RecordKind;
      const kind = records.kind[r]! as RecordKind;
      const lastSlice = records.sliceLb[lastRecord]! + (addressLb[last]! - records.addressLb[lastRecord]!);
      const joins =
        kind === RecordKind.normal || lastKind === RecordKind.normal
          ? kind === lastKind &&
            sameImage(records, lastRecord, r) &&
            lastSlice + blocksLb[last]! === sliceOf(records, pieces, i)
          : joinsEmpty(lastKind, kind) && blocksLb[last]! + pieces.blocksLb[i]! <= 0xffff_ffff;
      if (joins) {
        blocksLb[last] = blocksLb[last]! + pieces.blocksLb[i]!;
        continue;
      }
    }
    addressLb[count] = pieces.addressLb[i]!;
    blocksLb[count] = pieces.blocksLb[i]!;
    record[count] = r;
    count++;
  }
  return { count, addressLb, blocksLb, record };
}
