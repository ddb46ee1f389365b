/** @module Tables of batch items in shim memory: bounded in size, reused, never a JavaScript array's address. */
import { WalbError } from "../errors.ts";
import { ItemF64, itemBytes, itemF64 } from "./layout.ts";
import type { Memory } from "./memory.ts";
import { mapMemory, shim } from "./shim.ts";

/** A range of shim memory seen as doubles, words and bytes. */
export interface Table {
  readonly address: number;
  readonly f64: Float64Array;
  readonly u32: Uint32Array;
  readonly bytes: Uint8Array;
}

/** Most items of one batch. */
const itemsMax = 1 << 20;
const smallestLog2 = 12;
/** Tables above this many bytes give their pages back when they are not used. */
const warmLog2 = 20;
const freeTables: Table[][] = [];

function makeTable(log2: number): Table {
  const { address, buffer } = mapMemory(2 ** log2);
  return { address, f64: new Float64Array(buffer), u32: new Uint32Array(buffer), bytes: new Uint8Array(buffer) };
}

/** Lends a table of at least `sizeBytes` while `use` runs. Its contents are undefined. */
export async function withTable<T>(sizeBytes: number, use: (table: Table) => Promise<T>): Promise<T> {
  if (sizeBytes > itemsMax * itemBytes) {
    throw new WalbError("internal", { what: `a batch table of ${sizeBytes} bytes is above ${itemsMax * itemBytes}` });
  }
  const log2 = Math.max(smallestLog2, 32 - Math.clz32(Math.max(1, sizeBytes) - 1));
  freeTables[log2] ??= [];
  const free = freeTables[log2];
  const table = free.pop() ?? makeTable(log2);
  try {
    return await use(table);
  } finally {
    if (log2 > warmLog2) shim.cool(table.address, 2 ** log2);
    free.push(table);
  }
}

/** Lends a table for `count` items. */
export function withItems<T>(count: number, use: (table: Table) => Promise<T>): Promise<T> {
  return withTable(count * itemBytes, use);
}

/** A table for `count` items that its owner keeps for good. */
export function keptTable(count: number): Table {
  return makeTable(Math.max(smallestLog2, 32 - Math.clz32(count * itemBytes - 1)));
}

/** Writes the source of item `index`. */
export function putSource(table: Table, index: number, source: Memory): void {
  table.f64[index * itemF64 + ItemF64.source] = source.address;
  table.f64[index * itemF64 + ItemF64.sourceSize] = source.sizeBytes;
}

/** Writes the target of item `index`. */
export function putTarget(table: Table, index: number, address: number, sizeBytes: number): void {
  table.f64[index * itemF64 + ItemF64.target] = address;
  table.f64[index * itemF64 + ItemF64.targetSize] = sizeBytes;
}
