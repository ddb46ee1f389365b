/**
 * @module Conversion of a log into a diff, indexed (as the proxy stores what it receives) or sorted.
 *
 * Later IOs of the log win over earlier ones; data that is all zero becomes an all-zero record.
 */
import type { Codec } from "../native/codec.ts";
import type { Memory } from "../native/memory.ts";
import type { DiskFile } from "../platform/disk.ts";
import { alignUp, checkRange } from "../units.ts";
import type { AppendFile } from "./append.ts";
import { SourceFiles } from "./files.ts";
import {
  encodeFileHeader,
  encodeIndexRecord,
  encodeIndexSuper,
  fileHeaderBytes,
  indexRecordBytes,
  indexSuperBytes,
} from "./format.ts";
import { planMerge } from "./merge.ts";
import { type MergeOutputOptions, writeMerged } from "./output.ts";
import { alignedPartLb, overlayRecords, type PieceList, splitLimitsLb } from "./overlay.ts";
import { DiffSet } from "./set.ts";
import { type ConvertOptions, ImageSpool } from "./spool.ts";
import { countRecord, emptyStats } from "./stats.ts";
import { DiffFileKind, type DiffIo, type DiffStats, defaultMaxIoLb, type LogIo, RecordKind } from "./types.ts";

export type { ConvertOptions } from "./spool.ts";

/** Index records written at once: 768 KiB. */
const windowRecords = 16384;

/** Writes an indexed diff from the IOs of a log. Not durable until `commitDiffFile`. */
export class IndexedDiffWriter {
  readonly #io: DiffIo;
  readonly #file: AppendFile;
  readonly #spool: ImageSpool;
  readonly #maxIoLb: number;

  private constructor(io: DiffIo, file: AppendFile, spool: ImageSpool, maxIoLb: number) {
    this.#io = io;
    this.#file = file;
    this.#spool = spool;
    this.#maxIoLb = maxIoLb;
  }

  /** Starts a file. @param file new and empty, opened for writing, not direct. */
  static async create(io: DiffIo, file: AppendFile, options: ConvertOptions): Promise<IndexedDiffWriter> {
    const maxIoLb = checkRange(options.maxIoLb ?? defaultMaxIoLb, 0, 0xffff_ffff, "maxIoLb");
    const lease = await io.memory.lease(fileHeaderBytes);
    try {
      encodeFileHeader(lease.bytes, DiffFileKind.indexed, options.uuid, io.compute);
      await file.write(0, lease);
    } finally {
      lease.release();
    }
    return new IndexedDiffWriter(io, file, new ImageSpool(io, file, fileHeaderBytes, 0, options), maxIoLb);
  }

  /** Bytes of stored images so far. */
  get dataBytes(): number {
    return this.#spool.dataBytes;
  }

  /**
   * Adds IOs in log order. Resolves when their data is no longer needed. Calls may overlap, to keep the stages busy;
   * the order is that of the calls. The data must not be leased from the pool in the writer's `io`, or the two could
   * wait for each other: give the writer a carved one. @throws WalbError `out-of-range` for an IO beyond the volume; I/O errors.
   */
  add(ios: readonly LogIo[]): Promise<void> {
    return this.#spool.add(ios);
  }

