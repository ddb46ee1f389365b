/**
 * @module Restore to a file, of a point with few large and one with many small diffs; then apply. And both of a volume whose
 * data is all in diffs, which the page cache has: there nothing has to be read of the disk that is written to.
 */
import { rmSync } from "node:fs";
import type { Fleet } from "../../helpers/fleet.ts";
import { type Bench, gib, median, mib, type Path, type Row, timed } from "../lib/bench.ts";
import { arrived, clientsOf, makeFilledVolume, pidsOf, targetOf, withFleet } from "../lib/fleet.ts";
import { lowest, shareOfWriting } from "../lib/limits.ts";
import { fill, type Load, writeLoad } from "../lib/load.ts";
import { largest, watch } from "../lib/processes.ts";

const changed = "rest0";
const whole = "rest1";

/** Writes, takes a snapshot, and waits until it has arrived. */
async function change(fleet: Fleet, volume: string, load: Load): Promise<bigint> {
  await writeLoad(targetOf(fleet, volume), load, fleet.directory);
  const { gid } = await clientsOf(fleet).storage.call("snapshot", { volume });
  await arrived(fleet, volume, gid);
  return gid;
}

async function diffCount(fleet: Fleet, volume: string): Promise<number> {
  return (await clientsOf(fleet).archive.call("status", { volume })).volumes[0]?.wdiffCount ?? 0;
}

/** What is restored, and what of it is bound by reading the same disk. */
interface Restore {
  readonly volume: string;
  readonly gid: bigint;
  readonly sizeBytes: number;
  readonly what: string;
  /** One run before the measured ones. */
  readonly isCached?: boolean;
}

async function restore(bench: Bench, fleet: Fleet, { volume, gid, sizeBytes, what, isCached }: Restore): Promise<Row> {
  const diffs = await diffCount(fleet, volume);
  const to = fleet.path("restored");
  const once = () => fleet.must("restore", volume, "--snapshot", `${gid}`, "--to", to, "--json");
  if (isCached === true) {
    await once();
    rmSync(to);
  }
  const results = [];
  for (let run = 0; run < bench.runs; run++) {
    const watched = watch({ archive: fleet.pidOf("archive") });
    const { seconds, value } = await timed(once);
    const usage = watched.end();
    const { bytes, method } = JSON.parse(value) as { bytes: number; method?: string };
    results.push({ seconds, bytes, method, usage });
    rmSync(to);
  }
  const rates = results.map(({ seconds }) => sizeBytes / mib / seconds);
  const seconds = median(results.map((result) => result.seconds));
  const { method = "?", bytes } = results[0]!;
  const reading =
    isCached === true ? [] : (["diskRead", ...(method === "copy" ? (["diskCopy"] as const) : [])] as const);
  return {
    path: `restore: ${sizeBytes / mib} MiB volume, ${what}`,
    rate: median(rates),
    unit: "MiB/s",
    beside: lowest(bench.limits, ...reading, "decode", "diskWrite"),
    cpuSPerGib: median(results.map(({ usage }) => usage.cpuS / (sizeBytes / gib))),
    peakMib: largest(results.map(({ usage }) => usage.peakMib)),
    runs: rates.length,
    rates,
    note: `${seconds.toFixed(2)} s; base by ${method}; ${diffs} diffs, ${(bytes / mib).toFixed(0)} MiB written in all: ${shareOfWriting(bytes / mib / seconds, bench.limits)}`,
  };
}

interface Applied {
  readonly bytes: number;
  readonly seconds: number;
  readonly cpuS: number;
  readonly peakMib: number;
}

async function applyOnce(fleet: Fleet, volume: string, gid: bigint): Promise<Applied> {
  const watched = watch(pidsOf(fleet));
  const { bytes, elapsedMs } = await clientsOf(fleet).archive.run("apply", { volume, gid });
  const usage = watched.end();
  return { bytes, seconds: elapsedMs / 1000, cpuS: usage.cpuSBy.archive ?? 0, peakMib: usage.peakMib.archive ?? 0 };
}

function applyRow(bench: Bench, what: string, note: string, runs: readonly Applied[]): Row {
  const rates = runs.map(({ bytes, seconds }) => bytes / mib / seconds);
  const seconds = median(runs.map((run) => run.seconds));
  return {
    path: `apply: ${what}`,
    rate: median(rates),
    unit: "MiB/s",
    beside: lowest(bench.limits, "diskRead", "decode", "diskWrite"),
    cpuSPerGib: median(runs.map(({ cpuS, bytes }) => cpuS / (bytes / gib))),
    peakMib: { archive: Math.max(...runs.map(({ peakMib }) => peakMib)) },
    runs: runs.length,
    rates,
    note: `${(runs[0]!.bytes / mib).toFixed(0)} MiB in ${seconds.toFixed(2)} s: ${shareOfWriting(median(rates), bench.limits)}; ${note}; all data is read and checked before the first write`,
  };
}

async function run(bench: Bench): Promise<Row[]> {
  const sizeBytes = bench.isQuick ? gib / 4 : gib;
  const smallCount = bench.isQuick ? 8 : 100;
  const smallBytes = 256 * 4096;
  return withFleet(async (fleet) => {
    await makeFilledVolume(fleet, changed, sizeBytes, 3 * sizeBytes);
    await fleet.must("backup", changed, "--wait");
    const rangeBytes = sizeBytes;
    const random = { order: "random", depth: 16, rangeBytes } as const;
    const few = await change(fleet, changed, { ...random, blockBytes: 64 * 1024, totalBytes: sizeBytes / 2 });
    const restored = { volume: changed, sizeBytes };
    const rows = [await restore(bench, fleet, { ...restored, gid: few, what: `${sizeBytes / 2 / mib} MiB changed` })];
    let many = few;
    for (let i = 0; i < smallCount; i++) {
      many = await change(fleet, changed, { ...random, blockBytes: 4096, totalBytes: smallBytes, seed: i + 2 });
    }
    const small = `and ${smallCount} × ${smallBytes / mib} MiB of 4 KiB`;
    rows.push(await restore(bench, fleet, { ...restored, gid: many, what: small }));
    const diffs = `${await diffCount(fleet, changed)} diffs`;
    rows.push(applyRow(bench, "many diffs of few MiB", diffs, [await applyOnce(fleet, changed, many)]));

    await fleet.makeVolume(whole, `${sizeBytes}`, `${2 * sizeBytes}`);
    await fleet.must("backup", whole, "--wait");
    const applied: Applied[] = [];
    for (let i = 0; i < bench.runs; i++) {
      const all = await change(fleet, whole, fill(sizeBytes, sizeBytes));
      const what = "all in diffs, which are cached";
      if (i === 0) rows.push(await restore(bench, fleet, { volume: whole, gid: all, sizeBytes, what, isCached: true }));
      applied.push(await applyOnce(fleet, whole, all));
    }
    rows.push(applyRow(bench, `${sizeBytes / mib} MiB volume, all of it`, "diffs of up to 128 MiB", applied));
    return rows;
  });
}

export const restoring: Path = { name: "restore", summary: "restore to a file, apply", run };
