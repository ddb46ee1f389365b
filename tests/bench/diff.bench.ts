/** @module Rates of the diff pipeline: conversion, overlay, merge, apply, virtual reading. Run: bun tests/bench/diff.bench.ts */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { applyDiffs } from "../../src/diff/apply.ts";
import { IndexedDiffWriter, SortedDiffConverter } from "../../src/diff/convert.ts";
import { planMerge } from "../../src/diff/merge.ts";
import { mergedPacks, writeMerged } from "../../src/diff/output.ts";
import { RecordIndex } from "../../src/diff/record-index.ts";
import { openDiffSet } from "../../src/diff/set.ts";
import type { LogIo } from "../../src/diff/types.ts";
import { VirtualImage } from "../../src/diff/virtual.ts";
import { Codec, type CompressOption } from "../../src/native/codec.ts";
import { closePlatform, createPlatform } from "../../src/platform/real/index.ts";

const mib = 1024 * 1024;
const platform = createPlatform({ memoryBudgetBytes: 512 * mib });
const directory = mkdtempSync(join(process.env.WALB_BENCH_DIR ?? tmpdir(), "walb-bench-"));
const at = (name: string): string => join(directory, name);

let state = 12345;
function random(limit: number): number {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return Math.floor((state / 2 ** 32) * limit);
}

async function timed(name: string, amount: number, unit: string, run: () => Promise<void> | void): Promise<void> {
  const cpu = process.cpuUsage();
  const start = performance.now();
  await run();
  const seconds = (performance.now() - start) / 1000;
  const used = process.cpuUsage(cpu);
  const cpuSeconds = (used.user + used.system) / 1e6;
  const rate = (amount / seconds).toFixed(unit === "MiB" ? 0 : 2);
  console.log(
    `${name.padEnd(58)} ${rate.padStart(8)} ${unit}/s  ${seconds.toFixed(2)} s, ${cpuSeconds.toFixed(2)} s CPU`,
  );
}

/** Log data: half of every block is random, the rest repeats. */
const sourceBytes = 32 * mib;
const source = await platform.memory.lease(sourceBytes);
for (let i = 0; i < sourceBytes; i++) source.bytes[i] = i % 512 < 256 ? random(256) : 0x20 + (i & 15);

function makeIos(totalMib: number, ioLb: number, volumeLb: number): LogIo[] {
  return Array.from({ length: (totalMib * 2048) / ioLb }, (_, i): LogIo => {
    const sizeBytes = ioLb * 512;
    const data = source.slice(((i * sizeBytes) % (sourceBytes - sizeBytes + 1)) & ~511, sizeBytes);
    return { offsetLb: random(volumeLb / ioLb) * ioLb, sizeLb: ioLb, kind: "data", data };
  });
}

async function addAll(writer: IndexedDiffWriter | SortedDiffConverter, ios: readonly LogIo[]): Promise<void> {
  const step = 512;
  let before: Promise<void> = Promise.resolve();
  for (let i = 0; i < ios.length; i += step) {
    const job = writer.add(ios.slice(i, i + step));
    await before;
    before = job;
  }
  await before;
}

async function indexed(name: string, ios: readonly LogIo[], compress: CompressOption): Promise<void> {
  const file = await platform.disk.open(at(name), { mode: "create" });
  const writer = await IndexedDiffWriter.create(platform, file, { uuid: new Uint8Array(16), compress });
  await addAll(writer, ios);
  await writer.finish();
  await file.close();
}

async function sorted(name: string, ios: readonly LogIo[], compress: CompressOption): Promise<void> {
  const file = await platform.disk.open(at(name), { mode: "create" });
  const spool = await platform.disk.open(at(`${name}.spool`), { mode: "create" });
  const converter = new SortedDiffConverter(platform, spool, { uuid: new Uint8Array(16), compress });
  await addAll(converter, ios);
  await converter.finish(file);
  await file.close();
  await spool.close();
  await platform.disk.remove(at(`${name}.spool`));
}

