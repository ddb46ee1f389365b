/**
 * @module The common part of both conversions from a log: IOs in, compressed images out to a file in arrival order, and
 * the index of what was written in memory.
 */
import { WalbError } from "../errors.ts";
import type { StoredData } from "../log/batch.ts";
import { Codec, type CodecItem, type CompressOption, type Encoded } from "../native/codec.ts";
import type { Memory } from "../native/memory.ts";
import { checkRange, lbBytes, mib } from "../units.ts";
import type { AppendFile } from "./append.ts";
import { RecordIndex, recordsMaxDefault } from "./record-index.ts";
import { addressLbMax, type DiffIo, defaultCompress, imageLbMax, type LogIo, RecordKind } from "./types.ts";
import { settleAll } from "./window.ts";

/** How to convert. */
export interface ConvertOptions {
  /** 16 bytes: uuid of the log. */
  readonly uuid: Uint8Array;
  /** Largest record; default 2048 LB, 0 for no limit. */
  readonly maxIoLb?: number;
  /** Default snappy. */
  readonly compress?: CompressOption;
  /** Batches of about 1 MiB worked on at once; default 4. */
  readonly inFlightMax?: number;
  /** Records held in memory at most; default 16 Mi. */
  readonly recordsMax?: number;
  /** Size of the volume, when known: an IO beyond it is an error. */
  readonly sizeLb?: number;
}

/** One write or discard of a batch; data is cut to exactly its size. */
interface SpoolIo {
  readonly addressLb: number;
  readonly blocksLb: number;
  readonly data: Memory | undefined;
  /** The data is stored like this, without compressing it. */
  readonly stored: StoredData | undefined;
}

const batchBytesMax = mib;
const batchIosMax = 1000;

/** Compresses and writes images in the order the IOs were added. */
export class ImageSpool {
  /** What was added, in order; complete when all adds have settled. */
  readonly records: RecordIndex;
  /** IOs added, padding left out. */
  ioCount = 0;
  /** Stored bytes of all images. */
  dataBytes = 0;
  readonly #io: DiffIo;
  readonly #file: AppendFile;
  readonly #compress: CompressOption;
  readonly #cutLb: number;
  readonly #limitLb: number;
  #offset: number;
  #failure: unknown;
  #freeSlots: number;
  readonly #slotWaiters: (() => void)[] = [];
  /** Settles, never rejects, when all batches started so far are in the index. */
  #indexed: Promise<void> = Promise.resolve();
  readonly #running = new Set<Promise<void>>();

  /** @param startOffset where the first image goes. @param cutLb data is cut into images of this many LB; 0: not. */
  constructor(io: DiffIo, file: AppendFile, startOffset: number, cutLb: number, options: ConvertOptions) {
    this.#io = io;
    this.#file = file;
    this.#offset = startOffset;
    this.#cutLb = cutLb === 0 ? imageLbMax : Math.min(cutLb, imageLbMax);
    this.#compress = options.compress ?? defaultCompress;
    this.#limitLb = options.sizeLb ?? addressLbMax;
    this.#freeSlots = Math.max(1, options.inFlightMax ?? 4);
    this.records = new RecordIndex(1024, options.recordsMax ?? recordsMaxDefault);
  }

  /** End of the images so far. */
  get endOffset(): number {
    return this.#offset;
  }

