/** @module What keeps an engine from packing more: it is frozen, or its log is being reset. */
import type { Clock, Timer } from "../../../platform/clock.ts";
import type { LogAppender } from "./appender.ts";
import type { Checkpointer } from "./checkpointer.ts";

/** Packing goes on when nothing holds it. */
export class Hold {
  readonly #clock: Clock;
  readonly #appender: LogAppender;
  readonly #checkpointer: Checkpointer;
  #isFrozen = false;
  /** Whoever melts the device meanwhile. */
  #isResetting = false;
  #meltTimer: Timer | undefined;

  constructor(clock: Clock, appender: LogAppender, checkpointer: Checkpointer) {
    this.#clock = clock;
    this.#appender = appender;
    this.#checkpointer = checkpointer;
  }

  get isFrozen(): boolean {
    return this.#isFrozen;
  }

  /** Until {@link melt}, or so long. */
  freeze(timeoutMs: number | undefined): void {
    this.#isFrozen = true;
    this.#checkpointer.isHeld = true;
    this.#meltTimer?.cancel();
    this.#meltTimer = timeoutMs === undefined ? undefined : this.#clock.timer(timeoutMs, () => this.melt());
    this.#holdOrGoOn();
  }

  melt(): void {
    this.#meltTimer?.cancel();
    this.#meltTimer = undefined;
    this.#isFrozen = false;
    this.#checkpointer.isHeld = false;
    this.#checkpointer.noteWritten();
    this.#holdOrGoOn();
  }

  /** Lets nothing be packed while the log is reset. */
  async whileReset(work: () => Promise<void>): Promise<void> {
    this.#isResetting = true;
    this.#holdOrGoOn();
    try {
      await work();
    } finally {
      this.#isResetting = false;
      this.#holdOrGoOn();
    }
  }

  #holdOrGoOn(): void {
    this.#appender.isHeld = this.#isFrozen || this.#isResetting;
    this.#appender.kick();
  }
}
