/** @module What a benchmark path gets and what it answers. */
import type { Limits } from "./limits.ts";

/** A rate to compare with. */
export interface Beside {
  readonly name: string;
  readonly rate: number;
}

/** One line of the table. Rates are in `unit`; the one beside is in the same unit. */
export interface Row {
  readonly path: string;
  readonly rate: number;
  readonly unit: "MiB/s" | "IOPS" | "M records/s" | "ms";
  readonly beside?: Beside;
  /** CPU seconds of all processes of walb for each GiB moved. */
  readonly cpuSPerGib?: number;
  /** Largest resident set in MiB, by process. */
  readonly peakMib?: Readonly<Record<string, number>>;
  /** How many runs the rate is the median of. */
  readonly runs: number;
  /** The rates of all runs. */
  readonly rates?: readonly number[];
  /** Printed below the table. */
  readonly note?: string;
}

/** What every path gets. */
export interface Bench {
  /** On a real file system; removed in the end. */
  readonly directory: string;
  readonly isQuick: boolean;
  /** Runs of which the median is taken. */
  readonly runs: number;
  /** The machine's own, measured in this run. */
  readonly limits: Limits;
}

/** A group of measurements. */
export interface Path {
  /** For `--only`. */
  readonly name: string;
  readonly summary: string;
  run(bench: Bench): Promise<Row[]>;
}

export const mib = 1024 * 1024;
export const gib = 1024 * mib;

export function median(values: readonly number[]): number {
  if (values.length === 0) throw new Error("the median of nothing");
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** Seconds that `work` takes, with its answer. */
export async function timed<T>(work: () => Promise<T>): Promise<{ readonly seconds: number; readonly value: T }> {
  const startMs = performance.now();
  const value = await work();
  return { seconds: (performance.now() - startMs) / 1000, value };
}
