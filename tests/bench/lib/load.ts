/** @module Write load on an NBD export: fio where it is installed with its NBD engine, else our own client. */
import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { repeatingPattern } from "./data.ts";
import { runProgram } from "./program.ts";

/** An export on a unix socket. */
export interface NbdTarget {
  readonly socketPath: string;
  readonly exportName: string;
}

/** What is written. It ends when `totalBytes` are written or `secondsMax` are over; with a flush. */
export interface Load {
  readonly order: "random" | "sequential";
  readonly blockBytes: number;
  readonly depth: number;
  /** Part of the volume from its begin that is written. */
  readonly rangeBytes: number;
  readonly totalBytes: number;
  readonly secondsMax?: number;
  /** Not more than this; without it, as fast as can be. */
  readonly rateBytesPerS?: number;
  /** A flush after so many writes. */
  readonly flushEvery?: number;
  readonly seed?: number;
}

/** Writes a volume from its begin, once or more. */
export function fill(totalBytes: number, rangeBytes: number): Load {
  return { order: "sequential", blockBytes: 1 << 20, depth: 8, rangeBytes, totalBytes };
}

export interface LoadResult {
  readonly bytes: number;
  /** The flush at the end included. */
  readonly seconds: number;
  /** 99th percentile of a write, microseconds. */
  readonly p99Us: number;
}

let fioPath: string | undefined | null;

/** fio when it has the NBD engine. */
function findFio(): string | undefined {
  if (fioPath === undefined) {
    const path = Bun.which("fio");
    const engines = path === null ? "" : Bun.spawnSync([path, "--enghelp"]).stdout.toString();
    fioPath = /^\s*nbd$/m.test(engines) ? path : null;
  }
  return fioPath ?? undefined;
}

/** What writes, for the heading. */
export function loadTool(): string {
  return findFio() === undefined ? "our NBD client" : "fio";
}

/** Writes. @throws when a write fails. */
export async function writeLoad(target: NbdTarget, load: Load, directory: string): Promise<LoadResult> {
  const fio = findFio();
  return fio === undefined ? runProgram("nbd-load", { ...target, ...load }) : runFio(fio, target, load, directory);
}

async function runFio(fio: string, target: NbdTarget, load: Load, directory: string): Promise<LoadResult> {
  const output = join(directory, "fio.json");
  const uri = `nbd+unix:///${target.exportName}?socket=${encodeURIComponent(target.socketPath)}`;
  const options: Record<string, string | number | undefined> = {
    ioengine: "nbd",
    uri,
    rw: load.order === "random" ? "randwrite" : "write",
    bs: load.blockBytes,
    iodepth: load.depth,
    size: load.rangeBytes,
    io_size: load.totalBytes,
    runtime: load.secondsMax,
    fsync: load.flushEvery,
    rate: load.rateBytesPerS,
    randseed: load.seed ?? 1,
    end_fsync: 1,
    norandommap: 1,
    thread: 1,
    buffer_compress_percentage: 50,
    buffer_compress_chunk: 512,
    buffer_pattern: repeatingPattern,
    "output-format": "json",
    output,
  };
  const words = Object.entries(options).flatMap(([name, value]) => (value === undefined ? [] : [`--${name}=${value}`]));
  const child = Bun.spawn([fio, "--name=load", ...words], { stdin: "ignore", stdout: "ignore", stderr: "pipe" });
  const [errors, code] = await Promise.all([new Response(child.stderr).text(), child.exited]);
  if (code !== 0) throw new Error(`fio ended with ${code}: ${errors}`);
  const text = readFileSync(output, "utf8");
  rmSync(output);
  const { jobs } = JSON.parse(text.slice(text.indexOf("{"))) as FioReport;
  const job = jobs[0];
  if (job === undefined || job.error !== 0) throw new Error(`fio failed with error ${job?.error}: ${errors}`);
  const { io_bytes: bytes, clat_ns: latency } = job.write;
  return { bytes, seconds: job.job_runtime / 1000, p99Us: (latency.percentile?.["99.000000"] ?? 0) / 1000 };
}

interface FioReport {
  readonly jobs: readonly {
    readonly error: number;
    /** Milliseconds. */
    readonly job_runtime: number;
    readonly write: {
      readonly io_bytes: number;
      readonly clat_ns: { readonly percentile?: Readonly<Record<string, number>> };
    };
  }[];
}
