import { describe, expect, test } from "bun:test";
import { type GenerateOptions, generateWlog, generateWlogBytes } from "../../src/log/generate.ts";
import { ImageModel } from "../../src/log/generate-model.ts";
import { SeededRandom } from "../../src/log/generate-random.ts";
import type { LogRecord } from "../../src/log/pack.ts";
import { fileOutput, WlogReader } from "../../src/log/wlogfile.ts";
import { createMemoryIo } from "../helpers/memory-disk.ts";
import { bytesInput } from "../helpers/wlogs.ts";

const io = createMemoryIo();
const mib = 1024 * 1024;

/** All records of a wlog, read with every check. */
async function recordsOf(bytes: Uint8Array): Promise<{ records: LogRecord[]; packs: number; endLsid: number }> {
  const reader = new WlogReader(bytesInput(bytes), io.readPool, io.compute);
  await reader.nextHeader();
  const records: LogRecord[] = [];
  let packs = 0;
  const batches = reader.packs();
  for (;;) {
    const step = await batches.next();
    if (step.done) {
      expect(step.value.hasEndBlock).toBe(true);
      expect(await reader.nextHeader()).toBeUndefined();
      return { records, packs, endLsid: step.value.endLsid };
    }
    for (const part of step.value.parts) {
      if (part.isLast) packs += 1;
      for (let i = 0; i < part.data.length; i += 1) records.push(part.header.records[part.firstRecord + i]!);
    }
    step.value.release();
  }
}

