/**
 * @module How a storage cuts its log into diffs: which range goes next, and which gids it gets. Pure.
 *
 * A point is a position in the log with a gid. `done` is the point delivered last; the queue holds the snapshots taken
 * since, oldest first. Gids leave room so that a large range can be cut into several diffs.
 * Source: `docs/diff-algebra.md`, where gids and flags come from.
 */
import { WalbError } from "../errors.ts";
import { checkRange } from "../units.ts";
import { type DiffMeta, diffMeta, gidMax, snapshot } from "./types.ts";

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
  /** The range must be sent up to `end`: it may be longer than the usual limit when no gid is left for a cut. */
  readonly isWhole: boolean;
}

/**
 * The point a snapshot at `lsid` becomes. The gids left out are for cutting the range into several diffs.
 * @throws WalbError `internal` when the log went backwards, `out-of-range` when the gids are used up.
 */
export function nextPoint(
  done: LogPoint,
  queue: readonly LogPoint[],
  lsid: number,
  options: { readonly isMergeable: boolean; readonly timestampS: number; readonly maxPb: number },
): LogPoint {
  checkMaxPb(options.maxPb);
  const before = queue.at(-1) ?? done;
  if (lsid < before.lsid) {
    throw new WalbError("internal", {
      what: `the log is at lsid ${lsid}, but the last snapshot was taken at ${before.lsid}`,
      hint: "the log was reset by somebody else: take a new backup",
    });
  }
  const gid = before.gid + 1n + BigInt(Math.floor((lsid - before.lsid) / options.maxPb));
  // The largest u64 means "unset".
  if (gid >= gidMax) {
    throw new WalbError("out-of-range", {
      what: `the gids are used up at ${before.gid}`,
      where: { field: "gid" },
      hint: "reset the volume and take a new full backup",
    });
  }
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
 * Whether an implicit snapshot must be taken before a transfer: none is waiting, or the log grew and the newest is older
 * than the interval, or of the future, as the clock went back. The queue has only undelivered snapshots.
 */
export function isSnapshotDue(
  queue: readonly LogPoint[],
  latestLsid: number,
  nowS: number,
  intervalS: number,
): boolean {
  const newest = queue.at(-1);
  if (newest === undefined) return true;
  const { lsid, timestampS } = newest;
  return lsid < latestLsid && (timestampS + intervalS <= nowS || nowS < timestampS);
}

/**
 * The next range to send. The queue has only undelivered snapshots. Undefined when there is none, or when the log is
 * not durable far enough yet.
 * @throws WalbError `internal` when the queue does not rise from `done` on.
 */
export function planRange(
  done: LogPoint,
  queue: readonly LogPoint[],
  permanentLsid: number,
  maxPb: number,
): RangePlan | undefined {
  checkMaxPb(maxPb);
  const oldest = queue[0];
  if (oldest === undefined) return undefined;
  checkRising(done, oldest);
  let end = oldest;
  // Implicit snapshots may be passed over; an explicit one must become the end of a diff.
  for (let at = 1; end.isMergeable && at < queue.length; at++) {
    const next = queue[at]!;
    if (next.lsid > done.lsid + maxPb || next.lsid > permanentLsid) break;
    checkRising(end, next);
    end = next;
  }
  // Cutting takes the gid behind done; when that is already the end's, the range goes whole, however long it is.
  const limitLsid = end.gid === done.gid + 1n ? end.lsid : Math.min(done.lsid + maxPb, end.lsid);
  if (permanentLsid < limitLsid) return undefined;
  return { fromLsid: done.lsid, limitLsid, end, isWhole: limitLsid === end.lsid };
}

/** What {@link prepareTransfer} decided. */
export interface TransferPlan {
  /** Undelivered snapshots, oldest first, with `taken` as the last. */
  readonly queue: readonly LogPoint[];
  /** An implicit snapshot that must be durable before the transfer begins. */
  readonly taken: LogPoint | undefined;
  /** Undefined: postponed until the log is durable far enough. */
  readonly range: RangePlan | undefined;
}

/** All of a transfer's preparation in one step: forgets what is delivered, takes a snapshot when due, chooses the range. */
export function prepareTransfer(input: {
  readonly done: LogPoint;
  readonly queue: readonly LogPoint[];
  readonly latestLsid: number;
  readonly permanentLsid: number;
  readonly maxPb: number;
  readonly nowS: number;
  readonly snapshotIntervalS: number;
}): TransferPlan {
  const { done, latestLsid, maxPb, nowS } = input;
  const pending = undelivered(done, input.queue);
  const taken = isSnapshotDue(pending, latestLsid, nowS, input.snapshotIntervalS)
    ? nextPoint(done, pending, latestLsid, { isMergeable: true, timestampS: nowS, maxPb })
    : undefined;
  const queue = taken === undefined ? pending : [...pending, taken];
  return { queue, taken, range: planRange(done, queue, input.permanentLsid, maxPb) };
}

/**
 * What a transfer that really ended at `endLsid`, a pack boundary, is: its diff, and the point that is delivered then.
 * @throws WalbError `internal` when it ended where no gid is left for the cut, or sent nothing of a range.
 */
export function finishRange(
  done: LogPoint,
  plan: RangePlan,
  endLsid: number,
): { readonly diff: RangeDiff; readonly done: LogPoint } {
  const isComplete = endLsid === plan.end.lsid;
  if (
    done.lsid !== plan.fromLsid ||
    endLsid > plan.limitLsid ||
    (!isComplete && (plan.isWhole || endLsid <= done.lsid))
  ) {
    throw new WalbError("internal", {
      what: `a transfer of the log from lsid ${plan.fromLsid} to ${plan.limitLsid} cannot end at ${endLsid} when ${done.lsid} is delivered`,
      where: { field: "lsid" },
    });
  }
  const toGid = isComplete ? plan.end.gid : done.gid + 1n;
  return {
    diff: { fromGid: done.gid, toGid, isMergeable: done.isMergeable, timestampS: plan.end.timestampS },
    done: isComplete ? plan.end : { lsid: endLsid, gid: toGid, isMergeable: true, timestampS: done.timestampS },
  };
}

/** The diff of a range as a meta object; its size is not known yet. */
export function rangeDiffMeta(diff: RangeDiff): DiffMeta {
  const { isMergeable, timestampS } = diff;
  return diffMeta({ from: snapshot(diff.fromGid), to: snapshot(diff.toGid), isMergeable, timestampS });
}

function checkRising(before: LogPoint, after: LogPoint): void {
  if (after.lsid >= before.lsid && after.gid > before.gid) return;
  throw new WalbError("internal", {
    what: `the snapshot (lsid ${after.lsid}, gid ${after.gid}) is not behind (lsid ${before.lsid}, gid ${before.gid})`,
    where: { field: "queue" },
    hint: "the list of snapshots is damaged: reset the volume and take a new backup",
  });
}

function checkMaxPb(maxPb: number): void {
  checkRange(maxPb, 1, Number.MAX_SAFE_INTEGER, "maxPb");
}
