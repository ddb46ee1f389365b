/** Opening for reading, which is done on the thread of the event loop where it can be. */
import { afterAll, expect, test } from "bun:test";
import { execFileSync } from "node:child_process";
import { mkdirSync, readdirSync, readlinkSync, renameSync, unlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileHeaderBytes, packHeaderBytes } from "../../src/diff/format.ts";
import { WalbError } from "../../src/errors.ts";
import type { DiskFile } from "../../src/platform/disk.ts";
import { closePlatform, createPlatform } from "../../src/platform/real/index.ts";
import { mib } from "../../src/units.ts";
import { withTemporaryDirectory } from "../helpers/temporary.ts";

const platform = createPlatform({ memoryBudgetBytes: 16 * mib });
const { disk, memory } = platform;
afterAll(() => closePlatform(platform));

async function contentOf(file: DiskFile): Promise<string> {
  const sizeBytes = await file.size();
  const lease = await memory.lease(4096);
  try {
    await file.read(0, lease.slice(0, sizeBytes));
    return Buffer.from(lease.bytes.subarray(0, sizeBytes)).toString();
  } finally {
    lease.release();
  }
}

async function openedContent(path: string): Promise<string> {
  const file = await disk.open(path, { mode: "read" });
  try {
    expect(file.openedSizeBytes).toBe(await file.size());
    return await contentOf(file);
  } finally {
    await file.close();
  }
}

async function codeAndText(path: string): Promise<string> {
  const error: unknown = await openedContent(path).catch((thrown: unknown) => thrown);
  if (!(error instanceof WalbError)) throw new Error(`opening ${path}: ${error}`);
  return `${error.code}: ${error.message}`;
}

/** Descriptors of this process for files below a directory. */
function openBelow(directory: string): number {
  return readdirSync("/proc/self/fd").filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).startsWith(directory);
    } catch {
      return false;
    }
  }).length;
}

test("each opening finds what is at the path then: new content, another file, nothing, no file", async () => {
  await withTemporaryDirectory(async (directory) => {
    const path = join(directory, "some-file-ä");
    for (let i = 0; i < 100; i++) {
      writeFileSync(path, `content ${i}`);
      expect(await openedContent(path)).toBe(`content ${i}`);
      writeFileSync(join(directory, "other"), `replaced ${i}`);
      renameSync(join(directory, "other"), path);
      expect(await openedContent(path)).toBe(`replaced ${i}`);
    }
    mkdirSync(join(directory, "directory"));
    execFileSync("mkfifo", [join(directory, "fifo")]);
    unlinkSync(path);
    for (let i = 0; i < 40; i++) {
      expect(await codeAndText(path)).toContain("not-found");
      expect(await codeAndText(join(directory, "directory"))).toContain("directory");
      expect(await codeAndText(join(directory, "fifo"))).toStartWith("io: ");
      expect(await codeAndText(`${directory}/${"x".repeat(9000)}`)).toContain("io: ");
    }
    expect(openBelow(directory)).toBe(0);
  });
});

test("a file that is removed while it is open stays readable, and goes when it is closed", async () => {
  await withTemporaryDirectory(async (directory) => {
    const path = join(directory, "file");
    for (let i = 0; i < 5; i++) {
      writeFileSync(path, `removed ${i}`);
      const file = await disk.open(path, { mode: "read" });
      unlinkSync(path);
      expect(await contentOf(file)).toBe(`removed ${i}`);
      await Promise.all([file.close(), file.close()]);
      expect(openBelow(directory)).toBe(0);
    }
  });
});

test("thousands in a row let others have their turn", async () => {
  await withTemporaryDirectory(async (directory) => {
    const path = join(directory, "file");
    writeFileSync(path, "content");
    let turns = 0;
    let isOver = false;
    const count = (): void => {
      turns += 1;
      if (!isOver) setImmediate(count);
    };
    setImmediate(count);
    for (let i = 0; i < 3300; i++) await (await disk.open(path, { mode: "read" })).close();
    isOver = true;
    expect(turns).toBeGreaterThan(90);
  });
});

test("pack headers of a small file are the same whether they are in memory or not", async () => {
  await withTemporaryDirectory(async (directory) => {
    const path = join(directory, "packs");
    const sizes = [0, 512, 70_000, 5, 4096];
    const packs = sizes.map((dataBytes, i) => {
      const pack = Buffer.alloc(packHeaderBytes + dataBytes, i + 1);
      pack[6] = 0;
      pack.writeUInt32LE(dataBytes, 8);
      return pack;
    });
    const end = Buffer.alloc(packHeaderBytes, 0xff);
    writeFileSync(path, Buffer.concat([Buffer.alloc(fileHeaderBytes), ...packs, end, Buffer.alloc(9000, 3)]));
    const lease = await memory.lease(16 * packHeaderBytes);
    const headersOf = async (isForgotten: boolean, countMax: number): Promise<string[]> => {
      const file = await disk.open(path, { mode: "read" });
      try {
        if (isForgotten) file.forgetCached?.();
        lease.bytes.fill(0);
        const target = lease.slice(0, countMax * packHeaderBytes);
        let count = 0;
        // What is not in memory ends an answer early.
        count = (await file.readPackHeaders?.(fileHeaderBytes, target)) ?? 0;
        return Array.from({ length: count }, (_, i) =>
          Buffer.from(lease.bytes.slice(i * packHeaderBytes, (i + 1) * packHeaderBytes)).toString("hex"),
        );
      } finally {
        await file.close();
      }
    };
    const expected = [...packs.map((pack) => pack.subarray(0, packHeaderBytes)), end].map((header) =>
      header.toString("hex"),
    );
    expect(await headersOf(false, 16)).toEqual(expected);
    expect(await headersOf(false, 2)).toEqual(expected.slice(0, 2));
    const cold = await headersOf(true, 16);
    expect(cold.length).toBeGreaterThan(0);
    expect(cold).toEqual(expected.slice(0, cold.length));
    lease.release();
  });
});
