/** @module The Clock and Random interfaces: time and chance, real or simulated. */

import { WalbError } from "../errors.ts";

/** A running timer. */
export interface Timer {
  cancel(): void;
}

export interface Clock {
  /** Wall clock, milliseconds since 1970 UTC. May jump. */
  nowMs(): number;
  /** Milliseconds that never go back, for durations and deadlines. */
  monotonicMs(): number;
  /** Calls back once after `delayMs`; the callback must not throw. Does not keep the process alive when `unref`. */
  timer(delayMs: number, callback: () => void, options?: { unref?: boolean }): Timer;
  /** Resolves after `delayMs`, or rejects with WalbError `cancelled` when the signal aborts. */
  sleep(delayMs: number, signal?: AbortSignal): Promise<void>;
}

export interface Random {
  /** Cryptographically strong in production, seeded in the simulator. */
  bytes(sizeBytes: number): Uint8Array;
  u32(): number;
  /** Uniform in [0, 1), for jitter. */
  fraction(): number;
}

/** What a sleep rejects with when its signal aborts: why that was, as far as it is known. */
export function cancelledWait(reason: unknown): WalbError {
  if (reason instanceof WalbError && reason.code === "cancelled") return reason;
  return new WalbError("cancelled", {
    what: "a wait was cancelled",
    ...(reason === undefined ? {} : { cause: reason }),
  });
}
