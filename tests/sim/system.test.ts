import { describe, expect, test } from "bun:test";
import { type SimulationReport, simulate } from "../../src/sim/system/simulate.ts";
import { countFrom } from "../helpers/shards.ts";

const perTest = countFrom("WALB_SIM_SEEDS", 6);
const shards = 4;

describe("the whole system, with faults of all kinds,", () => {
  for (let shard = 0; shard < shards; shard++) {
    const from = 1 + shard * perTest;
    test(`restores every point as the volume was, and is well when they stop (seeds ${from} to ${from + perTest - 1})`, async () => {
      const sums: Record<string, number> = {};
      for (let seed = from; seed < from + perTest; seed++) {
        const report = await simulate(seed);
        for (const [name, value] of Object.entries(report)) {
          if (typeof value === "number") sums[name] = (sums[name] ?? 0) + value;
        }
      }
      // A run that did nothing would prove nothing.
      expect(sums.writeCount).toBeGreaterThan(100 * perTest);
      expect(sums.snapshotCount).toBeGreaterThan(2 * perTest);
      expect(sums.restoreCount).toBeGreaterThan(3 * perTest);
      expect(sums.backupCount).toBeGreaterThanOrEqual(perTest);
    }, 300_000);
  }

  test("does the same again when the seed is the same", async () => {
    const [first, second]: SimulationReport[] = [await simulate(101), await simulate(101)];
    expect(second).toEqual(first!);
    expect((await simulate(102)).traceHash).not.toBe(first!.traceHash);
  }, 300_000);
});
