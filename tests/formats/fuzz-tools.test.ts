/** @module What only the tools parse: walking for a listing, searching a log, the container of wcmpr, recipes. */
import { expect, test } from "bun:test";
import { walkDiff } from "../../src/cli/files/lib/diff-walk.ts";
import { openLogDevice } from "../../src/cli/files/lib/log-range.ts";
import { restoreWlog } from "../../src/cli/files/lib/log-restore.ts";
import { searchDamage } from "../../src/cli/files/lib/log-search.ts";
import { plainTool } from "../../src/cli/files/lib/tool.ts";
import { showWlog } from "../../src/cli/files/lib/wlog-show.ts";
import { parseRecipe } from "../../src/cli/original/recipe.ts";
import { compressUnits, expandUnits } from "../../src/cli/original/wcmpr.ts";
import { verifyDiff } from "../../src/diff/verify.ts";
import { WalbError } from "../../src/errors.ts";
import { sealBlock } from "../../src/log/checksum.ts";
import { formatLogDevice } from "../../src/log/format.ts";
import { generateWlogBytes } from "../../src/log/generate.ts";
import type { SeededRandom } from "../../src/log/generate-random.ts";
import { redoLog } from "../../src/log/redo.ts";
import { Codec } from "../../src/native/codec.ts";
import type { Platform } from "../../src/platform/platform.ts";
import { fuzz, mutate, mutateText } from "../helpers/fuzz.ts";
import { createMemoryIo } from "../helpers/memory-disk.ts";
import { bytesInput, convertWlog } from "../helpers/wlogs.ts";

const io = createMemoryIo(48 * 1024 * 1024);
const pools = [io.memory, io.readPool];
const random = { bytes: (size: number) => new Uint8Array(size).fill(7), u32: () => 0x1234_5678, fraction: () => 0.5 };
const tool = plainTool({ ...io, random } as unknown as Platform);
const workload = { deviceBytes: 128 * 1024, maxIoBytes: 4096, maxDiscardBytes: 8192, content: "half" } as const;

async function diffBytes(kind: "sorted" | "indexed"): Promise<Uint8Array> {
  const { bytes } = generateWlogBytes({ ...workload, logBytes: 40_000 }, 11);
  await io.disk.remove("/valid");
  await convertWlog(io, bytesInput(bytes), "/valid", { kind, maxIoLb: 8 });
  return io.disk.get("/valid").slice();
}

/** Checksums of headers made right, half of the time. */
function repairDiff(bytes: Uint8Array, kind: "sorted" | "indexed", dice: SeededRandom): void {
  const seal = (at: number, size: number, field: number): void => {
    if (at >= 0 && at + size <= bytes.length) sealBlock(bytes.subarray(at, at + size), field, 0);
  };
  if (dice.chance(0.5)) return;
  seal(0, 32, 0);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (kind === "sorted") {
    for (let at = 32; at + 4096 <= bytes.length; at += 4096 + view.getUint32(at + 8, true)) seal(at, 4096, 0);
    return;
  }
  seal(bytes.length - 24, 24, 20);
  if (bytes.length < 56) return;
  for (let at = view.getUint32(bytes.length - 24, true); at + 72 <= bytes.length; at += 48) seal(at, 48, 44);
}

for (const kind of ["sorted", "indexed"] as const) {
  test(`a mutated ${kind} diff is listed with the counts it has, or its first fault is told`, async () => {
    const valid = await diffBytes(kind);
    const { rounds, refused, taken } = await fuzz({
      share: 0.02,
      pools,
      attempt: async (dice) => {
        const bytes = mutate(valid, dice);
        repairDiff(bytes, kind, dice);
        io.disk.put("/diff", bytes);
        let good: Awaited<ReturnType<typeof verifyDiff>> | undefined;
        let fault: unknown;
        await verifyDiff(io, "/diff").then(
          (stats) => {
            good = stats;
          },
          (error: unknown) => {
            fault = error;
          },
        );
        let told = 0;
        // Listed as they are in the file, but nothing that reads it has a use for them.
        const empty = { zero: 0, discard: 0 };
        const stats = await walkDiff(tool, "/diff", {
          checkData: true,
          onRecord: ({ blocksLb, isZero }) => {
            if (blocksLb === 0) empty[isZero ? "zero" : "discard"] += 1;
            told += 1;
          },
        });
        // Only expanding the data finds more than its checksums; an image of nearly 32 MiB may find no room here.
        const isTooLarge = fault instanceof WalbError && fault.what.includes("can never fit the memory budget");
        if (good === undefined && !isTooLarge && !(fault instanceof WalbError && fault.code === "damaged")) {
          throw new Error("a diff is listed that cannot be opened", { cause: fault });
        }
        if (good === undefined) return;
        const zeroRecords = stats.zeroRecords - empty.zero;
        const discardRecords = stats.discardRecords - empty.discard;
        const counts = [stats.normalRecords, zeroRecords, discardRecords, stats.normalLb, stats.discardLb];
        const want = [good.normalRecords, good.zeroRecords, good.discardRecords, good.normalLb, good.discardLb];
        if (String(counts) !== String(want)) throw new Error(`counted ${counts} instead of ${want}`);
        const held = good.normalRecords + good.zeroRecords + good.discardRecords;
        if (told !== held + empty.zero + empty.discard) throw new Error(`told ${told} records`);
      },
    });
    expect(refused).toBeGreaterThan(rounds / 3);
    expect(taken).toBeGreaterThan(rounds / 100);
  }, 600_000);
}

