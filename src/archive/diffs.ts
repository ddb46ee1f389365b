/** @module Opens the diffs of a volume in rounds of bounded size, checks them, and says what a damaged one costs. */
import { basename, dirname } from "node:path";
import { checkPlan } from "../diff/check.ts";
import type { MergePlan } from "../diff/merge.ts";
import { type DiffSet as OpenDiffs, openDiffSet } from "../diff/set.ts";
import type { DiffIo, DiffProgress } from "../diff/types.ts";
import { asWalbError, WalbError } from "../errors.ts";
import { isOutOfFiles } from "../native/errno.ts";
import { pointsInTime } from "../snapshot/restore.ts";
import type { DiffMeta } from "../snapshot/types.ts";
import type { StoredDiff } from "./diff-rows.ts";
import { pointsText } from "./plan.ts";
import type { ArchiveVolume } from "./volume.ts";
import { directoryFault } from "./volume-directory.ts";

/** Most diffs of a round when nothing else is said, and most of their records: about 160 MiB of index. */
const roundDiffsMax = 10_000;
const roundRecordsMax = 4 * 1024 * 1024;
/** Files open at once, whatever the size of a round. */
const openFilesMax = 64;

/** Diffs that are open, with their files kept until closed. */
export interface Round {
  readonly metas: readonly DiffMeta[];
  readonly open: OpenDiffs;
  close(): Promise<void>;
}

/** Opens diffs. @throws WalbError `damaged` that says which points a damaged one costs; `out-of-range` for too many. */
export async function openDiffs(
  volume: ArchiveVolume,
  io: DiffIo,
  diffs: readonly StoredDiff[],
  options: { readonly signal?: AbortSignal; readonly recordsMax?: number } = {},
): Promise<Round> {
  const names = diffs.map((diff) => diff.fileName);
  const letGo = volume.pins.hold(names);
  try {
    const paths = names.map((name) => volume.pathOf(name));
    const open = await openDiffSet(io, paths, { openFilesMax, ...options });
    try {
      requireOwn(volume, diffs, open);
    } catch (error) {
      await open.close();
      throw error;
    }
    return {
      metas: diffs.map((diff) => diff.meta),
      open,
      async close() {
        await open.close();
        await letGo();
      },
    };
  } catch (error) {
    await letGo();
    throw await explained(volume, error);
  }
}

/** A file put back under the name of another volume's would be whole, but wrong. @throws WalbError `damaged`. */
function requireOwn(volume: ArchiveVolume, diffs: readonly StoredDiff[], { sources }: OpenDiffs): void {
  for (const [i, { uuid, fileName }] of diffs.entries()) {
    const found = Buffer.from(sources[i]!.uuid).toString("hex");
    if (found === uuid) continue;
    throw new WalbError("damaged", {
      what: `the file is of the log ${found}, but a diff of the log ${uuid} was registered under this name`,
      where: { volume: volume.name, file: volume.pathOf(fileName), field: "uuid" },
    });
  }
}

/** As {@link requireOwn} for a lone diff, and that it is as large as it was: a file of the same log in the wrong place. */
export function requireSame(volume: ArchiveVolume, diff: StoredDiff, open: OpenDiffs): void {
  requireOwn(volume, [diff], open);
  const { fileBytes } = open.sources[0]!;
  const { fileName, contentLb, meta } = diff;
  if (fileBytes === meta.dataSizeBytes && open.stats.normalLb === contentLb) return;
  throw new WalbError("damaged", {
    what:
      `the file has ${fileBytes} bytes and writes ${open.stats.normalLb} LB, but a diff of ${meta.dataSizeBytes} bytes ` +
      `that writes ${contentLb} LB was registered under this name`,
    where: { volume: volume.name, file: volume.pathOf(fileName) },
  });
}

/**
 * Opens the next round: as many diffs as the options and memory allow.
 * @param choose the next diffs, at most so many where that is possible.
 * @returns undefined when there is nothing more to do.
 */
export async function openRound(
  volume: ArchiveVolume,
  io: DiffIo,
  choose: (countMax: number) => readonly StoredDiff[],
  signal: AbortSignal,
): Promise<Round | undefined> {
  let countMax = volume.settings.openDiffsMax === 0 ? roundDiffsMax : volume.settings.openDiffsMax;
  for (;;) {
    const diffs = choose(countMax);
    if (diffs.length === 0) return undefined;
    try {
      return await openDiffs(volume, io, diffs, { signal, recordsMax: roundRecordsMax });
    } catch (error) {
      const isTooMuch = error instanceof WalbError && error.code === "out-of-range" && error.where.field === "records";
      const fewer = Math.max(1, Math.floor(diffs.length / 2));
      if (!isTooMuch || choose(fewer).length >= diffs.length) throw error;
      countMax = fewer;
    }
  }
}

