/** @module The memory pool: shim slabs of powers of two, leased within a budget. */
import type { MemoryPool } from "./memory.ts";

/**
 * A memory pool. `Lease.sizeBytes` is exactly the size asked for (so that a lease can be read into or written whole);
 * the budget is charged with the slab, the next power of two from 4 KiB. Contents of a fresh lease are undefined.
 */
export function createMemoryPool(budgetBytes: number): MemoryPool {
  throw new Error(`being written ${budgetBytes}`);
}
