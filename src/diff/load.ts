/** @module Performs an image plan: reads, checks and expands stored images in one lease. */
import { WalbError } from "../errors.ts";
import type { Codec, DecodeItem, VerifyItem } from "../native/codec.ts";
import type { Lease, Memory } from "../native/memory.ts";
import type { PlacedRead } from "../platform/disk.ts";
import { lbBytes } from "../units.ts";
import type { ImagePlan } from "./images.ts";
import type { RecordIndex } from "./record-index.ts";
import type { DiffSet } from "./set.ts";
import type { DiffIo } from "./types.ts";
import { settleAll } from "./window.ts";

/** Largest lease of the memory pool. */
const leaseBytesMax = 64 * 1024 * 1024;

/** Reads of one job go on up to this. */
const jobBytesMax = 1024 * 1024;

/** Memory for one batch. @throws WalbError `out-of-range` when no lease can be that large. */
export async function leaseBatch(io: DiffIo, sizeBytes: number): Promise<Lease> {
  if (sizeBytes > Math.min(leaseBytesMax, io.memory.budgetBytes)) {
    throw new WalbError("out-of-range", {
      what: `one piece of a diff needs ${sizeBytes} bytes of memory, above the limit of this process`,
      where: { field: "io_blocks" },
      hint: "give the process more memory, or split the diff's records with a smaller maximal IO size",
    });
  }
  return io.memory.lease(Math.max(1, sizeBytes));
}

/** Reads the stored bytes of a plan's images. */
export async function readImages(set: DiffSet, plan: ImagePlan, lease: Memory): Promise<void> {
  const jobs: Promise<void>[] = [];
  let reads: PlacedRead[] = [];
  let bytes = 0;
  plan.reads.forEach(({ source, fileOffset, leaseOffset, sizeBytes }, i) => {
    reads.push({ offsetBytes: fileOffset, target: lease.slice(leaseOffset, sizeBytes) });
    bytes += sizeBytes;
    // Small reads of a file go together, large ones run beside each other.
    if (plan.reads[i + 1]?.source === source && bytes < jobBytesMax) return;
    jobs.push(set.readMany(source, reads));
    reads = [];
    bytes = 0;
  });
  await settleAll(jobs);
}

/** The stored bytes of an image that {@link readImages} has read. */
export function storedOf(records: RecordIndex, plan: ImagePlan, image: number, lease: Memory): Memory {
  const { record, storedAt } = plan.images[image]!;
  return lease.slice(storedAt, records.storedBytes[record]!);
}

/** The expanded bytes of an image: where it was decoded, or where it was read when it is stored raw. */
export function expandedOf(records: RecordIndex, plan: ImagePlan, image: number, lease: Memory): Memory {
  const { record, storedAt, decodedAt } = plan.images[image]!;
  return lease.slice(decodedAt < 0 ? storedAt : decodedAt, records.imageLb[record]! * lbBytes);
}

/**
 * Expands the images that the plan says, checking them, and checks all others when `verifyRest` is set.
 * @throws WalbError `damaged` naming file, offset and record.
 */
export async function checkImages(
  io: DiffIo,
  set: DiffSet,
  plan: ImagePlan,
  lease: Memory,
  verifyRest: boolean,
): Promise<void> {
  const records = set.records;
  const decodes: DecodeItem[] = [];
  const decoded: number[] = [];
  const verifies: VerifyItem[] = [];
  const verified: number[] = [];
  plan.images.forEach((image, i) => {
    const source = storedOf(records, plan, i, lease);
    const checksum = records.checksum[image.record]!;
    if (image.decodedAt >= 0) {
      const codec = records.codec[image.record]! as Codec;
      decodes.push({ source, codec, checksum, target: expandedOf(records, plan, i, lease) });
      decoded.push(image.record);
    } else if (verifyRest) {
      verifies.push({ source, salt: 0, checksum });
      verified.push(image.record);
    }
  });
  const decoding = decodes.length > 0 ? io.compute.decode(decodes) : Promise.resolve(new Uint8Array(0));
  const verifying = verifies.length > 0 ? io.compute.verify(verifies) : Promise.resolve(new Uint8Array(0));
  await settleAll([decoding, verifying]);
  const decodeResults = await decoding;
  const verifyResults = await verifying;
  decoded.forEach((record, i) => {
    const result = decodeResults[i]!;
    if (result !== 0) throw damagedImage(set, record, result);
  });
  verified.forEach((record, i) => {
    if (verifyResults[i] !== 1) throw damagedImage(set, record, 1);
  });
}

/** The error for an image whose check failed. @param result 1: checksum, else: it does not expand. */
export function damagedImage(set: DiffSet, record: number, result: number): WalbError {
  const records = set.records;
  const what = result === 1 ? "its checksum is wrong" : "it does not expand to its size";
  return new WalbError("damaged", {
    what: `the data of the record at block ${records.addressLb[record]} is damaged: ${what}`,
    where: { file: set.pathOf(records.source[record]!), offsetBytes: records.dataOffset[record]! },
    hint: "replace the file from another copy, or make a new backup of the volume",
  });
}
