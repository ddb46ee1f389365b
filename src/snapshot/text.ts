/**
 * @module Text forms of snapshots, diffs, states and log points, and their parsers.
 *
 * Source: `docs/formats.md`, meta objects; `docs/protocol.md`, get targets.
 */
import { u64Max } from "../units.ts";
import { compactTimeText, parseCompactTime, parseTime, timeText } from "./time.ts";
import {
  type ArchiveState,
  applyingState,
  badField,
  checkGid,
  type DiffMeta,
  diffMeta,
  isClean,
  plainState,
  type Snapshot,
  snapshot,
} from "./types.ts";

/** Longer texts are refused before they are looked at; every valid one is far shorter. */
const textCharsMax = 4096;

/** `|B|` when clean, else `|B,E|`. */
export function snapshotText(snap: Snapshot): string {
  return isClean(snap) ? `|${snap.gidB}|` : `|${snap.gidB},${snap.gidE}|`;
}

/** Reads a snapshot; what follows it is ignored, as in the original. @throws WalbError `bad-format` naming `field`. */
export function parseSnapshot(text: string, field = "snapshot"): Snapshot {
  return readSnapshot(checkText(text, field), 0, field).snap;
}

/** `|B|-->|E|`. */
export function diffText(diff: Pick<DiffMeta, "from" | "to">): string {
  return `${snapshotText(diff.from)}-->${snapshotText(diff.to)}`;
}

/** The two flag characters: `M` or `-`, then `C` or `-`. */
export function flagsText(diff: Pick<DiffMeta, "isMergeable" | "isCompared">): string {
  return `${diff.isMergeable ? "M" : "-"}${diff.isCompared ? "C" : "-"}`;
}

/** The form of status lists: `|B|-->|E| MC YYYY-MM-DDThh:mm:ss size`. */
export function diffLineText(diff: DiffMeta): string {
  return `${diffText(diff)} ${flagsText(diff)} ${timeText(diff.timestampS)} ${diff.dataSizeBytes}`;
}

/** The verbose form: `|B|-->|E| (MC YYYY-MM-DDThh:mm:ss size)`. */
export function diffVerboseText(diff: DiffMeta): string {
  return `${diffText(diff)} (${flagsText(diff)} ${timeText(diff.timestampS)} ${diff.dataSizeBytes})`;
}

/** Reads a diff in any of its three text forms. @throws WalbError `bad-format` naming `field`. */
export function parseDiffText(text: string, field = "diff"): DiffMeta {
  checkText(text, field);
  const from = readSnapshot(text, 0, `${field}.from`);
  if (!text.startsWith("-->", from.end)) throw badField(field, `${field} "${text}" has no --> behind its start`);
  const to = readSnapshot(text, from.end + 3, `${field}.to`);
  const rest = text.slice(to.end);
  if (rest === "") return diffMeta({ from: from.snap, to: to.snap });
  const parts = /^ (\()?([M-])([C-]) (\S+) (\d{1,16})(\))?$/.exec(rest);
  if (parts === null || (parts[1] === undefined) !== (parts[6] === undefined)) {
    throw badField(field, `${field} "${text}" does not end with flags, time and size`);
  }
  return diffMeta({
    from: from.snap,
    to: to.snap,
    isMergeable: parts[2] === "M",
    isCompared: parts[3] === "C",
    timestampS: parseTime(parts[4]!, `${field}.timestamp`),
    dataSizeBytes: Number(parts[5]),
  });
}

/** `<|B|>` or `<|B|-->|E|>`. */
export function stateText(state: ArchiveState): string {
  return state.to === undefined
    ? `<${snapshotText(state.from)}>`
    : `<${snapshotText(state.from)}-->${snapshotText(state.to)}>`;
}

/** {@link stateText} with `-YYYYMMDDhhmmss` behind it. */
export function stateTimeText(state: ArchiveState): string {
  return `${stateText(state)}-${compactTimeText(state.timestampS)}`;
}

/**
 * Reads a state with or without its time; without, the time is `nowS`.
 * @throws WalbError `bad-format` naming `field`.
 */
