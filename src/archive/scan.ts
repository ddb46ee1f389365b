/**
 * @module The image of a volume at a snapshot, read through base and diffs without writing anything: streamed to a
 * client (virt-full-scan), hashed (bhash, hash backup).
 */
import { planMerge } from "../diff/merge.ts";
import { checkAborted, type DiffIo } from "../diff/types.ts";
import { VirtualImage } from "../diff/virtual.ts";
import { inOrder } from "../diff/window.ts";
import { WalbError } from "../errors.ts";
import type { ByteRange } from "../image/image.ts";
import { Codec, maxEncodedBytes } from "../native/codec.ts";
import type { Memory, MemoryPool } from "../native/memory.ts";
import type { DiskFile } from "../platform/disk.ts";
import { scanList } from "../snapshot/restore.ts";
import { applicableList } from "../snapshot/select.ts";
import type { DiffMeta } from "../snapshot/types.ts";
import { alignDown, alignUp, lbBytes, mib } from "../units.ts";
import { hashBytes } from "../wire/hash-stream.ts";
import type { BulkToScan } from "../wire/scan.ts";
import { openBase } from "./base-image.ts";
import { explained, openDiffs } from "./diffs.ts";
import type { ArchiveMemory } from "./memory.ts";
import type { ArchiveVolume } from "./volume.ts";

const bulksInFlightMax = 4;
/** Most bytes that one job hashes; a bulk may be larger. */
const hashJobBytesMax = mib;
/** Most hashes of holes that are given at once. */
const holeHashesMax = 1024;
/** Most bytes of a hole that one job hashes: a few milliseconds. */
const holeJobBytesMax = 256 * mib;

/** Part of a range that one job hashes. */
interface Piece {
  readonly offsetBytes: number;
  readonly sizeBytes: number;
  /** Of whole bulks of zeroes. */
  readonly isHole: boolean;
}

/** All multiples of a bulk. */
interface PieceLimits {
  readonly bulkBytes: number;
  readonly readBytesMax: number;
  readonly holeBytesMax: number;
}

/** What to scan. */
export interface ScanRange {
  /** The newest snapshot when there is none, clean or not. */
  readonly gid?: bigint;
  /** Instead of a gid: exactly these diffs over the base image; none for the image as it is. */
  readonly diffs?: readonly DiffMeta[];
  /** May be more than the volume has: that reads as zeroes. */
  readonly sizeLb: number;
  readonly bulkLb: number;
}

/** @throws WalbError `out-of-range` for more than the volume has. */
function checkSize(volume: ArchiveVolume, sizeLb: number): void {
  if (sizeLb <= volume.store.sizeLb) return;
  throw new WalbError("out-of-range", {
    what: `${sizeLb} LB are asked for, but the volume has ${volume.store.sizeLb}`,
    where: { volume: volume.name, field: "size" },
  });
}

/** Memory of a scan: of the image, and of what is read from it. */
export type ScanMemory = Pick<ArchiveMemory, "working" | "bulks">;

/** An opened image of a volume at a snapshot. */
export class SnapshotImage {
  readonly #volume: ArchiveVolume;
  readonly #io: DiffIo;
  /** What is read goes here; the image takes its memory from `io`. */
  readonly #targets: MemoryPool;
  readonly #range: ScanRange;
  readonly #image: VirtualImage;
  readonly #base: DiskFile;
  readonly #baseBytes: number;
  readonly #close: () => Promise<void>;
  /** What was looked for last: from here on there is no data up to a start. */
  #found = { fromBytes: 0, startBytes: 0, endBytes: 0 };

  private constructor(
    volume: ArchiveVolume,
    memory: ScanMemory,
    range: ScanRange,
    image: VirtualImage,
    base: DiskFile,
    baseBytes: number,
    close: () => Promise<void>,
  ) {
    this.#volume = volume;
    this.#io = memory.working;
    this.#targets = memory.bulks;
    this.#range = range;
    this.#image = image;
    this.#base = base;
    this.#baseBytes = baseBytes;
    this.#close = close;
  }

