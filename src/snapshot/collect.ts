/**
 * @module Which diffs are not needed any more. Pure: each function names the diffs, `set.eraseAll(…)` removes them.
 *
 * Source: `docs/diff-algebra.md`, garbage collection.
 */
import type { DiffSet } from "./diffset.ts";
import { applicableList } from "./select.ts";
import { type DiffMeta, gidMax, type Snapshot } from "./types.ts";

/**
 * All diffs but those to apply from `at` on. It names diffs behind a gap too: call it only when none is still to come.
 */
export function garbage(set: DiffSet, at: Snapshot): DiffMeta[] {
  const kept = new Set(applicableList(set, at));
  return set.getAll().filter((diff) => !kept.has(diff));
}

/**
 * Diffs inside [gidLow, gidHigh] that a diff from gidLow to gidHigh makes redundant; diffs with exactly these gids are
 * not named.
 */
export function garbageInRange(set: DiffSet, gidLow: bigint, gidHigh: bigint): DiffMeta[] {
  if (gidLow >= gidHigh) return [];
  return set
    .getAll(gidLow, gidHigh)
    .filter((diff) => diff.to.gidB <= gidHigh && (diff.from.gidB !== gidLow || diff.to.gidB !== gidHigh));
}

/** Diffs that end at or before `gid`: an image at `gid` needs none of them. */
export function garbageBefore(set: DiffSet, gid: bigint): DiffMeta[] {
  if (gid <= 0n) return [];
  return set.getAll(0n, gid < gidMax ? gid : gidMax).filter((diff) => diff.to.gidB <= gid);
}
