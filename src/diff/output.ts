/**
 * @module Writing a merge out: as a sorted file or as packs for the wire.
 *
 * Pieces that are all of their image pass through as they are stored, after a check of their checksum; only pieces that
 * were split are expanded, cut and compressed again. Batches are worked on ahead, in a bounded window, and come out in
 * order.
 */
import { Codec, type CodecItem, type CompressOption } from "../native/codec.ts";
import type { Memory } from "../native/memory.ts";
import type { DiskFile } from "../platform/disk.ts";
import { alignUp, lbBytes } from "../units.ts";
import { assemblePacks, buildPacks, type OutBatch, type OutRecord, pushJoined } from "./assemble.ts";
import { packHeaderBytes, packRecordsMax } from "./format.ts";
import { batchBytesMax, batchEnd, type ImagePlan, isWholeImage, planImages, sliceOf } from "./images.ts";
import { checkImages, expandedOf, leaseBatch, readImages, storedOf } from "./load.ts";
import type { MergePlan } from "./merge.ts";
import { type PackedBatch, packPieces } from "./packed.ts";
import type { DiffSet } from "./set.ts";
import { SortedDiffWriter } from "./sorted.ts";
import { addStats, emptyStats } from "./stats.ts";
import { isTransferable } from "./transfer.ts";
import {
  checkAborted,
  type DiffIo,
  type DiffPack,
  type DiffProgress,
  type DiffStats,
  defaultCompress,
  RecordKind,
} from "./types.ts";
import { inOrder, settleAll } from "./window.ts";

/** How to write a merge. */
export interface MergeOutputOptions {
  /** For pieces that have to be compressed anew; default snappy. */
  readonly compress?: CompressOption;
  /** Compress everything anew, so that all data has the asked codec. Default false. */
  readonly recompressAll?: boolean;
  /** All data is stored raw and has been checked; the checksums of the records are not looked at. Only with
   * `recompressAll`, which makes new ones. Default false. */
  readonly isVerified?: boolean;
  /** uuid of the file header; default the set's, which is that of its last file. */
  readonly uuid?: Uint8Array;
  /** Batches worked on at once; default 4. Each takes 4 MiB or a little more. */
  readonly inFlightMax?: number;
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: DiffProgress) => void;
  /** Called for each batch with the bytes it has, expanded; waits to keep a rate. */
  readonly throttle?: (bytes: number) => Promise<void>;
}

/**
 * Writes a merge as a sorted file: header, packs, end pack. Not durable until `commitDiffFile`.
 * @param file new and empty, opened for writing, not direct.
 * @returns counts of the file. @throws WalbError `damaged` naming the input file whose data is bad.
 */
export async function writeMerged(
  io: DiffIo,
  set: DiffSet,
  plan: MergePlan,
  file: DiskFile,
  options: MergeOutputOptions = {},
): Promise<DiffStats> {
  const writer = await SortedDiffWriter.create(io, file, options.uuid ?? set.uuid);
  const inFlightMax = options.inFlightMax ?? 4;
  const writes: Promise<void>[] = [];
  const failures: unknown[] = [];
  try {
    for await (const batch of mergedBatches(io, set, plan, options, false)) {
      writes.push(
        writeBatch(io, writer, batch)
          .catch((error: unknown) => {
            failures.push(error);
          })
          .finally(() => batch.lease.release()),
      );
      if (writes.length >= inFlightMax) await writes.shift();
      if (failures.length > 0) break;
    }
  } finally {
    await Promise.all(writes);
  }
  if (failures.length > 0) throw failures[0];
  return writer.finish();
}

/**
 * The packs of a merge, for the wire: each at most 4096 bytes + 32 MiB, most about 4 MiB or 127 records. The caller
 * releases every pack it gets. Ending the iteration early frees what was prepared.
 * @returns (by the generator) the counts of all packs.
 */
export async function* mergedPacks(
  io: DiffIo,
  set: DiffSet,
  plan: MergePlan,
  options: MergeOutputOptions = {},
): AsyncGenerator<DiffPack, DiffStats> {
  const stats: DiffStats = { ...emptyStats(), files: 1 };
  for await (const batch of mergedBatches(io, set, plan, options, true)) {
    // The lease goes back when the last pack of it was released, and the iteration is through with it.
    let users = 1;
    const release = (): void => {
      users--;
      if (users === 0) batch.lease.release();
    };
    try {
      for (const pack of assemblePacks(io, batch)) {
        addStats(stats, pack.stats);
        users++;
        yield { memory: pack.memory, records: pack.records, release };
      }
    } finally {
      release();
    }
  }
  return stats;
}

