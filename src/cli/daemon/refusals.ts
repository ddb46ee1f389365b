/** @module Peers that were refused, in the log: each once a minute, so that nobody can fill it. */
import type { Logger } from "../../control/logger.ts";
import type { WalbError } from "../../errors.ts";
import type { Clock } from "../../platform/clock.ts";

const quietMs = 60_000;
/** Different ones within a minute. */
const differentMax = 20;

/** Tells refusals, and how many it has kept to itself. */
export class RefusalLog {
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #told = new Set<string>();
  #sinceMs: number;
  #untoldCount = 0;

  constructor(clock: Clock, log: Logger) {
    this.#clock = clock;
    this.#log = log;
    this.#sinceMs = clock.monotonicMs();
  }

  tell(error: WalbError): void {
    const nowMs = this.#clock.monotonicMs();
    if (nowMs - this.#sinceMs > quietMs) {
      if (this.#untoldCount > 0) this.#log.warn("more connections were refused", { count: this.#untoldCount });
      this.#told.clear();
      this.#untoldCount = 0;
      this.#sinceMs = nowMs;
    }
    // The port of a peer differs each time.
    const name = `${error.where.peer?.replace(/:\d+$/, "") ?? ""} ${error.what}`;
    if (this.#told.has(name) || this.#told.size >= differentMax) {
      this.#untoldCount += 1;
      return;
    }
    this.#told.add(name);
    this.#log.warn("a connection was refused", { error });
  }
}
