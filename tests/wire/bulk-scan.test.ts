import { describe, expect, test } from "bun:test";
import { Codec } from "../../src/native/codec.ts";
import type { Platform } from "../../src/platform/platform.ts";
import { createSimWorld, type SimStorage, type SimWorld } from "../../src/sim/sim.ts";
import { type ScanOptions, scanBulks } from "../../src/wire/source/bulks.ts";
import { expectError } from "../helpers/errors.ts";

const mib = 1024 * 1024;

/** Writes the content of a device at given places, and opens it. */
async function deviceOf(platform: Platform, sizeBytes: number, pieces: readonly (readonly [number, Uint8Array])[]) {
  const file = await platform.disk.open("/data", { mode: "createOrOpen" });
  await file.truncate(sizeBytes);
  for (const [offset, bytes] of pieces) {
    const lease = await platform.memory.lease(bytes.length);
    lease.bytes.set(bytes);
    await file.write(offset, lease.slice(0, bytes.length));
    lease.release();
  }
  return file;
}

function optionsOf(platform: Platform, file: ScanOptions["file"], sizeLb: number, bulkLb: number): ScanOptions {
  return {
    file,
    pool: platform.memory,
    clock: platform.clock,
    sizeLb,
    bulkLb,
    compress: { codec: Codec.snappy, level: 0 },
    rateBytesPerS: () => 0,
    signal: new AbortController().signal,
  };
}

/** The image that the bulks make. */
async function imageOf(platform: Platform, options: ScanOptions): Promise<{ image: Uint8Array; kinds: string }> {
  const image = new Uint8Array(options.sizeLb * 512);
  const bulkBytes = options.bulkLb * 512;
  let kinds = "";
  let at = 0;
  for await (const bulk of scanBulks(options)) {
    const sizeBytes = Math.min(bulkBytes, image.length - at);
    kinds += bulk.kind === "zero" ? "0" : "d";
    if (bulk.kind === "data") {
      const target = await platform.memory.lease(sizeBytes);
      const item = {
        source: bulk.data,
        codec: options.compress.codec,
        checksum: bulk.checksum,
        target: target.slice(0, sizeBytes),
      };
      expect([...(await platform.compute.decode([item]))]).toEqual([0]);
      image.set(target.bytes.subarray(0, sizeBytes), at);
      target.release();
      bulk.release();
    }
    at += bulkBytes;
  }
  expect(at).toBe(Math.ceil(image.length / bulkBytes) * bulkBytes);
  return { image, kinds };
}

async function withWorld(
  work: (world: SimWorld, platform: Platform, storage: SimStorage) => Promise<void>,
  memoryMib = 64,
): Promise<void> {
  const world = createSimWorld(1);
  const host = world.host("a", { memoryBytes: memoryMib * mib });
  const { platform } = host;
  await work(world, platform, host.storage);
  expect(platform.memory.leasedBytes).toBe(0);
  world.close();
}

const noise = (sizeBytes: number, seed: number): Uint8Array => {
  const bytes = new Uint8Array(sizeBytes);
  let x = seed;
  for (let i = 0; i < sizeBytes; i++) {
    x = (Math.imul(x, 1664525) + 1013904223) >>> 0;
    bytes[i] = x >>> 24;
  }
  return bytes;
};