/** Batches of a plan in order, worked on ahead. */
async function* mergedBatches(
  io: DiffIo,
  set: DiffSet,
  plan: MergePlan,
  options: MergeOutputOptions,
  forWire: boolean,
): AsyncGenerator<OutBatch | PackedBatch, void> {
  const held = io.disk.recode === undefined ? undefined : await set.holdFiles();
  try {
    yield* batchesOf(io, set, held?.files, plan, options, forWire);
  } finally {
    held?.release();
  }
}

/** @param files of the set, to make packs from in one job; undefined when that is not possible. */
async function* batchesOf(
  io: DiffIo,
  set: DiffSet,
  files: readonly DiskFile[] | undefined,
  plan: MergePlan,
  options: MergeOutputOptions,
  forWire: boolean,
): AsyncGenerator<OutBatch | PackedBatch, void> {
  const { records, pieces } = plan;
  const recompress = options.recompressAll === true;
  const bytesMax = Math.min(batchBytesMax, Math.floor(io.memory.budgetBytes / 8));
  const costOf = (piece: number, isNewImage: boolean): number => {
    const record = pieces.record[piece]!;
    const stored = isNewImage ? records.storedBytes[record]! : 0;
    if (!recompress && isWholeImage(records, pieces, piece)) return stored * (forWire ? 2 : 1);
    const image = isNewImage ? records.imageLb[record]! * lbBytes : 0;
    return stored + image + pieces.blocksLb[piece]! * lbBytes * (forWire ? 2 : 1);
  };
  let next = 0;
  const packing = {
    compress: options.compress ?? defaultCompress,
    isVerified: options.isVerified === true,
    recompressAll: recompress,
  };
  const ends: number[] = [];
  const start = (): Promise<OutBatch | PackedBatch> | undefined => {
    if (next >= pieces.count) return undefined;
    checkAborted(options.signal, "merging diffs");
    const from = next;
    next = batchEnd(records, pieces, from, bytesMax, costOf);
    ends.push(next);
    return files !== undefined && isTransferable(records, pieces, from, next)
      ? packPieces(io, set, files, plan, from, next, packing)
      : produceBatch(io, set, plan, from, next, options, forWire);
  };
  let doneLb = 0;
  let donePieces = 0;
  for await (const batch of inOrder(start, options.inFlightMax ?? 4, (done) => done.lease.release())) {
    const fromLb = doneLb;
    for (const end = ends.shift() ?? donePieces; donePieces < end; donePieces++) doneLb += pieces.blocksLb[donePieces]!;
    try {
      await options.throttle?.((doneLb - fromLb) * lbBytes);
    } catch (error) {
      batch.lease.release();
      throw error;
    }
    yield batch;
    options.onProgress?.({ doneLb, totalLb: plan.totalLb });
  }
}

/** Reads, checks and where needed recompresses the pieces [from, to). */
async function produceBatch(
  io: DiffIo,
  set: DiffSet,
  plan: MergePlan,
  from: number,
  to: number,
  options: MergeOutputOptions,
  forWire: boolean,
): Promise<OutBatch> {
  const { records, pieces } = plan;
  const recompress = options.recompressAll === true;
  const isAlone = to - from === 1;
  const isWhole = (piece: number): boolean => !recompress && isWholeImage(records, pieces, piece);
  const headersBytes = (Math.ceil((to - from) / packRecordsMax) + 1) * packHeaderBytes;
  const headBytes = isAlone ? packHeaderBytes : headersBytes;
  const images = planImages(records, pieces, from, to, headBytes, (piece) => !isWhole(piece));
  let at = alignUp(images.endOffset, packHeaderBytes);
  const encodeAt = new Float64Array(to - from).fill(-1);
  let outBytes = headersBytes;
  const image = images.images[0];
  if (isAlone && image !== undefined && image.decodedAt >= 0) {
    // The largest images just fit: the compressed piece takes the place of the stored image, which is used up by then.
    const regionBytes = Math.max(records.storedBytes[image.record]!, pieces.blocksLb[from]! * lbBytes);
    image.decodedAt = packHeaderBytes + regionBytes;
    encodeAt[0] = packHeaderBytes;
    at = image.decodedAt + records.imageLb[image.record]! * lbBytes;
  } else {
    for (let piece = from; piece < to; piece++) {
      const record = pieces.record[piece]!;
      if (records.kind[record] !== RecordKind.normal) continue;
      if (isWhole(piece)) {
        outBytes += records.storedBytes[record]!;
        continue;
      }
      encodeAt[piece - from] = at;
      at += pieces.blocksLb[piece]! * lbBytes;
      outBytes += pieces.blocksLb[piece]! * lbBytes;
    }
  }
  const packsAt = forWire && !isAlone ? alignUp(at, packHeaderBytes) : -1;
  if (packsAt >= 0) at = packsAt + outBytes;
  const lease = await leaseBatch(io, Math.max(at, headBytes));
  try {
    await readImages(set, images, lease);
    if (options.isVerified !== true) await checkImages(io, set, images, lease, true);
    const made = await makeRecords(io, plan, from, to, images, lease, encodeAt, options.compress ?? defaultCompress);
    return { lease, records: made, headersAt: 0, packsAt };
  } catch (error) {
    lease.release();
    throw error;
  }
}

