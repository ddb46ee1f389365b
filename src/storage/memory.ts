/** @module How a storage shares out its memory: each pipeline has its own bound. */
import type { MemoryPool } from "../native/memory.ts";
import { mib } from "../units.ts";
import { carveShares } from "../volume/shares.ts";

/** Memory of log transfers and backups. */
export interface TransferMemory {
  /** Batches of log packs being read. */
  readonly reading: MemoryPool;
  /** Compressed log on its way out. */
  readonly sending: MemoryPool;
  /** Bulks of full and hash backups. */
  readonly scanning: MemoryPool;
}

/** Smallest shares: a record of a log may be 32 MiB, a bulk of 4 MiB takes 16 MiB with its compressed form. */
const least = { reading: 32 * mib, sending: 32 * mib, scanning: 16 * mib };
/** Beyond these shares more memory makes nothing faster. */
const usual = { reading: 80 * mib, sending: 48 * mib, scanning: 32 * mib };

/**
 * Carves the pools out of what is left of the process's budget.
 * @throws WalbError `bad-parameter` when it is not enough for the largest record.
 */
export function carveTransferMemory(pool: MemoryPool): TransferMemory {
  return carveShares(pool, "a storage", least, usual);
}
