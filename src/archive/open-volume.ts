/** @module One volume of an archive made, or opened from its files; a lost database is rebuilt from them. */
import type { Logger } from "../control/logger.ts";
import type { DiffIo } from "../diff/types.ts";
import { asWalbError, isUnwritable, WalbError } from "../errors.ts";
import type { ImageStore } from "../image/image.ts";
import type { Platform } from "../platform/platform.ts";
import { volumeDatabaseName } from "../volume/database.ts";
import { type Manifest, manifestName, manifestText, readManifest } from "./manifest.ts";
import { removePartials } from "./partials.ts";
import { hasDiffs, requireAgreement } from "./plausible.ts";
import { quarantineName } from "./quarantine.ts";
import type { RateLimits } from "./rates.ts";
import { reconcile } from "./reconcile.ts";
import { removeStaged, resumeResync } from "./replication/finish-resync.ts";
import type { ArchiveSettings } from "./settings.ts";
import { ArchiveStore } from "./store.ts";
import { ArchiveVolume } from "./volume.ts";
import { databaseIdIn } from "./volume-directory.ts";

/** What volumes need from the role. */
export interface VolumeParts {
  readonly platform: Platform;
  readonly settings: ArchiveSettings;
  readonly images: ImageStore;
  readonly rates: RateLimits;
  readonly log: Logger;
  /** For looking into files at start. */
  readonly io: DiffIo;
}

/** Where the files of a volume are. */
export function volumeDirectory(parts: VolumeParts, name: string): string {
  return `${parts.settings.dataDir}/${name}`;
}

/** Makes a volume in state SyncReady, durably. */
export async function createVolume(parts: VolumeParts, name: string): Promise<ArchiveVolume> {
  const { disk, databases } = parts.platform;
  const directory = volumeDirectory(parts, name);
  await disk.makeDirectory(directory);
  const volume = volumeOf(parts, name, ArchiveStore.create(databases, directory, emptyManifest(name)));
  volume.databaseId = await databaseIdIn(parts.platform, directory);
  await volume.saveManifest();
  return volume;
}

/** @throws WalbError why it cannot be opened. */
export async function openVolume(parts: VolumeParts, name: string): Promise<ArchiveVolume> {
  const directory = volumeDirectory(parts, name);
  const manifest = await manifestIn(parts, directory, name);
  const { store, isRebuilt } = await openStore(parts, directory, name, manifest);
  if (manifest !== undefined && !isRebuilt) {
    try {
      requireAgreement({ store, manifest, hasDiffs: await hasDiffs(parts.platform.disk, directory) }, name, directory);
    } catch (error) {
      store.close();
      throw error;
    }
  }
  const volume = volumeOf(parts, name, store);
  volume.databaseId = await databaseIdIn(parts.platform, directory);
  try {
    const ready = async (): Promise<void> => {
      await reconcile(volume, parts.io, manifest);
      await removePartials(volume);
      await updateManifest(volume, manifest);
    };
    if (store.resyncFile === undefined) {
      await removeStaged(volume);
      await ready();
    } else resumeResync(volume, parts.io, ready);
  } catch (error) {
    await volume.close();
    throw error;
  }
  if (isRebuilt) {
    const error = new WalbError("damaged", {
      what: `the database was lost and was rebuilt from the manifest and ${store.diffs.length} diffs`,
      where: { volume: name, file: `${directory}/${volumeDatabaseName}` },
      hint: `check the file system of the archive; then read everything, which ends this when all is good: walb verify ${volume.at}`,
    });
    volume.setDamage(volumeDatabaseName, error);
    volume.log.error("the database was rebuilt", { error });
  }
  return volume;
}

/** Nothing is written that is there already: a disk that takes no writes must keep nobody from restoring what it has. */
async function updateManifest(volume: ArchiveVolume, found: Manifest | undefined): Promise<void> {
  if (found !== undefined && manifestText(found) === manifestText(volume.store.manifest())) return;
  try {
    await volume.saveManifest();
  } catch (error) {
    if (!isUnwritable(error)) throw error;
    volume.log.warn("the manifest could not be brought up to date; the next change does that", { error });
  }
}

