/**
 * @module Codec numbers and the batch of codec jobs that one pool job runs.
 *
 * Source of the numbers: `docs/formats.md`, wdiff compression types.
 */
import type { ChosenRows, PackPlace, ParsedPacks, RecordColumns, RowLimits } from "./columns.ts";
import type { Memory } from "./memory.ts";

/** wdiff compression types. gzip is a zlib stream, lzma an .xz container, snappy and lz4 raw blocks, zstd a frame. */
export const Codec = { none: 0, gzip: 1, snappy: 2, lzma: 3, lz4: 4, zstd: 5 } as const;
export type Codec = (typeof Codec)[keyof typeof Codec];
export const codecNames = ["none", "gzip", "snappy", "lzma", "lz4", "zstd"] as const;

/** Codec and level; level 0 is the codec's default. */
export interface CompressOption {
  readonly codec: Codec;
  readonly level: number;
}

/**
 * One unit of work of a batch. Which fields count depends on the operation; results are written back by the batch.
 * Addresses come from {@link Memory}; the caller keeps every lease until the batch has completed.
 */
export interface CodecItem {
  /** Input. */
  source: Memory;
  /** Output space; may be undefined for `checksum` and `isZero`. */
  target?: Memory;
}

/** Result of `encode` for one item. */
export interface Encoded {
  /** True when every input byte is zero: then nothing was written. */
  readonly isZero: boolean;
  /** Codec of the stored bytes: the asked one, or `none` when it would not have become strictly smaller. */
  readonly codec: Codec;
  /** Stored bytes; they are in the target, or, when `codec` is none, in the source (the target is untouched). */
  readonly storedBytes: number;
  /** walb checksum of the stored bytes, salt 0. */
  readonly checksum: number;
}

/** One stored image to decode: checked against its checksum, then expanded to exactly `target.sizeBytes`. */
export interface DecodeItem {
  readonly source: Memory;
  readonly codec: Codec;
  readonly checksum: number;
  readonly target: Memory;
}

/** One image without a checksum of its own, to expand to exactly `target.sizeBytes`; with codec none it stays where it is. */
export interface ExpandItem {
  readonly source: Memory;
  readonly codec: Codec;
  /** With codec none only its size counts. */
  readonly target: Memory;
}

/** Result of `expand` for one item. */
export interface Expanded {
  /** False when it does not expand to exactly the size asked; nothing else counts then. */
  readonly isGood: boolean;
  readonly isZero: boolean;
  /** walb checksum of the data, salt 0. That with another salt is less by the salt, modulo 2^32. */
  readonly checksum: number;
  /** walb checksum of the stored bytes, salt 0. */
  readonly storedChecksum: number;
}

/** One range to verify with the walb checksum. */
export interface VerifyItem {
  readonly source: Memory;
  readonly salt: number;
  readonly checksum: number;
}

/**
 * CPU work, off the JavaScript thread in production and inline in the simulator. One call is one pool job, however
 * many items it has: callers batch 64 KiB to 1 MiB of data in a call.
 */
export interface Compute {
  /** Zero test, compression, checksum of each item. `target.sizeBytes` ≥ `source.sizeBytes`. */
  encode(items: readonly CodecItem[], option: CompressOption): Promise<Encoded[]>;
  /**
   * As {@link encode}, but the codec's output is always kept, whatever its size (full-sync chunks have no way to say
   * "stored"). `target.sizeBytes` ≥ `maxEncodedBytes(source.sizeBytes)`. With codec none the data stays in the source.
   */
  encodeAlways(items: readonly CodecItem[], option: CompressOption): Promise<Encoded[]>;
  /**
   * Verify and expand. The answer has one entry per item: 0 good, 1 checksum differs, 2 not decodable to exactly the
   * size asked. Codec `none` copies.
   */
  decode(items: readonly DecodeItem[]): Promise<Uint8Array>;
  /** Expands, and tells all that a receiver wants to know of the data. Codec none does not copy. */
  expand(items: readonly ExpandItem[]): Promise<Expanded[]>;
  /**
   * Units of the log stream (a zero byte, v32 compressed size or 0, v32 size, data compressed with snappy where that is
   * smaller), one behind the other in `target`, which has {@link maxFramedBytes} for each. @returns their bytes.
   */
  frame(items: readonly FrameItem[], target: Memory): Promise<number>;
  /** One byte per item: 1 = the walb checksum of the bytes with the salt equals the expected one. */
  verify(items: readonly VerifyItem[]): Promise<Uint8Array>;
  /** walb checksums of the items with one salt. */
  checksums(items: readonly Memory[], salt: number): Promise<Uint32Array>;
  /** MurmurHash3 x64 128, 16 bytes an item. */
  hashes(items: readonly Memory[], seed: number): Promise<Uint8Array>;
  /** The exclusive or of the hashes of `count` runs of `sizeBytes` zeroes, each with the seed after the one before (behind
   * the last one comes 0): 16 bytes. */
  hashZeroes(sizeBytes: number, firstSeed: number, count: number): Promise<Uint8Array>;
  /** The same as `checksums` for one small block, at once on the calling thread (headers of up to 4 KiB). */
  checksumNow(memory: Uint8Array, salt: number): number;
  /** All-zero test at once on the calling thread, for small ranges. */
  isZeroNow(memory: Uint8Array): boolean;
  /** Takes the pack headers of a sorted diff into an index, at once: those up to the first that breaks a rule. */
  parsePacksNow(headers: Uint8Array, packs: number, columns: RecordColumns, place: PackPlace): ParsedPacks;
  /** Chooses records [from, …) before `end` for one transfer, at once. @throws WalbError `internal` for numbers of no file. */
  chooseRowsNow(columns: RecordColumns, from: number, end: number, limits: RowLimits): ChosenRows;
}

/** Data to frame; zeroes where there is no memory. */
export interface FrameItem {
  readonly memory: Memory | undefined;
  readonly sizeBytes: number;
}

/** Room that a framed item takes, and may need while it is compressed. */
export function maxFramedBytes(sizeBytes: number): number {
  return sizeBytes + Math.floor(sizeBytes / 6) + 64;
}

/** Upper bound of the encoded size of `sizeBytes` bytes for every codec. */
export function maxEncodedBytes(sizeBytes: number): number {
  return sizeBytes + Math.floor(sizeBytes / 4) + 4096;
}
