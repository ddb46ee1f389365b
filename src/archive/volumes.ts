/** @module The volumes of a running archive: opening, rebuilding, making, starting, stopping, removing. */
import type { Logger } from "../control/logger.ts";
import type { DiffIo } from "../diff/types.ts";
import { asWalbError, WalbError } from "../errors.ts";
import type { ImageStore } from "../image/image.ts";
import type { Platform } from "../platform/platform.ts";
import { volumeDatabaseName } from "../volume/database.ts";
import { type BrokenVolume, checkVolumeId, openVolumes } from "../volume/directories.ts";
import { allActions } from "./action.ts";
import { type Manifest, manifestName, readManifest } from "./manifest.ts";
import { removePartials } from "./partials.ts";
import { quarantineName } from "./quarantine.ts";
import type { RateLimits } from "./rates.ts";
import { finishReset, reconcile } from "./reconcile.ts";
import { removeStaged, resumeResync } from "./replication/finish-resync.ts";
import type { ArchiveSettings } from "./settings.ts";
import { ArchiveStore } from "./store.ts";
import { ArchiveVolume, type ArchiveVolumeState, activeStates } from "./volume.ts";

/** Directories of cleared volumes, until they are deleted; no volume can have such a name. */
const clearingPrefix = ".clearing-";
/** Directories of volumes that are reset on a full disk, until they are made anew. */
const resettingPrefix = ".resetting-";

/** What the volumes need from the role. */
export interface ArchiveVolumesParts {
  readonly platform: Platform;
  readonly settings: ArchiveSettings;
  readonly images: ImageStore;
  readonly rates: RateLimits;
  readonly log: Logger;
  /** For looking into files at start. */
  readonly io: DiffIo;
}

/** All volumes of an archive. */
export class ArchiveVolumes {
  readonly #parts: ArchiveVolumesParts;
  readonly #volumes = new Map<string, ArchiveVolume>();
  readonly #making = new Set<string>();
  /** Directories of cleared volumes. */
  readonly #deleting = new Set<Promise<void>>();
  #broken: BrokenVolume[] = [];

  constructor(parts: ArchiveVolumesParts) {
    this.#parts = parts;
  }

  /** Opens every volume of the data directory; one that cannot be opened does not stop the others. */
  async open(): Promise<void> {
    const { platform, settings, log } = this.#parts;
    const { disk, databases } = platform;
    const withManifest = new Set<string>();
    for (const name of await disk.list(settings.dataDir)) {
      if (name.startsWith(clearingPrefix)) await this.#finishClear(name);
      else if (name.startsWith(resettingPrefix)) await this.#finishReset(name);
      else if ((await disk.info(`${settings.dataDir}/${name}/${manifestName}`)) !== undefined) {
        withManifest.add(`${settings.dataDir}/${name}/${volumeDatabaseName}`);
      }
    }
    const { volumes, broken } = await openVolumes(
      disk,
      settings.dataDir,
      (path) => databases.exists(path) || withManifest.has(path),
      (name) => this.#open(name),
    );
    this.#broken = broken;
    for (const { volume, error } of broken) log.error("a volume could not be opened", { volume, error });
    for (const [name, volume] of volumes) this.#volumes.set(name, volume);
  }

