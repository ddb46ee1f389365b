/** @module The volumes of a running proxy: opening, starting, stopping, receiving, and the senders of each. */
import type { Logger } from "../control/logger.ts";
import type { DiffIo } from "../diff/types.ts";
import { asWalbError, WalbError } from "../errors.ts";
import type { Platform } from "../platform/platform.ts";
import { type BrokenVolume, checkVolumeId, openVolumes } from "../volume/directories.ts";
import type { StopState } from "../volume/machine.ts";
import { findLost } from "./lost.ts";
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
  /** Volumes whose rows agree with their files. */
  readonly #reconciled = new Set<ProxyVolume>();
  #broken: BrokenVolume[] = [];
  /** Those of the broken ones that lost their database: making them anew takes over their diffs. */
  #lost: readonly BrokenVolume[] = [];

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
        await this.#reconcile(volume);
        return volume;
      },
    );
    this.#lost = await findLost(platform.disk, settings.dataDir, (path) => platform.databases.exists(path));
    this.#broken = [...broken, ...this.#lost];
    for (const { volume, error } of this.#broken) log.error("a volume could not be opened", { volume, error });
    for (const [name, volume] of volumes) {
      this.#volumes.set(name, volume);
      if (settings.isStopped) continue;
      if (volume.store.state === "Started") this.#enterStarted(volume);
      else if (settings.isAllStarted && volume.store.archives.length > 0) this.start(volume);
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

  /**
   * Adds an archive to a volume, which is made when it is new; or changes one. Diffs that are in its directory already,
   * of a volume whose database was lost, are going to be sent to its first archive.
   */
  async putArchive(name: string, archive: ArchiveRow): Promise<void> {
    checkVolumeId(name);
    let volume = this.#volumes.get(name);
    if (volume === undefined) {
      const broken = this.#broken.find((candidate) => candidate.volume === name);
      if (broken !== undefined && !this.#lost.includes(broken)) throw broken.error;
      await this.#parts.platform.disk.makeDirectory(`${this.#parts.settings.dataDir}/${name}`);
      volume = this.#volumes.get(name) ?? this.#make(name, true);
      this.#volumes.set(name, volume);
      this.#broken = this.#broken.filter((candidate) => candidate !== broken);
    }
    const transition = volume.machine.begin(["Stopped"], "AddArchiveInfo", "add an archive");
    try {
      volume.store.putArchive(archive);
      if (!this.#reconciled.has(volume)) await this.#reconcile(volume);
    } finally {
      transition.commit("Stopped");
    }
  }

  async removeArchive(volume: ProxyVolume, archiveName: string): Promise<void> {
    const transition = volume.machine.begin(["Stopped"], "DeleteArchiveInfo", "remove an archive");
    try {
      const { whenFull } = this.#parts.sender;
      await volume.removeFiles(await whenFull(() => volume.store.removeArchive(archiveName)));
    } finally {
      transition.commit("Stopped");
    }
  }

  /** Starts, or takes a stop back that waits until everything is sent. */
  start(volume: ProxyVolume): void {
    if (volume.machine.stopState === "waiting-for-empty" && volume.store.archives.length > 0) {
      volume.isStopTakenBack = true;
      volume.machine.setStopState("not-stopping");
      return;
    }
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

  /**
   * Stops receiving and sending. `empty` first waits until every archive has everything, `graceful` for what is under
   * way, `force` for nothing. A stricter stop overtakes one that still waits.
   * @throws WalbError `cancelled` for an `empty` that was overtaken.
   */
  async stop(volume: ProxyVolume, mode: StopMode, signal: AbortSignal): Promise<void> {
    const { machine } = volume;
    if (machine.stopState !== "not-stopping" && isStricter(mode, machine.stopState)) {
      machine.setStopState(stopStates[mode]);
      if (mode === "force") this.#hurry(volume);
      await machine.until(() => machine.stopState === "not-stopping", signal);
      machine.require(["Stopped"], "stop");
      return;
    }
    machine.requireNotStopping("stop");
    machine.require(["Started", "WlogRecv"], "stop");
    machine.setStopState(stopStates[mode]);
    volume.isStopTakenBack = false;
    const throwIfTakenBack = (): void => {
      if (!volume.isStopTakenBack) return;
      const what = "the stop was taken back before everything was sent";
      throw new WalbError("cancelled", { what, where: { volume: volume.name } });
    };
    try {
      if (mode === "force") this.#hurry(volume);
      await machine.until(() => !machine.isInTransition || volume.isStopTakenBack, signal);
      throwIfTakenBack();
      const transition = machine.begin(["Started"], mode === "empty" ? "WaitForEmpty" : "Stop", "stop");
      try {
        if (mode === "empty") {
          this.kick(volume.name);
          await machine.until(() => volume.store.isEmpty || machine.stopState !== "waiting-for-empty", signal);
          throwIfTakenBack();
        }
        await this.#closeSenders(volume, machine.isForceStopping ? "force" : "graceful");
        await this.#parts.sender.whenFull(() => volume.store.setState("Stopped"));
        transition.commit("Stopped");
      } catch (error) {
        transition.rollback();
        this.#startSenders(volume);
        throw error;
      }
    } finally {
      machine.setStopState("not-stopping");
    }
    if (mode === "empty" && !volume.store.isEmpty) {
      throw new WalbError("cancelled", {
        what: "another stop did not wait until everything was sent",
        where: { volume: volume.name },
      });
    }
  }

  /** Sets the size that archives are told. */
  resize(volume: ProxyVolume, sizeLb: number): void {
    volume.machine.requireNotStopping("resize");
    volume.machine.require(["Stopped"], "resize");
    volume.store.setSize(sizeLb);
  }

  /** Forgets a volume with everything that was not delivered. */
  async clear(volume: ProxyVolume): Promise<void> {
    const transition = volume.machine.begin(["Stopped"], "ClearVol", "clear");
    this.#volumes.delete(volume.name);
    this.#reconciled.delete(volume);
    try {
      volume.store.close();
      await this.#parts.platform.disk.removeTree(volume.directory);
    } catch (error) {
      // The store is closed: what is left is looked at again at the next start.
      this.#broken.push({ volume: volume.name, error: asWalbError(error, { volume: volume.name, step: "clear" }) });
      throw error;
    } finally {
      transition.commit("Stopped");
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

  async closeSenders(mode: "graceful" | "force"): Promise<void> {
    await Promise.all(this.all.map((volume) => this.#closeSenders(volume, mode)));
  }

  /** Ends all sending, then lets go of the stores. Nothing is being received any more. */
  async close(mode: "graceful" | "force"): Promise<void> {
    await this.closeSenders(mode);
    for (const volume of this.all) volume.store.close();
    this.#volumes.clear();
  }

  /** Without an archive nothing can be adopted: it is done again when the first one is known. */
  async #reconcile(volume: ProxyVolume): Promise<void> {
    const { adopted } = await reconcile(volume, this.#parts.io);
    if (volume.store.archives.length > 0) this.#reconciled.add(volume);
    if (adopted.length > 0) volume.log.info("diffs without a row were taken over", { count: adopted.length });
  }

  #make(name: string, isNew: boolean): ProxyVolume {
    const { platform, settings, log } = this.#parts;
    const directory = `${settings.dataDir}/${name}`;
    const store = ProxyStore.open(platform.databases, directory, name, isNew);
    return new ProxyVolume(name, directory, store, platform, settings, log);
  }

  #enterStarted(volume: ProxyVolume): void {
    volume.machine.begin(["Stopped"], "Start", "start").commit("Started");
    this.#startSenders(volume);
  }

  /** Starts the senders that do not run. */
  #startSenders(volume: ProxyVolume): void {
    const running = this.senders(volume).filter((sender) => !sender.isEnded);
    const missing = volume.store.archives.filter(({ name }) => !running.some((sender) => sender.archiveName === name));
    const started = missing.map(({ name }) => new Sender(volume, name, this.#parts.sender));
    this.#senders.set(volume.name, [...running, ...started]);
  }

  async #closeSenders(volume: ProxyVolume, mode: "graceful" | "force"): Promise<void> {
    const senders = this.senders(volume);
    await Promise.all(senders.map((sender) => sender.close(mode)));
    if (this.#senders.get(volume.name) === senders) this.#senders.delete(volume.name);
  }

  /** Gives up what is under way. */
  #hurry(volume: ProxyVolume): void {
    const reason = new WalbError("cancelled", { what: "the volume was stopped", where: { volume: volume.name } });
    if (volume.receiving?.isCommitting === false) volume.receiving.stream.close(reason);
    for (const sender of this.senders(volume)) void sender.close("force");
  }
}

type StopMode = "graceful" | "force" | "empty";

const stopStates = { empty: "waiting-for-empty", graceful: "stopping", force: "force-stopping" } as const;

function isStricter(mode: StopMode, running: StopState): boolean {
  const strictness: readonly StopState[] = ["not-stopping", "waiting-for-empty", "stopping", "force-stopping"];
  return strictness.indexOf(stopStates[mode]) > strictness.indexOf(running);
}
