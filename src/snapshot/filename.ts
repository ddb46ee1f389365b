/**
 * @module Names of wdiff files: everything known of a diff but its size.
 *
 * `YYYYMMDDhhmmss-MC-B-E.wdiff`, or with four gids when an end is dirty. The parser accepts more than the writer
 * makes, exactly as the original's does, times before 1970 excepted: no format could hold them.
 * Source: `docs/formats.md`, wdiff file names and directories.
 */
import { WalbError } from "../errors.ts";
import { flagsText, parseGid } from "./text.ts";
import { compactTimeText, parseCompactTime } from "./time.ts";
import { badField, type DiffMeta, diffMeta, isCleanDiff, snapshot } from "./types.ts";

/** End of every wdiff file name. */
export const diffFileSuffix = ".wdiff";
const nameCharsMin = 27;
/** Longest name a Linux file system can hold. */
const nameCharsMax = 255;

/** The canonical file name of a diff. @throws WalbError `bad-format` when its time is after the year 9999. */
export function diffFileName(diff: DiffMeta): string {
  const { from, to } = diff;
  const gids = isCleanDiff(diff) ? [from.gidB, to.gidB] : [from.gidB, from.gidE, to.gidB, to.gidE];
  return `${compactTimeText(diff.timestampS, "diff.timestamp")}-${flagsText(diff)}-${gids.join("-")}${diffFileSuffix}`;
}

/**
 * Reads a file name. Callers that list a directory look only at names that end in {@link diffFileSuffix}: text behind
 * the suffix is ignored here.
 * @throws WalbError `bad-format` naming the file and the field.
 */
export function parseDiffFileName(name: string, dataSizeBytes = 0): DiffMeta {
  const bad = (what: string) =>
    badField("name", `"${name.slice(0, nameCharsMax)}" is not the name of a wdiff: ${what}`).at({ file: name });
  if (name.length < nameCharsMin) throw bad("it is too short");
  if (name.length > nameCharsMax) throw bad("it is too long");
  if (name[14] !== "-" || name[17] !== "-") throw bad("time, flags and gids are not separated by -");
  try {
    const gids = readGids(name, 18);
    const [a, b, c, d] = gids;
    if (a === undefined || b === undefined || gids.length === 3) {
      throw bad(`it has ${gids.length} gids, but needs 2 or 4`);
    }
    return diffMeta({
      from: c === undefined ? snapshot(a, a, "diff.from") : snapshot(a, b, "diff.from"),
      to: c === undefined || d === undefined ? snapshot(b, b, "diff.to") : snapshot(c, d, "diff.to"),
      isMergeable: name[15] === "M",
      isCompared: name[16] === "C",
      timestampS: parseCompactTime(name.slice(0, 14), "diff.timestamp"),
      dataSizeBytes,
    });
  } catch (error) {
    throw error instanceof WalbError ? error.at({ file: name }) : error;
  }
}

/** Up to four numbers: each ends at the next `-`, or at the first suffix when there is no more `-`. */
function readGids(name: string, start: number): bigint[] {
  const gids: bigint[] = [];
  let at = start;
  while (gids.length < 4) {
    const dash = name.indexOf("-", at);
    const end = dash >= 0 ? dash : name.indexOf(diffFileSuffix, at);
    if (end < 0) throw badField("name", `the file name does not end in ${diffFileSuffix}`);
    gids.push(parseGid(name.slice(at, end), "diff.gid"));
    if (dash < 0) break;
    at = dash + 1;
  }
  return gids;
}
