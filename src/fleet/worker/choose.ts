/**
 * @module What the worker merges, applies and replicates when volumes have no rules of their own: the choices of the
 * original's worker. Pure.
 */
import { risingTimes } from "../../snapshot/by-time.ts";
import type { DiffMeta } from "../../snapshot/types.ts";

/** Bounds of a merge. */
export interface MergeLimits {
  /** Most data merged into one diff; a larger diff is left alone. */
  readonly bytesMax?: number | undefined;
  /** Most diffs added to the first one. */
  readonly countMax?: number | undefined;
  /** Gids that must stay reachable: where replicas are, points somebody protected. */
  readonly keptGids?: readonly bigint[];
}

/** A range of diffs to merge, all of them from `fromGid` to `toGid`. */
export interface MergeRange {
  readonly fromGid: bigint;
  readonly toGid: bigint;
  readonly diffCount: number;
  readonly bytes: number;
}

/**
 * The run of diffs that gains most by being merged: of all runs that may be, the one with the smallest diffs on average.
 * The run with the newest diff is left to grow.
 * @param diffs that lead from the base to the newest point, in order.
 */
export function chooseMerge(diffs: readonly DiffMeta[], limits: MergeLimits = {}): MergeRange | undefined {
  const { bytesMax = Number.POSITIVE_INFINITY, countMax = Number.POSITIVE_INFINITY, keptGids = [] } = limits;
  const kept = new Set(keptGids);
  let best: MergeRange | undefined;
  let run: DiffMeta[] = [];
  let bytes = 0;
  const end = (): void => {
    const [first, last] = [run[0], run.at(-1)];
    if (first !== undefined && last !== undefined && run.length >= 2) {
      const range = { fromGid: first.from.gidB, toGid: last.to.gidB, diffCount: run.length, bytes };
      if (best === undefined || bytes / run.length < best.bytes / best.diffCount) best = range;
    }
    run = [];
    bytes = 0;
  };
  for (const diff of diffs) {
    const goesOn =
      run.length > 0 &&
      diff.isMergeable &&
      !diff.isCompared &&
      !kept.has(diff.from.gidB) &&
      bytes + diff.dataSizeBytes <= bytesMax &&
      run.length <= countMax;
    if (!goesOn) end();
    if (diff.isCompared || diff.dataSizeBytes > bytesMax) continue;
    run.push(diff);
    bytes += diff.dataSizeBytes;
  }
  return best;
}

/** A point with its time. */
interface Point {
  readonly gid: bigint;
  readonly timeMs: number;
}

/**
 * The newest point that is old enough to be applied, as all before it are, whatever the clock that stamped them did; the
 * first one is the base already.
 */
export function chooseApply<P extends Point>(points: readonly P[], limitMs: number, nowMs: number): P | undefined {
  const times = risingTimes(
    points.map(({ timeMs }) => timeMs),
    nowMs,
  );
  const at = times.findLastIndex((timeMs) => timeMs <= limitMs);
  return at > 0 ? points[at] : undefined;
}

/**
 * Up to which gid to replicate at once, so that about `bytesMax` are sent.
 * @param latestGid what the replica has.
 * @returns undefined for no limit: up to the newest point.
 */
export function chooseReplicationEnd(
  diffs: readonly DiffMeta[],
  bytesMax: number,
  latestGid: bigint,
): bigint | undefined {
  if (bytesMax === 0 || diffs.length <= 1) return undefined;
  const next = diffs.findIndex(({ from }) => from.gidB > latestGid);
  if (next < 0) return undefined;
  const begin = Math.max(0, next - 1);
  let bytes = 0;
  let end = diffs.length - 1;
  for (let i = begin; i < diffs.length; i++) {
    bytes += diffs[i]!.dataSizeBytes;
    if (bytes <= bytesMax) continue;
    end = i;
    break;
  }
  return diffs[Math.max(end, Math.min(begin + 1, diffs.length - 1))]!.to.gidB;
}