  /** Volume group and thin pool of the images; empty without. */
  get imagesPlace(): { readonly group: string; readonly pool: string } {
    const [, group = "", pool = ""] = /^lvm:([^/]+)(?:\/(.+))?$/.exec(this.#parts.images.kind) ?? [];
    return { group, pool };
  }

  get all(): ArchiveVolume[] {
    return [...this.#volumes.values()].toSorted((a, b) => (a.name < b.name ? -1 : 1));
  }

  get broken(): readonly BrokenVolume[] {
    return this.#broken;
  }

  find(name: string): ArchiveVolume | undefined {
    return this.#volumes.get(name);
  }

  /** @throws WalbError `not-found`, or why the volume could not be opened. */
  get(name: string): ArchiveVolume {
    checkVolumeId(name);
    const volume = this.#volumes.get(name);
    if (volume !== undefined) return volume;
    const broken = this.#broken.find((candidate) => candidate.volume === name);
    if (broken !== undefined) throw broken.error;
    const { nodeId, dataDir } = this.#parts.settings;
    // An archive whose disk was not mounted would else be filled beside what it has.
    const isEmpty = this.#volumes.size === 0 && this.#broken.length === 0;
    const make = `make a place for it first: walb init ${name} --device NAME`;
    throw new WalbError("not-found", {
      what: isEmpty ? "the archive does not know this volume, nor any other" : "the archive does not know this volume",
      where: { host: nodeId, volume: name },
      hint: isEmpty ? `see that its disk is mounted at ${dataDir}, and start it again; if it is new, ${make}` : make,
    });
  }

  /** Makes a volume in state SyncReady, durably. */
  async create(name: string): Promise<void> {
    checkVolumeId(name);
    const { platform, settings } = this.#parts;
    const isBroken = this.#broken.some((known) => known.volume === name);
    if (this.#volumes.has(name) || this.#making.has(name) || isBroken) {
      throw new WalbError("already-exists", {
        what: "the archive has this volume already",
        where: { host: settings.nodeId, volume: name },
        hint: `look at it with: walb status ${name}`,
      });
    }
    this.#making.add(name);
    try {
      const directory = this.#directory(name);
      const isThere = (await platform.disk.info(directory)) !== undefined;
      if (isThere && (await platform.disk.list(directory)).length > 0) {
        throw new WalbError("already-exists", {
          what: "the directory of the volume is not empty, but has neither a database nor a manifest",
          where: { host: settings.nodeId, volume: name, file: directory },
          hint: "look at what is in it, and move it away",
        });
      }
      await platform.disk.makeDirectory(directory);
      const store = ArchiveStore.create(platform.databases, directory, emptyManifest(name));
      const volume = this.#make(name, store);
      await volume.saveManifest();
      this.#volumes.set(name, volume);
    } finally {
      this.#making.delete(name);
    }
  }

  /** Opens a volume anew from its files. @throws WalbError why that is not possible; then it is shown as broken. */
  async reload(name: string): Promise<void> {
    checkVolumeId(name);
    const { platform, settings, log } = this.#parts;
    const volume = this.#volumes.get(name);
    if (volume !== undefined) {
      volume.machine.requireNotStopping("reload");
      volume.machine.requireIdle(allActions, "reload");
      volume.machine.require(["SyncReady", "Archived", "Stopped"], "reload");
    } else if (!this.#broken.some((known) => known.volume === name)) this.get(name);
    if (this.#making.has(name)) throw new WalbError("busy", { what: "it is being opened", where: { volume: name } });
    this.#making.add(name);
    try {
      this.#volumes.delete(name);
      await volume?.close();
      this.#broken = this.#broken.filter((known) => known.volume !== name);
      this.#volumes.set(name, await this.#open(name));
    } catch (error) {
      const failure = asWalbError(error, { host: settings.nodeId, volume: name });
      this.#broken = [...this.#broken, { volume: name, error: failure }];
      log.error("a volume could not be opened", { volume: name, error: failure, atMs: platform.clock.nowMs() });
      throw failure;
    } finally {
      this.#making.delete(name);
    }
  }

  async start(volume: ArchiveVolume): Promise<void> {
    volume.machine.requireNotStopping("start");
    const transition = volume.machine.begin(["Stopped"], "Start", "start");
    try {
      volume.store.setState("Archived");
      transition.commit("Archived");
    } catch (error) {
      transition.rollback();
      throw error;
    }
    await volume.saveManifest();
  }

  /** Graceful waits for what runs; force ends it, a full backup being received too (then it is SyncReady again). */
  async stop(volume: ArchiveVolume, mode: "graceful" | "force", signal: AbortSignal): Promise<void> {
    const { machine } = volume;
    machine.requireNotStopping("stop");
    const before: ArchiveVolumeState = machine.state;
    const isSyncing = before === "FullSync";
    if (!isSyncing || mode !== "force") machine.require(activeStates, "stop");
    machine.setStopState(mode === "force" ? "force-stopping" : "stopping");
    try {
      if (mode === "force") volume.interrupt();
      await machine.until(() => !machine.isInTransition && machine.running() === 0, signal);
      if (isSyncing && machine.state === "SyncReady") return;
      const transition = machine.begin(["Archived"], "Stop", "stop");
      try {
        volume.store.setState("Stopped");
        transition.commit("Stopped");
      } catch (error) {
        transition.rollback();
        throw error;
      }
    } finally {
      machine.setStopState("not-stopping");
    }
    await volume.saveManifest();
  }

  /** Deletes all backups of a volume: SyncReady. */
  async reset(volume: ArchiveVolume): Promise<void> {
    this.#requireQuiet(volume, "reset");
    const transition = volume.machine.begin(["SyncReady", "Stopped"], "ResetVol", "reset");
    try {
      volume.store.beginReset();
      await volume.saveManifest();
      await finishReset(volume);
      volume.clearTrouble();
      transition.commit("SyncReady");
    } catch (error) {
      // Before the rows are gone nothing has happened; from then on it can only be repeated.
      if (!volume.store.isResetting && asWalbError(error).code === "no-space") return await this.#resetByRename(volume);
      transition.commit("SyncReady");
      throw error;
    }
  }

  /** Not even a row can be written: the directory goes in one step, which takes no space, and is made anew in its own. */
  async #resetByRename(volume: ArchiveVolume): Promise<void> {
    const { name } = volume;
    volume.log.warn("there is no space to note a reset: the volume's directory is made anew");
    this.#making.add(name);
    try {
      await volume.close();
      await this.#finishReset(await this.#moveAway(volume, resettingPrefix));
      this.#volumes.set(name, await this.#open(name));
    } finally {
      this.#making.delete(name);
    }
  }

  /** Empties a directory that a reset has moved away, makes the volume anew, and only then lets go of the name. */
  async #finishReset(trash: string): Promise<void> {
    const { platform, settings, images } = this.#parts;
    const { disk, databases } = platform;
    const name = volumeOf(trash, resettingPrefix);
    const path = `${settings.dataDir}/${trash}`;
    for (const entry of await disk.list(path)) await disk.removeTree(`${path}/${entry}`);
    const directory = this.#directory(name);
    if ((await disk.info(directory)) === undefined) {
      for (const image of await images.list(name)) await images.remove(image);
      await disk.makeDirectory(directory);
      const volume = this.#make(name, ArchiveStore.create(databases, directory, emptyManifest(name)));
      await volume.saveManifest();
      await volume.close();
    }
    await disk.removeTree(path);
  }

  /** Gives the directory of a volume that is closed another name, durably. @returns it. */
  async #moveAway(volume: ArchiveVolume, prefix: string): Promise<string> {
    const { platform, settings } = this.#parts;
    const hex = Buffer.from(platform.random.bytes(6)).toString("hex");
    const trash = `${prefix}${volume.name}-${hex}`;
    await platform.disk.rename(volume.directory, `${settings.dataDir}/${trash}`);
    await platform.disk.syncDirectory(settings.dataDir);
    this.#volumes.delete(volume.name);
    return trash;
  }

  /** Forgets a volume with all its backups. The directory goes in one step, so that no half of it can come back. */
  async clear(volume: ArchiveVolume): Promise<void> {
    this.#requireQuiet(volume, "clear");
    const transition = volume.machine.begin(["SyncReady", "Stopped"], "ClearVol", "clear");
    try {
      await volume.close();
      const trash = await this.#moveAway(volume, clearingPrefix);
      await this.#finishClear(trash);
    } catch (error) {
      transition.rollback();
      throw error;
    }
  }

  /** Images outside of the directory go at once, for the volume may be made anew; files behind it, which may take long. */
  async #finishClear(trash: string): Promise<void> {
    const { platform, settings, images } = this.#parts;
    const name = volumeOf(trash, clearingPrefix);
    for (const image of await images.list(name)) await images.remove(image);
    const work: Promise<void> = platform.disk
      .removeTree(`${settings.dataDir}/${trash}`)
      .catch((error: unknown) => {
        this.#parts.log.warn("a cleared volume could not be deleted; the next start tries again", { trash, error });
      })
      .finally(() => this.#deleting.delete(work));
    this.#deleting.add(work);
  }

  async close(): Promise<void> {
    while (this.#deleting.size > 0) await Promise.all(this.#deleting);
    await this.#parts.images.settle();
    for (const volume of this.all) await volume.close();
    this.#volumes.clear();
  }

  #requireQuiet(volume: ArchiveVolume, what: string): void {
    volume.machine.requireNotStopping(what);
    volume.machine.requireIdle(allActions, what);
  }

  #directory(name: string): string {
    return `${this.#parts.settings.dataDir}/${name}`;
  }

