import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { diffFromImage } from "../../src/diff/from-image.ts";
import { openDiffSet } from "../../src/diff/set.ts";
import { compareImages } from "../../src/image/compare.ts";
import {
  blockHash,
  imageChecksum,
  imageChecksums,
  limitInput,
  skipInput,
  toolHash,
  toolHashes,
} from "../../src/image/hash.ts";
import { walbChecksum } from "../../src/log/checksum.ts";
import { SeededRandom } from "../../src/log/generate-random.ts";
import { createMemoryIo } from "../helpers/memory-disk.ts";
import { vectorPath, vectorsDirectory, vectorText } from "../helpers/vectors.ts";
import { bytesInput, readVirtual, redoDiffs } from "../helpers/wlogs.ts";

const io = createMemoryIo();
const random = new SeededRandom(7);

/** An image with zero chunks, compressible and incompressible ones. */
function imageOf(sizeBytes: number): Uint8Array {
  const image = new Uint8Array(sizeBytes);
  for (let at = 0; at < sizeBytes; at += 8192) {
    const part = image.subarray(at, at + 8192);
    const kind = random.below(3);
    if (kind === 1) part.fill(random.below(255) + 1);
    if (kind === 2) part.set(random.bytes(8192).subarray(0, part.length));
  }
  return image;
}

async function all<T>(values: AsyncGenerator<T>): Promise<T[]> {
  const list: T[] = [];
  for await (const value of values) list.push(value);
  return list;
}

describe("the diff of a full image", () => {
  test("gives the image, whatever it is applied to, its size and that of its records", async () => {
    for (const kind of ["sorted", "indexed"] as const) {
      for (const [sizeBytes, ioLb] of [
        [0, 128],
        [512, 128],
        [8192 * 5, 3],
        [8192 * 40 + 512, 16],
        [9 * 1024 * 1024 + 1536, 128],
        [300 * 512, 1],
        [5 * 1024 * 1024, 5000],
      ] as const) {
        const image = imageOf(sizeBytes);
        const file = await io.disk.open("/diff", { mode: "create" });
        let progress = 0;
        const stats = await diffFromImage(io, io.readPool, bytesInput(image), file, {
          kind,
          ioLb,
          onProgress: (doneBytes) => {
            progress = doneBytes;
          },
        });
        expect(progress).toBe(sizeBytes);
        expect(stats.normalLb + stats.zeroLb).toBe(sizeBytes / 512);
        const set = await openDiffSet(io, ["/diff"]);
        expect([set.stats.normalLb, set.stats.zeroLb]).toEqual([stats.normalLb, stats.zeroLb]);
        await set.close();
        io.disk.put("/image", new Uint8Array(sizeBytes).fill(0xff));
        const target = await io.disk.open("/image", { mode: "write" });
        if (sizeBytes > 0)
          expect(Buffer.compare(await readVirtual(io, ["/diff"], target, sizeBytes / 512), image)).toBe(0);
        await redoDiffs(io, ["/diff"], target, sizeBytes / 512);
        expect(Buffer.compare(io.disk.get("/image"), image)).toBe(0);
        await io.disk.remove("/diff");
        expect(io.memory.leasedBytes + io.readPool.leasedBytes).toBe(0);
      }
    }
  });

  test("is refused for an image that does not end at a block, and nothing stays leased", async () => {
    for (const kind of ["sorted", "indexed"] as const) {
      const file = await io.disk.open("/odd", { mode: "create" });
      const made = diffFromImage(io, io.readPool, bytesInput(imageOf(8 * 1024 * 1024 + 100), "odd.img"), file, {
        kind,
      });
      await expect(made).rejects.toMatchObject({ code: "bad-format", where: { file: "odd.img", field: "size" } });
      await io.disk.remove("/odd");
      expect(io.memory.leasedBytes + io.readPool.leasedBytes).toBe(0);
    }
  });

  test.skipIf(vectorsDirectory === undefined)(
    "is the original's, byte for byte but for its uninitialised fields",
    async () => {
      const manifest = vectorText("MANIFEST.md");
      let made = 0;
      for (const [, sizeKib, indexed, input, output] of manifest.matchAll(
        /`wdiff-full -ios (\d+)K (-indexed )?-i (\S+) -o (\S+)`/g,
      )) {
        const image = new Uint8Array(readFileSync(vectorPath(input!)));
        const kind = indexed === undefined ? "sorted" : "indexed";
        const file = await io.disk.open("/full", { mode: "create" });
        await diffFromImage(io, io.readPool, bytesInput(image), file, { kind, ioLb: Number(sizeKib) * 2 });
        const ours = io.disk.get("/full");
        const theirs = new Uint8Array(readFileSync(vectorPath(output!)));
        if (kind === "sorted") expect(`${output} ${Buffer.compare(ours, theirs)}`).toBe(`${output} 0`);
        expect(`${output} ${ours.length}`).toBe(`${output} ${theirs.length}`);
        io.disk.put("/theirs", theirs);
        const sets = [await openDiffSet(io, ["/full"]), await openDiffSet(io, ["/theirs"])] as const;
        expect(sets[0].records.count).toBe(sets[1].records.count);
        for (let i = 0; i < sets[0].records.count; i += 1) {
          const [a, b] = sets.map(({ records }) => [
            records.addressLb[i],
            records.blocksLb[i],
            records.kind[i],
            records.codec[i],
            records.dataOffset[i],
            records.storedBytes[i],
            records.imageLb[i],
            records.checksum[i],
          ]);
          expect(a).toEqual(b!);
        }
        for (const set of sets) await set.close();
        await io.disk.remove("/full");
        made += 1;
      }
      expect(made).toBeGreaterThanOrEqual(4);
    },
  );
});

