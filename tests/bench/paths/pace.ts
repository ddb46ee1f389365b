/**
 * @module Keeping up: 300 MiB/s of 64 KiB random writes for a time, while the log ships. What matters is whether that
 * rate is held, whether anything falls behind more and more, and whether memory grows.
 *
 * WALB_BENCH_SHIPPING_S is the time; the diffs at the archive take about 150 MiB for each second of it.
 */
import type { Fleet } from "../../helpers/fleet.ts";
import { type Bench, gib, mib, type Path, type Row } from "../lib/bench.ts";
import { arrived, clientsOf, pidsOf, targetOf, withFleet } from "../lib/fleet.ts";
import { writeLoad } from "../lib/load.ts";
import { memoryMibOf, watch } from "../lib/processes.ts";
import { type Sample, summarize } from "../lib/series.ts";

const volume = "pace0";
const rateMib = 300;
const sampleMs = 500;

/** How far the log was written and had come at one time. */
interface Progress {
  readonly atS: number;
  readonly latestLsid: number;
  readonly storageLsid: number;
  readonly archiveLsid: number;
}

/** Asks the daemons again and again, while `isOn`. */
async function follow(fleet: Fleet, sinceStart: () => number, isOn: () => boolean) {
  const { storage, archive } = clientsOf(fleet);
  const progress: Progress[] = [];
  const memory = new Map<string, Sample[]>();
  /** Places of snapshots in the log, in order. */
  const points: { gid: bigint; lsid: number }[] = [];
  let pbsBytes = 0;
  while (isOn()) {
    for (const [role, pid] of Object.entries(pidsOf(fleet))) {
      const samples = memory.get(role) ?? [];
      memory.set(role, samples);
      samples.push({ atS: sinceStart(), value: memoryMibOf(pid, "VmRSS") });
    }
    const [there, here] = await Promise.all([archive.call("status", { volume }), storage.call("status", { volume })]);
    const status = here.volumes[0];
    if (status?.isOverflow === true) throw new Error("the log overflowed: it was written faster than shipped");
    for (const { gid, lsid } of [...(status?.done === undefined ? [] : [status.done]), ...(status?.queue ?? [])]) {
      if ((points.at(-1)?.gid ?? -1n) < gid) points.push({ gid, lsid });
    }
    const archiveGid = there.volumes[0]?.newestPoint?.gid ?? -1n;
    pbsBytes = status?.pbsBytes ?? pbsBytes;
    progress.push({
      atS: sinceStart(),
      latestLsid: status?.latestLsid ?? 0,
      storageLsid: status?.doneLsid ?? 0,
      archiveLsid: points.findLast(({ gid }) => gid <= archiveGid)?.lsid ?? 0,
    });
    await Bun.sleep(sampleMs);
  }
  return { progress, memory, pbsBytes };
}

/** Seconds since what has come to `lsid` was the end of the log. */
function behindS(progress: readonly Progress[], now: Progress, lsid: number): number {
  const next = progress.findIndex(({ latestLsid }) => latestLsid > lsid);
  if (next < 0 || progress[next]!.atS > now.atS) return 0;
  if (next === 0) return now.atS - progress[0]!.atS;
  const [before, after] = [progress[next - 1]!, progress[next]!];
  const share = (lsid - before.latestLsid) / (after.latestLsid - before.latestLsid);
  return now.atS - (before.atS + share * (after.atS - before.atS));
}

const text = (value: number): string => value.toFixed(1);

/** How far one end was behind: at most in the first and in the second half of the time, and at its end. */
function lagText(progress: readonly Progress[], pbsBytes: number, end: "storageLsid" | "archiveLsid"): string {
  const lags = progress.map((now) => behindS(progress, now, now[end]));
  const half = lags.length >> 1;
  const mibBehind = progress.map((now) => ((now.latestLsid - now[end]) * pbsBytes) / mib);
  const [first, second] = [Math.max(...lags.slice(0, half)), Math.max(...lags.slice(half))];
  return `at most ${text(first)} s in the first half and ${text(second)} s in the second (${Math.max(...mibBehind).toFixed(0)} MiB), ${text(lags.at(-1)!)} s at the end`;
}

async function run(bench: Bench): Promise<Row[]> {
  const asked = process.env.WALB_BENCH_SHIPPING_S;
  const seconds = asked === undefined ? (bench.isQuick ? 3 : 10) : Number(asked);
  if (!(seconds >= 1)) throw new Error("WALB_BENCH_SHIPPING_S is a number of seconds");
  const rangeBytes = gib;
  return withFleet(async (fleet) => {
    const { storage } = clientsOf(fleet);
    await fleet.makeVolume(volume, `${rangeBytes}`, `${4 * gib}`);
    await fleet.must("backup", volume, "--wait");
    const startMs = performance.now();
    const sinceStart = (): number => (performance.now() - startMs) / 1000;
    let isOn = true;
    const following = follow(fleet, sinceStart, () => isOn);
    const watched = watch(pidsOf(fleet));
    const load = {
      order: "random",
      blockBytes: 64 * 1024,
      depth: 16,
      rangeBytes,
      rateBytesPerS: rateMib * mib,
    } as const;
    const totalBytes = seconds * rateMib * mib;
    const written = await writeLoad(targetOf(fleet, volume), { ...load, totalBytes }, fleet.directory);
    isOn = false;
    const { progress, memory, pbsBytes } = await following;
    const writtenS = sinceStart();
    const { gid } = await storage.call("snapshot", { volume });
    await arrived(fleet, volume, gid);
    const arrivedS = sinceStart();
    const usage = watched.end();
    const { bytes } = written;
    const rate = bytes / mib / written.seconds;
    const course = [...memory].map(([role, samples]) => {
      const { max, slopePerS } = summarize(samples);
      return `${role} ${max.toFixed(0)} (${slopePerS < 0 ? "" : "+"}${text(60 * slopePerS)} a minute)`;
    });
    const cpu = Object.entries(usage.cpuSBy).map(([role, cpuS]) => `${role} ${text(cpuS)}`);
    return [
      {
        path: `keeping up: 64 KiB random writes, ${seconds} s`,
        rate,
        unit: "MiB/s",
        runs: 1,
        beside: { name: "asked", rate: rateMib },
        cpuSPerGib: usage.cpuS / (bytes / gib),
        peakMib: usage.peakMib,
        note:
          `p99 ${Math.round(written.p99Us)} µs; the storage was behind ${lagText(progress, pbsBytes, "storageLsid")}; the ` +
          `archive ${lagText(progress, pbsBytes, "archiveLsid")}, all had arrived ${text(arrivedS - writtenS)} s after the ` +
          `last write; resident MiB at most, and how it went in the last three quarters: ${course.join(", ")}; CPU s ${cpu.join(", ")}`,
      },
    ];
  });
}

export const pace: Path = {
  name: "pace",
  summary: `${rateMib} MiB/s of 64 KiB writes while the log ships: what falls behind, what grows`,
  run,
};