export function parseState(text: string, nowS: number, field = "state"): ArchiveState {
  checkText(text, field);
  if (!text.startsWith("<")) throw badField(field, `${field} "${text}" does not begin with <`);
  const from = readSnapshot(text, 1, `${field}.from`);
  const to = text.startsWith("-->", from.end) ? readSnapshot(text, from.end + 3, `${field}.to`) : undefined;
  const end = (to ?? from).end;
  if (text[end] !== ">") throw badField(field, `${field} "${text}" does not end with >`);
  const rest = text.slice(end + 1);
  if (rest !== "" && rest[0] !== "-") throw badField(field, `${field} "${text}" has something behind its end`);
  const timestampS = rest === "" ? nowS : parseCompactTime(rest.slice(1), `${field}.timestamp`);
  return to === undefined ? plainState(from.snap, timestampS) : applyingState(from.snap, to.snap, timestampS);
}

/** One line of the list of restorable snapshots. */
export interface GidInfo {
  readonly gid: bigint;
  readonly timestampS: number;
  readonly isExplicit: boolean;
}

/** `gid time explicit`, explicit 0 or 1. */
export function gidInfoText(info: GidInfo): string {
  return `${info.gid} ${timeText(info.timestampS)} ${info.isExplicit ? 1 : 0}`;
}

/** Reads a line of the list of restorable snapshots. @throws WalbError `bad-format` naming `field`. */
export function parseGidInfo(text: string, field = "restorable snapshot"): GidInfo {
  const parts = /^(\d+) (\S+) ([01])$/.exec(checkText(text, field));
  if (parts === null) throw badField(field, `${field} "${text}" is not "gid time 0|1"`);
  return {
    gid: parseGid(parts[1]!, `${field}.gid`),
    timestampS: parseTime(parts[2]!, `${field}.timestamp`),
    isExplicit: parts[3] === "1",
  };
}

/** A position in the log with its gid; an undefined lsid is unset. */
export interface LsidGid {
  readonly lsid: number | undefined;
  readonly gid: bigint;
  readonly isMergeable: boolean;
  readonly timestampS: number;
}

/** `LsidGid timestamp T isMergeable 0|1 lsid N gid N`, as in the status of a storage. */
export function lsidGidText(point: LsidGid): string {
  const lsid = point.lsid ?? u64Max;
  return `LsidGid timestamp ${timeText(point.timestampS)} isMergeable ${point.isMergeable ? 1 : 0} lsid ${lsid} gid ${point.gid}`;
}

/** Reads {@link lsidGidText}. @throws WalbError `bad-format` naming `field`. */
export function parseLsidGid(text: string, field = "log point"): LsidGid {
  const parts = /^LsidGid timestamp (\S+) isMergeable ([01]) lsid (\d+) gid (\d+)$/.exec(checkText(text, field));
  if (parts === null)
    throw badField(field, `${field} "${text}" is not "LsidGid timestamp T isMergeable 0|1 lsid N gid N"`);
  const lsid = parseGid(parts[3]!, `${field}.lsid`);
  if (lsid !== u64Max && lsid > BigInt(Number.MAX_SAFE_INTEGER))
    throw badField(`${field}.lsid`, `lsid ${lsid} is out of range`);
  return {
    lsid: lsid === u64Max ? undefined : Number(lsid),
    gid: parseGid(parts[4]!, `${field}.gid`),
    isMergeable: parts[2] === "1",
    timestampS: parseTime(parts[1]!, `${field}.timestamp`),
  };
}

/** Reads a decimal u64; leading zeroes are allowed. @throws WalbError `bad-format` naming `field`. */
export function parseGid(digits: string, field = "gid"): bigint {
  if (!/^\d+$/.test(digits)) throw badField(field, `${field} is "${digits.slice(0, 64)}", not a decimal number`);
  const significant = digits.replace(/^0+(?=\d)/, "");
  if (significant.length > 20)
    throw badField(field, `${field} has ${significant.length} digits, more than 64 bits hold`);
  return checkGid(BigInt(significant), field);
}

function readSnapshot(text: string, at: number, field: string): { readonly snap: Snapshot; readonly end: number } {
  const pattern = /\|(\d+)(?:,(\d+))?\|/y;
  pattern.lastIndex = at;
  const parts = pattern.exec(text);
  if (parts === null) throw badField(field, `${field} in "${text}" is not |gid| or |gid,gid|`);
  const gidB = parseGid(parts[1]!, `${field}.gidB`);
  const gidE = parts[2] === undefined ? gidB : parseGid(parts[2], `${field}.gidE`);
  return { snap: snapshot(gidB, gidE, field), end: pattern.lastIndex };
}

function checkText(text: string, field: string): string {
  if (text.length > textCharsMax) throw badField(field, `${field} is a text of ${text.length} characters`);
  return text;
}
