/** @module The data of the benchmarks: of every 512 bytes, half is random and half repeats. */

/** Bytes that repeat; what fio writes with {@link repeatingPattern} looks the same. */
const repeating = Uint8Array.from({ length: 16 }, (_, i) => 0x20 + i);
export const repeatingPattern = `0x${Buffer.from(repeating).toString("hex")}`;

/** Fills `target`, the same for the same seed. */
export function fillData(target: Uint8Array, seed: number): void {
  let state = (seed * 2 + 1) >>> 0;
  for (let i = 0; i < target.length; i++) {
    if (i % 512 >= 256) target[i] = repeating[i % 16]!;
    else {
      // xorshift32
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      target[i] = state >>> 11;
    }
  }
}
