import { expect, test } from "bun:test";
import fc from "fast-check";
import { planMerge } from "../../src/diff/merge.ts";
import { RecordIndex } from "../../src/diff/record-index.ts";
import { RecordKind } from "../../src/diff/types.ts";
import { writtenRanges } from "../../src/diff/written.ts";

const unitLb = 72;
const unitsMax = 60;

test("what a copy may leave out is all written by the diffs, whole blocks of it, and nothing long is missed", () => {
  const record = fc.record({
    unit: fc.integer({ min: 0, max: unitsMax - 1 }),
    units: fc.integer({ min: 1, max: 20 }),
    kind: fc.constantFrom(RecordKind.normal, RecordKind.allZero, RecordKind.discard),
  });
  fc.assert(
    fc.property(
      fc.array(record, { maxLength: 12 }),
      fc.constantFrom("zero", "ignore"),
      fc.integer({ min: 20_000, max: 400_000 }),
      (ios, discard, step) => {
        const records = new RecordIndex();
        const written = new Uint8Array((unitsMax + 20) * unitLb);
        for (const { unit, units, kind } of ios) {
          const blocksLb = units * unitLb;
          const isNormal = kind === RecordKind.normal;
          records.push(unit * unitLb, blocksLb, kind, 0, 0, 0, isNormal ? 1 : 0, isNormal ? blocksLb : 0, 0, 0);
          const isWritten = kind !== RecordKind.discard || discard === "zero";
          written.fill(isWritten ? 1 : 0, unit * unitLb, unit * unitLb + blocksLb);
        }
        const next = writtenRanges(planMerge(records), discard);
        const found = new Uint8Array(written.length);
        for (let at = 0; at < written.length * 512; at += step) {
          const range = next(at);
          if (range === undefined) continue;
          expect([range.startBytes % 4096, range.endBytes % 4096]).toEqual([0, 0]);
          expect(range.endBytes).toBeGreaterThan(at);
          found.fill(1, range.startBytes / 512, range.endBytes / 512);
        }
        expect(found.every((is, lb) => is === 0 || written[lb] === 1)).toBe(true);
        // In steps shorter than a range nothing is passed by.
        if (step > 200_000) return;
        for (let lb = 0; lb < written.length; ) {
          let end = lb;
          while (end < written.length && written[end] === 1) end++;
          if (end - lb >= 512 + 16) expect(found.subarray(lb + 8, end - 8).every((is) => is === 1)).toBe(true);
          lb = Math.max(end, lb + 1);
        }
      },
    ),
    { numRuns: 300, seed: 6 },
  );
});
