/** @module `npm run bench`: the rates of walb's data paths beside the limits of the machine, measured in the same run. */
import { writeFileSync } from "node:fs";
import type { Path, Row } from "./lib/bench.ts";
import { protectFleets } from "./lib/fleet.ts";
import { measureLimits } from "./lib/limits.ts";
import { describeMachine, machineLine } from "./lib/machine.ts";
import { parseOptions } from "./lib/options.ts";
import { renderReport } from "./lib/report.ts";
import { withWorkplace } from "./lib/workplace.ts";
import { device } from "./paths/device.ts";
import { diff } from "./paths/diff.ts";
import { files } from "./paths/files.ts";
import { fullBackup } from "./paths/full-backup.ts";
import { hashBackup } from "./paths/hash-backup.ts";
import { pace } from "./paths/pace.ts";
import { points } from "./paths/points.ts";
import { reception } from "./paths/reception.ts";
import { redo } from "./paths/redo.ts";
import { replication } from "./paths/replication.ts";
import { restoring } from "./paths/restore.ts";
import { scanning } from "./paths/scan.ts";
import { shipping } from "./paths/shipping.ts";

/** Left out of a quick run that does not ask for them. */
const isLong = ({ name }: Path): boolean => ["diff", "files", "replication"].includes(name);

const paths: readonly Path[] = [
  device,
  redo,
  fullBackup,
  hashBackup,
  scanning,
  shipping,
  pace,
  reception,
  restoring,
  points,
  replication,
  files,
  diff,
];

function help(): string {
  return [
    "usage: npm run bench -- [--quick] [--only NAME[,NAME]] [--cluster-key] [--json FILE]",
    "",
    "  --quick      less data, one run each, under a minute in all; without replication, files and diff",
    "  --only NAME  only these paths; the limits are always measured",
    "  --cluster-key  connections of the daemons are TLS with a key",
    "  --json FILE  also writes everything to a file",
    "",
    "Works below WALB_BENCH_DIR, by default the temporary directory, and leaves nothing behind. WALB_BENCH_SHIPPING_S is",
    "how many seconds the path pace takes.",
    "",
    ...paths.map(({ name, summary }) => `  ${name.padEnd(12)} ${summary}`),
    "",
  ].join("\n");
}

async function main(words: readonly string[]): Promise<number> {
  const options = parseOptions(
    words,
    paths.map(({ name }) => name),
  );
  if (options === "help") {
    process.stdout.write(help());
    return 0;
  }
  const { isQuick, only, hasClusterKey, jsonPath } = options;
  if (hasClusterKey) protectFleets();
  const chosen = paths.filter((path) => (only.length === 0 ? !(isQuick && isLong(path)) : only.includes(path.name)));
  return withWorkplace(async (directory) => {
    const machine = describeMachine(directory);
    console.log(machineLine(machine));
    const startMs = performance.now();
    const say = (text: string): void => {
      process.stderr.write(`bench: ${((performance.now() - startMs) / 1000).toFixed(0).padStart(3)} s  ${text}\n`);
    };
    const runs = isQuick ? 1 : 3;
    say("the limits of the machine");
    const { limits, rows: limitRows } = await measureLimits(directory, isQuick, 3);
    const rows: Row[] = [...limitRows];
    const failures: { path: string; error: string }[] = [];
    for (const path of chosen) {
      say(`${path.name}: ${path.summary}`);
      try {
        rows.push(...(await path.run({ directory, isQuick, runs, limits })));
      } catch (error) {
        // One path that fails does not hide what the others are like, but the run has failed.
        failures.push({ path: path.name, error: error instanceof Error ? (error.stack ?? error.message) : `${error}` });
        say(`${path.name} FAILED`);
      }
    }
    say("done");
    console.log(`\n${renderReport(rows)}`);
    for (const { path, error } of failures) console.error(`${path} failed: ${error}`);
    if (jsonPath !== undefined) {
      const at = new Date().toISOString();
      writeFileSync(jsonPath, `${JSON.stringify({ at, machine, isQuick, rows, failures }, undefined, 2)}\n`);
    }
    return failures.length === 0 ? 0 : 1;
  });
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  console.error(`bench: ${error instanceof Error ? error.message : error}`);
  process.exitCode = 1;
}
