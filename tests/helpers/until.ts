/** @module Waiting in tests for what happens by itself. */

/** Waits until something is so. @throws Error after 30 s, which says what was waited for. */
export async function until(isSo: () => boolean | Promise<boolean>, what = "it is so"): Promise<void> {
  const endMs = performance.now() + 30_000;
  while (!(await isSo())) {
    if (performance.now() > endMs) throw new Error(`still waiting: ${what}`);
    await Bun.sleep(5);
  }
}
