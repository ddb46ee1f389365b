/**
 * @module The file tools, each run as its users run it: the executable over files in the page cache, from its start to
 * its end. The limits of memory and rate that the formats' issue names stand beside.
 */
import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { type Bench, gib, median, mib, type Path, type Row } from "../lib/bench.ts";
import { noSyncLibrary, runTool, type ToolRun } from "../lib/tool-run.ts";

const diffCount = 8;

/** A measurement: how it is set up before each run, what is run, and how many bytes that moves. */
interface Case {
  readonly name: string;
  readonly words: readonly string[];
  /** Bytes of I/O in the log, or of the image for reads. */
  readonly bytes: number;
  /** Rate of the original C++ tool on a machine with two cores, MiB/s. */
  readonly original?: number;
  /** Memory that it is to stay under, MiB. */
  readonly memoryMib?: number;
  readonly isSynced: boolean;
  prepare(): Promise<void> | void;
}

function generate(path: string, sizeBytes: number, ioBytes: number, order: string, seed: number, volumeBytes: number) {
  const words = ["wlog", "generate", "--quiet", "--seed", `${seed}`, "--content", "half", "--order", order];
  const sizes = ["--size", `${volumeBytes}`, "--log-size", `${sizeBytes}`, "--min-io", `${ioBytes}`];
  const rest = ["--max-io", `${ioBytes}`, "--without-padding", "--without-discard", "--without-zeroes"];
  return runTool([...words, ...sizes, ...rest, "--output", path]);
}

/** Reads files whole, so that they are in the page cache. */
function warm(...paths: readonly string[]): void {
  for (const path of paths) readFileSync(path);
}

/** What the tools read and write. */
async function makeCases(directory: string, noSync: string | undefined, sizeBytes: number): Promise<Case[]> {
  const at = (name: string): string => join(directory, name);
  const remove = (path: string) => (): void => rmSync(path, { force: true });
  const cases: Case[] = [];
  const out = at("out.wdiff");
  const image = at("image");
  /** An image whose blocks are allocated and cached, or one that is a hole. */
  const freshImage = async (isWritten: boolean): Promise<void> => {
    rmSync(image, { force: true });
    await Bun.write(image, "");
    const file = Bun.spawn(
      isWritten
        ? ["dd", "if=/dev/zero", `of=${image}`, "bs=1M", `count=${sizeBytes / mib}`, "conv=fsync", "status=none"]
        : ["truncate", "-s", `${sizeBytes}`, image],
    );
    if ((await file.exited) !== 0) throw new Error(`${image} could not be made`);
  };
  for (const [kind, ioBytes, order, original] of [
    ["4 KiB random", 4096, "random", { indexed: 633, sorted: 456, redo: 679, apply: 2797 }],
    ["64 KiB sequential", 65536, "sequential", { indexed: 1039, sorted: 613, redo: 2348, apply: 3826 }],
  ] as const) {
    const wlog = at(`${ioBytes}.wlog`);
    const sorted = at(`${ioBytes}.wdiff`);
    await generate(wlog, sizeBytes, ioBytes, order, 1, sizeBytes);
    await runTool(["wlog", "to-wdiff", "--quiet", "--input", wlog, "--output", sorted], noSync);
    const bytes = sizeBytes;
    const convert = ["wlog", "to-wdiff", "--quiet", "--input", wlog, "--output", out];
    const redo = ["wlog", "redo", image, "--quiet", "--input", wlog];
    const apply = ["wdiff", "redo", image, sorted, "--quiet"];
    cases.push(
      {
        name: `wlog to-wdiff, indexed, snappy, ${kind}`,
        words: [...convert, "--indexed"],
        bytes,
        original: original.indexed,
        memoryMib: 100,
        isSynced: true,
        prepare: remove(out),
      },
      {
        name: `wlog to-wdiff, sorted, snappy, ${kind}`,
        words: convert,
        bytes,
        original: original.sorted,
        memoryMib: 300,
        isSynced: true,
        prepare: remove(out),
      },
    );
    for (const isWritten of [true, false]) {
      const onto = isWritten ? "a written image" : "a hole";
      const prepare = (): Promise<void> => freshImage(isWritten);
      const base = { bytes, isSynced: true, prepare };
      cases.push(
        { ...base, name: `wlog redo, ${kind}, onto ${onto}`, words: redo, original: original.redo },
        { ...base, name: `wdiff redo, ${kind}, onto ${onto}`, words: apply, original: original.apply },
      );
    }
  }
  const diffs: string[] = [];
  for (let i = 0; i < diffCount; i++) {
    const [wlog, diff] = [at("part.wlog"), at(`part-${i}.wdiff`)];
    await generate(wlog, sizeBytes / diffCount, 4096, "random", 100 + i, sizeBytes);
    await runTool(["wlog", "to-wdiff", "--quiet", "--input", wlog, "--output", diff], noSync);
    rmSync(wlog);
    diffs.push(diff);
  }
  cases.push({
    name: `wdiff merge of ${diffCount} sorted, 4 KiB random`,
    words: ["wdiff", "merge", ...diffs, "--quiet", "--output", out],
    bytes: sizeBytes,
    original: 947,
    isSynced: true,
    prepare: remove(out),
  });
  const readImage = { bytes: sizeBytes, original: 7.3 };
  const cat = ["image", "cat", image, ...diffs, "--quiet", "--output"];
  cases.push(
    {
      ...readImage,
      name: `image cat, ${diffCount} diffs of 4 KiB, to a file`,
      words: [...cat, at("copy")],
      isSynced: true,
      prepare: async () => {
        remove(at("copy"))();
        await freshImage(true);
      },
    },
    {
      ...readImage,
      name: `image cat, ${diffCount} diffs of 4 KiB, to /dev/null`,
      words: [...cat, "/dev/null"],
      isSynced: false,
      prepare: () => freshImage(true),
    },
  );
  warm(at("4096.wlog"), at("65536.wlog"), at("4096.wdiff"), at("65536.wdiff"), ...diffs);
  return cases;
}