  /** @throws WalbError `not-restorable`, `damaged`. */
  static async open(
    volume: ArchiveVolume,
    memory: ScanMemory,
    range: ScanRange,
    signal: AbortSignal,
  ): Promise<SnapshotImage> {
    const { store } = volume;
    const { working: io } = memory;
    if (range.diffs === undefined) checkSize(volume, range.sizeLb);
    const state = volume.requireBase();
    const metas =
      range.diffs ??
      (range.gid === undefined ? applicableList(store.set, state.from) : scanList(store.set, state, range.gid));
    const diffs = metas.map((meta) => store.diff(meta));
    const round = await openDiffs(volume, io, diffs, { signal });
    try {
      const base = await openBase(volume, "read");
      try {
        const sizeLb = Math.max(store.sizeLb, range.sizeLb);
        const image = await VirtualImage.open(io, round.open, planMerge(round.open.records), base, { sizeLb });
        const baseBytes = await base.size();
        return new SnapshotImage(volume, memory, range, image, base, baseBytes, async () => {
          await base.close();
          await round.close();
        });
      } catch (error) {
        await base.close();
        throw error;
      }
    } catch (error) {
      await round.close();
      throw await explained(volume, error);
    }
  }

  close(): Promise<void> {
    return this.#close();
  }

  /** Where the image may hold data next, as a `DiskFile` tells. */
  async nextData(offsetBytes: number): Promise<ByteRange | undefined> {
    const { startBytes, endBytes: endOfFirst } = await this.#dataFrom(offsetBytes);
    if (startBytes === Number.POSITIVE_INFINITY) return undefined;
    let endBytes = endOfFirst;
    // Pieces of diffs may follow each other: a job takes many.
    while (endBytes - startBytes < hashJobBytesMax && endBytes < this.#image.sizeBytes) {
      const next = await this.#dataFrom(endBytes);
      if (next.startBytes > endBytes) break;
      ({ endBytes } = next);
    }
    return { startBytes, endBytes };
  }

