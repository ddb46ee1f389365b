/** @module How an archive shares out its memory: each pipeline has its own bound, so that none can starve another. */
import type { DiffIo } from "../diff/types.ts";
import { WalbError } from "../errors.ts";
import type { MemoryPool } from "../native/memory.ts";
import type { Platform } from "../platform/platform.ts";
import { alignDown, mib } from "../units.ts";

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
const usual = { bulks: 48 * mib, packs: 96 * mib, receiving: 16 * mib, working: 128 * mib };

/**
 * Carves the pools out of what is left of the process's budget.
 * @throws WalbError `bad-parameter` when it is not enough for the largest pack and batch.
 */
export function carveArchiveMemory({ disk, compute, memory }: Platform): ArchiveMemory {
  const freeBytes = memory.budgetBytes - memory.leasedBytes;
  const leastBytes = least.bulks + least.packs + least.receiving + least.working;
  const usualBytes = usual.bulks + usual.packs + usual.receiving + usual.working;
  if (freeBytes < leastBytes) {
    throw new WalbError("bad-parameter", {
      what: `an archive needs ${leastBytes / mib} MiB of memory for data, but has ${Math.floor(freeBytes / mib)} MiB`,
      where: { field: "memory" },
      hint: `give it more: --memory ${leastBytes / mib}M`,
    });
  }
  const share = Math.min(1, (freeBytes - leastBytes) / (usualBytes - leastBytes));
  const carve = (name: keyof typeof least): MemoryPool =>
    memory.carve(alignDown(least[name] + Math.floor((usual[name] - least[name]) * share), mib));
  return {
    bulks: carve("bulks"),
    packs: carve("packs"),
    receiving: { disk, compute, memory: carve("receiving") },
    working: { disk, compute, memory: carve("working") },
  };
}
