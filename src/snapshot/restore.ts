/**
 * @module Points in time that an image can be brought to, and the diffs for it. Pure.
 *
 * An image that was interrupted while diffs were applied ("applying") is between two points, and nothing of it may be
 * used before it has reached the end of that step; where the diffs for it are gone, these functions refuse, while the
 * original offered the image as if it were at its start.
 * Source: `docs/diff-algebra.md`, restorable and choosing diffs for a target gid.
 */

import { WalbError } from "../errors.ts";
import { applyAll } from "./algebra.ts";
import { pointAtTime } from "./by-time.ts";
import type { DiffSet } from "./diffset.ts";
import { applicableList, applicableToGid } from "./select.ts";
import { endState } from "./state.ts";
import { snapshotText, stateText } from "./text.ts";
import { utcText } from "./time.ts";
import { type ArchiveState, type DiffMeta, isClean } from "./types.ts";

/** A point in time that the image can be brought to. */
export interface RestorePoint {
  readonly gid: bigint;
  /** When the volume was so, seconds since 1970. */
  readonly timestampS: number;
  /** Somebody asked for this snapshot, or it is the latest; never set for the base. */
  readonly isExplicit: boolean;
  /** The image as it is, once an interrupted apply is finished. */
  readonly isBase: boolean;
  /** How many diffs, and of how many bytes in all, bring the image there. */
  readonly diffCount: number;
  readonly diffBytes: number;
}

/**
 * The shortest list that finishes an interrupted apply; empty for a plain state. Undefined when the diffs are gone and
 * the image cannot be used.
 */
export function finishingList(set: DiffSet, state: ArchiveState): DiffMeta[] | undefined {
  const target = state.to?.gidB;
  if (target === undefined) return [];
  let reached = state.from.gidB;
  const list = applicableList(set, state.from, (_, after) => {
    if (reached >= target) return false;
    reached = after.gidB;
    return true;
  });
  return reached >= target ? list : undefined;
}

/** All clean points the image can be brought to, oldest first. None when an interrupted apply cannot be finished. */
export function pointsInTime(set: DiffSet, state: ArchiveState): RestorePoint[] {
  const finishing = finishingList(set, state);
  if (finishing === undefined) return [];
  const list = applicableList(set, state.from);
  const points: RestorePoint[] = [];
  let now = state.from;
  let timestampS = state.timestampS;
  let diffBytes = 0;
  for (let diffCount = 0; ; diffCount++) {
    if (diffCount >= finishing.length && isClean(now)) {
      const next = list[diffCount];
      const isBase = diffCount === finishing.length;
      const isExplicit = !isBase && (next === undefined || !next.isMergeable);
      points.push({ gid: now.gidB, timestampS, isExplicit, isBase, diffCount, diffBytes });
    }
    const diff = list[diffCount];
    if (diff === undefined) return points;
    now = applyAll(now, [diff]);
    timestampS = diff.timestampS;
    diffBytes += diff.dataSizeBytes;
  }
}

/** The points to list: explicit ones and the base, or with `all` the implicit ones too. */
export function restorable(set: DiffSet, state: ArchiveState, all = false): RestorePoint[] {
  const points = pointsInTime(set, state);
  return all ? points : points.filter((point) => point.isExplicit || point.isBase);
}

/**
 * The newest of `points` (oldest first) that is not after a time.
 * @throws WalbError `not-restorable` that names the nearest points, or those that the time may stand for, where the clock
 * went back.
 */
export function pointAt(points: readonly RestorePoint[], timestampS: number, nowS: number): RestorePoint {
  const { point, jump } = pointAtTime(points, (one) => one.timestampS * 1000, timestampS * 1000, nowS * 1000);
  if (jump !== undefined) {
    const { from, to, earlier } = jump;
    const before = earlier === undefined ? "no point" : pointText(earlier);
    throw new WalbError("not-restorable", {
      what: `the clock went back between ${pointText(from)} and ${pointText(to)}, so that ${utcText(timestampS)} was twice: it stands for ${before} and for ${pointText(point!)}`,
      hint: "say which one by its gid, or see all: walb snapshots VOL --all",
    });
  }
  if (point !== undefined) return point;
  throw notRestorable(
    `there is no restorable point at or before ${utcText(timestampS)}`,
    points,
    (candidate) => candidate.timestampS <= timestampS,
  );
}

/** The point with a gid. @throws WalbError `not-restorable` that names the nearest points. */
export function pointOfGid(points: readonly RestorePoint[], gid: bigint): RestorePoint {
  const point = points.find((candidate) => candidate.gid === gid);
  if (point !== undefined) return point;
  throw notRestorable(`gid ${gid} is not restorable`, points, (candidate) => candidate.gid < gid);
}

