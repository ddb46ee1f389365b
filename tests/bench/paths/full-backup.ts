/** @module A full backup from end to end: device, storage, archive; until the volume can be restored. */
import { type Bench, gib, median, mib, type Path, type Row, timed } from "../lib/bench.ts";
import { makeFilledVolume, pidsOf, withFleet } from "../lib/fleet.ts";
import { lowest, shareOfWriting } from "../lib/limits.ts";
import { largest, watch } from "../lib/processes.ts";

async function run(bench: Bench): Promise<Row[]> {
  const sizeBytes = bench.isQuick ? gib / 4 : gib;
  return withFleet(async (fleet) => {
    const results = [];
    for (let i = 0; i < bench.runs; i++) {
      const volume = `full${i}`;
      await makeFilledVolume(fleet, volume, sizeBytes, 2 * sizeBytes);
      const watched = watch(pidsOf(fleet));
      const { seconds, value } = await timed(() => fleet.must("backup", volume, "--full", "--wait", "--json"));
      const usage = watched.end();
      const { elapsedMs, sentBytes } = JSON.parse(value) as { elapsedMs: number; sentBytes: number };
      results.push({ restorableS: seconds, transferS: elapsedMs / 1000, sentBytes, usage });
    }
    const rates = results.map(({ transferS }) => sizeBytes / mib / transferS);
    const restorableS = median(results.map((result) => result.restorableS)).toFixed(1);
    const sentMib = Math.round(median(results.map(({ sentBytes }) => sentBytes)) / mib);
    return [
      {
        path: `full backup: ${sizeBytes / mib} MiB`,
        rate: median(rates),
        unit: "MiB/s",
        beside: lowest(bench.limits, "diskCopy", "encode", "tcp", "decode"),
        cpuSPerGib: median(results.map(({ usage }) => usage.cpuS / (sizeBytes / gib))),
        peakMib: largest(results.map(({ usage }) => usage.peakMib)),
        runs: rates.length,
        rates,
        note: `${sentMib} MiB sent; restorable ${restorableS} s after the command; ${shareOfWriting(median(rates), bench.limits)}`,
      },
    ];
  });
}

export const fullBackup: Path = { name: "full-backup", summary: "a full backup until it can be restored", run };
