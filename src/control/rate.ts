/** @module Rate and time left of a piece of work, smoothed: pure. */
import type { Progress, ProgressReport } from "./job.ts";

/** Reports closer together than this count as one for the rate. */
const sampleMsMin = 200;
/** Time after which an old rate counts a third. */
const smoothingMs = 10_000;

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
    const rate = (report.doneBytes - this.#sampleBytes) / elapsedMs;
    const weight = 1 - Math.exp(-elapsedMs / smoothingMs);
    this.#rateBytesPerMs =
      this.#rateBytesPerMs === undefined ? rate : this.#rateBytesPerMs + weight * (rate - this.#rateBytesPerMs);
    this.#sampleMs = nowMs;
    this.#sampleBytes = report.doneBytes;
  }

  /** What to show. */
  progress(): Progress {
    const { doneBytes, totalBytes, step } = this.#report;
    const rate = this.#rateBytesPerMs ?? 0;
    const leftBytes = totalBytes === undefined ? undefined : Math.max(0, totalBytes - doneBytes);
    return {
      doneBytes,
      ...(totalBytes === undefined ? {} : { totalBytes }),
      rateBytesPerS: Math.round(rate * 1000),
      ...(leftBytes === undefined || rate <= 0 ? {} : { etaS: Math.ceil(leftBytes / rate / 1000) }),
      step: step ?? "",
    };
  }
}
