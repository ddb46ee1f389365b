import { describe, expect, test } from "bun:test";
import { formatLogDevice } from "../../src/log/format.ts";
import { lsidOffsetBytes } from "../../src/log/geometry.ts";
import { encodePackHeader, isPackFault, nextPackLsid, tryDecodePackHeader } from "../../src/log/pack.ts";
import { redoLog } from "../../src/log/redo.ts";
import { type LoggedWrite, planStoreWrites } from "../../src/log/storewrites.ts";
import { decodeSuperblock, encodeSuperblock, geometryOf, type Superblock } from "../../src/log/superblock.ts";
import { Journal, memoryOf, TestDisk, TestPool, TestRandom, testCompute } from "./doubles.ts";
import { packOf, type RecordSpec, vectorBytes, vectorsDir } from "./helpers.ts";

/** Redoes log and data images in place. */
async function redo(logImage: Uint8Array, dataImage: Uint8Array) {
  const disk = new TestDisk();
  disk.files.set("log", logImage);
  disk.files.set("data", dataImage);
  const log = await disk.open("log", { mode: "write" });
  const data = await disk.open("data", { mode: "write" });
  const pool = new TestPool(8 * 1024 * 1024);
  const superblock = decodeSuperblock(logImage.subarray(4096, 8192), "log");
  const result = await redoLog({ log, data, superblock, pool, compute: testCompute });
  expect(pool.leasedBytes).toBe(0);
  expect(decodeSuperblock(logImage.subarray(4096, 8192), "log")).toEqual(result.superblock);
  return result;
}

describe.skipIf(vectorsDir === undefined)("redo of logs that the kernel driver left at a hard reset", () => {
  const cases = { "512": [2789, 40], "4096": [493, 24], wrap512: [4697, 50] } as const;
  for (const [name, [endLsid, packCount]] of Object.entries(cases)) {
    test(`${name}: the data device becomes what the guest saw, discards included`, async () => {
      const log = await vectorBytes(`driver/L9.${name}.crash.xz`);
      const data = await vectorBytes(`driver/D9.${name}.base.xz`);
      const final = await vectorBytes(`driver/D9.${name}.final.xz`);
      const result = await redo(log, data);
      expect([result.superblock.writtenLsid, result.packCount]).toEqual([endLsid, packCount]);
      expect(Buffer.compare(data, final)).toBe(0);
      const logAfter = log.slice();
      const again = await redo(log, data);
      expect(again.packCount).toBe(0);
      expect(Buffer.compare(data, final)).toBe(0);
      expect(Buffer.compare(log, logAfter)).toBe(0);
    });
  }
});

const pbsBytes = 512;

/** A formatted log of 400 PB and a data store of 256 blocks. */
async function freshStores(seed = 1) {
  const disk = new TestDisk();
  const log = new Uint8Array(410 * pbsBytes);
  const random = new TestRandom(seed);
  log.set(random.bytes(log.length - 8192), 8192);
  disk.files.set("log", log);
  const file = await disk.open("log", { mode: "write" });
  const options = { name: "vol", pbsBytes, deviceSizeLb: 256 };
  const superblock = await formatLogDevice(file, options, { memory: new TestPool(1 << 20), random });
  return { log, data: new Uint8Array(256 * 512).fill(0x11), superblock };
}

/** Writes packs one after the other; the answer is the lsid of each and of the end. */
function writePacks(
  log: Uint8Array,
  superblock: Superblock,
  fromLsid: number,
  packs: readonly RecordSpec[][],
): number[] {
  const ring = geometryOf(superblock);
  const lsids = [fromLsid];
  for (const specs of packs) {
    const header = packOf(lsids.at(-1)!, specs, pbsBytes, superblock.salt);
    log.set(encodePackHeader(header, pbsBytes, superblock.salt), lsidOffsetBytes(ring, header.lsid));
    specs.forEach((spec, i) => {
      if (spec.data !== undefined) log.set(spec.data, lsidOffsetBytes(ring, header.records[i]!.lsid));
    });
    lsids.push(nextPackLsid(header));
  }
  return lsids;
}

function filled(offsetLb: number, sizeLb: number, value: number): RecordSpec {
  return { kind: "data", offsetLb, sizeLb, data: new Uint8Array(sizeLb * 512).fill(value) };
}

