import { expect, test } from "bun:test";
import { Codec, maxFramedBytes } from "../../src/native/codec.ts";
import { createInlineCompute, createMemoryPool } from "../../src/native/index.ts";
import { kib, mib } from "../../src/units.ts";
import { Decoder } from "../../src/wire/serializer.ts";

test("framed units are what the receiver of a log reads, whatever sizes the data has and compresses to", async () => {
  const pool = createMemoryPool(32 * mib);
  const compute = createInlineCompute();
  const sizes = [512, 1024, 4 * kib, 16 * kib, 65_024, 64 * kib, 128 * kib, mib];
  // Random bytes in front of a run: from nothing to all, so that compressed sizes take every length of number.
  const shares = [0, 0.01, 0.1, 0.24, 0.5, 0.999, 1];
  let state = 1;
  const items = sizes.flatMap((sizeBytes) =>
    [-1, ...shares].map((share) => {
      if (share < 0) return { memory: undefined, sizeBytes };
      const memory = pool.tryLease(sizeBytes)!;
      memory.bytes.fill(share === 0 ? 0 : 7);
      for (let i = 0; i < share * sizeBytes; i++) {
        state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
        memory.bytes[i] = state >>> 24;
      }
      return { memory, sizeBytes };
    }),
  );
  const target = pool.tryLease(items.reduce((sum, { sizeBytes }) => sum + maxFramedBytes(sizeBytes), 0))!;
  const framedBytes = await compute.frame(items, target);
  const decoder = new Decoder(target.bytes.subarray(0, framedBytes));
  const lengths = new Set<number>();
  for (const { memory, sizeBytes } of items) {
    expect(decoder.u8()).toBe(0);
    const before = decoder.offsetBytes;
    const storedBytes = decoder.u32();
    lengths.add(decoder.offsetBytes - before);
    expect(decoder.u32()).toBe(sizeBytes);
    const expected = memory?.bytes ?? new Uint8Array(sizeBytes);
    const source = target.slice(decoder.offsetBytes, storedBytes === 0 ? sizeBytes : storedBytes);
    expect(storedBytes).toBeLessThan(sizeBytes);
    decoder.seek(decoder.offsetBytes + source.sizeBytes);
    if (storedBytes === 0) {
      expect(Buffer.compare(source.bytes, expected)).toBe(0);
      continue;
    }
    const expanded = pool.tryLease(sizeBytes)!;
    const [result] = await compute.expand([{ source, codec: Codec.snappy, target: expanded }]);
    expect(result!.isGood).toBe(true);
    expect(Buffer.compare(expanded.bytes, expected)).toBe(0);
    expanded.release();
  }
  expect(decoder.offsetBytes).toBe(framedBytes);
  expect([...lengths].toSorted((a, b) => a - b)).toEqual([1, 2, 3, 5]);
  await expect(compute.frame(items.slice(0, 2), target.slice(0, 600))).rejects.toThrow("do not fit");
});
