/** @module What a volume's own tuning comes to within the bounds of its daemon. */
import { mib } from "../../units.ts";
import type { VolumeTuning } from "./control/schema.ts";
import type { EngineTuning } from "./daemon.ts";
import { batchPacksMax, batchPiecesMax } from "./engine/options.ts";

/** The tuning that is in force where a volume may have at most `pendingBudgetBytes` pending. */
export function boundTuning(tuning: VolumeTuning, pendingBudgetBytes: number): VolumeTuning {
  const pendingBytes = Math.min(tuning.maxPendingBytes ?? pendingBudgetBytes, pendingBudgetBytes);
  // Of packs, larger ones have no use: a read of the log takes at least one at a time.
  const bounds = {
    maxPendingBytes: pendingBytes,
    minPendingBytes: pendingBytes - 1,
    maxPackBytes: mib,
    maxBatchPacks: batchPacksMax,
    maxBatchWrites: batchPiecesMax,
  };
  const bound: VolumeTuning = { ...tuning };
  for (const name of Object.keys(bounds) as (keyof typeof bounds)[]) {
    const asked = tuning[name];
    if (asked !== undefined) bound[name] = Math.min(asked, bounds[name]);
  }
  return bound;
}

/** Engine options of a tuning: those alone that it names, so that the others keep their defaults. */
export function tuningOptions({ maxPendingBytes, ...others }: VolumeTuning): EngineTuning {
  const options = { ...others, pendingBudgetBytes: maxPendingBytes };
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
}
