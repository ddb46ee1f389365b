/** @module One seed of the cross properties: everything that can be done with a log ends in the same image. */
import { expect } from "bun:test";
import { planMerge } from "../../src/diff/merge.ts";
import { writeMerged } from "../../src/diff/output.ts";
import { openDiffSet } from "../../src/diff/set.ts";
import { type GenerateOptions, generateWlogBytes } from "../../src/log/generate.ts";
import { ImageModel } from "../../src/log/generate-model.ts";
import { SeededRandom } from "../../src/log/generate-random.ts";
import { encodeEndBlock } from "../../src/log/pack.ts";
import { encodeWlogHeader } from "../../src/log/wlogheader.ts";
import { createMemoryIo, type MemoryIo } from "../helpers/memory-disk.ts";
import { bytesInput, convertWlog, readVirtual, redoDiffs, redoWlog } from "../helpers/wlogs.ts";

const maxIos = [8, 32, 2048, 0];
const combinationCount = 2 * maxIos.length;

/** What the seeds of a run came across, to show that nothing was left out. */
export interface CrossCounts {
  /** Seeds by block size and limit of IO size. */
  readonly combinations: Map<string, number>;
  /** Writes above the limit by the same; of unlimited ones those above 1 MiB. */
  readonly long: Map<string, number>;
  discards: number;
  paddings: number;
  parts: number;
}

export function newCounts(): CrossCounts {
  return { combinations: new Map(), long: new Map(), discards: 0, paddings: 0, parts: 0 };
}

let sharedIo: MemoryIo | undefined;

function workload(seed: number, random: SeededRandom): GenerateOptions {
  // One seed in 61 has IOs above 1 MiB, so that this limit cuts too: a number that falls on all combinations.
  const isLarge = seed % 61 === 60;
  return {
    deviceBytes: isLarge ? 4 * 1024 * 1024 : 512 * random.between(64, 512),
    pbsBytes: seed % 2 === 0 ? 512 : 4096,
    minIoBytes: 512,
    maxIoBytes: isLarge ? 1536 * 1024 : [2048, 8192, 32 * 1024][random.below(3)]!,
    maxDiscardBytes: random.chance(0.5) ? 8192 : 65536,
    maxPackBytes: random.chance(0.5) ? 32 * 1024 : 16 * 1024 * 1024,
    logBytes: isLarge ? 3 * 1024 * 1024 : 4096 + random.between(1, 160) * 1024,
    beginLsid: random.chance(0.5) ? 0 : random.below(2 ** 40),
    discard: random.chance(0.9),
    allZero: random.chance(0.9),
    padding: random.chance(0.9),
    content: (["sparse", "random", "half"] as const)[random.below(3)]!,
  };
}

/** Checks that every block size came with every limit, each with writes that it cuts, and all kinds of records. */
export function checkCounts(counts: CrossCounts, seeds: number): void {
  expect(counts.combinations.size).toBe(combinationCount);
  expect(Math.min(...counts.combinations.values())).toBeGreaterThan(seeds / (2 * combinationCount));
  expect(counts.long.size).toBe(combinationCount);
  expect(Math.min(counts.discards, counts.paddings, counts.parts)).toBeGreaterThan(seeds / 20);
}

