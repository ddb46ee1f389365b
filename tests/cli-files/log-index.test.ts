/** @module Logs in files are worked on by their index: the outcome is that of the log read once, from front to back. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { redoWlog } from "../../src/cli/files/lib/log-apply.ts";
import { convertWlog } from "../../src/cli/files/lib/log-convert.ts";
import { withFile, withInput, withOutput } from "../../src/cli/files/lib/paths.ts";
import { plainTool, type Tool } from "../../src/cli/files/lib/tool.ts";
import { sealBlock } from "../../src/log/checksum.ts";
import { Codec } from "../../src/native/codec.ts";
import { closePlatform, createPlatform } from "../../src/platform/real/index.ts";
import { walb } from "./tools.ts";

const mib = 1024 * 1024;
const volumeBytes = 2 * mib;
let directory = "";
const platform = createPlatform({ memoryBudgetBytes: 16 * mib });
const tool: Tool = plainTool(platform);

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), "walb-log-index-"));
  const sizes = ["--size", `${volumeBytes}`, "--log-size", `${20 * mib}`, "--max-discard", "64K"];
  // Longer than the memory budget, so that it is redone in more than one stretch.
  expect((await walb("wlog", "generate", "--seed", "7", ...sizes, "--max-io", "16K", "-o", at("log"))).code).toBe(0);
});
afterAll(async () => {
  await closePlatform(platform);
  rmSync(directory, { recursive: true, force: true });
});

const at = (name: string): string => join(directory, name);

/** The image after a redo, and the error that ended it. */
async function redone(log: string, isOnce: boolean, discard: "zero" | "ignore") {
  writeFileSync(at("image"), Buffer.alloc(volumeBytes, 0xee));
  const result = await withInput(platform.disk, log, ({ again, ...input }) =>
    withFile(platform.disk, at("image"), "write", (image) =>
      redoWlog(tool, isOnce ? input : { ...input, again }, image, { discard }),
    ),
  ).catch((error: unknown) => String(error));
  return { result, image: readFileSync(at("image")) };
}

describe("a log in a file", () => {
  for (const discard of ["zero", "ignore"] as const) {
    test(`is redone in stretches as it is from a pipe, discards: ${discard}`, async () => {
      const [once, again] = [await redone(at("log"), true, discard), await redone(at("log"), false, discard)];
      expect(again.image.equals(once.image)).toBe(true);
      if (typeof once.result === "string" || typeof again.result === "string") throw new Error("it failed");
      const { written, overwritten, ...same } = again.result;
      expect(once.result).toMatchObject(same);
      expect(written.ios + overwritten.ios).toBe(once.result.written.ios + once.result.overwritten.ios);
      expect(overwritten.ios).toBeGreaterThan(once.result.overwritten.ios);
    });
  }

  test("is redone up to its damage, in both ways the same", async () => {
    const bytes = readFileSync(at("log"));
    bytes[Math.floor(bytes.length * 0.9)]! ^= 0x40;
    writeFileSync(at("damaged"), bytes);
    const [once, again] = [await redone(at("damaged"), true, "zero"), await redone(at("damaged"), false, "zero")];
    expect(once.result).toContain("damaged");
    expect(again.result).toBe(once.result);
    const whole = await redone(at("log"), true, "zero");
    expect(again.image.equals(whole.image)).toBe(false);
    // A batch may be cut at the bad record, or before it: what is there is a prefix of the log in both.
    expect(again.image.equals(once.image)).toBe(true);
  });

  test("becomes the same sorted diff as from a pipe, in content", async () => {
    const options = { kind: "sorted", maxIoLb: 128, compress: { codec: Codec.snappy, level: 0 } } as const;
    const images: Buffer[] = [];
    for (const isOnce of [true, false]) {
      const diff = at(isOnce ? "once.wdiff" : "again.wdiff");
      await withInput(platform.disk, at("log"), ({ again, ...input }) =>
        withOutput(platform, diff, { overwrite: true }, (output) =>
          convertWlog(tool, isOnce ? input : { ...input, again }, output, options),
        ),
      );
      writeFileSync(at("image"), Buffer.alloc(volumeBytes, 0xee));
      expect((await walb("wdiff", "redo", at("image"), diff)).code).toBe(0);
      images.push(readFileSync(at("image")));
    }
    expect(images[1]!.equals(images[0]!)).toBe(true);
    expect(images[1]!.equals((await redone(at("log"), true, "zero")).image)).toBe(true);
  });
});

