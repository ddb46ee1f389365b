import { expect, test } from "bun:test";
import { archiveNames } from "./replica-site.ts";
import { simulateReplicas } from "./replica-week.ts";

/** Days of virtual time; a week is a few seconds. More seeds: `npm run sim -- --weeks 100`. */
const days = Number(process.env.WALB_SIM_DAYS ?? 7);
const seeds = (process.env.WALB_REPLICA_SEEDS ?? "1").split(",").map(Number);

for (const seed of seeds) {
  test(`three archives stay identical through ${days} days of traffic, cuts and restarts: seed ${seed}`, async () => {
    const { compared } = await simulateReplicas(seed, days);
    expect(compared).toBeGreaterThanOrEqual(days * archiveNames.length);
  }, 300_000);
}
