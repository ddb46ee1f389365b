/** @module Whether the directory of an open volume is still in its place: it may be moved, or what it is on unmounted. */
import { asWalbError, WalbError } from "../errors.ts";
import type { Platform } from "../platform/platform.ts";
import { volumeDatabaseName } from "../volume/database.ts";
import type { ArchiveVolume } from "./volume.ts";

/** Which file a volume's database is, for {@link directoryFault}. */
export async function databaseIdIn({ disk }: Platform, directory: string): Promise<string | undefined> {
  return (await disk.info(`${directory}/${volumeDatabaseName}`))?.id;
}

/** Before anything is written by its path that the open database is going to count on. @throws WalbError `unreadable`. */
export async function requireDirectory(volume: ArchiveVolume): Promise<void> {
  const away = await directoryFault(volume);
  if (away !== undefined) throw away;
}

/** Why what is in the directory's place says nothing of the volume, or cannot be seen; undefined when all is as it was. */
export async function directoryFault(volume: ArchiveVolume): Promise<WalbError | undefined> {
  const { platform, directory, name } = volume;
  const where = { volume: name, file: directory };
  try {
    const id = await databaseIdIn(platform, directory);
    if (volume.databaseId === undefined || id === volume.databaseId) return undefined;
    if (id !== undefined) {
      return new WalbError("unreadable", {
        what: "the volume's directory, or the database in it, was replaced while the archive had it open",
        where,
        hint: "restart the archive, which opens what is there now",
      });
    }
  } catch (error) {
    const { what, hint, cause } = asWalbError(error);
    return new WalbError("unreadable", {
      what: `the volume's directory cannot be looked into: ${what}`,
      where,
      ...(hint === undefined ? {} : { hint }),
      cause,
    });
  }
  return new WalbError("unreadable", {
    what: "the volume's directory, or what is mounted there, is gone: until it is back nothing of the volume can be read or received",
    where,
    hint: "move it back, or mount it again; nothing is lost with that, and no restart is needed",
  });
}
