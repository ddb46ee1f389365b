/**
 * @module The data directory of a daemon: one directory per volume, one lock, one bad volume never stops the others.
 */
import { asWalbError, WalbError } from "../errors.ts";
import type { Disk, DiskFile, OpenOptions } from "../platform/disk.ts";
import { volumeDatabaseName } from "./database.ts";

const volumeIdPattern = /^[0-9A-Za-z-]{1,64}$/;

/** Whether a name can be that of a volume. */
export function isVolumeId(name: string): boolean {
  return volumeIdPattern.test(name);
}

/** Checks a volume id: 1 to 64 characters of 0-9 A-Z a-z and "-". @throws WalbError `bad-parameter`. */
export function checkVolumeId(volume: string): string {
  if (isVolumeId(volume)) return volume;
  throw new WalbError("bad-parameter", {
    what: `"${volume.slice(0, 80)}" is not a volume name`,
    where: { field: "volume" },
    hint: "use 1 to 64 letters, digits and hyphens, for example: vol0",
  });
}

/** Name of the file that keeps two daemons out of one data directory. */
export const lockFileName = "walb.lock";

/** Makes the data directory and takes its lock. @throws WalbError `locked` when another daemon has it. */
export async function lockDataDirectory(disk: Disk, dataDir: string): Promise<DiskFile> {
  await disk.makeDirectory(dataDir);
  return takeLock(disk, dataDir, "createOrOpen");
}

/** As {@link lockDataDirectory}, but changes nothing: undefined where no daemon of ours has ever been. */
export async function lockUsedDataDirectory(disk: Disk, dataDir: string): Promise<DiskFile | undefined> {
  if ((await disk.info(`${dataDir}/${lockFileName}`)) === undefined) return undefined;
  return takeLock(disk, dataDir, "read");
}

async function takeLock(disk: Disk, dataDir: string, mode: OpenOptions["mode"]): Promise<DiskFile> {
  try {
    return await disk.open(`${dataDir}/${lockFileName}`, { mode, lock: true });
  } catch (error) {
    const failure = asWalbError(error);
    if (failure.code !== "locked") throw failure;
    throw new WalbError("locked", {
      what: "another walb daemon uses this data directory",
      where: { file: dataDir },
      hint: "stop the other daemon, or give this one its own directory with --data DIR",
    });
  }
}

/** A volume that could not be opened, and why. */
export interface BrokenVolume {
  readonly volume: string;
  readonly error: WalbError;
}

/** Files of which the original has one in each volume directory, and we have none: of a storage, a proxy, an archive. */
const originalMarks = ["done", "size", "archive_uuid"] as const;

/** What stands against opening a directory of the original as if it were none: its backups would end without a word. */
async function foreign(disk: Disk, dataDir: string, volume: string): Promise<BrokenVolume[]> {
  for (const mark of originalMarks) {
    if ((await disk.info(`${dataDir}/${volume}/${mark}`))?.kind !== "file") continue;
    const error = new WalbError("state", {
      what: "this is a volume of walb-tools, which has not been taken over",
      where: { volume, file: `${dataDir}/${volume}` },
      hint: `stop this daemon, and take it over: walb adopt ${dataDir}`,
    });
    return [{ volume, error }];
  }
  return [];
}

/** What stood against opening, for want of rights for one, is tried again by the next start only. */
function restartAfter(error: WalbError): WalbError {
  const { code, what, where, hint, cause } = error;
  if (code !== "io" || hint?.includes("restart") === true) return error;
  const next = `${hint ?? "look at why"}; then restart the daemon`;
  return new WalbError(code, { what, where, hint: next, ...(cause === undefined ? {} : { cause }) });
}

/** Opens every volume directory that has a database. Failures are collected, not thrown. */
export async function openVolumes<Volume>(
  disk: Disk,
  dataDir: string,
  hasDatabase: (path: string) => boolean,
  openVolume: (volume: string) => Promise<Volume>,
): Promise<{ volumes: Map<string, Volume>; broken: BrokenVolume[] }> {
  const volumes = new Map<string, Volume>();
  const broken: BrokenVolume[] = [];
  for (const name of await disk.list(dataDir)) {
    if (!isVolumeId(name)) continue;
    try {
      if ((await disk.info(`${dataDir}/${name}`))?.kind !== "directory") continue;
      if (hasDatabase(`${dataDir}/${name}/${volumeDatabaseName}`)) volumes.set(name, await openVolume(name));
      // Of a directory that may not be searched not even that is known.
      else broken.push(...(await foreign(disk, dataDir, name)));
    } catch (error) {
      broken.push({ volume: name, error: restartAfter(asWalbError(error, { volume: name })) });
    }
  }
  return { volumes, broken };
}
