import { describe, expect, test } from "bun:test";
import { WalbError } from "../../src/errors.ts";
import type { PackBatch } from "../../src/log/batch.ts";
import { lsidOffsetBytes, type RingGeometry, ringOffsetPbOf } from "../../src/log/geometry.ts";
import { encodePackHeader, type LogPackHeader, nextPackLsid, recordDataPb } from "../../src/log/pack.ts";
import { LogDeviceReader } from "../../src/log/reader.ts";
import { loggedWritesOf } from "../../src/log/redo.ts";
import { decodeSuperblock, geometryOf } from "../../src/log/superblock.ts";
import { fileInput, fileOutput, WlogReader, WlogWriter } from "../../src/log/wlogfile.ts";
import { TestDisk, TestPool, TestRandom, testCompute } from "./doubles.ts";
import { packOf, type RecordSpec, vectorBytes, vectorPath, vectorsDir } from "./helpers.ts";

const salt = 0xcafe1234;

async function fileOf(bytes: Uint8Array) {
  const disk = new TestDisk();
  disk.files.set("log", bytes);
  return disk.open("log", { mode: "write" });
}

/** Everything a consumer sees, as plain data; releases the batches. */
async function collect(batches: AsyncGenerator<PackBatch, unknown, undefined>) {
  const packs: { header: LogPackHeader; data: (Uint8Array | undefined)[] }[] = [];
  let largestBatchBytes = 0;
  while (true) {
    const step = await batches.next();
    if (step.done) return { packs, end: step.value, largestBatchBytes };
    let batchBytes = 0;
    for (const part of step.value.parts) {
      if (part.headerMemory !== undefined) {
        expect(part.firstRecord).toBe(0);
        packs.push({ header: part.header, data: [] });
      }
      const pack = packs.at(-1)!;
      expect(pack.header).toBe(part.header);
      expect(part.firstRecord).toBe(pack.data.length);
      for (const memory of part.data) {
        pack.data.push(memory?.bytes.slice());
        batchBytes += memory?.sizeBytes ?? 0;
      }
      expect(part.isLast).toBe(pack.data.length === part.header.records.length);
    }
    largestBatchBytes = Math.max(largestBatchBytes, batchBytes);
    step.value.release();
  }
}

/** A ring with random packs from `startLsid` on, written the way a device does. */
function makeRing(seed: number, ring: RingGeometry, startLsid: number, packCount: number, recordLbMax = 24) {
  const random = new TestRandom(seed);
  const image = random.bytes((ring.ringOffsetPb + ring.ringSizePb) * ring.pbsBytes);
  const packs: { header: LogPackHeader; data: (Uint8Array | undefined)[] }[] = [];
  let lsid = startLsid;
  for (let i = 0; i < packCount; i += 1) {
    const specs: RecordSpec[] = [];
    let atLsid = lsid + 1;
    for (let n = random.between(1, 6); n > 0; n -= 1) {
      const sizeLb = random.between(1, recordLbMax);
      if (random.chance(0.2)) {
        specs.push({ kind: "discard", offsetLb: random.between(0, 1000), sizeLb });
        continue;
      }
      const needPb = Math.ceil(sizeLb / (ring.pbsBytes / 512));
      const roomPb = ring.ringSizePb - (atLsid % ring.ringSizePb);
      if (roomPb < needPb) {
        specs.push({ kind: "padding", sizeLb: (roomPb * ring.pbsBytes) / 512 });
        atLsid += roomPb;
      }
      specs.push({
        kind: "data",
        offsetLb: random.between(0, 1000),
        sizeLb,
        data: random.bytes(needPb * ring.pbsBytes),
      });
      atLsid += needPb;
    }
    const header = packOf(lsid, specs, ring.pbsBytes, ring.salt);
    image.set(encodePackHeader(header, ring.pbsBytes, ring.salt), lsidOffsetBytes(ring, lsid));
    specs.forEach((spec, k) => {
      if (spec.data !== undefined) image.set(spec.data, lsidOffsetBytes(ring, header.records[k]!.lsid));
    });
    packs.push({ header, data: specs.map((spec) => spec.data) });
    lsid = nextPackLsid(header);
  }
  return { image, packs, endLsid: lsid };
}

