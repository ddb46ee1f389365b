import { describe, expect, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { applyDiffs } from "../../src/diff/apply.ts";
import { planMerge } from "../../src/diff/merge.ts";
import { writeMerged } from "../../src/diff/output.ts";
import { openDiffSet } from "../../src/diff/set.ts";
import { RecordKind } from "../../src/diff/types.ts";
import { WalbError } from "../../src/errors.ts";
import { createInlineCompute } from "../../src/native/index.ts";
import { io, type ModelIo, writeDiff } from "../helpers/diff.ts";
import { withTemporaryDirectory } from "../helpers/temporary.ts";

const sizeLb = 512;
const compute = createInlineCompute();
/** Mutations per file kind; the environment asks for more. */
const rounds = Number(process.env.WALB_FUZZ_ROUNDS ?? 5000);

/** A small generator, so that a failing round can be repeated. */
function generator(seed: number): (limit: number) => number {
  let state = seed >>> 0;
  return (limit) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * limit);
  };
}

const interesting = [0, 1, 2, 0x7f, 0x80, 0xff, 0xffff, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff];

function mutate(original: Uint8Array, seed: number): Uint8Array {
  const random = generator(seed);
  let bytes = original.slice();
  for (let n = 1 + random(3); n > 0; n--) {
    const at = random(bytes.length);
    switch (random(5)) {
      case 0:
        bytes[at] = bytes[at]! ^ (1 << random(8));
        break;
      case 1:
        bytes[at] = interesting[random(interesting.length)]! & 0xff;
        break;
      case 2: {
        const word = Math.min(bytes.length - 4, at - (at % 4));
        if (word >= 0) new DataView(bytes.buffer).setUint32(word, interesting[random(interesting.length)]!, true);
        break;
      }
      case 3:
        bytes = bytes.slice(0, at + 1);
        break;
      default:
        bytes.copyWithin(at, random(bytes.length), random(bytes.length));
    }
  }
  return bytes;
}

/** Makes the checksums of the headers right again, so that what lies behind them is reached. */
function repair(bytes: Uint8Array, isIndexed: boolean): void {
  const seal = (at: number, size: number, field: number): void => {
    if (at < 0 || at + size > bytes.length) return;
    const view = new DataView(bytes.buffer, at);
    view.setUint32(field, 0, true);
    view.setUint32(field, compute.checksumNow(bytes.subarray(at, at + size), 0), true);
  };
  seal(0, 32, 0);
  if (isIndexed) {
    const superAt = bytes.length - 24;
    if (superAt < 32) return;
    seal(superAt, 24, 20);
    const start = new DataView(bytes.buffer).getUint32(superAt, true);
    for (let at = start; at + 48 <= superAt; at += 48) seal(at, 48, 44);
    return;
  }
  for (let at = 32; at + 4096 <= bytes.length; ) {
    seal(at, 4096, 0);
    at += 4096 + new DataView(bytes.buffer).getUint32(at + 8, true);
  }
}

const ios: ModelIo[] = Array.from({ length: 60 }, (_, i) => ({
  addressLb: (i * 37) % 480,
  blocksLb: 1 + ((i * 7) % 30),
  kind: i % 6 === 5 ? RecordKind.discard : RecordKind.normal,
  id: i,
}));

for (const kind of ["sorted", "indexed"] as const) {
  test(`a mutated ${kind} file gives an error that says where, or a result; it never crashes or hangs`, async () => {
    await withTemporaryDirectory(async (directory) => {
      const path = join(directory, "diff");
      await writeDiff(path, ios, { kind, maxIoLb: 16 });
      const original = new Uint8Array(readFileSync(path));
      writeFileSync(join(directory, "image"), new Uint8Array(sizeLb * 512));
      const image = await io.disk.open(join(directory, "image"), { mode: "write" });
      const leased = io.memory.leasedBytes;
      let refused = 0;
      let taken = 0;
      for (let seed = 0; seed < rounds; seed++) {
        const bytes = mutate(original, seed);
        if (seed % 4 !== 0) repair(bytes, kind === "indexed");
        writeFileSync(path, bytes);
        try {
          const set = await openDiffSet(io, [path, path]);
          try {
            const plan = planMerge(set.records, { maxIoLb: 7 });
            await applyDiffs(io, set, plan, image, { sizeLb });
            const file = await io.disk.open(join(directory, "merged"), { mode: "create" });
            try {
              await writeMerged(io, set, plan, file);
            } finally {
              await file.close();
              await io.disk.remove(join(directory, "merged"));
            }
            taken++;
          } finally {
            await set.close();
          }
        } catch (error) {
          if (!(error instanceof WalbError) || error.code === "internal")
            throw new Error(`seed ${seed}`, { cause: error });
          expect(error.where.file).toBeDefined();
          refused++;
        }
        expect(io.memory.leasedBytes).toBe(leased);
      }
      await image.close();
      // Both outcomes must occur, or the mutations test nothing.
      expect(refused).toBeGreaterThan(rounds / 10);
      expect(taken).toBeGreaterThan(rounds / 100);
    });
  }, 300_000);
}