describe("a generated log", () => {
  test("is read with every check, and keeps to its options", async () => {
    for (let seed = 0; seed < 60; seed += 1) {
      const random = new SeededRandom(seed);
      const options: GenerateOptions = {
        deviceBytes: 512 * random.between(2048, 100_000),
        pbsBytes: [512, 1024, 2048, 4096][seed % 4]!,
        minIoBytes: 1024,
        maxIoBytes: 512 * random.between(2, 200),
        minDiscardBytes: 1024,
        maxDiscardBytes: 512 * random.between(2, 5000),
        maxPackBytes: 512 * random.between(8, 2000),
        logBytes: random.between(1, 40) * 50_000,
        beginLsid: random.below(2 ** 48),
        discard: random.chance(0.7),
        padding: random.chance(0.7),
        allZero: random.chance(0.7),
        content: (["sparse", "random", "half"] as const)[seed % 3]!,
        order: random.chance(0.5) ? "random" : "sequential",
      };
      const { bytes, wlog } = generateWlogBytes(options, seed);
      const { records, packs, endLsid } = await recordsOf(bytes);
      expect([bytes.length, records.length, packs, endLsid]).toEqual([
        wlog.sizeBytes,
        wlog.records,
        wlog.packs,
        wlog.endLsid,
      ]);
      expect(wlog.header.beginLsid).toBe(options.beginLsid!);
      const [largestMax, smallestMax] = [options.maxPackBytes! + options.maxIoBytes!, options.logBytes!];
      expect(bytes.length).toBeGreaterThanOrEqual(smallestMax);
      expect(bytes.length).toBeLessThan(smallestMax + largestMax + 3 * 4096);
      for (const { kind, offsetLb, sizeLb } of records) {
        if (kind === "padding") {
          expect(options.padding).toBe(true);
          continue;
        }
        expect(offsetLb + sizeLb).toBeLessThanOrEqual(options.deviceBytes! / 512);
        if (kind === "discard") expect(options.discard).toBe(true);
        expect(sizeLb).toBeGreaterThanOrEqual(2);
        const max = kind === "data" ? options.maxIoBytes! : options.maxDiscardBytes!;
        expect(sizeLb).toBeLessThanOrEqual(max / 512);
      }
    }
  });

  test("has everything by default: writes, zeroes, discards, padding, IOs of all sizes", async () => {
    const { bytes } = generateWlogBytes({ logBytes: 4 * mib }, 1);
    const { records } = await recordsOf(bytes);
    const kinds = new Set(records.map(({ kind }) => kind));
    expect(kinds).toEqual(new Set(["data", "discard", "padding"] as const));
    const sizes = records.filter(({ kind }) => kind === "data").map(({ sizeLb }) => sizeLb);
    expect([Math.min(...sizes) < 4, Math.max(...sizes) > 60, Math.max(...sizes) <= 64]).toEqual([true, true, true]);
    const salted = records.filter(({ kind, checksum }) => kind === "data" && checksum !== 0);
    expect(salted.length).toBeGreaterThan(100);
  });

  test("is the same for the same seed, on disk and in memory, and another for another", async () => {
    const options: GenerateOptions = { logBytes: 300_000, content: "half" };
    const file = await io.disk.open("/log", { mode: "create" });
    let progress = 0;
    const onProgress = (doneBytes: number): void => {
      progress = doneBytes;
    };
    const wlog = await generateWlog(fileOutput(file), io.memory, options, 42, { onProgress });
    const same = generateWlogBytes(options, 42);
    expect(same.wlog).toEqual(wlog);
    expect(Buffer.compare(io.disk.get("/log"), same.bytes)).toBe(0);
    expect(progress).toBe(wlog.sizeBytes);
    expect(Buffer.compare(generateWlogBytes(options, 43).bytes, same.bytes)).not.toBe(0);
    const far = generateWlogBytes(options, 42 + 2 ** 32);
    expect(Buffer.compare(far.bytes, same.bytes)).not.toBe(0);
    expect(io.memory.leasedBytes).toBe(0);
    const aborted = generateWlog(fileOutput(file), io.memory, options, 1, { signal: AbortSignal.abort() });
    await expect(aborted).rejects.toMatchObject({ code: "cancelled" });
    expect(io.memory.leasedBytes).toBe(0);
    await io.disk.remove("/log");
  });

  test("is always this one for this seed, so that a failing seed can be found again", () => {
    const { bytes } = generateWlogBytes({ logBytes: 100_000, content: "random" }, 7);
    expect(new Bun.CryptoHasher("sha256").update(bytes).digest("hex").slice(0, 16)).toMatchInlineSnapshot(
      `"8680f6501fa124e1"`,
    );
  });

  test("has data as its content says", () => {
    const stored = (content: "sparse" | "random" | "half"): number => {
      const { bytes } = generateWlogBytes({ logBytes: mib, content, allZero: false, padding: false }, 5);
      return Bun.zstdCompressSync(bytes as Uint8Array<ArrayBuffer>).length / bytes.length;
    };
    expect(stored("random")).toBeGreaterThan(0.95);
    expect(stored("half")).toBeGreaterThan(0.45);
    expect(stored("half")).toBeLessThan(0.65);
    expect(stored("sparse")).toBeLessThan(0.1);
  });

  test("refuses options that cannot be, naming them", () => {
    const fields: readonly (readonly [GenerateOptions, string])[] = [
      [{ pbsBytes: 513 }, "pbsBytes"],
      [{ minIoBytes: 1024, maxIoBytes: 512 }, "minIoBytes"],
      [{ maxIoBytes: 1000 }, "maxIoBytes"],
      [{ deviceBytes: 4096, maxIoBytes: 8192 }, "maxIoBytes"],
      [{ maxIoBytes: 65536 * 512 }, "maxIoBytes"],
      [{ maxDiscardBytes: 0 }, "maxDiscardBytes"],
      [{ maxPackBytes: 33 * mib }, "maxPackBytes"],
      [{ logBytes: -1 }, "logBytes"],
      [{ beginLsid: 2 ** 53 - 1 }, "beginLsid"],
      [{ deviceBytes: 100 }, "deviceBytes"],
      [{ salt: -1 }, "salt"],
    ];
    for (const [options, field] of fields) {
      expect(() => generateWlogBytes(options, 1)).toThrow(expect.objectContaining({ where: { field } }));
    }
  });
});

test("the model of an image does what a plain array does", () => {
  const random = new SeededRandom(11);
  const sizeBytes = 40_000;
  for (const fill of [0, 0xff]) {
    const model = new ImageModel(sizeBytes, fill);
    const plain = new Uint8Array(sizeBytes).fill(fill);
    for (let i = 0; i < 300; i += 1) {
      const at = random.below(sizeBytes);
      const size = random.below(Math.min(9000, sizeBytes - at) + 1);
      if (random.chance(0.3)) {
        model.zero(at, size);
        plain.fill(0, at, at + size);
      } else {
        const bytes = random.bytes(size);
        model.write(at, bytes);
        plain.set(bytes, at);
      }
      const part = new Uint8Array(random.below(sizeBytes - at));
      model.read(at, part);
      expect(Buffer.compare(part, plain.subarray(at, at + part.length))).toBe(0);
    }
    expect(Buffer.compare(model.bytes(), plain)).toBe(0);
  }
});