describe("a scan", () => {
  test("gives every byte in order, with holes and zeroes as nothing, whatever the sizes are", async () => {
    for (const [sizeBytes, bulkLb] of [
      [5 * mib + 512 * 3, 512],
      [5 * mib + 512 * 3, 8],
      [3 * mib, 8192],
      [512, 512],
      [mib, 24],
    ] as const) {
      await withWorld(async (world, platform) => {
        const pieces = [
          [0, noise(Math.min(1000, sizeBytes), 1)],
          [Math.floor(sizeBytes / 2), noise(Math.min(200_000, Math.floor(sizeBytes / 2)), 2)],
          [sizeBytes - 1, new Uint8Array([7])],
          // Data that is all zero.
          [Math.floor(sizeBytes / 4), new Uint8Array(Math.floor(sizeBytes / 8))],
        ] as const;
        const file = await world.complete(() => deviceOf(platform, sizeBytes, pieces));
        const { image } = await world.complete(() =>
          imageOf(platform, optionsOf(platform, file, sizeBytes / 512, bulkLb)),
        );
        const expected = new Uint8Array(sizeBytes);
        for (const [at, bytes] of pieces) expected.set(bytes, at);
        expect(Buffer.compare(image, expected)).toBe(0);
      });
    }
  });

  test("reads nothing of a hole", async () => {
    await withWorld(async (world, platform) => {
      const file = await world.complete(() => deviceOf(platform, 1024 * mib, [[512 * mib, noise(4096, 1)]]));
      const { kinds } = await world.complete(async () => {
        let seen = "";
        for await (const bulk of scanBulks(optionsOf(platform, file, (1024 * mib) / 512, 512))) {
          seen += bulk.kind === "zero" ? "0" : "d";
          if (bulk.kind === "data") bulk.release();
        }
        return { kinds: seen };
      });
      expect(kinds).toHaveLength(4096);
      expect(kinds.indexOf("d")).toBe(2048);
      expect(kinds.replaceAll("0", "")).toBe("d");
    });
  });

  test("of several volumes at once never waits for ever for memory", async () => {
    await withWorld(async (world, platform) => {
      const file = await world.complete(() => deviceOf(platform, 8 * mib, [[0, noise(8 * mib, 3)]]));
      const scan = async (): Promise<number> => {
        let count = 0;
        for await (const bulk of scanBulks(optionsOf(platform, file, (8 * mib) / 512, 512))) {
          count += 1;
          await platform.clock.sleep(1);
          if (bulk.kind === "data") bulk.release();
        }
        return count;
      };
      const counts = await world.complete(() => Promise.all([scan(), scan(), scan(), scan(), scan()]));
      expect(counts).toEqual([32, 32, 32, 32, 32]);
    }, 16);
  });

  test("gives its memory back when the reader leaves, when it is cancelled, and when the device fails", async () => {
    await withWorld(async (world, platform, storage) => {
      const file = await world.complete(() => deviceOf(platform, 8 * mib, [[0, noise(8 * mib, 3)]]));
      const options = optionsOf(platform, file, (8 * mib) / 512, 512);
      await world.complete(async () => {
        for await (const bulk of scanBulks(options)) {
          if (bulk.kind === "data") bulk.release();
          break;
        }
      });
      expect(platform.memory.leasedBytes).toBe(0);
      const abort = new AbortController();
      const cancelled = world.complete(async () => {
        for await (const bulk of scanBulks({ ...options, signal: abort.signal })) {
          if (bulk.kind === "data") bulk.release();
          abort.abort(new Error("enough"));
        }
      });
      await expectError(cancelled, "enough");
      expect(platform.memory.leasedBytes).toBe(0);
      storage.inject({ kinds: ["read"], skip: 3, effect: "io" });
      const failed = world.complete(async () => {
        for await (const bulk of scanBulks(options)) if (bulk.kind === "data") bulk.release();
      });
      await expectError(failed);
    });
  });

  test("keeps a rate, also a tiny one, and never leaves the archive waiting", async () => {
    for (const rate of [256 * 1024, 4 * mib]) {
      await withWorld(async (world, platform) => {
        const file = await world.complete(() => deviceOf(platform, 2 * mib, [[0, noise(2 * mib, 3)]]));
        const startMs = world.nowMs();
        let lastMs = startMs;
        let gapMs = 0;
        await world.complete(async () => {
          const options = { ...optionsOf(platform, file, (2 * mib) / 512, 512), rateBytesPerS: () => rate };
          for await (const bulk of scanBulks(options)) {
            gapMs = Math.max(gapMs, world.nowMs() - lastMs);
            lastMs = world.nowMs();
            if (bulk.kind === "data") bulk.release();
          }
        });
        expect(world.nowMs() - startMs).toBeGreaterThan(((2 * mib) / rate) * 1000 - 1100);
        expect(world.nowMs() - startMs).toBeLessThan(((2 * mib) / rate) * 1000 + 500);
        expect(gapMs).toBeLessThan(4_500);
      });
    }
  });
});
