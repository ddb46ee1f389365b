/** @module The platforms that must behave alike: the real one and the simulated one. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Platform } from "../../src/platform/platform.ts";
import { closePlatform, createPlatform } from "../../src/platform/real/index.ts";
import { createSimWorld } from "../../src/sim/sim.ts";

export interface Backend {
  readonly platform: Platform;
  /** An empty directory. */
  readonly root: string;
  /** Runs the work, letting time pass meanwhile. */
  run<T>(work: () => Promise<T>): Promise<T>;
  close(): Promise<void>;
}

export const backends: readonly { readonly name: string; make(): Promise<Backend> }[] = [
  { name: "real", make: makeReal },
  { name: "simulated", make: () => makeSimulated(1) },
  { name: "simulated, another seed", make: () => makeSimulated(77) },
];

async function makeReal(): Promise<Backend> {
  const platform = createPlatform({ memoryBudgetBytes: 64 * 1024 * 1024, threads: 2 });
  const root = mkdtempSync(join(tmpdir(), "walb-contract-"));
  return {
    platform,
    root,
    run: (work) => work(),
    close: async () => {
      await closePlatform(platform);
      rmSync(root, { recursive: true, force: true });
    },
  };
}

async function makeSimulated(seed: number): Promise<Backend> {
  const world = createSimWorld(seed);
  const host = world.host("a");
  await world.complete(() => host.platform.disk.makeDirectory("/root"));
  return {
    platform: host.platform,
    root: "/root",
    run: (work) => world.complete(work, { limitMs: 600_000 }),
    close: async () => world.close(),
  };
}
