/** @module Start of the device after kill -9: what was logged since the last checkpoint is written to the data store. */
import { rmSync } from "node:fs";
import { join } from "node:path";
import { readSuperblock } from "../../../src/log/format.ts";
import { closePlatform, createPlatform } from "../../../src/platform/real/index.ts";
import { gib, median, mib, type Path, type Row } from "../lib/bench.ts";
import { checkpoint, createDevice, startDevice } from "../lib/device.ts";
import { lowest } from "../lib/limits.ts";
import { fill, writeLoad } from "../lib/load.ts";
import { cpuSecondsOf, largest, memoryMibOf } from "../lib/processes.ts";

/** Where the log was known to be written, in bytes. */
async function writtenBytes(logPath: string): Promise<number> {
  const platform = createPlatform({ memoryBudgetBytes: 8 * mib });
  try {
    const file = await platform.disk.open(logPath, { mode: "read" });
    const { writtenLsid, pbsBytes } = await readSuperblock(file, platform.memory);
    await file.close();
    return writtenLsid * pbsBytes;
  } finally {
    await closePlatform(platform);
  }
}

const names = { small: "4 KiB random", large: "64 KiB random" } as const;

async function runCase(
  directory: string,
  kind: keyof typeof names,
  isQuick: boolean,
): Promise<{ bytes: number; seconds: number; cpuS: number; peakMib: number }> {
  const sizeBytes = isQuick ? gib / 4 : gib;
  const server = await startDevice(directory);
  try {
    await createDevice(directory, "vol0", sizeBytes, 4 * sizeBytes);
    await writeLoad(server.target("vol0"), fill(sizeBytes, sizeBytes), directory);
    await checkpoint(directory, "vol0");
    await writeLoad(
      server.target("vol0"),
      {
        order: "random",
        blockBytes: (kind === "small" ? 4 : 64) * 1024,
        depth: 32,
        rangeBytes: sizeBytes,
        totalBytes: sizeBytes,
        secondsMax: isQuick ? 2 : 5,
      },
      directory,
    );
  } finally {
    await server.end("SIGKILL");
  }
  const log = join(directory, "vol0.log");
  const before = await writtenBytes(log);
  const startMs = performance.now();
  const again = await startDevice(directory);
  const seconds = (performance.now() - startMs) / 1000;
  const used = { cpuS: cpuSecondsOf(again.pid), peakMib: memoryMibOf(again.pid, "VmHWM") };
  await again.end();
  const bytes = (await writtenBytes(log)) - before;
  rmSync(directory, { recursive: true });
  if (bytes <= 0) throw new Error("there was nothing to redo");
  return { ...used, seconds, bytes };
}

export const redo: Path = {
  name: "redo",
  summary: "start after kill -9: the log since the last checkpoint",
  async run(bench) {
    const rows: Row[] = [];
    for (const kind of ["small", "large"] as const) {
      const results = [];
      for (let run = 0; run < bench.runs; run++) {
        results.push(await runCase(join(bench.directory, `redo-${kind}-${run}`), kind, bench.isQuick));
      }
      const rates = results.map(({ bytes, seconds }) => bytes / mib / seconds);
      rows.push({
        path: `redo: ${names[kind]} writes`,
        rate: median(rates),
        unit: "MiB/s",
        beside: lowest(bench.limits, "diskRead", "diskWrite", "checksum"),
        cpuSPerGib: median(results.map(({ cpuS, bytes }) => cpuS / (bytes / gib))),
        peakMib: largest(results.map(({ peakMib }) => ({ device: peakMib }))),
        runs: rates.length,
        rates,
        note: `${Math.round(median(results.map(({ bytes }) => bytes)) / mib)} MiB of log in ${median(results.map(({ seconds }) => seconds)).toFixed(2)} s`,
      });
    }
    return rows;
  },
};
