import { expect, test } from "bun:test";
import { asWalbError } from "../../src/errors.ts";
import { sealBlock } from "../../src/log/checksum.ts";
import { formatLogDevice, readAnySuperblock } from "../../src/log/format.ts";
import { type GenerateOptions, generateWlogBytes, WlogGenerator } from "../../src/log/generate.ts";
import type { SeededRandom } from "../../src/log/generate-random.ts";
import { lsidOffsetBytes } from "../../src/log/geometry.ts";
import { nextPackLsid } from "../../src/log/pack.ts";
import { LogDeviceReader } from "../../src/log/reader.ts";
import { redoLog } from "../../src/log/redo.ts";
import { encodeSuperblock, geometryOf, type Superblock } from "../../src/log/superblock.ts";
import { WlogReader } from "../../src/log/wlogfile.ts";
import { fuzz, mutate } from "../helpers/fuzz.ts";
import { createMemoryIo } from "../helpers/memory-disk.ts";
import { bytesInput, convertWlog, redoDiffs, redoWlog } from "../helpers/wlogs.ts";

const io = createMemoryIo(48 * 1024 * 1024);
const pools = [io.memory, io.readPool];
const sizeLb = 256;
const options: GenerateOptions = {
  deviceBytes: sizeLb * 512,
  maxIoBytes: 2048,
  maxDiscardBytes: 8192,
  logBytes: 20_000,
  maxPackBytes: 16_384,
  content: "half",
};

/** What the packs of a log say: header, checksum and data of every record, as text to compare. */
async function contentOf(
  bytes: Uint8Array,
  name: string,
): Promise<{ lines: string[]; isWhole: boolean; error?: unknown }> {
  const lines: string[] = [];
  try {
    const reader = new WlogReader(bytesInput(bytes, name), io.readPool, io.compute);
    let isWhole = false;
    for (let header = await reader.nextHeader(); header !== undefined; header = await reader.nextHeader()) {
      lines.push(`${header.uuid} ${header.beginLsid} ${header.salt}`);
      const packs = reader.packs();
      for (;;) {
        const step = await packs.next();
        if (step.done) {
          isWhole = step.value.hasEndBlock;
          break;
        }
        for (const part of step.value.parts) {
          part.data.forEach((_, i) => {
            const { kind, offsetLb, sizeLb: blocksLb, checksum, lsid } = part.header.records[part.firstRecord + i]!;
            lines.push(`${kind} ${lsid} ${offsetLb} ${blocksLb} ${checksum}`);
          });
        }
        step.value.release();
      }
    }
    return { lines, isWhole };
  } catch (error) {
    return { lines, isWhole: false, error };
  }
}

/** Makes the checksums of headers right again, so that what lies behind them is looked at. */
function repairWlog(bytes: Uint8Array, random: SeededRandom): void {
  if (bytes.length < 4096 + 512) return;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  sealBlock(bytes.subarray(0, 4096), 8, 0);
  const pbsBytes = view.getUint32(20, true);
  if (pbsBytes % 512 !== 0 || pbsBytes === 0 || pbsBytes > 4096) return;
  const salt = view.getUint32(12, true);
  for (let at = 4096; at + pbsBytes <= bytes.length; ) {
    if (view.getUint16(at + 4, true) !== 3) return;
    if (random.chance(0.9)) sealBlock(bytes.subarray(at, at + pbsBytes), 0, salt);
    at += (1 + view.getUint16(at + 6, true)) * pbsBytes;
  }
}

