/** @module What the diff modules share: their surroundings, options, statistics and the shapes handed between stages. */
import { WalbError } from "../errors.ts";
import type { StoredData } from "../log/batch.ts";
import type { LogRecordKind } from "../log/pack.ts";
import type { CompressOption } from "../native/codec.ts";
import { Codec } from "../native/codec.ts";
import type { Memory } from "../native/memory.ts";
import type { Platform } from "../platform/platform.ts";

/** The part of the platform that diffs need; every {@link Platform} is one. */
export type DiffIo = Pick<Platform, "disk" | "memory" | "compute">;

/** Kinds of a wdiff record. No kind is privileged: on overlap the later record wins. */
export const RecordKind = { normal: 0, allZero: 1, discard: 2 } as const;
export type RecordKind = (typeof RecordKind)[keyof typeof RecordKind];

/** File kinds, as in the header's type field. */
export const DiffFileKind = { sorted: 0, indexed: 1 } as const;
export type DiffFileKind = (typeof DiffFileKind)[keyof typeof DiffFileKind];

/** Largest record by default: 1 MiB. 0 means no limit (normal data is then cut at {@link imageLbMax}). */
export const defaultMaxIoLb = 2048;
/** Largest image (unit of compression) that is read or written: the largest IO of a log; one pack can carry it. */
export const imageLbMax = 65535;
/** Addresses end here (8 PiB less a block), so that byte offsets, ends included, stay safe integers. */
export const addressLbMax = 2 ** 44 - 1;
/** What conversions and merges compress with when nothing is said; as the original. */
export const defaultCompress: CompressOption = { codec: Codec.snappy, level: 0 };

/** Counts of a diff; sizes in LB are sums of record sizes, `dataBytes` is stored (compressed) data. */
export interface DiffStats {
  files: number;
  normalRecords: number;
  zeroRecords: number;
  discardRecords: number;
  normalLb: number;
  zeroLb: number;
  discardLb: number;
  dataBytes: number;
}

/** One write of a log, as conversion takes it. `data` has at least `sizeLb` · 512 bytes; only kind `data` needs it. */
export interface LogIo {
  readonly offsetLb: number;
  readonly sizeLb: number;
  readonly kind: LogRecordKind;
  readonly data?: Memory | undefined;
  /** `data` as it can be stored without compressing it again: exactly `sizeLb` · 512 bytes of it. */
  readonly stored?: StoredData | undefined;
}

/** What an open diff file is. */
export interface DiffSource {
  readonly path: string;
  readonly kind: DiffFileKind;
  /** 16 bytes; of the log device the diff came from, zero when unknown. */
  readonly uuid: Uint8Array;
  readonly fileBytes: number;
  /** Records [first, end) of the set's index are of this file. */
  readonly firstRecord: number;
  readonly endRecord: number;
}

/** How discards are applied: `zero` makes them read back as zeroes (default), `ignore` leaves the old data. */
export type DiscardPolicy = "zero" | "ignore" | "passdown";

/** Progress of a long operation, in logical blocks. */
export interface DiffProgress {
  readonly doneLb: number;
  readonly totalLb: number;
}

/** A pack of the sorted kind, as it goes over the wire or into a file: a 4096-byte header and the data behind it. */
export interface DiffPack {
  /** All of the pack, at most 4096 + 32 MiB. Valid until {@link release}. */
  readonly memory: Memory;
  readonly records: number;
  /** Gives the memory back; exactly once. */
  release(): void;
}

/** @throws WalbError `cancelled` when the signal has aborted. */
export function checkAborted(signal: AbortSignal | undefined, step: string): void {
  if (signal?.aborted === true) {
    throw new WalbError("cancelled", { what: `${step} was cancelled`, where: { step }, cause: signal.reason });
  }
}