describe("hashes and checksums of images", () => {
  test("the block hash has its published values and depends on the bulk size", async () => {
    const zeroes = new Uint8Array(512);
    expect(await blockHash(io, bytesInput(zeroes), 512)).toBe("b48245564341058ce6f6fcdffde99437");
    const two = new Uint8Array(1024).fill(1, 512);
    expect(await blockHash(io, bytesInput(two), 512)).toBe("2d56ed0daf80e51d1396965fd1b1a879");
    expect(await blockHash(io, bytesInput(two), 1024)).not.toBe("2d56ed0daf80e51d1396965fd1b1a879");
    expect(await blockHash(io, bytesInput(new Uint8Array(0)), 512)).toBe("0".repeat(32));
    // More than one chunk, read with and without a remainder: the same as hashing each bulk on its own.
    const image = imageOf(3 * 1024 * 1024 + 700);
    const lease = await io.memory.lease(65536);
    const expected = new Uint8Array(16);
    for (let i = 0; i * 65536 < image.length; i += 1) {
      const bulk = image.subarray(i * 65536, (i + 1) * 65536);
      lease.bytes.set(bulk);
      const hash = await io.compute.hashes([lease.slice(0, bulk.length)], i);
      for (let j = 0; j < 16; j += 1) expected[j] = expected[j]! ^ hash[j]!;
    }
    lease.release();
    expect(await blockHash(io, bytesInput(image), 65536)).toBe(expected.toHex());
  });

  test("a checksum of the whole is the one of its bytes, for any size and salt", async () => {
    for (const sizeBytes of [0, 1, 3, 4, 511, 1024 * 1024, 2 * 1024 * 1024 + 7]) {
      const image = imageOf(sizeBytes);
      for (const salt of [0, 1, 0x1234_5678, 0xffff_ffff]) {
        expect(await imageChecksum(io, bytesInput(image), salt)).toBe(walbChecksum(image, salt));
      }
      const pieces = await all(imageChecksums(io, bytesInput(image), 5, 100_000));
      expect(pieces).toEqual(
        Array.from({ length: Math.ceil(sizeBytes / 100_000) }, (_, i) =>
          walbChecksum(image.subarray(i * 100_000, (i + 1) * 100_000), 5),
        ),
      );
    }
  });

  test("pieces of the tool hash are the hashes of the pieces, across chunks", async () => {
    const image = imageOf(3 * 1024 * 1024 + 77);
    for (const pieceBytes of [700_001, 1024 * 1024, 4 * 1024 * 1024]) {
      const pieces = await all(toolHashes(io, bytesInput(image), pieceBytes));
      expect(pieces.map(({ sizeBytes }) => sizeBytes).reduce((sum, size) => sum + size)).toBe(image.length);
      for (const { startBytes, sizeBytes, hash } of pieces) {
        expect(hash).toBe(await toolHash(io, bytesInput(image.subarray(startBytes, startBytes + sizeBytes))));
      }
    }
  });

  test("an input that ends before what was asked for is an error, not a short hash", async () => {
    const short = limitInput(bytesInput(new Uint8Array(1000), "short.img"), 1001);
    await expect(toolHash(io, short)).rejects.toMatchObject({ code: "out-of-range", where: { file: "short.img" } });
    await expect(skipInput(io, bytesInput(new Uint8Array(10)), 11)).rejects.toMatchObject({ code: "out-of-range" });
    expect(io.memory.leasedBytes).toBe(0);
    const aborted = toolHash(io, bytesInput(new Uint8Array(10)), { signal: AbortSignal.abort() });
    await expect(aborted).rejects.toMatchObject({ code: "cancelled" });
  });

  test.skipIf(vectorsDirectory === undefined)("are those of the original's tools", async () => {
    let checked = 0;
    for (const [, file, options, input] of vectorText("MANIFEST.md").matchAll(
      /^\| (misc\/\S+) \|.*`bhash (.*?)(?:< )?(full\/[^\s`]+)/gm,
    )) {
      const value = (name: string): number => Number(new RegExp(`-${name} (\\d+)`).exec(options!)?.[1] ?? 0);
      const image = new Uint8Array(readFileSync(vectorPath(input!)));
      const from = bytesInput(image);
      await skipInput(io, from, value("off"));
      const limited = limitInput(from, value("size") || image.length - value("off"));
      const text: string[] = [];
      for (const { startBytes, hash } of await all(toolHashes(io, limited, value("chunk")))) {
        const startLb = (value("off") + startBytes) / 512;
        text.push(value("chunk") === 0 ? hash : `${startLb.toString(16).padStart(16, "0")}\t${hash}`);
      }
      expect(`${file}\n${text.join("\n")}\n`).toBe(`${file}\n${vectorText(file!)}`);
      checked += 1;
    }
    expect(checked).toBeGreaterThanOrEqual(7);

    for (const [, options, input, file] of vectorText("MANIFEST.md").matchAll(/`checksum (.*?)(full\/\S+) > (\S+)`/g)) {
      const salt = Number(/-salt (\S+)/.exec(options!)?.[1] ?? 0);
      const bulk = Number(/-bulk (\d+)/.exec(options!)?.[1] ?? 0);
      const show = (sum: number): string =>
        options!.includes("-hex") ? sum.toString(16).padStart(8, "0") : sum.toString();
      const image = bytesInput(new Uint8Array(readFileSync(vectorPath(input!))));
      const text =
        bulk === 0
          ? [show(await imageChecksum(io, image, salt))]
          : (await all(imageChecksums(io, image, salt, bulk))).map((sum, i) => `${i}\t${show(sum)}`);
      expect(`${file}\n${text.join("\n")}\n`).toBe(`${file}\n${vectorText(file!)}`);
      checked += 1;
    }
    expect(checked).toBeGreaterThanOrEqual(12);
  });
});

