/** @module Runs at most so many pieces of work at once; the others wait in order. */

/** A limit for work. */
export class Limiter {
  readonly #max: number;
  #running = 0;
  readonly #waiting: (() => void)[] = [];

  constructor(max: number) {
    this.#max = max;
  }

  /** Pieces of work that wait for a place. */
  get waitingCount(): number {
    return this.#waiting.length;
  }

  /**
   * Runs `work` when there is a place.
   * @param signal ends the wait for a place, not the work. @throws its reason.
   */
  async run<T>(work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    const leave = await this.enter(signal);
    try {
      return await work();
    } finally {
      leave();
    }
  }

  /** Waits for a place. @returns what gives it back, once. @throws the signal's reason. */
  async enter(signal?: AbortSignal): Promise<() => void> {
    signal?.throwIfAborted();
    if (this.#running >= this.#max) await this.#wait(signal);
    else this.#running += 1;
    let isOver = false;
    return () => {
      if (isOver) return;
      isOver = true;
      // The place is handed on, so that nobody can slip in between.
      const next = this.#waiting.shift();
      if (next === undefined) this.#running -= 1;
      else next();
    };
  }

  #wait(signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const abort = (): void => {
        this.#waiting.splice(this.#waiting.indexOf(take), 1);
        reject(signal?.reason);
      };
      const take = (): void => {
        signal?.removeEventListener("abort", abort);
        resolve();
      };
      this.#waiting.push(take);
      signal?.addEventListener("abort", abort, { once: true });
    });
  }
}
