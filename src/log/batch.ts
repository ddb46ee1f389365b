/**
 * @module How packs are handed to consumers of a log: in batches, in log order, with bounded memory.
 */
import type { Codec } from "../native/codec.ts";
import type { Memory } from "../native/memory.ts";
import type { LogPackHeader } from "./pack.ts";

/** The data of one record as it came over the wire: a consumer may keep it as it is. */
export interface StoredData {
  readonly memory: Memory;
  readonly codec: Codec;
  /** walb checksum of `memory`, salt 0. */
  readonly checksum: number;
  /** The data is all zero. */
  readonly isZero: boolean;
}

/**
 * A pack, or a run of consecutive records of a pack that is too large for one batch. Nearly every pack is one part.
 * Header and data checksums have been verified.
 */
export interface PackPart {
  readonly header: LogPackHeader;
  /** The raw header PB in the first part of a pack (`firstRecord` is 0), else undefined. */
  readonly headerMemory: Memory | undefined;
  /** Index in `header.records` of the first record of this part. */
  readonly firstRecord: number;
  /**
   * Data of records `firstRecord`, `firstRecord + 1`, …: whole PB (`recordDataPb` · pbs bytes; only the first
   * `sizeLb` · 512 are meaningful, the slack is passed on as it is). undefined for discards, which have none, and for
   * padding, whose content is undefined: where padding data must be sent, send zeroes.
   */
  readonly data: readonly (Memory | undefined)[];
  /** The same data as it was received, where that is exactly `sizeLb` · 512 bytes of it; as long as `data`. */
  readonly stored?: readonly (StoredData | undefined)[];
  /** True when this part holds the pack's last record. */
  readonly isLast: boolean;
}

/** Parts in log order. All memory is valid until `release()`, which the consumer calls exactly once. */
export interface PackBatch {
  readonly parts: readonly PackPart[];
  /** lsid behind the last whole pack so far: a consumer that stops here can continue from it. */
  readonly endLsid: number;
  release(): void;
}
