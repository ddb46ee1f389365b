/** @module Times and durations as people write and read them. */
import { WalbError } from "../../errors.ts";

export { formatAge, formatDuration } from "../../fleet/format.ts";

const unitMs: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
  w: 604_800_000,
};

/** Reads `90s`, `5m`, `2h`, `3d`, `1h30m`; a bare number is seconds. @throws WalbError `usage`. */
export function parseDuration(text: string): number {
  const ms = durationMs(text.trim());
  if (ms !== undefined) return ms;
  throw new WalbError("usage", {
    what: `${JSON.stringify(text)} is not a duration`,
    hint: "write a number with ms, s, m, h, d or w, e.g. 90s, 5m, 1h30m",
  });
}

/**
 * Reads a point in time: `now`, `-5m` (ago), ISO 8601, or `YYYY-MM-DD [hh:mm[:ss]]` in local time.
 * @returns milliseconds since 1970 UTC.
 * @throws WalbError `usage`.
 */
export function parseTime(text: string, nowMs: number): number {
  const trimmed = text.trim();
  if (trimmed === "now") return nowMs;
  if (trimmed.startsWith("-")) {
    const ago = durationMs(trimmed.slice(1));
    if (ago !== undefined && ago <= nowMs) return nowMs - ago;
  }
  const match = /^(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?(Z|[+-]\d\d:?\d\d)?)?$/i.exec(
    trimmed,
  );
  if (match !== null) {
    const [, year, month, day, hour, minute, second, fraction, zone] = match;
    const parts = [year, month, day, hour ?? 0, minute ?? 0, second ?? 0].map(Number);
    const ms = Number((fraction ?? "").padEnd(3, "0").slice(0, 3));
    const time = zone === undefined ? localTime(parts, ms) : zonedTime(parts, ms, zone);
    if (time !== undefined && time >= 0) return time;
  }
  throw new WalbError("usage", {
    what: `${JSON.stringify(text)} is not a time`,
    hint: 'write "2026-11-21 14:03:05" (local), 2026-11-21T14:03:05Z, or how long ago: -5m, -2h, -3d',
  });
}

/** Local time, `2026-11-21 14:03:05`: what {@link parseTime} takes. */
export function formatTime(timeMs: number): string {
  const time = new Date(timeMs);
  const two = (value: number): string => String(value).padStart(2, "0");
  const date = `${String(time.getFullYear()).padStart(4, "0")}-${two(time.getMonth() + 1)}-${two(time.getDate())}`;
  return `${date} ${two(time.getHours())}:${two(time.getMinutes())}:${two(time.getSeconds())}`;
}

function durationMs(text: string): number | undefined {
  if (/^\d+$/.test(text)) return safe(Number(text) * 1000);
  if (!/^(\d+(ms|s|m|h|d|w))+$/.test(text)) return undefined;
  let sum = 0;
  for (const [, count, unit] of text.matchAll(/(\d+)(ms|s|m|h|d|w)/g)) sum += Number(count) * (unitMs[unit ?? ""] ?? 0);
  return safe(sum);
}

function safe(value: number): number | undefined {
  return Number.isSafeInteger(value) ? value : undefined;
}

function localTime(parts: readonly number[], ms: number): number | undefined {
  const [year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0] = parts;
  const time = new Date(year, month - 1, day, hour, minute, second, ms);
  const isSame =
    time.getFullYear() === year &&
    time.getMonth() === month - 1 &&
    time.getDate() === day &&
    time.getHours() === hour &&
    time.getMinutes() === minute &&
    time.getSeconds() === second;
  return isSame ? time.getTime() : undefined;
}

function zonedTime(parts: readonly number[], ms: number, zone: string): number | undefined {
  const [year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0] = parts;
  const time = new Date(Date.UTC(year, month - 1, day, hour, minute, second, ms));
  const isSame =
    time.getUTCFullYear() === year &&
    time.getUTCMonth() === month - 1 &&
    time.getUTCDate() === day &&
    time.getUTCHours() === hour &&
    time.getUTCMinutes() === minute &&
    time.getUTCSeconds() === second;
  if (!isSame) return undefined;
  if (zone.toUpperCase() === "Z") return time.getTime();
  const digits = zone.slice(1).replace(":", "");
  const [hours, minutes] = [Number(digits.slice(0, 2)), Number(digits.slice(2))];
  if (hours > 23 || minutes > 59) return undefined;
  return time.getTime() - (zone.startsWith("-") ? -1 : 1) * (hours * 60 + minutes) * 60_000;
}

/** A moment in UTC, ISO 8601, as daemons write it. */
const utcTime = /\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z/g;

/** A daemon's text with its moments in local time, as `walb snapshots` lists them and `--at` takes them. */
export function withLocalTimes(text: string): string {
  return text.replace(utcTime, (found) => {
    const ms = Date.parse(found);
    return Number.isNaN(ms) ? found : formatTime(ms);
  });
}
