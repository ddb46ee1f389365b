/** @module Who watches the device, told at most each 20 ms. */
import type { Clock, Timer } from "../../../platform/clock.ts";

const quietMs = 20;

export class Watchers {
  readonly #clock: Clock;
  readonly #callbacks = new Set<() => void>();
  #timer: Timer | undefined;
  #isPending = false;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Returns how to stop. */
  add(changed: () => void): () => void {
    const callback = (): void => changed();
    this.#callbacks.add(callback);
    return () => this.#callbacks.delete(callback);
  }

  /** Tells all at once, or when the last time is long enough ago. */
  notify(): void {
    if (this.#callbacks.size === 0) return;
    if (this.#timer !== undefined) {
      this.#isPending = true;
      return;
    }
    this.#timer = this.#clock.timer(quietMs, () => {
      this.#timer = undefined;
      if (!this.#isPending) return;
      this.#isPending = false;
      this.notify();
    });
    queueMicrotask(() => {
      for (const callback of [...this.#callbacks]) callback();
    });
  }

  stop(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    this.#isPending = false;
    this.#callbacks.clear();
  }
}
