/**
 * @module What a database says, checked before it is believed: SQLite finds damage of its structure, not of a number, and
 * an old copy of a database is as good a database as the right one.
 */
import { asWalbError, WalbError } from "../errors.ts";
import type { Disk } from "../platform/disk.ts";
import { diffFileSuffix, parseDiffFileName } from "../snapshot/filename.ts";
import { stateText } from "../snapshot/text.ts";
import { type ArchiveState, isSameSnapshot, type Snapshot } from "../snapshot/types.ts";
import type { StoredDiff } from "./diff-rows.ts";
import type { Manifest } from "./manifest.ts";
import type { ArchiveStore } from "./store.ts";

/** @throws WalbError `damaged` for rows that no archive writes. */
export function requirePlausible(store: ArchiveStore, volume: string): void {
  const wrong = wrongVolume(store) ?? store.diffs.map(wrongDiff).find((text) => text !== undefined);
  if (wrong !== undefined) throw damagedRow(volume, wrong);
}

/** Numbers and names of rows that cannot be are found where they are made values. */
export const isOfRows = (error: unknown): boolean =>
  error instanceof WalbError && ["bad-format", "out-of-range", "bad-parameter"].includes(error.code);

/** A row that could not even be read. */
export function damagedRow(volume: string, cause: unknown): WalbError {
  const text = typeof cause === "string" ? cause : asWalbError(cause).what;
  return new WalbError("damaged", {
    what: `the volume's database has a row that cannot be: ${text}`,
    where: { volume },
  });
}

function wrongVolume({ state, base, isResetting, logUuid, archiveUuid, sizeLb }: ArchiveStore): string | undefined {
  if (!["SyncReady", "Archived", "Stopped"].includes(state)) return `there is no state ${JSON.stringify(state)}`;
  if (state !== "SyncReady" && base === undefined) return `in state ${state} there must be a base image`;
  if (state === "SyncReady" && base !== undefined && !isResetting) return "in state SyncReady there is no base image";
  for (const uuid of [logUuid, archiveUuid]) if (uuid !== undefined && !isUuid(uuid)) return `${uuid} is no uuid`;
  return sizeLb < 0 ? `${sizeLb} blocks are no size` : undefined;
}

/** Name and columns say the same. */
function wrongDiff({ fileName, meta, uuid }: StoredDiff): string | undefined {
  if (!isUuid(uuid)) return `${uuid} is no uuid of the log that ${fileName} comes from`;
  const named = parseDiffFileName(fileName);
  const isSame =
    isSameSnapshot(named.from, meta.from) &&
    isSameSnapshot(named.to, meta.to) &&
    named.isMergeable === meta.isMergeable &&
    named.isCompared === meta.isCompared &&
    named.timestampS === meta.timestampS;
  return isSame ? undefined : `the row of ${fileName} says something else than the name of the file`;
}

const isUuid = (text: string): boolean => /^[0-9a-f]{32}$/.test(text);

/** What database and manifest say about the base image. */
export interface BaseClaims {
  readonly store: Pick<ArchiveStore, "base" | "isResetting" | "resyncFile" | "sizeLb" | "archiveUuid">;
  readonly manifest: Pick<Manifest, "base" | "resyncFile" | "colds" | "sizeLb" | "archiveUuid">;
  /** Whether diffs lie in the volume's directory. */
  readonly hasDiffs: boolean;
}

/**
 * Why database and manifest cannot belong together; undefined when a crash explains what differs. The manifest is
 * written behind each change of the database, but for full backups and resyncs, where it comes first: of one line of
 * backups it is never ahead.
 */
export function contradiction({ store, manifest, hasDiffs }: BaseClaims): string | undefined {
  if (store.isResetting || store.resyncFile !== undefined || manifest.resyncFile !== undefined) return undefined;
  const [here, there] = [store.base, manifest.base];
  if (here === undefined && there === undefined) return undefined;
  const say = (base: typeof here): string => (base === undefined ? "that there is no base image" : stateText(base));
  const text = `of the base image the database says ${say(here)}, the manifest ${say(there)}`;
  // A full backup that broke off behind its manifest; nothing came after it.
  if (here === undefined) return hasDiffs ? text : undefined;
  if (there === undefined) return text;
  const [hereUuid, thereUuid] = [store.archiveUuid, manifest.archiveUuid];
  if (hereUuid !== undefined && thereUuid !== undefined && hereUuid !== thereUuid) {
    return `the database says that the backups are those of archive uuid ${hereUuid}, the manifest those of ${thereUuid}`;
  }
  if (store.sizeLb < manifest.sizeLb) {
    return `the database says that the volume has ${store.sizeLb} LB, the manifest ${manifest.sizeLb}`;
  }
  const [hereGid, thereGid] = [here.from.gidB, there.from.gidB];
  // Of an apply that only the manifest knows, any part may be in the image.
  if (hereGid === thereGid) return endOf(here).gidB < endOf(there).gidB ? text : undefined;
  // An apply, and a point kept as an image that was put in the place of the base.
  const isNext =
    there.to?.gidB === hereGid || there.to?.gidE === hereGid || manifest.colds.some(({ gid }) => gid === hereGid);
  return hereGid > thereGid && isNext ? undefined : text;
}

/** Where an image is when an apply that was begun is finished. */
const endOf = ({ from, to }: ArchiveState): Snapshot => to ?? from;

/** Whether diffs lie in a volume's directory. */
export async function hasDiffs(disk: Disk, directory: string): Promise<boolean> {
  return (await disk.list(directory)).some((fileName) => fileName.endsWith(diffFileSuffix));
}

/** @throws WalbError `damaged` when they cannot belong together. */
export function requireAgreement(claims: BaseClaims, volume: string, directory: string): void {
  const text = contradiction(claims);
  if (text === undefined) return;
  throw new WalbError("damaged", {
    what: `${text}: one of the two is an old copy`,
    where: { volume, file: directory },
    hint: "stop the archive, move the old one of volume.db (with volume.db-wal) and volume.json out of the directory, and start it again: what the other one says is taken. When in doubt keep volume.json",
  });
}
