/** @module Batches of pieces of a merge: zeroed, and written from file to file or through memory. */
import type { DiskFile } from "../platform/disk.ts";
import { gib, lbBytes } from "../units.ts";
import { batchBytesMax, batchEnd, type PieceBatch } from "./images.ts";
import { joinPieces } from "./join.ts";
import type { MergePlan } from "./merge.ts";
import type { PieceList } from "./overlay.ts";
import type { RecordIndex } from "./record-index.ts";
import type { DiffSet } from "./set.ts";
import { isTransferable, type TransferOptions, transferImages } from "./transfer.ts";
import { checkAborted, type DiffIo, type DiffProgress, type DiscardPolicy, RecordKind } from "./types.ts";
import { settleAll } from "./window.ts";
import { writeImages } from "./write-images.ts";

/** Longest range that is zeroed by one call, so that progress and cancelling stay lively. */
const zeroLbMax = gib / lbBytes;

/** How to apply. */
export interface ApplyOptions extends TransferOptions {
  /** Size of the volume: records beyond it are refused before anything is written. The image may be larger. */
  readonly sizeLb: number;
  /** Default `zero`. `passdown` gives the space back through the same call that zeroes: it reads back as zeroes too. */
  readonly discard?: DiscardPolicy;
  readonly onProgress?: (progress: DiffProgress) => void;
  readonly signal?: AbortSignal;
  /** Called before each batch with the bytes it will write; waits to keep a rate. */
  readonly throttle?: (bytes: number) => Promise<void>;
  /** Batches worked on at once; default 3. */
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
  const batch = { set, records, pieces, from, to };
  const done = countBatch(batch, discard);
  await options.throttle?.(done.writtenLb * lbBytes);
  const jobs = zeroPieces(batch, image, discard, options.signal);
  const isVerified = options.isVerified === true;
  const canTransfer = files !== undefined && isTransferable(records, pieces, from, to);
  jobs.push(canTransfer ? transferImages(batch, files, image, options) : writeImages(io, batch, image, isVerified));
  await settleAll(jobs);
  return done;
}

/** Zeroes the pieces without data. */
function zeroPieces(
  { records, pieces, from, to }: PieceBatch,
  image: DiskFile,
  discard: DiscardPolicy,
  signal: AbortSignal | undefined,
): Promise<void>[] {
  const jobs: Promise<void>[] = [];
  for (let i = from; i < to; i++) {
    const kind = records.kind[pieces.record[i]!];
    if (kind === RecordKind.normal || (kind === RecordKind.discard && discard === "ignore")) continue;
    jobs.push(zeroRange(image, pieces.addressLb[i]!, pieces.blocksLb[i]!, signal));
  }
  return jobs;
}

function countBatch({ records, pieces, from, to }: PieceBatch, discard: DiscardPolicy): AppliedBatch {
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
