/** @module Strong random numbers of the system. */
import { checkRange } from "../../units.ts";
import type { Random } from "../clock.ts";

/** getRandomValues takes no more at a time. */
const stepBytes = 65536;

/** The real {@link Random}. */
export function createRandom(): Random {
  return { bytes, u32, fraction: () => u32() / 2 ** 32 };
}

function bytes(sizeBytes: number): Uint8Array {
  const all = new Uint8Array(checkRange(sizeBytes, 0, 2 ** 30, "random bytes"));
  for (let at = 0; at < sizeBytes; at += stepBytes) crypto.getRandomValues(all.subarray(at, at + stepBytes));
  return all;
}

function u32(): number {
  return crypto.getRandomValues(new Uint32Array(1))[0] ?? 0;
}
