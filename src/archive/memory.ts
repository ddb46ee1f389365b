/** @module How an archive shares out its memory: each pipeline has its own bound, so that none can starve another. */
import type { DiffIo } from "../diff/types.ts";
import type { MemoryPool } from "../native/memory.ts";
import type { Platform } from "../platform/platform.ts";
import { mib } from "../units.ts";
import { carveShares } from "../volume/shares.ts";

/** Memory of an archive's pipelines. */
export interface ArchiveMemory {
  /** Bulks of full backups on their way in. */
  readonly bulks: MemoryPool;
  /** Packs of diffs on their way in. */
  readonly packs: MemoryPool;
  /** Headers and ends of the diffs being received, and blocks of those that are large. */
  readonly receiving: DiffIo;
  /** Apply, merge, restore, scan. */
  readonly working: DiffIo;
}

/** Smallest shares: a stored bulk may be 8 MiB and a page, a pack 32 MiB and a page, a batch 64 MiB. */
const least = { bulks: 16 * mib, packs: 64 * mib, receiving: 2 * mib, working: 64 * mib };
/** Beyond these shares more memory makes nothing faster. */
const usual = { bulks: 48 * mib, packs: 96 * mib, receiving: 32 * mib, working: 128 * mib };

/**
 * Carves the pools out of what is left of the process's budget.
 * @throws WalbError `bad-parameter` when it is not enough for the largest pack and batch.
 */
export function carveArchiveMemory({ disk, compute, memory }: Platform): ArchiveMemory {
  const { bulks, packs, receiving, working } = carveShares(memory, "an archive", least, usual);
  return {
    bulks,
    packs,
    receiving: { disk, compute, memory: receiving },
    working: { disk, compute, memory: working },
  };
}
