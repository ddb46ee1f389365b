import { expect, test } from "bun:test";
import { readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { applyDiffs } from "../../src/diff/apply.ts";
import { packHeaderBytes, parsePackHeader } from "../../src/diff/format.ts";
import { planLone, planMerge } from "../../src/diff/merge.ts";
import { RecordIndex } from "../../src/diff/record-index.ts";
import { openDiffSet } from "../../src/diff/set.ts";
import { addressLbMax, RecordKind } from "../../src/diff/types.ts";
import { io, type ModelIo, writeDiff } from "../helpers/diff.ts";
import { withTemporaryDirectory } from "../helpers/temporary.ts";

let state = 99;
const random = (limit: number): number => {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return Math.floor((state / 2 ** 32) * limit);
};

/** Ascending records of all kinds, some behind one another, some of them longer than a transfer takes. */
function someIos(count: number): ModelIo[] {
  const ios: ModelIo[] = [];
  let addressLb = 0;
  for (let i = 0; i < count; i++) {
    addressLb += random(3) === 0 ? 1 + random(64) : 0;
    const kind = [RecordKind.normal, RecordKind.normal, RecordKind.allZero, RecordKind.discard][random(4)]!;
    const blocksLb = i % 301 === 300 ? 3000 : 1 + random(24);
    ios.push({ addressLb, blocksLb, kind, id: i + 1 });
    addressLb += blocksLb;
  }
  return ios;
}

test("a lone sorted diff is applied record by record to the same image as by the plan of its pieces", async () => {
  await withTemporaryDirectory(async (directory) => {
    const path = join(directory, "a.wdiff");
    await writeDiff(path, someIos(1500), { kind: "sorted", maxIoLb: 0 });
    const set = await openDiffSet(io, [path]);
    try {
      expect(set.isLoneSorted).toBe(true);
      const [lone, merged] = [planLone(set.records, set.stats), planMerge(set.records, { maxIoLb: 0 })];
      expect({ ...lone, pieces: undefined, isWhole: undefined }).toEqual({
        ...merged,
        pieces: undefined,
        isWhole: undefined,
      });
      expect([...lone.pieces.record.subarray(0, lone.pieces.count)]).toEqual([
        ...merged.pieces.record.subarray(0, merged.pieces.count),
      ]);
      for (const discard of ["zero", "ignore"] as const) {
        const images: Buffer[] = [];
        const results: unknown[] = [];
        for (const plan of [lone, merged]) {
          const target = join(directory, "image");
          writeFileSync(target, Buffer.alloc(lone.endLb * 512, 0x5a));
          const image = await io.disk.open(target, { mode: "write" });
          const done: number[] = [];
          results.push(
            await applyDiffs(io, set, plan, image, {
              sizeLb: lone.endLb,
              discard,
              onProgress: ({ doneLb }) => done.push(doneLb),
            }),
          );
          expect(done.at(-1)).toBe(lone.totalLb);
          await image.close();
          images.push(readFileSync(target));
        }
        expect(results[0]).toEqual(results[1]);
        expect(images[0]!.equals(images[1]!)).toBe(true);
      }
    } finally {
      await set.close();
    }
  });
}, 60_000);

test("a record of a lone sorted diff that is damaged is told with its place", async () => {
  await withTemporaryDirectory(async (directory) => {
    const path = join(directory, "a.wdiff");
    await writeDiff(path, someIos(600), { kind: "sorted", maxIoLb: 0 });
    const whole = await openDiffSet(io, [path]);
    const { records } = whole;
    const record = records.kind.findIndex((kind, i) => i > 400 && kind === RecordKind.normal);
    const offsetBytes = records.dataOffset[record]!;
    await whole.close();
    const bytes = readFileSync(path);
    bytes[offsetBytes]! ^= 1;
    writeFileSync(path, bytes);
    const set = await openDiffSet(io, [path]);
    const target = join(directory, "image");
    writeFileSync(target, "");
    truncateSync(target, 1 << 26);
    const image = await io.disk.open(target, { mode: "write" });
    const plan = planLone(set.records, set.stats);
    await expect(applyDiffs(io, set, plan, image, { sizeLb: addressLbMax })).rejects.toMatchObject({
      code: "damaged",
      where: { file: path, offsetBytes },
    });
    await image.close();
    await set.close();
  });
});

test("the shim takes exactly those pack headers that keep every rule, with the records that they have", async () => {
  await withTemporaryDirectory(async (directory) => {
    const path = join(directory, "a.wdiff");
    await writeDiff(path, someIos(127), { kind: "sorted", maxIoLb: 0 });
    const bytes = readFileSync(path);
    const good = new Uint8Array(bytes.subarray(32, 32 + packHeaderBytes));
    const count = good[4]! + 256 * good[5]!;
    const outcomes = { taken: 0, refused: 0 };
    for (let round = 0; round < 20_000; round++) {
      const header = good.slice();
      const view = new DataView(header.buffer);
      for (let changes = random(3); changes > 0; changes--) {
        const at = random(4) === 0 ? 4 + random(12) : 16 + 32 * random(count) + random(28);
        if (random(2) === 0) header[at]! ^= 1 << random(8);
        else view.setUint32(at - (at % 4), [0, 1, 0xffff, 0x7fffffff, 0xffffffff][random(5)]!, true);
      }
      // A sum that fits, mostly, so that the rules behind it are reached.
      if (random(20) !== 0) {
        view.setUint32(0, 0, true);
        view.setUint32(0, io.compute.checksumNow(header, 0), true);
      }
      const fromLb = random(10) === 0 ? 100 : 0;
      const limitLb = random(10) === 0 ? 1000 : addressLbMax;
      const expected = new RecordIndex(256);
      let info: ReturnType<typeof parsePackHeader> | undefined;
      try {
        info = parsePackHeader(header, io.compute, expected, 3, 32 + packHeaderBytes, fromLb, limitLb, {});
      } catch {
        info = undefined;
      }
      const got = new RecordIndex(256);
      const place = { count: 0, source: 3, fileBytes: bytes.length, offsetBytes: 32, fromLb, limitLb };
      const parsed = io.compute.parsePacksNow(header, 1, got, place);
      const isTaken = info !== undefined && 32 + packHeaderBytes + info.dataBytes <= bytes.length;
      expect(parsed.packs).toBe(isTaken ? 1 : 0);
      outcomes[isTaken ? "taken" : "refused"]++;
      if (info === undefined || !isTaken) continue;
      expect([parsed.count, parsed.isEnd]).toEqual([expected.count, info.isEnd]);
      if (info.isEnd) continue;
      expect([parsed.endLb, parsed.dataBytes]).toEqual([info.endLb, info.dataBytes]);
      for (const name of ["addressLb", "dataOffset"] as const) {
        expect(got[name].subarray(0, parsed.count)).toEqual(expected[name].subarray(0, parsed.count));
      }
      for (const name of ["blocksLb", "storedBytes", "imageLb", "sliceLb", "checksum"] as const) {
        expect(got[name].subarray(0, parsed.count)).toEqual(expected[name].subarray(0, parsed.count));
      }
      for (let i = 0; i < parsed.count; i++) {
        expect([got.kind[i], got.codec[i], got.source[i]]).toEqual([expected.kind[i], expected.codec[i], 3]);
      }
    }
    expect(outcomes.taken).toBeGreaterThan(1000);
    expect(outcomes.refused).toBeGreaterThan(1000);
  });
}, 60_000);