describe("a long log of large writes in a file", () => {
  const largeBytes = 72 * mib;
  const sizes = ["--size", `${volumeBytes}`, "--log-size", `${largeBytes}`, "--min-io", "32K", "--max-io", "192K"];
  const generate = async (name: string, ...rest: readonly string[]): Promise<void> => {
    const words = ["wlog", "generate", "--seed", "5", ...sizes, ...rest, "--output", at(name), "--overwrite"];
    expect((await walb(...words)).code).toBe(0);
  };

  /** The same outcome as from a pipe. @returns the error, or the counts. */
  const expectSame = async (name: string): Promise<unknown> => {
    const [once, again] = [await redone(at(name), true, "zero"), await redone(at(name), false, "zero")];
    expect(again.image.equals(once.image)).toBe(true);
    if (typeof once.result === "string" || typeof again.result === "string") {
      expect(again.result).toEqual(once.result);
      return again.result;
    }
    const { written, overwritten, ...same } = again.result;
    expect(once.result).toMatchObject(same);
    const { result } = once;
    expect(written.ios + overwritten.ios).toBe(result.written.ios + result.overwritten.ios);
    return again.result;
  };

  test("is redone in its order as it is from a pipe, whatever block size it has and wherever a discard comes", async () => {
    for (const blocks of ["512", "4096"]) {
      await generate("large", "--block-size", blocks, "--without-discard");
      expect(await expectSame("large")).toMatchObject({ overwritten: { ios: 0 }, discard: { ios: 0 } });
    }
    await generate("large", "--max-discard", "64K");
    expect(await expectSame("large")).toMatchObject({ normal: { ios: expect.any(Number) } });
  }, 120_000);

  test("is redone up to its damage and not beyond, in both ways the same", async () => {
    await generate("large", "--without-discard");
    const bytes = readFileSync(at("large"));
    for (const place of [0.0004, 0.13, 0.5, 0.77, 0.9999]) {
      const damaged = Buffer.from(bytes);
      damaged[4096 + Math.floor((bytes.length - 8192) * place)]! ^= 0x40;
      writeFileSync(at("damaged"), damaged);
      expect(await expectSame("damaged")).toContain("damaged");
    }
    writeFileSync(at("damaged"), bytes.subarray(0, Math.floor(bytes.length * 0.95)));
    expect(await expectSame("damaged")).toBeString();
    // Two wlogs of one device must continue each other: the second is refused, the first replayed.
    writeFileSync(at("damaged"), Buffer.concat([bytes, bytes]));
    expect(await expectSame("damaged")).toContain("follows one that ends");
  }, 120_000);

  test("ends at a pack of nothing, and at one far beyond any file, with all before it replayed", async () => {
    await generate("large", "--block-size", "512", "--without-discard", "--without-padding");
    const bytes = readFileSync(at("large"));
    const salt = bytes.readUInt32LE(12);
    const packs: number[] = [];
    for (let place = 4096; bytes.readBigUInt64LE(place + 8) < 2n ** 63n; ) {
      packs.push(place);
      place += 512 * (1 + bytes.readUInt16LE(place + 6));
    }
    const damages: readonly [string, (header: Buffer) => void][] = [
      ["n_records", (header) => header.fill(0, 6, 8).fill(0, 16)],
      ["blocks of any file", (header) => header.writeBigUInt64LE(2n ** 53n - 4000n, 24 + 8)],
    ];
    for (const number of [0, 3]) {
      for (const [field, damage] of damages) {
        const damaged = Buffer.from(bytes);
        const header = damaged.subarray(packs[number]!, packs[number]! + 512);
        damage(header);
        sealBlock(header, 0, salt);
        writeFileSync(at("damaged"), damaged);
        expect(await expectSame("damaged")).toContain(field);
      }
    }
  }, 120_000);
});
