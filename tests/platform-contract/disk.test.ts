import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { walbChecksum } from "../../src/log/checksum.ts";
import { Codec, maxEncodedBytes } from "../../src/native/codec.ts";
import type { Lease } from "../../src/native/memory.ts";
import type { DiskFile, OpenOptions } from "../../src/platform/disk.ts";
import { codeOf } from "../helpers/errors.ts";
import { type Backend, backends } from "./backends.ts";

const kib = 1024;
const mib = 1024 * kib;

for (const { name, make } of backends) {
  describe(`the disk of the ${name} platform`, () => {
    let backend: Backend;
    let next = 0;
    beforeAll(async () => {
      backend = await make();
    });
    afterAll(() => backend.close());

    const fresh = () => `${backend.root}/f${next++}`;
    const check = (what: string, work: () => Promise<void>) => test(what, () => backend.run(work));
    const opened = async <T>(path: string, options: OpenOptions, use: (file: DiskFile) => Promise<T>): Promise<T> => {
      const file = await backend.platform.disk.open(path, options);
      try {
        return await use(file);
      } finally {
        await file.close();
      }
    };
    const leased = async <T>(sizeBytes: number, use: (lease: Lease) => Promise<T>): Promise<T> => {
      const lease = await backend.platform.memory.lease(sizeBytes);
      try {
        return await use(lease);
      } finally {
        lease.release();
      }
    };
    const put = (file: DiskFile, offsetBytes: number, bytes: Uint8Array) =>
      leased(bytes.length, async (lease) => {
        lease.bytes.set(bytes);
        await file.write(offsetBytes, lease);
      });
    const get = (file: DiskFile, offsetBytes: number, sizeBytes: number) =>
      leased(sizeBytes, async (lease) => {
        await file.read(offsetBytes, lease);
        return lease.bytes.slice();
      });
    const filled = (sizeBytes: number, value: number) => new Uint8Array(sizeBytes).fill(value);

    check("reads back what was written, at offsets beyond 32 bits, and holes as zeroes", async () => {
      await opened(fresh(), { mode: "create" }, async (file) => {
        const far = 5 * 1024 * mib + 12_345;
        await put(file, far, filled(70_000, 9));
        await put(file, 100, filled(3, 7));
        expect(await file.size()).toBe(far + 70_000);
        expect(await get(file, far, 70_000)).toEqual(filled(70_000, 9));
        expect([...(await get(file, 98, 7))]).toEqual([0, 0, 7, 7, 7, 0, 0]);
      });
    });

    check("says by code why a file cannot be opened", async () => {
      const { disk } = backend.platform;
      const path = fresh();
      expect(await codeOf(disk.open(path, { mode: "read" }))).toBe("not-found");
      expect(await codeOf(disk.open(path, { mode: "write" }))).toBe("not-found");
      expect(await codeOf(disk.open(`${path}/x`, { mode: "create" }))).toBe("not-found");
      await opened(path, { mode: "createOrOpen" }, (file) => put(file, 0, filled(10, 1)));
      expect(await codeOf(disk.open(path, { mode: "create" }))).toBe("already-exists");
      await opened(path, { mode: "createOrOpen" }, async (file) => expect(await file.size()).toBe(10));
    });

    check("locks a file against everyone until it is closed", async () => {
      const { disk } = backend.platform;
      const path = fresh();
      const holder = await disk.open(path, { mode: "create", lock: true });
      expect(await codeOf(disk.open(path, { mode: "write", lock: true }))).toBe("locked");
      await opened(path, { mode: "read" }, async () => {});
      await holder.close();
      await opened(path, { mode: "write", lock: true }, async () => {});
    });

    check("treats a read beyond the end as an error and not as a partial result", async () => {
      await opened(fresh(), { mode: "create" }, async (file) => {
        await put(file, 0, filled(1000, 1));
        expect(await codeOf(get(file, 900, 101))).toBe("io");
        expect(await codeOf(get(file, 5000, 1))).toBe("io");
        expect(await get(file, 900, 100)).toEqual(filled(100, 1));
      });
    });

    check("refuses to write through a file that is open for reading", async () => {
      const path = fresh();
      await opened(path, { mode: "create" }, (file) => put(file, 0, filled(10, 1)));
      await opened(path, { mode: "read" }, async (file) => {
        expect(await codeOf(put(file, 0, filled(1, 2)))).toBe("io");
        expect(await get(file, 0, 10)).toEqual(filled(10, 1));
      });
    });

    check("gathers pieces into one write and refuses more than 1024", async () => {
      await opened(fresh(), { mode: "create" }, async (file) => {
        await leased(8 * kib, async (lease) => {
          lease.bytes.forEach((_, i) => {
            lease.bytes[i] = i >> 10;
          });
          const pieces = [lease.slice(4 * kib, kib), lease.slice(0, 10), lease.slice(7 * kib, kib)];
          await file.writeGather(3, pieces);
          expect(await file.size()).toBe(3 + 2 * kib + 10);
          const read = await get(file, 3, 2 * kib + 10);
          expect([...read]).toEqual([...filled(kib, 4), ...filled(10, 0), ...filled(kib, 7)]);
          const many = Array.from({ length: 1025 }, () => lease.slice(0, 1));
          expect(await codeOf(file.writeGather(0, many))).not.toBe("no error");
        });
      });
    });

    check("puts checksums into the pieces of a write, that of a block itself last", async () => {
      await opened(fresh(), { mode: "create" }, async (file) => {
        await leased(8 * kib, async (lease) => {
          if (file.writeSummed === undefined) return;
          lease.bytes.forEach((_, i) => {
            lease.bytes[i] = (i * 7) >> 3;
          });
          const block = lease.slice(0, 512);
          const data = lease.slice(512, 3 * kib);
          const salt = 0xfedc_ba98;
          const sums = [
            { block, offsetBytes: 24, data },
            { block, offsetBytes: 56, data: data.slice(4, 1001) },
            { block, offsetBytes: 0, data: block },
          ];
          for (const isSynced of [false, true]) {
            const offsetBytes = isSynced ? 100 : 5000;
            block.bytes.fill(0xee);
            await file.writeSummed(offsetBytes, [block, data], sums, { salt, isSynced });
            const read = await get(file, offsetBytes, 512 + 3 * kib);
            const view = new DataView(read.buffer, read.byteOffset);
            expect(read.subarray(512)).toEqual(new Uint8Array(data.bytes));
            expect(view.getUint32(24, true)).toBe(walbChecksum(data.bytes, salt));
            expect(view.getUint32(56, true)).toBe(walbChecksum(data.bytes.subarray(4, 1005), salt));
            expect(walbChecksum(read.subarray(0, 512), salt)).toBe(0);
            expect(read[60]).toBe(0xee);
          }
          const outside = [{ block, offsetBytes: 509, data }];
          expect(await codeOf(file.writeSummed(0, [block], outside, { salt, isSynced: false }))).toBe("out-of-range");
        });
      });
    });

    check("zeroes a range inside, across and beyond the end without changing the size", async () => {
      await opened(fresh(), { mode: "create" }, async (file) => {
        await put(file, 0, filled(40_000, 5));
        await file.zero(1000, 20_000);
        const bytes = await get(file, 0, 40_000);
        expect(bytes.indexOf(0)).toBe(1000);
        expect(bytes.lastIndexOf(0)).toBe(20_999);
        await file.zero(39_000, 64 * mib);
        await file.zero(80 * mib, mib);
        expect(await file.size()).toBe(40_000);
        expect(await get(file, 38_999, 1001)).toEqual(Uint8Array.from([5, ...filled(1000, 0)]));
        expect((await backend.platform.disk.info(file.path))?.allocatedBytes).toBeLessThan(mib);
      });
    });

    check("cuts and grows a file, and what grows is zero", async () => {
      await opened(fresh(), { mode: "create" }, async (file) => {
        await put(file, 0, filled(10_000, 5));
        await file.truncate(5001);
        await file.truncate(9000);
        expect(await file.size()).toBe(9000);
        expect(await get(file, 5000, 4000)).toEqual(Uint8Array.from([5, ...filled(3999, 0)]));
      });
    });

    check("finds data between holes", async () => {
      await opened(fresh(), { mode: "create" }, async (file) => {
        await file.truncate(64 * mib);
        await put(file, 16 * mib, filled(mib, 1));
        await put(file, 48 * mib, filled(mib, 1));
        await file.sync();
        expect(await file.nextData(0)).toEqual({ startBytes: 16 * mib, endBytes: 17 * mib });
        expect(await file.nextData(16 * mib + 4096)).toEqual({ startBytes: 16 * mib + 4096, endBytes: 17 * mib });
        expect(await file.nextData(17 * mib)).toEqual({ startBytes: 48 * mib, endBytes: 49 * mib });
        expect(await file.nextData(49 * mib)).toBeUndefined();
        expect(await file.nextData(64 * mib)).toBeUndefined();
      });
    });

    check("renames over a file, links it, removes it", async () => {
      const { disk } = backend.platform;
      const [a, b, c] = [fresh(), fresh(), fresh()];
      await disk.writeSmall(a, filled(3, 1));
      await disk.writeSmall(b, filled(4, 2));
      expect(await codeOf(disk.rename(c, a))).toBe("not-found");
      await disk.rename(a, b);
      expect(await disk.info(a)).toBeUndefined();
      expect(await disk.readSmall(b, 100)).toEqual(filled(3, 1));
      await disk.link(b, c);
      expect(await codeOf(disk.link(b, c))).toBe("already-exists");
      expect(await codeOf(disk.link(a, fresh()))).toBe("not-found");
      await opened(c, { mode: "write" }, (file) => put(file, 0, filled(1, 9)));
      await disk.remove(c);
      await disk.remove(c);
      expect([...(await disk.readSmall(b, 100))]).toEqual([9, 1, 1]);
      await disk.syncDirectory(backend.root);
    });

    check("keeps a removed file while it is open", async () => {
      const path = fresh();
      await opened(path, { mode: "create" }, async (file) => {
        await put(file, 0, filled(10, 3));
        await backend.platform.disk.remove(path);
        expect(await get(file, 0, 10)).toEqual(filled(10, 3));
      });
    });

    check("makes directories with parents, lists them sorted, removes trees", async () => {
      const { disk } = backend.platform;
      const top = fresh();
      await disk.makeDirectory(`${top}/b/c`);
      await disk.makeDirectory(`${top}/b/c`);
      await disk.makeDirectory(`${top}/a`);
      await disk.writeSmall(`${top}/b/c/file`, filled(1, 1));
      expect(await disk.list(top)).toEqual(["a", "b"]);
      expect((await disk.info(top))?.kind).toBe("directory");
      expect((await disk.info(`${top}/b/c/file`))?.kind).toBe("file");
      expect(await codeOf(disk.remove(`${top}/b`))).not.toBe("no error");
      await disk.rename(`${top}/b`, `${top}/z`);
      expect(await disk.list(`${top}/z/c`)).toEqual(["file"]);
      await disk.removeTree(top);
      await disk.removeTree(top);
      expect(await disk.info(top)).toBeUndefined();
      expect(await codeOf(disk.list(top))).toBe("not-found");
      expect(await codeOf(disk.syncDirectory(top))).toBe("not-found");
    });

    check("replaces small files and refuses to read large ones", async () => {
      const { disk } = backend.platform;
      const top = fresh();
      await disk.makeDirectory(top);
      const path = `${top}/small`;
      await disk.writeSmall(path, filled(10, 1));
      await disk.writeSmall(path, new Uint8Array(0));
      expect(await disk.readSmall(path, 0)).toEqual(new Uint8Array(0));
      await disk.writeSmall(path, filled(10, 2));
      expect(await disk.readSmall(path, 10)).toEqual(filled(10, 2));
      expect(await codeOf(disk.readSmall(path, 9))).toBe("bad-format");
      expect(await codeOf(disk.readSmall(`${path}-`, 9))).toBe("not-found");
      expect(await disk.list(top)).toEqual(["small"]);
    });

    check("clones a file with its holes, after which both go their own ways", async () => {
      const { disk } = backend.platform;
      const [from, to] = [fresh(), fresh()];
      await opened(from, { mode: "create" }, async (file) => {
        await put(file, 8 * mib, filled(10_000, 4));
        await file.truncate(20 * mib);
      });
      let lastProgress = -1;
      expect(["reflink", "copy"]).toContain(
        await disk.cloneFile(from, to, { onProgress: (copied) => (lastProgress = copied) }),
      );
      expect(lastProgress).toBe(20 * mib);
      expect(await codeOf(disk.cloneFile(from, to))).toBe("already-exists");
      expect(await codeOf(disk.cloneFile(fresh(), fresh()))).toBe("not-found");
      await opened(from, { mode: "write" }, (file) => put(file, 8 * mib, filled(100, 5)));
      await opened(to, { mode: "write" }, async (file) => {
        expect(await file.size()).toBe(20 * mib);
        expect(await get(file, 8 * mib, 10_000)).toEqual(filled(10_000, 4));
        await put(file, 8 * mib + 50, filled(100, 6));
      });
      await opened(from, { mode: "read" }, async (file) => {
        expect(await get(file, 8 * mib, 200)).toEqual(Uint8Array.from([...filled(100, 5), ...filled(100, 4)]));
      });
      expect((await disk.info(to))?.allocatedBytes).toBeLessThan(4 * mib);
    });

    check("encodes while reading and decodes while writing, and says which image is bad", async () => {
      await opened(fresh(), { mode: "create" }, async (file) => {
        const chunk = 16 * kib;
        await put(file, 0, filled(chunk, 0));
        await put(file, chunk, filled(chunk, 3));
        const stored = maxEncodedBytes(chunk);
        await leased(2 * (chunk + stored), async (lease) => {
          const sources = [lease.slice(0, chunk), lease.slice(chunk, chunk)];
          const targets = [lease.slice(2 * chunk, stored), lease.slice(2 * chunk + stored, stored)];
          const option = { codec: Codec.lz4, level: 0, always: false };
          const [zero, second] = await file.readEncoded(0, sources, targets, option);
          expect(zero?.isZero).toBe(true);
          expect(second).toMatchObject({ isZero: false, codec: Codec.lz4 });
          const source = targets[1]!.slice(0, second!.storedBytes);
          const image = { source, codec: Codec.lz4, checksum: second!.checksum, decodedBytes: chunk };
          const slice = { sliceOffsetBytes: 512, sliceBytes: 1024 };
          const verdicts = await file.writeDecoded([
            { ...image, ...slice, fileOffsetBytes: 100_000 },
            { ...image, ...slice, checksum: (image.checksum + 1) >>> 0, fileOffsetBytes: 200_000 },
            { ...image, ...slice, decodedBytes: chunk + 1, fileOffsetBytes: 300_000 },
          ]);
          expect([...verdicts]).toEqual([0, 1, 2]);
          expect(await file.size()).toBe(101_024);
          expect(await get(file, 100_000, 1024)).toEqual(filled(1024, 3));
        });
      });
    });

    check("hashes while reading as compute does", async () => {
      await opened(fresh(), { mode: "create" }, async (file) => {
        const bytes = Uint8Array.from({ length: 10_000 }, (_, i) => i % 251);
        await put(file, 0, bytes);
        await leased(10_000, async (lease) => {
          const hashes = await file.readHashed(0, lease, 4096, 7);
          expect(lease.bytes).toEqual(bytes);
          const chunks = [lease.slice(0, 4096), lease.slice(4096, 4096), lease.slice(8192, 10_000 - 8192)];
          expect(hashes).toEqual(await backend.platform.compute.hashes(chunks, 7));
          expect(hashes.length).toBe(48);
        });
      });
    });

    check("refuses unaligned direct I/O where direct I/O is in force", async () => {
      await opened(fresh(), { mode: "create", direct: true }, async (file) => {
        await put(file, 0, filled(4096, 1));
        if (!file.isDirect) {
          expect(file.alignmentBytes).toBe(1);
          return;
        }
        expect([512, 4096]).toContain(file.alignmentBytes);
        expect(await codeOf(put(file, 100, filled(4096, 1)))).toBe("internal");
        expect(await codeOf(put(file, 4096, filled(100, 1)))).toBe("internal");
      });
    });

    check("waits at close for what is under way, and is of no use afterwards", async () => {
      const path = fresh();
      const file = await backend.platform.disk.open(path, { mode: "create" });
      await leased(mib, async (lease) => {
        lease.bytes.fill(8);
        const write = file.write(0, lease);
        await Promise.all([file.close(), file.close()]);
        await write;
        expect(await codeOf(file.write(0, lease))).toBe("internal");
      });
      expect((await backend.platform.disk.info(path))?.sizeBytes).toBe(mib);
    });

    check("tells the free space", async () => {
      const { freeBytes, totalBytes } = await backend.platform.disk.freeSpace(backend.root);
      expect(freeBytes).toBeGreaterThan(0);
      expect(totalBytes).toBeGreaterThanOrEqual(freeBytes);
      expect(await codeOf(backend.platform.disk.freeSpace(fresh()))).toBe("not-found");
    });

    check("keeps databases by path, and a removed tree takes them along", async () => {
      const { databases, disk } = backend.platform;
      const top = fresh();
      await disk.makeDirectory(top);
      const path = `${top}/db`;
      expect(databases.exists(path)).toBe(false);
      const first = databases.open(path);
      first.run("CREATE TABLE t (n INTEGER)");
      first.run("INSERT INTO t VALUES (7)");
      databases.close(first);
      expect(databases.exists(path)).toBe(true);
      const second = databases.open(path);
      expect(second.query("SELECT n FROM t").get()).toEqual({ n: 7n });
      databases.close(second);
      await disk.removeTree(top);
      expect(databases.exists(path)).toBe(false);
    });
  });
}