function ringOf(pbsBytes: number, ringSizePb: number): RingGeometry {
  return { pbsBytes, ringSizePb, ringOffsetPb: ringOffsetPbOf(pbsBytes, 0), salt };
}

describe("reading a ring", () => {
  for (const pbsBytes of [512, 4096]) {
    for (const chunkBytes of [pbsBytes, 3 * pbsBytes, 16 * 1024, 1024 * 1024]) {
      test(`gives back every pack around the ring end, pbs ${pbsBytes}, reads of ${chunkBytes} bytes`, async () => {
        const ring = ringOf(pbsBytes, 700);
        const { image, packs, endLsid } = makeRing(chunkBytes, ring, 650, 12);
        expect(endLsid).toBeGreaterThan(700);
        const pool = new TestPool(4 * 1024 * 1024);
        const parts = { file: await fileOf(image), ring, pool, compute: testCompute, chunkBytes };
        const seen = await collect(new LogDeviceReader(parts).packs(650, endLsid));
        expect(seen.packs).toEqual(packs);
        expect(pool.leasedBytes).toBe(0);
      });
    }
  }

  test("goes on with a pool that has room for one chunk only, and stays within it", async () => {
    const ring = ringOf(512, 3000);
    const { image, packs, endLsid } = makeRing(7, ring, 100, 60);
    const pool = new TestPool(40 * 512);
    const parts = { file: await fileOf(image), ring, pool, compute: testCompute, chunkBytes: 32 * 512 };
    const seen = await collect(new LogDeviceReader(parts).packs(100, endLsid));
    expect(seen.packs).toEqual(packs);
    expect(pool.leasedBytes).toBe(0);
  });

  test("starts in the middle and stops at the limit", async () => {
    const ring = ringOf(512, 2000);
    const { image, packs } = makeRing(3, ring, 0, 20);
    const parts = { file: await fileOf(image), ring, pool: new TestPool(1 << 22), compute: testCompute };
    const from = packs[5]!.header.lsid;
    const limit = packs[11]!.header.lsid;
    const seen = await collect(new LogDeviceReader(parts).packs(from, limit));
    expect(seen.packs).toEqual(packs.slice(5, 11));
  });

  test("names lsid and offset of damage, and has delivered all before it", async () => {
    const ring = ringOf(512, 2000);
    for (let seed = 0; seed < 40; seed += 1) {
      const { image, packs, endLsid } = makeRing(seed, ring, 1900, 15);
      const random = new TestRandom(seed);
      const victim = random.between(0, packs.length - 1);
      const { header } = packs[victim]!;
      const inHeader = random.chance(0.5);
      const recordIndex = header.records.findIndex((record) => record.kind === "data");
      if (!inHeader && recordIndex < 0) continue;
      const lsid = inHeader ? header.lsid : header.records[recordIndex]!.lsid;
      image[lsidOffsetBytes(ring, lsid) + 9]! ^= 0x10;
      const pool = new TestPool(1 << 20);
      const parts = { file: await fileOf(image), ring, pool, compute: testCompute, chunkBytes: 8192 };
      const seen: number[] = [];
      let error: unknown;
      try {
        for await (const batch of new LogDeviceReader(parts).packs(1900, endLsid)) {
          for (const part of batch.parts) if (part.isLast) seen.push(part.header.lsid);
          batch.release();
        }
      } catch (caught) {
        error = caught;
      }
      expect(error).toBeInstanceOf(WalbError);
      expect((error as WalbError).code).toBe("damaged");
      expect((error as WalbError).where.offsetBytes).toBe(lsidOffsetBytes(ring, lsid));
      expect((error as WalbError).message).toContain(`lsid ${lsid}`);
      expect(seen).toEqual(packs.slice(0, victim).map((pack) => pack.header.lsid));
      expect(pool.leasedBytes).toBe(0);
    }
  });

  test("gives its memory back when the consumer stops early or the signal aborts", async () => {
    const ring = ringOf(512, 3000);
    const { image, endLsid } = makeRing(7, ring, 100, 60);
    const pool = new TestPool(1 << 20);
    const parts = { file: await fileOf(image), ring, pool, compute: testCompute, chunkBytes: 8192 };
    for await (const batch of new LogDeviceReader(parts).packs(100, endLsid)) {
      batch.release();
      break;
    }
    expect(pool.leasedBytes).toBe(0);
    const controller = new AbortController();
    controller.abort();
    const aborted = collect(new LogDeviceReader(parts).packs(100, endLsid, controller.signal));
    expect(await aborted.catch((error: WalbError) => error.code)).toBe("cancelled");
    expect(pool.leasedBytes).toBe(0);
  });

  test("finds headers, and the next good one behind damage", async () => {
    const ring = ringOf(512, 2000);
    const { image, packs, endLsid } = makeRing(5, ring, 1950, 15);
    const pool = new TestPool(1 << 20);
    const parts = { file: await fileOf(image), ring, pool, compute: testCompute, chunkBytes: 4096 };
    const reader = new LogDeviceReader(parts);
    const headers: LogPackHeader[] = [];
    for await (const header of reader.headers(1950, endLsid)) headers.push(header);
    expect(headers).toEqual(packs.map((pack) => pack.header));
    const broken = packs[4]!.header.lsid;
    image[lsidOffsetBytes(ring, broken)]! ^= 1;
    expect((await reader.search(broken, endLsid))?.lsid).toBe(packs[5]!.header.lsid);
    expect(await reader.search(endLsid, endLsid + 50)).toBeUndefined();
    expect(pool.leasedBytes).toBe(0);
  });
});

