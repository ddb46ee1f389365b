/** @module Batches whose images go from the diffs' files straight to the image, by one job and without objects for each. */
import { Codec } from "../native/codec.ts";
import type { DiskFile, StoredSlice, TransferFlow } from "../platform/disk.ts";
import { kib, lbBytes, mib } from "../units.ts";
import { isWholeImage, type PieceBatch, sliceOf } from "./images.ts";
import { damagedImage } from "./load.ts";
import type { PieceList } from "./overlay.ts";
import type { RecordIndex } from "./record-index.ts";
import type { DiffSet } from "./set.ts";
import { RecordKind } from "./types.ts";

/** Larger images are worth memory of the pool, which is accounted for. */
export const imageBytesMax = mib;

/** Smaller ones may be expanded once for each piece that they are cut into. */
const sharedBytesMax = 64 * kib;

/** How to transfer. */
export interface TransferOptions {
  /** The checksums of the records are not looked at. Default false. */
  readonly isVerified?: boolean;
  /** What the transfers onto the image work together in. */
  readonly flow?: TransferFlow | undefined;
}

/** True when no image of the pieces [from, to) is large, and none of those worth it would be expanded again. */
export function isTransferable(records: RecordIndex, pieces: PieceList, from: number, to: number): boolean {
  const cutImages = new Set<number>();
  for (let i = from; i < to; i++) {
    const record = pieces.record[i]!;
    if (records.kind[record] !== RecordKind.normal) continue;
    if (records.storedBytes[record]! > imageBytesMax || records.imageLb[record]! * lbBytes > imageBytesMax)
      return false;
    if (records.codec[record] === Codec.none || records.imageLb[record]! * lbBytes <= sharedBytesMax) continue;
    if (isWholeImage(records, pieces, i)) continue;
    // Two files may well have images at one offset: then the other way is taken for nothing.
    const offset = records.dataOffset[record]!;
    if (cutImages.has(offset)) return false;
    cutImages.add(offset);
  }
  return true;
}

/** Adds the part of a stored image that a piece needs. @param last what the kind of rows has behind the slice. */
export function putPiece<Last>(
  rows: { put(...row: [...slice: StoredSlice, last: Last]): void },
  records: RecordIndex,
  pieces: PieceList,
  piece: number,
  last: Last,
): void {
  const record = pieces.record[piece]!;
  rows.put(
    records.source[record]!,
    records.dataOffset[record]!,
    records.storedBytes[record]!,
    records.codec[record]!,
    records.checksum[record]!,
    records.imageLb[record]! * lbBytes,
    sliceOf(records, pieces, piece) * lbBytes,
    pieces.blocksLb[piece]! * lbBytes,
    last,
  );
}

/** Writes the images of a batch. @throws WalbError `damaged` naming the file of a bad one. */
export async function transferImages(
  { set, records, pieces, from, to }: PieceBatch,
  files: readonly DiskFile[],
  image: DiskFile,
  options: TransferOptions,
): Promise<void> {
  const rows: number[] = [];
  for (let i = from; i < to; i++) {
    if (records.kind[pieces.record[i]!] === RecordKind.normal) rows.push(i);
  }
  const bad = await image.transfer?.(
    files,
    rows.length,
    (table) => {
      for (const i of rows) {
        putPiece(table, records, pieces, i, pieces.addressLb[i]! * lbBytes);
      }
    },
    options,
  );
  if (bad !== undefined) throw damagedImage(set, pieces.record[rows[bad.row]!]!, bad.code);
}

/**
 * Writes the records [from, to) that have data, `rows` of them, whole. @throws WalbError `damaged` naming the file of a
 * bad one.
 */
export async function transferRecords(
  set: DiffSet,
  files: readonly DiskFile[],
  records: RecordIndex,
  from: number,
  to: number,
  rows: number,
  image: DiskFile,
  options: TransferOptions,
): Promise<void> {
  const bad = await image.transfer?.(files, rows, (table) => table.putRecords(records, from, to), options);
  if (bad === undefined) return;
  let record = from;
  for (let row = -1; record < to; record++) {
    if (records.kind[record] === RecordKind.normal) row++;
    if (row === bad.row) break;
  }
  throw damagedImage(set, record, bad.code);
}
