/**
 * @module Taking over a volume directory of the original in place, and giving it back: what is the same for all roles.
 *
 * Order: the new database is made aside → renamed to its name, durably: from then on the volume is ours → the original's
 * files are moved to `walb-tools/`, so that the original refuses the directory → done. What broke off before the rename
 * is begun anew, behind it it is finished. Back: the original's files are written, its state last → our files go.
 */
import { WalbError } from "../errors.ts";
import type { Databases } from "../platform/database.ts";
import type { Disk } from "../platform/disk.ts";
import { volumeDatabaseName } from "./database.ts";
import { lockFileName } from "./directories.ts";

/** Where the original's files are kept. */
export const keptName = "walb-tools";
const asideName = "walb-adopt";

/** What adopting a volume is going to do, or did. */
export interface AdoptReport {
  readonly volume: string;
  /** State it has had, and will have. */
  readonly state: string;
  /** One line each: what is taken over. */
  readonly facts: readonly string[];
  /** What needs a look; nothing is lost by it. */
  readonly warnings: readonly string[];
}

/** A volume directory that is being taken over. */
export interface AdoptPlace {
  readonly disk: Disk;
  readonly databases: Databases;
  readonly directory: string;
}

/** True when a directory has our database: it is taken over already, maybe but for the last step. */
export async function isOurs({ disk, directory }: AdoptPlace): Promise<boolean> {
  return (await disk.info(`${directory}/${volumeDatabaseName}`)) !== undefined;
}

/** Makes the database aside and puts it in place. @param make opens, fills and closes a database in a directory. */
export async function placeDatabase(place: AdoptPlace, make: (aside: string) => Promise<void>): Promise<void> {
  const { disk, directory } = place;
  const aside = `${directory}/${asideName}`;
  await disk.removeTree(aside);
  await disk.makeDirectory(aside);
  await make(aside);
  if (((await disk.info(`${aside}/${volumeDatabaseName}-wal`))?.sizeBytes ?? 0) > 0) {
    throw new WalbError("no-space", {
      what: "the database could not be completed",
      where: { file: `${aside}/${volumeDatabaseName}` },
      hint: "make room on the file system, then adopt again",
    });
  }
  await disk.syncDirectory(aside);
  // What is left of another database would be taken for a part of this one.
  for (const suffix of ["-wal", "-shm"]) await disk.remove(`${directory}/${volumeDatabaseName}${suffix}`);
  await disk.rename(`${aside}/${volumeDatabaseName}`, `${directory}/${volumeDatabaseName}`);
  await disk.syncDirectory(directory);
}

/** Moves the original's files out of its sight: the last step, also of an adoption that broke off behind the others. */
export async function finishAdoption(
  { disk, directory }: AdoptPlace,
  volume: string,
  isOriginal: (name: string) => boolean,
): Promise<AdoptReport> {
  const kept = `${directory}/${keptName}`;
  await disk.removeTree(`${directory}/${asideName}`);
  await disk.makeDirectory(kept);
  for (const name of await disk.list(directory)) {
    if (isOriginal(name)) await disk.rename(`${directory}/${name}`, `${kept}/${name}`);
  }
  await disk.syncDirectory(kept);
  await disk.syncDirectory(directory);
  return takenOver(volume);
}

/** Of a volume that is ours already, but maybe for the last step. */
export function takenOver(volume: string): AdoptReport {
  return { volume, state: "taken over already", facts: [], warnings: [] };
}

/** Of a volume that is the original's already. */
export function givenBack(volume: string): AdoptReport {
  return { volume, state: "given back already", facts: [], warnings: [] };
}

/** Removes our files behind the original's, which are complete: the database last, for it says whose the volume is. */
export async function removeOurs(place: AdoptPlace, others: readonly string[]): Promise<void> {
  const { disk, directory } = place;
  for (const name of [...others, keptName]) await disk.removeTree(`${directory}/${name}`);
  for (const suffix of ["", "-wal", "-shm"]) await disk.remove(`${directory}/${volumeDatabaseName}${suffix}`);
  await disk.syncDirectory(directory);
}

/**
 * Removes what our daemons have beside the volumes of a data directory that has none of ours any more, their lock last.
 * Call it with the lock held. @param others files of the role. @returns false when a volume is ours still.
 */
export async function leaveDataDirectory(
  disk: Disk,
  dataDir: string,
  others: readonly string[] = [],
): Promise<boolean> {
  for (const name of await disk.list(dataDir)) {
    if ((await disk.info(`${dataDir}/${name}/${volumeDatabaseName}`)) !== undefined) return false;
  }
  for (const name of [...others, lockFileName]) await disk.remove(`${dataDir}/${name}`);
  await disk.syncDirectory(dataDir);
  return true;
}

/** A refusal to give a volume back. */
export function notBack(volume: string, what: string, hint: string): WalbError {
  return new WalbError("state", { what: `the volume cannot go back to walb-tools: ${what}`, where: { volume }, hint });
}
