/**
 * @module The image of a volume at a snapshot, read through base and diffs without writing anything: streamed to a
 * client (virt-full-scan), hashed (bhash).
 */
import { planMerge } from "../diff/merge.ts";
import { checkAborted, type DiffIo } from "../diff/types.ts";
import { VirtualImage } from "../diff/virtual.ts";
import { inOrder } from "../diff/window.ts";
import { Codec, maxEncodedBytes } from "../native/codec.ts";
import type { DiskFile } from "../platform/disk.ts";
import { scanList } from "../snapshot/restore.ts";
import { alignUp, lbBytes } from "../units.ts";
import type { BulkToScan } from "../wire/scan.ts";
import { explained, openDiffs } from "./diffs.ts";
import type { ArchiveVolume } from "./volume.ts";

const bulksInFlightMax = 4;

/** What to scan. */
export interface ScanRange {
  readonly gid: bigint;
  readonly sizeLb: number;
  readonly bulkLb: number;
}

/** An opened image of a volume at a snapshot. */
export class SnapshotImage {
  readonly #volume: ArchiveVolume;
  readonly #io: DiffIo;
  readonly #range: ScanRange;
  readonly #image: VirtualImage;
  readonly #base: DiskFile;
  readonly #close: () => Promise<void>;
  #holeEndBytes = 0;
  #dataEndBytes = 0;

  private constructor(
    volume: ArchiveVolume,
    io: DiffIo,
    range: ScanRange,
    image: VirtualImage,
    base: DiskFile,
    close: () => Promise<void>,
  ) {
    this.#volume = volume;
    this.#io = io;
    this.#range = range;
    this.#image = image;
    this.#base = base;
    this.#close = close;
  }

  /** @throws WalbError `not-restorable`, `damaged`. */
  static async open(volume: ArchiveVolume, io: DiffIo, range: ScanRange, signal: AbortSignal): Promise<SnapshotImage> {
    const { store } = volume;
    const metas = scanList(store.set, volume.requireBase(), range.gid);
    const diffs = metas.map((meta) => store.diff(meta));
    const round = await openDiffs(volume, io, diffs, { signal });
    try {
      const base = await volume.images.open(volume.name, "read");
      try {
        const { sizeLb } = store;
        const image = await VirtualImage.open(io, round.open, planMerge(round.open.records), base, { sizeLb });
        return new SnapshotImage(volume, io, range, image, base, async () => {
          await base.close();
          await round.close();
        });
      } catch (error) {
        await base.close();
        throw error;
      }
    } catch (error) {
      await round.close();
      throw explained(volume, error);
    }
  }

  close(): Promise<void> {
    return this.#close();
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
      return this.#bulk(at, Math.min(bulkLb, sizeLb - at));
    };
    try {
      yield* inOrder(start, bulksInFlightMax, (bulk) => bulk.release());
    } catch (error) {
      throw explained(this.#volume, error);
    }
  }

  /** XOR of the hashes of all bulks, each with its number as seed: 16 bytes. */
  async hash(signal: AbortSignal): Promise<Uint8Array> {
    const { sizeLb, bulkLb } = this.#range;
    const sum = new Uint8Array(16);
    let offsetLb = 0;
    const start = (): Promise<Uint8Array> | undefined => {
      if (offsetLb >= sizeLb) return undefined;
      checkAborted(signal, "the scan");
      const at = offsetLb;
      offsetLb += bulkLb;
      return this.#bulkHash(at, Math.min(bulkLb, sizeLb - at), (at / bulkLb) % 0x1_0000_0000);
    };
    try {
      for await (const hash of inOrder(start, bulksInFlightMax, () => undefined)) {
        for (let i = 0; i < 16; i++) sum[i] = sum[i]! ^ hash[i]!;
      }
    } catch (error) {
      throw explained(this.#volume, error);
    }
    return sum;
  }

  async #bulk(offsetLb: number, sizeLb: number): Promise<BulkToScan> {
    const sizeBytes = sizeLb * lbBytes;
    if (await this.#isHole(offsetLb * lbBytes, sizeBytes)) return { data: undefined, release: () => undefined };
    const room = alignUp(maxEncodedBytes(sizeBytes), 4096);
    const targetAt = alignUp(sizeBytes, 4096);
    const lease = await this.#io.memory.lease(targetAt + room);
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

  async #bulkHash(offsetLb: number, sizeLb: number, seed: number): Promise<Uint8Array> {
    const lease = await this.#io.memory.lease(sizeLb * lbBytes);
    try {
      await this.#image.read(offsetLb * lbBytes, lease);
      return await this.#io.compute.hashes([lease], seed);
    } finally {
      lease.release();
    }
  }

  /** True when neither the base nor the diffs have data in the range. */
  async #isHole(offsetBytes: number, sizeBytes: number): Promise<boolean> {
    const endBytes = offsetBytes + sizeBytes;
    const covered = this.#image.nextCovered(offsetBytes / lbBytes);
    if (covered !== undefined && covered.startLb * lbBytes < endBytes) return false;
    if (offsetBytes < this.#dataEndBytes && offsetBytes >= this.#holeEndBytes) return false;
    if (offsetBytes >= this.#dataEndBytes) {
      const extent = await this.#base.nextData(offsetBytes);
      this.#holeEndBytes = extent?.startBytes ?? Number.POSITIVE_INFINITY;
      this.#dataEndBytes = extent?.endBytes ?? Number.POSITIVE_INFINITY;
    }
    return endBytes <= this.#holeEndBytes;
  }
}
