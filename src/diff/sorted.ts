/** @module Writing sorted diff files. */
import type { Memory } from "../native/memory.ts";
import type { AppendFile } from "./append.ts";
import {
  badFormat,
  clearPackHeader,
  encodeFileHeader,
  fileHeaderBytes,
  packHeaderBytes,
  sealPackHeader,
} from "./format.ts";
import type { CheckedPack } from "./pack.ts";
import { addStats, emptyStats } from "./stats.ts";
import { DiffFileKind, type DiffIo, type DiffStats } from "./types.ts";

/** Writes a sorted diff file pack by pack. Not durable until `commitDiffFile`. */
export class SortedDiffWriter {
  readonly stats: DiffStats = { ...emptyStats(), files: 1 };
  readonly #io: DiffIo;
  readonly #file: AppendFile;
  #offset = fileHeaderBytes;
  #endLb = 0;

  private constructor(io: DiffIo, file: AppendFile) {
    this.#io = io;
    this.#file = file;
  }

  /** Starts a file: writes the header. @param file new and empty, opened for writing, not direct. @param uuid 16 bytes. */
  static async create(io: DiffIo, file: AppendFile, uuid: Uint8Array): Promise<SortedDiffWriter> {
    const lease = await io.memory.lease(fileHeaderBytes);
    try {
      encodeFileHeader(lease.bytes, DiffFileKind.sorted, uuid, io.compute);
      await file.write(0, lease);
    } finally {
      lease.release();
    }
    return new SortedDiffWriter(io, file);
  }

  /** End of the last record so far: the next pack must not start below it. */
  get endLb(): number {
    return this.#endLb;
  }

  /** Bytes of the file so far. */
  get fileBytes(): number {
    return this.#offset;
  }

  /**
   * Appends a checked pack as it is. Calls may overlap; their order is the order of the file. The memory must stay until
   * the promise settles.
   */
  async appendPack(pack: CheckedPack): Promise<void> {
    if (pack.startLb < this.#endLb) {
      const place = { file: this.#file.path, offsetBytes: this.#offset };
      throw badFormat(
        `the pack starts at block ${pack.startLb}, before the end of the one before`,
        place,
        "io_address",
      );
    }
    if (pack.stats.normalRecords + pack.stats.zeroRecords + pack.stats.discardRecords === 0) return;
    this.#endLb = pack.endLb;
    addStats(this.stats, pack.stats);
    const offset = this.#offset;
    this.#offset += pack.memory.sizeBytes;
    await this.#file.write(offset, pack.memory);
  }

  /**
   * Appends packs given as headers and data in order; trusted, because this process made them.
   * @param parts at most 1024. @param stats of the packs. @param endLb end of their last record.
   */
  async appendParts(parts: readonly Memory[], stats: DiffStats, endLb: number): Promise<void> {
    this.#endLb = endLb;
    addStats(this.stats, stats);
    const offset = this.#offset;
    for (const part of parts) this.#offset += part.sizeBytes;
    await this.#file.writeGather(offset, parts);
  }

  /** Writes the end pack; all appends must have begun. @returns the counts of the file. */
  async finish(): Promise<DiffStats> {
    const lease = await this.#io.memory.lease(packHeaderBytes);
    try {
      clearPackHeader(lease.bytes);
      sealPackHeader(lease.bytes, lease.view, 0, 0, true, this.#io.compute);
      await this.#file.write(this.#offset, lease);
      this.#offset += packHeaderBytes;
    } finally {
      lease.release();
    }
    return this.stats;
  }
}