describe("lies in an indexed file", () => {
  /** A file with one image of 8 blocks; the record's fields can be changed before it is sealed. */
  async function openWith(change: (record: DataView, superBlock: DataView) => void): Promise<void> {
    await withTemporaryDirectory(async (directory) => {
      const path = join(directory, "diff");
      await writeDiff(path, [{ addressLb: 8, blocksLb: 8, kind: RecordKind.normal, id: 2 }], { kind: "indexed" });
      const bytes = new Uint8Array(readFileSync(path));
      change(new DataView(bytes.buffer, bytes.length - 72, 48), new DataView(bytes.buffer, bytes.length - 24, 24));
      repair(bytes, true);
      writeFileSync(path, bytes);
      const before = io.memory.leasedBytes;
      try {
        await (await openDiffSet(io, [path])).close();
      } finally {
        expect(io.memory.leasedBytes).toBe(before);
      }
    });
  }

  test("are not what an honest file has", async () => {
    await openWith(() => undefined);
  });

  const lies: [string, string, (record: DataView, superBlock: DataView) => void][] = [
    ["an image of 2 TiB", "bad-format", (record) => record.setUint32(32, 0xffff_ffff, true)],
    ["a stored image above its expanded size", "bad-format", (record) => record.setUint32(24, 4097, true)],
    ["a slice behind the end of its image", "bad-format", (record) => record.setUint32(28, 1, true)],
    ["a slice offset that wraps", "bad-format", (record) => record.setUint32(28, 0xffff_ffff, true)],
    ["an image inside the header", "bad-format", (record) => record.setUint32(16, 31, true)],
    ["an image far behind the file", "bad-format", (record) => record.setUint32(20, 0xffff_ffff, true)],
    ["an address beyond 8 PiB", "out-of-range", (record) => record.setUint32(4, 0x1000, true)],
    ["a record without length", "bad-format", (record) => record.setUint32(8, 0, true)],
    ["an unknown compression", "bad-format", (record) => record.setUint8(13, 6)],
    ["all-zero and discard at once", "bad-format", (record) => record.setUint8(12, 6)],
    ["a discard with data", "bad-format", (record) => record.setUint8(12, 4)],
    ["more records than there is room for", "bad-format", (_record, block) => block.setUint32(8, 0xffff_ffff, true)],
    ["an index inside the header", "bad-format", (_record, block) => block.setUint32(0, 0, true)],
    ["an index offset of 2^63", "bad-format", (_record, block) => block.setUint32(4, 0x8000_0000, true)],
  ];
  for (const [name, code, change] of lies) {
    test(`are refused: ${name}`, async () => {
      await expect(openWith(change)).rejects.toMatchObject({ name: "WalbError", code });
    });
  }
});

test("too many records for the bound are refused before memory is taken for them", async () => {
  await withTemporaryDirectory(async (directory) => {
    const path = join(directory, "diff");
    await writeDiff(path, ios, { kind: "indexed" });
    await expect(openDiffSet(io, [path], { recordsMax: 20 })).rejects.toMatchObject({ code: "out-of-range" });
  });
});

test("a part of an image that is all zero becomes an all-zero record when it is split off", async () => {
  await withTemporaryDirectory(async (directory) => {
    const at = (name: string): string => join(directory, name);
    const data = await io.memory.lease(8 * 512);
    data.bytes.fill(0).fill(7, 4 * 512);
    const { IndexedDiffWriter } = await import("../../src/diff/convert.ts");
    const file = await io.disk.open(at("a"), { mode: "create" });
    const writer = await IndexedDiffWriter.create(io, file, { uuid: new Uint8Array(16) });
    await writer.add([{ offsetLb: 0, sizeLb: 8, kind: "data", data }]);
    await writer.finish();
    await file.close();
    data.release();
    await writeDiff(at("b"), [{ addressLb: 2, blocksLb: 1, kind: RecordKind.normal, id: 3 }], { kind: "sorted" });
    const set = await openDiffSet(io, [at("a"), at("b")]);
    const merged = await io.disk.open(at("m"), { mode: "create" });
    const stats = await writeMerged(io, set, planMerge(set.records), merged);
    await merged.close();
    await set.close();
    expect([stats.zeroRecords, stats.zeroLb, stats.normalRecords, stats.normalLb]).toEqual([1, 2, 2, 6]);
    writeFileSync(at("image"), new Uint8Array(8 * 512).fill(9));
    const image = await io.disk.open(at("image"), { mode: "write" });
    const result = await openDiffSet(io, [at("m")]);
    await applyDiffs(io, result, planMerge(result.records), image, { sizeLb: 8 });
    await result.close();
    await image.close();
    const bytes = readFileSync(at("image"));
    expect(bytes.subarray(0, 1024).every((byte) => byte === 0)).toBe(true);
    expect(bytes.subarray(1536, 2048).every((byte) => byte === 0)).toBe(true);
    expect(bytes.subarray(2048).every((byte) => byte === 7)).toBe(true);
  });
});