describe("redo", () => {
  test("replays a discard in full: the driver makes it 512 times too short", async () => {
    const { log, data, superblock } = await freshStores();
    writePacks(log, superblock, 0, [[filled(0, 200, 7)], [{ kind: "discard", offsetLb: 10, sizeLb: 128 }]]);
    await redo(log, data);
    expect(data.subarray(10 * 512, 138 * 512).every((byte) => byte === 0)).toBe(true);
    expect([data[10 * 512 - 1], data[138 * 512], data[200 * 512]]).toEqual([7, 7, 0x11]);
  });

  test("cuts a torn pack behind its last good record and rewrites its header", async () => {
    const { log, data, superblock } = await freshStores();
    const ring = geometryOf(superblock);
    writePacks(log, superblock, 0, [[filled(0, 4, 1)], [filled(10, 4, 2), filled(20, 4, 3), filled(30, 4, 4)]]);
    log[lsidOffsetBytes(ring, 5 + 1 + 4) + 700]! ^= 1;
    const result = await redo(log, data);
    expect(result).toMatchObject({ packCount: 2, isShrunk: true });
    expect(result.superblock.writtenLsid).toBe(5 + 1 + 4);
    expect([data[0], data[10 * 512], data[20 * 512], data[30 * 512]]).toEqual([1, 2, 0x11, 0x11]);
    const header = tryDecodePackHeader(log.subarray(lsidOffsetBytes(ring, 5)), { pbsBytes, salt: superblock.salt });
    expect(isPackFault(header) ? "fault" : header.records.length).toBe(1);
  });

  test("drops a pack whose first record is torn, and clears its header", async () => {
    const { log, data, superblock } = await freshStores();
    const ring = geometryOf(superblock);
    const [, second] = writePacks(log, superblock, 0, [[filled(0, 4, 1)], [filled(10, 4, 2)]]);
    log[lsidOffsetBytes(ring, second! + 1)]! ^= 1;
    const result = await redo(log, data);
    expect(result.superblock.writtenLsid).toBe(second!);
    // What was torn is not given up: it was not whole.
    expect(result).toMatchObject({ staleHeaderCount: 1, droppedPackCount: 0 });
    expect(
      log
        .subarray(lsidOffsetBytes(ring, second!))
        .subarray(0, 512)
        .every((byte) => byte === 0),
    ).toBe(true);
  });

  test("makes the log durable before it writes data: what a killed process left may be in the page cache only", async () => {
    const { log, data, superblock } = await freshStores();
    writePacks(log, superblock, 0, [[filled(0, 4, 1)], [filled(10, 4, 2)]]);
    const disk = new TestDisk();
    disk.files.set("log", log);
    disk.files.set("data", data);
    const journal = new Journal();
    disk.hooks.journal = journal;
    const [logFile, dataFile] = [await disk.open("log", { mode: "write" }), await disk.open("data", { mode: "write" })];
    const pool = new TestPool(8 * 1024 * 1024);
    await redoLog({ log: logFile, data: dataFile, superblock, pool, compute: testCompute });
    const steps = journal.events.map((event) => ("path" in event ? `${event.kind} ${event.path}` : event.kind));
    expect(steps.slice(0, 3)).toEqual(["sync log", "synced log", "write data"]);
  });

  test("clears leftovers, so that packs appended later cannot run on into them", async () => {
    const { log, data, superblock } = await freshStores();
    const ring = geometryOf(superblock);
    // A crash leaves packs at 0, 5, 10, 15, …; the one at 5 is torn.
    const lsids = writePacks(
      log,
      superblock,
      0,
      [1, 2, 3, 4, 5].map((value) => [filled(value * 10, 4, value)]),
    );
    log[lsidOffsetBytes(ring, lsids[1]! + 1)]! ^= 1;
    const first = await redo(log, data);
    expect(first.superblock.writtenLsid).toBe(lsids[1]!);
    expect(first).toMatchObject({ staleHeaderCount: 4, droppedPackCount: 3 });
    // A new write, durable, ends exactly where the leftover of value 3 began; then another crash.
    writePacks(log, first.superblock, lsids[1]!, [[filled(30, 4, 9)]]);
    const second = await redo(log, data);
    expect(second.superblock.writtenLsid).toBe(lsids[2]!);
    expect(data[30 * 512]).toBe(9);
    expect([data[40 * 512], data[50 * 512]]).toEqual([0x11, 0x11]);
  });

  test("clears a torn header, too, so that a torn write over it cannot bring what it lacks", async () => {
    const { log, data, superblock } = await freshStores();
    const ring = geometryOf(superblock);
    const lsids = writePacks(log, superblock, 0, [[filled(0, 4, 1)], [filled(8, 4, 2)]]);
    const lacking = lsidOffsetBytes(ring, lsids[1]!) + 500;
    log[lacking]! ^= 1;
    expect(await redo(log, data)).toMatchObject({ packCount: 1, staleHeaderCount: 1 });
    log[lacking]! ^= 1;
    const result = await redo(log, data);
    expect([result.packCount, result.superblock.writtenLsid]).toEqual([0, lsids[1]!]);
    expect(data[8 * 512]).toBe(0x11);
  });

  test("leaves log of the lap before alone", async () => {
    const { log, data, superblock } = await freshStores();
    const ring = geometryOf(superblock);
    const lsids = writePacks(
      log,
      superblock,
      0,
      Array.from({ length: 70 }, (_, i) => [filled(i, 4, i + 1)]),
    );
    const written: Superblock = { ...superblock, writtenLsid: lsids[70]!, oldestLsid: 0 };
    const before = log.slice();
    log.set(encodeSuperblock(written), 4096);
    const result = await redo(log, data);
    expect(result).toMatchObject({ packCount: 0, staleHeaderCount: 0 });
    const start = ring.ringOffsetPb * 512;
    expect(Buffer.compare(log.subarray(start), before.subarray(start))).toBe(0);
  });

  test("follows a log around the ring end, and never more than one lap", async () => {
    const { log, data, superblock } = await freshStores();
    const ring = geometryOf(superblock);
    const from = 3 * ring.ringSizePb - 7;
    const start: Superblock = { ...superblock, writtenLsid: from, oldestLsid: from };
    log.set(encodeSuperblock(start), 4096);
    const lsids = writePacks(log, superblock, from, [
      [filled(0, 4, 1), { kind: "padding", sizeLb: 2 }, filled(8, 6, 2)],
      [filled(100, 20, 3)],
    ]);
    const result = await redo(log, data);
    expect(result.superblock.writtenLsid).toBe(lsids[2]!);
    expect([data[0], data[8 * 512], data[119 * 512]]).toEqual([1, 2, 3]);
  });

  test("refuses a record outside the volume and writes nothing of its batch", async () => {
    const { log, data, superblock } = await freshStores();
    writePacks(log, superblock, 0, [[filled(250, 10, 1)]]);
    const before = data.slice();
    expect(await redo(log, data).catch((error: { code: string }) => error.code)).toBe("damaged");
    expect(Buffer.compare(data, before)).toBe(0);
  });
});

