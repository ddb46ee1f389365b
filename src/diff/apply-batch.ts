/** @module Batches of pieces of a merge: read, checked, expanded and written. */
import type { Codec } from "../native/codec.ts";
import type { Memory } from "../native/memory.ts";
import type { DecodedWrite, DiskFile, PlacedWrite } from "../platform/disk.ts";
import { gib, lbBytes, mib } from "../units.ts";
import { batchBytesMax, batchEnd, type ImagePlan, planImages, sameImage, sliceOf } from "./images.ts";
import { joinPieces } from "./join.ts";
import { checkImages, damagedImage, expandedOf, leaseBatch, readImages, storedOf } from "./load.ts";
import type { MergePlan } from "./merge.ts";
import type { PieceList } from "./overlay.ts";
import type { RecordIndex } from "./record-index.ts";
import type { DiffSet } from "./set.ts";
import { isTransferable, transferImages } from "./transfer.ts";
import { checkAborted, type DiffIo, type DiffProgress, type DiscardPolicy, RecordKind } from "./types.ts";
import { settleAll } from "./window.ts";

/** Longest range that is zeroed by one call, so that progress and cancelling stay lively. */
const zeroLbMax = gib / lbBytes;

/** Raw data written by one job: few jobs, since a file takes one write at a time. */
const rawJobBytes = 4 * mib;

/** How to apply. */
export interface ApplyOptions {
  /** Size of the volume: records beyond it are refused before anything is written. The image may be larger. */
  readonly sizeLb: number;
  /** Default `zero`. `passdown` gives the space back through the same call that zeroes: it reads back as zeroes too. */
  readonly discard?: DiscardPolicy;
  readonly onProgress?: (progress: DiffProgress) => void;
  readonly signal?: AbortSignal;
  /** Called before each batch with the bytes it will write; waits to keep a rate. */
  readonly throttle?: (bytes: number) => Promise<void>;
  /** Batches worked on at once; default 4. */
  readonly inFlightMax?: number;
  /** All data is stored raw and has been checked; the checksums of the records are not looked at. Default false. */
  readonly isVerified?: boolean;
  /** Leaves it to the caller to make the image durable. Default false. */
  readonly isSyncedLater?: boolean;
}

/** What was applied. */
export interface ApplyResult {
  readonly writtenLb: number;
  readonly zeroedLb: number;
  /** Discards left alone by the policy `ignore`. */
  readonly ignoredLb: number;
}

/** What a batch did, and between which addresses. */
export interface AppliedBatch extends ApplyResult {
  readonly startLb: number;
  readonly endLb: number;
}

/** Starts the next batch, or says there is none. */
export type StartBatch = () => Promise<AppliedBatch> | undefined;

/** Batches of a plan's pieces, neighbours joined. @param files as {@link applyBatch} has them. */
export function pieceBatches(
  io: DiffIo,
  set: DiffSet,
  files: readonly DiskFile[] | undefined,
  plan: MergePlan,
  image: DiskFile,
  discard: DiscardPolicy,
  options: ApplyOptions,
): StartBatch {
  const { records } = plan;
  // One write serves what lies together in image and diff; ranges to be zeroed are joined too.
  const isZeroed = (kind: RecordKind): boolean => kind === RecordKind.allZero || discard !== "ignore";
  const pieces = joinPieces(records, plan.pieces, (kind, next) => isZeroed(kind) === isZeroed(next));
  const bytesMax = Math.min(batchBytesMax, Math.floor(io.memory.budgetBytes / 8));
  let next = 0;
  const costOf = (piece: number, isNewImage: boolean): number => {
    if (!isNewImage) return 0;
    const record = pieces.record[piece]!;
    return records.storedBytes[record]! + records.imageLb[record]! * lbBytes;
  };
  return () => {
    if (next >= pieces.count) return undefined;
    checkAborted(options.signal, "applying diffs");
    const from = next;
    next = batchEnd(records, pieces, from, bytesMax, costOf);
    return applyBatch(io, set, files, records, pieces, from, next, image, discard, options);
  };
}