/** Runs one seed. @throws Error naming the seed and the way that went wrong. */
export async function crossSeed(seed: number, counts: CrossCounts): Promise<void> {
  sharedIo ??= createMemoryIo();
  const io = sharedIo;
  const random = new SeededRandom(seed + 1_000_003);
  const options = workload(seed, random);
  const maxIoLb = maxIos[(seed >> 1) % 4]!;
  const key = `${options.pbsBytes} ${maxIoLb}`;
  counts.combinations.set(key, (counts.combinations.get(key) ?? 0) + 1);
  const sizeLb = options.deviceBytes! / 512;
  const fill = random.chance(0.5) ? 0 : 0xff;
  const model = new ImageModel(options.deviceBytes!, fill);
  // With discards ignored only the log's own redo has a model: a diff has already dropped what a discard lies over.
  const ignoring = new ImageModel(options.deviceBytes!, fill);
  const packs: Uint8Array[] = [];
  const lsids: number[] = [];
  const { bytes, wlog } = generateWlogBytes(options, seed, (header, pack) => {
    model.applyPack(header, pack, options.pbsBytes!);
    ignoring.applyPack(header, pack, options.pbsBytes!, "ignore");
    packs.push(pack);
    lsids.push(header.lsid);
    for (const { kind, sizeLb: recordLb } of header.records) {
      if (kind === "data" && recordLb > (maxIoLb === 0 ? 2048 : maxIoLb)) {
        counts.long.set(key, (counts.long.get(key) ?? 0) + 1);
      }
      if (kind === "discard") counts.discards += 1;
      if (kind === "padding") counts.paddings += 1;
    }
  });
  lsids.push(wlog.endLsid);
  const expected = model.bytes();
  const fresh = async () => {
    io.disk.put("/image", new Uint8Array(expected.length).fill(fill));
    return await io.disk.open("/image", { mode: "write" });
  };
  const check = (way: string, image: Uint8Array): void => {
    if (Buffer.compare(image, expected) !== 0) throw new Error(`seed ${seed}, ${key}: ${way} gives another image`);
  };
  try {
    const endLsid = await redoWlog(io, bytesInput(bytes), await fresh(), sizeLb);
    if (endLsid !== wlog.endLsid) throw new Error(`seed ${seed}: the log ends at ${endLsid}, not ${wlog.endLsid}`);
    check("redo of the log", io.disk.get("/image"));
    await redoWlog(io, bytesInput(bytes), await fresh(), sizeLb, "ignore");
    if (Buffer.compare(io.disk.get("/image"), ignoring.bytes()) !== 0) {
      throw new Error(`seed ${seed}, ${key}: redo of the log with discards ignored gives another image`);
    }

    for (const kind of ["sorted", "indexed"] as const) {
      await convertWlog(io, bytesInput(bytes), `/${kind}`, { kind, maxIoLb });
      await redoDiffs(io, [`/${kind}`], await fresh(), sizeLb);
      check(`redo of the ${kind} diff`, io.disk.get("/image"));
    }

    const partCount = random.between(1, Math.min(4, packs.length));
    const paths: string[] = [];
    for (let i = 0, from = 0; i < partCount; i += 1) {
      const to = i === partCount - 1 ? packs.length : random.between(from, packs.length);
      if (to === from) continue;
      const header = { ...wlog.header, beginLsid: lsids[from]! };
      const end = encodeEndBlock(header.pbsBytes, header.salt);
      const part = Buffer.concat([encodeWlogHeader(header), ...packs.slice(from, to), end]);
      const path = `/part${i}`;
      const kind = random.chance(0.5) ? "sorted" : "indexed";
      await convertWlog(io, bytesInput(part), path, { kind, maxIoLb });
      paths.push(path);
      counts.parts += 1;
      from = to;
    }
    const set = await openDiffSet(io, paths);
    const merged = await io.disk.open("/merged", { mode: "create" });
    await writeMerged(io, set, planMerge(set.records, { maxIoLb, joinSlices: random.chance(0.5) }), merged);
    await set.close();
    await redoDiffs(io, ["/merged"], await fresh(), sizeLb);
    check("redo of the merge of the parts", io.disk.get("/image"));

    const base = await fresh();
    const readBytes = 512 * random.between(1, 256);
    check("the virtual image of the parts", await readVirtual(io, paths, base, sizeLb, readBytes));
    check("the virtual image of the merge", await readVirtual(io, ["/merged"], base, sizeLb));
    if (io.memory.leasedBytes + io.readPool.leasedBytes !== 0)
      throw new Error(`seed ${seed}: memory was not given back`);
  } finally {
    for (const path of ["/image", "/sorted", "/indexed", "/merged", "/part0", "/part1", "/part2", "/part3"]) {
      await io.disk.remove(path);
    }
  }
}