  /** As `IndexedDiffWriter.add`. */
  async add(ios: readonly LogIo[]): Promise<void> {
    const jobs: Promise<void>[] = [];
    let batch: SpoolIo[] = [];
    let bytes = 0;
    const flush = (): void => {
      if (batch.length === 0) return;
      jobs.push(this.#start(batch));
      batch = [];
      bytes = 0;
    };
    for (const io of ios) this.#check(io);
    // Everything is queued at once, so that overlapping calls keep the order in which they were made.
    for (const { kind, offsetLb, sizeLb, data, stored } of ios) {
      if (kind === "padding" || sizeLb === 0) continue;
      this.ioCount++;
      if (kind === "discard" || data === undefined) {
        batch.push({ addressLb: offsetLb, blocksLb: sizeLb, data: undefined, stored: undefined });
        if (batch.length >= batchIosMax) flush();
        continue;
      }
      for (let done = 0; done < sizeLb; done += this.#cutLb) {
        const blocksLb = Math.min(this.#cutLb, sizeLb - done);
        const part = data.slice(done * lbBytes, blocksLb * lbBytes);
        if (bytes > 0 && bytes + part.sizeBytes > batchBytesMax) flush();
        const isWhole = blocksLb === sizeLb;
        batch.push({ addressLb: offsetLb + done, blocksLb, data: part, stored: isWhole ? stored : undefined });
        bytes += part.sizeBytes;
        if (batch.length >= batchIosMax) flush();
      }
    }
    flush();
    await settleAll(jobs);
  }

  /** Waits until everything added is written. @throws the first failure. */
  async drain(): Promise<void> {
    await Promise.allSettled(this.#running);
    if (this.#failure !== undefined) throw this.#failure;
  }

  #check({ kind, offsetLb, sizeLb, data }: LogIo): void {
    if (kind === "padding") return;
    checkRange(sizeLb, 0, kind === "discard" ? 0xffff_ffff : imageLbMax, "sizeLb");
    checkRange(offsetLb, 0, addressLbMax, "offsetLb");
    if (offsetLb + sizeLb > this.#limitLb) {
      throw new WalbError("out-of-range", {
        what: `the log writes ${sizeLb} blocks at ${offsetLb}, beyond the ${this.#limitLb} blocks of the volume`,
        where: { file: this.#file.path, field: "offsetLb" },
        hint: "check that the log belongs to this volume, and that the volume's size is up to date",
      });
    }
    if (kind === "data" && (data === undefined || data.sizeBytes < sizeLb * lbBytes)) {
      throw new WalbError("internal", { what: `an IO of ${sizeLb} blocks came with ${data?.sizeBytes ?? 0} bytes` });
    }
  }

  #start(batch: readonly SpoolIo[]): Promise<void> {
    const before = this.#indexed;
    let isIndexed: () => void = () => undefined;
    this.#indexed = new Promise((resolve) => {
      isIndexed = resolve;
    });
    const job = this.#run(batch, before, isIndexed)
      .catch((error: unknown) => {
        this.#failure ??= error;
        throw error;
      })
      .finally(() => {
        isIndexed();
        this.#running.delete(job);
      });
    this.#running.add(job);
    job.catch(() => undefined);
    return job;
  }

  async #run(batch: readonly SpoolIo[], before: Promise<void>, isIndexed: () => void): Promise<void> {
    if (this.#freeSlots > 0) this.#freeSlots--;
    else await new Promise<void>((resolve) => this.#slotWaiters.push(resolve));
    try {
      if (this.#failure !== undefined) throw this.#failure;
      let bytes = 0;
      for (const { data, stored } of batch) if (stored === undefined) bytes += data?.sizeBytes ?? 0;
      const lease = bytes > 0 ? await this.#io.memory.lease(bytes) : undefined;
      try {
        const items: CodecItem[] = [];
        let at = 0;
        for (const { data, stored } of batch) {
          if (data === undefined || stored !== undefined || lease === undefined) continue;
          items.push({ source: data, target: lease.slice(at, data.sizeBytes) });
          at += data.sizeBytes;
        }
        const encoded = items.length > 0 ? await this.#io.compute.encode(items, this.#compress) : [];
        await before;
        if (this.#failure !== undefined) throw this.#failure;
        const offset = this.#offset;
        const parts = this.#index(batch, items, encoded);
        isIndexed();
        if (parts.length > 0) await this.#file.writeGather(offset, parts);
      } finally {
        lease?.release();
      }
    } finally {
      const next = this.#slotWaiters.shift();
      if (next === undefined) this.#freeSlots++;
      else next();
    }
  }

  /** Enters a batch into the index. @returns what has to be written, in order. */
  #index(batch: readonly SpoolIo[], items: readonly CodecItem[], encoded: readonly Encoded[]): Memory[] {
    const parts: Memory[] = [];
    const { records } = this;
    records.reserve(batch.length);
    let item = 0;
    const push = (addressLb: number, blocksLb: number, image: StoredData): void => {
      const offset = this.#offset;
      if (image.isZero) {
        records.push(addressLb, blocksLb, RecordKind.allZero, Codec.none, 0, offset, 0, 0, 0, 0);
        return;
      }
      const { memory, codec, checksum } = image;
      records.push(addressLb, blocksLb, RecordKind.normal, codec, 0, offset, memory.sizeBytes, blocksLb, 0, checksum);
      parts.push(memory);
      this.#offset += memory.sizeBytes;
      this.dataBytes += memory.sizeBytes;
    };
    for (const { addressLb, blocksLb, data, stored } of batch) {
      const offset = this.#offset;
      if (stored !== undefined) {
        push(addressLb, blocksLb, stored);
        continue;
      }
      if (data === undefined) {
        records.push(addressLb, blocksLb, RecordKind.discard, Codec.none, 0, offset, 0, 0, 0, 0);
        continue;
      }
      const { isZero, codec, storedBytes, checksum } = encoded[item]!;
      const { source, target } = items[item]!;
      item++;
      const memory = codec === Codec.none ? source : target!.slice(0, storedBytes);
      push(addressLb, blocksLb, { memory, codec, checksum, isZero });
    }
    return parts;
  }
}
