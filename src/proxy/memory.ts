/** @module How a proxy shares out its memory: each pipeline has its own bound, so that none can starve another. */
import type { DiffIo } from "../diff/types.ts";
import type { MemoryPool } from "../native/memory.ts";
import type { Platform } from "../platform/platform.ts";
import { mib } from "../units.ts";
import { carveShares } from "../volume/shares.ts";

/** Memory of a proxy's pipelines. */
export interface ProxyMemory {
  /** Batches of logs on their way in. */
  readonly receiving: MemoryPool;
  /** Conversion and writing of what was received. */
  readonly converting: DiffIo;
  /** Diffs on their way out. */
  readonly sending: DiffIo;
  /** Transfers to archives at once, so that each has enough to work with. */
  readonly sendsMax: number;
}

/** Smallest shares: a record of a log takes 64 MiB with its compressed form, a pack on its way out 8 MiB. */
const least = { receiving: 64 * mib, converting: 16 * mib, sending: 32 * mib };
/** Beyond these shares more memory makes nothing faster. */
const usual = { receiving: 64 * mib, converting: 24 * mib, sending: 48 * mib };
/** Batches of a transfer that are worked on at once. */
export const sendBatchesMax = 2;
const sendBytes = 16 * mib;

/**
 * Carves the pools out of what is left of the process's budget.
 * @throws WalbError `bad-parameter` when it is not enough for the largest record.
 */
export function carveProxyMemory({ disk, compute, memory }: Platform): ProxyMemory {
  const { receiving, converting, sending } = carveShares(memory, "a proxy", least, usual);
  return {
    receiving,
    converting: { disk, compute, memory: converting },
    sending: { disk, compute, memory: sending },
    sendsMax: Math.max(1, Math.min(8, Math.floor(sending.budgetBytes / sendBytes))),
  };
}
