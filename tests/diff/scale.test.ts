import { describe, expect, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { applyDiffs } from "../../src/diff/apply.ts";
import { IndexedDiffWriter } from "../../src/diff/convert.ts";
import { planMerge } from "../../src/diff/merge.ts";
import { mergedPacks, writeMerged } from "../../src/diff/output.ts";
import { checkPack, packBytesMax } from "../../src/diff/pack.ts";
import { openDiffSet } from "../../src/diff/set.ts";
import { type DiffIo, imageLbMax, type LogIo, RecordKind } from "../../src/diff/types.ts";
import { VirtualImage } from "../../src/diff/virtual.ts";
import { Codec } from "../../src/native/codec.ts";
import { createMemoryPool } from "../../src/native/index.ts";
import type { Disk, DiskFile } from "../../src/platform/disk.ts";
import { io, type ModelIo, testUuid, writeDiff } from "../helpers/diff.ts";
import { withTemporaryDirectory } from "../helpers/temporary.ts";

/** A disk that counts the files that are open through it. */
function countingDisk(disk: Disk): { disk: Disk; count: { now: number; max: number } } {
  const count = { now: 0, max: 0 };
  const open: Disk["open"] = async (path, options) => {
    const file = await disk.open(path, options);
    count.now++;
    count.max = Math.max(count.max, count.now);
    const close = file.close.bind(file);
    let isOpen = true;
    const counted: DiskFile = Object.create(file, {
      close: {
        value: async () => {
          if (isOpen) count.now--;
          isOpen = false;
          await close();
        },
      },
    });
    const names = [
      "read",
      "readMany",
      "readCached",
      "readPackHeaders",
      "size",
      "write",
      "writeGather",
      "sync",
    ] as const;
    for (const name of names) {
      Object.defineProperty(counted, name, { value: (file[name] as () => unknown).bind(file) });
    }
    return counted;
  };
  return { disk: Object.create(disk, { open: { value: open } }) as Disk, count };
}

test("a merge of 100 diffs keeps to its bounds of open files and memory", async () => {
  await withTemporaryDirectory(async (directory) => {
    const paths: string[] = [];
    for (let i = 0; i < 100; i++) {
      const path = join(directory, `${i}`);
      const ios = Array.from({ length: 40 }, (_, j): ModelIo => {
        return { addressLb: j * 128 + ((i * 5) % 120), blocksLb: 8, kind: RecordKind.normal, id: i * 2 + 1 };
      });
      await writeDiff(path, ios, { kind: i % 2 === 0 ? "sorted" : "indexed" });
      paths.push(path);
    }
    const { disk, count } = countingDisk(io.disk);
    const memory = createMemoryPool(4 * 1024 * 1024);
    const small: DiffIo = { disk, memory, compute: io.compute };
    const set = await openDiffSet(small, paths, { openFilesMax: 5 });
    expect(count.max).toBe(5);
    const file = await io.disk.open(join(directory, "merged"), { mode: "create" });
    const stats = await writeMerged(small, set, planMerge(set.records), file);
    await file.close();
    // 24 offsets, five blocks apart, of 8 blocks each.
    expect(stats.normalLb).toBe(40 * 123);
    expect(count.max).toBe(5);
    await set.close();
    expect(count.now).toBe(0);
    expect(memory.leasedBytes).toBe(0);
  });
});

describe("the largest IO a log can have", () => {
  for (const codec of ["none", "snappy"] as const) {
    test(`passes through conversion, split, wire and apply with ${codec}`, async () => {
      await withTemporaryDirectory(async (directory) => {
        const at = (name: string): string => join(directory, name);
        const big: ModelIo = { addressLb: 3, blocksLb: imageLbMax, kind: RecordKind.normal, id: 1 };
        const compress = { codec: Codec[codec], level: 0 };
        const data = await io.memory.lease(imageLbMax * 512);
        // Half of it compresses.
        for (let i = 0; i < data.sizeBytes; i++) data.bytes[i] = i % 2 === 0 ? 0x55 : Math.imul(i, 2654435761) >>> 13;
        const file = await io.disk.open(at("a"), { mode: "create" });
        const writer = await IndexedDiffWriter.create(io, file, { uuid: testUuid, maxIoLb: 0, compress });
        await writer.add([{ offsetLb: big.addressLb, sizeLb: big.blocksLb, kind: "data", data }]);
        await writer.finish();
        await file.close();
        const expected = new Uint8Array((3 + imageLbMax) * 512);
        expected.set(data.bytes, 3 * 512);
        data.release();

        // Whole slices, a split one, and everything recompressed.
        await writeDiff(at("b"), [{ addressLb: 40000, blocksLb: 1, kind: RecordKind.discard, id: 0 }], {
          kind: "sorted",
        });
        expected.fill(0, 40000 * 512, 40001 * 512);
        const set = await openDiffSet(io, [at("a"), at("b")]);
        const plan = planMerge(set.records, { maxIoLb: 0 });
        for (const recompressAll of [false, true]) {
          let endLb = 0;
          let dataLb = 0;
          const options = { recompressAll, compress: { codec: Codec.lz4, level: 0 }, inFlightMax: 2 };
          for await (const pack of mergedPacks(io, set, plan, options)) {
            expect(pack.memory.sizeBytes).toBeLessThanOrEqual(packBytesMax);
            const checked = await checkPack(io, pack.memory, { fromLb: endLb, limitLb: 3 + imageLbMax });
            endLb = checked.endLb;
            dataLb += checked.stats.normalLb;
            pack.release();
          }
          expect(dataLb).toBe(imageLbMax - 1);
        }
        writeFileSync(at("image"), "");
        const image = await io.disk.open(at("image"), { mode: "write" });
        await image.truncate(expected.length);
        await applyDiffs(io, set, plan, image, { sizeLb: 3 + imageLbMax });
        await image.close();
        await set.close();
        expect(Buffer.compare(readFileSync(at("image")), expected)).toBe(0);
      });
    }, 300_000);
  }
});

test("a million extents over 1 TiB are read virtually, with an index far below 256 MiB", async () => {
  await withTemporaryDirectory(async (directory) => {
    const extents = 1_000_000;
    const sizeLb = 2 ** 31;
    const path = join(directory, "a");
    const file = await io.disk.open(path, { mode: "create" });
    const writer = await IndexedDiffWriter.create(io, file, { uuid: testUuid });
    const data = await io.memory.lease(512);
    data.bytes.fill(0x41);
    // Every address once, in an order that jumps over the whole volume.
    const addressOf = (i: number): number => ((i * 612_371) % extents) * 2147 + 1;
    const batchIos = 50_000;
    for (let done = 0; done < extents; done += batchIos) {
      const ios = Array.from({ length: batchIos }, (_, i): LogIo => {
        const offsetLb = addressOf(done + i);
        return (done + i) % 1000 === 0
          ? { offsetLb, sizeLb: 1, kind: "data", data }
          : { offsetLb, sizeLb: 1, kind: "discard" };
      });
      await writer.add(ios);
    }
    const stats = await writer.finish();
    await file.close();
    expect([stats.normalRecords, stats.discardRecords]).toEqual([1000, 999_000]);
    data.release();

    const base = await io.disk.open(join(directory, "base"), { mode: "create" });
    await base.truncate(sizeLb * 512);
    const mark = await io.memory.lease(512);
    mark.bytes.fill(0x42);
    const probes = [0, 1, 999, 1000, 500_000, 999_999];
    for (const i of probes) {
      await base.write(addressOf(i) * 512, mark);
      await base.write((addressOf(i) + 1) * 512, mark);
    }
    mark.release();
    const set = await openDiffSet(io, [path]);
    const plan = planMerge(set.records);
    const { records } = set;
    const arrays = [...Object.values(records), ...Object.values(plan.pieces)].filter((value) =>
      ArrayBuffer.isView(value),
    );
    const indexBytes = arrays.reduce((sum, array) => sum + array.byteLength, 0);
    expect(arrays.length).toBe(13);
    expect(indexBytes).toBeLessThan(100 * 1024 * 1024);
    const image = await VirtualImage.open(io, set, plan, base, { sizeLb });
    const target = await io.memory.lease(1024);
    for (const i of probes) {
      await image.read(addressOf(i) * 512, target);
      const first = i % 1000 === 0 ? 0x41 : 0;
      expect([...target.bytes.subarray(0, 512)].every((byte) => byte === first)).toBe(true);
      expect([...target.bytes.subarray(512)].every((byte) => byte === 0x42)).toBe(true);
      expect(image.nextCovered(addressOf(i) - 1)).toEqual({ startLb: addressOf(i), endLb: addressOf(i) + 1 });
    }
    await expect(image.read(sizeLb * 512, target)).rejects.toMatchObject({ code: "out-of-range" });
    target.release();
    await set.close();
    await base.close();
  });
}, 300_000);
