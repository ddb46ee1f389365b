/** @module What many diffs on a volume cost an archive: start, list of points, plan of a restore, restore. */
import { rmSync } from "node:fs";
import { join } from "node:path";
import { type Bench, median, type Path, type Row } from "../lib/bench.ts";
import type { Measured } from "../lib/inside.ts";
import { runProgram } from "../lib/program.ts";

/** What the program answers. */
type Answer = Readonly<Record<"start" | "list" | "status" | "plan" | "restore", Measured>> & {
  readonly peakMib: number;
};

const steps = {
  start: "start",
  list: "list of points",
  status: "status, the list known",
  plan: "plan of a restore",
  restore: "restore of 32 MiB",
} as const;

async function rowsOf(bench: Bench, diffCount: number): Promise<Row[]> {
  const directory = join(bench.directory, `points-${diffCount}`);
  await runProgram("archive-points", { directory, diffCount, step: "make" });
  // The first start builds the database from the files.
  await runProgram("archive-points", { directory, diffCount, step: "use" });
  const answers: Answer[] = [];
  for (let i = 0; i < bench.runs; i++) {
    answers.push(await runProgram<Answer>("archive-points", { directory, diffCount, step: "use" }));
  }
  rmSync(directory, { recursive: true });
  rmSync(`${directory}.img`);
  return Object.entries(steps).map(([step, name]) => {
    const all = answers.map((answer) => answer[step as keyof typeof steps]);
    const rates = all.map(({ seconds }) => seconds * 1000);
    return {
      path: `archive, ${diffCount} diffs: ${name}`,
      rate: median(rates),
      unit: "ms",
      peakMib: { archive: Math.max(...answers.map(({ peakMib }) => peakMib)) },
      runs: all.length,
      rates,
      note: `${median(all.map(({ cpuS }) => cpuS)).toFixed(2)} s of CPU`,
    };
  });
}

export const points: Path = {
  name: "points",
  summary: "an archive with 100, 1,000 and 10,000 diffs on a volume",
  async run(bench) {
    const rows: Row[] = [];
    for (const diffCount of [100, 1_000, ...(bench.isQuick ? [] : [10_000])])
      rows.push(...(await rowsOf(bench, diffCount)));
    return rows;
  },
};
