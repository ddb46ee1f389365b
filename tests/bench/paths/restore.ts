/** @module Restore to a file, of a point with few large and one with many small diffs; then apply. */
import { rmSync } from "node:fs";
import type { Fleet } from "../../helpers/fleet.ts";
import { type Bench, gib, median, mib, type Path, type Row, timed } from "../lib/bench.ts";
import { arrived, clientsOf, makeFilledVolume, pidsOf, targetOf, withFleet } from "../lib/fleet.ts";
import { lowest, shareOfWriting } from "../lib/limits.ts";
import { type Load, writeLoad } from "../lib/load.ts";
import { largest, watch } from "../lib/processes.ts";

const volume = "rest0";

/** Writes, takes a snapshot, and waits until it has arrived. */
async function change(fleet: Fleet, load: Load): Promise<bigint> {
  await writeLoad(targetOf(fleet, volume), load, fleet.directory);
  const { gid } = await clientsOf(fleet).storage.call("snapshot", { volume });
  await arrived(fleet, volume, gid);
  return gid;
}

async function diffCount(fleet: Fleet): Promise<number> {
  return (await clientsOf(fleet).archive.call("status", { volume })).volumes[0]?.wdiffCount ?? 0;
}

async function restore(bench: Bench, fleet: Fleet, what: string, gid: bigint, sizeBytes: number): Promise<Row> {
  const diffs = await diffCount(fleet);
  const results = [];
  for (let run = 0; run < bench.runs; run++) {
    const to = fleet.path("restored");
    const watched = watch({ archive: fleet.pidOf("archive") });
    const { seconds, value } = await timed(() =>
      fleet.must("restore", volume, "--snapshot", `${gid}`, "--to", to, "--json"),
    );
    const usage = watched.end();
    const { bytes, method } = JSON.parse(value) as { bytes: number; method?: string };
    results.push({ seconds, bytes, method, usage });
    rmSync(to);
  }
  const rates = results.map(({ seconds }) => sizeBytes / mib / seconds);
  const seconds = median(results.map((result) => result.seconds));
  const { method = "?", bytes } = results[0]!;
  return {
    path: `restore: ${sizeBytes / mib} MiB volume, ${what}`,
    rate: median(rates),
    unit: "MiB/s",
    beside: lowest(
      bench.limits,
      ...(method === "copy" ? (["diskCopy"] as const) : []),
      "diskRead",
      "decode",
      "diskWrite",
    ),
    cpuSPerGib: median(results.map(({ usage }) => usage.cpuS / (sizeBytes / gib))),
    peakMib: largest(results.map(({ usage }) => usage.peakMib)),
    runs: rates.length,
    rates,
    note: `${seconds.toFixed(2)} s; base by ${method}; ${diffs} diffs, ${(bytes / mib).toFixed(0)} MiB written in all: ${shareOfWriting(bytes / mib / seconds, bench.limits)}`,
  };
}

async function apply(bench: Bench, fleet: Fleet, gid: bigint): Promise<Row> {
  const diffs = await diffCount(fleet);
  const watched = watch(pidsOf(fleet));
  const { bytes, elapsedMs } = await clientsOf(fleet).archive.run("apply", { volume, gid });
  const usage = watched.end();
  const rate = bytes / mib / (elapsedMs / 1000);
  return {
    path: "apply: all diffs to the base image",
    rate,
    unit: "MiB/s",
    beside: lowest(bench.limits, "diskRead", "decode", "diskWrite"),
    cpuSPerGib: (usage.cpuSBy.archive ?? 0) / (bytes / gib),
    peakMib: { archive: usage.peakMib.archive ?? 0 },
    runs: 1,
    note: `${diffs} diffs, ${(bytes / mib).toFixed(0)} MiB in ${(elapsedMs / 1000).toFixed(2)} s: ${shareOfWriting(rate, bench.limits)}; all data is read and checked before the first write`,
  };
}

async function run(bench: Bench): Promise<Row[]> {
  const sizeBytes = bench.isQuick ? gib / 4 : gib;
  const smallCount = bench.isQuick ? 8 : 100;
  const smallBytes = 256 * 4096;
  return withFleet(async (fleet) => {
    await makeFilledVolume(fleet, volume, sizeBytes, 3 * sizeBytes);
    await fleet.must("backup", volume, "--wait");
    const rangeBytes = sizeBytes;
    const random = { order: "random", depth: 16, rangeBytes } as const;
    const few = await change(fleet, { ...random, blockBytes: 64 * 1024, totalBytes: sizeBytes / 2 });
    const rows = [await restore(bench, fleet, `${sizeBytes / 2 / mib} MiB changed`, few, sizeBytes)];
    let many = few;
    for (let i = 0; i < smallCount; i++) {
      many = await change(fleet, { ...random, blockBytes: 4096, totalBytes: smallBytes, seed: i + 2 });
    }
    rows.push(await restore(bench, fleet, `and ${smallCount} × ${smallBytes / mib} MiB of 4 KiB`, many, sizeBytes));
    rows.push(await apply(bench, fleet, many));
    return rows;
  });
}

export const restoring: Path = { name: "restore", summary: "restore to a file, apply", run };
