/**
 * @module The plan of one batch: which stored images its pieces need, how few reads fetch them, and where in one lease
 * everything lies. Pure; `load.ts` performs it.
 */
import { Codec } from "../native/codec.ts";
import { alignUp, lbBytes } from "../units.ts";
import type { PieceList } from "./overlay.ts";
import type { RecordIndex } from "./record-index.ts";
import type { DiffSet } from "./set.ts";
import { RecordKind } from "./types.ts";

/** Pieces of a batch at most: eight full packs. */
export const batchPiecesMax = 1016;
/** Memory of a batch, unless a single piece needs more. */
export const batchBytesMax = 4 * 1024 * 1024;
/** Reads are joined over gaps up to this: the header between two packs, and some. */
const readGapMax = 8192;
/** Longest joined read. */
const readBytesMax = 4 * 1024 * 1024;
const placeAlignment = 4096;

/** One read of a file into the lease. */
export interface ImageRead {
  readonly source: number;
  readonly fileOffset: number;
  readonly leaseOffset: number;
  readonly sizeBytes: number;
}

/** One stored image. */
export interface PlannedImage {
  /** A record that has it. */
  readonly record: number;
  storedAt: number;
  /** Where it is expanded to; −1 when it is not. */
  decodedAt: number;
  /** Pieces of the batch that use it. */
  uses: number;
  needsDecode: boolean;
}

/** The images of a batch. Offsets are in the batch's lease. */
export interface ImagePlan {
  readonly images: readonly PlannedImage[];
  /** Image of each piece of the batch, −1 for a piece without data. */
  readonly imageOfPiece: Int32Array;
  readonly reads: readonly ImageRead[];
  /** End of what was placed. */
  readonly endOffset: number;
}

/** The pieces [from, to) of a merge of a set's records. */
export interface PieceBatch {
  readonly set: DiffSet;
  readonly records: RecordIndex;
  readonly pieces: PieceList;
  readonly from: number;
  readonly to: number;
}

/** When an image has to be expanded. */
export type DecodeRule = (piece: number, record: number) => boolean;

/** True when a piece is all of its image, so that the stored bytes can be used as they are. */
export function isWholeImage(records: RecordIndex, pieces: PieceList, piece: number): boolean {
  const record = pieces.record[piece]!;
  return pieces.blocksLb[piece] === records.imageLb[record] && sliceOf(records, pieces, piece) === 0;
}

/** Where a piece starts in its expanded image, in LB. */
export function sliceOf(records: RecordIndex, pieces: PieceList, piece: number): number {
  const record = pieces.record[piece]!;
  return records.sliceLb[record]! + (pieces.addressLb[piece]! - records.addressLb[record]!);
}

/** True when two records have the same stored image. */
export function sameImage(records: RecordIndex, a: number, b: number): boolean {
  return (
    a === b ||
    (records.dataOffset[a] === records.dataOffset[b] &&
      records.source[a] === records.source[b] &&
      records.storedBytes[a] === records.storedBytes[b] &&
      records.imageLb[a] === records.imageLb[b] &&
      records.codec[a] === records.codec[b] &&
      records.checksum[a] === records.checksum[b])
  );
}

/**
 * End (exclusive) of the batch that starts at piece `from`: bounded pieces and memory, never empty.
 * @param costOfPiece memory a piece with data takes; it hears whether its image is another than the piece's before.
 */
export function batchEnd(
  records: RecordIndex,
  pieces: PieceList,
  from: number,
  bytesMax: number,
  costOfPiece: (piece: number, isNewImage: boolean) => number,
): number {
  let bytes = 0;
  let last = -1;
  let i = from;
  const end = Math.min(pieces.count, from + batchPiecesMax);
  for (; i < end; i++) {
    const record = pieces.record[i]!;
    if (records.kind[record] !== RecordKind.normal) continue;
    bytes += costOfPiece(i, last < 0 || !sameImage(records, record, last));
    last = record;
    if (bytes > bytesMax && i > from) return i;
  }
  return i;
}

/** Places images and reads of the pieces [from, to) from `startOffset` on. */
export function planImages(
  records: RecordIndex,
  pieces: PieceList,
  from: number,
  to: number,
  startOffset: number,
  mustDecode: DecodeRule,
): ImagePlan {
  const imageOfPiece = new Int32Array(to - from).fill(-1);
  const order: number[] = [];
  for (let i = from; i < to; i++) {
    if (records.kind[pieces.record[i]!] === RecordKind.normal) order.push(i);
  }
  const isBefore = (a: number, b: number): boolean => compareImages(records, pieces.record[a]!, pieces.record[b]!) <= 0;
  // Mostly the pieces lie in the files as they do on the volume.
  if (!order.every((piece, i) => i === 0 || isBefore(order[i - 1]!, piece))) {
    order.sort((a, b) => compareImages(records, pieces.record[a]!, pieces.record[b]!));
  }
  const images: PlannedImage[] = [];
  let last: PlannedImage | undefined;
  for (const piece of order) {
    const record = pieces.record[piece]!;
    if (last === undefined || !sameImage(records, last.record, record)) {
      last = { record, storedAt: -1, decodedAt: -1, uses: 0, needsDecode: false };
      images.push(last);
    }
    last.uses++;
    // What is stored raw is used where it was read.
    if (records.codec[record] !== Codec.none && mustDecode(piece, record)) last.needsDecode = true;
    imageOfPiece[piece - from] = images.length - 1;
  }
  const reads: ImageRead[] = [];
  let at = alignUp(startOffset, placeAlignment);
  let open: { source: number; fileOffset: number; leaseOffset: number; sizeBytes: number } | undefined;
  for (const image of images) {
    const source = records.source[image.record]!;
    const fileOffset = records.dataOffset[image.record]!;
    const sizeBytes = records.storedBytes[image.record]!;
    if (open !== undefined && open.source === source && fileOffset - (open.fileOffset + open.sizeBytes) <= readGapMax) {
      const joined = Math.max(open.sizeBytes, fileOffset + sizeBytes - open.fileOffset);
      if (joined <= readBytesMax || joined === open.sizeBytes) {
        open.sizeBytes = joined;
        image.storedAt = open.leaseOffset + (fileOffset - open.fileOffset);
        continue;
      }
    }
    if (open !== undefined) at = alignUp(at + open.sizeBytes, placeAlignment);
    open = { source, fileOffset, leaseOffset: at, sizeBytes };
    reads.push(open);
    image.storedAt = at;
  }
  if (open !== undefined) at += open.sizeBytes;
  for (const image of images) {
    if (!image.needsDecode) continue;
    at = alignUp(at, placeAlignment);
    image.decodedAt = at;
    at += records.imageLb[image.record]! * lbBytes;
  }
  return { images, imageOfPiece, reads, endOffset: at };
}

function compareImages(records: RecordIndex, a: number, b: number): number {
  return (
    records.source[a]! - records.source[b]! ||
    records.dataOffset[a]! - records.dataOffset[b]! ||
    records.storedBytes[a]! - records.storedBytes[b]! ||
    records.imageLb[a]! - records.imageLb[b]! ||
    records.codec[a]! - records.codec[b]! ||
    records.checksum[a]! - records.checksum[b]!
  );
}
