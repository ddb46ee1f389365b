/**
 * @module The processes of the test of large images: `make DIR` writes two diffs with a million extents over 1 TiB,
 * `read DIR` reads them virtually and prints what it saw and the most memory it used.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { IndexedDiffWriter, SortedDiffConverter } from "../../src/diff/convert.ts";
import { planMerge } from "../../src/diff/merge.ts";
import { openDiffSet } from "../../src/diff/set.ts";
import type { LogIo } from "../../src/diff/types.ts";
import { VirtualImage } from "../../src/diff/virtual.ts";
import type { Memory } from "../../src/native/memory.ts";
import { closePlatform, createPlatform } from "../../src/platform/real/index.ts";

const extents = 1_000_000;
const sizeLb = 2 ** 31;
const extentLb = 8;
/** Extents of the older diff, and the first of the newer: they share 100,000. */
const olderEnd = 600_000;
const newerBegin = 500_000;
const batchIos = 20_000;
const baseMark = 0x42;
const probeStep = 101;

/** Every place once, in an order that jumps over the whole volume; on 4 KiB, as file systems write. */
function addressOf(i: number): number {
  return ((i * 612_371) % extents) * 2144 + 16;
}

/** What an extent holds: data, zeroes that were written, or a discard; the newer diff turns them around. */
function kindOf(i: number, isNewer: boolean): "data" | "zero" | "discard" {
  return (["data", "discard", "zero", "discard"] as const)[(i + (isNewer ? 1 : 0)) % 4]!;
}

function fill(target: Uint8Array, i: number, isNewer: boolean): void {
  target.fill(0);
  if (kindOf(i, isNewer) !== "data") return;
  for (let block = 0; block < extentLb; block += 1) {
    target.fill(1 + (i % 251), block * 512, block * 512 + 100);
    target[block * 512] = 1 + block + (isNewer ? 100 : 0);
  }
}

async function make(directory: string): Promise<void> {
  const platform = createPlatform({ memoryBudgetBytes: 256 * 1024 * 1024, threads: 2 });
  const readPool = platform.memory.carve(128 * 1024 * 1024);
  const uuid = new Uint8Array(16);
  const write = async (from: number, to: number, isNewer: boolean, add: (ios: LogIo[]) => Promise<void>) => {
    for (let first = from; first < to; first += batchIos) {
      const lease = await readPool.lease(batchIos * extentLb * 512 > 2 ** 26 ? 2 ** 26 : batchIos * extentLb * 512);
      const ios: LogIo[] = [];
      let at = 0;
      for (let i = first; i < Math.min(to, first + batchIos); i += 1) {
        const offsetLb = addressOf(i);
        if (kindOf(i, isNewer) === "discard") {
          ios.push({ kind: "discard", offsetLb, sizeLb: extentLb });
          continue;
        }
        const data = lease.slice(at, extentLb * 512);
        at += data.sizeBytes;
        fill(data.bytes, i, isNewer);
        ios.push({ kind: "data", offsetLb, sizeLb: extentLb, data });
      }
      await add(ios);
      lease.release();
    }
  };
  const older = await platform.disk.open(join(directory, "older"), { mode: "create" });
  const indexed = await IndexedDiffWriter.create(platform, older, { uuid });
  await write(0, olderEnd, false, (ios) => indexed.add(ios));
  await indexed.finish();
  await older.close();
  const newer = await platform.disk.open(join(directory, "newer"), { mode: "create" });
  const spool = await platform.disk.open(join(directory, "spool"), { mode: "create" });
  const sorted = new SortedDiffConverter(platform, spool, { uuid });
  await write(newerBegin, extents, true, (ios) => sorted.add(ios));
  await sorted.finish(newer);
  for (const file of [newer, spool]) await file.close();
  const base = await platform.disk.open(join(directory, "base"), { mode: "create" });
  await base.truncate(sizeLb * 512);
  const mark = await platform.memory.lease(extentLb * 512);
  mark.bytes.fill(baseMark);
  for (let i = 0; i < extents; i += probeStep) await base.write((addressOf(i) + extentLb / 2) * 512, mark);
  mark.release();
  await base.close();
  await closePlatform(platform);
}

async function read(directory: string): Promise<void> {
  const platform = createPlatform({ memoryBudgetBytes: 64 * 1024 * 1024, threads: 2 });
  const readPool = platform.memory.carve(16 * 1024 * 1024);
  const base = await platform.disk.open(join(directory, "base"), { mode: "read" });
  const set = await openDiffSet(platform, [join(directory, "older"), join(directory, "newer")]);
  const image = await VirtualImage.open(platform, set, planMerge(set.records), base, { sizeLb });

  let covered = 0;
  let coveredLb = 0;
  for (let range = image.nextCovered(0); range !== undefined; range = image.nextCovered(range.endLb)) {
    covered += 1;
    coveredLb += range.endLb - range.startLb;
  }

  let probes = 0;
  let wrong = 0;
  const expected = new Uint8Array(2 * extentLb * 512);
  const probe = async (i: number, target: Memory): Promise<void> => {
    await image.read(addressOf(i) * 512, target);
    // Behind the extent there is the second half of the base's mark, then nothing.
    fill(expected.subarray(0, extentLb * 512), i, i >= newerBegin);
    expected.fill(0, extentLb * 512);
    expected.fill(baseMark, extentLb * 512, (extentLb + extentLb / 2) * 512);
    if (Buffer.compare(target.bytes, expected) !== 0) wrong += 1;
    probes += 1;
  };
  const small = await readPool.lease(expected.length);
  for (let i = 0; i < extents; i += probeStep) await probe(i, small);
  small.release();

  // Large reads anywhere, as a scan does them.
  const large = await readPool.lease(4 * 1024 * 1024);
  let largeReads = 0;
  for (let i = 0; i < 200; i += 1) {
    const offsetLb = Math.floor((sizeLb - 8192) * (i / 200));
    await image.read(offsetLb * 512, large);
    for (let range = image.nextCovered(offsetLb); range !== undefined && range.endLb <= offsetLb + 8192; ) {
      if (range.startLb > offsetLb && range.endLb - range.startLb !== extentLb) wrong += 1;
      range = image.nextCovered(range.endLb);
    }
    largeReads += 1;
  }
  large.release();
  await set.close();
  await base.close();
  await closePlatform(platform);
  const rssMaxKib = Number(/^VmHWM:\s+(\d+) kB$/m.exec(readFileSync("/proc/self/status", "utf8"))![1]);
  console.log(JSON.stringify({ covered, coveredLb, probes, wrong, largeReads, rssMaxKib }));
}

const [command, directory] = process.argv.slice(2);
await (command === "make" ? make : read)(directory!);