for (const pbsBytes of [512, 4096]) {
  const valid = generateWlogBytes({ ...options, pbsBytes, logBytes: pbsBytes === 512 ? 20_000 : 80_000 }, 3).bytes;

  test(`a mutated wlog with blocks of ${pbsBytes} is the part before the damage and an error, never a shorter log`, async () => {
    const original = await contentOf(valid, "/log");
    expect([original.isWhole, original.lines.length > 5]).toEqual([true, true]);
    let cancelling = 0;
    const { rounds, refused } = await fuzz({
      share: 0.04,
      pools,
      attempt: async (random) => {
        const bytes = mutate(valid, random);
        const { lines, isWhole, error } = await contentOf(bytes, "/log");
        const isPrefix = lines.every((line, i) => line === original.lines[i]);
        // A copy of a whole log spliced in behind the end block would be a second log; anything else is a prefix, but for
        // changes that cancel each other out in a checksum that is a sum.
        if (!isPrefix && lines.length <= original.lines.length) cancelling += 1;
        if (error !== undefined) throw asWalbError(error);
        if (isWhole && lines.length < original.lines.length) throw new Error("a cut log was taken for a whole one");
      },
    });
    expect(refused).toBeGreaterThan(rounds / 3);
    expect(cancelling).toBeLessThan(3 + rounds / 1000);
  }, 600_000);

  test(`a mutated wlog with blocks of ${pbsBytes} and right checksums is redone as it is converted, or refused`, async () => {
    const { rounds, refused, taken } = await fuzz({
      share: 0.04,
      pools,
      attempt: async (random) => {
        const bytes = mutate(valid, random);
        repairWlog(bytes, random);
        const kind = random.chance(0.5) ? "sorted" : "indexed";
        try {
          for (const path of ["/redone", "/converted"]) io.disk.put(path, new Uint8Array(sizeLb * 512).fill(0xaa));
          const redone = await io.disk.open("/redone", { mode: "write" });
          await redoWlog(io, bytesInput(bytes, "/log"), redone, sizeLb);
          await convertWlog(io, bytesInput(bytes, "/log"), "/diff", { kind, maxIoLb: 16 });
          const converted = await io.disk.open("/converted", { mode: "write" });
          await redoDiffs(io, ["/diff"], converted, sizeLb);
          if (Buffer.compare(io.disk.get("/redone"), io.disk.get("/converted")) !== 0) {
            throw new Error("redo and conversion disagree");
          }
        } finally {
          await io.disk.remove("/diff");
        }
      },
    });
    expect(refused).toBeGreaterThan(rounds / 5);
    expect(taken).toBeGreaterThan(rounds / 50);
  }, 600_000);
}

/** A log device whose ring holds the packs of a workload, wrapped around its end. @param aboutLsid where its lsids lie. */
async function logDevice(pbsBytes: number, aboutLsid: bigint): Promise<{ image: Uint8Array; superblock: Superblock }> {
  io.disk.put("/ldev", new Uint8Array(8192 + 2 * pbsBytes + 160 * pbsBytes));
  const file = await io.disk.open("/ldev", { mode: "write" });
  const random = { bytes: (size: number) => new Uint8Array(size).fill(7), u32: () => 0x1234_5678, fraction: () => 0.5 };
  const formatted = await formatLogDevice(
    file,
    { name: "vol", pbsBytes, deviceSizeLb: sizeLb },
    { memory: io.memory, random },
  );
  const ring = geometryOf(formatted);
  const lsidBase = aboutLsid - (aboutLsid % BigInt(ring.ringSizePb));
  const beginLsid = ring.ringSizePb - 30;
  const logBytes = 4096 + 100 * pbsBytes;
  const { salt, uuid } = formatted;
  // Data of one IO may not cross the ring end: of the packs that would, none is taken.
  const generator = new WlogGenerator(
    { ...options, pbsBytes, maxIoBytes: 1024, logBytes, beginLsid, lsidBase, salt, uuid, padding: false },
    8,
  );
  const image = io.disk.get("/ldev");
  const target = new Uint8Array(generator.packBytesMax);
  let endLsid = beginLsid;
  for (let pack = generator.next(target); pack !== undefined; pack = generator.next(target)) {
    for (let at = 0; at < pack.sizeBytes; at += pbsBytes) {
      const block = target.subarray(at, at + pbsBytes);
      image.set(block, lsidOffsetBytes(ring, pack.header.lsid + at / pbsBytes));
    }
    endLsid = nextPackLsid(pack.header);
  }
  const whole = { ...formatted, oldestLsid: beginLsid, writtenLsid: beginLsid, lsidBase };
  image.set(encodeSuperblock(whole), 4096);
  const superblock = await readAnySuperblock(file, io.memory);
  expect(endLsid).toBeGreaterThan(ring.ringSizePb + 20);
  return { image: image.slice(), superblock };
}

