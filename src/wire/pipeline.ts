/**
 * @module A sliding window of work that may finish in any order and is delivered in the order it was started.
 */
import { asWalbError, type WalbError } from "../errors.ts";

export interface InOrderOptions<T> {
  /** Items that may be between start and the end of their delivery. */
  readonly inFlightMax: number;
  /** Called one at a time, in order. The item belongs to it from the call on, even when it throws. */
  deliver(item: T): void | Promise<void>;
  /** Gives back an item that will never be delivered. */
  drop(item: T): void;
}

/** Runs preparations in parallel and deliveries in order. After the first failure nothing more is delivered. */
export class InOrder<T> {
  readonly #options: InOrderOptions<T>;
  #tail: Promise<void> = Promise.resolve();
  #inFlight = 0;
  #failure: WalbError | undefined;
  #wake: (() => void) | undefined;

  constructor(options: InOrderOptions<T>) {
    this.#options = options;
  }

  /** Why nothing more is delivered, if so. */
  get failure(): WalbError | undefined {
    return this.#failure;
  }

  /** Waits until one more item may be started. @throws the first failure. One caller at a time. */
  async room(): Promise<void> {
    while (this.#failure === undefined && this.#inFlight >= this.#options.inFlightMax) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    if (this.#failure !== undefined) throw this.#failure;
  }

  /** Takes over an item whose preparation is under way. It is dropped only after the preparation has settled. */
  push(item: T, ready: Promise<void>): void {
    this.#inFlight += 1;
    this.#tail = this.#finish(this.#tail, item, ready);
  }

  /** Waits for everything that was pushed. @throws the first failure. */
  async drain(): Promise<void> {
    await this.#tail;
    if (this.#failure !== undefined) throw this.#failure;
  }

  /** Delivers nothing more, and waits until every item was given back. Never throws. */
  async cancel(error: unknown): Promise<void> {
    this.#failure ??= asWalbError(error);
    await this.#tail;
  }

  async #finish(previous: Promise<void>, item: T, ready: Promise<void>): Promise<void> {
    const prepared = ready.then(
      () => undefined,
      (error: unknown) => ({ error }),
    );
    await previous;
    const failed = await prepared;
    if (failed !== undefined) this.#failure ??= asWalbError(failed.error);
    if (this.#failure !== undefined) {
      this.#options.drop(item);
    } else {
      try {
        await this.#options.deliver(item);
      } catch (error) {
        this.#failure ??= asWalbError(error);
      }
    }
    this.#inFlight -= 1;
    const wake = this.#wake;
    this.#wake = undefined;
    wake?.();
  }
}