/** @param files of the set, to be written from directly; undefined when that is not possible. */
export async function applyBatch(
  io: DiffIo,
  set: DiffSet,
  files: readonly DiskFile[] | undefined,
  records: RecordIndex,
  pieces: PieceList,
  from: number,
  to: number,
  image: DiskFile,
  discard: DiscardPolicy,
  options: ApplyOptions,
): Promise<AppliedBatch> {
  const done = countBatch(records, pieces, from, to, discard);
  await options.throttle?.(done.writtenLb * lbBytes);
  const zeroing = (): Promise<void>[] => {
    const jobs: Promise<void>[] = [];
    for (let i = from; i < to; i++) {
      const kind = records.kind[pieces.record[i]!];
      if (kind === RecordKind.normal || (kind === RecordKind.discard && discard === "ignore")) continue;
      jobs.push(zeroRange(image, pieces.addressLb[i]!, pieces.blocksLb[i]!, options.signal));
    }
    return jobs;
  };
  if (files !== undefined && isTransferable(records, pieces, from, to)) {
    const isVerified = options.isVerified === true;
    await settleAll([...zeroing(), transferImages(set, files, records, pieces, from, to, image, isVerified)]);
    return done;
  }
  // An image with several slices in the batch is expanded once; a lone one where it is written.
  const shared = sharedRecords(records, pieces, from, to);
  const plan = planImages(records, pieces, from, to, 0, (_piece, record) => shared.has(record));
  const lease = plan.images.length > 0 ? await leaseBatch(io, plan.endOffset) : undefined;
  try {
    const jobs: Promise<unknown>[] = zeroing();
    if (lease !== undefined) {
      const writing = options.isVerified === true ? writeRaw : writeImages;
      jobs.push(writing(io, set, records, pieces, from, to, plan, lease, image));
    }
    await settleAll(jobs);
    return done;
  } finally {
    lease?.release();
  }
}

async function writeImages(
  io: DiffIo,
  set: DiffSet,
  records: RecordIndex,
  pieces: PieceList,
  from: number,
  to: number,
  plan: ImagePlan,
  lease: Memory,
  image: DiskFile,
): Promise<void> {
  await readImages(set, plan, lease);
  await checkImages(io, set, plan, lease, false);
  const jobs: Promise<void>[] = [];
  let items: DecodedWrite[] = [];
  let itemRecords: number[] = [];
  let bytes = 0;
  const flush = (): void => {
    if (items.length === 0) return;
    jobs.push(writeItems(set, image, items, itemRecords));
    items = [];
    itemRecords = [];
    bytes = 0;
  };
  for (let i = from; i < to; i++) {
    const imageNo = plan.imageOfPiece[i - from]!;
    if (imageNo < 0) continue;
    const record = pieces.record[i]!;
    const fileOffsetBytes = pieces.addressLb[i]! * lbBytes;
    const sliceBytes = pieces.blocksLb[i]! * lbBytes;
    const sliceOffsetBytes = sliceOf(records, pieces, i) * lbBytes;
    if (plan.images[imageNo]!.decodedAt >= 0) {
      const expanded = expandedOf(records, plan, imageNo, lease);
      jobs.push(image.write(fileOffsetBytes, expanded.slice(sliceOffsetBytes, sliceBytes)));
      continue;
    }
    items.push({
      source: storedOf(records, plan, imageNo, lease),
      codec: records.codec[record]! as Codec,
      checksum: records.checksum[record]!,
      decodedBytes: records.imageLb[record]! * lbBytes,
      sliceOffsetBytes,
      sliceBytes,
      fileOffsetBytes,
    });
    itemRecords.push(record);
    bytes += records.imageLb[record]! * lbBytes;
    if (bytes >= mib) flush();
  }
  flush();
  await settleAll(jobs);
}

