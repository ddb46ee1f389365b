/**
 * @module Reads the image of a volume at a point from the archive, through its wire protocol, and writes it from front to
 * back. Bulks are received and expanded while those before them are being written.
 */
import { asWalbError, WalbError } from "../../errors.ts";
import { Codec, type Compute } from "../../native/codec.ts";
import type { Memory, MemoryPool } from "../../native/memory.ts";
import type { Address } from "../../platform/net.ts";
import type { Platform } from "../../platform/platform.ts";
import { lbBytes, mib } from "../../units.ts";
import { connectWire } from "../../wire/handshake.ts";
import { runVirtualScan, type ScannedBulk, type ScanSink } from "../../wire/scan.ts";

const bulkBytes = mib;
const bulksInFlightMax = 4;
/** For what is received and for what was expanded, each. */
const poolBytes = 4 * bulksInFlightMax * bulkBytes;

/** What to read, and where to. */
export interface ImageStream {
  readonly archive: Address;
  readonly volume: string;
  readonly gid: bigint;
  readonly sizeLb: number;
  /** Takes the bytes in order; resolves when it needs them no more. */
  readonly write: (bytes: Uint8Array) => Promise<void>;
  readonly progress: (doneBytes: number) => void;
  /** Its reason is what is thrown. */
  readonly signal: AbortSignal;
}

/** @throws WalbError of the archive, of the connection, of `write`, or the signal's reason. */
export async function streamImage(platform: Platform, wish: ImageStream): Promise<void> {
  const { archive, volume, gid, sizeLb, signal } = wish;
  const { stream } = await connectWire(platform.net, archive, {
    clock: platform.clock,
    clientId: `walb restore at ${platform.hostName}`,
    protocol: "virt-full-scan",
  });
  const abort = (): void => stream.close(asWalbError(signal.reason));
  signal.addEventListener("abort", abort);
  try {
    signal.throwIfAborted();
    const parameters = [volume, String(gid), String(bulkBytes), String(sizeLb * lbBytes)];
    const sink = new ImageSink(platform.compute, platform.memory.carve(poolBytes), wish);
    await runVirtualScan(stream, parameters, bulkBytes / lbBytes, platform.memory.carve(poolBytes), sink);
  } catch (error) {
    throw signal.aborted ? asWalbError(signal.reason) : asWalbError(error, { volume });
  } finally {
    signal.removeEventListener("abort", abort);
    stream.close();
  }
}

class ImageSink implements ScanSink {
  readonly #compute: Compute;
  readonly #pool: MemoryPool;
  readonly #wish: ImageStream;
  readonly #zeroes = new Uint8Array(bulkBytes);
  readonly #writes: Promise<void>[] = [];
  #last: Promise<void> = Promise.resolve();
  #doneBytes = 0;

  constructor(compute: Compute, pool: MemoryPool, wish: ImageStream) {
    this.#compute = compute;
    this.#pool = pool;
    this.#wish = wish;
  }

  begin(sizeLb: number): void {
    if (sizeLb === this.#wish.sizeLb) return;
    throw new WalbError("protocol", { what: `the archive sends ${sizeLb} LB instead of ${this.#wish.sizeLb}` });
  }

  async write(bulk: ScannedBulk): Promise<void> {
    const work = this.#writeAfter(this.#last, bulk);
    // Failures come out in the order of the bulks, where the oldest is awaited.
    work.catch(() => undefined);
    this.#last = work;
    this.#writes.push(work);
    if (this.#writes.length >= bulksInFlightMax) await this.#writes.shift();
  }

  async finish(): Promise<void> {
    await Promise.all(this.#writes);
  }

  async abandon(): Promise<void> {
    await Promise.allSettled(this.#writes);
  }

  async #writeAfter(before: Promise<void>, bulk: ScannedBulk): Promise<void> {
    const sizeBytes = bulk.sizeLb * lbBytes;
    const image = bulk.data === undefined ? undefined : await this.#expand(bulk, bulk.data, sizeBytes);
    try {
      await before;
      await this.#wish.write(image?.bytes ?? this.#zeroes.subarray(0, sizeBytes));
      this.#doneBytes += sizeBytes;
      this.#wish.progress(this.#doneBytes);
    } finally {
      image?.release();
    }
  }

  async #expand(bulk: ScannedBulk, source: Memory, sizeBytes: number) {
    try {
      const lease = await this.#pool.lease(sizeBytes);
      try {
        const target = lease.slice(0, sizeBytes);
        const [checksum = 0] = await this.#compute.checksums([source], 0);
        const [code] = await this.#compute.decode([{ source, codec: Codec.snappy, checksum, target }]);
        if (code !== 0) {
          throw new WalbError("protocol", {
            what: "the archive sent data that cannot be expanded",
            where: { offsetBytes: bulk.offsetLb * lbBytes },
          });
        }
        return { bytes: target.bytes, release: () => lease.release() };
      } catch (error) {
        lease.release();
        throw error;
      }
    } finally {
      bulk.release();
    }
  }
}
