/** @module Writes to the walb device over NBD, beside the same writes to `nbdkit file`. */
import { rmSync } from "node:fs";
import { join } from "node:path";
import { type Bench, gib, median, mib, type Path, type Row } from "../lib/bench.ts";
import { checkpoint, createDevice, type NbdServer, startDevice, startNbdkit } from "../lib/device.ts";
import { fill, type Load, loadTool, writeLoad } from "../lib/load.ts";
import { largest, type Usage, watch } from "../lib/processes.ts";

const kib = 1024;

interface Case {
  readonly name: string;
  readonly unit: "IOPS" | "MiB/s";
  readonly load: Load;
}

function cases(isQuick: boolean, rangeBytes: number): Case[] {
  const randomly = {
    order: "random",
    blockBytes: 4 * kib,
    depth: 32,
    rangeBytes,
    totalBytes: rangeBytes,
    secondsMax: isQuick ? 1 : 4,
  } as const;
  const inOrder = { order: "sequential", rangeBytes, totalBytes: rangeBytes } as const;
  const all: Case[] = [
    { name: "4 KiB random, depth 1", unit: "IOPS", load: { ...randomly, depth: 1 } },
    { name: "4 KiB random, depth 1, flush after each", unit: "IOPS", load: { ...randomly, depth: 1, flushEvery: 1 } },
    { name: "4 KiB random, depth 32", unit: "IOPS", load: randomly },
    { name: "4 KiB random, depth 32, flush every 32", unit: "IOPS", load: { ...randomly, flushEvery: 32 } },
    { name: "64 KiB sequential, depth 16", unit: "MiB/s", load: { ...inOrder, blockBytes: 64 * kib, depth: 16 } },
    { name: "1 MiB sequential, depth 8", unit: "MiB/s", load: { ...inOrder, blockBytes: mib, depth: 8 } },
  ];
  return isQuick ? all.filter(({ load }) => load.flushEvery === undefined) : all;
}

interface Measure {
  readonly rate: number;
  readonly bytes: number;
  readonly p99Us: number;
  readonly usage: Usage;
}

async function measure(server: NbdServer, exportName: string, { load, unit }: Case, bench: Bench): Promise<Measure> {
  const watched = watch({ device: server.pid });
  const { bytes, seconds, p99Us } = await writeLoad(server.target(exportName), load, bench.directory);
  const usage = watched.end();
  return { rate: bytes / seconds / (unit === "IOPS" ? load.blockBytes : mib), bytes, p99Us, usage };
}

const cpuSPerGib = (measures: readonly Measure[]): number =>
  median(measures.map(({ usage, bytes }) => usage.cpuS / (bytes / gib)));

/** @param settle waits until the device has nothing left to bring to its data store. */
async function runCase(
  bench: Bench,
  device: NbdServer,
  nbdkit: NbdServer | undefined,
  one: Case,
  settle: () => Promise<void>,
): Promise<Row> {
  const ours: Measure[] = [];
  const theirs: Measure[] = [];
  for (let run = 0; run < bench.runs; run++) {
    // Neither side is measured beside what is left of another load.
    await settle();
    ours.push(await measure(device, "vol0", one, bench));
    await settle();
    if (nbdkit !== undefined) theirs.push(await measure(nbdkit, "", one, bench));
  }
  const rates = ours.map(({ rate }) => rate);
  const p99 = `p99 ${Math.round(median(ours.map(({ p99Us }) => p99Us)))} µs`;
  const other =
    theirs.length === 0
      ? ""
      : `; nbdkit file: p99 ${Math.round(median(theirs.map(({ p99Us }) => p99Us)))} µs, ${cpuSPerGib(theirs).toFixed(2)} CPU s/GiB`;
  const { diskWrite } = bench.limits;
  const limit = one.unit === "MiB/s" ? diskWrite : { ...diskWrite, rate: (diskWrite.rate * mib) / one.load.blockBytes };
  const beside = theirs.length === 0 ? limit : { name: "nbdkit file", rate: median(theirs.map(({ rate }) => rate)) };
  return {
    path: `device: ${one.name}`,
    rate: median(rates),
    unit: one.unit,
    beside,
    cpuSPerGib: cpuSPerGib(ours),
    peakMib: largest(ours.map(({ usage }) => usage.peakMib)),
    runs: rates.length,
    rates,
    note: p99 + other,
  };
}

export const device: Path = {
  name: "device",
  summary: `writes over NBD by ${loadTool()}, flushed in the end`,
  async run(bench) {
    const ours = join(bench.directory, "device");
    const theirs = join(bench.directory, "nbdkit");
    const sizeBytes = bench.isQuick ? gib / 4 : gib;
    const server = await startDevice(ours);
    const nbdkit = await startNbdkit(theirs, sizeBytes);
    try {
      // The log is as large as the volume: when both have been written once, all further writes meet allocated blocks.
      await createDevice(ours, "vol0", sizeBytes, sizeBytes);
      for (const target of [server.target("vol0"), ...(nbdkit === undefined ? [] : [nbdkit.target("")])]) {
        await writeLoad(target, fill(sizeBytes + sizeBytes / 8, sizeBytes), bench.directory);
      }
      const rows: Row[] = [];
      const settle = (): Promise<void> => checkpoint(ours, "vol0");
      for (const one of cases(bench.isQuick, sizeBytes)) rows.push(await runCase(bench, server, nbdkit, one, settle));
      return rows;
    } finally {
      await nbdkit?.end();
      await server.end();
      rmSync(theirs, { recursive: true, force: true });
      rmSync(ours, { recursive: true, force: true });
    }
  },
};
