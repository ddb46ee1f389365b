import { expect, test } from "bun:test";
import { countFrom, shardOf } from "../helpers/shards.ts";
import { crossSeed, newCounts } from "./cross.ts";

const { from, to } = shardOf(countFrom("WALB_SEEDS", 10_000), 2, 4);

test(`redo of a log, of its diffs, of merges of its parts and the virtual image are one image: seeds ${from} to ${to}`, async () => {
  const counts = newCounts();
  for (let seed = from; seed < to; seed += 1) await crossSeed(seed, counts);
  if (to - from < 500) return;
  // Both block sizes with each of the four limits of IO size.
  expect(counts.combinations.size).toBe(8);
  expect(Math.min(counts.discards, counts.paddings, counts.parts)).toBeGreaterThan((to - from) / 20);
}, 3_600_000);