  #make(name: string, store: ArchiveStore): ArchiveVolume {
    const { platform, settings, images, rates, log } = this.#parts;
    return new ArchiveVolume(name, this.#directory(name), store, images, platform, settings, rates, log);
  }

  async #open(name: string): Promise<ArchiveVolume> {
    const { io } = this.#parts;
    const directory = this.#directory(name);
    const manifest = await this.#manifest(directory, name);
    const { store, isRebuilt } = await this.#openStore(directory, name, manifest);
    const volume = this.#make(name, store);
    try {
      const ready = async (): Promise<void> => {
        await reconcile(volume, io, manifest);
        await removePartials(volume);
        await volume.saveManifest();
      };
      if (store.resyncFile === undefined) {
        await removeStaged(volume);
        await ready();
      } else resumeResync(volume, io, ready);
    } catch (error) {
      await volume.close();
      throw error;
    }
    if (isRebuilt) {
      const error = new WalbError("damaged", {
        what: `the database was lost and was rebuilt from the manifest and ${store.diffs.length} diffs`,
        where: { volume: name, file: `${directory}/${volumeDatabaseName}` },
        hint: `check the file system of the archive; then read everything, which ends this when all is good: walb verify ${name}`,
      });
      volume.setDamage(volumeDatabaseName, error);
      volume.log.error("the database was rebuilt", { error });
    }
    return volume;
  }

  /** A damaged manifest matters only when there is no database. */
  async #manifest(directory: string, name: string): Promise<Manifest | undefined> {
    const { disk, databases } = this.#parts.platform;
    try {
      return await readManifest(disk, directory, name);
    } catch (error) {
      if (!databases.exists(`${directory}/${volumeDatabaseName}`)) throw error;
      this.#parts.log.warn("the manifest is written anew", { volume: name, error });
      return undefined;
    }
  }

  async #openStore(
    directory: string,
    name: string,
    found: Manifest | undefined,
  ): Promise<{ readonly store: ArchiveStore; readonly isRebuilt: boolean }> {
    const { databases, disk } = this.#parts.platform;
    let manifest = found;
    if (databases.exists(`${directory}/${volumeDatabaseName}`)) {
      try {
        return { store: ArchiveStore.open(databases, directory, name), isRebuilt: false };
      } catch (error) {
        const failure = asWalbError(error, { volume: name });
        const isEmpty = manifest === undefined && (await this.#hasNothing(directory));
        if (failure.code !== "damaged" || (manifest === undefined && !isEmpty)) throw failure;
        // A crash in the middle of init: nothing was ever received.
        if (isEmpty) manifest = emptyManifest(name);
        this.#parts.log.error("the database is damaged; it is rebuilt from the files", { error: failure });
        await disk.makeDirectory(`${directory}/${quarantineName}`);
        for (const suffix of ["-wal", "-shm", ""]) {
          const path = `${directory}/${volumeDatabaseName}${suffix}`;
          if ((await disk.info(path)) === undefined) continue;
          const stamp = this.#parts.platform.clock.nowMs();
          await disk.rename(path, `${directory}/${quarantineName}/${volumeDatabaseName}${suffix}.${stamp}`);
        }
        await disk.syncDirectory(directory);
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

  /** True when a directory has files of a database, and nothing else. */
  async #hasNothing(directory: string): Promise<boolean> {
    const names = await this.#parts.platform.disk.list(directory);
    return names.every((name) => name.startsWith(volumeDatabaseName));
  }
}

/** The volume that a directory moved away was of. */
function volumeOf(trash: string, prefix: string): string {
  return trash.slice(prefix.length, trash.lastIndexOf("-"));
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
