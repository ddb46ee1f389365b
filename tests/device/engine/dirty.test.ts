import { expect, test } from "bun:test";
import fc from "fast-check";
import { DirtyRegions } from "../../../src/device/user/engine/dirty.ts";

const mib = 1 << 20;
const write = fc.record({ offset: fc.nat(64 * mib), size: fc.integer({ min: 1, max: 3 * mib }) });

test("slices are in order, apart, cover all that was written, and hold about as much each", () => {
  fc.assert(
    fc.property(fc.array(write, { maxLength: 60 }), (writes) => {
      const dirty = new DirtyRegions();
      const written = new Map<number, number>();
      for (const { offset, size } of writes) {
        dirty.note(offset, size);
        for (let at = offset; at < offset + size; ) {
          const to = Math.min(offset + size, (Math.floor(at / mib) + 1) * mib);
          written.set(Math.floor(at / mib), (written.get(Math.floor(at / mib)) ?? 0) + to - at);
          at = to;
        }
      }
      const slices = dirty.take();
      let end = 0;
      for (const { offsetBytes, sizeBytes } of slices) {
        expect(offsetBytes).toBeGreaterThanOrEqual(end);
        end = offsetBytes + sizeBytes;
        const regions = [...written].filter(([region]) => region * mib >= offsetBytes && region * mib < end);
        const sum = regions.reduce((total, [, bytes]) => total + bytes, 0);
        // More than a slice only where one region alone was written so often.
        expect(regions.length === 1 || sum <= mib).toBe(true);
        for (const [region] of regions) written.delete(region);
      }
      expect(written.size).toBe(0);
      expect(dirty.take()).toEqual([]);
    }),
  );
});

test("too many places are not kept track of, until the next time", () => {
  const dirty = new DirtyRegions();
  for (let region = 0; region <= 65_536; region++) dirty.note(region * 16 * mib, 512);
  dirty.note(0, 512);
  expect(dirty.take()).toEqual([]);
  dirty.note(2 ** 44, 512);
  expect(dirty.take()).toEqual([{ offsetBytes: 2 ** 44, sizeBytes: mib }]);
});
