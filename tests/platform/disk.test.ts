import { afterAll, describe, expect, test } from "bun:test";
import { execFileSync, spawn } from "node:child_process";
import {
  linkSync,
  readFileSync,
  realpathSync,
  statfsSync,
  statSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { Codec } from "../../src/native/codec.ts";
import { Op } from "../../src/native/layout.ts";
import type { Memory } from "../../src/native/memory.ts";
import type { DiskFile } from "../../src/platform/disk.ts";
import { RealDisk } from "../../src/platform/real/disk.ts";
import { RealDiskFile } from "../../src/platform/real/file.ts";
import { closePlatform, createPlatform, jobPoolOf } from "../../src/platform/real/index.ts";
import { gib, kib, mib } from "../../src/units.ts";
import { failureOf } from "../helpers/errors.ts";
import { withTemporaryDirectory } from "../helpers/temporary.ts";

const platform = createPlatform({ memoryBudgetBytes: 256 * mib });
const { disk, memory, compute } = platform;
afterAll(() => closePlatform(platform));

function filled(sizeBytes: number, seed: number): Memory {
  const lease = memory.tryLease(sizeBytes);
  if (lease === undefined) throw new Error("no memory");
  let state = seed >>> 0;
  for (let i = 0; i < sizeBytes; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    lease.bytes[i] = i % 512 < 256 ? state >>> 24 : seed;
  }
  return lease;
}

function empty(sizeBytes: number): Memory {
  const lease = memory.tryLease(sizeBytes);
  if (lease === undefined) throw new Error("no memory");
  return lease;
}

test("what is forgotten of a file comes from its disk again, and what was not written back yet is kept", async () => {
  await withFile(false, async (file, path) => {
    const [first, second, found] = [filled(64 * kib, 1), filled(64 * kib, 2), empty(64 * kib)];
    await file.write(0, first);
    await file.sync();
    expect(file.readCached?.(0, found)).toBe(true);
    file.forgetCached?.();
    const tmpfs = 0x01021994;
    if (statfsSync(path).type !== tmpfs) expect(file.readCached?.(0, found)).toBe(false);
    await file.read(0, found);
    expect(Buffer.compare(found.bytes, first.bytes)).toBe(0);
    await file.write(0, second);
    file.forgetCached?.();
    await file.read(0, found);
    expect(Buffer.compare(found.bytes, second.bytes)).toBe(0);
  });
});

test("a lock is on the file that has the name, also when its holder removed it while it was opened", async () => {
  await withTemporaryDirectory(async (directory) => {
    const path = join(directory, "lock");
    writeFileSync(path, "");
    const pool = jobPoolOf(platform);
    let removals = 0;
    const removing = new RealDisk({
      async run(job) {
        const result = await pool.run(job);
        if (job.op === Op.open && removals++ === 0) unlinkSync(path);
        return result;
      },
    });
    const late = await removing.open(path, { mode: "createOrOpen", lock: true });
    expect((await failureOf(disk.open(path, { mode: "createOrOpen", lock: true }))).code).toBe("locked");
    await late.close();
    expect(removals).toBe(2);
  });
});

async function withFile<T>(direct: boolean, use: (file: DiskFile, path: string) => Promise<T>): Promise<T> {
  return await withTemporaryDirectory(async (directory) => {
    const path = join(directory, "file");
    const file = await disk.open(path, { mode: "create", direct });
    try {
      return await use(file, path);
    } finally {
      await file.close();
    }
  });
}

for (const direct of [false, true]) {
  describe(direct ? "a file opened for direct I/O" : "a buffered file", () => {
    test("reads back what was written, alone and gathered", async () => {
      await withFile(direct, async (file, path) => {
        expect([1, 512, 4096]).toContain(file.alignmentBytes);
        expect(file.isDirect).toBe(file.alignmentBytes > 1);
        const first = filled(64 * kib, 1);
        const second = filled(4 * kib, 2);
        await file.write(0, first);
        await file.writeGather(64 * kib, [second, first.slice(0, 8 * kib), first.slice(8 * kib, 4 * kib)]);
        await file.sync();
        const all = empty(80 * kib);
        await file.read(0, all);
        const expected = Buffer.concat([first.bytes, second.bytes, first.bytes.subarray(0, 12 * kib)]);
        expect(Buffer.compare(all.bytes, expected)).toBe(0);
        expect(Buffer.compare(readFileSync(path), expected)).toBe(0);
        expect(await file.size()).toBe(80 * kib);
      });
    });

    test("writes back a range, holes and what is behind the end in it, and leaves what is there", async () => {
      await withFile(direct, async (file) => {
        const data = filled(64 * kib, 1);
        await file.write(1024 * kib, data);
        await file.writeBack?.(0, 4096 * kib);
        const found = empty(64 * kib);
        await file.read(1024 * kib, found);
        expect(Buffer.compare(found.bytes, data.bytes)).toBe(0);
        expect(await file.size()).toBe(1088 * kib);
      });
    });

    test("keeps data beyond 4 GiB and 8 TiB at its place", async () => {
      await withFile(direct, async (file, path) => {
        const offsets = [0, 4 * gib - 4 * kib, 4 * gib, 8 * 1024 * gib + 4 * kib];
        for (const [i, offset] of offsets.entries()) await file.write(offset, filled(4 * kib, i + 10));
        const back = empty(4 * kib);
        for (const [i, offset] of offsets.entries()) {
          await file.read(offset, back);
          expect(Buffer.compare(back.bytes, filled(4 * kib, i + 10).bytes)).toBe(0);
        }
        expect(await file.size()).toBe(8 * 1024 * gib + 8 * kib);
        expect(statSync(path).blocks * 512).toBeLessThan(mib);
        expect(await file.nextData(64 * kib)).toEqual({ startBytes: 4 * gib - 4 * kib, endBytes: 4 * gib + 4 * kib });
        expect((await file.nextData(5 * gib))?.startBytes).toBe(8 * 1024 * gib + 4 * kib);
        expect(await file.nextData(8 * 1024 * gib + 8 * kib)).toBeUndefined();
      });
    });

    test("tells a short read as an error that names file and offset", async () => {
      await withFile(direct, async (file, path) => {
        await file.write(0, filled(8 * kib, 3));
        const error = await failureOf(file.read(4 * kib, empty(8 * kib)));
        expect(error.code).toBe("io");
        expect(error.where).toEqual({ file: path, offsetBytes: 4 * kib });
        expect(error.message).toContain("got only 4096");
        expect((await failureOf(file.readHashed(4 * kib, empty(8 * kib), 4096, 0))).code).toBe("io");
      });
    });

    test("zeroes a range inside and across its end without changing its size or growing its allocation", async () => {
      await withFile(direct, async (file, path) => {
        await file.write(0, filled(mib, 4));
        await file.sync();
        await file.zero(64 * kib, 128 * kib);
        await file.zero(mib - 64 * kib, 128 * kib);
        await file.zero(8 * mib, mib);
        expect(await file.size()).toBe(mib);
        await file.sync();
        const all = readFileSync(path);
        const expected = filled(mib, 4).bytes.slice();
        expected.fill(0, 64 * kib, 192 * kib);
        expected.fill(0, mib - 64 * kib);
        expect(Buffer.compare(all, expected)).toBe(0);
        expect(statSync(path).blocks * 512).toBeLessThanOrEqual(mib - 128 * kib);
      });
    });

    test("encodes and hashes what it reads as separate steps would", async () => {
      await withFile(direct, async (file) => {
        const data = filled(256 * kib, 5);
        data.bytes.fill(0, 64 * kib, 128 * kib);
        await file.write(0, data);
        for (const always of [false, true]) {
          const sources = [0, 1, 2, 3].map(() => empty(64 * kib));
          const targets = [0, 1, 2, 3].map(() => empty(128 * kib));
          const option = { codec: Codec.lz4, level: 0, always };
          const encoded = await file.readEncoded(0, sources, targets, option);
          expect(encoded.map((one) => one.isZero)).toEqual([false, true, false, false]);
          const parts = [0, 1, 2, 3].map((i) => ({
            source: data.slice(i * 64 * kib, 64 * kib),
            target: empty(128 * kib),
          }));
          expect(encoded).toEqual(await (always ? compute.encodeAlways(parts, option) : compute.encode(parts, option)));
          expect(Buffer.compare(sources[3]?.bytes ?? new Uint8Array(), data.bytes.subarray(192 * kib))).toBe(0);
        }
        const target = empty(232 * kib);
        const hashes = await file.readHashed(0, target, 64 * kib, 7);
        const chunks = [0, 1, 2].map((i) => data.slice(i * 64 * kib, 64 * kib));
        expect(hashes).toEqual(await compute.hashes([...chunks, data.slice(192 * kib, 40 * kib)], 7));
      });
    });

    test("expands slices of stored images to their place and reports bad ones item by item", async () => {
      await withFile(direct, async (file, path) => {
        const data = filled(64 * kib, 6);
        const stored = empty(128 * kib);
        const [encoded] = await compute.encodeAlways([{ source: data, target: stored }], {
          codec: Codec.zstd,
          level: 3,
        });
        if (encoded === undefined) throw new Error("nothing encoded");
        const source = stored.slice(0, encoded.storedBytes);
        const base = { source, codec: Codec.zstd, checksum: encoded.checksum, decodedBytes: 64 * kib };
        const raw = { source: data, codec: Codec.none, checksum: compute.checksumNow(data.bytes, 0) };
        // A raw image at an address that no direct write may use.
        const shifted = empty(65 * kib);
        shifted.bytes.set(data.bytes, 3);
        const odd = { ...raw, source: shifted.slice(3, 64 * kib), decodedBytes: 64 * kib };
        const at = (fileOffsetBytes: number) => ({ sliceOffsetBytes: 8 * kib, sliceBytes: 16 * kib, fileOffsetBytes });
        const codes = await file.writeDecoded([
          { ...base, ...at(0) },
          { ...base, ...at(16 * kib), checksum: encoded.checksum ^ 1 },
          { ...base, ...at(32 * kib), decodedBytes: 32 * kib },
          { ...raw, decodedBytes: 64 * kib, ...at(48 * kib) },
          { ...odd, ...at(64 * kib) },
          { ...base, sliceOffsetBytes: 0, sliceBytes: 64 * kib, fileOffsetBytes: 80 * kib },
        ]);
        expect([...codes]).toEqual([0, 1, 2, 0, 0, 0]);
        const slice = data.bytes.subarray(8 * kib, 24 * kib);
        const expected = Buffer.concat([slice, new Uint8Array(32 * kib), slice, slice, data.bytes]);
        expect(Buffer.compare(readFileSync(path), expected)).toBe(0);
      });
    });
  });
}

test("neighbouring images are written at once, and a bad one among them leaves only its own place alone", async () => {
  await withFile(false, async (file, path) => {
    const count = 700;
    const data = filled(count * 4 * kib, 11);
    const stored = empty(3 * count * 4 * kib);
    const codecs = [Codec.none, Codec.lz4, Codec.zstd];
    const items = [];
    for (let i = 0; i < count; i++) {
      const source = data.slice(i * 4 * kib, 4 * kib);
      const target = stored.slice(i * 12 * kib, 12 * kib);
      const [encoded] = await compute.encodeAlways([{ source, target }], { codec: codecs[i % 3]!, level: 0 });
      const { codec, storedBytes, checksum } = encoded!;
      const bytes = codec === Codec.none ? source : target.slice(0, storedBytes);
      const place = { decodedBytes: 4 * kib, sliceOffsetBytes: 512, sliceBytes: 3 * kib, fileOffsetBytes: i * 3 * kib };
      items.push({ source: bytes, codec, checksum: i % 97 === 5 ? checksum ^ 1 : checksum, ...place });
    }
    const codes = await file.writeDecoded(items);
    const written = readFileSync(path);
    for (let i = 0; i < count; i++) {
      const expected =
        i % 97 === 5 ? new Uint8Array(3 * kib) : data.bytes.subarray(i * 4 * kib + 512, i * 4 * kib + 3584);
      expect(codes[i]).toBe(i % 97 === 5 ? 1 : 0);
      expect(Buffer.compare(written.subarray(i * 3 * kib, (i + 1) * 3 * kib), expected)).toBe(0);
    }
  });
});

test("scattered writes of one job put each source at its place, gently or not", async () => {
  for (const isGentle of [false, true]) {
    await withFile(false, async (file) => {
      if (file.writeMany === undefined) throw new Error("a real file has no writeMany");
      const data = filled(64 * kib, 13);
      const expected = new Uint8Array(256 * kib);
      // Every third one follows the one before it.
      const writes = Array.from({ length: 40 }, (_, i) => {
        const source = data.slice(i * 1000, 1000);
        const offsetBytes = i * 5000 - (i % 3 === 1 ? 4000 : 0);
        expected.set(source.bytes, offsetBytes);
        return { offsetBytes, source };
      });
      const old = empty(256 * kib);
      old.bytes.fill(0);
      await file.write(0, old);
      await file.writeMany(writes, { isGentle });
      const read = empty(256 * kib);
      await file.read(0, read);
      expect(Buffer.compare(read.bytes, expected)).toBe(0);
    });
  }
});

test("scattered reads of one job fill each target from its place, and one beyond the end is an error", async () => {
  await withFile(false, async (file) => {
    if (file.readMany === undefined) throw new Error("a real file has no readMany");
    const data = filled(64 * kib, 12);
    await file.write(0, data);
    const target = empty(64 * kib);
    target.bytes.fill(0);
    // Neighbours in file and memory, neighbours in the file only, and one of its own.
    const reads = [
      [0, 0, 4096],
      [4096, 4096, 512],
      [4608, 8192, 100],
      [40000, 20000, 3000],
      [0, 30000, 1],
    ] as const;
    await file.readMany(
      reads.map(([offsetBytes, at, sizeBytes]) => ({ offsetBytes, target: target.slice(at, sizeBytes) })),
    );
    const expected = new Uint8Array(64 * kib);
    for (const [offset, at, size] of reads) expected.set(data.bytes.subarray(offset, offset + size), at);
    expect(Buffer.compare(target.bytes, expected)).toBe(0);
    const short = await failureOf(file.readMany([{ offsetBytes: 64 * kib - 10, target: target.slice(0, 11) }]));
    expect(short.code).toBe("io");
  });
});

test("direct I/O that is not aligned is refused with the alignment named", async () => {
  await withFile(true, async (file) => {
    if (!file.isDirect) return console.log("skipped: the temporary file system has no direct I/O");
    const error = await failureOf(file.write(100, filled(4 * kib, 1)));
    expect(error.code).toBe("internal");
    expect(error.message).toContain(`aligned to ${file.alignmentBytes}`);
  });
});

test("offsets that are no whole safe numbers are refused, never rounded", async () => {
  await withFile(false, async (file) => {
    for (const offset of [-1, 0.5, Number.NaN, 2 ** 53, Number.MAX_SAFE_INTEGER - 10]) {
      expect((await failureOf(file.read(offset, empty(4 * kib)))).code).toBe("out-of-range");
    }
  });
});

test("opening tells missing, existing and locked files apart", async () => {
  await withTemporaryDirectory(async (directory) => {
    const path = join(directory, "a");
    expect((await failureOf(disk.open(path, { mode: "read" }))).code).toBe("not-found");
    expect((await failureOf(disk.open(path, { mode: "write", direct: true }))).code).toBe("not-found");
    const file = await disk.open(path, { mode: "createOrOpen", lock: true });
    expect((await failureOf(disk.open(path, { mode: "create", direct: true }))).code).toBe("already-exists");
    const locked = await failureOf(disk.open(path, { mode: "write", lock: true }));
    expect(locked.code).toBe("locked");
    expect(locked.where.file).toBe(path);
    await file.close();
    await (await disk.open(path, { mode: "write", lock: true })).close();
    expect((await failureOf(disk.open(directory, { mode: "read" }))).code).toBe("io");
  });
});

test("a lock held by another process is seen, and freed when that process dies", async () => {
  await withTemporaryDirectory(async (directory) => {
    const path = join(directory, "a");
    writeFileSync(path, "x");
    const holder = spawn("flock", ["-x", path, "-c", "echo held; exec sleep 60"], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    await new Promise((resolve) => holder.stdout.once("data", resolve));
    expect((await failureOf(disk.open(path, { mode: "write", lock: true }))).code).toBe("locked");
    execFileSync("pkill", ["-9", "-P", String(holder.pid)]);
    holder.kill("SIGKILL");
    await new Promise((resolve) => holder.once("close", resolve));
    await (await disk.open(path, { mode: "write", lock: true })).close();
  });
});

test("close waits for I/O in flight and then refuses use", async () => {
  await withTemporaryDirectory(async (directory) => {
    const path = join(directory, "a");
    const file = await disk.open(path, { mode: "create" });
    const source = filled(4 * mib, 8);
    const writes = [0, 1, 2, 3].map((i) => file.write(i * 4 * mib, source));
    await Promise.all([file.close(), file.close()]);
    await Promise.all(writes);
    expect(statSync(path).size).toBe(16 * mib);
    expect((await failureOf(file.read(0, empty(4096)))).code).toBe("internal");
  });
});

test("a clone has the same bytes and keeps the holes", async () => {
  await withTemporaryDirectory(async (directory) => {
    const from = join(directory, "from");
    const to = join(directory, "to");
    const file = await disk.open(from, { mode: "create" });
    await file.truncate(6 * 1024 * gib + 1000);
    const places = [4 * kib, 70 * mib, 5 * gib, 6 * 1024 * gib - 8 * kib];
    for (const [i, offset] of places.entries()) await file.write(offset, filled(8 * kib, i));
    await file.close();
    const heard: number[] = [];
    const how = await disk.cloneFile(from, to, { onProgress: (copied) => heard.push(copied) });
    expect(["reflink", "copy"]).toContain(how);
    expect(heard.at(-1)).toBe(6 * 1024 * gib + 1000);
    const copy = await disk.open(to, { mode: "read" });
    expect(await copy.size()).toBe(6 * 1024 * gib + 1000);
    for (const [i, offset] of places.entries()) {
      const back = empty(8 * kib);
      await copy.read(offset, back);
      expect(Buffer.compare(back.bytes, filled(8 * kib, i).bytes)).toBe(0);
    }
    await copy.close();
    expect(statSync(to).blocks * 512).toBeLessThan(mib);
    expect((await failureOf(disk.cloneFile(from, to))).code).toBe("already-exists");
    const cancelled = await failureOf(disk.cloneFile(from, join(directory, "c"), { signal: AbortSignal.abort() }));
    if (how === "copy") expect(cancelled.code).toBe("cancelled");
    expect(await disk.info(join(directory, "c"))).toBeUndefined();
  });
});

test("small files, directories, links and removals behave as documented", async () => {
  await withTemporaryDirectory(async (directory) => {
    const deep = join(directory, "a", "b", "ü");
    await disk.makeDirectory(deep);
    await disk.makeDirectory(deep);
    const path = join(deep, "small");
    await Promise.all([1, 2, 3].map((i) => disk.writeSmall(path, new Uint8Array(10 * i).fill(i))));
    expect(await disk.list(deep)).toEqual(["small"]);
    await disk.writeSmall(path, new TextEncoder().encode("hello"));
    expect(new TextDecoder().decode(await disk.readSmall(path, 5))).toBe("hello");
    const tooLarge = await failureOf(disk.readSmall(path, 4));
    expect([tooLarge.code, tooLarge.where.file]).toEqual(["bad-format", path]);
    expect((await disk.readSmall("/proc/self/status", 65536)).length).toBeGreaterThan(100);
    await disk.link(path, join(deep, "other"));
    expect((await failureOf(disk.link(path, join(deep, "other")))).code).toBe("already-exists");
    await disk.rename(join(deep, "other"), join(deep, "third"));
    expect((await failureOf(disk.rename(join(deep, "other"), path))).code).toBe("not-found");
    expect(await disk.list(deep)).toEqual(["small", "third"]);
    expect(await disk.info(path)).toMatchObject({ kind: "file", sizeBytes: 5 });
    expect(await disk.info(deep)).toMatchObject({ kind: "directory" });
    expect(await disk.info(join(deep, "none"))).toBeUndefined();
    await disk.remove(path);
    await disk.remove(path);
    await disk.syncDirectory(deep);
    await disk.removeTree(join(directory, "a"));
    await disk.removeTree(join(directory, "a"));
    expect(await disk.list(directory)).toEqual([]);
    const space = await disk.freeSpace(directory);
    expect(space.totalBytes).toBeGreaterThan(space.freeBytes);
    expect(space.freeBytes).toBeGreaterThan(0);
  });
});

test("a file gets its size and its durable name in one job, which says what of it failed", async () => {
  await withTemporaryDirectory(async (directory) => {
    const [from, to] = [join(directory, "from"), join(directory, "to")];
    const file = await disk.open(from, { mode: "create" });
    const lease = await memory.lease(4096);
    lease.bytes.fill(7);
    await file.write(0, lease);
    const missing = join(directory, "none", "to");
    const failed = await failureOf(file.syncAs!(missing));
    expect([failed.code, failed.where.file]).toEqual(["not-found", from]);
    expect(failed.what).toContain(`rename to ${missing}`);
    expect((await failureOf(file.syncAs!("a\0b"))).code).toBe("bad-parameter");
    expect((await failureOf(file.syncAs!(to, -1))).code).toBe("out-of-range");
    await file.syncAs!(to, 4000);
    expect(await disk.list(directory)).toEqual(["to"]);
    expect(await disk.readSmall(to, 4096)).toEqual(new Uint8Array(4000).fill(7));
    // It is open still, and has not heard of its new name.
    expect((await failureOf(file.syncAs!(to))).code).toBe("not-found");
    await file.close();
    expect((await failureOf(file.syncAs!(to))).code).toBe("internal");
    lease.release();
  });
});

test("a full file system is told as no-space", async () => {
  await withTemporaryDirectory(async (directory) => {
    try {
      execFileSync("mount", ["-t", "tmpfs", "-o", "size=1m", "tmpfs", directory], { stdio: "ignore" });
    } catch {
      return console.log("skipped: no permission to mount a tmpfs");
    }
    try {
      const file = await disk.open(join(directory, "a"), { mode: "create", direct: true });
      expect((await failureOf(file.write(0, filled(4 * mib, 1)))).code).toBe("no-space");
      await file.close();
      expect((await failureOf(disk.writeSmall(join(directory, "b"), new Uint8Array(2 * mib)))).code).toBe("no-space");
      expect(await disk.list(directory)).toEqual(["a"]);
    } finally {
      execFileSync("umount", [directory]);
    }
  });
});

test("a block device tells its size and blocks, is zeroed, discarded and locked", async () => {
  await withTemporaryDirectory(async (directory) => {
    const image = join(directory, "image");
    writeFileSync(image, "");
    truncateSync(image, 64 * mib);
    let device: string;
    try {
      device = execFileSync("losetup", ["-f", "--show", "-b", "4096", image], { stdio: "pipe" }).toString().trim();
    } catch {
      return console.log("skipped: no permission to make a loop device");
    }
    try {
      const file = await disk.open(device, { mode: "write", direct: true, lock: true });
      expect(file).toMatchObject({
        isBlockDevice: true,
        isDirect: true,
        alignmentBytes: 4096,
        physicalBlockBytes: 4096,
      });
      expect(await file.size()).toBe(64 * mib);
      expect(await disk.info(device)).toMatchObject({ kind: "block", sizeBytes: 64 * mib, allocatedBytes: 64 * mib });
      expect((await failureOf(disk.open(device, { mode: "write", lock: true }))).code).toBe("locked");
      await file.write(mib, filled(mib, 9));
      await file.zero(mib + 64 * kib, 128 * kib);
      if (file instanceof RealDiskFile) await file.discard(32 * mib, mib);
      await file.sync();
      const back = empty(mib);
      await file.read(mib, back);
      const expected = filled(mib, 9);
      expected.bytes.fill(0, 64 * kib, 192 * kib);
      expect(Buffer.compare(back.bytes, expected.bytes)).toBe(0);
      expect(await file.nextData(4096)).toEqual({ startBytes: 4096, endBytes: 64 * mib });
      expect((await failureOf(file.read(64 * mib - 4096, empty(8192)))).code).toBe("io");
      await file.close();
      const copy = join(directory, "copy");
      expect(await disk.cloneFile(device, copy)).toBe("copy");
      expect(statSync(copy).size).toBe(64 * mib);
      expect(statSync(copy).blocks * 512).toBeLessThanOrEqual(mib);
    } finally {
      execFileSync("losetup", ["-d", device]);
    }
  });
});

test("the lock of a loop device is one of the file it shows, by whatever name that is opened", async () => {
  await withTemporaryDirectory(async (directory) => {
    const image = join(directory, "image");
    writeFileSync(image, "");
    truncateSync(image, 4 * mib);
    const loops: string[] = [];
    const loop = (...options: string[]): string => {
      loops.push(
        execFileSync("losetup", ["-f", "--show", ...options, image], { stdio: "pipe" })
          .toString()
          .trim(),
      );
      return loops.at(-1)!;
    };
    try {
      try {
        loop();
      } catch {
        return console.log("skipped: no permission to make a loop device");
      }
      const [whole, again, first, second] = [loops[0]!, loop(), loop("--sizelimit", `${mib}`), loop("-o", `${mib}`)];
      const lock = (path: string) => disk.open(path, { mode: "write", lock: true });
      const locked = async (path: string) => (await failureOf(lock(path))).code;
      const file = await lock(image);
      for (const path of [whole, again, first]) expect(await locked(path)).toBe("locked");
      await file.close();
      const device = await lock(whole);
      for (const path of [image, again, second, whole]) expect(await locked(path)).toBe("locked");
      await device.close();
      // Parts of a file may be used side by side, as partitions are.
      const parts = [await lock(first), await lock(second)];
      for (const path of [image, whole]) expect(await locked(path)).toBe("locked");
      for (const part of parts) await part.close();
      await (await lock(image)).close();
    } finally {
      for (const path of loops) execFileSync("losetup", ["-d", path]);
    }
  });
});

describe("the name of a file", () => {
  test("is found through links, to what is there and to what is not", async () => {
    await withTemporaryDirectory(async (made) => {
      const directory = realpathSync(made);
      writeFileSync(join(directory, "file"), "x");
      symlinkSync(directory, join(directory, "here"));
      symlinkSync("here/file", join(directory, "link"));
      symlinkSync("here/nothing/more", join(directory, "dangling"));
      symlinkSync("circle", join(directory, "circle"));
      const real = (name: string) => disk.realPath(join(directory, name));
      expect(await real("file")).toBe(join(directory, "file"));
      expect(await real("here/here/link")).toBe(join(directory, "file"));
      expect(await real("here/no/such")).toBe(join(directory, "no/such"));
      expect(await real("here/dangling")).toBe(join(directory, "nothing/more"));
      expect(await real("link/below")).toBe(join(directory, "file/below"));
      symlinkSync("nothing/../round", join(directory, "round"));
      expect((await failureOf(real("round"))).code).toBe("io");
      expect((await failureOf(real("circle"))).code).toBe("io");
      expect((await failureOf(real("circle/x"))).code).toBe("io");
    });
  });

  test("does not hide that two names are of one file", async () => {
    await withTemporaryDirectory(async (directory) => {
      const id = async (name: string) => (await disk.info(join(directory, name)))?.id;
      writeFileSync(join(directory, "a"), "x");
      writeFileSync(join(directory, "other"), "x");
      linkSync(join(directory, "a"), join(directory, "b"));
      expect(await id("a")).toBeString();
      expect(await id("b")).toBe(await id("a"));
      expect(await id("other")).not.toBe(await id("a"));
    });
  });
});
