/**
 * @module Applying a merge to an image: sorted writes, many in flight, expanded where they are written.
 *
 * Applying is idempotent: a run that was cut off is repeated as a whole and ends in the same image.
 */
import { WalbError } from "../errors.ts";
import type { Codec } from "../native/codec.ts";
import type { Memory } from "../native/memory.ts";
import type { DecodedWrite, DiskFile, PlacedWrite } from "../platform/disk.ts";
import { checkRange, gib, lbBytes, mib } from "../units.ts";
import { batchBytesMax, batchEnd, type ImagePlan, planImages, sameImage, sliceOf } from "./images.ts";
import { joinPieces } from "./join.ts";
import { checkImages, damagedImage, expandedOf, leaseBatch, readImages, storedOf } from "./load.ts";
import type { MergePlan } from "./merge.ts";
import type { PieceList } from "./overlay.ts";
import type { RecordIndex } from "./record-index.ts";
import type { DiffSet } from "./set.ts";
import { isTransferable, transferImages } from "./transfer.ts";
import { checkAborted, type DiffIo, type DiffProgress, type DiscardPolicy, RecordKind } from "./types.ts";
import { inOrder, settleAll } from "./window.ts";

/** Longest range that is zeroed by one call, so that progress and cancelling stay lively. */
const zeroLbMax = gib / lbBytes;

/** Raw data written by one job: few jobs, since a file takes one write at a time. */
const rawJobBytes = 4 * mib;

/** The disk begins with what was written whenever so much has come together: it works while the next is expanded. */
const writebackBytes = 16 * mib;

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

/**
 * Applies a merge to an image and makes it durable.
 * @param image opened for writing; its alignment must be at most 512 bytes (open it buffered on 4096-byte disks).
 * @throws WalbError `out-of-range` before any write when a record ends beyond the volume; `damaged` naming the diff file.
 */
export async function applyDiffs(
  io: DiffIo,
  set: DiffSet,
  plan: MergePlan,
  image: DiskFile,
  options: ApplyOptions,
): Promise<ApplyResult> {
  checkTarget(plan, image, options.sizeLb);
  const canTransfer = image.transfer !== undefined && !image.isDirect;
  if (!canTransfer) return applyFrom(io, set, undefined, plan, image, options);
  const held = await set.holdFiles();
  try {
    return await applyFrom(io, set, held?.files, plan, image, options);
  } finally {
    held?.release();
  }
}

/** @param files of the set, to be written from directly; undefined when that is not possible. */
async function applyFrom(
  io: DiffIo,
  set: DiffSet,
  files: readonly DiskFile[] | undefined,
  plan: MergePlan,
  image: DiskFile,
  options: ApplyOptions,
): Promise<ApplyResult> {
  const { records } = plan;
  const discard = options.discard ?? "zero";
  // One write serves what lies together in image and diff; ranges to be zeroed are joined too.
  const isZeroed = (kind: RecordKind): boolean => kind === RecordKind.allZero || discard !== "ignore";
  const pieces = joinPieces(records, plan.pieces, (kind, next) => isZeroed(kind) === isZeroed(next));
  const bytesMax = Math.min(batchBytesMax, Math.floor(io.memory.budgetBytes / 8));
  const result = { writtenLb: 0, zeroedLb: 0, ignoredLb: 0 };
  let next = 0;
  const costOf = (piece: number, isNewImage: boolean): number => {
    if (!isNewImage) return 0;
    const record = pieces.record[piece]!;
    return records.storedBytes[record]! + records.imageLb[record]! * lbBytes;
  };
  const start = (): Promise<{ from: number; to: number }> | undefined => {
    if (next >= pieces.count) return undefined;
    checkAborted(options.signal, "applying diffs");
    const from = next;
    next = batchEnd(records, pieces, from, bytesMax, costOf);
    return applyBatch(io, set, files, records, pieces, from, next, image, discard, options);
  };
  let doneLb = 0;
  const writeback = new Writeback(image);
  for await (const { from, to } of inOrder(start, options.inFlightMax ?? 4, () => undefined)) {
    writeback.wrote(
      pieces.addressLb[from]! * lbBytes,
      (pieces.addressLb[to - 1]! + pieces.blocksLb[to - 1]!) * lbBytes,
    );
    for (let i = from; i < to; i++) {
      const blocksLb = pieces.blocksLb[i]!;
      const kind = records.kind[pieces.record[i]!];
      doneLb += blocksLb;
      if (kind === RecordKind.normal) result.writtenLb += blocksLb;
      else if (kind === RecordKind.discard && discard === "ignore") result.ignoredLb += blocksLb;
      else result.zeroedLb += blocksLb;
    }
    options.onProgress?.({ doneLb, totalLb: plan.totalLb });
  }
  await writeback.end();
  if (options.isSyncedLater !== true) await image.sync();
  return result;
}

/** Keeps the disk busy with what is in the page cache, so that the sync in the end is short. Ranges are ascending. */
class Writeback {
  readonly #image: DiskFile;
  #fromBytes: number | undefined;
  #last: Promise<void> = Promise.resolve();

  constructor(image: DiskFile) {
    this.#image = image;
  }

  wrote(fromBytes: number, toBytes: number): void {
    this.#fromBytes ??= fromBytes;
    const startBytes = this.#fromBytes;
    if (this.#image.startWriteback === undefined || toBytes - startBytes < writebackBytes) return;
    this.#fromBytes = undefined;
    // One after the other: a full queue of the disk must not take all threads for slow work.
    this.#last = this.#last.then(() => this.#image.startWriteback?.(startBytes, toBytes - startBytes));
    this.#last.catch(() => undefined);
  }

  /** Nothing of it runs any more. */
  async end(): Promise<void> {
    await this.#last.catch(() => undefined);
  }
}

function checkTarget(plan: MergePlan, image: DiskFile, sizeLb: number): void {
  checkRange(sizeLb, 0, 2 ** 44, "sizeLb");
  if (plan.endLb > sizeLb) {
    throw new WalbError("out-of-range", {
      what: `the diffs reach block ${plan.endLb}, beyond the ${sizeLb} blocks of the volume`,
      where: { file: image.path, field: "io_address" },
      hint: "grow the image to the size of the volume first, or check that the diffs belong to it",
    });
  }
  if (lbBytes % image.alignmentBytes !== 0) {
    throw new WalbError("bad-parameter", {
      what: `the image can only be written in multiples of ${image.alignmentBytes} bytes, diffs have blocks of 512`,
      where: { file: image.path },
      hint: "open the image without direct I/O",
    });
  }
}

async function applyBatch(
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
): Promise<{ from: number; to: number }> {
  await options.throttle?.(bytesOf(records, pieces, from, to));
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
    return { from, to };
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
    return { from, to };
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

async function zeroRange(
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

function bytesOf(records: RecordIndex, pieces: PieceList, from: number, to: number): number {
  let bytes = 0;
  for (let i = from; i < to; i++) {
    if (records.kind[pieces.record[i]!] === RecordKind.normal) bytes += pieces.blocksLb[i]! * lbBytes;
  }
  return bytes;
}
