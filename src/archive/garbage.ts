/** @module Diffs that no point needs are deleted, those that cannot be reached are moved aside. */
import { garbage } from "../snapshot/collect.ts";
import { diffText } from "../snapshot/text.ts";
import { allActions } from "./action.ts";
import { moveToQuarantine } from "./quarantine.ts";
import { type ArchiveVolume, activeStates } from "./volume.ts";

/** Collects. What lies behind a gap is never deleted. */
export async function collectGarbage(
  volume: ArchiveVolume,
): Promise<{ readonly removedCount: number; readonly quarantinedCount: number }> {
  const { machine, store, platform, log } = volume;
  machine.require([...activeStates, "Stopped"], "collect garbage");
  machine.requireIdle(allActions, "collect garbage");
  const base = volume.requireBase();
  const end = machine.beginAction("Merge");
  try {
    const latest = volume.latest().from;
    const diffs = garbage(store.set, base.from).map((meta) => store.diff(meta));
    // What the chain passes by is in it already, in other pieces.
    const needless = diffs.filter(({ meta }) => meta.to.gidB <= latest.gidB);
    const unreachable = diffs.filter(({ meta }) => meta.to.gidB > latest.gidB);
    store.dropDiffs(needless);
    await volume.removeDiffFiles(needless);
    for (const diff of unreachable) {
      const { fileName, meta } = diff;
      const message = `the diff ${fileName} (${diffText(meta)}) was moved aside: what leads from gid ${latest.gidB} to it is missing`;
      store.loseDiff(diff, { fileName, toB: meta.to.gidB, message, atMs: platform.clock.nowMs() });
      await moveToQuarantine(volume, fileName);
      log.warn("a diff that cannot be reached was moved aside", { file: fileName });
    }
    if (diffs.length > 0) await volume.saveManifest();
    return { removedCount: needless.length, quarantinedCount: unreachable.length };
  } finally {
    end();
  }
}
