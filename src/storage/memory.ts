/** @module How a storage shares out its memory: each pipeline has its own bound. */
import type { MemoryPool } from "../native/memory.ts";
import { mib } from "../units.ts";

/** Memory of log transfers and backups. */
export interface TransferMemory {
  /** Batches of log packs being read. */
  readonly reading: MemoryPool;
  /** Compressed log on its way out. */
  readonly sending: MemoryPool;
  /** Bulks of full backups. */
  readonly scanning: MemoryPool;
}

/** Carves the pools out of the process's budget. A record may be 32 MiB, so reading needs room for one and a chunk. */
export function carveTransferMemory(pool: MemoryPool): TransferMemory {
  return { reading: pool.carve(80 * mib), sending: pool.carve(48 * mib), scanning: pool.carve(32 * mib) };
}