test("planned store writes are disjoint, sorted, and equal to writing one by one", () => {
  for (let seed = 1; seed <= 300; seed += 1) {
    const random = new TestRandom(seed);
    const expected = new Uint8Array(300 * 512);
    const writes: LoggedWrite[] = [];
    for (let n = random.between(1, 200); n > 0; n -= 1) {
      const sizeLb = random.between(1, random.chance(0.1) ? 200 : 8);
      const offsetLb = random.between(0, 300 - sizeLb);
      const bytes = random.chance(0.2) ? undefined : new Uint8Array(sizeLb * 512).fill(random.between(1, 255));
      writes.push({ offsetLb, sizeLb, memory: bytes === undefined ? undefined : memoryOf(bytes) });
      if (bytes === undefined) expected.fill(0, offsetLb * 512, (offsetLb + sizeLb) * 512);
      else expected.set(bytes, offsetLb * 512);
    }
    const actual = new Uint8Array(300 * 512);
    let endLb = 0;
    for (const operation of planStoreWrites(writes)) {
      expect(operation.offsetLb).toBeGreaterThanOrEqual(endLb);
      endLb = operation.offsetLb + operation.sizeLb;
      if (operation.kind === "zero") continue;
      let at = operation.offsetLb * 512;
      for (const piece of operation.pieces) {
        actual.set(piece.bytes, at);
        at += piece.sizeBytes;
      }
      expect(at).toBe(endLb * 512);
    }
    expect(Buffer.compare(actual, expected)).toBe(0);
  }
});