describe("comparing images", () => {
  test("finds every block that differs, across chunks, and what only one has", async () => {
    for (const blockBytes of [512, 4096, 1000]) {
      const a = imageOf(2 * 1024 * 1024 + 4096);
      const b = a.slice(0, random.chance(0.5) ? a.length : a.length - 5000);
      const flipped = new Set<number>();
      for (let i = 0; i < 9; i += 1) {
        const at = random.below(b.length);
        b[at] = b[at]! ^ (1 + random.below(255));
      }
      for (let block = 0; block * blockBytes < a.length; block += 1) {
        const [ofA, ofB] = [a, b].map((image) => image.subarray(block * blockBytes, (block + 1) * blockBytes));
        if (Buffer.compare(ofA!, ofB!) !== 0) flipped.add(block);
      }
      const seen: number[] = [];
      const result = await compareImages(io, bytesInput(a), bytesInput(b), {
        blockBytes,
        onDifference: ({ block, a: ofA, b: ofB }) => {
          expect(Buffer.compare(ofA, a.subarray(block * blockBytes, (block + 1) * blockBytes))).toBe(0);
          expect(Buffer.compare(ofB, b.subarray(block * blockBytes, (block + 1) * blockBytes))).toBe(0);
          seen.push(block);
        },
      });
      expect(seen).toEqual([...flipped]);
      const blocks = Math.ceil(a.length / blockBytes);
      expect(result).toEqual({ blocks, differing: flipped.size, aBytes: a.length, bBytes: b.length });
    }
    expect(await compareImages(io, bytesInput(new Uint8Array(0)), bytesInput(new Uint8Array(0)))).toEqual({
      blocks: 0,
      differing: 0,
      aBytes: 0,
      bBytes: 0,
    });
    expect(io.memory.leasedBytes).toBe(0);
  });

  test.skipIf(vectorsDirectory === undefined)("counts what the original's tool counts", async () => {
    let checked = 0;
    for (const [file, options, a, b] of vectorText("MANIFEST.md")
      .matchAll(/^\| (misc\/\S+) \|.*`bdiff (.*?)(full\/\S+) (misc\/\S+)`/gm)
      .map(([, ...groups]) => groups as [string, string, string, string])) {
      const images = [a, b].map((name) => bytesInput(new Uint8Array(readFileSync(vectorPath(name)))));
      const blockBytes = Number(/-b (\d+)/.exec(options)?.[1] ?? 512);
      const shown: string[] = [];
      const { blocks, differing } = await compareImages(io, images[0]!, images[1]!, {
        blockBytes,
        onDifference: ({ block }) => shown.push(`block ${block} differ`),
      });
      const text = vectorText(file);
      expect(`${file} ${differing}/${blocks} differs`).toBe(`${file} ${/^\d+\/\d+ differs$/m.exec(text)![0]}`);
      if (options.includes("-v")) expect(shown).toEqual(text.match(/^block \d+ differ$/gm) ?? []);
      checked += 1;
    }
    expect(checked).toBeGreaterThanOrEqual(4);
  });
});
