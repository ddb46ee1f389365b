/**
 * @module Reads a whole device or image as encoded bulks, in order, with several reads in flight; holes cost nothing.
 *
 * A job reads, zero-tests, compresses and checksums a run of bulks in the pool; the JavaScript thread only keeps order.
 */
import { type CompressOption, type Encoded, maxEncodedBytes } from "../../native/codec.ts";
import type { Lease, Memory, MemoryPool } from "../../native/memory.ts";
import type { DiskFile } from "../../platform/disk.ts";
import { alignUp, lbBytes } from "../../units.ts";
import type { EncodedBulk } from "../bulk-stream.ts";
import { ScanCursor, type ScanRange } from "./cursor.ts";

const jobsInFlightMax = 4;

/** What a scan needs. */
export interface ScanOptions extends ScanRange {
  readonly file: Pick<DiskFile, "nextData" | "readEncoded">;
  readonly pool: MemoryPool;
  readonly compress: CompressOption;
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

/** All bulks from `startLb` to `sizeLb`. A consumer releases each data bulk; ending early waits for what is in flight. */
export async function* scanBulks(options: ScanOptions): AsyncGenerator<EncodedBulk, void, undefined> {
  const reader = new ScanReader(options);
  const pieces: Piece[] = [];
  try {
    for (;;) {
      while (pieces.length < jobsInFlightMax) {
        // Never waits for memory while it holds some: other scans may hold the rest and wait as well.
        const piece = await reader.next(pieces.length === 0);
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

/** Reads what the cursor says. */
class ScanReader {
  readonly #options: ScanOptions;
  readonly #cursor: ScanCursor;
  readonly #bulkBytes: number;

  constructor(options: ScanOptions) {
    this.#options = options;
    this.#cursor = new ScanCursor(options);
    this.#bulkBytes = options.bulkLb * lbBytes;
  }

  /** The next piece; undefined at the end, or when there is no memory now and it may not wait. */
  async next(mayWait: boolean): Promise<Piece | undefined> {
    const step = await this.#cursor.next(!mayWait);
    if (step === undefined || step.kind === "hole") return step;
    const { file, pool, compress } = this.#options;
    const { offsetBytes, readBytes, roomBytes } = step;
    const count = Math.ceil(readBytes / this.#bulkBytes);
    // Targets keep the alignment of the lease, so that the codecs work on whole pages.
    const targetBytes = alignUp(maxEncodedBytes(this.#bulkBytes), 4096);
    const leaseBytes = roomBytes + count * targetBytes;
    const lease = mayWait ? await pool.lease(leaseBytes) : pool.tryLease(leaseBytes);
    if (lease === undefined) return undefined;
    const sources: Memory[] = [];
    const targets: Memory[] = [];
    for (let i = 0; i < count; i += 1) {
      const sizeBytes = Math.min(this.#bulkBytes, readBytes - i * this.#bulkBytes);
      sources.push(lease.slice(i * this.#bulkBytes, sizeBytes));
      targets.push(lease.slice(roomBytes + i * targetBytes, targetBytes));
    }
    const encoded = file.readEncoded(offsetBytes, sources, targets, { ...compress, always: true });
    // Handled where the bulks come out; without this an early failure would count as unhandled.
    encoded.catch(() => undefined);
    this.#cursor.taken(readBytes);
    return { kind: "job", job: { lease, sources, targets, encoded, bulksOut: 0 } };
  }
}
