import { describe, expect, test } from "bun:test";
import { packHeaderBytes, parsePackHeader } from "../../src/diff/format.ts";
import { RecordIndex } from "../../src/diff/record-index.ts";
import { RecordKind } from "../../src/diff/types.ts";
import { Codec } from "../../src/native/codec.ts";
import { createInlineCompute, createMemoryPool } from "../../src/native/index.ts";
import type { Platform } from "../../src/platform/platform.ts";
import { createSimWorld, type SimStorage, type SimWorld } from "../../src/sim/sim.ts";
import type { OutgoingPack } from "../../src/wire/pack-stream.ts";
import { type CompareOptions, ImageComparer } from "../../src/wire/source/compare.ts";
import { expectError } from "../helpers/errors.ts";

const mib = 1024 * 1024;
const compute = createInlineCompute();
/** Memory of the test itself: the comparison may have all of its own. */
const memory = createMemoryPool(64 * mib);

async function withWorld(
  memoryMib: number,
  use: (world: SimWorld, platform: Platform, storage: SimStorage) => Promise<void>,
): Promise<void> {
  const world = createSimWorld(1);
  const host = world.host("a", { memoryBytes: memoryMib * mib });
  await use(world, host.platform, host.storage);
  expect(host.platform.memory.leasedBytes).toBe(0);
  world.close();
}

function noise(sizeBytes: number, seed: number): Uint8Array {
  const bytes = new Uint8Array(sizeBytes);
  let x = seed;
  for (let i = 0; i < sizeBytes; i++) {
    x = (Math.imul(x, 1664525) + 1013904223) >>> 0;
    bytes[i] = x >>> 24;
  }
  return bytes;
}

async function hashesOf(image: Uint8Array, bulkBytes: number, seed: number): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  for (let at = 0; at < image.length; at += bulkBytes) {
    const bulk = image.subarray(at, at + bulkBytes);
    const lease = await memory.lease(bulk.length);
    lease.bytes.set(bulk);
    parts.push(await compute.hashes([lease.slice(0, bulk.length)], seed));
    lease.release();
  }
  return Buffer.concat(parts);
}

interface Seen {
  readonly records: { readonly addressLb: number; readonly blocksLb: number; readonly kind: number }[];
  readonly packs: { readonly records: number; readonly bytes: number; readonly spanLb: number }[];
}

/** Checks a pack, and applies it. */
async function applyPack(pack: OutgoingPack, image: Uint8Array, seen: Seen): Promise<void> {
  const packed = pack.memory!;
  const records = new RecordIndex(128, 128);
  const fromLb = seen.records.length === 0 ? 0 : seen.records.at(-1)!.addressLb + seen.records.at(-1)!.blocksLb;
  const header = packed.bytes.subarray(0, packHeaderBytes);
  const info = parsePackHeader(header, compute, records, 0, packHeaderBytes, fromLb, image.length / 512, {});
  expect(packHeaderBytes + info.dataBytes).toBe(packed.sizeBytes);
  for (let i = 0; i < records.count; i++) {
    const addressLb = records.addressLb[i]!;
    const blocksLb = records.blocksLb[i]!;
    const sizeBytes = blocksLb * 512;
    const kind = records.kind[i]!;
    seen.records.push({ addressLb, blocksLb, kind });
    if (kind === RecordKind.allZero) {
      image.fill(0, addressLb * 512, addressLb * 512 + sizeBytes);
      continue;
    }
    expect(kind).toBe(RecordKind.normal);
    const target = await memory.lease(sizeBytes);
    const item = {
      source: packed.slice(records.dataOffset[i]!, records.storedBytes[i]!),
      codec: records.codec[i]! as Codec,
      checksum: records.checksum[i]!,
      target: target.slice(0, sizeBytes),
    };
    expect([...(await compute.decode([item]))]).toEqual([0]);
    image.set(target.bytes.subarray(0, sizeBytes), addressLb * 512);
    target.release();
  }
  const spanLb = records.addressLb[records.count - 1]! - records.addressLb[0]!;
  seen.packs.push({ records: records.count, bytes: packed.sizeBytes, spanLb });
  pack.release();
}

interface Compared {
  readonly image: Uint8Array;
  readonly seen: Seen;
  readonly progress: number[];
}

