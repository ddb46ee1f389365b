import { describe, expect, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { applyDiffs } from "../../src/diff/apply.ts";
import { commitDiffFile } from "../../src/diff/commit.ts";
import { planMerge } from "../../src/diff/merge.ts";
import { writeMerged } from "../../src/diff/output.ts";
import { checkPack } from "../../src/diff/pack.ts";
import { type DiffSet, openDiffSet } from "../../src/diff/set.ts";
import { SortedDiffWriter } from "../../src/diff/sorted.ts";
import { formatStats } from "../../src/diff/stats.ts";
import { readSortedStream } from "../../src/diff/stream.ts";
import { type DiscardPolicy, RecordKind } from "../../src/diff/types.ts";
import { VirtualImage } from "../../src/diff/virtual.ts";
import { Codec } from "../../src/native/codec.ts";
import type { Memory } from "../../src/native/memory.ts";
import {
  applyToBytes,
  io,
  listRecords,
  type ModelIo,
  naiveIndexOverlay,
  naiveOverlay,
  packsOf,
  testUuid,
  writeDiff,
} from "../helpers/diff.ts";
import { withTemporaryDirectory } from "../helpers/temporary.ts";

const sizeLb = 256;
const sizeBytes = sizeLb * 512;

async function mergeFiles(
  paths: readonly string[],
  target: string,
  maxIoLb: number,
  joinSlices = false,
): Promise<void> {
  const set = await openDiffSet(io, paths, { openFilesMax: 2 });
  try {
    const file = await io.disk.open(`${target}.tmp`, { mode: "create" });
    await writeMerged(io, set, planMerge(set.records, { maxIoLb, joinSlices }), file);
    await commitDiffFile(io.disk, file, target);
  } finally {
    await set.close();
  }
}

async function applyFiles(
  paths: readonly string[],
  imagePath: string,
  before: Uint8Array,
  discard: DiscardPolicy,
): Promise<Uint8Array> {
  writeFileSync(imagePath, before);
  const image = await io.disk.open(imagePath, { mode: "write" });
  const set = await openDiffSet(io, paths);
  try {
    const seen: number[] = [];
    const plan = planMerge(set.records);
    const onProgress = (progress: { doneLb: number }): number => seen.push(progress.doneLb);
    const result = await applyDiffs(io, set, plan, image, { sizeLb, discard, onProgress });
    expect(result.writtenLb + result.zeroedLb + result.ignoredLb).toBe(plan.totalLb);
    expect(seen.at(-1) ?? 0).toBe(plan.totalLb);
  } finally {
    await set.close();
    await image.close();
  }
  return readFileSync(imagePath);
}

async function readVirtual(paths: readonly string[], basePath: string, stepBytes: number): Promise<Uint8Array> {
  const base = await io.disk.open(basePath, { mode: "read" });
  const set = await openDiffSet(io, paths);
  const lease = await io.memory.lease(stepBytes);
  try {
    const image = await VirtualImage.open(io, set, planMerge(set.records), base, { sizeLb });
    const all = new Uint8Array(sizeBytes);
    for (let at = 0; at < sizeBytes; at += stepBytes) {
      const part = lease.slice(0, Math.min(stepBytes, sizeBytes - at));
      part.bytes.fill(0xcc);
      await image.read(at, part);
      all.set(part.bytes, at);
    }
    return all;
  } finally {
    lease.release();
    await set.close();
    await base.close();
  }
}

const anyIo = fc
  .record({
    addressLb: fc.integer({ min: 0, max: sizeLb - 1 }),
    blocksLb: fc.integer({ min: 1, max: 60 }),
    kind: fc.constantFrom(RecordKind.normal, RecordKind.normal, RecordKind.allZero, RecordKind.discard),
    id: fc.integer({ min: 0, max: 65535 }),
  })
  .map((one): ModelIo => ({ ...one, blocksLb: Math.min(one.blocksLb, sizeLb - one.addressLb) }));

const anyDiff = fc.record({
  ios: fc.array(anyIo, { maxLength: 14 }),
  kind: fc.constantFrom("sorted", "indexed"),
  maxIoLb: fc.constantFrom(0, 1, 5, 16, 2048),
  codec: fc.constantFrom(...Object.values(Codec)),
});

test("diffs of any kind and codec keep the definition's records and the model's bytes through convert, merge, apply and virtual reading", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(anyDiff, { minLength: 1, maxLength: 4 }),
      fc.constantFrom(0, 4, 2048),
      fc.constantFrom(512, 4096 * 3, sizeBytes),
      async (diffs, maxIoLb, stepBytes) => {
        await withTemporaryDirectory(async (directory) => {
          const paths: string[] = [];
          const inputs: ModelIo[] = [];
          for (const [i, diff] of diffs.entries()) {
            const path = join(directory, `${i}.wdiff`);
            const compress = { codec: diff.codec, level: 0 };
            const stats = await writeDiff(path, diff.ios, { kind: diff.kind, maxIoLb: diff.maxIoLb, compress });
            const naive = diff.kind === "sorted" ? naiveOverlay : naiveIndexOverlay;
            // Ids repeat between IOs, so pieces are told apart by the position of their IO.
            const pieces = naive(
              diff.ios.map((one, position) => ({ ...one, id: position })),
              diff.maxIoLb,
            );
            const expected = pieces.map((p) => ({
              addressLb: p.addressLb,
              blocksLb: p.blocksLb,
              kind: diff.ios[p.id]!.kind,
            }));
            const listed = await listRecords(path);
            expect(listed).toEqual(expected);
            expect(stats.normalRecords + stats.zeroRecords + stats.discardRecords).toBe(listed.length);
            paths.push(path);
            for (const one of listed) inputs.push({ ...one, kind: one.kind as RecordKind, id: inputs.length });
          }
          const all = diffs.flatMap((diff) => diff.ios);
          const before = new Uint8Array(sizeBytes).fill(0x2e);

          const merged = join(directory, "merged.wdiff");
          await mergeFiles(paths, merged, maxIoLb);
          const expected = naiveOverlay(inputs, maxIoLb).map((p) => ({
            addressLb: p.addressLb,
            blocksLb: p.blocksLb,
            kind: inputs[p.id]!.kind,
          }));
          expect(await listRecords(merged)).toEqual(expected);

          const model = before.slice();
          applyToBytes(model, all);
          const imagePath = join(directory, "image");
          expect(await applyFiles(paths, imagePath, before, "zero")).toEqual(Buffer.from(model));
          expect(await applyFiles([merged], imagePath, before, "zero")).toEqual(Buffer.from(model));
          expect(await applyFiles([merged], imagePath, model, "zero")).toEqual(Buffer.from(model));
          const joined = join(directory, "joined.wdiff");
          await mergeFiles(paths, joined, maxIoLb, true);
          expect(await applyFiles([joined], imagePath, before, "zero")).toEqual(Buffer.from(model));
          const most = maxIoLb === 0 ? sizeLb : maxIoLb;
          expect((await listRecords(joined)).every((record) => record.blocksLb <= most)).toBe(true);
          writeFileSync(imagePath, before);
          expect(await readVirtual(paths, imagePath, stepBytes)).toEqual(model);
          expect(await readVirtual([merged], imagePath, stepBytes)).toEqual(model);
        });
      },
    ),
    { numRuns: 60 },
  );
}, 300_000);