/** The records of the pieces [from, to): passed through where `encodeAt` is −1, compressed anew elsewhere. */
async function makeRecords(
  io: DiffIo,
  plan: MergePlan,
  from: number,
  to: number,
  images: ImagePlan,
  lease: Memory,
  encodeAt: Float64Array,
  compress: CompressOption,
): Promise<OutRecord[]> {
  const { records, pieces } = plan;
  const items: CodecItem[] = [];
  for (let piece = from; piece < to; piece++) {
    if (encodeAt[piece - from]! < 0) continue;
    const sizeBytes = pieces.blocksLb[piece]! * lbBytes;
    const expanded = expandedOf(records, images, images.imageOfPiece[piece - from]!, lease);
    const source = expanded.slice(sliceOf(records, pieces, piece) * lbBytes, sizeBytes);
    items.push({ source, target: lease.slice(encodeAt[piece - from]!, sizeBytes) });
  }
  const encoded = items.length > 0 ? await io.compute.encode(items, compress) : [];
  const made: OutRecord[] = [];
  let item = 0;
  for (let piece = from; piece < to; piece++) {
    const record = pieces.record[piece]!;
    const addressLb = pieces.addressLb[piece]!;
    const blocksLb = pieces.blocksLb[piece]!;
    const kind = records.kind[record]! as RecordKind;
    if (kind !== RecordKind.normal) {
      made.push({ addressLb, blocksLb, kind, codec: Codec.none, checksum: 0, stored: undefined });
    } else if (encodeAt[piece - from]! < 0) {
      const stored = storedOf(records, images, images.imageOfPiece[piece - from]!, lease);
      const codec = records.codec[record]! as Codec;
      made.push({ addressLb, blocksLb, kind, codec, checksum: records.checksum[record]!, stored });
    } else {
      const { source, target } = items[item]!;
      const result = encoded[item]!;
      item++;
      if (result.isZero) {
        // The part that is left may be all zero though the whole was not; the compressor has nothing for it.
        const zero = { kind: RecordKind.allZero, codec: Codec.none, checksum: 0, stored: undefined };
        made.push({ addressLb, blocksLb, ...zero });
      } else {
        const stored = result.codec === Codec.none ? source : target!.slice(0, result.storedBytes);
        made.push({ addressLb, blocksLb, kind, codec: result.codec, checksum: result.checksum, stored });
      }
    }
  }
  return made;
}

/** Writes the packs of a batch with few large gathering writes. */
async function writeBatch(io: DiffIo, writer: SortedDiffWriter, batch: OutBatch | PackedBatch): Promise<void> {
  if ("packs" in batch) {
    const all = emptyStats();
    for (const pack of batch.packs) addStats(all, pack.stats);
    const last = batch.packs[batch.packs.length - 1]!;
    await writer.appendParts([batch.lease.slice(0, last.offsetBytes + last.sizeBytes)], all, last.endLb);
    return;
  }
  const writes: Promise<void>[] = [];
  let parts: Memory[] = [];
  let stats = emptyStats();
  let endLb = 0;
  for (const pack of buildPacks(io, batch)) {
    if (parts.length + pack.parts.length + 1 > 1024) {
      writes.push(writer.appendParts(parts, stats, endLb));
      parts = [];
      stats = emptyStats();
    }
    parts.push(pack.header);
    for (const part of pack.parts) pushJoined(parts, part, batch.lease);
    addStats(stats, pack.stats);
    endLb = pack.endLb;
  }
  writes.push(writer.appendParts(parts, stats, endLb));
  await settleAll(writes);
}
