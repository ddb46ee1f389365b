/** @module Compute over the shim: batches in the job pool, or the same C functions at once on the calling thread. */
import type { Compute } from "./codec.ts";
import type { JobPool } from "./pool.ts";

/** Compute whose batches are jobs of a pool. */
export function createPoolCompute(pool: JobPool): Compute {
  throw new Error(`being written ${typeof pool}`);
}
/** Compute without threads: every call is done when it returns its (resolved) promise. For the simulator and tests. */
export function createInlineCompute(): Compute {
  throw new Error("being written");
}
