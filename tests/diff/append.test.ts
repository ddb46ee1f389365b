import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { createAppendFile } from "../../src/diff/append.ts";
import type { MemoryPool } from "../../src/native/memory.ts";
import { createMemoryPool } from "../../src/native/slabs.ts";
import type { Disk } from "../../src/platform/disk.ts";
import { mib } from "../../src/units.ts";
import { platform } from "../helpers/diff.ts";
import { withTemporaryDirectory } from "../helpers/temporary.ts";

const { disk } = platform;

/** A disk that tells how files were opened, and can be full. */
function watched(): { disk: Disk; readonly direct: boolean[]; isFull: boolean } {
  const state = { direct: [] as boolean[], isFull: false };
  const open: Disk["open"] = async (path, options) => {
    const file = await disk.open(path, options);
    state.direct.push(file.isDirect);
    const { write } = file;
    file.write = (offset, source) =>
      state.isFull ? Promise.reject(new Error("the disk is full")) : write.call(file, offset, source);
    return file;
  };
  return Object.assign(state, { disk: Object.assign(Object.create(disk) as Disk, { open }) });
}

async function append(
  target: Disk,
  path: string,
  pool: MemoryPool,
  appends: readonly (readonly number[] | "sync")[],
): Promise<Uint8Array> {
  const source = await platform.memory.lease(2 * mib);
  for (let i = 0; i < source.sizeBytes; i += 1) source.bytes[i] = (i * 7 + (i >>> 9)) & 0xff;
  const file = await createAppendFile(target, path, pool, Number.POSITIVE_INFINITY);
  const model: Uint8Array[] = [];
  let end = 0;
  const jobs: Promise<void>[] = [];
  for (const sizes of appends) {
    if (sizes === "sync") {
      const sofar = Buffer.concat(model);
      const before = Promise.all(jobs);
      await Promise.all([before, file.sync()]);
      expect(readFileSync(path).equals(sofar)).toBe(true);
      continue;
    }
    const parts = sizes.map((sizeBytes, i) => source.slice((end + i * 4099) % mib, sizeBytes));
    jobs.push(file.writeGather(end, parts));
    for (const part of parts) {
      model.push(part.bytes.slice());
      end += part.sizeBytes;
    }
  }
  await Promise.all(jobs);
  expect(await file.size()).toBe(end);
  await file.sync();
  await file.close();
  source.release();
  return Buffer.concat(model);
}

describe("a file that is appended to", () => {
  test("has what was appended, in order, whatever the sizes are and wherever it was synced", async () => {
    const sizes = fc.array(fc.oneof(fc.integer({ min: 0, max: 9000 }), fc.integer({ min: 0, max: mib })), {
      maxLength: 4,
    });
    const appends = fc.array(fc.oneof({ weight: 5, arbitrary: sizes }, fc.constant("sync" as const)), {
      maxLength: 12,
    });
    await fc.assert(
      fc.asyncProperty(appends, async (list) => {
        await withTemporaryDirectory(async (directory) => {
          const pool = createMemoryPool(4 * mib);
          const path = join(directory, "file");
          const model = await append(disk, path, pool, list);
          expect(readFileSync(path).equals(model)).toBe(true);
          expect(pool.leasedBytes).toBe(0);
        });
      }),
      { numRuns: 25, seed: 7 },
    );
  });

  test("goes past the page cache while half of the memory is free, and through it else", async () => {
    await withTemporaryDirectory(async (directory) => {
      const pool = createMemoryPool(4 * mib);
      const { disk: seen, direct } = watched();
      const probe = await disk.open(join(directory, "probe"), { mode: "create", direct: true });
      const first = await createAppendFile(seen, join(directory, "first"), pool, 8 * mib);
      const second = await createAppendFile(seen, join(directory, "second"), pool, 8 * mib);
      await first.close();
      const small = await createAppendFile(seen, join(directory, "small"), pool, 4096);
      expect(direct).toEqual([probe.isDirect, false, false]);
      for (const file of [probe, second, small]) await file.close();
      expect(pool.leasedBytes).toBe(0);
    });
  });

  test("tells a write that failed, at once or with the next call, and gives its memory back", async () => {
    await withTemporaryDirectory(async (directory) => {
      const pool = createMemoryPool(4 * mib);
      const state = watched();
      const source = await platform.memory.lease(mib);
      source.bytes.fill(5);
      const file = await createAppendFile(state.disk, join(directory, "file"), pool, 8 * mib);
      await file.write(0, source);
      state.isFull = true;
      const later = [1, 2, 3].map((i) => file.write(i * mib, source));
      const results = await Promise.allSettled([...later, file.sync()]);
      expect(results.at(-1)).toMatchObject({ status: "rejected", reason: { message: "the disk is full" } });
      state.isFull = false;
      await expect(file.sync()).rejects.toThrow("the disk is full");
      await file.close();
      source.release();
      expect(pool.leasedBytes).toBe(0);
    });
  });
});