/** The oldest usable state and the diffs that bring the image there. @throws WalbError `not-restorable` or `damaged`. */
export function oldestCleanState(
  set: DiffSet,
  state: ArchiveState,
): { readonly state: ArchiveState; readonly diffs: DiffMeta[] } {
  const [point] = pointsInTime(set, state);
  if (point === undefined) {
    requireFinishing(set, state);
    throw new WalbError("not-restorable", {
      what: `the image is at ${stateText(state)}, and no diff makes it the image of one moment`,
      hint: "wait until the diffs of the running backup have arrived",
    });
  }
  const diffs = applicableToGid(set, state.from, point.gid);
  return { state: endState(state, diffs), diffs };
}

/**
 * The diffs that bring the image exactly to `gid`, to read it there without changing it.
 * @param countMax most diffs to open at once; 0 does not limit.
 * @throws WalbError `not-restorable`, `damaged`, or `busy` for more than `countMax` diffs.
 */
export function scanList(set: DiffSet, state: ArchiveState, gid: bigint, countMax = 0): DiffMeta[] {
  const list = listToGid(set, state, gid, false);
  if (countMax === 0 || list.length <= countMax) return list;
  throw new WalbError("busy", {
    what: `gid ${gid} needs ${list.length} diffs, but at most ${countMax} can be open at once`,
    hint: "merge or apply some diffs first",
  });
}

/**
 * The next diffs to write to a copy of the image that is on its way to the clean snapshot `gid`; empty when it is there.
 * At least what finishes an interrupted apply, whatever the limit.
 * @param countMax most diffs in one round; 0 does not limit.
 * @throws WalbError `not-restorable` or `damaged`.
 */
export function restoreRound(set: DiffSet, state: ArchiveState, gid: bigint, countMax = 0): DiffMeta[] {
  const list = listToGid(set, state, gid, true);
  return cut(list, countMax, requireFinishing(set, state).length);
}

/**
 * The next diffs to apply to the image itself so that it comes as near to `gid` as it can without passing it; empty when
 * there is nothing to do. An interrupted apply is finished even beyond `gid` or the limit.
 * @param countMax most diffs in one round; 0 does not limit.
 * @throws WalbError `damaged` when an interrupted apply cannot be finished.
 */
export function applyRound(set: DiffSet, state: ArchiveState, gid: bigint, countMax = 0): DiffMeta[] {
  const finishing = requireFinishing(set, state);
  const list = applicableToGid(set, state.from, gid);
  if (list.length >= finishing.length) return cut(list, countMax, finishing.length);
  // Diffs merged beyond the interrupted step may pass the target by far: that is the caller's to ask for.
  return applyAll(state.from, finishing).gidB === state.to?.gidB ? finishing : [];
}

function listToGid(set: DiffSet, state: ArchiveState, gid: bigint, mustBeClean: boolean): DiffMeta[] {
  const finishing = requireFinishing(set, state);
  const list = applicableToGid(set, state.from, gid);
  const reached = applyAll(state.from, list);
  if (list.length >= finishing.length && reached.gidB === gid && (!mustBeClean || isClean(reached))) return list;
  const isDirty = reached.gidB === gid && list.length >= finishing.length;
  const what = isDirty
    ? `gid ${gid} is not restorable: ${snapshotText(reached)} is not the image of one moment`
    : `gid ${gid} is not restorable`;
  throw notRestorable(what, pointsInTime(set, state), (point) => point.gid < gid);
}

function cut(list: DiffMeta[], countMax: number, countMin: number): DiffMeta[] {
  return countMax === 0 ? list : list.slice(0, Math.max(countMax, countMin));
}

function requireFinishing(set: DiffSet, state: ArchiveState): DiffMeta[] {
  const finishing = finishingList(set, state);
  if (finishing !== undefined) return finishing;
  throw new WalbError("damaged", {
    what: `the image was left in the middle of an apply, at ${stateText(state)}, and the diffs to finish it are missing`,
    hint: "put the missing wdiff files back, or take a new full backup",
  });
}

function notRestorable(
  what: string,
  points: readonly RestorePoint[],
  isBefore: (point: RestorePoint) => boolean,
): WalbError {
  const before = points.findLast(isBefore);
  const after = points.find((point) => !isBefore(point));
  const names: string[] = [];
  if (before !== undefined) names.push(`before it ${pointText(before)}`);
  if (after !== undefined) names.push(`after it ${pointText(after)}`);
  const nearest =
    names.length === 0
      ? "there is no restorable point at all"
      : `${names.length === 1 ? "the nearest is" : "the nearest are"} ${names.join(", ")}`;
  return new WalbError("not-restorable", {
    what: `${what}; ${nearest}`,
    hint: names.length === 0 ? "wait for a backup to complete" : "choose one of these points",
  });
}

function pointText(point: RestorePoint): string {
  return `gid ${point.gid} (${utcText(point.timestampS)})`;
}