/** Writes images that are stored raw and known to be good. */
async function writeRaw(
  _io: DiffIo,
  set: DiffSet,
  records: RecordIndex,
  pieces: PieceList,
  from: number,
  to: number,
  plan: ImagePlan,
  lease: Memory,
  image: DiskFile,
): Promise<void> {
  await readImages(set, plan, lease);
  const jobs: Promise<void>[] = [];
  let writes: PlacedWrite[] = [];
  let bytes = 0;
  const flush = (): void => {
    if (image.writeMany !== undefined) jobs.push(image.writeMany(writes));
    else for (const { offsetBytes, source } of writes) jobs.push(image.write(offsetBytes, source));
    writes = [];
    bytes = 0;
  };
  for (let i = from; i < to; i++) {
    const imageNo = plan.imageOfPiece[i - from]!;
    if (imageNo < 0) continue;
    const sizeBytes = pieces.blocksLb[i]! * lbBytes;
    const source = lease.slice(plan.images[imageNo]!.storedAt + sliceOf(records, pieces, i) * lbBytes, sizeBytes);
    writes.push({ offsetBytes: pieces.addressLb[i]! * lbBytes, source });
    bytes += sizeBytes;
    if (bytes >= rawJobBytes) flush();
  }
  if (writes.length > 0) flush();
  await settleAll(jobs);
}

async function writeItems(
  set: DiffSet,
  image: DiskFile,
  items: readonly DecodedWrite[],
  itemRecords: readonly number[],
): Promise<void> {
  const results = await image.writeDecoded(items);
  for (let i = 0; i < items.length; i++) {
    if (results[i] !== 0) throw damagedImage(set, itemRecords[i]!, results[i]!);
  }
}

/** True when every image lies in its file behind that of the piece before: then none serves two pieces. */
function hasAscendingImages(records: RecordIndex, pieces: PieceList, from: number, to: number): boolean {
  let source = -1;
  let offset = -1;
  for (let i = from; i < to; i++) {
    const record = pieces.record[i]!;
    if (records.kind[record] !== RecordKind.normal) continue;
    if (source >= 0 && source !== records.source[record]) return false;
    if (records.dataOffset[record]! <= offset) return false;
    source = records.source[record]!;
    offset = records.dataOffset[record]!;
  }
  return true;
}

/** Records of the batch whose image serves more than one piece. */
function sharedRecords(records: RecordIndex, pieces: PieceList, from: number, to: number): Set<number> {
  const shared = new Set<number>();
  if (hasAscendingImages(records, pieces, from, to)) return shared;
  const firstByOffset = new Map<number, number>();
  for (let i = from; i < to; i++) {
    const record = pieces.record[i]!;
    // What is stored raw is written as it was read.
    if (records.kind[record] !== RecordKind.normal || records.codec[record] === 0) continue;
    const offset = records.dataOffset[record]!;
    const first = firstByOffset.get(offset);
    if (first === undefined) {
      firstByOffset.set(offset, record);
    } else if (sameImage(records, first, record)) {
      shared.add(first);
      shared.add(record);
    }
  }
  return shared;
}

function countBatch(
  records: RecordIndex,
  pieces: PieceList,
  from: number,
  to: number,
  discard: DiscardPolicy,
): AppliedBatch {
  const last = to - 1;
  const result = {
    startLb: pieces.addressLb[from]!,
    endLb: pieces.addressLb[last]! + pieces.blocksLb[last]!,
    writtenLb: 0,
    zeroedLb: 0,
    ignoredLb: 0,
  };
  for (let i = from; i < to; i++) {
    const blocksLb = pieces.blocksLb[i]!;
    const kind = records.kind[pieces.record[i]!];
    if (kind === RecordKind.normal) result.writtenLb += blocksLb;
    else if (kind === RecordKind.discard && discard === "ignore") result.ignoredLb += blocksLb;
    else result.zeroedLb += blocksLb;
  }
  return result;
}

/** Makes a range read back as zeroes. */
export async function zeroRange(
  image: DiskFile,
  addressLb: number,
  blocksLb: number,
  signal: AbortSignal | undefined,
): Promise<void> {
  for (let done = 0; done < blocksLb; ) {
    checkAborted(signal, "applying diffs");
    const partLb = Math.min(zeroLbMax, blocksLb - done);
    await image.zero((addressLb + done) * lbBytes, partLb * lbBytes);
    done += partLb;
  }
}
