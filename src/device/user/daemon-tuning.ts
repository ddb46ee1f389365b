/** @module What a volume's own tuning comes to within the bounds of its daemon. */
import { mib } from "../../units.ts";
import type { VolumeTuning } from "./control/schema.ts";
import type { EngineTuning } from "./daemon.ts";

/** Larger packs have no use: a read of the log takes at least one at a time. */
const maxPackBytes = mib;

/** The tuning that is in force where a volume may have at most `pendingBudgetBytes` pending. */
export function boundTuning(tuning: VolumeTuning, pendingBudgetBytes: number): VolumeTuning {
  return {
    ...tuning,
    ...(tuning.maxPendingBytes === undefined
      ? {}
      : { maxPendingBytes: Math.min(tuning.maxPendingBytes, pendingBudgetBytes) }),
    ...(tuning.maxPackBytes === undefined ? {} : { maxPackBytes: Math.min(tuning.maxPackBytes, maxPackBytes) }),
  };
}

/** Engine options of a tuning: those alone that it names, so that the others keep their defaults. */
export function tuningOptions(tuning: VolumeTuning): EngineTuning {
  const options = {
    pendingBudgetBytes: tuning.maxPendingBytes,
    maxPackBytes: tuning.maxPackBytes,
    logSyncBytes: tuning.logSyncBytes,
    logSyncIntervalMs: tuning.logSyncIntervalMs,
  };
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
}
