/**
 * @module Collects garbage before it is much.
 *
 * The collector of JavaScript takes a heap of twice its size for nothing to do anything about, and counts the memory for
 * data as heap, which is no garbage at all. What a write leaves behind outlives the small collections, since the write
 * itself took longer than they are apart. So under load there would be as much garbage as data; a whole collection takes
 * some ten milliseconds.
 */
import { mib } from "../../units.ts";

/** How often memory is looked at, which takes microseconds. */
const lookMs = 1_000;
/** Below this there is nothing to be won. */
const residentBytesMin = 112 * mib;
/** Growth since the last collection that is worth one. */
const growthBytesMin = 16 * mib;

/** Decides when to collect, from the resident memory of the process as it is seen again and again. */
export class CollectionRule {
  /** The least that was seen since the last collection: freed memory goes back to the system a little later. */
  #leastBytes = Number.POSITIVE_INFINITY;

  /** True when it is time; then the caller collects. */
  isDue(residentBytes: number): boolean {
    this.#leastBytes = Math.min(this.#leastBytes, residentBytes);
    const limitBytes = Math.max(residentBytesMin, this.#leastBytes + growthBytesMin);
    if (residentBytes < limitBytes) return false;
    this.#leastBytes = Number.POSITIVE_INFINITY;
    return true;
  }
}

/** Watches this process for as long as it lives. */
export function collectWhenDue(): void {
  const rule = new CollectionRule();
  setInterval(() => {
    try {
      if (rule.isDue(process.memoryUsage.rss())) Bun.gc(true);
    } catch {
      // It is read from a file, for which there may be no descriptor left.
    }
  }, lookMs).unref();
}
