/**
 * @module How a storage cuts its log into diffs: which range goes next, and which gids it gets. Pure.
 *
 * A point is a position in the log with a gid. `done` is the point delivered last; the queue holds the snapshots taken
 * since, oldest first. Gids leave room so that a large range can be cut into several diffs.
 * Source: `docs/diff-algebra.md`, where gids and flags come from.
 */
import { WalbError } from "../errors.ts";

/** A position in the log that has a gid. `isMergeable` is false for snapshots that somebody asked for. */
export interface LogPoint {
  readonly lsid: number;
  readonly gid: bigint;
  readonly isMergeable: boolean;
  readonly timestampS: number;
}

/** A diff that a range of the log becomes; both ends are clean. */
export interface RangeDiff {
  readonly fromGid: bigint;
  readonly toGid: bigint;
  readonly isMergeable: boolean;
  readonly timestampS: number;
}

/** A transfer to make: packs from `fromLsid` while they end at or below `limitLsid`. */
export interface RangePlan {
  readonly fromLsid: number;
  readonly limitLsid: number;
  /** Snapshot the range leads to. */
  readonly end: LogPoint;
  /** The range must not be cut: no gid is left in between. */
  readonly isWhole: boolean;
}

/** The point a snapshot at `lsid` becomes. @throws WalbError `internal` when the log went backwards. */
export function nextPoint(
  done: LogPoint,
  queue: readonly LogPoint[],
  lsid: number,
  options: { readonly isMergeable: boolean; readonly timestampS: number; readonly maxPb: number },
): LogPoint {
  const before = queue.at(-1) ?? done;
  if (lsid < before.lsid) {
    throw new WalbError("internal", {
      what: `the log is at lsid ${lsid}, but the last snapshot was taken at ${before.lsid}`,
      hint: "the log was reset by somebody else: take a new backup",
    });
  }
  const gid = before.gid + 1n + BigInt(Math.floor((lsid - before.lsid) / options.maxPb));
  return { lsid, gid, isMergeable: options.isMergeable, timestampS: options.timestampS };
}

/** The queue without the snapshots that `done` covers. */
export function undelivered(done: LogPoint, queue: readonly LogPoint[]): readonly LogPoint[] {
  const first = queue.findIndex(
    (point) => point.lsid > done.lsid || (point.lsid === done.lsid && point.gid > done.gid),
  );
  if (first < 0) return [];
  return first === 0 ? queue : queue.slice(first);
}

/**
 * The next range to send. The queue has only undelivered snapshots. Undefined when there is none, or when the log is
 * not durable far enough yet.
 */
export function planRange(
  done: LogPoint,
  queue: readonly LogPoint[],
  permanentLsid: number,
  maxPb: number,
): RangePlan | undefined {
  const oldest = queue[0];
  if (oldest === undefined) return undefined;
  let end = oldest;
  let visited = 1;
  // Implicit snapshots may be passed over; an explicit one must become the end of a diff.
  while (end.isMergeable && visited < queue.length) {
    const next = queue[visited]!;
    if (next.lsid > done.lsid + maxPb || next.lsid > permanentLsid) break;
    end = next;
    visited += 1;
  }
  const isWhole = visited === 1 && end.gid === done.gid + 1n;
  const limitLsid = isWhole ? end.lsid : Math.min(done.lsid + maxPb, end.lsid);
  if (permanentLsid < limitLsid) return undefined;
  return { fromLsid: done.lsid, limitLsid, end, isWhole };
}

/** What a transfer that really ended at `endLsid` is: its diff, and the point that is delivered then. */
export function finishRange(
  done: LogPoint,
  plan: RangePlan,
  endLsid: number,
): { readonly diff: RangeDiff; readonly done: LogPoint } {
  const isComplete = endLsid === plan.end.lsid;
  const toGid = isComplete ? plan.end.gid : done.gid + 1n;
  return {
    diff: { fromGid: done.gid, toGid, isMergeable: done.isMergeable, timestampS: plan.end.timestampS },
    done: isComplete ? plan.end : { lsid: endLsid, gid: toGid, isMergeable: true, timestampS: done.timestampS },
  };
}
