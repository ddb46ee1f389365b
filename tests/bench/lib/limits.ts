/** @module The machine's own limits, measured in the same run: what the rates of walb stand beside. */
import { join } from "node:path";
import { type Beside, gib, median, mib, type Row } from "./bench.ts";
import type { Measured } from "./inside.ts";
import { runProgram, startProgram } from "./program.ts";

/** Rates in MiB/s. */
export interface Limits {
  /** Sequential, O_DIRECT, into a new file, synced. */
  readonly diskWrite: Beside;
  /** The same into allocated blocks. */
  readonly diskOverwrite: Beside;
  readonly diskRead: Beside;
  /** From a file into a new one on the same disk, O_DIRECT, synced; bytes copied. */
  readonly diskCopy: Beside;
  /** Into new pages of the page cache, not synced. */
  readonly cacheWrite: Beside;
  /** The same with the fsync behind it. */
  readonly syncedWrite: Beside;
  readonly cacheRead: Beside;
  /** Loopback TCP between two processes. */
  readonly tcp: Beside;
  /** Snappy in the job pool. */
  readonly encode: Beside;
  readonly decode: Beside;
  readonly checksum: Beside;
}
export type LimitName = keyof Limits;

/** The lowest of the limits that a path is bound by. */
export function lowest(limits: Limits, ...names: readonly LimitName[]): Beside {
  return names.map((name) => limits[name]).reduce((low, limit) => (limit.rate < low.rate ? limit : low));
}

/** For notes: what a rate is of the disk's write limit, in both ways of writing, whatever it had to read meanwhile. */
export function shareOfWriting(rate: number, { diskWrite, syncedWrite }: Limits): string {
  const share = (limit: Beside): string => (rate / limit.rate).toFixed(2);
  return `${share(diskWrite)} of the disk's write limit (${share(syncedWrite)} buffered with fsync)`;
}

/** Measures all limits. */
export async function measureLimits(
  directory: string,
  isQuick: boolean,
  runs: number,
): Promise<{ readonly limits: Limits; readonly rows: Row[] }> {
  const rows: Row[] = [];
  const add = (name: string, bytes: number, all: readonly Measured[], peakMib: number, note?: string): Beside => {
    const rates = all.map(({ seconds }) => bytes / mib / seconds);
    const cpuSPerGib = median(all.map(({ cpuS }) => cpuS / (bytes / gib)));
    const rate = median(rates);
    const row = { path: `limit: ${name}`, rate, unit: "MiB/s", cpuSPerGib, peakMib: { limit: peakMib } } as const;
    rows.push({ ...row, runs: all.length, rates, ...(note === undefined ? {} : { note }) });
    return { name, rate };
  };
  type Program<Name extends string> = Record<Name, Measured[]> & { readonly peakMib: number };

  const diskBytes = (isQuick ? 256 : 1024) * mib;
  const disk = await runProgram<
    Program<"read" | "write" | "overwrite" | "copy" | "cacheWrite" | "syncedWrite" | "cacheRead"> & {
      isDirect: boolean;
    }
  >("disk", {
    path: join(directory, "limit"),
    sizeBytes: diskBytes,
    runs,
  });
  const kind = disk.isDirect ? "O_DIRECT" : "buffered (no O_DIRECT here)";
  const diskWrite = add(`disk write, ${kind}`, diskBytes, disk.write, disk.peakMib);
  const diskOverwrite = add(`disk overwrite, ${kind}`, diskBytes, disk.overwrite, disk.peakMib);
  const diskRead = add(`disk read, ${kind}`, diskBytes, disk.read, disk.peakMib);
  const diskCopy = add(`disk copy, ${kind}`, diskBytes, disk.copy, disk.peakMib);
  const syncedWrite = add("disk write, buffered, then fsync", diskBytes, disk.syncedWrite, disk.peakMib);
  const cacheWrite = add("page cache write", diskBytes, disk.cacheWrite, disk.peakMib);
  const cacheRead = add("page cache read", diskBytes, disk.cacheRead, disk.peakMib);

  const tcpBytes = (isQuick ? 512 : 2048) * mib;
  const tcpRuns: (Measured & { readonly peakMib: number })[] = [];
  for (let run = 0; run < runs; run++) tcpRuns.push(await tcpRun(tcpBytes));
  const tcp = add("loopback TCP", tcpBytes, tcpRuns, Math.max(...tcpRuns.map(({ peakMib }) => peakMib)));

  const codecBytes = (isQuick ? 512 : 2048) * mib;
  const codec = await runProgram<Program<"encode" | "decode" | "checksum"> & { ratio: number }>("codec", {
    sizeBytes: codecBytes,
    runs,
  });
  const ratio = `the data compresses to ${Math.round(100 * codec.ratio)} %`;
  const encode = add("snappy encode", codecBytes, codec.encode, codec.peakMib, ratio);
  const decode = add("snappy decode", codecBytes, codec.decode, codec.peakMib);
  const checksum = add("walb checksum", codecBytes, codec.checksum, codec.peakMib);
  const disks = { diskWrite, diskOverwrite, diskRead, diskCopy, syncedWrite, cacheWrite, cacheRead };
  return { limits: { ...disks, tcp, encode, decode, checksum }, rows };
}

async function tcpRun(sizeBytes: number): Promise<Measured & { readonly peakMib: number }> {
  const sink = await startProgram("tcp-sink", {});
  const { port } = sink.first as { port: number };
  const source = await runProgram<Measured & { peakMib: number }>("tcp-source", { port, sizeBytes });
  const { bytes, seconds, cpuS, peakMib } = (await sink.last) as Measured & { bytes: number; peakMib: number };
  if (bytes !== sizeBytes) throw new Error(`${bytes} of ${sizeBytes} bytes came through the loopback connection`);
  return { seconds, cpuS: cpuS + source.cpuS, peakMib: Math.max(peakMib, source.peakMib) };
}
