/** @module Log shipping: a volume is written without a pause while its log goes to the proxy and the archive. */

import { eventually, type Fleet } from "../../helpers/fleet.ts";
import { type Bench, gib, mib, type Path, type Row } from "../lib/bench.ts";
import { arrived, clientsOf, pidsOf, targetOf, withFleet } from "../lib/fleet.ts";
import { lowest } from "../lib/limits.ts";
import { writeLoad } from "../lib/load.ts";
import { memoryMibOf, watch } from "../lib/processes.ts";

const volume = "ship0";
const sampleMs = 250;
const shipMs = 300_000;

/** Resident memory of every daemon while `isOn`. */
async function sampleMemory(fleet: Fleet, isOn: () => boolean): Promise<Record<string, number>[]> {
  const samples: Record<string, number>[] = [];
  while (isOn()) {
    const pids = Object.entries(pidsOf(fleet));
    samples.push(Object.fromEntries(pids.map(([role, pid]) => [role, memoryMibOf(pid, "VmRSS")])));
    await Bun.sleep(sampleMs);
  }
  return samples;
}

/** How memory went: after a quarter of the time, after three, by role. */
function memoryCourse(samples: readonly Readonly<Record<string, number>>[]): string {
  const early = samples[Math.floor(samples.length / 4)]!;
  const late = samples[Math.floor((3 * samples.length) / 4)]!;
  return Object.keys(early)
    .map((role) => `${role} ${early[role]!.toFixed(0)} → ${late[role]!.toFixed(0)}`)
    .join(", ");
}

async function run(bench: Bench): Promise<Row[]> {
  const totalBytes = (bench.isQuick ? 0.25 : 4) * gib;
  const rangeBytes = gib;
  return withFleet(async (fleet) => {
    const { storage } = clientsOf(fleet);
    await fleet.makeVolume(volume, `${rangeBytes}`, `${totalBytes + gib}`);
    await fleet.must("backup", volume, "--wait");
    let isOn = true;
    const sampling = sampleMemory(fleet, () => isOn);
    const watched = watch(pidsOf(fleet));
    const startMs = performance.now();
    const sinceStart = (): number => (performance.now() - startMs) / 1000;
    const load = { order: "random", blockBytes: 64 * 1024, depth: 16, rangeBytes, totalBytes } as const;
    const written = await writeLoad(targetOf(fleet, volume), load, fleet.directory);
    const writtenS = sinceStart();
    const { gid } = await storage.call("snapshot", { volume });
    const storageDone = eventually("the storage's log at the proxy", shipMs, async () => {
      const status = (await storage.call("status", { volume })).volumes[0];
      if (status?.isOverflow === true) throw new Error("the log overflowed: it was written faster than shipped");
      return (status?.doneGid ?? -1n) >= gid ? sinceStart() : undefined;
    });
    const archiveDone = arrived(fleet, volume, gid).then(sinceStart);
    const [shippedS, arrivedS] = await Promise.all([storageDone, archiveDone]);
    const usage = watched.end();
    isOn = false;
    const samples = await sampling;
    const { bytes } = written;
    const { limits } = bench;
    const base = { unit: "MiB/s", runs: 1 } as const;
    return [
      {
        ...base,
        path: "shipping: 64 KiB random writes meanwhile",
        rate: bytes / mib / written.seconds,
        beside: limits.diskWrite,
        note: `p99 ${Math.round(written.p99Us)} µs`,
      },
      {
        ...base,
        path: "shipping: device → storage → proxy",
        rate: bytes / mib / shippedS,
        beside: lowest(limits, "diskRead", "tcp", "encode", "diskWrite"),
        note: `caught up ${(shippedS - writtenS).toFixed(1)} s after the last of ${bytes / mib} MiB`,
      },
      {
        ...base,
        path: "shipping: device → storage → proxy → archive",
        rate: bytes / mib / arrivedS,
        beside: lowest(limits, "diskRead", "tcp", "encode", "diskWrite"),
        cpuSPerGib: usage.cpuS / (bytes / gib),
        peakMib: usage.peakMib,
        note:
          `caught up ${(arrivedS - writtenS).toFixed(1)} s after the last write; resident MiB after 1/4 and 3/4 of the time: ` +
          `${memoryCourse(samples)}; CPU s ${Object.entries(usage.cpuSBy)
            .map(([role, cpuS]) => `${role} ${cpuS.toFixed(1)}`)
            .join(", ")}`,
      },
    ];
  });
}

export const shipping: Path = {
  name: "shipping",
  summary: "64 KiB writes while the log ships, until all has arrived",
  run,
};
