/**
 * @module Times as text: 14 digits in file names and states, the printable form in lists. Always UTC.
 *
 * Parsing normalises like a calendar: 29 February of a common year is 1 March, second 60 is the next minute.
 */
import { badField } from "./types.ts";

/** 9999-12-31 23:59:59, the last second that has a text form. */
export const timestampMaxS = 253_402_300_799;

/** `YYYYMMDDhhmmss`. @throws WalbError `bad-format` naming `field` after the year 9999. */
export function compactTimeText(timestampS: number, field = "timestamp"): string {
  return isoText(timestampS, field).replace(/[-T:]/g, "");
}

/** `YYYY-MM-DDThh:mm:ss`, or `---` for 0. @throws WalbError `bad-format` naming `field` after the year 9999. */
export function timeText(timestampS: number, field = "timestamp"): string {
  return timestampS === 0 ? "---" : isoText(timestampS, field);
}

/** `YYYY-MM-DDThh:mm:ssZ` for what people read; a command line shows it as local time. */
export function utcText(timestampS: number, field = "timestamp"): string {
  return timestampS === 0 ? "---" : `${isoText(timestampS, field)}Z`;
}

/**
 * Reads exactly `YYYYMMDDhhmmss`. Times before 1970 are refused: no format can hold them.
 * @throws WalbError `bad-format` naming `field`.
 */
export function parseCompactTime(text: string, field = "timestamp"): number {
  const parts = /^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)$/.exec(text);
  if (parts === null) throw badField(field, `${field} is "${text}", not 14 digits YYYYMMDDhhmmss`);
  return fromParts(parts, text, field);
}

/** Reads `YYYY-MM-DDThh:mm:ss`, or `---` as 0. @throws WalbError `bad-format` naming `field`. */
export function parseTime(text: string, field = "timestamp"): number {
  if (text === "---") return 0;
  const parts = /^(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)$/.exec(text);
  if (parts === null) throw badField(field, `${field} is "${text}", not YYYY-MM-DDThh:mm:ss`);
  return fromParts(parts, text, field);
}

function fromParts(parts: RegExpExecArray, text: string, field: string): number {
  const [year, month, day, hour, minute, second] = parts.slice(1).map(Number) as [
    number,
    number,
    number,
    number,
    number,
    number,
  ];
  const isValid =
    year >= 1900 && month >= 1 && month <= 12 && day >= 1 && day <= 31 && hour <= 23 && minute <= 59 && second <= 60;
  const timestampS = isValid ? Date.UTC(year, month - 1, day, hour, minute, second) / 1000 : -1;
  if (timestampS < 0) throw badField(field, `${field} is "${text}", not a time from 1970 on`);
  return timestampS;
}

function isoText(timestampS: number, field: string): string {
  if (!Number.isSafeInteger(timestampS) || timestampS < 0 || timestampS > timestampMaxS) {
    throw badField(field, `${field} is ${timestampS}, which has no text form`);
  }
  return new Date(timestampS * 1000).toISOString().slice(0, 19);
}
