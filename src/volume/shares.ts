/** @module How a role shares out its memory: each pipeline has its own bound, so that none can starve another. */
import { WalbError } from "../errors.ts";
import type { MemoryPool } from "../native/memory.ts";
import { alignDown, mib } from "../units.ts";

/** Bytes of each pipeline. */
type Shares<Name extends string> = Readonly<Record<Name, number>>;

/**
 * Carves a pool for each pipeline out of what is left of the process's budget: at least the smallest share, which its
 * largest piece of work needs, and no more than the usual one, beyond which memory makes nothing faster.
 * @param who "a proxy". @throws WalbError `bad-parameter` when it is not enough.
 */
export function carveShares<Name extends string>(
  memory: MemoryPool,
  who: string,
  least: Shares<Name>,
  usual: Shares<Name>,
): Readonly<Record<Name, MemoryPool>> {
  const names = Object.keys(least) as Name[];
  const sum = (shares: Shares<Name>): number => names.reduce((total, name) => total + shares[name], 0);
  const freeBytes = memory.budgetBytes - memory.leasedBytes;
  const [leastBytes, usualBytes] = [sum(least), sum(usual)];
  if (freeBytes < leastBytes) {
    throw new WalbError("bad-parameter", {
      what: `${who} needs ${leastBytes / mib} MiB of memory for data, but has ${Math.floor(freeBytes / mib)} MiB`,
      where: { field: "memory" },
      hint: `give it more: --memory ${leastBytes / mib}M`,
    });
  }
  const fraction = Math.min(1, (freeBytes - leastBytes) / (usualBytes - leastBytes));
  const carve = (name: Name): MemoryPool =>
    memory.carve(alignDown(least[name] + Math.floor((usual[name] - least[name]) * fraction), mib));
  return Object.fromEntries(names.map((name) => [name, carve(name)])) as Record<Name, MemoryPool>;
}
