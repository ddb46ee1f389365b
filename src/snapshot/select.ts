/**
 * @module Which diffs to apply next, and which to merge. Pure.
 *
 * Choices are greedy: always the diff that goes furthest. When it goes beyond a limit, shorter ones are not tried, so a
 * gid inside a merged diff is out of reach although its parts may still be there.
 * Source: `docs/diff-algebra.md`, diff manager.
 */
import { apply, applyAll, glue, mergeablePrefix } from "./algebra.ts";
import type { DiffSet } from "./diffset.ts";
import { endState } from "./state.ts";
import { type ArchiveState, type DiffMeta, gidMax, plainState, type Snapshot } from "./types.ts";

/** Diffs to apply from `at` on, while `accept(diff, snapshot after it)`. */
export function applicableList(
  set: DiffSet,
  at: Snapshot,
  accept: (diff: DiffMeta, after: Snapshot) => boolean = () => true,
): DiffMeta[] {
  const list: DiffMeta[] = [];
  let now = at;
  for (;;) {
    // Ends: each applicable diff raises gidB to one of finitely many ends.
    const diff = set.applicable(now);
    if (diff === undefined) return list;
    const after = apply(now, diff);
    if (!accept(diff, after)) return list;
    list.push(diff);
    now = after;
  }
}

/** Diffs to apply from `at` on without passing `gid`. */
export function applicableToGid(set: DiffSet, at: Snapshot, gid: bigint): DiffMeta[] {
  return applicableList(set, at, (_, after) => after.gidB <= gid);
}

/** Diffs to apply from `at` on up to the first that is newer than `timestampS`. */
export function applicableToTime(set: DiffSet, at: Snapshot, timestampS: number): DiffMeta[] {
  return applicableList(set, at, (diff) => diff.timestampS <= timestampS);
}

/** The diffs that must be applied together to bring an applying state towards its end; none for a plain state. */
export function minimumList(set: DiffSet, state: ArchiveState): DiffMeta[] {
  return state.to === undefined ? [] : applicableToGid(set, state.from, state.to.gidB);
}

/** How far the diffs go from `at`. */
export function latestSnapshot(set: DiffSet, at: Snapshot): Snapshot {
  return applyAll(at, applicableList(set, at));
}

/** The state after everything applicable was applied, as if an applying state were at its start. */
export function latestState(set: DiffSet, state: ArchiveState): ArchiveState {
  const start = state.to === undefined ? state : plainState(state.from, state.timestampS);
  return endState(start, applicableList(set, state.from));
}

/**
 * {@link latestState} of `set`, which has one more diff than the set whose latest state is `latest`: a chain of thousands
 * is not gone through again. Undefined when it must be, because the diff may be chosen on the way.
 */
export function latestBehind(set: DiffSet, latest: ArchiveState, added: DiffMeta): ArchiveState | undefined {
  return added.from.gidB < latest.from.gidB ? undefined : latestState(set, latest);
}

/**
 * Diffs to merge into one, beginning with the first that starts at `gid` or later, while `accept(next)`; `accept` is not
 * asked about the first.
 */
export function mergeableList(set: DiffSet, gid = 0n, accept: (diff: DiffMeta) => boolean = () => true): DiffMeta[] {
  let merged = set.firstFrom(gid);
  if (merged === undefined) return [];
  const list = [merged];
  for (;;) {
    const next: DiffMeta | undefined = set.mergeable(merged);
    if (next === undefined || !accept(next)) return list;
    merged = glue(merged, next);
    list.push(next);
  }
}

/** Limits of a merge; undefined does not limit. */
export interface MergeLimits {
  /** Running total of sizes. */
  readonly sizeBytesMax?: number | undefined;
  readonly countMax?: number | undefined;
}

/** Cuts a list by total size and count, in one pass; the first diff is always kept. */
export function truncateList(list: readonly DiffMeta[], limits: MergeLimits): DiffMeta[] {
  const sizeBytesMax = limits.sizeBytesMax ?? Number.POSITIVE_INFINITY;
  const countMax = Math.max(1, limits.countMax ?? Number.POSITIVE_INFINITY);
  let totalBytes = 0;
  const end = list.findIndex((diff, at) => {
    totalBytes += diff.dataSizeBytes;
    return at > 0 && (at >= countMax || totalBytes > sizeBytesMax);
  });
  return end < 0 ? [...list] : list.slice(0, end);
}

/** {@link mergeableList} from `gidLow`, cut before the first diff that starts at `gidHigh` or later. */
export function mergeableToGid(set: DiffSet, gidLow: bigint, gidHigh = gidMax): DiffMeta[] {
  const list = mergeableList(set, gidLow);
  const end = list.findIndex((diff) => diff.from.gidB >= gidHigh);
  return end < 0 ? list : list.slice(0, end);
}

/** The longest prefix of the applicable diffs that may be merged: what to send to an archive that is at `at`. */
export function applicableAndMergeable(set: DiffSet, at: Snapshot): DiffMeta[] {
  return [...mergeablePrefix(applicableList(set, at))];
}