test("merging is associative, and discards can be ignored", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(anyDiff, { minLength: 3, maxLength: 3 }), async (diffs) => {
      await withTemporaryDirectory(async (directory) => {
        const at = (name: string): string => join(directory, name);
        for (const [i, diff] of diffs.entries()) {
          await writeDiff(at(`${i}`), diff.ios, { kind: diff.kind, maxIoLb: diff.maxIoLb });
        }
        await mergeFiles([at("0"), at("1")], at("01"), 0);
        await mergeFiles([at("1"), at("2")], at("12"), 0);
        await mergeFiles([at("01"), at("2")], at("01-2"), 0);
        await mergeFiles([at("0"), at("12")], at("0-12"), 0);
        await mergeFiles([at("0"), at("1"), at("2")], at("012"), 0);
        expect(await listRecords(at("01-2"))).toEqual(await listRecords(at("012")));
        expect(await listRecords(at("0-12"))).toEqual(await listRecords(at("012")));
        const before = new Uint8Array(sizeBytes).fill(0xff);
        const results = [];
        for (const name of ["01-2", "0-12", "012"]) {
          results.push(await applyFiles([at(name)], at("image"), before, "ignore"));
        }
        expect(results[0]).toEqual(results[2]!);
        expect(results[1]).toEqual(results[2]!);
        // Ignoring a discard leaves what was there before the merged diff, whatever earlier diffs of it wrote.
        const zeroed = await applyFiles([at("012")], at("image"), before, "zero");
        const listed = await listRecords(at("012"));
        for (const { addressLb, blocksLb, kind } of listed) {
          const range = results[2]!.subarray(addressLb * 512, (addressLb + blocksLb) * 512);
          if (kind === RecordKind.discard) expect(range.every((byte) => byte === 0xff)).toBe(true);
          else expect(range).toEqual(zeroed.subarray(addressLb * 512, (addressLb + blocksLb) * 512));
        }
      });
    }),
    { numRuns: 25 },
  );
}, 300_000);