  /** Waits for what is under way, then writes the index. @returns the counts of the file. */
  async finish(): Promise<DiffStats> {
    await this.#spool.drain();
    const indexOffset = alignUp(this.#spool.endOffset, 8);
    const pieces = overlayRecords(this.#spool.records);
    const lease = await this.#io.memory.lease(Math.max(1, Math.min(windowRecords, pieces.count)) * indexRecordBytes);
    try {
      const padding = lease.slice(0, indexOffset - this.#spool.endOffset);
      padding.bytes.fill(0);
      if (padding.sizeBytes > 0) await this.#file.write(this.#spool.endOffset, padding);
      const { stats, recordCount } = await this.#writeIndex(pieces, indexOffset, lease);
      encodeIndexSuper(lease.bytes, indexOffset, recordCount, this.#spool.ioCount, this.#io.compute);
      const superOffset = indexOffset + recordCount * indexRecordBytes;
      await this.#file.write(superOffset, lease.slice(0, indexSuperBytes));
      return stats;
    } finally {
      lease.release();
    }
  }

  /** Waits for what is under way and gives up; the caller closes and removes the file. */
  async abandon(): Promise<void> {
    await this.#spool.drain().catch(() => undefined);
  }

  /** Writes the records of the index as they are split, so that they are never all in memory. */
  async #writeIndex(
    pieces: PieceList,
    indexOffset: number,
    window: Memory,
  ): Promise<{ stats: DiffStats; recordCount: number }> {
    const { records, dataBytes } = this.#spool;
    const windowMax = Math.floor(window.sizeBytes / indexRecordBytes);
    const limits = splitLimitsLb(pieces, records, this.#maxIoLb);
    const stats: DiffStats = { ...emptyStats(), files: 1, dataBytes };
    const words = new Uint32Array(window.bytes.buffer, window.bytes.byteOffset, windowMax * 12);
    let recordCount = 0;
    let count = 0;
    const flush = async (): Promise<void> => {
      const offset = indexOffset + recordCount * indexRecordBytes;
      if (count > 0) await this.#file.write(offset, window.slice(0, count * indexRecordBytes));
      recordCount += count;
      count = 0;
    };
    for (let i = 0; i < pieces.count; i++) {
      const record = pieces.record[i]!;
      const kind = records.kind[record]! as RecordKind;
      const maxLb = kind === RecordKind.normal ? limits.dataLb : limits.emptyLb;
      let addressLb = pieces.addressLb[i]!;
      for (let leftLb = pieces.blocksLb[i]!; leftLb > 0; ) {
        const blocksLb = alignedPartLb(addressLb, leftLb, maxLb);
        countRecord(stats, kind, blocksLb);
        encodeIndexRecord(
          words,
          count * 12,
          addressLb,
          blocksLb,
          kind,
          records.codec[record]! as Codec,
          records.dataOffset[record]!,
          records.storedBytes[record]!,
          addressLb - records.addressLb[record]!,
          records.imageLb[record]!,
          records.checksum[record]!,
        );
        addressLb += blocksLb;
        leftLb -= blocksLb;
        count++;
        if (count === windowMax) await flush();
      }
    }
    await flush();
    return { stats, recordCount };
  }
}

/**
 * Writes a sorted diff from the IOs of a log of any length: the images go to a spool file first, so that memory holds
 * only their index.
 */
export class SortedDiffConverter {
  readonly #io: DiffIo;
  readonly #spoolFile: DiskFile;
  readonly #spool: ImageSpool;
  readonly #options: ConvertOptions;
  readonly #maxIoLb: number;

  /** @param spoolFile new and empty, opened for writing, not direct; the caller closes and removes it in the end. */
  constructor(io: DiffIo, spoolFile: DiskFile, options: ConvertOptions) {
    this.#io = io;
    this.#spoolFile = spoolFile;
    this.#options = options;
    this.#maxIoLb = checkRange(options.maxIoLb ?? defaultMaxIoLb, 0, 0xffff_ffff, "maxIoLb");
    // Long IOs are compressed in the pieces they will have, so that only overwritten ones are compressed twice.
    this.#spool = new ImageSpool(io, spoolFile, 0, this.#maxIoLb, options);
  }

  /** As {@link IndexedDiffWriter.add}. */
  add(ios: readonly LogIo[]): Promise<void> {
    return this.#spool.add(ios);
  }

  /** Writes the diff. @param file new and empty, opened for writing, not direct. @returns the counts of the file. */
  async finish(file: DiskFile, output: MergeOutputOptions = {}): Promise<DiffStats> {
    await this.#spool.drain();
    const { records } = this.#spool;
    const { uuid, compress } = this.#options;
    const { path } = this.#spoolFile;
    const fileBytes = this.#spool.endOffset;
    const source = { path, kind: DiffFileKind.indexed, uuid, fileBytes, firstRecord: 0, endRecord: records.count };
    const set = new DiffSet([source], records, emptyStats(), new SourceFiles(this.#io.disk, [path], 1));
    try {
      const plan = planMerge(records, { maxIoLb: this.#maxIoLb });
      return await writeMerged(this.#io, set, plan, file, {
        ...(compress === undefined ? {} : { compress }),
        ...output,
      });
    } finally {
      await set.close();
    }
  }

  /** Waits for what is under way and gives up; the caller closes and removes the files. */
  async abandon(): Promise<void> {
    await this.#spool.drain().catch(() => undefined);
  }
}
