/** @module Limits on the rate of large work, which may be changed while it runs. */
import type { Rates } from "../control/archive-schemas.ts";
import type { Clock } from "../platform/clock.ts";

/** Longest sleep, so that a new limit counts soon. */
const sleepMsMax = 200;
/** What may be done at once after a pause. */
const burstMs = 200;

/** Makes work wait so that it keeps a rate; all that shares one shares the rate. */
class RateLimit {
  /** 0 for no limit. */
  bytesPerS = 0;
  readonly #clock: Clock;
  /** When what was taken so far is paid for, monotonic. */
  #paidMs = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Waits until so much may be done. @throws the signal's reason. */
  async take(bytes: number, signal: AbortSignal): Promise<void> {
    let owedBytes = bytes;
    while (owedBytes > 0) {
      const rate = this.bytesPerS;
      if (rate === 0) return;
      const nowMs = this.#clock.monotonicMs();
      this.#paidMs = Math.max(this.#paidMs, nowMs - burstMs);
      // A piece at a time: what was taken at an old rate would otherwise be waited for at that rate.
      const part = Math.min(owedBytes, Math.max(1, (rate * sleepMsMax) / 1000));
      this.#paidMs += (part * 1000) / rate;
      owedBytes -= part;
      const waitMs = this.#paidMs - nowMs;
      if (waitMs > 0) await this.#clock.sleep(waitMs, signal);
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