describe("packs for the wire", () => {
  const ios: ModelIo[] = Array.from({ length: 400 }, (_, i) => ({
    addressLb: i * 3,
    blocksLb: i % 5 === 0 ? 4 : 2,
    kind: i % 7 === 0 ? RecordKind.discard : RecordKind.normal,
    id: i,
  }));

  test("carry a merge so that a receiver writes an equal file", async () => {
    await withTemporaryDirectory(async (directory) => {
      const a = join(directory, "a");
      const b = join(directory, "b");
      await writeDiff(a, ios, { kind: "indexed" });
      await writeDiff(b, ios.slice(100, 200).reverse(), { kind: "sorted", compress: { codec: Codec.zstd, level: 0 } });
      const packs = await packsOf([a, b]);
      expect(packs.length).toBeGreaterThan(2);
      await mergeFiles([a, b], join(directory, "merged"), 2048);
      const file = await io.disk.open(join(directory, "received"), { mode: "create" });
      const writer = await SortedDiffWriter.create(io, file, testUuid);
      for (const bytes of packs) {
        const lease = await io.memory.lease(bytes.length);
        lease.bytes.set(bytes);
        await writer.appendPack(await checkPack(io, lease, { fromLb: writer.endLb, limitLb: 1203 }));
        lease.release();
      }
      await writer.finish();
      await file.close();
      expect(readFileSync(join(directory, "received"))).toEqual(readFileSync(join(directory, "merged")));
    });
  });

  test("come out of a pipe as they were written, and a cut in it is found", async () => {
    await withTemporaryDirectory(async (directory) => {
      const path = join(directory, "a");
      await writeDiff(path, ios, { kind: "sorted" });
      const bytes = new Uint8Array(readFileSync(path));
      const readAll = async (sizeBytes: number, lenient: boolean): Promise<Uint8Array> => {
        let at = 0;
        const read = (target: Memory): Promise<number> => {
          const part = bytes.subarray(at, Math.min(at + target.sizeBytes, sizeBytes));
          target.bytes.set(part);
          at += part.length;
          return Promise.resolve(part.length);
        };
        const { uuid, packs } = await readSortedStream(io, { name: "pipe", read }, { lenient });
        expect(uuid).toEqual(testUuid);
        const parts: Uint8Array[] = [];
        for await (const pack of packs) {
          parts.push(pack.memory.bytes.slice());
          pack.release();
        }
        return Buffer.concat(parts);
      };
      const whole = bytes.subarray(32, bytes.length - 4096);
      const leased = io.memory.leasedBytes;
      expect(await readAll(bytes.length, false)).toEqual(Buffer.from(whole));
      expect(await readAll(bytes.length - 4096, true)).toEqual(Buffer.from(whole));
      for (const missing of [1, 4095, 4096, 4097]) {
        await expect(readAll(bytes.length - missing, false)).rejects.toMatchObject({ code: "damaged" });
      }
      await expect(readAll(bytes.length - 4097, true)).rejects.toMatchObject({ code: "damaged" });
      expect(io.memory.leasedBytes).toBe(leased);
    });
  });

  test("keep each record's codec, or all get the asked one", async () => {
    await withTemporaryDirectory(async (directory) => {
      const path = join(directory, "a");
      const even = ios.filter((one) => one.id % 2 === 0).map((one): ModelIo => ({ ...one, kind: RecordKind.normal }));
      await writeDiff(path, even, { kind: "sorted", compress: { codec: Codec.lz4, level: 0 } });
      const codecs = (packs: readonly Uint8Array[]): Set<number> =>
        new Set(
          packs.flatMap((pack) => {
            const view = new DataView(pack.buffer, pack.byteOffset);
            return Array.from({ length: view.getUint16(4, true) }, (_, i) => view.getUint8(16 + 32 * i + 13));
          }),
        );
      expect(codecs(await packsOf([path]))).toEqual(new Set([Codec.lz4]));
      expect(codecs(await packsOf([path], { codec: Codec.zstd, level: 3 }))).toEqual(new Set([Codec.zstd]));
    });
  });

  test("are refused when one bit of header or data is wrong", async () => {
    await withTemporaryDirectory(async (directory) => {
      const path = join(directory, "a");
      await writeDiff(path, ios.slice(0, 20), { kind: "sorted" });
      const [pack] = await packsOf([path]);
      const lease = await io.memory.lease(pack!.length);
      for (let at = 0; at < pack!.length; at += 13) {
        lease.bytes.set(pack!);
        lease.bytes[at]! ^= 1 << (at % 8);
        expect(checkPack(io, lease)).rejects.toMatchObject({ name: "WalbError" });
        await checkPack(io, lease).catch(() => undefined);
      }
      lease.bytes.set(pack!);
      expect(checkPack(io, lease, { limitLb: 10 })).rejects.toMatchObject({ code: "out-of-range" });
      expect(checkPack(io, lease, { fromLb: 1 })).rejects.toMatchObject({ code: "bad-format" });
      await checkPack(io, lease);
      lease.release();
    });
  });
});

