/** @module How an archive shares out its memory: each pipeline has its own bound, so that none can starve another. */
import type { DiffIo } from "../diff/types.ts";
import type { MemoryPool } from "../native/memory.ts";
import type { Platform } from "../platform/platform.ts";
import { mib } from "../units.ts";

/** Memory of an archive's pipelines. */
export interface ArchiveMemory {
  /** Bulks of full backups on their way in. */
  readonly bulks: MemoryPool;
  /** Packs of diffs on their way in. */
  readonly packs: MemoryPool;
  /** Headers and ends of the diffs being received. */
  readonly receiving: DiffIo;
  /** Apply, merge, restore, scan. */
  readonly working: DiffIo;
}

/** Smallest shares: a stored bulk may be 8 MiB and a page, a pack 32 MiB and a page, a batch 64 MiB. */
const leastMib = { bulks: 16, packs: 64, working: 64 };
const usualMib = { bulks: 48, packs: 96, working: 128 };
const headersMib = 2;

/** Carves the pools out of the process's budget: the usual shares, or the smallest ones when there is not enough. */
export function carveArchiveMemory(platform: Platform): ArchiveMemory {
  const { disk, compute, memory } = platform;
  const neededMib = usualMib.bulks + usualMib.packs + usualMib.working + headersMib;
  const share = memory.budgetBytes - memory.leasedBytes >= neededMib * mib ? usualMib : leastMib;
  return {
    bulks: memory.carve(share.bulks * mib),
    packs: memory.carve(share.packs * mib),
    receiving: { disk, compute, memory: memory.carve(headersMib * mib) },
    working: { disk, compute, memory: memory.carve(share.working * mib) },
  };
}
