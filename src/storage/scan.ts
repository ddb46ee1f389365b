/**
 * @module Reads a whole device as encoded bulks, in order, with several reads in flight; holes cost nothing.
 *
 * A job reads, zero-tests, compresses and checksums a run of bulks in the pool; the JavaScript thread only keeps order.
 */
import { type CompressOption, type Encoded, maxEncodedBytes } from "../native/codec.ts";
import type { Lease, Memory, MemoryPool } from "../native/memory.ts";
import type { Clock } from "../platform/clock.ts";
import type { DiskFile } from "../platform/disk.ts";
import { lbBytes, mib } from "../units.ts";
import type { EncodedBulk } from "../wire/bulk-stream.ts";

/** Most bytes one job reads; a bulk may be larger. */
const jobBytesMax = mib;
const jobsInFlightMax = 4;
/** A limited scan reads in pieces that take about this long, and never rests longer: the archive waits for the next bulk. */
const pieceMs = 1_000;
const restMsMax = 4_000;

/** What a scan needs. */
export interface ScanOptions {
  readonly file: DiskFile;
  readonly pool: MemoryPool;
  readonly clock: Clock;
  readonly sizeLb: number;
  readonly bulkLb: number;
  readonly compress: CompressOption;
  /** Limit of the read rate now, bytes a second; 0 for none. Asked before each job, so it can change while running. */
  readonly rateBytesPerS: () => number;
  readonly signal: AbortSignal;
}

interface Job {
  readonly lease: Lease;
  readonly sources: readonly Memory[];
  readonly targets: readonly Memory[];
  readonly encoded: Promise<Encoded[]>;
  bulksOut: number;
}

/** What comes next in order: a job, or bulks of a hole. */
type Piece = { readonly kind: "job"; readonly job: Job } | { readonly kind: "hole"; readonly bulks: number };

/** All bulks from address 0 to `sizeLb`. A consumer releases each data bulk; ending early waits for what is in flight. */
export async function* scanBulks(options: ScanOptions): AsyncGenerator<EncodedBulk, void, undefined> {
  const planner = new ScanPlanner(options);
  const pieces: Piece[] = [];
  try {
    for (;;) {
      while (pieces.length < jobsInFlightMax) {
        // Never waits for memory while it holds some: other scans may hold the rest and wait as well.
        const piece = await planner.next(pieces.length === 0);
        if (piece === undefined) break;
        pieces.push(piece);
      }
      const piece = pieces[0];
      if (piece === undefined) return;
      if (piece.kind === "hole") {
        for (let i = 0; i < piece.bulks; i += 1) yield { kind: "zero" };
      } else {
        yield* jobBulks(piece.job);
      }
      pieces.shift();
    }
  } finally {
    // The memory of a job may only go back when the job has ended.
    for (const piece of pieces) if (piece.kind === "job") await abandonJob(piece.job);
  }
}

async function* jobBulks(job: Job): AsyncGenerator<EncodedBulk, void, undefined> {
  const results = await job.encoded;
  for (const [i, result] of results.entries()) {
    if (result.isZero) {
      bulkOut(job);
      yield { kind: "zero" };
      continue;
    }
    const data = (result.codec === 0 ? job.sources[i]! : job.targets[i]!).slice(0, result.storedBytes);
    yield { kind: "data", data, checksum: result.checksum, release: () => bulkOut(job) };
  }
}

/** The lease goes back with the last bulk. */
function bulkOut(job: Job): void {
  job.bulksOut += 1;
  if (job.bulksOut === job.sources.length) job.lease.release();
}

async function abandonJob(job: Job): Promise<void> {
  await job.encoded.catch(() => undefined);
  if (job.bulksOut < job.sources.length) job.lease.release();
  job.bulksOut = job.sources.length;
}

/** Cuts the device into jobs and holes, and keeps the rate. */
class ScanPlanner {
  readonly #options: ScanOptions;
  readonly #bulkBytes: number;
  readonly #endBytes: number;
  #offsetBytes = 0;
  /** Data known to begin here; everything from the offset to it is a hole. */
  #dataStartBytes = 0;
  #dataEndBytes = 0;
  #budgetTimeMs: number;

  constructor(options: ScanOptions) {
    this.#options = options;
    this.#bulkBytes = options.bulkLb * lbBytes;
    this.#endBytes = options.sizeLb * lbBytes;
    this.#budgetTimeMs = options.clock.monotonicMs();
  }