test("with slices joined, the IOs of an indexed diff pass through a merge as they were stored", async () => {
  await withTemporaryDirectory(async (directory) => {
    const at = (name: string): string => join(directory, name);
    const ios: ModelIo[] = [
      { addressLb: 3, blocksLb: 27, kind: RecordKind.normal, id: 2 },
      { addressLb: 30, blocksLb: 9, kind: RecordKind.discard, id: 0 },
      { addressLb: 41, blocksLb: 30, kind: RecordKind.normal, id: 4 },
      { addressLb: 101, blocksLb: 50, kind: RecordKind.normal, id: 5 },
      { addressLb: 120, blocksLb: 3, kind: RecordKind.normal, id: 6 },
    ];
    await writeDiff(at("a"), ios, { kind: "indexed" });
    await mergeFiles([at("a")], at("m"), 2048, true);
    const discards = (await listRecords(at("a"))).filter((record) => record.kind === RecordKind.discard);
    expect(await listRecords(at("m"))).toEqual([
      { addressLb: 3, blocksLb: 27, kind: 0 },
      ...discards,
      { addressLb: 41, blocksLb: 30, kind: 0 },
      { addressLb: 101, blocksLb: 19, kind: 0 },
      { addressLb: 120, blocksLb: 3, kind: 0 },
      { addressLb: 123, blocksLb: 28, kind: 0 },
    ]);
    const before = await openDiffSet(io, [at("a")]);
    const after = await openDiffSet(io, [at("m")]);
    const sums = new Set(before.records.checksum.subarray(0, before.records.count));
    const kept = after.records.checksum.subarray(0, after.records.count).filter((sum) => sum !== 0 && sums.has(sum));
    expect(kept.length).toBe(3);
    await before.close();
    await after.close();
  });
});

test("small reads of the virtual image expand an image once", async () => {
  await withTemporaryDirectory(async (directory) => {
    const at = (name: string): string => join(directory, name);
    const ios: ModelIo[] = [
      { addressLb: 3, blocksLb: 64, kind: RecordKind.normal, id: 2 },
      { addressLb: 20, blocksLb: 5, kind: RecordKind.discard, id: 0 },
      { addressLb: 80, blocksLb: 64, kind: RecordKind.normal, id: 4 },
    ];
    await writeDiff(at("a"), ios, { kind: "indexed" });
    writeFileSync(at("base"), new Uint8Array(sizeBytes));
    let decoded = 0;
    const decode: typeof io.compute.decode = (items) => {
      decoded += items.length;
      return io.compute.decode(items);
    };
    const compute = Object.create(io.compute, { decode: { value: decode } }) as typeof io.compute;
    const counting = { disk: io.disk, memory: io.memory, compute };
    const set = await openDiffSet(io, [at("a")]);
    const base = await io.disk.open(at("base"), { mode: "read" });
    const image = await VirtualImage.open(counting, set, planMerge(set.records), base, { sizeLb });
    const target = await io.memory.lease(512);
    const model = new Uint8Array(sizeBytes);
    applyToBytes(model, ios);
    for (let lb = 0; lb < sizeLb; lb++) {
      await image.read(lb * 512, target);
      expect(Buffer.compare(target.bytes, model.subarray(lb * 512, lb * 512 + 512))).toBe(0);
    }
    expect(decoded).toBe(2);
    target.release();
    await base.close();
    await set.close();
  });
});

