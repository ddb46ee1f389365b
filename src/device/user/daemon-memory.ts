/** @module How a device daemon shares out its memory: requests of clients, volumes being opened, volumes that are open. */
import { WalbError } from "../../errors.ts";
import type { MemoryPool } from "../../native/memory.ts";
import { mib } from "../../units.ts";
import { maxPayloadBytes } from "./nbd/protocol.ts";

/** Two of the longest requests. */
const leastNbdBytes = 2 * maxPayloadBytes;
/** What an engine holds for good, and what it takes more while it is opened: a redo holds zeroes and two chunks. */
const engineBytes = 2 * mib;
const openingBytes = 8 * mib;
/** One volume being opened, and four. */
const leastEnginesBytes = openingBytes + 4 * engineBytes;
const openingAtOnceMax = 4;

/**
 * Takes the memory for payload of NBD requests and pending writes: half of it, at least enough for two requests.
 * @throws WalbError `bad-parameter` when no volumes would fit beside it.
 */
export function carveNbdMemory(memory: MemoryPool): MemoryPool {
  const freeBytes = memory.budgetBytes - memory.leasedBytes;
  if (freeBytes < leastNbdBytes + leastEnginesBytes) {
    const leastMib = (leastNbdBytes + leastEnginesBytes) / mib;
    throw new WalbError("bad-parameter", {
      what: `a device daemon needs ${leastMib} MiB of memory for data, but has ${Math.floor(freeBytes / mib)} MiB`,
      where: { field: "memory" },
      hint: `give it more: --memory ${leastMib}M`,
    });
  }
  return memory.carve(Math.max(leastNbdBytes, Math.floor(freeBytes / 2)));
}

/** What the memory beside that of the clients is enough for, so that no volume waits for ever for another's. */
export function volumeLimits(budgetBytes: number): { readonly openAtOnce: number; readonly volumesMax: number } {
  const openAtOnce = Math.max(1, Math.min(openingAtOnceMax, Math.floor(budgetBytes / 4 / openingBytes)));
  const volumesMax = Math.max(0, Math.floor((budgetBytes - openAtOnce * openingBytes) / engineBytes));
  return { openAtOnce, volumesMax };
}

/** Of the memory of the clients: the rest of a volume's share must be enough for reads while its writes wait. */
const pendingPart = 1 / 6;
const pendingBytesMax = 64 * mib;

/** How much of the memory of the clients the writes of one volume may hold that are not on its data store. */
export function pendingBudgetOf(clientBytes: number): number {
  return Math.min(pendingBytesMax, Math.floor(clientBytes * pendingPart));
}

/** The refusal of a volume there is no memory for. */
export function tooManyVolumes(volume: string, volumesMax: number): WalbError {
  return new WalbError("state", {
    what: `the memory of the daemon is enough for ${volumesMax} volumes, which are open`,
    where: { volume, field: "memory" },
    hint: "start the daemon with a larger --memory: each volume takes 4 MiB of it, 2 for itself and 2 for its clients",
  });
}