  /** The next piece; undefined at the end, or when there is no memory now and it may not wait. */
  async next(mayWait: boolean): Promise<Piece | undefined> {
    this.#options.signal.throwIfAborted();
    if (this.#offsetBytes >= this.#endBytes) return undefined;
    await this.#findData();
    const holeBulks = Math.floor((this.#dataStartBytes - this.#offsetBytes) / this.#bulkBytes);
    if (this.#dataStartBytes >= this.#endBytes) return this.#hole(Math.ceil(this.#restBytes / this.#bulkBytes));
    if (holeBulks > 0) return this.#hole(holeBulks);
    // Holes are free; a limited scan does not read ahead.
    if (!mayWait && this.#options.rateBytesPerS() > 0) return undefined;
    const job = await this.#startJob(mayWait);
    return job === undefined ? undefined : { kind: "job", job };
  }

  get #restBytes(): number {
    return this.#endBytes - this.#offsetBytes;
  }

  #hole(bulks: number): Piece {
    this.#offsetBytes = Math.min(this.#offsetBytes + bulks * this.#bulkBytes, this.#endBytes);
    return { kind: "hole", bulks };
  }

  async #findData(): Promise<void> {
    if (this.#offsetBytes < this.#dataEndBytes) return;
    const extent = await this.#options.file.nextData(this.#offsetBytes);
    this.#dataStartBytes = extent?.startBytes ?? this.#endBytes;
    this.#dataEndBytes = extent?.endBytes ?? this.#endBytes;
    // A zero-length answer must not stop the scan.
    if (this.#dataEndBytes <= this.#offsetBytes) this.#dataEndBytes = this.#offsetBytes + this.#bulkBytes;
    if (this.#dataStartBytes < this.#offsetBytes) this.#dataStartBytes = this.#offsetBytes;
  }

  async #startJob(mayWait: boolean): Promise<Job | undefined> {
    const { file, pool, compress } = this.#options;
    const offsetBytes = this.#offsetBytes;
    const wantBytes = await this.#keepRate();
    const readBytes = Math.min(wantBytes, this.#restBytes);
    const count = Math.ceil(readBytes / this.#bulkBytes);
    // Targets keep the alignment of the lease, so that the codecs work on whole pages.
    const targetBytes = Math.ceil(maxEncodedBytes(this.#bulkBytes) / 4096) * 4096;
    const leaseBytes = wantBytes + count * targetBytes;
    const lease = mayWait ? await pool.lease(leaseBytes) : pool.tryLease(leaseBytes);
    if (lease === undefined) return undefined;
    const sources: Memory[] = [];
    const targets: Memory[] = [];
    for (let i = 0; i < count; i += 1) {
      const sizeBytes = Math.min(this.#bulkBytes, readBytes - i * this.#bulkBytes);
      sources.push(lease.slice(i * this.#bulkBytes, sizeBytes));
      targets.push(lease.slice(wantBytes + i * targetBytes, targetBytes));
    }
    const encoded = file.readEncoded(offsetBytes, sources, targets, { ...compress, always: true });
    // Handled where the bulks come out; without this an early failure would count as unhandled.
    encoded.catch(() => undefined);
    this.#offsetBytes += readBytes;
    return { lease, sources, targets, encoded, bulksOut: 0 };
  }

  /** Waits as the rate demands. @returns bytes the next job reads, whole bulks. */
  async #keepRate(): Promise<number> {
    const { clock, rateBytesPerS, signal } = this.#options;
    const whole = (bytes: number): number => Math.max(this.#bulkBytes, bytes - (bytes % this.#bulkBytes));
    const rate = rateBytesPerS();
    if (rate <= 0) {
      this.#budgetTimeMs = clock.monotonicMs();
      return whole(jobBytesMax);
    }
    const restMs = Math.min(Math.ceil(this.#budgetTimeMs - clock.monotonicMs()), restMsMax);
    if (restMs > 0) await clock.sleep(restMs, signal);
    const bytes = whole(Math.min(jobBytesMax, Math.floor((rate * pieceMs) / 1000)));
    const startMs = Math.max(this.#budgetTimeMs, clock.monotonicMs());
    this.#budgetTimeMs = startMs + (Math.min(bytes, this.#restBytes) / rate) * 1000;
    return bytes;
  }
}