const snappy = { codec: Codec.snappy, level: 0 };
const lz4 = { codec: Codec.lz4, level: 0 };
const none = { codec: Codec.none, level: 0 };
const volumeLb = 4 * 1024 * 2048;
try {
  const big = makeIos(512, 128, volumeLb);
  const small = makeIos(256, 16, volumeLb);
  await timed("convert to indexed, 64 KiB IOs, snappy", 512, "MiB", () => indexed("c1", big, snappy));
  await timed("convert to indexed, 64 KiB IOs, lz4", 512, "MiB", () => indexed("c2", big, lz4));
  await timed("convert to indexed, 64 KiB IOs, none", 512, "MiB", () => indexed("c3", big, none));
  await timed("convert to indexed, 8 KiB IOs, snappy", 256, "MiB", () => indexed("c4", small, snappy));
  await timed("convert to sorted, 64 KiB IOs, snappy", 512, "MiB", () => sorted("c5", big, snappy));

  const records = new RecordIndex(1_000_000);
  for (let file = 0; file < 8; file++) {
    const step = volumeLb / 125_000;
    for (let i = 0; i < 125_000; i++) {
      records.push(Math.floor(i * step) + random(32), 8 + random(24), 0, 0, file, 0, 4096, 32, 0, 0);
    }
  }
  await timed("plan the merge of 8 indexes, 1 million records", 1, "M records", () => {
    planMerge(records);
  });
  const scattered = new RecordIndex(1_000_000);
  for (let i = 0; i < 1_000_000; i++) scattered.push(random(volumeLb), 16, 0, 0, 0, 0, 4096, 16, 0, 0);
  await timed("plan the overlay of 1 million random writes", 1, "M records", () => {
    planMerge(scattered);
  });

  for (const kind of ["sorted", "indexed"] as const) {
    const paths: string[] = [];
    for (let i = 0; i < 8; i++) {
      const name = `${kind}${i}`;
      await (kind === "sorted" ? sorted : indexed)(name, makeIos(64, 64, volumeLb), snappy);
      paths.push(at(name));
    }
    const set = await openDiffSet(platform, paths);
    const plan = planMerge(set.records);
    const planned = plan.totalLb / 2048;
    await timed(
      `open 8 ${kind} diffs, ${set.records.count} records`,
      set.records.count / 1e6,
      "M records",
      async () => {
        await (await openDiffSet(platform, paths)).close();
      },
    );
    for (const pass of ["first", "second"]) {
      await timed(`merge 8 ${kind} to a file, compressed passed through, ${pass} pass`, planned, "MiB", async () => {
        const file = await platform.disk.open(at("merged"), { mode: "create" });
        await writeMerged(platform, set, plan, file);
        await file.close();
        await platform.disk.remove(at("merged"));
      });
    }
    await timed(`merge 8 ${kind} to wire packs`, planned, "MiB", async () => {
      for await (const pack of mergedPacks(platform, set, plan)) pack.release();
    });
    await timed(`merge 8 ${kind} to a file, all recompressed`, planned, "MiB", async () => {
      const file = await platform.disk.open(at("merged"), { mode: "create" });
      await writeMerged(platform, set, plan, file, { recompressAll: true });
      await file.close();
      await platform.disk.remove(at("merged"));
    });
    const image = await platform.disk.open(at(`image-${kind}`), { mode: "create" });
    await image.truncate(volumeLb * 512);
    // The second pass shows our own cost: the first one also pays for the kernel's new cache pages.
    for (const pass of ["first", "second"]) {
      await timed(`apply 8 ${kind} to an image, fdatasync included, ${pass} pass`, planned, "MiB", async () => {
        await applyDiffs(platform, set, plan, image, { sizeLb: volumeLb });
      });
    }
    const virtual = await VirtualImage.open(platform, set, plan, image, { sizeLb: volumeLb });
    const target = await platform.memory.lease(mib);
    for (const pass of ["first", "second"]) {
      await timed(`read 1 GiB of the virtual image, 1 MiB at a time, ${pass} pass`, 1024, "MiB", async () => {
        for (let i = 0; i < 1024; i++) await virtual.read(i * mib, target);
      });
    }
    target.release();
    await image.close();
    await set.close();
  }
} finally {
  source.release();
  rmSync(directory, { recursive: true, force: true });
  await closePlatform(platform);
}
