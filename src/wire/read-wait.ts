/** @module The reader that waits for bytes of a stream: what it waits for, and until when. */
import type { WalbError } from "../errors.ts";
import type { Clock, Timer } from "../platform/clock.ts";

/** A reader that waits. */
export interface Waiter {
  /** What it reads, for errors. */
  readonly step: string;
  /** Bytes that must be buffered for it to go on; without meaning while a bulk target is set. */
  readonly neededBytes: number;
  /** How long it may take; 0 is for ever. */
  readonly deadlineMs: number;
  deadlineAtMs: number;
  resolve(): void;
  reject(error: WalbError): void;
}

export interface ReadWaitEvents {
  /** Before it is decided that a time is over: what has come must count. */
  look(): void;
  /** The time of this one is over; it still waits. */
  late(waiter: Waiter): void;
}

/** At most one reader waits. */
export class ReadWait {
  readonly #clock: Clock;
  readonly #events: ReadWaitEvents;
  #waiter: Waiter | undefined;
  #timer: Timer | undefined;

  constructor(clock: Clock, events: ReadWaitEvents) {
    this.#clock = clock;
    this.#events = events;
  }

  get current(): Waiter | undefined {
    return this.#waiter;
  }

  /** When a time that begins now is over. */
  deadlineAtMs(deadlineMs: number): number {
    return deadlineMs === 0 ? Number.POSITIVE_INFINITY : this.#clock.monotonicMs() + deadlineMs;
  }

  begin(waiter: Waiter): void {
    this.#waiter = waiter;
    this.#armTimer();
  }

  /** Its time begins again. */
  renew(): void {
    if (this.#waiter !== undefined) this.#waiter.deadlineAtMs = this.deadlineAtMs(this.#waiter.deadlineMs);
  }

  /** Nobody waits any more. @returns whoever did. */
  end(): Waiter | undefined {
    const waiter = this.#waiter;
    this.#waiter = undefined;
    return waiter;
  }

  cancelTimer(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  /** One timer serves many waits: it looks again when it fires, so that a wait costs no timer of its own. */
  #armTimer(): void {
    const waiter = this.#waiter;
    if (waiter === undefined || this.#timer !== undefined || waiter.deadlineMs === 0) return;
    const delayMs = Math.max(1, waiter.deadlineAtMs - this.#clock.monotonicMs());
    this.#timer = this.#clock.timer(delayMs, () => {
      this.#timer = undefined;
      if (this.#waiter === undefined) return;
      this.#events.look();
      const late = this.#waiter;
      if (late === undefined || late.deadlineMs === 0) return;
      if (this.#clock.monotonicMs() < late.deadlineAtMs) this.#armTimer();
      else this.#events.late(late);
    });
  }
}
