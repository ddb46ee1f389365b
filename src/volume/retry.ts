/** @module When work that failed is tried again: the same for every role. Pure. */

/** Delay before the n-th retry in a row (n from 0): doubled each time up to the longest, with a quarter of jitter. */
export function retryDelayMs(attempt: number, firstMs: number, maxMs: number, chance: number): number {
  const doubled = Math.min(firstMs * 2 ** Math.min(attempt, 30), Math.max(firstMs, maxMs));
  return Math.round(doubled * (0.75 + 0.5 * chance));
}
