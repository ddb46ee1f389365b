/** @module Waiting with a bound, and telling what was waited for when it does not come. */
import { WalbError } from "../../errors.ts";

/** Asks until the answer is there. @throws WalbError `timed-out` saying what. */
export async function eventually<T>(what: string, limitMs: number, ask: () => Promise<T | undefined>): Promise<T> {
  const startMs = performance.now();
  for (;;) {
    const answer = await ask();
    if (answer !== undefined) return answer;
    if (performance.now() - startMs > limitMs) {
      throw new WalbError("timed-out", { what: `${what} took longer than ${limitMs / 1000} s` });
    }
    await Bun.sleep(50);
  }
}
