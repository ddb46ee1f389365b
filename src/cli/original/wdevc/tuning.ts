/** @module What the tuning options of `create-wdev` mean to a device of the daemon, and what is to be told where they mean nothing. */
import type { VolumeTuning } from "../../../device/user/control/schema.ts";
import { kib, mib } from "../../../units.ts";
import type { OriginalArgs } from "../options.ts";

const dayMs = 86_400_000;

/** Options that only the driver has a use for, and what the daemon does instead. */
const withoutMeaning: Readonly<Record<string, string>> = {
  minp: "no queue is stopped as a whole, each client waits for room for its own writes",
  qp: "a client waits for room as long as it takes",
  bp: "packs are made from all that waits",
  bi: "packs are made from all that waits",
};

/** What was asked for, in the daemon's terms: only options that were given. They must have been checked. */
export function tuningAsked(args: OriginalArgs): VolumeTuning {
  return {
    ...(args.isGiven("maxp") ? { maxPendingBytes: args.int("maxp") * mib } : {}),
    // 0 is no limit, as when it is left out.
    ...(args.isGiven("maxl") && args.int("maxl") > 0 ? { maxPackBytes: args.int("maxl") * kib } : {}),
    ...(args.isGiven("fs") ? { logSyncBytes: args.int("fs") * mib } : {}),
    ...(args.isGiven("fp") ? { logSyncIntervalMs: Math.min(args.int("fp"), dayMs) } : {}),
  };
}

/** A line for each option that was given and that a device of the daemon does not follow as it stands. */
export function tuningRemarks(args: OriginalArgs, inForce: VolumeTuning): string[] {
  const given = (name: string): string => `-${name} ${args.text(name)}`;
  const remarks = Object.entries(withoutMeaning)
    .filter(([name]) => args.isGiven(name))
    .map(([name, why]) => `${given(name)} has no effect on a device of the daemon: ${why}`);
  const { maxPendingBytes, maxPackBytes, logSyncIntervalMs } = inForce;
  if (maxPendingBytes !== undefined && maxPendingBytes < args.int("maxp") * mib) {
    const most = Math.floor(maxPendingBytes / kib);
    remarks.push(
      `${given("maxp")} is more than the daemon has for a volume: ${most} KiB may be pending (see --memory)`,
    );
  }
  if (maxPackBytes !== undefined && maxPackBytes < args.int("maxl") * kib) {
    remarks.push(`${given("maxl")} is more than the daemon makes: packs have at most ${maxPackBytes / kib} KiB`);
  }
  if (logSyncIntervalMs !== undefined && logSyncIntervalMs < args.int("fp")) {
    remarks.push(`${given("fp")} is more than the daemon takes: the log is synced after ${logSyncIntervalMs} ms`);
  }
  return remarks;
}
