/**
 * @module Runs many seeds of the whole-system simulation, and weeks of archives that are kept identical:
 * `npm run sim -- --seeds 1000 --weeks 20 --from 1`.
 */
import { parseArgs } from "node:util";
import { createLogger } from "../../src/control/logger.ts";
import type { Platform } from "../../src/platform/platform.ts";
import { SimulationFailure, simulate } from "../../src/sim/system/simulate.ts";
import { simulateReplicas } from "./replica-week.ts";

const { values } = parseArgs({
  options: {
    seeds: { type: "string", default: "100" },
    from: { type: "string", default: "1" },
    /** Seeds of the week of three archives that replicate; a few seconds each. */
    weeks: { type: "string", default: "4" },
    /** Print every event and every line of the daemons' logs. */
    trace: { type: "boolean", default: false },
    /** Run each seed twice and compare. */
    twice: { type: "boolean", default: false },
    /** Lines of the trace after a failure. */
    lines: { type: "string", default: "40" },
  },
});
const from = Number(values.from);
const seeds = Number(values.seeds);
const weeks = Number(values.weeks);
const daysPerWeek = 7;
let unhandled: unknown;
process.on("unhandledRejection", (error) => {
  unhandled ??= error;
});
const options = values.trace
  ? {
      onTrace: (line: string) => console.log(line),
      logOf: (platform: Platform) =>
        createLogger({
          format: "human",
          level: "debug",
          clock: platform.clock,
          write: (line: string) => console.log(platform.hostName, line.trimEnd()),
        }),
    }
  : {};
let failed = 0;
for (let seed = from; seed < from + seeds; seed++) {
  const startMs = performance.now();
  try {
    const report = await simulate(seed, options);
    if (values.twice) {
      const again = await simulate(seed, options);
      if (again.traceHash !== report.traceHash) throw new Error(`seed ${seed} does not run the same twice`);
    }
    if (unhandled !== undefined) throw new Error(`seed ${seed}: a rejection nobody handles: ${String(unhandled)}`);
    const { faults, ...counts } = report;
    const text = Object.entries({
      ...counts,
      virtualMs: Math.round(counts.virtualMs),
      ms: Math.round(performance.now() - startMs),
    });
    const kinds = Object.entries(faults).map(([kind, count]) => `${kind}:${count}`);
    console.log(`ok ${text.map(([name, value]) => `${name}=${value}`).join(" ")} [${kinds.join(" ")}]`);
  } catch (error) {
    failed += 1;
    unhandled = undefined;
    console.log(`FAILED ${error instanceof Error ? error.message : String(error)}`);
    if (error instanceof SimulationFailure) {
      console.log(`  site ${error.site}`);
      if (error.reason instanceof Error) console.log(`  ${error.reason.stack?.split("\n").slice(0, 6).join("\n  ")}`);
      for (const line of error.trace.slice(-Number(values.lines))) console.log(`  ${line}`);
    }
  }
}
for (let seed = from; seed < from + weeks; seed++) {
  const startMs = performance.now();
  try {
    const { compared, virtualMs, events } = await simulateReplicas(seed, daysPerWeek);
    if (unhandled !== undefined) throw new Error(`a rejection nobody handles: ${String(unhandled)}`);
    const ms = Math.round(performance.now() - startMs);
    console.log(
      `ok week seed=${seed} compared=${compared} events=${events} virtualMs=${Math.round(virtualMs)} ms=${ms}`,
    );
  } catch (error) {
    failed += 1;
    unhandled = undefined;
    console.log(`FAILED week of seed ${seed}: ${error instanceof Error ? error.stack : String(error)}`);
  }
}
console.log(`${seeds + weeks - failed} passed, ${failed} failed`);
process.exit(failed === 0 ? 0 : 1);
