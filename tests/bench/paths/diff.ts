/** @module Conversion, merge, apply and virtual reading of diffs: the rates of diff.bench.ts, each of one run. */
import { join } from "node:path";
import type { Bench, Beside, Path, Row } from "../lib/bench.ts";
import { lowest } from "../lib/limits.ts";
import { memoryMibOf } from "../lib/processes.ts";

/** A line of diff.bench.ts: name, rate, unit, seconds, CPU seconds. */
const linePattern = /^(.*?) +([\d.]+) (MiB|M records)\/s +([\d.]+) s, ([\d.]+) s CPU$/;

/** What a measurement of the pipeline is bound by. */
function besideOf(name: string, { limits }: Bench): Beside | undefined {
  if (name.startsWith("convert")) {
    return name.includes("snappy") ? lowest(limits, "encode", "diskWrite") : lowest(limits, "checksum", "diskWrite");
  }
  if (name.startsWith("merge") && name.includes("to a file")) return lowest(limits, "diskRead", "diskWrite");
  if (name.startsWith("merge")) return lowest(limits, "diskRead", "checksum");
  if (name.startsWith("apply")) return lowest(limits, "diskRead", "decode", "diskWrite");
  if (name.startsWith("read")) return lowest(limits, "diskRead", "decode");
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
