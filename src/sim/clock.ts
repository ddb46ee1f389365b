/** @module The clock of a simulated process: virtual time, the wall clock apart from the monotonic one. */
import { type Clock, cancelledWait } from "../platform/clock.ts";
import type { SimProcess } from "./process.ts";

/** @param wallClockMs wall clock at world time 0, read at each call, so that it can be stepped. */
export function createSimClock(process: SimProcess, wallClockMs: () => number): Clock {
  const { engine } = process;
  const clock: Clock = {
    nowMs: () => Math.floor(wallClockMs() + engine.nowUs / 1000),
    monotonicMs: () => engine.nowUs / 1000,
    timer(delayMs, callback) {
      if (!process.isAlive) return { cancel() {} };
      const event = engine.schedule(delayMs, `${process.hostName} timer`, process, callback);
      return { cancel: () => engine.cancel(event) };
    },
    sleep(delayMs, signal) {
      return new Promise<void>((resolve, reject) => {
        if (signal?.aborted === true) {
          reject(cancelledWait(signal.reason));
          return;
        }
        const abort = () => {
          timer.cancel();
          if (signal !== undefined && process.isAlive) reject(cancelledWait(signal.reason));
        };
        const timer = clock.timer(delayMs, () => {
          signal?.removeEventListener("abort", abort);
          resolve();
        });
        signal?.addEventListener("abort", abort, { once: true });
      });
    },
  };
  return clock;
}
