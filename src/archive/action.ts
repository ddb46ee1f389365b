/** @module Work that runs beside the state of an active volume: apply, merge, restore, scan. */
import type { JobContext } from "./apply.ts";
import { type ArchiveAction, type ArchiveVolume, activeStates } from "./volume.ts";

/** All actions. */
export const allActions: readonly ArchiveAction[] = ["Apply", "Merge", "Restore", "Resize", "Scan", "ReplSyncAsClient"];

/** Runs an action beside the state of an active volume; a forced stop ends it. */
export async function withAction<T>(
  volume: ArchiveVolume,
  action: ArchiveAction,
  denied: readonly ArchiveAction[],
  context: JobContext,
  work: (volume: ArchiveVolume, context: JobContext) => Promise<T>,
): Promise<T> {
  const { machine } = volume;
  const what = action === "ReplSyncAsClient" ? "replicate" : action.toLowerCase();
  machine.require(activeStates, what);
  machine.requireNotStopping(what);
  machine.requireIdle(denied, what);
  const end = machine.beginAction(action);
  const interruptible = volume.interruptible(context.signal);
  try {
    return await work(volume, {
      signal: interruptible.signal,
      progress: (report) => context.progress(report),
      accepted: () => context.accepted?.(),
    });
  } finally {
    interruptible.done();
    end();
  }
}
