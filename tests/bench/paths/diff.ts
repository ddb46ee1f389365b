/** @module Conversion, merge, apply and virtual reading of diffs: the rates of diff.bench.ts, each of one run. */
import { join } from "node:path";
import type { Bench, Beside, Path, Row } from "../lib/bench.ts";
import { lowest } from "../lib/limits.ts";
import { memoryMibOf } from "../lib/processes.ts";

/** A line of diff.bench.ts: name, rate, unit, seconds, CPU seconds. */
const linePattern = /^(.*?) +([\d.]+) (MiB|M records)\/s +([\d.]+) s, ([\d.]+) s CPU$/;

/** What a measurement of the pipeline is bound by. Files are in the page cache; only apply syncs. */
function besideOf(name: string, { limits }: Bench): Beside | undefined {
  if (name.startsWith("convert")) {
    if (name.includes("snappy")) return lowest(limits, "encode", "cacheWrite");
    return name.includes("none") ? lowest(limits, "checksum", "cacheWrite") : limits.cacheWrite;
  }
  if (name.startsWith("merge") && name.includes("recompressed")) {
    return lowest(limits, "cacheRead", "decode", "encode", "cacheWrite");
  }
  if (name.startsWith("merge") && name.includes("to a file")) return lowest(limits, "cacheRead", "cacheWrite");
  if (name.startsWith("merge")) return lowest(limits, "cacheRead", "checksum");
  if (name.startsWith("apply")) return lowest(limits, "cacheRead", "decode", "diskWrite");
  if (name.startsWith("read")) return lowest(limits, "cacheRead", "decode");
  return undefined;
}

function rowOf(line: string, bench: Bench): Row | undefined {
  const found = linePattern.exec(line);
  if (found === null) return undefined;
  const [, name = "", rateText, unit, secondsText, cpuText] = found;
  const [rate, seconds, cpuS] = [rateText, secondsText, cpuText].map(Number) as [number, number, number];
  const base = { path: `diff: ${name}`, rate, runs: 1 } as const;
  if (unit !== "MiB") return { ...base, unit: "M records/s" };
  const beside = besideOf(name, bench);
  const cpu = seconds > 0 ? { cpuSPerGib: cpuS / ((rate * seconds) / 1024) } : {};
  return { ...base, unit: "MiB/s", ...(beside === undefined ? {} : { beside }), ...cpu };
}

export const diff: Path = {
  name: "diff",
  summary: "conversion, merge, apply and virtual reading in one process",
  async run(bench) {
    const script = join(import.meta.dir, "..", "diff.bench.ts");
    const child = Bun.spawn([process.execPath, script], {
      stdin: "ignore",
      stdout: "pipe",
      stderr: "inherit",
      env: { ...process.env, WALB_BENCH_DIR: bench.directory },
    });
    let peakMib = 0;
    let text = "";
    for await (const chunk of child.stdout) {
      text += new TextDecoder().decode(chunk);
      if (child.exitCode === null) peakMib = Math.max(peakMib, memoryMibOf(child.pid, "VmHWM"));
    }
    const code = await child.exited;
    if (code !== 0) throw new Error(`diff.bench.ts ended with ${code}`);
    const rows = text.split("\n").flatMap((line) => rowOf(line, bench) ?? []);
    if (rows.length === 0) throw new Error("diff.bench.ts printed no rates");
    return rows.map((row, i) => (i === rows.length - 1 ? { ...row, peakMib: { "whole bench": peakMib } } : row));
  },
};
