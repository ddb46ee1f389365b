/**
 * @module When a diff may be applied to a snapshot or merged with another, and what comes out. Pure.
 *
 * Only gidB decides; gidE is carried along. The laws (associativity and so on) hold for histories as the storages make
 * them; {@link merge} does not check its result, which can break `from.gidE ≤ to.gidE` for arbitrary dirty diffs.
 * Source: `docs/diff-algebra.md`, snapshot/diff predicates and operations.
 */
import { WalbError } from "../errors.ts";
import { diffText, snapshotText } from "./text.ts";
import { type DiffMeta, isCleanDiff, type Snapshot } from "./types.ts";

/** How a diff stands to a snapshot. A compared diff is never too old or too new, only applicable or not. */
export type Relation = "applicable" | "too-old" | "too-new" | "not-applicable";

/** How `diff` stands to the snapshot `at`. */
export function relation(at: Snapshot, diff: DiffMeta): Relation {
  if (diff.isCompared) return at.gidB === diff.from.gidB ? "applicable" : "not-applicable";
  if (diff.from.gidB > at.gidB) return "too-new";
  if (diff.to.gidB <= at.gidB) return "too-old";
  return "applicable";
}

/** Whether `diff` may be applied to `at`. */
export function canApply(at: Snapshot, diff: DiffMeta): boolean {
  return relation(at, diff) === "applicable";
}

/** Whether all diffs may be applied one after the other; true for none. */
export function canApplyAll(at: Snapshot, diffs: Iterable<DiffMeta>): boolean {
  let now = at;
  for (const diff of diffs) {
    if (!canApply(now, diff)) return false;
    now = move(now, diff);
  }
  return true;
}

/** The snapshot after applying `diff`. @throws WalbError `bad-parameter` unless {@link canApply}. */
export function apply(at: Snapshot, diff: DiffMeta): Snapshot {
  const how = relation(at, diff);
  if (how !== "applicable") {
    throw new WalbError("bad-parameter", {
      what: `the diff ${diffText(diff)} cannot be applied to ${snapshotText(at)}: ${how.replace("-", " ")}`,
      where: { field: "diff" },
    });
  }
  return move(at, diff);
}

/** The snapshot after applying all diffs in order; `at` itself for none. @throws WalbError `bad-parameter`. */
export function applyAll(at: Snapshot, diffs: Iterable<DiffMeta>): Snapshot {
  let now = at;
  for (const diff of diffs) now = apply(now, diff);
  return now;
}

function move(at: Snapshot, diff: DiffMeta): Snapshot {
  return isCleanDiff(diff) ? cleanEnd(diff.to.gidB, at.gidE) : diff.to;
}

function cleanEnd(gid: bigint, gidE: bigint): Snapshot {
  return { gidB: gid, gidE: gidE > gid ? gidE : gid };
}

/** Whether `newer` may be glued behind `older`. The older diff's own mergeable flag does not matter. */
export function canMerge(older: DiffMeta, newer: DiffMeta): boolean {
  return (
    newer.isMergeable &&
    !older.isCompared &&
    !newer.isCompared &&
    older.from.gidB <= newer.from.gidB &&
    newer.from.gidB <= older.to.gidB &&
    older.to.gidB < newer.to.gidB
  );
}

/** Whether a list may be merged from left to right; false for none, true for one. */
export function canMergeAll(diffs: readonly DiffMeta[]): boolean {
  return diffs.length > 0 && mergeablePrefix(diffs).length === diffs.length;
}

/** The longest prefix that may be merged from left to right; a list that is not empty has at least its first. */
export function mergeablePrefix(diffs: readonly DiffMeta[]): readonly DiffMeta[] {
  let merged = diffs[0];
  if (merged === undefined) return [];
  for (let at = 1; at < diffs.length; at++) {
    const next = diffs[at]!;
    if (!canMerge(merged, next)) return diffs.slice(0, at);
    merged = glue(merged, next);
  }
  return diffs;
}

/**
 * One diff that does what both do in order; size unknown (0).
 * @throws WalbError `bad-parameter` unless {@link canMerge}.
 */
export function merge(older: DiffMeta, newer: DiffMeta): DiffMeta {
  if (!canMerge(older, newer)) {
    throw new WalbError("bad-parameter", {
      what: `the diff ${diffText(newer)} cannot be merged behind ${diffText(older)}`,
      where: { field: "diff" },
    });
  }
  return glue(older, newer);
}

/** Merges from left to right; a single diff is given back as it is. @throws WalbError `bad-parameter`, also for none. */
export function mergeAll(diffs: readonly DiffMeta[]): DiffMeta {
  let merged = diffs[0];
  if (merged === undefined)
    throw new WalbError("bad-parameter", { what: "there is no diff to merge", where: { field: "diffs" } });
  for (let at = 1; at < diffs.length; at++) merged = merge(merged, diffs[at]!);
  return merged;
}

/** The merge of two diffs that {@link canMerge} allowed. */
export function glue(older: DiffMeta, newer: DiffMeta): DiffMeta {
  return {
    from: older.from,
    to: isCleanDiff(newer) ? cleanEnd(newer.to.gidB, older.to.gidE) : newer.to,
    isMergeable: older.isMergeable,
    isCompared: false,
    timestampS: newer.timestampS,
    dataSizeBytes: 0,
  };
}

/** Whether `inner` is redundant when `outer` is there. */
export function contains(outer: DiffMeta, inner: DiffMeta): boolean {
  return outer.from.gidB <= inner.from.gidB && inner.to.gidB <= outer.to.gidB;
}

/** Whether `a` ends further than `b`, or ends at the same gid and is shorter. */
export function isFurther(a: DiffMeta, b: DiffMeta): boolean {
  return a.to.gidB > b.to.gidB || (a.to.gidB === b.to.gidB && a.from.gidB > b.from.gidB);
}

/** The diff that goes furthest; among those the shortest; among those the first. @throws WalbError `bad-parameter` for none. */
export function maxProgress(diffs: Iterable<DiffMeta>): DiffMeta {
  let best: DiffMeta | undefined;
  for (const diff of diffs) if (best === undefined || isFurther(diff, best)) best = diff;
  if (best === undefined)
    throw new WalbError("bad-parameter", { what: "there is no diff to choose from", where: { field: "diffs" } });
  return best;
}