const devices = [512, 4096].flatMap((pbsBytes) => [0n, 2n ** 64n - 2n ** 21n].map((lsid) => ({ pbsBytes, lsid })));
for (const { pbsBytes, lsid } of devices) {
  test(`a mutated log device with blocks of ${pbsBytes} from about lsid ${lsid} on is redone once and for all, or refused`, async () => {
    const { image, superblock } = await logDevice(pbsBytes, lsid);
    const { rounds, refused, taken } = await fuzz({
      share: lsid === 0n ? 0.015 : 0.005,
      pools,
      attempt: async (random) => {
        // Mutations of the superblock and of the ring, in one of three cases with right checksums.
        const bytes = random.chance(0.2) ? mutate(image, random) : image.slice();
        const part = random.chance(0.3) ? bytes.subarray(4096, 4096 + 104) : bytes.subarray(8192 + 2 * pbsBytes);
        const changed = mutate(part, random);
        part.set(changed.subarray(0, part.length));
        const blocks = random.chance(0.6) ? Math.floor(bytes.length / pbsBytes) : 0;
        for (let block = 0; block < blocks; block += 1) {
          const at = block * pbsBytes;
          if (at === 4096) sealBlock(bytes.subarray(at, at + pbsBytes), 4, 0);
          else if (bytes[at + 4] === 3 && bytes[at + 5] === 0) {
            sealBlock(bytes.subarray(at, at + pbsBytes), 0, superblock.salt);
          }
        }
        io.disk.put("/log", bytes);
        io.disk.put("/data", new Uint8Array(sizeLb * 512).fill(0x33));
        const log = await io.disk.open("/log", { mode: "write" });
        const data = await io.disk.open("/data", { mode: "write" });
        const read = await readAnySuperblock(log, io.memory);
        // The device refuses a data store that is smaller than the volume before it redoes.
        if (read.deviceSizeLb > sizeLb) return;
        const first = await redoLog({ log, data, superblock: read, pool: io.memory, compute: io.compute });
        const dataAfter = io.disk.get("/data").slice();
        if (dataAfter.length !== sizeLb * 512) throw new Error("redo wrote beyond the volume");
        const readAgain = await readAnySuperblock(log, io.memory);
        if (!Bun.deepEquals(readAgain, first.superblock)) throw new Error("the superblock is not what redo says");
        const second = await redoLog({ log, data, superblock: readAgain, pool: io.memory, compute: io.compute });
        if (second.packCount !== 0) throw new Error("a second redo finds packs");
        if (Buffer.compare(dataAfter, io.disk.get("/data")) !== 0) throw new Error("a second redo changes the data");
        const reader = new LogDeviceReader({
          file: log,
          ring: geometryOf(read),
          pool: io.readPool,
          compute: io.compute,
        });
        if (first.superblock.writtenLsid - read.oldestLsid > read.ringSizePb) return;
        for await (const batch of reader.packs(read.oldestLsid, first.superblock.writtenLsid)) batch.release();
      },
    });
    expect(refused).toBeGreaterThan(rounds / 50);
    expect(taken).toBeGreaterThan(rounds / 10);
  }, 600_000);
}

test("an end block with a wrong checksum is damage, not the end", async () => {
  const { bytes } = generateWlogBytes({ ...options, pbsBytes: 512 }, 1);
  expect((await contentOf(bytes, "/log")).isWhole).toBe(true);
  bytes[bytes.length - 512] = bytes[bytes.length - 512]! ^ 1;
  const { isWhole, error } = await contentOf(bytes, "/log");
  expect([isWhole, error]).toEqual([false, expect.objectContaining({ code: "damaged" })]);
});
