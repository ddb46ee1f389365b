/** @module Decisions of the archive role: which diff to take, which to merge, which points an apply costs. Pure. */
import { WalbError } from "../errors.ts";
import { apply, applyAll, canMerge, glue, relation } from "../snapshot/algebra.ts";
import type { DiffSet } from "../snapshot/diffset.ts";
import { applyRound, pointsInTime, type RestorePoint } from "../snapshot/restore.ts";
import { applicableToGid, mergeableList, mergeableToGid, truncateList } from "../snapshot/select.ts";
import { diffText, snapshotText } from "../snapshot/text.ts";
import { timestampMaxS, utcText } from "../snapshot/time.ts";
import { type ArchiveState, type DiffMeta, isClean, isCleanDiff, type Snapshot, snapshot } from "../snapshot/types.ts";
import type { WdiffRequest } from "../wire/wdiff-transfer.ts";
import { accept, type Decision, refuse, refuseWith } from "../wire/words.ts";
import type { Cold } from "./colds.ts";
import type { Label } from "./label-rows.ts";

/** What decides about a diff that is offered to an idle archived volume. */
export interface DiffSituation {
  readonly logUuid: string | undefined;
  readonly imageBytes: number;
  readonly neededBytes: number;
  readonly latest: Snapshot;
}

/**
 * Whether to take a diff. The order matters: a proxy drops its diffs on `different-uuid` and `too-old-diff`.
 * Source: `docs/protocol.md`, wdiff-transfer, decision order, conditions 8 to 12.
 */
export function decideDiff(request: WdiffRequest, situation: DiffSituation): Decision {
  const { diff } = request;
  if (request.hostType === "proxy" && request.uuid !== situation.logUuid) return refuseWith("different-uuid");
  if (situation.imageBytes < situation.neededBytes) return refuseWith("smaller-lv-size");
  // Larger numbers could neither be stored nor shown; no real history has them.
  if (diff.to.gidE > BigInt(Number.MAX_SAFE_INTEGER) || diff.timestampS > timestampMaxS) {
    return refuse(new WalbError("out-of-range", { what: `the diff ${diffText(diff)} has numbers beyond any history` }));
  }
  switch (relation(situation.latest, diff)) {
    case "too-old":
      return refuseWith("too-old-diff");
    case "too-new":
      return refuseWith("too-new-diff");
    case "not-applicable":
      return refuse(
        new WalbError("state", {
          what: `the compared diff ${diffText(diff)} does not begin at ${snapshotText(situation.latest)}`,
        }),
      );
    case "applicable":
      return accept;
  }
}

/**
 * The diff as it is kept behind `latest`, to which it can be applied. One that begins before it holds all that changed
 * since: kept from `latest` on, it leaves the points before alone, which it would pass by.
 */
export function keptBehind(diff: DiffMeta, latest: Snapshot): DiffMeta {
  const { gidB } = latest;
  if (diff.isCompared || diff.from.gidB === gidB) return diff;
  const from = isCleanDiff(diff) || diff.from.gidE < gidB ? snapshot(gidB) : snapshot(gidB, diff.from.gidE);
  return { ...diff, from };
}

/** What to merge. */
export interface MergeRequest {
  readonly dryRun?: boolean | undefined;
  readonly fromGid: bigint;
  readonly toGid?: bigint | undefined;
  readonly maxBytes?: number | undefined;
}

/**
 * Diffs to merge into one, oldest first. A point that is protected or has a label is never merged away.
 * @throws WalbError `state` when there are fewer than two.
 */
export function planMergeList(
  set: DiffSet,
  request: MergeRequest,
  labels: ReadonlyMap<bigint, Label>,
  { at }: { readonly at: string },
): DiffMeta[] {
  const all =
    request.toGid === undefined
      ? mergeableList(set, request.fromGid)
      : mergeableToGid(set, request.fromGid, request.toGid);
  const list = untilKept(truncateList(all, { sizeBytesMax: request.maxBytes }), [...labels.keys()]);
  if (list.length >= 2) return list;
  throw new WalbError("state", {
    what: `there are no two diffs from gid ${request.fromGid} on that can be merged within these limits`,
    hint: `snapshots that somebody took, labelled or protected end a merge; look at them with: walb snapshots ${at}`,
  });
}

