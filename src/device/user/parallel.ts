/** @module Work on many items, a few at a time; waiting for what may never come to an end. */
import type { Clock } from "../../platform/clock.ts";

/** Runs it on all of them; the work itself must not throw, or the first failure ends it. */
export async function inParallel<T>(
  atOnce: number,
  items: readonly T[],
  work: (item: T) => Promise<void>,
): Promise<void> {
  const queue = [...items];
  const worker = async (): Promise<void> => {
    for (let item = queue.shift(); item !== undefined; item = queue.shift()) await work(item);
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
}

/** Waits for work to end, or for as long as the limit. Failures are the work's own affair. True when it has ended. */
export async function within(clock: Clock, work: Promise<unknown>, limitMs: number): Promise<boolean> {
  const { promise: expired, resolve } = Promise.withResolvers<boolean>();
  const timer = clock.timer(limitMs, () => resolve(false));
  try {
    const ended = work.then(
      () => true,
      () => true,
    );
    return await Promise.race([ended, expired]);
  } finally {
    timer.cancel();
  }
}
