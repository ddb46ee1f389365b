import { expect, test } from "bun:test";
import { readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Codec } from "../../src/native/codec.ts";
import type { DiskFile } from "../../src/platform/disk.ts";
import { io } from "../helpers/diff.ts";
import { withTemporaryDirectory } from "../helpers/temporary.ts";

let state = 4711;
const random = (limit: number): number => {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return Math.floor((state / 2 ** 32) * limit);
};

interface Image {
  readonly source: number;
  readonly storedOffset: number;
  readonly storedBytes: number;
  readonly codec: Codec;
  readonly checksum: number;
  readonly data: Uint8Array;
}

/** Images of 512 bytes to 96 KiB, of every codec, in three files, with gaps and without. */
async function makeImages(paths: readonly string[], count: number): Promise<Image[]> {
  const parts: Uint8Array[][] = paths.map(() => []);
  const ends = paths.map(() => 0);
  const images: Image[] = [];
  const lease = await io.memory.lease(1 << 20);
  try {
    for (let i = 0; i < count; i++) {
      const source = random(paths.length);
      const sizeBytes = 512 * (random(20) === 0 ? 1 + random(192) : 1 + random(16));
      const from = lease.slice(0, sizeBytes);
      for (let at = 0; at < sizeBytes; at++) from.bytes[at] = at % 64 < 8 ? random(256) : i;
      const codec = [Codec.none, Codec.snappy, Codec.lz4, Codec.zstd, Codec.gzip][random(5)]!;
      const target = lease.slice(1 << 19, sizeBytes);
      const [made] = await io.compute.encode([{ source: from, target }], { codec, level: 0 });
      const stored = made!.codec === Codec.none ? from : target.slice(0, made!.storedBytes);
      const gap = random(4) === 0 ? new Uint8Array(random(20_000)) : new Uint8Array(0);
      parts[source]!.push(gap, stored.bytes.slice());
      const storedOffset = ends[source]! + gap.length;
      ends[source] = storedOffset + stored.sizeBytes;
      const { checksum } = made!;
      const data = from.bytes.slice();
      images.push({ source, storedOffset, storedBytes: stored.sizeBytes, codec: made!.codec, checksum, data });
    }
  } finally {
    lease.release();
  }
  paths.forEach((path, i) => {
    writeFileSync(path, Buffer.concat(parts[i]!));
  });
  return images;
}

async function withImages(
  use: (images: readonly Image[], sources: readonly DiskFile[], target: DiskFile, paths: string[]) => Promise<void>,
): Promise<void> {
  await withTemporaryDirectory(async (directory) => {
    const paths = ["a", "b", "c"].map((name) => join(directory, name));
    const images = await makeImages(paths, 3000);
    const sources = await Promise.all(paths.map((path) => io.disk.open(path, { mode: "read" })));
    const target = await io.disk.open(join(directory, "target"), { mode: "create" });
    try {
      await use(images, sources, target, paths);
    } finally {
      for (const file of [...sources, target]) await file.close();
    }
  });
}

/** Writes the images in a shuffled order of the sources, some only in part. @returns what the target should be. */
async function transferAll(
  images: readonly Image[],
  sources: readonly DiskFile[],
  target: DiskFile,
  isVerified = false,
) {
  const order = images.map((_, i) => i).sort((a, b) => ((a * 7919) % 3001) - ((b * 7919) % 3001));
  const expected: Uint8Array[] = [];
  const bad = await target.transfer!(
    sources,
    order.length,
    (rows) => {
      let at = 0;
      order.forEach((index, row) => {
        const { source, storedOffset, storedBytes, codec, checksum, data } = images[index]!;
        const from = row % 3 === 0 ? 512 * Math.floor(data.length / 1024) : 0;
        const size = data.length - from;
        const gap = row % 11 === 0 ? 4096 : 0;
        expected.push(new Uint8Array(gap), data.subarray(from));
        at += gap;
        rows.put(source, storedOffset, storedBytes, codec, checksum, data.length, from, size, at);
        at += size;
      });
    },
    { isVerified },
  );
  return { bad, order, expected: Buffer.concat(expected) };
}

test("a transfer writes slices of images from several files in any order, many windows of them", async () => {
  await withImages(async (images, sources, target) => {
    for (const isVerified of [false, true]) {
      const { bad, expected } = await transferAll(images, sources, target, isVerified);
      expect(bad).toBeUndefined();
      expect(readFileSync(target.path).equals(expected)).toBe(true);
    }
  });
}, 60_000);

test("a transfer tells the first image whose bytes are not those it was made with, and writes the others", async () => {
  await withImages(async (images, sources, target, paths) => {
    const damaged = 1234;
    const { source, storedOffset } = images[damaged]!;
    const bytes = readFileSync(paths[source]!);
    bytes[storedOffset + 3]! ^= 0x10;
    writeFileSync(paths[source]!, bytes);
    const { bad, order, expected } = await transferAll(images, sources, target);
    expect(bad).toEqual({ row: order.indexOf(damaged), code: 1 });
    const got = readFileSync(target.path);
    const differing = got.reduce((count, byte, i) => count + (byte === expected[i] ? 0 : 1), 0);
    expect(differing).toBeGreaterThan(0);
    expect(differing).toBeLessThanOrEqual(images[damaged]!.data.length);
  });
}, 60_000);

test("a transfer from a file that became shorter names that file", async () => {
  await withImages(async (images, sources, target, paths) => {
    truncateSync(paths[1]!, 10_000);
    const failure = await transferAll(images, sources, target).catch((error: unknown) => error);
    expect(failure).toMatchObject({ code: "io", where: { file: paths[1]! } });
  });
}, 60_000);
