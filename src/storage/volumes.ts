/** @module The volumes of a running storage: opening, making, removing, and the follower of each. */
import type { Logger } from "../control/logger.ts";
import type { DeviceReference } from "../control/storage.ts";
import { WalbError } from "../errors.ts";
import type { Platform } from "../platform/platform.ts";
import { type BrokenVolume, checkVolumeId, openVolumes } from "../volume/directories.ts";
import { isSameDevice, openDevice } from "./devices.ts";
import { Follower, type FollowerParts, type FollowMode } from "./follower.ts";
import { checkSameLog } from "./move.ts";
import type { StorageSettings } from "./settings.ts";
import { StorageStore } from "./store.ts";
import { StorageVolume } from "./volume.ts";

/** What the volumes need from the role. */
export interface StorageVolumesParts {
  readonly platform: Platform;
  readonly settings: StorageSettings;
  readonly log: Logger;
  readonly follower: FollowerParts;
}

/** All volumes of a storage. */
export class StorageVolumes {
  readonly #parts: StorageVolumesParts;
  readonly #volumes = new Map<string, StorageVolume>();
  readonly #followers = new Map<string, Follower>();
  readonly #making = new Set<string>();
  #broken: BrokenVolume[] = [];

  constructor(parts: StorageVolumesParts) {
    this.#parts = parts;
  }

