import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { copyImage, copyToFile } from "../../src/image/copy.ts";
import type { CopySource } from "../../src/image/image.ts";
import { createMemoryPool } from "../../src/native/slabs.ts";
import { kib, mib } from "../../src/units.ts";
import { platform } from "../helpers/diff.ts";
import { withTemporaryDirectory } from "../helpers/temporary.ts";

const { disk } = platform;

/** Data of a source, in blocks of 512 bytes: lengths of holes and data by turns. */
type Extents = readonly { readonly hole: number; readonly data: number }[];

const arbitraryExtents = fc.array(
  fc.record({
    hole: fc.oneof(fc.integer({ min: 0, max: 10 }), fc.integer({ min: 0, max: 3000 })),
    data: fc.oneof(fc.integer({ min: 1, max: 10 }), fc.integer({ min: 1, max: 5000 })),
  }),
  { maxLength: 12 },
);

/** A source that has these extents, and the ranges that were read of it. */
function sourceOf(extents: Extents, tailLb: number) {
  const ranges: { startBytes: number; endBytes: number }[] = [];
  let at = 0;
  for (const { hole, data } of extents) {
    const startBytes = at + hole * 512;
    at = startBytes + data * 512;
    ranges.push({ startBytes, endBytes: at });
  }
  const bytes = new Uint8Array(at + tailLb * 512);
  for (const { startBytes, endBytes } of ranges) {
    for (let i = startBytes; i < endBytes; i++) bytes[i] = 1 + ((i * 7 + (i >>> 9)) % 255);
  }
  const reads: { startBytes: number; endBytes: number }[] = [];
  const source: CopySource = {
    size: async () => bytes.length,
    async nextData(offsetBytes) {
      const range = ranges.find(({ endBytes }) => endBytes > offsetBytes);
      return range === undefined ? undefined : { ...range, startBytes: Math.max(offsetBytes, range.startBytes) };
    },
    async read(offsetBytes, target) {
      reads.push({ startBytes: offsetBytes, endBytes: offsetBytes + target.sizeBytes });
      target.bytes.set(bytes.subarray(offsetBytes, offsetBytes + target.sizeBytes));
    },
  };
  return { source, bytes, reads };
}

describe("a copy of an image", () => {
  test("is equal, reads each byte at most once and no long hole, in parts that end at multiples of a MiB", async () => {
    await fc.assert(
      fc.asyncProperty(arbitraryExtents, fc.nat(3000), async (extents, tailLb) => {
        await withTemporaryDirectory(async (directory) => {
          const { source, bytes, reads } = sourceOf(extents, tailLb);
          const memory = createMemoryPool(16 * mib);
          const content = async () => Object.assign(source, { memory });
          const [from, to] = [join(directory, "from"), join(directory, "to")];
          await (await disk.open(from, { mode: "create" })).close();
          await copyToFile(disk, memory, from, to, { content });
          expect(readFileSync(to).equals(bytes)).toBe(true);
          reads.sort((a, b) => a.startBytes - b.startBytes);
          let at = 0;
          for (const { startBytes, endBytes } of reads) {
            expect(startBytes).toBeGreaterThanOrEqual(at);
            expect(Math.floor(startBytes / mib)).toBe(Math.floor((endBytes - 1) / mib));
            expect(startBytes % 4096).toBe(0);
            at = endBytes;
          }
          const readBytes = reads.reduce((sum, { startBytes, endBytes }) => sum + endBytes - startBytes, 0);
          const dataBytes = extents.reduce((sum, { data }) => sum + data * 512, 0);
          expect(readBytes).toBeLessThanOrEqual(dataBytes + extents.length * 64 * kib);
          expect(memory.leasedBytes).toBe(0);
        });
      }),
      { numRuns: 40, seed: 6 },
    );
  });

  test("over something else leaves nothing of it, and zeroes behind the end of a source that is shorter", async () => {
    await withTemporaryDirectory(async (directory) => {
      const { source, bytes } = sourceOf(
        [
          { hole: 700, data: 3 },
          { hole: 5, data: 4000 },
          { hole: 2500, data: 1 },
        ],
        90,
      );
      const memory = createMemoryPool(16 * mib);
      const sizeBytes = bytes.length + 5 * mib;
      const to = await disk.open(join(directory, "to"), { mode: "create" });
      const old = await memory.lease(mib);
      old.bytes.fill(0xff);
      for (let at = 0; at < sizeBytes; at += mib) await to.write(at, old);
      old.release();
      const heard: number[] = [];
      await copyImage({ from: source, to, sizeBytes, memory, onProgress: (doneBytes) => heard.push(doneBytes) });
      await to.close();
      const copy = readFileSync(join(directory, "to")).subarray(0, sizeBytes);
      expect(copy.equals(Buffer.concat([bytes, new Uint8Array(5 * mib)]))).toBe(true);
      expect(heard.at(-1)).toBe(sizeBytes);
    });
  });
});
