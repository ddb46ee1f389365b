/** @module The volumes of a running proxy: opening, starting, stopping, receiving, and the senders of each. */
import type { Logger } from "../control/logger.ts";
import type { DiffIo } from "../diff/types.ts";
import { WalbError } from "../errors.ts";
import type { Platform } from "../platform/platform.ts";
import { type BrokenVolume, checkVolumeId, openVolumes } from "../volume/directories.ts";
import { reconcile } from "./reconcile.ts";
import { Sender, type SenderParts } from "./sender.ts";
import type { ProxySettings } from "./settings.ts";
import { type ArchiveRow, ProxyStore } from "./store.ts";
import { ProxyVolume } from "./volume.ts";

/** What the volumes need from the role. */
export interface ProxyVolumesParts {
  readonly platform: Platform;
  readonly settings: ProxySettings;
  readonly log: Logger;
  readonly sender: SenderParts;
  /** For looking into files at start. */
  readonly io: DiffIo;
}

/** All volumes of a proxy. */
export class ProxyVolumes {
  readonly #parts: ProxyVolumesParts;
  readonly #volumes = new Map<string, ProxyVolume>();
  readonly #senders = new Map<string, Sender[]>();
  #broken: BrokenVolume[] = [];

  constructor(parts: ProxyVolumesParts) {
    this.#parts = parts;
  }

  /** Opens every volume of the data directory, and starts those that ran. */
  async open(): Promise<void> {
    const { platform, settings, log } = this.#parts;
    const { volumes, broken } = await openVolumes(
      platform.disk,
      settings.dataDir,
      (path) => platform.databases.exists(path),
      async (name) => {
        const volume = this.#make(name, false);
        await reconcile(volume, this.#parts.io);
        return volume;
      },
    );
    this.#broken = broken;
    for (const { volume, error } of broken) log.error("a volume could not be opened", { volume, error });
    for (const [name, volume] of volumes) {
      this.#volumes.set(name, volume);
      if (volume.store.state === "Started" && !settings.isStopped) this.#enterStarted(volume);
    }
  }

  get all(): ProxyVolume[] {
    return [...this.#volumes.values()].toSorted((a, b) => (a.name < b.name ? -1 : 1));
  }

  get broken(): readonly BrokenVolume[] {
    return this.#broken;
  }

  senders(volume: ProxyVolume): readonly Sender[] {
    return this.#senders.get(volume.name) ?? [];
  }

  /** @throws WalbError `not-found`, or why the volume could not be opened. */
  get(name: string): ProxyVolume {
    checkVolumeId(name);
    const volume = this.#volumes.get(name);
    if (volume !== undefined) return volume;
    const broken = this.#broken.find((candidate) => candidate.volume === name);
    if (broken !== undefined) throw broken.error;
    throw new WalbError("not-found", {
      what: "the proxy does not know this volume",
      where: { host: this.#parts.settings.nodeId, volume: name },
      hint: `make it known on the whole path: walb init ${name} --device NAME`,
    });
  }

  /** Adds an archive to a volume, which is made when it is new; or changes one. */
  async putArchive(name: string, archive: ArchiveRow): Promise<void> {
    checkVolumeId(name);
    let volume = this.#volumes.get(name);
    if (volume === undefined) {
      const broken = this.#broken.find((candidate) => candidate.volume === name);
      if (broken !== undefined) throw broken.error;
      await this.#parts.platform.disk.makeDirectory(`${this.#parts.settings.dataDir}/${name}`);
      volume = this.#volumes.get(name) ?? this.#make(name, true);
      this.#volumes.set(name, volume);
    }
    const transition = volume.machine.begin(["Stopped"], "AddArchiveInfo", "add an archive");
    try {
      volume.store.putArchive(archive);
    } finally {
      transition.commit("Stopped");
    }
  }

  async removeArchive(volume: ProxyVolume, archiveName: string): Promise<void> {
    const transition = volume.machine.begin(["Stopped"], "DeleteArchiveInfo", "remove an archive");
    try {
      await volume.removeFiles(volume.store.removeArchive(archiveName));
    } finally {
      transition.commit("Stopped");
    }
  }

  start(volume: ProxyVolume): void {
    volume.machine.requireNotStopping("start");
    volume.machine.require(["Stopped"], "start");
    if (volume.store.archives.length === 0) {
      throw new WalbError("state", {
        what: "the volume has no archive to send to",
        where: { volume: volume.name },
        hint: "add one first, walb init does",
      });
    }
    volume.store.setState("Started");
    this.#enterStarted(volume);
  }

  /** Stops receiving and sending. `empty` first waits until every archive has everything. */
  async stop(volume: ProxyVolume, mode: "graceful" | "force" | "empty", signal: AbortSignal): Promise<void> {
    const { machine } = volume;
    machine.requireNotStopping("stop");
    machine.require(["Started", "WlogRecv"], "stop");
    machine.setStopState(mode === "empty" ? "waiting-for-empty" : mode === "force" ? "force-stopping" : "stopping");
    try {
      await machine.until(() => !machine.isInTransition, signal);
      const via = mode === "empty" ? "WaitForEmpty" : "Stop";
      const transition = machine.begin(["Started"], via, "stop");
      try {
        if (mode === "empty") {
          this.kick(volume.name);
          await machine.until(() => volume.store.isEmpty, signal);
        }
        await this.#closeSenders(volume, mode === "force" ? "force" : "graceful");
        volume.store.setState("Stopped");
        transition.commit("Stopped");
      } catch (error) {
        transition.rollback();
        throw error;
      }
    } finally {
      machine.setStopState("not-stopping");
    }
  }

  /** Forgets a volume with everything that was not delivered. */
  async clear(volume: ProxyVolume): Promise<void> {
    const transition = volume.machine.begin(["Stopped"], "ClearVol", "clear");
    try {
      await this.#closeSenders(volume, "force");
      volume.store.close();
      await this.#parts.platform.disk.removeTree(volume.directory);
      this.#volumes.delete(volume.name);
    } catch (error) {
      transition.rollback();
      throw error;
    }
  }

  /** Lets senders look again now. */
  kick(name?: string, archiveName?: string): void {
    for (const [volume, senders] of this.#senders) {
      if (name !== undefined && name !== volume) continue;
      for (const sender of senders) {
        if (archiveName === undefined || archiveName === sender.archiveName) sender.kick();
      }
    }
  }

  async close(mode: "graceful" | "force"): Promise<void> {
    await Promise.all(this.all.map((volume) => this.#closeSenders(volume, mode)));
    for (const volume of this.all) volume.store.close();
    this.#volumes.clear();
  }

  #make(name: string, isNew: boolean): ProxyVolume {
    const { platform, settings, log } = this.#parts;
    const directory = `${settings.dataDir}/${name}`;
    const store = ProxyStore.open(platform.databases, directory, name, isNew);
    return new ProxyVolume(name, directory, store, platform, settings, log);
  }

  #enterStarted(volume: ProxyVolume): void {
    volume.machine.begin(["Stopped"], "Start", "start").commit("Started");
    const senders = volume.store.archives.map((archive) => new Sender(volume, archive.name, this.#parts.sender));
    this.#senders.set(volume.name, senders);
  }

  async #closeSenders(volume: ProxyVolume, mode: "graceful" | "force"): Promise<void> {
    const senders = this.#senders.get(volume.name) ?? [];
    this.#senders.delete(volume.name);
    await Promise.all(senders.map((sender) => sender.close(mode)));
  }
}
