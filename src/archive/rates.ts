/** @module Limits on the rate of large work, which may be changed while it runs. */
import type { Rates } from "../control/archive-schemas.ts";
import type { Clock } from "../platform/clock.ts";

/** Longest sleep, so that a new limit counts soon. */
const sleepMsMax = 200;
/** What may be done at once after a pause. */
const burstMs = 200;

/** Makes work wait so that it keeps a rate; all that shares one shares the rate. */
class RateLimit {
  readonly #clock: Clock;
  /** 0 for no limit. */
  #bytesPerS = 0;
  /** When what was taken so far is paid for, monotonic. */
  #paidMs = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get bytesPerS(): number {
    return this.#bytesPerS;
  }

  set bytesPerS(bytesPerS: number) {
    if (bytesPerS === this.#bytesPerS) return;
    this.#bytesPerS = bytesPerS;
    // What was taken at the old rate is not waited for at that rate.
    this.#paidMs = Math.min(this.#paidMs, this.#clock.monotonicMs());
  }

  /** Waits until so much may be done. @throws the signal's reason. */
  async take(bytes: number, signal: AbortSignal): Promise<void> {
    for (let owedBytes = bytes; owedBytes > 0; ) {
      const rate = this.#bytesPerS;
      if (rate === 0) return;
      const nowMs = this.#clock.monotonicMs();
      const waitMs = this.#paidMs - nowMs;
      if (waitMs > 0) {
        // In short sleeps, and nothing is taken before: however many wait, a new rate counts at once for all of them.
        await this.#clock.sleep(Math.min(waitMs, sleepMsMax), signal);
        continue;
      }
      this.#paidMs = Math.max(this.#paidMs, nowMs - burstMs);
      const part = Math.min(owedBytes, Math.max(1, (rate * sleepMsMax) / 1000));
      this.#paidMs += (part * 1000) / rate;
      owedBytes -= part;
    }
  }
}

/** The limits of an archive. */
export class RateLimits {
  readonly apply: RateLimit;
  readonly restore: RateLimit;
  readonly merge: RateLimit;
  readonly scan: RateLimit;

  constructor(clock: Clock) {
    this.apply = new RateLimit(clock);
    this.restore = new RateLimit(clock);
    this.merge = new RateLimit(clock);
    this.scan = new RateLimit(clock);
  }

  get rates(): Rates {
    return {
      applyBytesPerS: this.apply.bytesPerS,
      restoreBytesPerS: this.restore.bytesPerS,
      mergeBytesPerS: this.merge.bytesPerS,
      scanBytesPerS: this.scan.bytesPerS,
    };
  }

  /** Changes those that are given. */
  set(wanted: { readonly [Name in keyof Rates]?: Rates[Name] | undefined }): void {
    const { applyBytesPerS, restoreBytesPerS, mergeBytesPerS, scanBytesPerS } = wanted;
    this.apply.bytesPerS = applyBytesPerS ?? this.apply.bytesPerS;
    this.restore.bytesPerS = restoreBytesPerS ?? this.restore.bytesPerS;
    this.merge.bytesPerS = mergeBytesPerS ?? this.merge.bytesPerS;
    this.scan.bytesPerS = scanBytesPerS ?? this.scan.bytesPerS;
  }
}
