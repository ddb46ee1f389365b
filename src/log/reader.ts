/**
 * @module Reading consecutive packs from a log store, with large reads, checksums verified in batches, and ring wrap.
 */
import type { Compute } from "../native/codec.ts";
import type { Memory, MemoryPool } from "../native/memory.ts";
import type { DiskFile } from "../platform/disk.ts";
import { mib } from "../units.ts";
import type { PackBatch } from "./batch.ts";
import { lsidOffsetBytes, pbToRingEnd, type RingGeometry } from "./geometry.ts";
import { wholeLsid } from "./lsid.ts";
import {
  isPackFault,
  type LogPackHeader,
  nextPackLsid,
  type PackFault,
  packFaultError,
  tryDecodePackHeader,
} from "./pack.ts";
import { type PackSource, scanPacks, scanStopError } from "./scan.ts";

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

/** The ring of a log store as a source of packs. */
export function ringSource(file: DiskFile, ring: RingGeometry): PackSource {
  return {
    pbsBytes: ring.pbsBytes,
    salt: ring.salt,
    lsidBase: ring.lsidBase ?? 0n,
    read: async (lsid, target) => {
      await readRing(file, ring, lsid, target);
      return target.sizeBytes;
    },
    place: (lsid) => ({ file: file.path, offsetBytes: lsidOffsetBytes(ring, lsid) }),
    contiguousPb: (lsid) => pbToRingEnd(ring, lsid),
  };
}

/** Reads the PB from `lsid` on, around the ring end; `target` holds whole PB and is no larger than the ring. */
export async function readRing(file: DiskFile, ring: RingGeometry, lsid: number, target: Memory): Promise<void> {
  const firstBytes = Math.min(target.sizeBytes, pbToRingEnd(ring, lsid) * ring.pbsBytes);
  const first = file.read(lsidOffsetBytes(ring, lsid), target.slice(0, firstBytes));
  if (firstBytes === target.sizeBytes) return first;
  const second = file.read(ring.ringOffsetPb * ring.pbsBytes, target.slice(firstBytes, target.sizeBytes - firstBytes));
  // Both must have ended before the caller may give the memory back.
  const [one, two] = await Promise.allSettled([first, second]);
  if (one.status === "rejected") throw one.reason;
  if (two.status === "rejected") throw two.reason;
}

/** Reads packs of a log in order. */
export class LogDeviceReader {
  readonly #parts: LogReaderParts;
  readonly #source: PackSource;

  constructor(parts: LogReaderParts) {
    this.#parts = parts;
    this.#source = ringSource(parts.file, parts.ring);
  }

  /**
   * All packs from the one at `fromLsid` up to, not including, `limitLsid`: both must be pack boundaries, and
   * `limitLsid` ≤ permanent. The caller checks afterwards that `oldest` has not passed what it read.
   * @throws WalbError `damaged` naming lsid, file and offset at the first bad header, bad data, or pack that crosses
   * the limit; everything before it has been delivered. `cancelled` when the signal aborts.
   */
  async *packs(fromLsid: number, limitLsid: number, signal?: AbortSignal): AsyncGenerator<PackBatch, void, undefined> {
    const { pool, compute, chunkBytes } = this.#parts;
    const stop = yield* scanPacks({
      source: this.#source,
      pool,
      compute,
      fromLsid,
      limitLsid,
      signal,
      ...(chunkBytes === undefined ? {} : { chunkBytes }),
    });
    if (stop.kind !== "limit") throw scanStopError(stop, this.#source);
  }

  /**
   * Headers only, in order, from a pack boundary up to a limit, without reading large data in between.
   * @throws WalbError `damaged` at the first block that is not the expected header.
   */
  async *headers(fromLsid: number, limitLsid: number): AsyncGenerator<LogPackHeader, void, undefined> {
    const window = new LsidWindow(this.#parts);
    try {
      let lsid = fromLsid;
      while (lsid < limitLsid) {
        const header = await window.headerAt(lsid, limitLsid);
        if (isPackFault(header)) {
          throw packFaultError(header, wholeLsid(lsid, this.#source.lsidBase), this.#source.place(lsid));
        }
        if (header.records.length === 0) return;
        yield header;
        lsid = nextPackLsid(header);
      }
    } finally {
      window.release();
    }
  }

  /** The header at an lsid, or why there is none. */
  async headerAt(lsid: number): Promise<LogPackHeader | PackFault> {
    const window = new LsidWindow(this.#parts);
    try {
      return await window.headerAt(lsid, lsid + 1);
    } finally {
      window.release();
    }
  }

  /**
   * The first lsid in [fromLsid, limitLsid) with a valid header of that lsid, trying each in turn; undefined when
   * there is none. The way to go on behind a damaged pack, for diagnosis.
   */
  async search(fromLsid: number, limitLsid: number): Promise<LogPackHeader | undefined> {
    const window = new LsidWindow(this.#parts);
    try {
      for (let lsid = fromLsid; lsid < limitLsid; lsid += 1) {
        const header = await window.headerAt(lsid, limitLsid);
        if (!isPackFault(header)) return header;
      }
      return undefined;
    } finally {
      window.release();
    }
  }
}

/** One chunk of the ring in memory, moved forward on demand. */
class LsidWindow {
  readonly #parts: LogReaderParts;
  #lease: Awaited<ReturnType<MemoryPool["lease"]>> | undefined;
  #startLsid = 0;
  #sizePb = 0;

  constructor(parts: LogReaderParts) {
    this.#parts = parts;
  }

  async headerAt(lsid: number, limitLsid: number): Promise<LogPackHeader | PackFault> {
    const { file, ring, pool } = this.#parts;
    const { pbsBytes, salt, lsidBase = 0n } = ring;
    if (lsid < this.#startLsid || lsid >= this.#startLsid + this.#sizePb) {
      const chunkPb = Math.max(1, Math.floor((this.#parts.chunkBytes ?? mib) / pbsBytes));
      this.#lease ??= await pool.lease(chunkPb * pbsBytes);
      this.#sizePb = 0;
      const sizePb = Math.min(chunkPb, ring.ringSizePb, limitLsid - lsid);
      await readRing(file, ring, lsid, this.#lease.slice(0, sizePb * pbsBytes));
      this.#startLsid = lsid;
      this.#sizePb = sizePb;
    }
    const block = this.#lease!.bytes.subarray((lsid - this.#startLsid) * pbsBytes).subarray(0, pbsBytes);
    return tryDecodePackHeader(block, { pbsBytes, salt, expectedLsid: lsid, lsidBase });
  }

  release(): void {
    this.#lease?.release();
    this.#lease = undefined;
  }
}
