import { describe, expect, test } from "bun:test";
import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { createAppendFile } from "../../src/diff/append.ts";
import { commitDiffFile } from "../../src/diff/commit.ts";
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
    const { write, writeGather } = file;
    const full = (): Promise<void> => Promise.reject(new Error("the disk is full"));
    file.write = (offset, source) => (state.isFull ? full() : write.call(file, offset, source));
    file.writeGather = (offset, sources) => (state.isFull ? full() : writeGather.call(file, offset, sources));
    return file;
  };
  return Object.assign(state, { disk: Object.assign(Object.create(disk) as Disk, { open }) });
}

/** Some bytes, that lie in their first page as they will in the file or anywhere. */
interface Append {
  readonly sizeBytes: number;
  readonly isPlaced: boolean;
}

async function append(
  target: Disk,
  path: string,
  pool: MemoryPool,
  appends: readonly (readonly Append[] | "sync")[],
): Promise<Uint8Array> {
  const source = await platform.memory.lease(2 * mib + 4096);
  for (let i = 0; i < source.sizeBytes; i += 1) source.bytes[i] = (i * 7 + (i >>> 9)) & 0xff;
  const file = await createAppendFile(target, path, pool, Number.POSITIVE_INFINITY);
  const model: Uint8Array[] = [];
  let end = 0;
  const jobs: Promise<void>[] = [];
  for (const group of appends) {
    if (group === "sync") {
      const sofar = Buffer.concat(model);
      const before = Promise.all(jobs);
      await Promise.all([before, file.sync()]);
      expect(readFileSync(path).equals(sofar)).toBe(true);
      continue;
    }
    const startOffset = end;
    const parts = group.map(({ sizeBytes, isPlaced }, i) => {
      const anywhere = (end + i * 4099) % mib;
      const part = source.slice(isPlaced ? anywhere - (anywhere % 4096) + (end % 4096) : anywhere, sizeBytes);
      model.push(part.bytes.slice());
      end += sizeBytes;
      return part;
    });
    jobs.push(file.writeGather(startOffset, parts));
  }
  await Promise.all(jobs);
  expect(await file.size()).toBe(end);
  await commitDiffFile(target, file, `${path}-named`);
  source.release();
  return Buffer.concat(model);
}

describe("a file that is appended to", () => {
  test("has what was appended, in order, whatever the sizes are and wherever it was synced", async () => {
    const sizeBytes = fc.oneof(fc.integer({ min: 0, max: 9000 }), fc.integer({ min: 0, max: mib }));
    const group = fc.array(fc.record({ sizeBytes, isPlaced: fc.boolean() }), { maxLength: 4 });
    const appends = fc.array(fc.oneof({ weight: 5, arbitrary: group }, fc.constant("sync" as const)), {
      maxLength: 12,
    });
    await fc.assert(
      fc.asyncProperty(appends, async (list) => {
        await withTemporaryDirectory(async (directory) => {
          const pool = createMemoryPool(4 * mib);
          const path = join(directory, "file");
          const model = await append(disk, path, pool, list);
          expect(readFileSync(`${path}-named`).equals(model)).toBe(true);
          expect(pool.leasedBytes).toBe(0);
        });
      }),
      { numRuns: 40, seed: 7 },
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

  test("writes large appends from where they are, when they lie as they will in the file", async () => {
    await withTemporaryDirectory(async (directory) => {
      const pool = createMemoryPool(4 * mib);
      const sources: number[] = [];
      const open: Disk["open"] = async (path, options) => {
        const file = await disk.open(path, options);
        const { writeGather } = file;
        file.writeGather = (offset, pieces) => {
          sources.push(...pieces.map(({ address }) => address));
          return writeGather.call(file, offset, pieces);
        };
        return file;
      };
      const source = await platform.memory.lease(mib);
      const file = await createAppendFile(
        Object.assign(Object.create(disk) as Disk, { open }),
        join(directory, "file"),
        pool,
        8 * mib,
      );
      await file.write(0, source.slice(0, 5000));
      await file.write(5000, source.slice(5000, 200_000));
      await file.write(205_000, source.slice(0, 200_000));
      await file.sync();
      await file.close();
      expect(statSync(file.path).size).toBe(405_000);
      if (sources.length > 0) expect(sources).toContain(source.address + 8192);
      source.release();
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
