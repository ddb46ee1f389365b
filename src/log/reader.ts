/**
 * @module Reading consecutive packs from a log store, with large reads, checksums verified in batches, and ring wrap.
 */
import type { Compute } from "../native/codec.ts";
import type { MemoryPool } from "../native/memory.ts";
import type { DiskFile } from "../platform/disk.ts";
import type { PackBatch } from "./batch.ts";
import type { RingGeometry } from "./geometry.ts";

/** What a reader works with. */
export interface LogReaderParts {
  /** The log store. */
  readonly file: DiskFile;
  readonly ring: RingGeometry;
  /** A batch leases one or two chunks, and up to 32 MiB for a single record that is larger than a chunk. */
  readonly pool: MemoryPool;
  readonly compute: Compute;
  /** Size of a read, default 1 MiB, at most 4 MiB is useful. */
  readonly chunkBytes?: number;
}

/** Reads packs of a log in order. */
export class LogDeviceReader {
  constructor(readonly parts: LogReaderParts) {}

  /**
   * All packs from the one at `fromLsid` up to, not including, `limitLsid`: both must be pack boundaries, and
   * `limitLsid` ≤ permanent. The caller checks afterwards that `oldest` has not passed what it read.
   * @throws WalbError `damaged` naming lsid, file and offset at the first bad header, bad data, or pack that crosses
   * the limit; everything before it has been delivered. `cancelled` when the signal aborts.
   */
  packs(fromLsid: number, limitLsid: number, signal?: AbortSignal): AsyncGenerator<PackBatch, void, undefined> {
    throw new Error(`not yet ${fromLsid} ${limitLsid} ${signal}`);
  }
}