for (const pbsBytes of [512, 4096]) {
  test(`a mutated wlog with blocks of ${pbsBytes} is listed up to its damage, restored as it is, or refused`, async () => {
    const { bytes: valid } = generateWlogBytes({ ...workload, pbsBytes, logBytes: 40 * pbsBytes + 4096 }, 4);
    const { rounds, refused, taken } = await fuzz({
      share: 0.015,
      pools,
      attempt: async (dice) => {
        const bytes = mutate(valid, dice);
        if (dice.chance(0.5) && bytes.length >= 4096) sealBlock(bytes.subarray(0, 4096), 8, 0);
        io.disk.put("/log", bytes);
        let packs = 0;
        await showWlog(tool, bytesInput(bytes, "/log"), {
          checkData: true,
          concatenated: false,
          onPack: () => {
            packs += 1;
          },
        });
        io.disk.put("/ldev", new Uint8Array(512 * 1024));
        const file = await io.disk.open("/ldev", { mode: "write" });
        await formatLogDevice(file, { name: "v", pbsBytes, deviceSizeLb: 256 }, { memory: io.memory, random });
        const device = await openLogDevice(tool, file);
        let restored = 0;
        const again = { path: "/log", offsetBytes: 0 };
        const input = { ...bytesInput(bytes, "/log"), sizeBytes: bytes.length, again };
        const done = await restoreWlog(tool, input, device, {
          verify: true,
          onPack: () => {
            restored += 1;
          },
        });
        if (restored !== packs) throw new Error(`${packs} packs are listed, ${restored} restored`);
        const check = await searchDamage(tool, { file, superblock: done.superblock }, {}, () => undefined);
        if (check.damaged !== 0) throw new Error("what was restored is damaged");
      },
    });
    expect(refused).toBeGreaterThan(rounds / 3);
    expect(taken).toBeGreaterThan(rounds / 100);
  }, 600_000);
}

test("a mutated log device is gone through to its end, whatever is in it", async () => {
  const pbsBytes = 512;
  const { bytes } = generateWlogBytes({ ...workload, pbsBytes, logBytes: 30_000 }, 5);
  io.disk.put("/ldev", new Uint8Array(96 * 1024));
  const file = await io.disk.open("/ldev", { mode: "write" });
  await formatLogDevice(file, { name: "v", pbsBytes, deviceSizeLb: 256 }, { memory: io.memory, random });
  const input = { ...bytesInput(bytes, "/log"), sizeBytes: bytes.length, again: undefined };
  const { superblock } = await restoreWlog(tool, input, await openLogDevice(tool, file), {});
  io.disk.put("/data", new Uint8Array(128 * 1024));
  const data = await io.disk.open("/data", { mode: "write" });
  await redoLog({ log: file, data, superblock, pool: io.memory, compute: io.compute });
  const valid = io.disk.get("/ldev").slice();
  let found = 0;
  const { rounds } = await fuzz({
    share: 0.02,
    pools,
    attempt: async (dice) => {
      const image = valid.slice();
      const ring = image.subarray(5120);
      ring.set(mutate(ring, dice).subarray(0, ring.length));
      if (dice.chance(0.3)) {
        for (let at = 0; at < ring.length; at += 512) {
          if (ring[at + 4] === 3) sealBlock(ring.subarray(at, at + 512), 0, superblock.salt);
        }
      }
      io.disk.put("/ldev", image);
      const log = await io.disk.open("/ldev", { mode: "read" });
      let last = -1n;
      const search = await searchDamage(tool, await openLogDevice(tool, log), {}, (damage) => {
        if (damage.lsid < last) throw new Error("the search goes back");
        last = damage.lsid;
        found += 1;
      });
      if (search.limitLsid > superblock.ringSizePb) throw new Error("the search goes beyond the ring");
    },
  });
  expect(found).toBeGreaterThan(rounds / 10);
}, 600_000);

test("a mutated container of wcmpr expands to what it was, or is refused", async () => {
  const original = new Uint8Array(9000).map((_, i) => (i % 700 < 300 ? (i * 7) & 0xff : 5));
  const { rounds, refused } = await fuzz({
    share: 0.01,
    pools,
    attempt: async (dice) => {
      const codec = [Codec.snappy, Codec.lz4, Codec.zstd, Codec.gzip, Codec.lzma][dice.below(5)]!;
      await io.disk.remove("/packed");
      const packed = await io.disk.open("/packed", { mode: "create" });
      await compressUnits(tool, bytesInput(original, "/in"), packed, { codec, level: 0 }, 4096);
      const bytes = mutate(io.disk.get("/packed"), dice);
      await io.disk.remove("/expanded");
      const expanded = await io.disk.open("/expanded", { mode: "create" });
      await expandUnits(tool, bytesInput(bytes, "/packed"), expanded);
    },
  });
  expect(refused).toBeGreaterThan(rounds / 4);
}, 600_000);

test("a mutated recipe is the writes it tells, or is refused naming the line", async () => {
  const text = "0 8 1fe3a870\n1024 16 00000001\n5 1 ffffffff\n";
  const { refused, taken } = await fuzz({
    share: 0.03,
    attempt: (dice) => {
      for (const one of parseRecipe(mutateText(text, dice), "/recipe")) {
        if (!Number.isSafeInteger(one.offsetLb * 512) || one.checksum > 0xffff_ffff) throw new Error("out of range");
      }
    },
  });
  expect(Math.min(refused, taken)).toBeGreaterThan(0);
  const [beyond, last] = [2 ** 44 - 8, 2 ** 44 - 9];
  expect(() => parseRecipe(`0 8 1\n${beyond} 8 1fe3a870`, "/recipe")).toThrow("line 2 ends at block");
  expect(parseRecipe(`${last} 8 1fe3a870`, "/recipe")).toEqual([{ offsetLb: last, sizeLb: 8, checksum: 0x1fe3_a870 }]);
}, 600_000);