  /** The bulks of the range in order, compressed with snappy; zero ones without data. */
  async *bulks(signal: AbortSignal): AsyncGenerator<BulkToScan, void> {
    const { sizeLb, bulkLb } = this.#range;
    let offsetLb = 0;
    const start = (): Promise<BulkToScan> | undefined => {
      if (offsetLb >= sizeLb) return undefined;
      checkAborted(signal, "the scan");
      const at = offsetLb;
      offsetLb += bulkLb;
      return this.#bulk(at, Math.min(bulkLb, sizeLb - at), signal);
    };
    try {
      yield* inOrder(start, bulksInFlightMax, (bulk) => bulk.release());
    } catch (error) {
      throw await explained(this.#volume, error);
    }
  }

  /** XOR of the hashes of all bulks, each with its number as seed: 16 bytes. */
  async hash(signal: AbortSignal, onProgress?: (doneBytes: number) => void): Promise<Uint8Array> {
    const bulkBytes = this.#range.bulkLb * lbBytes;
    const sum = new Uint8Array(16);
    const limits = { bulkBytes, readBytesMax: bulkBytes, holeBytesMax: alignDown(holeJobBytesMax, bulkBytes) };
    const hash = ({ offsetBytes, sizeBytes, isHole }: Piece): Promise<Uint8Array> => {
      const seed = (offsetBytes / bulkBytes) % 0x1_0000_0000;
      if (isHole) return this.#io.compute.hashZeroes(bulkBytes, seed, sizeBytes / bulkBytes);
      return this.#bulkHash(offsetBytes, sizeBytes, seed, signal);
    };
    for await (const { piece, result } of this.#hashed(limits, "the scan", signal, hash)) {
      for (let i = 0; i < 16; i++) sum[i] = sum[i]! ^ result[i]!;
      onProgress?.(piece.offsetBytes + piece.sizeBytes);
    }
    return sum;
  }

  /** Hashes of all bulks in order, 16 bytes each, in pieces. */
  async *hashes(seed: number, signal: AbortSignal): AsyncGenerator<Uint8Array, void> {
    const bulkBytes = this.#range.bulkLb * lbBytes;
    const zeroes = await this.#hashZeroes(bulkBytes, seed);
    const readBytesMax = Math.max(bulkBytes, alignDown(hashJobBytesMax, bulkBytes));
    const limits = { bulkBytes, readBytesMax, holeBytesMax: holeHashesMax * bulkBytes };
    const hash = async ({ offsetBytes, sizeBytes, isHole }: Piece): Promise<Uint8Array> =>
      isHole
        ? zeroes.subarray(0, (sizeBytes / bulkBytes) * hashBytes)
        : await this.#hashRange(offsetBytes, sizeBytes, bulkBytes, seed);
    for await (const { result } of this.#hashed(limits, "the comparison", signal, hash)) yield result;
  }

  /** Runs jobs over the whole range, several at once; their results come in order. */
  async *#hashed(
    limits: PieceLimits,
    what: string,
    signal: AbortSignal,
    hash: (piece: Piece) => Promise<Uint8Array>,
  ): AsyncGenerator<{ readonly piece: Piece; readonly result: Uint8Array }, void> {
    const jobs: { readonly piece: Piece; readonly result: Promise<Uint8Array> }[] = [];
    const first = async () => {
      const { piece, result } = jobs.shift()!;
      return { piece, result: await result };
    };
    try {
      for await (const piece of this.#pieces(limits)) {
        checkAborted(signal, what);
        const result = hash(piece);
        // The failure is met when the job's turn comes; until then it must not count as unhandled.
        result.catch(() => undefined);
        jobs.push({ piece, result });
        if (jobs.length >= bulksInFlightMax) yield await first();
      }
      while (jobs.length > 0) yield await first();
    } catch (error) {
      throw await explained(this.#volume, error);
    } finally {
      // Nothing may read from files that are being closed.
      await Promise.allSettled(jobs.map(({ result }) => result));
    }
  }

  /** The range in whole bulks: holes, and what is to be read. A short last bulk has another hash: it is read. */
  async *#pieces({ bulkBytes, readBytesMax, holeBytesMax }: PieceLimits): AsyncGenerator<Piece, void> {
    const endBytes = this.#range.sizeLb * lbBytes;
    for (let offsetBytes = 0; offsetBytes < endBytes; ) {
      const holeEnd = Math.min(await this.#holeEnd(offsetBytes), offsetBytes + holeBytesMax, endBytes);
      const holeBytes = alignDown(holeEnd - offsetBytes, bulkBytes);
      const isHole = holeBytes > 0;
      const sizeBytes = isHole ? holeBytes : Math.min(readBytesMax, endBytes - offsetBytes);
      yield { offsetBytes, sizeBytes, isHole };
      offsetBytes += sizeBytes;
    }
  }

  /** Reads what the diffs have data for in a range, and forgets it. @returns bytes read. */
  async readThrough(
    fromBytes: number,
    toBytes: number,
    { signal, progress }: { readonly signal: AbortSignal; progress(doneBytes: number): void },
  ): Promise<number> {
    let at = fromBytes;
    let readBytes = 0;
    const start = async (): Promise<{ readonly job: Promise<number> } | undefined> => {
      // Discards can be as long as the volume: their zeroes are not read.
      at = Math.max(at, Math.min(toBytes, this.#image.nextDataOfDiffsLb(at / lbBytes) * lbBytes));
      if (at >= toBytes) return undefined;
      checkAborted(signal, "reading the image");
      // Short gaps are read along: one read of a MiB is cheaper than many.
      const sizeBytes = Math.min(hashJobBytesMax, toBytes - at);
      await this.#volume.rates.scan.take(sizeBytes, signal);
      const offsetBytes = at;
      at += sizeBytes;
      return { job: this.#readRange(offsetBytes, sizeBytes) };
    };
    const jobs: Promise<number>[] = [];
    try {
      for (;;) {
        const started = jobs.length < bulksInFlightMax ? await start() : undefined;
        if (started !== undefined) {
          started.job.catch(() => undefined);
          jobs.push(started.job);
          continue;
        }
        const first = jobs.shift();
        if (first === undefined) return readBytes;
        readBytes += await first;
        progress(at - fromBytes);
      }
    } catch (error) {
      throw await explained(this.#volume, error);
    } finally {
      await Promise.allSettled(jobs);
    }
  }

  async #readRange(offsetBytes: number, sizeBytes: number): Promise<number> {
    const lease = await this.#targets.lease(sizeBytes);
    try {
      await this.#image.read(offsetBytes, lease.slice(0, sizeBytes));
      return sizeBytes;
    } finally {
      lease.release();
    }
  }

  async #hashRange(offsetBytes: number, sizeBytes: number, bulkBytes: number, seed: number): Promise<Uint8Array> {
    const lease = await this.#targets.lease(sizeBytes);
    try {
      return await this.readHashed(offsetBytes, lease.slice(0, sizeBytes), bulkBytes, seed);
    } finally {
      lease.release();
    }
  }

  /** Reads and hashes consecutive chunks, as a `DiskFile` does. */
  async readHashed(offsetBytes: number, target: Memory, bulkBytes: number, seed: number): Promise<Uint8Array> {
    const { sizeBytes } = target;
    const endBytes = offsetBytes + sizeBytes;
    const coveredBytes = this.#image.nextCoveredLb(offsetBytes / lbBytes) * lbBytes;
    if (coveredBytes >= endBytes && endBytes <= this.#baseBytes) {
      return await this.#base.readHashed(offsetBytes, target, bulkBytes, seed);
    }
    await this.#image.read(offsetBytes, target);
    const bulks: Memory[] = [];
    for (let at = 0; at < sizeBytes; at += bulkBytes) {
      bulks.push(target.slice(at, Math.min(bulkBytes, sizeBytes - at)));
    }
    return await this.#io.compute.hashes(bulks, seed);
  }

  /** The hash of a bulk of zeroes, many times. */
  async #hashZeroes(bulkBytes: number, seed: number): Promise<Uint8Array> {
    const lease = await this.#targets.lease(bulkBytes);
    try {
      const bulk = lease.slice(0, bulkBytes);
      bulk.bytes.fill(0);
      const hash = await this.#io.compute.hashes([bulk], seed);
      const many = new Uint8Array(holeHashesMax * hashBytes);
      for (let at = 0; at < many.length; at += hashBytes) many.set(hash, at);
      return many;
    } finally {
      lease.release();
    }
  }

  async #bulk(offsetLb: number, sizeLb: number, signal: AbortSignal): Promise<BulkToScan> {
    const sizeBytes = sizeLb * lbBytes;
    if (await this.#isHole(offsetLb * lbBytes, sizeBytes)) return { data: undefined, release: () => undefined };
    await this.#volume.rates.scan.take(sizeBytes, signal);
    const room = alignUp(maxEncodedBytes(sizeBytes), 4096);
    const targetAt = alignUp(sizeBytes, 4096);
    const lease = await this.#targets.lease(targetAt + room);
    try {
      const source = lease.slice(0, sizeBytes);
      const target = lease.slice(targetAt, room);
      await this.#image.read(offsetLb * lbBytes, source);
      const [encoded] = await this.#io.compute.encodeAlways([{ source, target }], { codec: Codec.snappy, level: 0 });
      if (encoded === undefined || encoded.isZero) {
        lease.release();
        return { data: undefined, release: () => undefined };
      }
      return { data: target.slice(0, encoded.storedBytes), release: () => lease.release() };
    } catch (error) {
      lease.release();
      throw error;
    }
  }

  async #bulkHash(offsetBytes: number, sizeBytes: number, seed: number, signal: AbortSignal): Promise<Uint8Array> {
    await this.#volume.rates.scan.take(sizeBytes, signal);
    const lease = await this.#targets.lease(sizeBytes);
    try {
      const bulk = lease.slice(0, sizeBytes);
      await this.#image.read(offsetBytes, bulk);
      return await this.#io.compute.hashes([bulk], seed);
    } finally {
      lease.release();
    }
  }

  /** True when neither the base nor the diffs have data in the range. */
  async #isHole(offsetBytes: number, sizeBytes: number): Promise<boolean> {
    return (await this.#holeEnd(offsetBytes)) >= offsetBytes + sizeBytes;
  }

  /** Up to where the image has no data from `offsetBytes` on; that itself when it has. Discards are no data. */
  async #holeEnd(offsetBytes: number): Promise<number> {
    return (await this.#dataFrom(offsetBytes)).startBytes;
  }

  /** The next data at or behind `offsetBytes`; at infinity when there is none. */
  async #dataFrom(offsetBytes: number): Promise<ByteRange> {
    const { fromBytes } = this.#found;
    if (offsetBytes < fromBytes || offsetBytes >= this.#found.endBytes) {
      const { sizeBytes } = this.#image;
      const data = offsetBytes < sizeBytes ? await this.#image.nextData(offsetBytes) : undefined;
      const isInside = data !== undefined && data.startBytes < sizeBytes;
      const nowhere = { startBytes: Number.POSITIVE_INFINITY, endBytes: Number.POSITIVE_INFINITY };
      const found = isInside ? { ...data, endBytes: Math.min(sizeBytes, data.endBytes) } : nowhere;
      this.#found = { fromBytes: offsetBytes, ...found };
    }
    const { startBytes, endBytes } = this.#found;
    return { startBytes: Math.max(offsetBytes, startBytes), endBytes };
  }
}
