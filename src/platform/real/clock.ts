/** @module The real clock. */
import { type Clock, cancelledWait, type Timer } from "../clock.ts";

/** Longest delay that setTimeout keeps. */
const delayMsMax = 2 ** 31 - 1;

/** The real {@link Clock}. */
export function createClock(): Clock {
  return { nowMs: () => Date.now(), monotonicMs: () => performance.now(), timer, sleep };
}

function timer(delayMs: number, callback: () => void, options: { unref?: boolean } = {}): Timer {
  let handle: ReturnType<typeof setTimeout>;
  const start = (restMs: number): void => {
    const stepMs = Math.min(Math.max(restMs, 0), delayMsMax);
    handle = setTimeout(() => (restMs > stepMs ? start(restMs - stepMs) : callback()), stepMs);
    if (options.unref === true) handle.unref();
  };
  start(delayMs);
  return { cancel: () => clearTimeout(handle) };
}

function sleep(delayMs: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const cancelled = (): void => {
      running.cancel();
      reject(cancelledWait(signal?.reason));
    };
    const running = timer(delayMs, () => {
      signal?.removeEventListener("abort", cancelled);
      resolve();
    });
    if (signal?.aborted === true) cancelled();
    else signal?.addEventListener("abort", cancelled, { once: true });
  });
}
