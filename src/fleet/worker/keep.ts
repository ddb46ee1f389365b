/**
 * @module Retention: which restorable points to keep. Pure.
 *
 * A rule keeps, for a time, the last point of each of its intervals: `hourly = "3d"` one point an hour for three days.
 * Intervals are those of the clock in UTC, so that what is kept does not depend on when one looks. A point goes only
 * when every interval it could still stand for has another, later one, and only in whole intervals: an hour is thinned
 * to its last point once all of it has left the finer rules, not minute by minute.
 */
import { WalbError } from "../../errors.ts";
import { risingTimes } from "../../snapshot/by-time.ts";

const secondMs = 1000;
const minuteMs = 60 * secondMs;
const hourMs = 60 * minuteMs;
const dayMs = 24 * hourMs;

/** A span of intervals of one length; 0 for every point. */
export interface KeepRule {
  /** As in the fleet file: `all`, `every5m`, `hourly`. */
  readonly name: string;
  /** Start of the interval that a time is in. */
  readonly intervalStartMs: (timeMs: number) => number;
  /** How long points are kept by it; infinite for `forever`. */
  readonly forMs: number;
}

/** What retention sees of a point. */
export interface KeepPoint {
  readonly gid: bigint;
  readonly timeMs: number;
  readonly isProtected: boolean;
}

/** A point that stays, and why; in English, for people. */
export interface KeptPoint {
  readonly gid: bigint;
  readonly reasons: readonly string[];
}

/** What retention decides. Both in the order of the points. */
export interface Retention {
  readonly kept: readonly KeptPoint[];
  readonly droppedGids: readonly bigint[];
}

const named: Readonly<Record<string, KeepRule["intervalStartMs"]>> = {
  all: (timeMs) => timeMs,
  hourly: every(hourMs),
  daily: every(dayMs),
  // 1970-01-01 was a Thursday; weeks begin on Monday.
  weekly: every(7 * dayMs, 4 * dayMs),
  monthly: (timeMs) => monthStart(timeMs, 1),
  yearly: (timeMs) => monthStart(timeMs, 12),
};
const unitMs: Readonly<Record<string, number>> = { s: secondMs, m: minuteMs, h: hourMs, d: dayMs };

/**
 * Reads rules, e.g. `{ all = "2h", every5m = "1d", hourly = "3d", daily = "14d" }`.
 * @param readDuration `2h` in ms. @param field names where the rules are, for errors.
 * @throws WalbError `usage` naming the rule.
 */
export function parseKeep(
  rules: Readonly<Record<string, string | number>>,
  readDuration: (text: string) => number,
  field: string,
): KeepRule[] {
  const parsed = Object.entries(rules).map(([name, value]): KeepRule => {
    const bad = (what: string): WalbError =>
      new WalbError("usage", {
        what,
        where: { field: `${field}.${name}` },
        hint: 'for example: keep = { all = "2h", every5m = "1d", hourly = "3d", daily = "14d", monthly = "forever" }',
      });
    const intervalStartMs = intervalOf(name);
    if (intervalStartMs === undefined) {
      throw bad("rules are all, everyN with s, m, h or d, hourly, daily, weekly, monthly and yearly");
    }
    if (value === "forever") return { name, intervalStartMs, forMs: Number.POSITIVE_INFINITY };
    let forMs: number;
    try {
      forMs = readDuration(String(value));
    } catch {
      throw bad(`${JSON.stringify(value)} is not a duration`);
    }
    if (forMs <= 0) throw bad("the duration must be above zero");
    return { name, intervalStartMs, forMs };
  });
  return parsed.toSorted((a, b) => a.forMs - b.forMs);
}

function intervalOf(name: string): KeepRule["intervalStartMs"] | undefined {
  if (Object.hasOwn(named, name)) return named[name];
  const match = /^every([1-9]\d{0,5})([smhd])$/.exec(name);
  return match === null ? undefined : every(Number(match[1]) * unitMs[match[2] ?? ""]!);
}

function every(lengthMs: number, phaseMs = 0): KeepRule["intervalStartMs"] {
  return (timeMs) => Math.floor((timeMs - phaseMs) / lengthMs) * lengthMs + phaseMs;
}

function monthStart(timeMs: number, months: number): number {
  const time = new Date(timeMs);
  const month = Math.floor(time.getUTCMonth() / months) * months;
  return Date.UTC(time.getUTCFullYear(), month);
}

/**
 * Decides about every point. Where a clock was wrong, ages are those of the points around, and a point that is the last
 * one of an interval by what it was stamped with stays as well: others may look as if they were of the same time.
 * @param points in order of gid, which is that of time, but where a clock was wrong: see {@link risingTimes}.
 * @param rules as {@link parseKeep} gives them; without any, all points stay.
 */
export function planRetention(points: readonly KeepPoint[], rules: readonly KeepRule[], nowMs: number): Retention {
  const reasons = points.map((): string[] => []);
  const stamped = points.map(({ timeMs }) => timeMs);
  const rising = risingTimes(stamped, nowMs);
  for (const [i, rule] of rules.entries()) {
    const cutoffMs = cutoff(rules, i, nowMs);
    const isLast = (times: readonly number[], p: number): boolean =>
      p + 1 === times.length || rule.intervalStartMs(times[p + 1]!) !== rule.intervalStartMs(times[p]!);
    for (const [p, list] of reasons.entries()) {
      if (rising[p]! < cutoffMs) continue;
      if (rule.name === "all" || isLast(rising, p) || isLast(stamped, p)) list.push(rule.name);
    }
  }
  for (const [p, point] of points.entries()) if (point.isProtected) reasons[p]?.push("protected");
  if (points.length > 0) reasons.at(-1)?.push("newest");
  if (rules.length === 0) for (const list of reasons) if (list.length === 0) list.push("no rule");
  return {
    kept: points.flatMap(({ gid }, p) => (reasons[p]!.length > 0 ? [{ gid, reasons: reasons[p]! }] : [])),
    droppedGids: points.flatMap(({ gid }, p) => (reasons[p]!.length > 0 ? [] : [gid])),
  };
}

/**
 * From when on a rule keeps points: its time back from now, and further back to where an interval of the next coarser
 * rule begins, so that this interval is thinned as a whole.
 */
function cutoff(rules: readonly KeepRule[], i: number, nowMs: number): number {
  const rule = rules[i]!;
  if (rule.forMs === Number.POSITIVE_INFINITY) return Number.NEGATIVE_INFINITY;
  const coarser = rules.slice(i + 1).find((other) => other.forMs > rule.forMs) ?? rule;
  return Math.min(coarser.intervalStartMs(nowMs - rule.forMs), rule.intervalStartMs(nowMs - rule.forMs));
}
