import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { pointAtTime, risingTimes } from "../../src/snapshot/by-time.ts";

const nowMs = 1_000_000;
const timesMs = fc.array(fc.integer({ min: 0, max: 2 * nowMs }), { maxLength: 12 });
const itself = (timeMs: number): number => timeMs;

describe("the point of a time", () => {
  test("is the newest that is not after it, as long as the clock never went back", () => {
    fc.assert(
      fc.property(timesMs, fc.integer({ min: 0, max: nowMs }), (times, atMs) => {
        const points = times.toSorted((a, b) => a - b);
        expect(pointAtTime(points, itself, atMs, nowMs)).toEqual({ point: points.findLast((one) => one <= atMs) });
      }),
    );
  });

  test("is doubtful where the clock went back and passed the time twice", () => {
    const points = [100_000, 200_000, 300_000, 110_000, 120_000, 400_000];
    const at = (atMs: number) => pointAtTime(points, itself, atMs, nowMs);
    expect(at(150_000)).toEqual({ point: 120_000, jump: { from: 300_000, to: 110_000, earlier: 100_000 } });
    expect(at(250_000).jump?.earlier).toBe(200_000);
    expect([at(105_000), at(350_000), at(500_000)]).toEqual([
      { point: 100_000 },
      { point: 120_000 },
      { point: 400_000 },
    ]);
  });

  test("is not doubtful for a few seconds, or because of points of the future", () => {
    expect(pointAtTime([100_000, 104_000, 101_000], itself, 102_000, nowMs)).toEqual({ point: 101_000 });
    expect(pointAtTime([100_000, 9_000_000, 120_000], itself, 150_000, nowMs)).toEqual({ point: 120_000 });
  });
});

describe("times for judging age", () => {
  test("are those of the points where the clock was never wrong", () => {
    fc.assert(
      fc.property(timesMs, (times) => {
        const sorted = times.filter((timeMs) => timeMs <= nowMs).toSorted((a, b) => a - b);
        expect(risingTimes(sorted, nowMs)).toEqual(sorted);
      }),
    );
  });

  test("never fall, are never of the future, and make no point of the past older", () => {
    fc.assert(
      fc.property(timesMs, (times) => {
        const rising = risingTimes(times, nowMs);
        for (const [i, timeMs] of rising.entries()) {
          expect(timeMs).toBeGreaterThanOrEqual(rising[i - 1] ?? 0);
          expect(timeMs).toBeLessThanOrEqual(nowMs);
          if (times[i]! <= nowMs) expect(timeMs).toBeGreaterThanOrEqual(times[i]!);
        }
      }),
    );
  });

  test("of points stamped while a clock was behind are those of the next one behind, or now", () => {
    expect(risingTimes([700, 100, 200, 1000, 50], nowMs)).toEqual([700, 1000, 1000, 1000, nowMs]);
  });

  test("of points of the future are those of what comes next, or now", () => {
    expect(risingTimes([100, 9_000_000, 300, 8_000_000], nowMs)).toEqual([100, 300, 300, nowMs]);
  });
});
