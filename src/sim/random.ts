/** @module Seeded chance: sfc32, with independent streams by name. Not for secrets. */
import type { SimRandom } from "./api.ts";

/** A seeded stream of chance; the same seed gives the same stream on every machine. */
export function createSimRandom(seed: number, name = ""): SimRandom {
  let a = hashText(name, seed >>> 0);
  let b = hashText(name, (seed ^ 0x9e37_79b9) >>> 0);
  let c = Math.floor(seed / 0x1_0000_0000) >>> 0;
  let counter = 1;

  function u32(): number {
    const sum = (((a + b) | 0) + counter) | 0;
    counter = (counter + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (c << 21) | (c >>> 11);
    c = (c + sum) | 0;
    return sum >>> 0;
  }
  for (let i = 0; i < 12; i++) u32();

  const fraction = () => u32() / 0x1_0000_0000;
  return {
    u32,
    fraction,
    bytes(sizeBytes) {
      const bytes = new Uint8Array(sizeBytes);
      for (let i = 0; i < sizeBytes; i++) bytes[i] = u32() >>> 11;
      return bytes;
    },
    between: (min, max) => min + Math.floor(fraction() * (max - min + 1)),
    chance: (probability) => fraction() < probability,
    pick: (values) => values[Math.floor(fraction() * values.length)]!,
    fork: (child) => createSimRandom(seed, `${name}/${child}`),
  };
}

/** FNV-1a over UTF-16 code units, continued from `hash`. */
export function hashText(text: string, hash: number): number {
  let h = hash;
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x0100_0193);
  return h >>> 0;
}
