/** @module How a proxy shares out its memory: each pipeline has its own bound, so that none can starve another. */
import type { DiffIo } from "../diff/types.ts";
import { WalbError } from "../errors.ts";
import type { MemoryPool } from "../native/memory.ts";
import type { Platform } from "../platform/platform.ts";
import { alignDown, mib } from "../units.ts";

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
  const freeBytes = memory.budgetBytes - memory.leasedBytes;
  const leastBytes = least.receiving + least.converting + least.sending;
  const usualBytes = usual.receiving + usual.converting + usual.sending;
  if (freeBytes < leastBytes) {
    throw new WalbError("bad-parameter", {
      what: `a proxy needs ${leastBytes / mib} MiB of memory for data, but has ${Math.floor(freeBytes / mib)} MiB`,
      where: { field: "memory" },
      hint: `give it more: --memory ${leastBytes / mib}M`,
    });
  }
  const share = Math.min(1, (freeBytes - leastBytes) / (usualBytes - leastBytes));
  const carve = (name: keyof typeof least): MemoryPool =>
    memory.carve(alignDown(least[name] + Math.floor((usual[name] - least[name]) * share), mib));
  const receiving = carve("receiving");
  const converting = { disk, compute, memory: carve("converting") };
  const sending = { disk, compute, memory: carve("sending") };
  const sendsMax = Math.max(1, Math.min(8, Math.floor(sending.memory.budgetBytes / sendBytes)));
  return { receiving, converting, sending, sendsMax };
}