function rowOf(found: Case, runs: readonly ToolRun[], isSynced: boolean): Row {
  const rates = runs.map(({ seconds }) => found.bytes / mib / seconds);
  const limit = found.memoryMib === undefined ? {} : { note: `to stay under ${found.memoryMib} MiB` };
  const suffix = found.isSynced ? (isSynced ? ", synced" : ", not synced") : "";
  return {
    path: `files: ${found.name}${suffix}`,
    rate: median(rates),
    unit: "MiB/s",
    ...(found.original === undefined ? {} : { beside: { name: "the original", rate: found.original } }),
    cpuSPerGib: median(runs.map(({ cpuS }) => cpuS / (found.bytes / gib))),
    peakMib: { walb: Math.max(...runs.map(({ peakMib }) => peakMib)) },
    runs: runs.length,
    rates,
    ...limit,
  };
}

async function measure(found: Case, bench: Bench, noSync: string | undefined): Promise<Row> {
  const runs: ToolRun[] = [];
  for (let run = 0; run < bench.runs; run++) {
    await found.prepare();
    // What others left to write back would else be waited for by this run.
    await Bun.spawn(["sync"]).exited;
    runs.push(await runTool(found.words, noSync));
  }
  return rowOf(found, runs, noSync === undefined);
}

/**
 * Files are in the page cache. Synced: until the result is on the disk, as a user gets it. Not synced: the same run with
 * fsync and fdatasync taken out, as the original does not sync what it streams.
 */
export const files: Path = {
  name: "files",
  summary: "the file tools over 1 GiB of I/O: conversion, redo, merge, virtual image",
  async run(bench) {
    const sizeBytes = bench.isQuick ? gib / 8 : gib;
    const wanted = process.env.WALB_BENCH_CASES;
    const noSync = noSyncLibrary(bench.directory);
    const cases = await makeCases(bench.directory, noSync, sizeBytes);
    const rows: Row[] = [];
    for (const found of cases) {
      if (wanted !== undefined && !new RegExp(wanted).test(found.name)) continue;
      if (noSync !== undefined || !found.isSynced) rows.push(await measure(found, bench, noSync));
      if (found.isSynced) rows.push(await measure(found, bench, undefined));
      process.stderr.write(`bench: ${rows.slice(-2).map(lineOf).join("\nbench: ")}\n`);
    }
    for (const path of ["out.wdiff", "image", "copy"]) rmSync(join(bench.directory, path), { force: true });
    return rows;
  },
};

function lineOf({ path, rate, cpuSPerGib, peakMib }: Row): string {
  return `${path}: ${rate.toFixed(0)} MiB/s, ${cpuSPerGib?.toFixed(2)} CPU s/GiB, ${peakMib?.walb?.toFixed(0)} MiB`;
}
