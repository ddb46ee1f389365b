/** @module Rate and time left of a piece of work, smoothed: pure. */
import type { Progress, ProgressReport } from "./job.ts";

/** Reports closer together than this count as one for the rate. */
const sampleMsMin = 200;
/** Time after which an old rate counts a third. */
const smoothingMs = 10_000;
/** Reports may be so far apart before the work counts as slower than it was. */
const quietMs = 1_000;

/** Follows the progress of one job. Times are monotonic milliseconds. */
export class ProgressMeter {
  #report: ProgressReport = { doneBytes: 0 };
  #sampleMs: number;
  #sampleBytes = 0;
  #rateBytesPerMs: number | undefined;

  constructor(nowMs: number) {
    this.#sampleMs = nowMs;
  }

  /** Takes a report. A smaller `doneBytes` or another step begins the measurement anew. */
  report(report: ProgressReport, nowMs: number): void {
    const isNewStep = report.step !== undefined && report.step !== this.#report.step;
    const step = report.step ?? this.#report.step;
    this.#report = { ...report, ...(step === undefined ? {} : { step }) };
    if (isNewStep || report.doneBytes < this.#sampleBytes) {
      this.#sampleMs = nowMs;
      this.#sampleBytes = report.doneBytes;
      this.#rateBytesPerMs = undefined;
      return;
    }
    const elapsedMs = nowMs - this.#sampleMs;
    if (elapsedMs < sampleMsMin) return;
    this.#rateBytesPerMs = this.#smoothed(report.doneBytes, elapsedMs);
    this.#sampleMs = nowMs;
    this.#sampleBytes = report.doneBytes;
  }

  /** What to show: work that says nothing becomes slower with every second, and so its end moves away. */
  progress(nowMs: number): Progress {
    const { doneBytes, totalBytes, step } = this.#report;
    const elapsedMs = nowMs - this.#sampleMs;
    const rate = (elapsedMs < quietMs ? this.#rateBytesPerMs : this.#smoothed(doneBytes, elapsedMs)) ?? 0;
    const leftBytes = totalBytes === undefined ? undefined : Math.max(0, totalBytes - doneBytes);
    return {
      doneBytes,
      ...(totalBytes === undefined ? {} : { totalBytes }),
      rateBytesPerS: Math.round(rate * 1000),
      ...(leftBytes === undefined || rate <= 0 ? {} : { etaS: Math.ceil(leftBytes / rate / 1000) }),
      step: step ?? "",
    };
  }

  /** The rate with what was done since the last sample. */
  #smoothed(doneBytes: number, elapsedMs: number): number {
    const rate = (doneBytes - this.#sampleBytes) / elapsedMs;
    if (this.#rateBytesPerMs === undefined) return rate;
    const weight = 1 - Math.exp(-elapsedMs / smoothingMs);
    return this.#rateBytesPerMs + weight * (rate - this.#rateBytesPerMs);
  }
}
