import { expect, test } from "bun:test";
import { retryDelayMs } from "../../src/volume/retry.ts";

test("after a failure work waits twice as long each time, with jitter, up to a bound", () => {
  const delays = [0, 1, 2, 9].map((attempt) => retryDelayMs(attempt, 1000, 300_000, 0.5));
  expect(delays).toEqual([1000, 2000, 4000, 300_000]);
  expect(retryDelayMs(5000, 1000, 300_000, 0.5)).toBe(300_000);
  expect(retryDelayMs(0, 1000, 300_000, 0)).toBe(750);
  expect(retryDelayMs(0, 1000, 300_000, 0.999)).toBeLessThanOrEqual(1250);
  expect(retryDelayMs(0, 1000, 10, 0.5)).toBe(1000);
});
