/** @module The images of a batch written through memory: read, checked, and expanded there or where they are written. */
import type { Codec } from "../native/codec.ts";
import type { Memory } from "../native/memory.ts";
import type { DecodedWrite, DiskFile, PlacedWrite } from "../platform/disk.ts";
import { lbBytes, mib } from "../units.ts";
import { type ImagePlan, type PieceBatch, planImages, sameImage, sliceOf } from "./images.ts";
import { checkImages, damagedImage, expandedOf, leaseBatch, readImages, storedOf } from "./load.ts";
import type { DiffSet } from "./set.ts";
import { type DiffIo, RecordKind } from "./types.ts";
import { settleAll } from "./window.ts";

/** Raw data written by one job: few jobs, since a file takes one write at a time. */
const rawJobBytes = 4 * mib;

/**
 * Writes the images of a batch. @param isVerified all are stored raw and have been checked.
 * @throws WalbError `damaged` naming the file of a bad one.
 */
export async function writeImages(io: DiffIo, batch: PieceBatch, image: DiskFile, isVerified: boolean): Promise<void> {
  const { records, pieces, from, to } = batch;
  // An image with several slices in the batch is expanded once; a lone one where it is written.
  const shared = sharedRecords(batch);
  const plan = planImages(records, pieces, from, to, 0, (_piece, record) => shared.has(record));
  if (plan.images.length === 0) return;
  const lease = await leaseBatch(io, plan.endOffset);
  try {
    if (isVerified) await writeRaw(batch, plan, lease, image);
    else await writeExpanded(io, batch, plan, lease, image);
  } finally {
    lease.release();
  }
}

/** Writes them expanded, or lets the pool expand them where they are written. */
async function writeExpanded(
  io: DiffIo,
  { set, records, pieces, from, to }: PieceBatch,
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
  { set, records, pieces, from, to }: PieceBatch,
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
function hasAscendingImages({ records, pieces, from, to }: PieceBatch): boolean {
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
function sharedRecords(batch: PieceBatch): Set<number> {
  const { records, pieces, from, to } = batch;
  const shared = new Set<number>();
  if (hasAscendingImages(batch)) return shared;
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
