import { afterAll, describe, expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { deflateSync, inflateSync, zstdDecompressSync } from "node:zlib";
import fc from "fast-check";
import { Codec, type Compute, codecNames, maxEncodedBytes } from "../../src/native/codec.ts";
import { createInlineCompute, createJobPool, createMemoryPool, createPoolCompute } from "../../src/native/index.ts";
import type { Lease } from "../../src/native/memory.ts";
import { kib, mib } from "../../src/units.ts";

const memory = createMemoryPool(256 * mib);
const pool = createJobPool();
afterAll(() => pool.close());
const implementations: [string, Compute][] = [
  ["pool", createPoolCompute(pool)],
  ["inline", createInlineCompute()],
];
const codecs = Object.values(Codec);
const packing = codecs.filter((codec) => codec !== Codec.none);

function put(bytes: Uint8Array): Lease {
  const lease = memory.tryLease(bytes.length);
  if (lease === undefined) throw new Error("no memory");
  lease.bytes.set(bytes);
  return lease;
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex");
}

/** Half repeated text, half noise. */
function sample(sizeBytes: number, seed = 1): Uint8Array {
  const bytes = new Uint8Array(sizeBytes);
  let state = seed;
  for (let i = 0; i < sizeBytes; i++) {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    bytes[i] = (i >> 8) % 2 === 0 ? "volume log pack ".charCodeAt(i % 16) : state >>> 24;
  }
  return bytes;
}

/** Encodes one image whatever its size. */
async function stored(compute: Compute, codec: Codec, bytes: Uint8Array, level = 0): Promise<Uint8Array> {
  const source = put(bytes);
  const target = put(new Uint8Array(maxEncodedBytes(bytes.length)));
  const [encoded] = await compute.encodeAlways([{ source, target }], { codec, level });
  if (encoded === undefined || encoded.isZero) throw new Error("not encoded");
  const result = (codec === Codec.none ? source : target).bytes.slice(0, encoded.storedBytes);
  source.release();
  target.release();
  return result;
}

/** Expands one image into memory with guard bytes behind it, which must stay. */
async function expand(compute: Compute, codec: Codec, image: Uint8Array, sizeBytes: number, checksum?: number) {
  const guard = 4096;
  const source = put(image);
  const target = put(new Uint8Array(sizeBytes + guard).fill(0xa5));
  const item = {
    source,
    codec,
    checksum: checksum ?? compute.checksumNow(image, 0),
    target: target.slice(0, sizeBytes),
  };
  const [code] = await compute.decode([item]);
  const bytes = target.bytes.slice(0, sizeBytes);
  expect(target.bytes.subarray(sizeBytes).every((byte) => byte === 0xa5)).toBe(true);
  source.release();
  target.release();
  return { code, bytes };
}

for (const [name, compute] of implementations) {
  describe(`compute (${name})`, () => {
    test("the walb checksum agrees with the vectors", async () => {
      const bytes = (text: string) => new Uint8Array(Buffer.from(text, "hex"));
      const counting = Uint8Array.from({ length: 256 }, (_, i) => i);
      const vectors: [Uint8Array, number, number][] = [
        [bytes(""), 0, 0],
        [bytes(""), 1, 0xffffffff],
        [bytes("01020304"), 0, 0xfbfcfdff],
        [bytes("01020304"), 0x12345678, 0xe9c8a787],
        [bytes("0102030405"), 0, 0xfbfcfdfa],
        [new Uint8Array(8).fill(255), 0, 2],
        [new Uint8Array(512), 0x12345678, 0xedcba988],
        [new Uint8Array(512).fill(0x41), 0, 0x5f5f5f80],
        [counting, 0, 0x9fe02080],
      ];
      for (const [input, salt, expected] of vectors) {
        expect(compute.checksumNow(input, salt)).toBe(expected);
        expect([...(await compute.checksums([put(input)], salt))]).toEqual([expected]);
        const items = [expected, expected ^ 1].map((checksum) => ({ source: put(input), salt, checksum }));
        expect([...(await compute.verify(items))]).toEqual([1, 0]);
      }
    });

    test("MurmurHash3 agrees with the vectors", async () => {
      const counting = Uint8Array.from({ length: 256 }, (_, i) => i);
      const vectors: [number, Uint8Array, string][] = [
        [0, new Uint8Array(0), "00000000000000000000000000000000"],
        [0, new TextEncoder().encode("a"), "897859f6655555855a890e51483ab5e6"],
        [0, new Uint8Array(512), "b48245564341058ce6f6fcdffde99437"],
        [0, new Uint8Array(262144), "c0b3c7ec2442c57531985959fff2cc9f"],
        [0, counting, "b9126fdc13c3991c1ecc34ab7f07d670"],
        [0, counting.subarray(0, 255), "9d586942829ab00383daed0e6167fb85"],
        [1, new Uint8Array(0), "b55cff6ee5ab10468335f878aa2d6251"],
        [1, new Uint8Array(512), "b28408b289df6e3e8575ace1db3336f4"],
        [1400000000, counting, "2719e0673f732f9c385faf9846d172fb"],
        [0xffffffff, new Uint8Array(262144), "161180e1d3865b315153eefd20bf1144"],
      ];
      for (const [seed, input, expected] of vectors) {
        const hashes = await compute.hashes([put(sample(100)), put(input)], seed);
        expect(hex(hashes.subarray(16))).toBe(expected);
      }
    });

    test("MurmurHash3 of many runs of zeroes is that of one after the other, over the end of the seeds", async () => {
      for (const size of [0, 1, 17, 512, 4096]) {
        for (const [seed, count] of [
          [0, 1],
          [5, 31],
          [0xfffffff0, 100],
        ] as const) {
          const wanted = new Uint8Array(16);
          for (let i = 0; i < count; i++) {
            const hash = await compute.hashes([put(new Uint8Array(size))], (seed + i) % 2 ** 32);
            hash.forEach((byte, at) => {
              wanted[at]! ^= byte;
            });
          }
          expect(hex(await compute.hashZeroes(size, seed, count))).toBe(hex(wanted));
        }
      }
      expect(hex(await compute.hashZeroes(512, 1, 0))).toBe("0".repeat(32));
    });

    test("zero means every byte, and at least one", () => {
      expect(compute.isZeroNow(new Uint8Array(0))).toBe(false);
      for (const size of [1, 7, 255, 256, 257, 4096, 5000]) {
        const bytes = new Uint8Array(size);
        expect(compute.isZeroNow(bytes)).toBe(true);
        for (const at of [0, size >> 1, size - 1]) {
          bytes[at] = 1;
          expect(compute.isZeroNow(bytes)).toBe(false);
          bytes[at] = 0;
        }
      }
    });

    for (const codec of codecs) {
      test(`${codecNames[codec]} expands to what was compressed, at all levels and sizes`, async () => {
        for (const level of [0, 1, 6, 9]) {
          for (const size of [1, 511, 512, 4096, 65536, 300001]) {
            const bytes = sample(size, size);
            const image = await stored(compute, codec, bytes, level);
            const { code, bytes: back } = await expand(compute, codec, image, size);
            expect([code, Buffer.compare(back, bytes)]).toEqual([0, 0]);
          }
        }
      });

      test(`${codecNames[codec]} keeps the result only when it is strictly smaller`, async () => {
        const noise = crypto.getRandomValues(new Uint8Array(4096));
        const inputs = [new Uint8Array(64 * kib), noise, sample(64 * kib), new Uint8Array(1).fill(7)];
        const items = inputs.map((input) => ({ source: put(input), target: put(new Uint8Array(input.length)) }));
        const encoded = await compute.encode(items, { codec, level: 0 });
        expect(encoded[0]).toEqual({ isZero: true, codec: 0, storedBytes: 0, checksum: 0 });
        expect(encoded.map((one) => one.codec)).toEqual([0, 0, codec, 0]);
        for (const [i, one] of encoded.entries()) {
          const item = items[i];
          if (item === undefined || i === 0) continue;
          const image = (one.codec === 0 ? item.source : item.target).bytes.subarray(0, one.storedBytes);
          expect(one.checksum).toBe(compute.checksumNow(image, 0));
          if (one.codec === 0) expect(one.storedBytes).toBe(item.source.sizeBytes);
          else expect(one.storedBytes).toBeLessThan(item.source.sizeBytes);
          if (one.codec === 0) expect(item.target.bytes.every((byte) => byte === 0) || one.codec !== codec).toBe(true);
        }
        for (const item of items) [item.source, item.target].map((lease) => lease.release());
      });

      test(`${codecNames[codec]} decoding never writes beyond its target, whatever it is given`, async () => {
        const original = sample(4096, 5);
        const good = await stored(compute, codec, original);
        const mutation = fc.record({
          flips: fc.array(fc.tuple(fc.nat(good.length - 1), fc.integer({ min: 1, max: 255 })), { maxLength: 6 }),
          cut: fc.nat(good.length),
          grow: fc.uint8Array({ maxLength: 20 }),
          size: fc.oneof(fc.constant(4096), fc.integer({ min: 0, max: 10000 })),
        });
        await fc.assert(
          fc.asyncProperty(mutation, async ({ flips, cut, grow, size }) => {
            const image = Buffer.concat([good.subarray(0, good.length - (cut % 9 === 0 ? cut : 0)), grow]);
            for (const [at, mask] of flips) if (at < image.length) image[at] = (image[at] ?? 0) ^ mask;
            const { code, bytes } = await expand(compute, codec, image, size);
            expect([0, 2]).toContain(Number(code));
            const isUnchanged = Buffer.compare(image, good) === 0 && size === 4096;
            if (isUnchanged) expect([code, Buffer.compare(bytes, original)]).toEqual([0, 0]);
            if (size !== 4096 && Buffer.compare(image, good) === 0) expect(code).toBe(2);
          }),
          { numRuns: 300 },
        );
      });
    }

    test("a stored image with a wrong checksum is not expanded", async () => {
      const image = await stored(compute, Codec.zstd, sample(4096));
      const { code, bytes } = await expand(compute, Codec.zstd, image, 4096, 12345);
      expect(code).toBe(1);
      expect(bytes.every((byte) => byte === 0xa5)).toBe(true);
    });

    test("compressions that do not exist are refused with an example", async () => {
      const items = [{ source: put(sample(512)), target: put(new Uint8Array(512)) }];
      for (const option of [
        { codec: Codec.gzip, level: 10 },
        { codec: Codec.zstd, level: 20 },
        { codec: Codec.lz4, level: -1 },
      ]) {
        await expect(compute.encode(items, option)).rejects.toMatchObject({ code: "bad-parameter" });
      }
    });

    test("an encode target that is too small is refused before anything is written", async () => {
      const items = [{ source: put(sample(4096)), target: put(new Uint8Array(4096)).slice(0, 4095) }];
      await expect(compute.encode(items, { codec: Codec.lz4, level: 0 })).rejects.toMatchObject({ code: "internal" });
      const same = [{ source: put(sample(4096)), target: put(new Uint8Array(4096)) }];
      await expect(compute.encodeAlways(same, { codec: Codec.lz4, level: 0 })).rejects.toMatchObject({
        code: "internal",
      });
    });
  });
}

const [, compute] = implementations[0] ?? [];
if (compute === undefined) throw new Error("no implementation");

test("gzip is a zlib stream and zstd a frame with its content size, as other programs read them", async () => {
  const bytes = sample(100000);
  expect(Buffer.compare(inflateSync(await stored(compute, Codec.gzip, bytes)), bytes)).toBe(0);
  expect((await expand(compute, Codec.gzip, deflateSync(bytes, { level: 9 }), bytes.length)).code).toBe(0);
  const frame = await stored(compute, Codec.zstd, bytes);
  expect(hex(frame.subarray(0, 4))).toBe("28b52ffd");
  // Frame header descriptor: single segment, content size present, no checksum, no dictionary.
  expect((frame[4] ?? 0) & 0x20).toBe(0x20);
  expect((frame[4] ?? 0) & 0x07).toBe(0);
  expect(Buffer.compare(zstdDecompressSync(frame), bytes)).toBe(0);
});

test("lzma is an .xz container with CRC64 that a reader with 16 MiB can expand at every level", async () => {
  for (const level of [0, 6, 9]) {
    const image = await stored(compute, Codec.lzma, sample(256 * kib), level);
    expect(hex(image.subarray(0, 8))).toBe("fd377a585a000004");
    const xz = Bun.spawnSync(["xz", "-dc", "--memlimit-decompress=16MiB"], { stdin: image });
    expect([xz.exitCode, Buffer.compare(xz.stdout, sample(256 * kib))]).toEqual([0, 0]);
  }
});

test("a large xz dictionary is still read, as an archive may hold one", async () => {
  const xz = Bun.spawnSync(["xz", "-9", "--check=crc64", "-c"], { stdin: sample(64 * kib) });
  const { code, bytes } = await expand(compute, Codec.lzma, xz.stdout, 64 * kib);
  expect([code, Buffer.compare(bytes, sample(64 * kib))]).toEqual([0, 0]);
});

test("an xz dictionary above that of level 9 is refused before memory is taken for it", async () => {
  const image = Bun.spawnSync(["xz", "-9", "--check=crc64", "-c"], { stdin: sample(64 * kib) }).stdout;
  const view = new DataView(image.buffer, image.byteOffset, image.length);
  const headerEnd = 12 + (image[12]! + 1) * 4;
  const dictionary = image.indexOf(0x21, 12) + 2;
  // 64 MiB, 96 MiB, 128 MiB, 4 GiB − 1 byte.
  for (const [size, isTaken] of [
    [28, true],
    [29, false],
    [30, false],
    [40, false],
  ] as const) {
    image[dictionary] = size;
    view.setUint32(headerEnd - 4, Bun.hash.crc32(image.subarray(12, headerEnd - 4)), true);
    const { code } = await expand(compute, Codec.lzma, image, 64 * kib);
    expect({ size, isTaken: code === 0 }).toEqual({ size, isTaken });
  }
});

// Skipped unless WALB_VECTORS names a directory with files recorded from the original tools.
const vectors = process.env.WALB_VECTORS ?? "";
const hasVectors = existsSync(join(vectors, "misc", "cmpr-src.bin"));

test.skipIf(!hasVectors)("checksums agree with those the original printed", () => {
  const image = readFileSync(join(vectors, "full", "base.img"));
  const printed = (name: string) => Number(readFileSync(join(vectors, "misc", name), "utf8").trim());
  expect(compute.checksumNow(image, 0)).toBe(printed("checksum.txt"));
  expect(compute.checksumNow(image, 305419896)).toBe(printed("checksum_salt_305419896.txt"));
});

test.skipIf(!hasVectors)("what the original compressed is expanded", async () => {
  const source = readFileSync(join(vectors, "misc", "cmpr-src.bin"));
  for (const codec of packing) {
    const file = readFileSync(join(vectors, "misc", `cmpr-src.wcmpr-${codecNames[codec]}`));
    // Two strings with a length byte, codec; then units of a zero byte, original size, stored size, image. A size of
    // two bytes has the tag 0x81.
    let at = 1 + 15 + 1 + codecNames[codec].length + 1;
    expect(file[at - 1]).toBe(codec);
    const parts: Uint8Array[] = [];
    const size = (): number => {
      expect(file[at]).toBe(0x81);
      at += 3;
      return file.readUInt16LE(at - 2);
    };
    while (Buffer.concat(parts).length < source.length) {
      expect(file[at++]).toBe(0);
      const expanded = size();
      const image = file.subarray(at + 3, at + 3 + size());
      at += image.length;
      const { code, bytes } = await expand(compute, codec, image, expanded);
      expect(code).toBe(0);
      parts.push(bytes);
    }
    expect(Buffer.compare(Buffer.concat(parts), source)).toBe(0);
  }
});

describe("expanding what has no checksum of its own", () => {
  test("tells data, zeroes and both checksums as the separate operations do, and damage", async () => {
    for (const [, compute] of implementations) {
      await fc.assert(
        fc.asyncProperty(
          fc.integer({ min: 1, max: 70_000 }),
          fc.constantFrom("mixed", "noise", "zero"),
          fc.nat(0xffff_ffff),
          async (sizeBytes, content, salt) => {
            const bytes =
              content === "zero" ? new Uint8Array(sizeBytes) : sample(sizeBytes, content === "mixed" ? 1 : 9);
            if (content === "noise") for (let i = 0; i < sizeBytes; i++) bytes[i] = (bytes[i]! + 31 * i * i) & 255;
            const target = put(new Uint8Array(sizeBytes).fill(7));
            const plain = put(bytes);
            const room = put(new Uint8Array(maxEncodedBytes(sizeBytes)));
            const option = { codec: Codec.snappy, level: 0 };
            const [encoded] = await compute.encodeAlways([{ source: plain, target: room }], option);
            // Zeroes are not encoded; the wire has them compressed by hand.
            const image = encoded!.isZero ? plain : room.slice(0, encoded!.storedBytes);
            const codec = encoded!.isZero ? Codec.none : Codec.snappy;
            const [one, stored] = await compute.expand([
              { source: image, codec, target },
              { source: plain, codec: Codec.none, target: plain },
            ]);
            expect(one!.isGood && stored!.isGood).toBe(true);
            if (codec === Codec.snappy) {
              expect(Buffer.compare(target.bytes, bytes)).toBe(0);
              expect(one!.storedChecksum).toBe(encoded!.checksum);
            } else expect(target.bytes.every((byte) => byte === 7)).toBe(true);
            expect(one!.isZero).toBe(bytes.every((byte) => byte === 0));
            expect(stored).toEqual({ ...one!, storedChecksum: one!.checksum });
            expect(one!.checksum).toBe(compute.checksumNow(bytes, 0));
            expect((one!.checksum - salt) >>> 0).toBe(compute.checksumNow(bytes, salt));
            const [short] = await compute.expand([{ source: image, codec, target: target.slice(0, sizeBytes - 1) }]);
            expect(short!.isGood).toBe(false);
            for (const lease of [target, plain, room]) lease.release();
          },
        ),
        { numRuns: 60, seed: 3 },
      );
    }
  });
});