test("memory is given back after success, failure and an early end", async () => {
  await withTemporaryDirectory(async (directory) => {
    const path = join(directory, "a");
    const leased = io.memory.leasedBytes;
    const many = Array.from(
      { length: 3000 },
      (_, i) => ({ addressLb: i * 8, blocksLb: 8, kind: 0, id: i * 2 + 1 }) as ModelIo,
    );
    await writeDiff(path, many, { kind: "indexed", chunk: 500 });
    const bytes = readFileSync(path);
    bytes[4096 * 40] = bytes[4096 * 40]! ^ 1;
    writeFileSync(path, bytes);
    await expect(packsOf([path])).rejects.toMatchObject({ code: "damaged" });
    await expect(mergeFiles([path], join(directory, "m"), 0)).rejects.toMatchObject({ code: "damaged" });
    writeFileSync(join(directory, "image"), "");
    const set: DiffSet = await openDiffSet(io, [path]);
    const image = await io.disk.open(join(directory, "image"), { mode: "write" });
    const plan = planMerge(set.records);
    await expect(applyDiffs(io, set, plan, image, { sizeLb: 24000 })).rejects.toMatchObject({ code: "damaged" });
    await expect(applyDiffs(io, set, plan, image, { sizeLb: 23999 })).rejects.toMatchObject({ code: "out-of-range" });
    const signal = AbortSignal.abort();
    await expect(applyDiffs(io, set, plan, image, { sizeLb: 24000, signal })).rejects.toMatchObject({
      code: "cancelled",
    });
    await image.close();
    await set.close();
    expect(io.memory.leasedBytes).toBe(leased);
  });
});

test("the merge of files follows the published example", async () => {
  await withTemporaryDirectory(async (directory) => {
    const at = (name: string): string => join(directory, name);
    const n = (addressLb: number, blocksLb: number, kind: RecordKind, id: number): ModelIo => ({
      addressLb,
      blocksLb,
      kind,
      id,
    });
    const diffs = [
      [n(0, 10, 0, 2), n(20, 10, 0, 4)],
      [n(5, 20, 0, 6), n(40, 4, 1, 0)],
      [n(7, 2, 2, 0), n(24, 2, 0, 8)],
    ];
    const show = async (path: string): Promise<string> =>
      (await listRecords(path)).map((r) => `[${r.addressLb},${r.blocksLb}${["", " Z", " D"][r.kind]}]`).join("");
    for (const kind of ["sorted", "indexed"] as const) {
      for (const [i, ios] of diffs.entries()) await writeDiff(at(`${kind}${i}`), ios, { kind });
      const paths = [0, 1, 2].map((i) => at(`${kind}${i}`));
      await mergeFiles(paths, at(`${kind}-m`), 2048);
      await mergeFiles(paths, at(`${kind}-4`), 4);
    }
    expect(await show(at("sorted-m"))).toBe("[0,5][5,2][7,2 D][9,15][24,2][26,4][40,4 Z]");
    expect(await show(at("sorted-4"))).toBe("[0,4][4,1][5,2][7,2 D][9,4][13,4][17,4][21,3][24,2][26,2][28,2][40,4 Z]");
    expect(await show(at("indexed-m"))).toBe("[0,5][5,1][6,1][7,1 D][8,1 D][9,7][16,8][24,2][26,2][28,2][40,4 Z]");
    const base = new Uint8Array(48 * 512).fill(0x2e);
    writeFileSync(at("base"), base);
    const model = new Uint8Array(sizeBytes);
    model.set(base);
    applyToBytes(model, diffs.flat());
    expect(
      await readVirtual(
        [0, 1, 2].map((i) => at(`indexed${i}`)),
        at("base"),
        4096,
      ),
    ).toEqual(model);
  });
});