/** Compares a device with an old image, in batches of some hashes. */
async function compared(
  platform: Platform,
  old: Uint8Array,
  options: Partial<CompareOptions> & Pick<CompareOptions, "file" | "bulkLb">,
  batch: () => number,
): Promise<Compared> {
  const image = old.slice();
  const seen: Seen = { records: [], packs: [] };
  const progress: number[] = [];
  const bulkBytes = options.bulkLb * 512;
  const hashes = await hashesOf(old, bulkBytes, 77);
  const comparer = await ImageComparer.open({
    pool: platform.memory,
    compute: platform.compute,
    clock: platform.clock,
    sizeLb: old.length / 512,
    compress: { codec: Codec.snappy, level: 0 },
    rateBytesPerS: () => 0,
    signal: new AbortController().signal,
    seed: 77,
    progress: (doneLb) => progress.push(doneLb),
    ...options,
  });
  try {
    for (let bulk = 0; bulk < hashes.length / 16; ) {
      const count = Math.min(batch(), hashes.length / 16 - bulk);
      for await (const pack of comparer.compare(bulk, hashes.slice(bulk * 16, (bulk + count) * 16))) {
        await applyPack(pack, image, seen);
      }
      bulk += count;
    }
    for await (const pack of comparer.finish()) await applyPack(pack, image, seen);
  } finally {
    await comparer.close();
  }
  return { image, seen, progress };
}

async function deviceOf(platform: Platform, image: Uint8Array) {
  const file = await platform.disk.open("/data", { mode: "create" });
  await file.truncate(image.length);
  // Stretches of zeroes stay holes.
  for (let at = 0; at < image.length; at += 4096) {
    const bytes = image.subarray(at, at + 4096);
    if (bytes.every((byte) => byte === 0)) continue;
    const lease = await memory.lease(bytes.length);
    lease.bytes.set(bytes);
    await file.write(at, lease.slice(0, bytes.length));
    lease.release();
  }
  return file;
}

