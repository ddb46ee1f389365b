/** @module The volumes of a running archive: opening, making, resetting, removing. */
import { asWalbError, isUnwritable, WalbError } from "../errors.ts";
import { baseImageName } from "../image/file/names.ts";
import { diffFileSuffix } from "../snapshot/filename.ts";
import { volumeDatabaseName } from "../volume/database.ts";
import { type BrokenVolume, checkVolumeId, openVolumes } from "../volume/directories.ts";
import { allActions } from "./action.ts";
import { manifestName } from "./manifest.ts";
import { isMovedAway, MovedAway, volumeMovedAway } from "./moved-away.ts";
import { createVolume, openVolume, type VolumeParts, volumeDirectory } from "./open-volume.ts";
import { finishReset } from "./reconcile.ts";
import type { ArchiveVolume } from "./volume.ts";
import { requireDirectory } from "./volume-directory.ts";

/** All volumes of an archive. */
export class ArchiveVolumes {
  readonly #parts: VolumeParts;
  readonly #movedAway: MovedAway;
  readonly #volumes = new Map<string, ArchiveVolume>();
  readonly #making = new Set<string>();
  #broken: BrokenVolume[] = [];

  constructor(parts: VolumeParts) {
    this.#parts = parts;
    this.#movedAway = new MovedAway(parts);
  }

  /** Opens every volume of the data directory; one that cannot be opened does not stop the others. */
  async open(): Promise<void> {
    const { platform, settings, log } = this.#parts;
    const { disk, databases } = platform;
    const known = new Set<string>();
    for (const name of await disk.list(settings.dataDir)) {
      if (isMovedAway(name)) await this.#finishMovedAway(name);
      // What stands against looking is met again, and told, when it is to be opened.
      else if (await this.#isVolume(`${settings.dataDir}/${name}`).catch(() => false)) {
        known.add(`${settings.dataDir}/${name}/${volumeDatabaseName}`);
      }
    }
    const { volumes, broken } = await openVolumes(
      disk,
      settings.dataDir,
      (path) => databases.exists(path) || known.has(path),
      (name) => openVolume(this.#parts, name),
    );
    this.#broken.push(...broken);
    for (const { volume, error } of broken) log.error("a volume could not be opened", { volume, error });
    for (const [name, volume] of volumes) this.#volumes.set(name, volume);
  }

  /** Whether a directory is one of a volume, even if its database is gone: by its manifest, or by what it keeps. */
  async #isVolume(directory: string): Promise<boolean> {
    const { disk } = this.#parts.platform;
    if ((await disk.info(`${directory}/${manifestName}`)) !== undefined) return true;
    if ((await disk.info(directory))?.kind !== "directory") return false;
    const names = await disk.list(directory);
    // The original's are told apart by whoever opens them.
    return (
      !names.includes("archive_uuid") && names.some((name) => name.endsWith(diffFileSuffix) || name === baseImageName)
    );
  }

  /** What cannot be finished now, e.g. for an image that is mounted, keeps nobody from starting: the next start tries again. */
  async #finishMovedAway(directory: string): Promise<void> {
    try {
      await this.#movedAway.finish(directory);
    } catch (error) {
      const volume = volumeMovedAway(directory);
      const cause = asWalbError(error);
      const failure = new WalbError(cause.code, {
        what: `a reset or clear of the volume that was begun cannot be finished: ${cause.message}`,
        where: { host: this.#parts.settings.nodeId, volume },
        hint: `${cause.hint ?? "look at why"}; then restart the archive`,
      });
      this.#parts.log.error("a reset or clear is not finished", { volume, error: failure });
      this.#broken.push({ volume, error: failure });
    }
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
    const { settings, platform } = this.#parts;
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
      const directory = volumeDirectory(this.#parts, name);
      const isThere = (await platform.disk.info(directory)) !== undefined;
      if (isThere && (await platform.disk.list(directory)).length > 0) {
        throw new WalbError("already-exists", {
          what: "the directory of the volume is not empty, but has neither a database nor a manifest",
          where: { host: settings.nodeId, volume: name, file: directory },
          hint: "look at what is in it, and move it away",
        });
      }
      await this.#parts.images.checkNew(name);
      this.#volumes.set(name, await createVolume(this.#parts, name));
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
      this.#volumes.set(name, await openVolume(this.#parts, name));
    } catch (error) {
      const failure = asWalbError(error, { host: settings.nodeId, volume: name });
      this.#broken = [...this.#broken, { volume: name, error: failure }];
      log.error("a volume could not be opened", { volume: name, error: failure, atMs: platform.clock.nowMs() });
      throw failure;
    } finally {
      this.#making.delete(name);
    }
  }

  /** Deletes all backups of a volume: SyncReady. */
  async reset(volume: ArchiveVolume): Promise<void> {
    this.#requireQuiet(volume, "reset");
    await requireDirectory(volume);
    await this.#parts.images.checkRemovable(volume.name);
    const transition = volume.machine.begin(["SyncReady", "Stopped"], "ResetVol", "reset");
    try {
      volume.store.beginReset();
      await volume.saveManifest();
      await finishReset(volume);
      volume.clearTrouble();
      transition.commit("SyncReady");
    } catch (error) {
      // Before the rows are gone nothing has happened; from then on it can only be repeated.
      if (!volume.store.isResetting && isUnwritable(error)) return await this.#resetByRename(volume);
      if (volume.store.isResetting) transition.commit("SyncReady");
      else transition.rollback();
      throw error;
    }
  }

  /** Not even a row can be written: the directory goes in one step, which takes no space, and is made anew in its own. */
  async #resetByRename(volume: ArchiveVolume): Promise<void> {
    const { name } = volume;
    volume.log.warn("a reset could not be noted: the volume's directory is made anew");
    this.#making.add(name);
    try {
      await volume.close();
      const trash = await this.#movedAway.take(volume, "reset");
      this.#volumes.delete(name);
      await this.#movedAway.finish(trash);
      this.#volumes.set(name, await openVolume(this.#parts, name));
    } finally {
      this.#making.delete(name);
    }
  }

  /** Forgets a volume with all its backups. The directory goes in one step, so that no half of it can come back. */
  async clear(volume: ArchiveVolume): Promise<void> {
    this.#requireQuiet(volume, "clear");
    await requireDirectory(volume);
    await this.#parts.images.checkRemovable(volume.name);
    const transition = volume.machine.begin(["SyncReady", "Stopped"], "ClearVol", "clear");
    try {
      await volume.close();
      const trash = await this.#movedAway.take(volume, "clear");
      this.#volumes.delete(volume.name);
      await this.#movedAway.finish(trash);
    } catch (error) {
      transition.rollback();
      throw error;
    }
  }

  async close(): Promise<void> {
    await this.#movedAway.settle();
    await this.#parts.images.settle();
    for (const volume of this.all) await volume.close();
    this.#volumes.clear();
  }

  /** Nothing runs in it. */
  #requireQuiet(volume: ArchiveVolume, what: string): void {
    volume.machine.requireNotStopping(what);
    volume.machine.requireIdle(allActions, what);
  }
}
