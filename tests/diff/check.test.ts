import { expect, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { checkPlan } from "../../src/diff/check.ts";
import { sameImage } from "../../src/diff/images.ts";
import { type MergePlan, planMerge } from "../../src/diff/merge.ts";
import { openDiffSet } from "../../src/diff/set.ts";
import { type DiffIo, RecordKind } from "../../src/diff/types.ts";
import { Codec } from "../../src/native/codec.ts";
import type { Disk, DiskFile } from "../../src/platform/disk.ts";
import { io, type ModelIo, writeDiff } from "../helpers/diff.ts";
import { withTemporaryDirectory } from "../helpers/temporary.ts";

let state = 7;
const random = (limit: number): number => {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return Math.floor((state / 2 ** 32) * limit);
};

/** IOs that overlap, of all kinds; every 50th is longer than a job takes without memory of the pool. */
function someIos(count: number, firstId: number): ModelIo[] {
  return Array.from({ length: count }, (_, i) => {
    const kinds = [RecordKind.normal, RecordKind.normal, RecordKind.allZero, RecordKind.discard] as const;
    const isLong = i % 50 === 25;
    const kind = isLong ? RecordKind.normal : kinds[random(4)]!;
    // Odd ids do not compress.
    return { addressLb: random(9000), blocksLb: isLong ? 3000 : 1 + random(40), kind, id: firstId + 2 * i + random(2) };
  });
}

/** Files whose stored data can only be checked in memory, as those of other platforms. */
function withoutTransfer(disk: Disk): Pick<Disk, "open"> {
  return {
    async open(path, options) {
      const file = await disk.open(path, options);
      return new Proxy(file, {
        get(target: DiskFile, key) {
          const value: unknown = key === "transfer" ? undefined : Reflect.get(target, key, target);
          return typeof value === "function" ? value.bind(target) : value;
        },
      });
    },
  };
}

function isUsed({ records, pieces }: MergePlan, record: number): boolean {
  for (let i = 0; i < pieces.count; i++) if (sameImage(records, pieces.record[i]!, record)) return true;
  return false;
}

test("a check finds damage of any stored image that a merge uses, with its place, and nothing in what it does not use", async () => {
  await withTemporaryDirectory(async (directory) => {
    const paths = ["a", "b", "c"].map((name) => join(directory, `${name}.wdiff`));
    for (const [i, path] of paths.entries()) {
      await writeDiff(path, someIos(150, 1000 * i), { kind: i === 1 ? "indexed" : "sorted", maxIoLb: 0 });
    }
    const inMemory: DiffIo = { ...io, disk: { ...io.disk, ...withoutTransfer(io.disk) } };
    const check = async (by: DiffIo): Promise<number> => {
      const set = await openDiffSet(by, paths);
      const done: number[] = [0];
      try {
        const plan = planMerge(set.records);
        await checkPlan(by, set, plan, { onProgress: ({ doneLb }) => done.push(doneLb) });
        expect(done.at(-1)).toBe(plan.totalLb);
        return done.length;
      } finally {
        await set.close();
      }
    };
    expect(await check(io)).toBeGreaterThan(3);
    expect(await check(inMemory)).toBeGreaterThan(3);

    const set = await openDiffSet(io, paths);
    await set.close();
    const { records } = set;
    const plan = planMerge(records);
    const outcomes = { found: 0, unused: 0, long: 0, swapped: 0 };
    for (let record = 0; record < records.count; record += 1 + random(5)) {
      if (records.kind[record] !== RecordKind.normal) continue;
      const file = paths[records.source[record]!]!;
      const offsetBytes = records.dataOffset[record]!;
      const bytes = readFileSync(file);
      const at = offsetBytes + random(records.storedBytes[record]!);
      bytes[at]! ^= 0x10;
      writeFileSync(file, bytes);
      for (const by of [io, inMemory]) {
        if (isUsed(plan, record)) {
          await expect(check(by)).rejects.toMatchObject({ code: "damaged", where: { file, offsetBytes } });
          outcomes.found++;
          if (records.storedBytes[record]! > 1024 * 1024) outcomes.long++;
        } else {
          await check(by);
          outcomes.unused++;
        }
      }
      bytes[at]! ^= 0x10;
      writeFileSync(file, bytes);
      // The checksum is a sum of words: it does not see that two are exchanged, as it does not see what was compressed wrongly.
      if (records.codec[record] === Codec.none || records.storedBytes[record]! < 8 || !isUsed(plan, record)) continue;
      bytes.subarray(offsetBytes, offsetBytes + 8).swap64();
      bytes.subarray(offsetBytes, offsetBytes + 8).swap32();
      writeFileSync(file, bytes);
      for (const by of [io, inMemory]) {
        const error = { code: "damaged", where: { file, offsetBytes } };
        await expect(check(by)).rejects.toMatchObject(error);
        outcomes.swapped++;
      }
      bytes.subarray(offsetBytes, offsetBytes + 8).swap64();
      bytes.subarray(offsetBytes, offsetBytes + 8).swap32();
      writeFileSync(file, bytes);
    }
    expect(Math.min(...Object.values(outcomes))).toBeGreaterThan(1);
  });
}, 120_000);
