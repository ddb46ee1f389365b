/** @module The source side of full and hash backups beside plain reads of the same data, turn by turn. */
import { join } from "node:path";
import { type Bench, gib, median, mib, type Path, type Row } from "../lib/bench.ts";
import type { Measured } from "../lib/inside.ts";
import { lowest } from "../lib/limits.ts";
import { runProgram } from "../lib/program.ts";

interface Answer {
  readonly read: Measured[];
  readonly compare: Measured[];
  readonly encode: Measured[];
  readonly peakMib: number;
  readonly isDirect: boolean;
}

async function run(bench: Bench): Promise<Row[]> {
  const sizeBytes = bench.isQuick ? gib / 4 : 2 * gib;
  const parameters = { path: join(bench.directory, "scan"), sizeBytes, runs: Math.max(3, bench.runs) };
  const { read, compare, encode, peakMib, isDirect } = await runProgram<Answer>("scan", parameters);
  const ratesOf = (all: readonly Measured[]): number[] => all.map(({ seconds }) => sizeBytes / mib / seconds);
  const cpuOf = (all: readonly Measured[]): number => median(all.map(({ cpuS }) => cpuS / (sizeBytes / gib)));
  const raw = { name: `reads of the same file, ${isDirect ? "O_DIRECT" : "buffered"}`, rate: median(ratesOf(read)) };
  const encodeLimit = lowest(bench.limits, "encode");
  const row = (path: string, all: readonly Measured[], note: string): Row => ({
    path,
    rate: median(ratesOf(all)),
    unit: "MiB/s",
    beside: raw,
    cpuSPerGib: cpuOf(all),
    peakMib: { storage: peakMib },
    runs: all.length,
    rates: ratesOf(all),
    note,
  });
  return [
    row("hash backup, source side: read, hash, compare", compare, "nothing differs; the hashes are there"),
    row(
      "full backup, source side: read, compress",
      encode,
      `beside ${encodeLimit.rate.toFixed(0)} MiB/s of snappy alone`,
    ),
  ];
}

export const scanning: Path = { name: "scan", summary: "what a storage reads, hashes and compresses for backups", run };