  /** Opens every volume of the data directory; targets and standbys are followed at once. */
  async open(): Promise<void> {
    const { platform, settings, log } = this.#parts;
    const { volumes, broken } = await openVolumes(
      platform.disk,
      settings.dataDir,
      (path) => platform.databases.exists(path),
      async (name) => {
        const store = StorageStore.open(platform.databases, this.#directory(name), name);
        return this.#make(name, store);
      },
    );
    this.#broken = broken;
    for (const { volume, error } of broken) log.error("a volume could not be opened", { volume, error });
    for (const [name, volume] of volumes) {
      this.#volumes.set(name, volume);
      if (volume.store.state === "Target") this.follow(volume, "target");
      if (volume.store.state === "Standby") this.follow(volume, "standby");
    }
  }

  get all(): StorageVolume[] {
    return [...this.#volumes.values()].toSorted((a, b) => (a.name < b.name ? -1 : 1));
  }

  get broken(): readonly BrokenVolume[] {
    return this.#broken;
  }

  /** @throws WalbError `not-found`, or why the volume could not be opened. */
  get(name: string): StorageVolume {
    checkVolumeId(name);
    const volume = this.#volumes.get(name);
    if (volume !== undefined) return volume;
    const broken = this.#broken.find((candidate) => candidate.volume === name);
    if (broken !== undefined) throw broken.error;
    throw new WalbError("not-found", {
      what: "the storage does not know this volume",
      where: { host: this.#parts.settings.nodeId, volume: name },
      hint: `make it first: walb init ${name} --device NAME`,
    });
  }

  /** Makes a volume in state SyncReady, durably. */
  async create(name: string, device: DeviceReference): Promise<StorageVolume> {
    checkVolumeId(name);
    const { platform, settings } = this.#parts;
    const broken = this.#broken.find((known) => known.volume === name);
    if (broken !== undefined) throw broken.error;
    if (this.#volumes.has(name) || this.#making.has(name)) {
      throw new WalbError("already-exists", {
        what: "the storage has this volume already",
        where: { host: settings.nodeId, volume: name },
        hint: `look at it with: walb status ${name}`,
      });
    }
    this.#checkUnused(device, name);
    this.#making.add(name);
    try {
      // The device must be there before anything is written.
      const probe = openDevice(platform, settings, device);
      try {
        await probe.info();
      } finally {
        await probe.close();
      }
      await platform.disk.makeDirectory(this.#directory(name));
      // Another volume may have been made of it meanwhile.
      this.#checkUnused(device, name);
      const volume = this.#make(name, StorageStore.create(platform.databases, this.#directory(name), name, device));
      this.#volumes.set(name, volume);
      return volume;
    } finally {
      this.#making.delete(name);
    }
  }

  /**
   * Makes a volume go on with another device, which has its log and data now.
   * @throws WalbError when the device is not there, or its log is not the one the volume follows.
   */
  async setDevice(name: string, reference: DeviceReference): Promise<void> {
    const { platform, settings } = this.#parts;
    const volume = this.get(name);
    volume.machine.requireNotStopping("take another device");
    const transition = volume.machine.begin(["SyncReady", "Stopped"], "SetDevice", "take another device");
    const device = openDevice(platform, settings, reference);
    try {
      if (isSameDevice(volume.store.device, reference, settings.deviceSocket)) {
        volume.store.setDevice(reference);
      } else {
        this.#checkUnused(reference, name);
        checkSameLog(name, reference.name, volume.store, await device.status());
        volume.store.setDevice(reference);
      }
    } catch (error) {
      transition.rollback();
      await device.close();
      throw error;
    }
    await this.unfollow(volume, "force");
    // The old one stays in its transition: who still holds it can do nothing with it any more.
    this.#volumes.set(
      name,
      new StorageVolume(name, volume.directory, volume.store, device, platform, settings, this.#parts.log),
    );
    await volume.device.close();
  }

  #checkUnused(device: DeviceReference, name: string): void {
    const { nodeId, deviceSocket } = this.#parts.settings;
    const others = this.all.filter((volume) => volume.name !== name);
    const user = others.find((volume) => isSameDevice(volume.store.device, device, deviceSocket));
    if (user === undefined) return;
    throw new WalbError("already-exists", {
      what: `the device ${device.name} is backed up as volume ${user.name} already`,
      where: { host: nodeId, volume: name, field: "device" },
      hint: `use another device, or clear the other volume first: walb clear ${user.name}`,
    });
  }

  /** Forgets a volume and removes its directory. The device is left alone. */
  async remove(volume: StorageVolume): Promise<void> {
    await this.unfollow(volume, "force");
    this.#volumes.delete(volume.name);
    volume.store.close();
    await volume.device.close();
    await this.#parts.platform.disk.removeTree(this.#directory(volume.name));
  }

  /** Begins to follow the log, when it is not followed yet. */
  follow(volume: StorageVolume, mode: FollowMode): void {
    // One that ended by itself, after an overflow, makes room for the next.
    if (this.#followers.get(volume.name)?.isEnded === false) return;
    this.#followers.set(volume.name, new Follower(volume, mode, this.#parts.follower));
  }

  /** What follows the log of a volume, when something does. */
  follower(volume: StorageVolume): Follower | undefined {
    const follower = this.#followers.get(volume.name);
    return follower?.isEnded === false ? follower : undefined;
  }

  /** Ends following; resolves when nothing runs any more. `force` also hurries a graceful one that is under way. */
  async unfollow(volume: StorageVolume, mode: "graceful" | "force"): Promise<void> {
    const follower = this.#followers.get(volume.name);
    await follower?.close(mode);
    if (this.#followers.get(volume.name) === follower) this.#followers.delete(volume.name);
  }

  /** Lets followers decide now, whatever they wait for. */
  kick(name?: string): void {
    for (const [volume, follower] of this.#followers) if (name === undefined || name === volume) follower.kick();
  }

  /** Ends all following, then lets go of stores and devices. */
  async close(mode: "graceful" | "force"): Promise<void> {
    await this.unfollowAll(mode);
    for (const volume of this.all) {
      volume.store.close();
      await volume.device.close();
    }
    this.#volumes.clear();
  }

  /** Closes the devices: what waits for one fails at once. */
  async leaveDevices(): Promise<void> {
    await Promise.all(this.all.map((volume) => volume.device.close()));
  }

  async unfollowAll(mode: "graceful" | "force"): Promise<void> {
    await Promise.all(this.all.map((volume) => this.unfollow(volume, mode)));
  }

  #directory(name: string): string {
    return `${this.#parts.settings.dataDir}/${name}`;
  }

  #make(name: string, store: StorageStore): StorageVolume {
    const { platform, settings, log } = this.#parts;
    return new StorageVolume(
      name,
      this.#directory(name),
      store,
      openDevice(platform, settings, store.device),
      platform,
      settings,
      log,
    );
  }
}
