/** @module Compute of a simulated process: the shim's own code, run at a virtual moment after the call. */
import type { Compute } from "../native/codec.ts";
import { createInlineCompute } from "../native/index.ts";
import type { DelayRange } from "./api.ts";
import type { SimProcess } from "./process.ts";

let shared: Compute | undefined;

/** The shim's codecs on the calling thread; one for all worlds, as it has no state. */
export function inlineCompute(): Compute {
  shared ??= createInlineCompute();
  return shared;
}

/** Jobs take a while, so that they interleave with all else, and read their input when they run, not when asked: a
 * lease that is given up too early shows. */
export function createSimCompute(process: SimProcess, delay: DelayRange): Compute {
  const inner = inlineCompute();
  const later = <T>(what: string, work: () => Promise<T>): Promise<T> =>
    process.later(process.delay(delay), `${process.hostName} ${what}`, work);
  return {
    encode: (items, option) => later(`encode ${items.length}`, () => inner.encode(items, option)),
    encodeAlways: (items, option) => later(`encode ${items.length}`, () => inner.encodeAlways(items, option)),
    decode: (items) => later(`decode ${items.length}`, () => inner.decode(items)),
    expand: (items) => later(`expand ${items.length}`, () => inner.expand(items)),
    frame: (items, target) => later(`frame ${items.length}`, () => inner.frame(items, target)),
    verify: (items) => later(`verify ${items.length}`, () => inner.verify(items)),
    checksums: (items, salt) => later(`checksum ${items.length}`, () => inner.checksums(items, salt)),
    hashes: (items, seed) => later(`hash ${items.length}`, () => inner.hashes(items, seed)),
    hashZeroes: (...run) => later("hash of zeroes", () => inner.hashZeroes(...run)),
    checksumNow: (memory, salt) => inner.checksumNow(memory, salt),
    isZeroNow: (memory) => inner.isZeroNow(memory),
    parsePacksNow: (headers, packs, columns, place) => inner.parsePacksNow(headers, packs, columns, place),
    chooseRowsNow: (columns, from, end, limits) => inner.chooseRowsNow(columns, from, end, limits),
  };
}