describe.skipIf(vectorsDir === undefined)("wlogs of the original", () => {
  const names = [
    "p512-s1",
    "p512-s2-rand",
    "p512-s3-plain",
    "p512-s4-nodiscard",
    "p512-s7-tiny",
    "p4k-s11",
    "split-a",
    "split-b",
  ];
  for (const name of names) {
    test(`${name} reads as wlog-show shows it, and is written back byte for byte but for padding`, async () => {
      const bytes = await vectorBytes(`wlog/${name}.wlog`);
      const pool = new TestPool(8 * 1024 * 1024);
      const reader = new WlogReader(await fileInput(await fileOf(bytes)), pool, testCompute);
      const header = (await reader.nextHeader())!;
      const { packs, end } = await collect(reader.packs());
      expect(await reader.nextHeader()).toBeUndefined();
      const shown = parseShow(await Bun.file(vectorPath(`wlog/${name}.show.txt`)).text());
      expect(shown.length).toBeGreaterThan(0);
      expect(inWords(packs.map((pack) => pack.header))).toEqual(shown);
      const disk = new TestDisk();
      disk.files.set("out", new Uint8Array(bytes.length));
      const out = await disk.open("out", { mode: "write" });
      const writer = new WlogWriter(fileOutput(out), header, pool);
      const again = new WlogReader(await fileInput(await fileOf(bytes)), pool, testCompute);
      await again.nextHeader();
      await writer.begin();
      const batches = again.packs();
      while (true) {
        const step = await batches.next();
        if (step.done) break;
        await writer.write(step.value);
        step.value.release();
      }
      await writer.finish();
      expect(writer.endLsid).toBe((end as { endLsid: number }).endLsid);
      expect(pool.leasedBytes).toBe(0);
      const expected = bytes.slice();
      for (const { header: pack } of packs) {
        for (const record of pack.records) {
          if (record.kind !== "padding") continue;
          const at = 4096 + (record.lsid - header.beginLsid) * header.pbsBytes;
          expected.fill(0, at, at + recordDataPb(record, header.pbsBytes) * header.pbsBytes);
        }
      }
      expect(Buffer.compare(disk.files.get("out")!, expected)).toBe(0);
    });
  }

  test("two of them one behind the other read as one stream", async () => {
    const a = await vectorBytes("wlog/split-a.wlog");
    const b = await vectorBytes("wlog/split-b.wlog");
    const both = new Uint8Array(a.length + b.length);
    both.set(a);
    both.set(b, a.length);
    const reader = new WlogReader(await fileInput(await fileOf(both)), new TestPool(1 << 23), testCompute);
    const first = (await reader.nextHeader())!;
    const one = await collect(reader.packs());
    const second = (await reader.nextHeader())!;
    const two = await collect(reader.packs());
    expect(await reader.nextHeader()).toBeUndefined();
    expect(second.uuid).toBe(first.uuid);
    expect(second.beginLsid).toBe((one.end as { endLsid: number }).endLsid);
    expect(two.packs.length).toBeGreaterThan(0);
  });

  test("damaged ones are errors that say where, not short logs", async () => {
    const outcome = async (name: string): Promise<string> => {
      const pool = new TestPool(1 << 23);
      const reader = new WlogReader(
        await fileInput(await fileOf(await vectorBytes(`corrupt/${name}.wlog`))),
        pool,
        testCompute,
      );
      try {
        if ((await reader.nextHeader()) === undefined) return "empty";
        const { end, packs } = await collect(reader.packs());
        return `${packs.length > 0} ${(end as { hasEndBlock: boolean }).hasEndBlock}`;
      } catch (error) {
        if (!(error instanceof WalbError)) throw error;
        expect(error.where.offsetBytes).toBeNumber();
        return error.code;
      } finally {
        expect(pool.leasedBytes).toBe(0);
      }
    };
    expect(await outcome("wlog-empty")).toBe("empty");
    expect(await outcome("wlog-noend")).toBe("true false");
    // Cut off exactly between two packs: no end block, which the caller is told.
    expect(await outcome("wlog-trunc-pack")).toBe("true false");
    for (const name of ["wlog-head", "wlog-io", "wlog-pack", "wlog-trunc-io"]) {
      expect(`${name} ${await outcome(name)}`).toBe(`${name} damaged`);
    }
  });
});

