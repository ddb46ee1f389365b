/** @module Walks over an image for a scan: what to read next, what is a hole, and when the rate allows it. */
import type { Clock } from "../../platform/clock.ts";
import type { DiskFile } from "../../platform/disk.ts";
import { lbBytes, mib } from "../../units.ts";

/** Most bytes one job reads; a bulk may be larger. */
const jobBytesMax = mib;
/** A limited scan reads in pieces that take about this long, and never rests longer: the archive waits for the next bulk. */
const pieceMs = 1_000;
const restMsMax = 4_000;

/** An image that is compared: a device, or what base and diffs of an archive make. */
export type HashedImage = Pick<DiskFile, "nextData" | "readHashed">;

/** What is walked over. */
export interface ScanRange {
  readonly file: Pick<DiskFile, "nextData">;
  readonly clock: Clock;
  /** Where to begin; default 0. Bulks count from here. */
  readonly startLb?: number;
  readonly sizeLb: number;
  readonly bulkLb: number;
  /** Limit of the read rate now, bytes a second; 0 for none. Asked before each job, so it can change while running. */
  readonly rateBytesPerS: () => number;
  readonly signal: AbortSignal;
}

/** What comes next: bulks of a hole, or a range to read in one job. */
export type ScanStep =
  | { readonly kind: "hole"; readonly bulks: number }
  | {
      readonly kind: "data";
      readonly offsetBytes: number;
      /** Up to the end of the device; the last bulk may be short. */
      readonly readBytes: number;
      /** The same as whole bulks. */
      readonly roomBytes: number;
    };

/** Bytes of the largest job of a scan, whole bulks. */
export function jobBytesOf(bulkLb: number): number {
  const bulkBytes = bulkLb * lbBytes;
  return Math.max(bulkBytes, jobBytesMax - (jobBytesMax % bulkBytes));
}

/** A position on a device that only moves forward, whole bulks at a time. */
export class ScanCursor {
  readonly #range: ScanRange;
  readonly #bulkBytes: number;
  readonly #endBytes: number;
  #offsetBytes: number;
  /** Data known to begin here; everything from the offset to it is a hole. */
  #dataStartBytes = 0;
  #dataEndBytes = 0;
  #budgetTimeMs: number;

  constructor(range: ScanRange) {
    this.#range = range;
    this.#bulkBytes = range.bulkLb * lbBytes;
    this.#offsetBytes = (range.startLb ?? 0) * lbBytes;
    this.#endBytes = range.sizeLb * lbBytes;
    this.#budgetTimeMs = range.clock.monotonicMs();
  }

  /**
   * What is next; undefined at the end, or when a limited scan may not read ahead. A hole is behind the cursor then; data
   * is only when {@link taken} is told.
   * @param isAhead there is something to do already.
   */
  async next(isAhead: boolean): Promise<ScanStep | undefined> {
    this.#range.signal.throwIfAborted();
    if (this.#offsetBytes >= this.#endBytes) return undefined;
    await this.#findData();
    const holeBulks = Math.floor((this.#dataStartBytes - this.#offsetBytes) / this.#bulkBytes);
    if (this.#dataStartBytes >= this.#endBytes) return this.#hole(Math.ceil(this.#restBytes / this.#bulkBytes));
    if (holeBulks > 0) return this.#hole(holeBulks);
    // Holes are free; a limited scan does not read ahead.
    if (isAhead && this.#range.rateBytesPerS() > 0) return undefined;
    const roomBytes = await this.#keepRate();
    const readBytes = Math.min(roomBytes, this.#restBytes);
    return { kind: "data", offsetBytes: this.#offsetBytes, readBytes, roomBytes };
  }

  /** The range of the last step is being read. */
  taken(readBytes: number): void {
    this.#offsetBytes += readBytes;
  }

  get #restBytes(): number {
    return this.#endBytes - this.#offsetBytes;
  }

  #hole(bulks: number): ScanStep {
    this.#offsetBytes = Math.min(this.#offsetBytes + bulks * this.#bulkBytes, this.#endBytes);
    return { kind: "hole", bulks };
  }

  async #findData(): Promise<void> {
    if (this.#offsetBytes < this.#dataEndBytes) return;
    const extent = await this.#range.file.nextData(this.#offsetBytes);
    this.#dataStartBytes = extent?.startBytes ?? this.#endBytes;
    this.#dataEndBytes = extent?.endBytes ?? this.#endBytes;
    // A zero-length answer must not stop the scan.
    if (this.#dataEndBytes <= this.#offsetBytes) this.#dataEndBytes = this.#offsetBytes + this.#bulkBytes;
    if (this.#dataStartBytes < this.#offsetBytes) this.#dataStartBytes = this.#offsetBytes;
  }

  /** Waits as the rate demands. @returns bytes the next job reads, whole bulks. */
  async #keepRate(): Promise<number> {
    const { clock, rateBytesPerS, signal } = this.#range;
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
