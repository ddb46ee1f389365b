/** @module A hash backup from end to end: both sides read and hash the whole volume, a hundredth of it differs. */
import { type Bench, gib, median, mib, type Path, type Row, timed } from "../lib/bench.ts";
import { makeFilledVolume, pidsOf, targetOf, withFleet } from "../lib/fleet.ts";
import { lowest } from "../lib/limits.ts";
import { writeLoad } from "../lib/load.ts";
import { largest, watch } from "../lib/processes.ts";

const volume = "hash0";

async function run(bench: Bench): Promise<Row[]> {
  const sizeBytes = bench.isQuick ? gib / 4 : gib;
  return withFleet(async (fleet) => {
    await makeFilledVolume(fleet, volume, sizeBytes, 2 * sizeBytes);
    await fleet.must("backup", volume, "--full", "--wait");
    const results = [];
    for (let i = 0; i < bench.runs; i++) {
      await fleet.must("stop", volume, "--server", "s0");
      const load = { order: "random", blockBytes: 64 * 1024, depth: 4, rangeBytes: sizeBytes } as const;
      await writeLoad(targetOf(fleet, volume), { ...load, totalBytes: sizeBytes / 100, seed: i + 2 }, fleet.directory);
      await fleet.must("reset", volume, "--server", "s0", "--yes");
      const watched = watch(pidsOf(fleet));
      const { seconds, value } = await timed(() => fleet.must("backup", volume, "--hash", "--wait", "--json"));
      const usage = watched.end();
      const { elapsedMs, sentBytes } = JSON.parse(value) as { elapsedMs: number; sentBytes: number };
      results.push({ restorableS: seconds, transferS: elapsedMs / 1000, sentBytes, usage });
    }
    const rates = results.map(({ transferS }) => sizeBytes / mib / transferS);
    const restorableS = median(results.map((result) => result.restorableS)).toFixed(1);
    const sentMib = Math.round(median(results.map(({ sentBytes }) => sentBytes)) / mib);
    return [
      {
        path: `hash backup: ${sizeBytes / mib} MiB, both sides on this machine`,
        rate: median(rates),
        unit: "MiB/s",
        beside: lowest(bench.limits, "diskRead"),
        cpuSPerGib: median(results.map(({ usage }) => usage.cpuS / (sizeBytes / gib))),
        peakMib: largest(results.map(({ usage }) => usage.peakMib)),
        runs: rates.length,
        rates,
        note: `${sentMib} MiB sent; restorable ${restorableS} s after the command`,
      },
    ];
  });
}

export const hashBackup: Path = { name: "hash-backup", summary: "a hash backup until it can be restored", run };
