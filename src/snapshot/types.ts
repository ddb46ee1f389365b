/**
 * @module Snapshots, diffs and archive states as plain data, with constructors that check them.
 *
 * Source of the constraints: `docs/diff-algebra.md`, definitions; `docs/formats.md`, meta objects.
 */
import { WalbError } from "../errors.ts";
import { u64Max } from "../units.ts";

/**
 * A point of a volume's history, `|gidB,gidE|`. Clean when both are equal; otherwise every block has the content it had
 * at some time in [gidB, gidE].
 */
export interface Snapshot {
  readonly gidB: bigint;
  readonly gidE: bigint;
}

/** What is known of a diff without reading it. Two diffs are the same diff when `from` and `to` are equal. */
export interface DiffMeta {
  readonly from: Snapshot;
  readonly to: Snapshot;
  /** May be glued behind its predecessor; false makes `from` an explicit snapshot, which must stay restorable. */
  readonly isMergeable: boolean;
  /** Made by comparing two images: valid only from its exact start. */
  readonly isCompared: boolean;
  /** Time of `to`, seconds since 1970. */
  readonly timestampS: number;
  /** Size of its file; 0 when unknown. */
  readonly dataSizeBytes: number;
}

/**
 * State of an image: plain `<from>`, or applying `<from-->to>` when it is being brought from `from` to `to` and may be
 * anywhere between.
 */
export interface ArchiveState {
  readonly from: Snapshot;
  readonly to?: Snapshot;
  readonly timestampS: number;
}

/** The gid that means "unset" on disk and on the wire, and "no limit" in queries. */
export const gidMax = u64Max;

/** The default snapshot of the original: both gids unset. */
export const unsetSnapshot: Snapshot = Object.freeze({ gidB: u64Max, gidE: u64Max });

/** A bad-format error about one field of a meta object. */
export function badField(field: string, what: string): WalbError {
  return new WalbError("bad-format", { what, where: { field } });
}

/** @throws WalbError `bad-format` naming `field` unless `gid` is a u64. */
export function checkGid(gid: bigint, field: string): bigint {
  if (gid < 0n || gid > u64Max) throw badField(field, `${field} is ${gid}, which is not an unsigned 64-bit number`);
  return gid;
}

/**
 * A snapshot; clean when `gidE` is left out.
 * @throws WalbError `bad-format` naming the field when a gid is not a u64 or gidE < gidB.
 */
export function snapshot(gidB: bigint, gidE: bigint = gidB, field = "snapshot"): Snapshot {
  checkGid(gidB, `${field}.gidB`);
  checkGid(gidE, `${field}.gidE`);
  if (gidE < gidB) throw badField(`${field}.gidE`, `${field} |${gidB},${gidE}| ends before it begins`);
  return { gidB, gidE };
}

/** What a diff is made of; flags default to false, numbers to 0. */
export interface DiffParts {
  readonly from: Snapshot;
  readonly to: Snapshot;
  readonly isMergeable?: boolean;
  readonly isCompared?: boolean;
  readonly timestampS?: number;
  readonly dataSizeBytes?: number;
}

/**
 * A checked diff: `from.gidB < to.gidB` and `from.gidE ≤ to.gidE`.
 * @throws WalbError `bad-format` naming the field.
 */
export function diffMeta(parts: DiffParts): DiffMeta {
  return checkDiffMeta({
    from: parts.from,
    to: parts.to,
    isMergeable: parts.isMergeable ?? false,
    isCompared: parts.isCompared ?? false,
    timestampS: parts.timestampS ?? 0,
    dataSizeBytes: parts.dataSizeBytes ?? 0,
  });
}

/** Checks all constraints of a diff that came from outside, and gives it back. @throws WalbError `bad-format`. */
export function checkDiffMeta(diff: DiffMeta): DiffMeta {
  const { from, to } = diff;
  snapshot(from.gidB, from.gidE, "diff.from");
  snapshot(to.gidB, to.gidE, "diff.to");
  if (from.gidB >= to.gidB)
    throw badField("diff.to.gidB", `the diff from gid ${from.gidB} to ${to.gidB} makes no progress`);
  if (from.gidE > to.gidE)
    throw badField("diff.to.gidE", `the diff ends at gidE ${to.gidE}, before its start's ${from.gidE}`);
  checkWhole(diff.timestampS, "diff.timestampS");
  checkWhole(diff.dataSizeBytes, "diff.dataSizeBytes");
  return diff;
}

/** A plain state `<at>`. @throws WalbError `bad-format`. */
export function plainState(at: Snapshot, timestampS: number): ArchiveState {
  snapshot(at.gidB, at.gidE, "state.from");
  return { from: at, timestampS: checkWhole(timestampS, "state.timestampS") };
}

/** An applying state `<from-->to>`. @throws WalbError `bad-format` unless from.gidB < to.gidB. */
export function applyingState(from: Snapshot, to: Snapshot, timestampS: number): ArchiveState {
  snapshot(from.gidB, from.gidE, "state.from");
  snapshot(to.gidB, to.gidE, "state.to");
  if (from.gidB >= to.gidB) {
    throw badField("state.to.gidB", `the state goes from gid ${from.gidB} to ${to.gidB}, which is no progress`);
  }
  return { from, to, timestampS: checkWhole(timestampS, "state.timestampS") };
}

/** Whether every block is as of one moment. */
export function isClean(snap: Snapshot): boolean {
  return snap.gidB === snap.gidE;
}

/** Whether both ends of a diff are clean. */
export function isCleanDiff(diff: DiffMeta): boolean {
  return isClean(diff.from) && isClean(diff.to);
}

/** Equality of snapshots. */
export function isSameSnapshot(a: Snapshot, b: Snapshot): boolean {
  return a.gidB === b.gidB && a.gidE === b.gidE;
}

/** Equality of diffs: only `from` and `to` count, not flags, time or size. */
export function isSameDiff(a: DiffMeta, b: DiffMeta): boolean {
  return isSameSnapshot(a.from, b.from) && isSameSnapshot(a.to, b.to);
}

/** Equality of states: the timestamp does not count. */
export function isSameState(a: ArchiveState, b: ArchiveState): boolean {
  if (!isSameSnapshot(a.from, b.from)) return false;
  if (a.to === undefined || b.to === undefined) return a.to === b.to;
  return isSameSnapshot(a.to, b.to);
}

function checkWhole(value: number, field: string): number {
  if (!Number.isSafeInteger(value) || value < 0)
    throw badField(field, `${field} is ${value}, not a whole number from 0`);
  return value;
}