/** The longest prefix whose merge has none of the gids inside. */
export function untilKept(list: readonly DiffMeta[], kept: readonly bigint[]): DiffMeta[] {
  const [first, ...rest] = list;
  if (first === undefined) return [];
  const chosen = [first];
  let merged = first;
  for (const next of rest) {
    const { from, to } = merged;
    const isKept = kept.some((gid) => from.gidB < gid && to.gidB <= gid && gid < next.to.gidB);
    if (isKept || !canMerge(merged, next)) break;
    merged = glue(merged, next);
    chosen.push(next);
  }
  return chosen;
}

/** The snapshot the base image has when everything up to `gid` was applied. */
export function appliedSnapshot(set: DiffSet, state: ArchiveState, gid: bigint): Snapshot {
  return applyAll(state.from, applyRound(set, state, gid));
}

/** Where a restore begins. */
export interface RestoreStart {
  /** Undefined: at the base image. */
  readonly cold: Cold | undefined;
  readonly state: ArchiveState;
}

/** The newest of the images from which the diffs lead to exactly `gid`. */
export function planStart(set: DiffSet, base: ArchiveState, colds: readonly Cold[], gid: bigint): RestoreStart {
  const cold = colds.findLast((candidate) => {
    if (candidate.gid <= base.from.gidB || candidate.gid > gid) return false;
    const { from } = coldState(candidate);
    const reached = applyAll(from, applicableToGid(set, from, gid));
    return reached.gidB === gid && isClean(reached);
  });
  return { cold, state: cold === undefined ? base : coldState(cold) };
}

/**
 * The newest image that can take the place of the base on the way to `gid`: everything behind it stays restorable.
 * Undefined when there is none, or the base is in the middle of an apply.
 */
export function planPromotion(set: DiffSet, base: ArchiveState, colds: readonly Cold[], gid: bigint): Cold | undefined {
  if (base.to !== undefined) return undefined;
  const gids = pointsInTime(set, base).map((point) => point.gid);
  return colds.findLast((cold) => {
    if (cold.gid <= base.from.gidB || cold.gid > gid) return false;
    const left = new Set(pointsInTime(set, coldState(cold)).map((point) => point.gid));
    return gids.every((known) => known < cold.gid || left.has(known));
  });
}

/** The state of an image of a point. */
export function coldState(cold: Cold): ArchiveState {
  return { from: snapshot(cold.gid), timestampS: cold.timestampS };
}

/** Refuses an apply that protected points do not survive. @throws WalbError `state` naming them. */
export function requireUnprotected(
  points: readonly RestorePoint[],
  labels: ReadonlyMap<bigint, Label>,
  newBaseGid: bigint,
  { at }: { readonly at: string },
): void {
  const lost = points.filter((point) => point.gid < newBaseGid && labels.get(point.gid)?.isProtected === true);
  const [first] = lost;
  if (first === undefined) return;
  throw new WalbError("state", {
    what: `applying up to gid ${newBaseGid} would destroy protected points: ${pointsText(lost)}`,
    where: { field: "gid" },
    hint: `apply no further than gid ${first.gid}, or take the protection away first: walb unprotect ${at} ${first.gid}`,
  });
}

const pointsNamedMax = 8;

/** Points for people: each by gid and time, of many the first and the last ones. */
export function pointsText(points: readonly RestorePoint[]): string {
  const name = (point: RestorePoint): string => `gid ${point.gid} (${utcText(point.timestampS)})`;
  if (points.length === 0) return "none";
  if (points.length <= pointsNamedMax) return points.map(name).join(", ");
  const half = pointsNamedMax / 2;
  const [head, tail] = [points.slice(0, half), points.slice(-half)];
  return `${head.map(name).join(", ")}, ${points.length - pointsNamedMax} more, ${tail.map(name).join(", ")}`;
}

/** The state of a copy of the image after a round of diffs. */
export function advanced(state: ArchiveState, diffs: readonly DiffMeta[]): ArchiveState {
  const last = diffs.at(-1);
  if (last === undefined) return state;
  let at = state.from;
  for (const diff of diffs) at = apply(at, diff);
  return { from: at, timestampS: last.timestampS };
}