/** The pack and record lines of wlog-show, in the words of this test. */
function parseShow(text: string): string[] {
  const words: string[] = [];
  for (const line of text.split("\n")) {
    const pack = /^wlog_p: lsid +(\d+) total +(\d+) n_rec +(\d+)/.exec(line);
    if (pack !== null) words.push(`pack ${pack[1]} ${pack[2]} ${pack[3]}`);
    const record = /^wlog_r: lsid +(\d+) +\d+ io +(\d+) +(\d+) flags E(.)(.) csum (\w+)/.exec(line);
    if (record === null) continue;
    const kind = record[4] === "P" ? "padding" : record[5] === "D" ? "discard" : "data";
    words.push(`${kind} ${record[1]} ${record[2]} ${record[3]} ${record[6]}`);
  }
  return words;
}

function inWords(headers: readonly LogPackHeader[]): string[] {
  return headers.flatMap((header) => [
    `pack ${header.lsid} ${header.totalDataPb} ${header.records.length}`,
    ...header.records.map(
      ({ kind, lsid, offsetLb, sizeLb, checksum }) =>
        `${kind} ${lsid} ${offsetLb} ${sizeLb} ${checksum.toString(16).padStart(8, "0")}`,
    ),
  ]);
}

describe.skipIf(vectorsDir === undefined)("log devices of the original", () => {
  for (const name of ["p512-s1", "p4k-s11", "wrap512"]) {
    test(`${name} read as a ring gives what wlog-cat extracted`, async () => {
      const image = await vectorBytes(`ldev/${name}.img.xz`);
      const superblock = decodeSuperblock(image.subarray(4096, 8192), name);
      const pool = new TestPool(1 << 24);
      const cat = new WlogReader(
        await fileInput(await fileOf(await vectorBytes(`ldev/${name}.cat.wlog`))),
        pool,
        testCompute,
      );
      const header = (await cat.nextHeader())!;
      expect([header.uuid, header.salt, header.pbsBytes]).toEqual([
        superblock.uuid,
        superblock.salt,
        superblock.pbsBytes,
      ]);
      const extracted = await collect(cat.packs());
      const { endLsid } = extracted.end as { endLsid: number };
      const parts = {
        file: await fileOf(image),
        ring: geometryOf(superblock),
        pool,
        compute: testCompute,
        chunkBytes: 16384,
      };
      const read = await collect(new LogDeviceReader(parts).packs(header.beginLsid, endLsid));
      expect(read.packs).toEqual(extracted.packs);
    });
  }
});

test("a record outside the volume is refused, not written", () => {
  const header = packOf(5, [{ kind: "discard", offsetLb: 90, sizeLb: 20 }], 512, salt);
  const part = { header, headerMemory: undefined, firstRecord: 0, data: [undefined], isLast: true };
  const batch = { parts: [part], endLsid: 6, release: () => {} };
  expect(() => loggedWritesOf(batch, 100)).toThrow("lsid 6");
  expect(loggedWritesOf(batch, 110)).toEqual([{ offsetLb: 90, sizeLb: 20, memory: undefined }]);
});
