/** @module Seeded chance for generated workloads: the same seed gives the same log on every machine. */

/** xoshiro128**, seeded through splitmix32. Not for secrets. */
export class SeededRandom {
  #a: number;
  #b: number;
  #c: number;
  #d: number;

  /** @param seed a safe integer; all of its bits count. */
  constructor(seed: number) {
    let state = (seed >>> 0) ^ Math.imul(Math.floor(seed / 0x1_0000_0000) >>> 0, 0x9e37_79b9);
    const next = (): number => {
      state = (state + 0x9e37_79b9) | 0;
      let mixed = state ^ (state >>> 16);
      mixed = Math.imul(mixed, 0x21f0_aaad);
      mixed ^= mixed >>> 15;
      mixed = Math.imul(mixed, 0x735a_2d97);
      return mixed ^ (mixed >>> 15);
    };
    this.#a = next();
    this.#b = next();
    this.#c = next();
    this.#d = next();
  }

  /** Uniform in [0, 2^32). */
  u32(): number {
    const scrambled = Math.imul(this.#b, 5);
    const result = Math.imul((scrambled << 7) | (scrambled >>> 25), 9);
    const shifted = this.#b << 9;
    this.#c ^= this.#a;
    this.#d ^= this.#b;
    this.#b ^= this.#c;
    this.#a ^= this.#d;
    this.#c ^= shifted;
    this.#d = (this.#d << 11) | (this.#d >>> 21);
    return result >>> 0;
  }

  /** Uniform in [0, limit); `limit` is at most 2^53. */
  below(limit: number): number {
    const bits53 = this.u32() * 0x20_0000 + (this.u32() >>> 11);
    return Math.floor((bits53 / 2 ** 53) * limit);
  }

  /** Uniform in [min, max]. */
  between(min: number, max: number): number {
    return min + this.below(max - min + 1);
  }

  /** True with a chance of `fraction`. */
  chance(fraction: number): boolean {
    return this.u32() < fraction * 2 ** 32;
  }

  /** Fills words with random bits. */
  fill(words: Uint32Array): void {
    for (let i = 0; i < words.length; i += 1) words[i] = this.u32();
  }

  /** `sizeBytes` random bytes. */
  bytes(sizeBytes: number): Uint8Array {
    const words = new Uint32Array(Math.ceil(sizeBytes / 4));
    this.fill(words);
    return new Uint8Array(words.buffer, 0, sizeBytes);
  }
}