function volumeOf(parts: VolumeParts, name: string, store: ArchiveStore): ArchiveVolume {
  const { platform, settings, images, rates, log } = parts;
  return new ArchiveVolume(name, volumeDirectory(parts, name), store, images, platform, settings, rates, log);
}

/** A damaged manifest matters only when there is no database. */
async function manifestIn(parts: VolumeParts, directory: string, name: string): Promise<Manifest | undefined> {
  const { disk, databases } = parts.platform;
  try {
    return await readManifest(disk, directory, name);
  } catch (error) {
    if (!databases.exists(`${directory}/${volumeDatabaseName}`)) throw error;
    parts.log.warn("the manifest is written anew", { volume: name, error });
    return undefined;
  }
}

async function openStore(
  parts: VolumeParts,
  directory: string,
  name: string,
  found: Manifest | undefined,
): Promise<{ readonly store: ArchiveStore; readonly isRebuilt: boolean }> {
  const { databases } = parts.platform;
  let manifest = found;
  if (databases.exists(`${directory}/${volumeDatabaseName}`)) {
    try {
      return { store: ArchiveStore.open(databases, directory, name), isRebuilt: false };
    } catch (error) {
      const failure = asWalbError(error, { volume: name });
      const isEmpty = manifest === undefined && (await hasNothing(parts, directory));
      if (failure.code !== "damaged") throw failure;
      if (manifest === undefined && !isEmpty) throw withoutManifest(failure, directory, name);
      // A crash in the middle of init: nothing was ever received.
      if (isEmpty) manifest = emptyManifest(name);
      parts.log.error("the database is damaged; it is rebuilt from the files", { error: failure });
      await quarantineDatabase(parts, directory);
    }
  }
  if (manifest === undefined) {
    throw new WalbError("damaged", {
      what: "the volume has neither a database nor a manifest",
      where: { volume: name, file: directory },
      hint: "put one of them back from a copy of the volume's directory",
    });
  }
  return { store: ArchiveStore.create(databases, directory, manifest), isRebuilt: found !== undefined };
}

/** Without a manifest the files of diffs do not say enough: moving the database away would help nobody. */
function withoutManifest({ what, where, cause }: WalbError, directory: string, name: string): WalbError {
  return new WalbError("damaged", {
    what: `${what}, and there is no ${manifestName} that can be read beside it`,
    where: { volume: name, file: directory, ...where },
    hint: `put ${volumeDatabaseName} or ${manifestName} back from a copy of the volume's directory, and start the archive again; nothing else of it is lost`,
    ...(cause === undefined ? {} : { cause }),
  });
}

async function quarantineDatabase({ platform }: VolumeParts, directory: string): Promise<void> {
  const { disk, clock } = platform;
  await disk.makeDirectory(`${directory}/${quarantineName}`);
  for (const suffix of ["-wal", "-shm", ""]) {
    const path = `${directory}/${volumeDatabaseName}${suffix}`;
    if ((await disk.info(path)) === undefined) continue;
    await disk.rename(path, `${directory}/${quarantineName}/${volumeDatabaseName}${suffix}.${clock.nowMs()}`);
  }
  await disk.syncDirectory(directory);
}

/** True when a directory has files of a database, and nothing else. */
async function hasNothing({ platform }: VolumeParts, directory: string): Promise<boolean> {
  const names = await platform.disk.list(directory);
  return names.every((name) => name.startsWith(volumeDatabaseName));
}

function emptyManifest(volume: string): Manifest {
  return {
    volume,
    state: "SyncReady",
    sizeLb: 0,
    logUuid: undefined,
    archiveUuid: undefined,
    base: undefined,
    diffUuids: [],
    labels: [],
    colds: [],
    lastSyncMs: undefined,
  };
}