describe("bytes of small files", () => {
  const block = (letter: string): Uint8Array => new Uint8Array(512).fill(letter.charCodeAt(0));
  const hex = (text: string): string => text.replaceAll(" ", "");
  const hexOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

  test("an indexed file is exactly as published", async () => {
    await withTemporaryDirectory(async (directory) => {
      const path = join(directory, "a");
      const { IndexedDiffWriter } = await import("../../src/diff/convert.ts");
      const file = await io.disk.open(path, { mode: "create" });
      const writer = await IndexedDiffWriter.create(io, file, { uuid: testUuid });
      const data = await io.memory.lease(3 * 512);
      for (const [i, letter] of ["A", "B", "C"].entries()) data.bytes.set(block(letter), i * 512);
      const zero = await io.memory.lease(512);
      zero.bytes.fill(0);
      const stats = await writer
        .add([
          { offsetLb: 5, sizeLb: 3, kind: "data", data },
          { offsetLb: 0, sizeLb: 9, kind: "padding" },
          { offsetLb: 6, sizeLb: 1, kind: "data", data: zero },
          { offsetLb: 8, sizeLb: 12, kind: "discard" },
        ])
        .then(() => writer.finish());
      data.release();
      zero.release();
      await file.close();
      expect(formatStats(stats)).toBe("wdiffNr 1  nrN 2 nrZ 1 nrD 2  lbN 2 lbZ 1 lbD 12  dataSize 80");
      const bytes = readFileSync(path);
      expect(bytes.length).toBe(376);
      expect(hexOf(bytes.subarray(0, 16))).toEqual(hex("e6e3dedb 0200 01 00 00000000 00000000"));
      expect(hexOf(bytes.subarray(112))).toEqual(
        hex(
          "0500000000000000 01000000 00 02 0000 2000000000000000 50000000 00000000 03000000 00000000 86b9ff7f 01440080" +
            "0600000000000000 01000000 02 00 0000 7000000000000000 00000000 00000000 00000000 00000000 00000000 87ffffff" +
            "0700000000000000 01000000 00 02 0000 2000000000000000 50000000 02000000 03000000 00000000 86b9ff7f fd430080" +
            "0800000000000000 08000000 04 00 0000 7000000000000000 00000000 00000000 00000000 00000000 00000000 7cffffff" +
            "1000000000000000 04000000 04 00 0000 7000000000000000 00000000 08000000 00000000 00000000 00000000 70ffffff" +
            "7000000000000000 05000000 03000000 00000000 88ffffff",
        ),
      );
    });
  });

  test("a sorted file is exactly as published", async () => {
    await withTemporaryDirectory(async (directory) => {
      const path = join(directory, "a");
      const { SortedDiffConverter } = await import("../../src/diff/convert.ts");
      const spool = await io.disk.open(join(directory, "spool"), { mode: "create" });
      const compress = { codec: Codec.none, level: 0 };
      const converter = new SortedDiffConverter(io, spool, { uuid: testUuid, maxIoLb: 0, compress });
      const data = await io.memory.lease(1024);
      data.bytes.set(block("A"));
      data.bytes.set(block("B"), 512);
      const zero = await io.memory.lease(8 * 512);
      zero.bytes.fill(0);
      await converter.add([
        { offsetLb: 200000, sizeLb: 8, kind: "data", data: zero },
        { offsetLb: 10, sizeLb: 100000, kind: "discard" },
        { offsetLb: 5, sizeLb: 2, kind: "data", data },
      ]);
      data.release();
      zero.release();
      const file = await io.disk.open(path, { mode: "create" });
      await converter.finish(file);
      await file.close();
      await spool.close();
      const bytes = readFileSync(path);
      expect(bytes.length).toBe(9248);
      expect(hexOf(bytes.subarray(0, 16))).toEqual(hex("e6e3dfdb 0200 00 00 00000000 00000000"));
      expect(hexOf(bytes.subarray(32, 48 + 96))).toEqual(
        hex(
          "7e1dbdc1 0300 00 00 00040000 00000000" +
            "0500000000000000 02000000 00 00 0000 00000000 00040000 803e3e3e 00000000" +
            "0a00000000000000 a0860100 04 00 0000 00040000 00000000 00000000 00000000" +
            "400d030000000000 08000000 02 00 0000 00040000 00000000 00000000 00000000",
        ),
      );
      expect(hexOf(bytes.subarray(9248 - 4096, 9248 - 4080))).toEqual(hex("0000ffff 0000 01 00 00000000 00000000"));
    });
  });

  test("24 zero bytes are no diff, and an empty one only where the reader is lenient", async () => {
    await withTemporaryDirectory(async (directory) => {
      const path = join(directory, "a");
      writeFileSync(path, new Uint8Array(24));
      const refusal = { code: "bad-format", where: { file: path, offsetBytes: 0, field: "checksum" } };
      expect(await openDiffSet(io, [path]).catch((error: unknown) => error)).toMatchObject(refusal);
      const set = await openDiffSet(io, [path], { lenient: true });
      expect([set.records.count, set.stats.files]).toEqual([0, 1]);
      await set.close();
    });
  });
});