/**
 * Reads all data that a plan uses and checks it: before an image is changed for good, because after a half-done apply
 * nothing older could be restored either.
 */
export async function verifyPlan(
  volume: ArchiveVolume,
  io: DiffIo,
  round: Round,
  plan: MergePlan,
  signal: AbortSignal,
  onProgress: (doneLb: number, totalLb: number) => void,
): Promise<void> {
  try {
    const onDone = ({ doneLb, totalLb }: DiffProgress): void => onProgress(doneLb, totalLb);
    await checkPlan(io, round.open, plan, { signal, onProgress: onDone });
  } catch (error) {
    throw await explained(volume, error);
  }
}

/** In every error that was explained, so that it is not explained again further up. */
const costText = "without this diff these points are lost";
const waitText = "until this diff can be read these points cannot be restored";

/**
 * The commands for a new backup of a volume whose chain of diffs is broken: a hash backup would need the whole chain. An
 * archive does not know whether it is the primary one, whose backups are those that commands without a server delete.
 */
export function beginAnew({ name, at, settings: { nodeId } }: ArchiveVolume): string {
  // The stop takes the proxies along, and a reset leaves them stopped.
  const primary = `walb stop ${name}, walb reset ${name}, walb start ${name}, walb backup ${name}`;
  return `where this is a second archive: walb stop ${at}, walb reset ${at}, walb replicate ${name} --to ${nodeId}; where it is the primary one: ${primary}`;
}

/**
 * An error about a diff of the volume, with the points that the diff costs and those that are left; it is
 * shown in the status from then on. Any other error as it is. What cannot be read for want of rights, by trouble of the disk
 * or of the host is `unreadable`, not `damaged`: nothing is lost with it that a new backup would have to bring.
 */
export async function explained(volume: ArchiveVolume, thrown: unknown): Promise<WalbError> {
  const error = asWalbError(thrown, { volume: volume.name });
  const { file } = error.where;
  if (file === undefined || dirname(file) !== volume.directory) return error;
  if (!["damaged", "bad-format", "not-found", "io"].includes(error.code)) return error;
  if (error.what.includes(costText) || error.what.includes(waitText) || isOutOfFiles(error)) return error;
  const diff = volume.store.diffs.find((candidate) => candidate.fileName === basename(file));
  const { base, set } = volume.store;
  if (diff === undefined || base === undefined) return error;
  const away = error.code === "not-found" ? await directoryFault(volume) : undefined;
  if (away !== undefined) return away;
  const left = pointsInTime(set.erase(diff.meta), base);
  const gids = new Set(left.map((point) => point.gid));
  const lost = volume
    .points()
    .map(({ point }) => point)
    .filter((point) => !gids.has(point.gid));
  const explain = error.code === "io" ? unreadable : damaged;
  const failure = explain(volume, error, pointsText(lost), pointsText(left));
  const isOpening = error.where.offsetBytes === undefined && ["not-found", "io"].includes(error.code);
  volume.setDamage(diff.fileName, failure, isOpening);
  return failure;
}

function damaged(volume: ArchiveVolume, error: WalbError, lost: string, left: string): WalbError {
  return new WalbError("damaged", {
    what: `${error.what}${reasonOf(error)}; ${costText}: ${lost}; still restorable: ${left}`,
    where: error.where,
    hint:
      `put the file back from another copy, or restore what you need of the other points: walb restore ${volume.at} --snapshot GID --to PATH; ` +
      `then begin anew, which deletes all its points; ${beginAnew(volume)}`,
  });
}

/** Told in the sentence: lists of damage have no room for a cause. */
function reasonOf({ cause }: WalbError): string {
  return cause instanceof Error ? `: ${cause.message}` : "";
}

function unreadable(volume: ArchiveVolume, error: WalbError, lost: string, left: string): WalbError {
  const hint = error.hint ?? "look at the kernel log, and who may read it: ls -l";
  return new WalbError("unreadable", {
    what: `${error.what}${reasonOf(error)}; ${waitText}: ${lost}; still restorable: ${left}`,
    where: error.where,
    hint: `${hint}; then prove that all is there: walb verify ${volume.at}. Where a disk has lost it for good, put the file back from another copy`,
  });
}