describe("a comparison", () => {
  test("gives exactly the bulks that differ, in order, whatever sizes, batches and codec are", async () => {
    for (const [sizeBytes, bulkLb, codec, memoryMib] of [
      [5 * mib + 512 * 3, 512, Codec.snappy, 64],
      [5 * mib + 512 * 3, 512, Codec.zstd, 8],
      [3 * mib + 512, 8, Codec.none, 64],
      [12 * mib + 4096, 8192, Codec.snappy, 64],
      [12 * mib + 4096, 8192, Codec.lz4, 16],
      [512, 512, Codec.snappy, 64],
      [2 * mib, 24, Codec.snappy, 64],
    ] as const) {
      await withWorld(memoryMib, async (world, platform) => {
        const old = new Uint8Array(sizeBytes);
        const half = Math.floor(sizeBytes / 2);
        old.set(noise(half, 1));
        const fresh = old.slice();
        // Changed, zeroed, and appeared in a hole.
        const { random } = world;
        for (let i = 0; i < 6; i++) {
          const at = random.between(0, sizeBytes - 512);
          fresh.set(noise(Math.min(512 * random.between(1, 600), sizeBytes - at), 50 + i), at);
        }
        fresh.fill(0, 0, Math.min(half, 600_000));
        fresh[sizeBytes - 1] = 9;
        const bulkBytes = bulkLb * 512;
        const wanted: number[] = [];
        for (let at = 0; at < sizeBytes; at += bulkBytes) {
          const end = at + bulkBytes;
          if (Buffer.compare(old.subarray(at, end), fresh.subarray(at, end)) !== 0) wanted.push(at / 512);
        }
        const { image, seen, progress } = await world.complete(async () => {
          const file = await deviceOf(platform, fresh);
          const compress = { codec, level: 0 };
          const result = await compared(platform, old, { file, bulkLb, compress }, () => random.between(1, 16));
          await file.close();
          return result;
        });
        expect(Buffer.compare(image, fresh)).toBe(0);
        expect(seen.records.map(({ addressLb }) => addressLb)).toEqual(wanted);
        for (const { addressLb, blocksLb, kind } of seen.records) {
          const part = fresh.subarray(addressLb * 512, (addressLb + blocksLb) * 512);
          expect(kind).toBe(part.every((byte) => byte === 0) ? RecordKind.allZero : RecordKind.normal);
        }
        expect(progress.at(-1)).toBe(sizeBytes / 512);
      });
    }
  });

  test("gives nothing when nothing differs", async () => {
    await withWorld(64, async (world, platform) => {
      const image = noise(4 * mib + 512, 3);
      const { seen } = await world.complete(async () =>
        compared(platform, image, { file: await deviceOf(platform, image), bulkLb: 512 }, () => 16),
      );
      expect(seen.packs).toEqual([]);
    });
  });

  test("fills packs up to 127 records", async () => {
    await withWorld(64, async (world, platform) => {
      const old = new Uint8Array(2 * mib);
      const fresh = new Uint8Array(2 * mib).fill(1);
      const { seen } = await world.complete(async () =>
        compared(platform, old, { file: await deviceOf(platform, fresh), bulkLb: 8 }, () => 16),
      );
      expect(seen.packs.map(({ records }) => records)).toEqual([127, 127, 127, 127, 4]);
    });
  });

  test("ends a pack after 256 MiB of addresses, and reads no hole", async () => {
    await withWorld(64, async (world, platform, storage) => {
      const gib = 1024 * mib;
      const sizeLb = gib / 512;
      const { seen } = await world.complete(async () => {
        const file = await platform.disk.open("/data", { mode: "create" });
        await file.truncate(gib);
        storage.inject({ kinds: ["read"], effect: "io", times: 1000 });
        const seen: Seen = { records: [], packs: [] };
        const comparer = await ImageComparer.open({
          file,
          pool: platform.memory,
          compute: platform.compute,
          clock: platform.clock,
          sizeLb,
          bulkLb: 8192,
          compress: { codec: Codec.snappy, level: 0 },
          rateBytesPerS: () => 0,
          signal: new AbortController().signal,
          seed: 1,
          progress: () => undefined,
        });
        // No hash is that of zeroes: every bulk differs.
        const scratch = new Uint8Array(gib);
        for (let bulk = 0; bulk < sizeLb / 8192; bulk += 1) {
          for await (const pack of comparer.compare(bulk, new Uint8Array(16))) {
            await applyPack(pack, scratch, seen);
          }
        }
        for await (const pack of comparer.finish()) await applyPack(pack, scratch, seen);
        await comparer.close();
        return { seen };
      });
      expect(seen.packs.map(({ records }) => records)).toEqual([64, 64, 64, 64]);
      for (const { spanLb } of seen.packs) expect(spanLb).toBeLessThan((256 * mib) / 512);
    });
  });

  test("keeps several reads in flight", async () => {
    await withWorld(64, async (world, platform, storage) => {
      const image = noise(8 * mib, 3);
      await world.complete(async () => {
        const file = await deviceOf(platform, image);
        let waiting = 0;
        let waitingMax = 0;
        const readHashed = file.readHashed.bind(file);
        file.readHashed = async (...words) => {
          waiting += 1;
          waitingMax = Math.max(waitingMax, waiting);
          try {
            return await readHashed(...words);
          } finally {
            waiting -= 1;
          }
        };
        await compared(platform, image, { file, bulkLb: 512 }, () => 4);
        expect(waitingMax).toBeGreaterThan(2);
      });
      expect(storage.paths()).toEqual(["/data"]);
    });
  });

  test("that cannot read says where, and gives its memory back when all jobs have ended", async () => {
    await withWorld(64, async (world, platform, storage) => {
      const image = noise(8 * mib, 3);
      const work = world.complete(async () => {
        const file = await deviceOf(platform, image);
        storage.inject({ kinds: ["read"], skip: 3, effect: "io" });
        await compared(platform, new Uint8Array(8 * mib), { file, bulkLb: 512 }, () => 4);
      });
      await expectError(work, { code: "io", where: { file: "/data" } });
    });
  });

  test("waits for memory before it begins, and not when it was cancelled meanwhile", async () => {
    await withWorld(16, async (world, platform) => {
      await world.complete(async () => {
        const file = await deviceOf(platform, noise(mib, 1));
        const all = await platform.memory.lease(16 * mib);
        const abort = new AbortController();
        const options = {
          file,
          pool: platform.memory,
          compute: platform.compute,
          clock: platform.clock,
          sizeLb: 2048,
          bulkLb: 512,
          compress: { codec: Codec.snappy, level: 0 },
          rateBytesPerS: () => 0,
          seed: 1,
          progress: () => undefined,
        };
        const cancelled = ImageComparer.open({ ...options, signal: abort.signal });
        let isOpen = false;
        const waiting = ImageComparer.open({ ...options, signal: new AbortController().signal }).then((comparer) => {
          isOpen = true;
          return comparer;
        });
        await platform.clock.sleep(1_000);
        expect(isOpen).toBe(false);
        abort.abort(new Error("not any more"));
        await expectError(cancelled, "not any more");
        all.release();
        await (await waiting).close();
      });
    });
  });
});
