/** @module CPU time and peak memory of running processes, from /proc. */
import { readFileSync, writeFileSync } from "node:fs";

/** Linux gives CPU times in hundredths of a second on every architecture that walb runs on. */
const ticksPerS = 100;

/** User and system CPU seconds since the process began. */
export function cpuSecondsOf(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  // The name, in parentheses, may hold spaces. Behind it the state is field 3; utime and stime are 14 and 15.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) / ticksPerS;
}

/** A field of /proc/PID/status that is in kB, as MiB. */
export function memoryMibOf(pid: number | "self", field: "VmHWM" | "VmRSS"): number {
  const found = new RegExp(`^${field}:\\s+(\\d+) kB$`, "m").exec(readFileSync(`/proc/${pid}/status`, "utf8"));
  if (found === null) throw new Error(`/proc/${pid}/status has no ${field}`);
  return Number(found[1]) / 1024;
}

/** What processes used between the start and the end of a watch. */
export interface Usage {
  readonly cpuS: number;
  readonly cpuSBy: Readonly<Record<string, number>>;
  readonly peakMib: Readonly<Record<string, number>>;
}

/** Begins to watch processes by name. Their peak memory counts from now on. */
export function watch(pids: Readonly<Record<string, number>>): { end(): Usage } {
  const names = Object.keys(pids);
  const before = names.map((name) => {
    // "5" resets VmHWM, see proc(5), clear_refs.
    writeFileSync(`/proc/${pids[name]}/clear_refs`, "5");
    return cpuSecondsOf(pids[name]!);
  });
  return {
    end() {
      const cpuSBy = Object.fromEntries(names.map((name, i) => [name, cpuSecondsOf(pids[name]!) - before[i]!]));
      const peakMib = Object.fromEntries(names.map((name) => [name, memoryMibOf(pids[name]!, "VmHWM")]));
      return { cpuS: Object.values(cpuSBy).reduce((sum, cpuS) => sum + cpuS, 0), cpuSBy, peakMib };
    },
  };
}

/** The larger of each peak. */
export function largest(peaks: readonly Readonly<Record<string, number>>[]): Record<string, number> {
  const all: Record<string, number> = {};
  for (const peak of peaks) for (const [name, mib] of Object.entries(peak)) all[name] = Math.max(all[name] ?? 0, mib);
  return all;
}

/** Ends all children of this process and theirs, at once. */
export function killChildren(pid: number | "self" = "self"): void {
  let children: number[] = [];
  try {
    children = readFileSync(`/proc/${pid}/task/${pid === "self" ? process.pid : pid}/children`, "utf8")
      .split(" ")
      .filter((word) => word !== "")
      .map(Number);
  } catch {
    // It has ended.
  }
  for (const child of children) {
    killChildren(child);
    try {
      process.kill(child, "SIGKILL");
    } catch {
      // It has ended.
    }
  }
}
