import { test } from "bun:test";
import { countFrom, shardOf } from "../helpers/shards.ts";
import { checkCounts, crossSeed, newCounts } from "./cross.ts";

const { from, to } = shardOf(countFrom("WALB_SEEDS", 10_000), 1, 4);

test(`redo of a log, of its diffs, of merges of its parts and the virtual image are one image: seeds ${from} to ${to}`, async () => {
  const counts = newCounts();
  for (let seed = from; seed < to; seed += 1) await crossSeed(seed, counts);
  if (to - from < 500) return;
  checkCounts(counts, to - from);
}, 3_600_000);
