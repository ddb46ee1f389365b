/** @module What the tuning options of `create-wdev` mean to a device of the daemon, and what is to be told where they mean less. */
import type { VolumeTuning } from "../../../device/user/control/schema.ts";
import { kib, mib } from "../../../units.ts";
import type { OriginalArgs } from "../options.ts";

const dayMs = 86_400_000;

/** What was asked for, in the daemon's terms: only options that were given. They must have been checked. */
export function tuningAsked(args: OriginalArgs): VolumeTuning {
  const isPendingGiven = args.isGiven("maxp") || args.isGiven("minp");
  return {
    // Each of the two is checked against the other, given or not.
    ...(isPendingGiven ? { maxPendingBytes: args.int("maxp") * mib, minPendingBytes: args.int("minp") * mib } : {}),
    ...(args.isGiven("qp") ? { queueStopTimeoutMs: Math.min(args.int("qp"), dayMs) } : {}),
    // 0 is no limit, as when it is left out.
    ...(args.isGiven("maxl") && args.int("maxl") > 0 ? { maxPackBytes: args.int("maxl") * kib } : {}),
    ...(args.isGiven("fs") ? { logSyncBytes: args.int("fs") * mib } : {}),
    ...(args.isGiven("fp") ? { logSyncIntervalMs: Math.min(args.int("fp"), dayMs) } : {}),
    ...(args.isGiven("bp") ? { maxBatchPacks: args.int("bp") } : {}),
    ...(args.isGiven("bi") ? { maxBatchWrites: args.int("bi") } : {}),
  };
}

/** A line for each option that was given and that a device of the daemon does not follow as it stands. */
export function tuningRemarks(args: OriginalArgs, inForce: VolumeTuning): string[] {
  const remarks: string[] = [];
  const compare = (name: string, unit: number, value: number | undefined, tell: (value: number) => string): void => {
    if (!args.isGiven(name) || value === undefined || value >= args.int(name) * unit) return;
    remarks.push(`-${name} ${args.text(name)} is more than ${tell(value)}`);
  };
  const kibOf = (bytes: number): string => `${Math.floor(bytes / kib)} KiB`;
  compare("maxp", mib, inForce.maxPendingBytes, (bytes) => {
    return `the daemon has for a volume: ${kibOf(bytes)} may be pending (see --memory)`;
  });
  compare("minp", mib, inForce.minPendingBytes, (bytes) => {
    return `the daemon has for a volume: writes go on below ${kibOf(bytes)} (see --memory)`;
  });
  compare("qp", 1, inForce.queueStopTimeoutMs, (ms) => `the daemon takes: writes go on after ${ms} ms`);
  compare("maxl", kib, inForce.maxPackBytes, (bytes) => `the daemon makes: packs have at most ${kibOf(bytes)}`);
  compare("fp", 1, inForce.logSyncIntervalMs, (ms) => `the daemon takes: the log is synced after ${ms} ms`);
  compare("bp", 1, inForce.maxBatchPacks, (count) => `the daemon puts into the log at once: ${count} packs`);
  compare("bi", 1, inForce.maxBatchWrites, (count) => `the daemon puts into the log at once: ${count} writes`);
  return remarks;
}
