/** @module The volumes of a device daemon: opening, creating, deleting, reporting. */
import { asWalbError, WalbError } from "../../errors.ts";
import type { Platform } from "../../platform/platform.ts";
import { lbBytes } from "../../units.ts";
import type { DeviceInfo } from "../device.ts";
import type { BlockVolume } from "./block.ts";
import type { DeleteOptions, StopOptions } from "./control/admin.ts";
import { type CreateVolume, createVolumeSchema, type VolumeReport } from "./control/schema.ts";
import { badParameter } from "./control/server.ts";
import type { EngineTuning } from "./daemon.ts";
import { Changes } from "./daemon-changes.ts";
import { checkAbsolute, checkFree, checkNew, checkSpaceForRedo, checkUnused, takenStores } from "./daemon-checks.ts";
import { LogClaims } from "./daemon-claims.ts";
import { closeVolumes } from "./daemon-close.ts";
import { type VolumeConfig, VolumeConfigs } from "./daemon-config.ts";
import { Engines, type EnginesHost } from "./daemon-engines.ts";
import { planVolume } from "./daemon-plan.ts";
import {
  failedVolume,
  halfDone,
  nextStep,
  reportOf,
  startingVolume,
  type Volume,
  type VolumeUse,
  withWayBack,
} from "./daemon-report.ts";
import { makeStores, removeOwnStores, type StoreWishes } from "./daemon-stores.ts";
import type { WriteAheadEngine } from "./engine.ts";
import type { NbdExports } from "./nbd/exports.ts";
import { inParallel, within } from "./parallel.ts";

/** The rest of the daemon as the volumes see it. */
export interface VolumeSetHost extends VolumeUse, EnginesHost {
  changed(name: string): void;
  disconnect(name: string): Promise<void>;
}

/** All volumes of a daemon, running or failed. */
export class VolumeSet implements NbdExports {
  private readonly volumes = new Map<string, Volume>();
  private readonly changes = new Changes();
  private readonly configs: VolumeConfigs;
  private readonly claims: LogClaims;
  private readonly engines: Engines;

  constructor(
    private readonly platform: Platform,
    private readonly dataDir: string,
    tuning: EngineTuning,
    private readonly host: VolumeSetHost,
  ) {
    this.configs = new VolumeConfigs(platform.disk, dataDir);
    this.claims = new LogClaims(platform.net);
    this.engines = new Engines(platform, this.claims, tuning, (path) => this.configs.resolve(path), host);
  }

  /**
   * Reads every configuration, finishes what a crash interrupted, opens the volumes. Those that take longer than `limitMs`,
   * because a store hangs, keep no others waiting: they are opened behind.
   */
  async load(limitMs: number): Promise<void> {
    const { configs, bad } = await this.configs.load();
    for (const { name, error } of bad) this.volumes.set(name, failedVolume(name, error));
    for (const config of configs) this.volumes.set(config.name, startingVolume(config));
    const all = inParallel(this.engines.openAtOnce, configs, (config) => this.open(config));
    for (const { failure } of this.volumes.values()) if (failure !== undefined) this.host.problem(failure);
    if (await within(this.platform.clock, all, limitMs)) return;
    const late = this.sorted().filter((volume) => volume.isStarting);
    if (late.length === 0) return;
    this.host.problem(
      new WalbError("timed-out", {
        what: `${late.map(({ name }) => name).join(", ")} could not be opened within ${limitMs / 1000} s`,
        where: { step: "start" },
        hint: "the others are served meanwhile; a disk hangs, or a long log is being redone: walb device list",
      }),
    );
  }

  /** Opens a volume at the start of the daemon, or finishes what a crash interrupted. */
  private async open(config: VolumeConfig): Promise<void> {
    const { name } = config;
    // Somebody may have been faster, or the daemon may be stopping by now.
    if (this.volumes.get(name)?.isStarting !== true) return;
    const work = this.changes.alone(name, async () => {
      try {
        if (config.state === "ready") {
          await this.start(config);
        } else {
          await removeOwnStores(this.platform, config, (path) => this.configs.resolve(path));
          await this.configs.remove(name);
          this.volumes.delete(name);
        }
      } catch (error) {
        const volume = failedVolume(name, asWalbError(error, { volume: name }), config);
        this.volumes.set(name, volume);
        if (volume.failure !== undefined) this.host.problem(volume.failure);
      }
      this.host.changed(name);
    });
    await work.catch(() => undefined);
  }

  names(): readonly string[] {
    return this.sorted()
      .filter((volume) => volume.engine !== undefined)
      .map((volume) => volume.name);
  }

  find(name: string): BlockVolume | undefined {
    const volume = this.volumes.get(name);
    return volume?.config?.state === "deleting" ? undefined : volume?.engine;
  }

  list(): VolumeReport[] {
    return this.sorted().map((volume) => this.report(volume));
  }

  show(name: string): VolumeReport {
    return this.report(this.volume(name));
  }

  /** The engine of a running volume. @throws WalbError `not-found`, or why the volume failed. */
  engine(name: string): WriteAheadEngine {
    const volume = this.volume(name);
    if (volume.engine !== undefined) return volume.engine;
    throw new WalbError("state", {
      what: "the volume is not running",
      where: { volume: name },
      hint: volume.failure?.hint ?? nextStep(volume) ?? `walb device start ${name}`,
      ...(volume.failure === undefined ? {} : { cause: volume.failure }),
    });
  }

  async create(wanted: CreateVolume): Promise<VolumeReport> {
    const parsed = createVolumeSchema.safeParse(wanted);
    if (!parsed.success) throw badParameter(parsed.error);
    const wish = parsed.data;
    const { name } = wish;
    return await this.changes.alone(name, async () => {
      checkNew(name, this.volumes);
      for (const path of [wish.dataPath, wish.logPath]) checkAbsolute(path, this.dataDir);
      const { config, stores } = planVolume(wish, (path) => this.configs.resolve(path));
      await checkFree(
        this.platform.disk,
        stores,
        takenStores(this.volumes.values(), (path) => this.configs.resolve(path)),
      );
      await this.configs.save(config);
      await this.makeReady(config, stores);
      this.host.changed(name);
      return this.show(name);
    });
  }

  async delete(name: string, options: DeleteOptions): Promise<void> {
    await this.changes.alone(name, async () => {
      const volume = this.volume(name);
      checkUnused(name, this.host.connectionsOf(name), this.host.watchersOf(name), options);
      // Whoever takes the stores needs no redo then: that of the kernel driver leaves out most of a discard.
      if (options.keepStores === true && options.force !== true) await volume.engine?.checkpoint();
      const { config, isMarked } = await this.markDeleting(volume, options);
      volume.config = config;
      await this.takeDown(volume, "delete");
      // Without the mark, a crash now must not leave a volume without its stores; rather stores without a volume.
      if (!isMarked) await this.configs.remove(name);
      if (config !== undefined) await removeOwnStores(this.platform, config, (path) => this.configs.resolve(path));
      if (isMarked) await this.configs.remove(name);
      this.volumes.delete(name);
      this.host.changed(name);
    });
  }

  /**
   * Brings a volume back that failed or was stopped, with all that a start of the daemon does; one that takes no more
   * writes is closed and opened anew, which its clients see as a restart. The others are not touched.
   */
  async startAgain(name: string): Promise<VolumeReport> {
    return await this.changes.alone(name, async () => {
      const volume = this.volume(name);
      if (volume.engine !== undefined && volume.engine.readOnlyReason === undefined) return this.report(volume);
      if (volume.engine !== undefined) {
        await checkSpaceForRedo(this.platform.disk, volume.engine);
        await this.takeDown(volume, "start");
      }
      try {
        // As it is by now: somebody may have corrected it.
        const config = await this.configs.read(name);
        volume.config = config;
        if (config.state !== "ready") throw halfDone(name, config.state);
        await this.start(config);
      } catch (error) {
        const failure = withWayBack(asWalbError(error, { volume: name }), name);
        volume.failure = failure;
        volume.isStarting = false;
        this.host.changed(name);
        throw failure;
      }
      this.host.changed(name);
      return this.show(name);
    });
  }

  /** Closes a volume and its stores until it is started again, or the daemon is. */
  async stop(name: string, options: StopOptions): Promise<VolumeReport> {
    return await this.changes.alone(name, async () => {
      const volume = this.volume(name);
      volume.isStarting = false;
      if (volume.engine !== undefined) {
        checkUnused(name, this.host.connectionsOf(name), 0, options);
        // One that cannot is not left half stopped: its log has everything.
        if (volume.engine.readOnlyReason === undefined) await volume.engine.checkpoint();
        await this.takeDown(volume, "stop");
        volume.failure = undefined;
        this.host.changed(name);
      }
      return this.report(volume);
    });
  }

  /** Ends what uses the volume, closes its stores and gives up what it holds. */
  private async takeDown(volume: Volume, step: string): Promise<void> {
    const { name, engine } = volume;
    // Nobody finds it from now on.
    volume.engine = undefined;
    volume.unwatch();
    engine?.melt();
    await this.host.disconnect(name);
    try {
      await engine?.close();
    } catch (error) {
      // What is kept is redone from the log; what is given up matters no more. But it is worth knowing.
      this.host.problem(asWalbError(error, { volume: name, step }));
    }
    if (engine !== undefined) await this.engines.closed(name);
  }

  /** Notes durably that the volume is being deleted, if there is space for that: deleting is how one makes space. */
  private async markDeleting(
    volume: Volume,
    options: DeleteOptions,
  ): Promise<{ readonly config: VolumeConfig | undefined; readonly isMarked: boolean }> {
    if (volume.config === undefined) return { config: undefined, isMarked: false };
    // Stores that are to stay are not the daemon's any more, also when it ends before the volume is forgotten.
    const kept = options.keepStores === true ? { ownsData: false, ownsLog: false } : {};
    const config: VolumeConfig = { ...volume.config, ...kept, state: "deleting" };
    try {
      await this.configs.save(config);
      return { config, isMarked: true };
    } catch (error) {
      if (asWalbError(error).code !== "no-space") throw error;
      return { config, isMarked: false };
    }
  }

  async resize(name: string, sizeBytes: number): Promise<DeviceInfo> {
    return await this.changes.alone(name, async () => {
      const volume = this.volume(name);
      const info = await this.engine(name).resize(sizeBytes / lbBytes);
      await this.noteSize(volume, info.sizeLb * lbBytes);
      this.host.changed(name);
      return info;
    });
  }

  /** Empties the log, which is another one from then on. */
  async resetLog(name: string): Promise<DeviceInfo> {
    return await this.changes.alone(name, async () => {
      const info = await this.engine(name).resetLog();
      try {
        await this.claims.take(name, info.uuid);
        await this.claims.release(name, info.uuid);
      } catch (error) {
        // The log has been reset: only copies of it would not be noticed.
        this.host.problem(asWalbError(error, { volume: name, step: "reset-log" }));
      }
      return info;
    });
  }

  /**
   * Notes the size for when the volume cannot be opened. The superblock of the log decides and has it by now: when the
   * note finds no space, the volume has grown all the same, and the next start makes up for it.
   */
  private async noteSize(volume: Volume, sizeBytes: number): Promise<void> {
    if (volume.config === undefined || volume.config.sizeBytes === sizeBytes) return;
    volume.config = { ...volume.config, sizeBytes };
    try {
      await this.configs.save(volume.config);
    } catch (error) {
      this.host.problem(asWalbError(error, { volume: volume.name, step: "noting the size" }));
    }
  }

  meltAll(): void {
    for (const { engine } of this.volumes.values()) engine?.melt();
  }

  /**
   * Checkpoints and closes all volumes; those whose stores hang are given up after `limitMs`, and are redone from their
   * logs by the next start.
   * @throws the first failure, when every one has been tried; `timed-out` when some were given up.
   */
  async close(limitMs: number): Promise<void> {
    this.changes.stop();
    const volumes = [...this.volumes.values()];
    const { failures, hanging } = await closeVolumes(this.platform.clock, volumes, this.changes, this.claims, limitMs);
    this.volumes.clear();
    if (hanging.length > 0) {
      throw new WalbError("timed-out", {
        what: `the stores of ${hanging.join(", ")} hang and were given up`,
        where: { step: "stop" },
        hint: "all that was answered is in the log, and the next start brings it to the data store; look at the disks",
      });
    }
    if (failures.length > 0) throw failures[0];
  }

  private async makeReady(config: VolumeConfig, stores: StoreWishes): Promise<void> {
    try {
      const sizeBytes = await makeStores(this.platform, stores);
      try {
        const ready: VolumeConfig = { ...config, state: "ready", sizeBytes };
        await this.configs.save(ready);
        await this.start(ready);
      } catch (error) {
        await removeOwnStores(this.platform, config, (path) => this.configs.resolve(path));
        throw error;
      }
    } catch (error) {
      await this.configs.remove(config.name);
      throw error;
    }
  }

  private async start(config: VolumeConfig): Promise<void> {
    const { name } = config;
    const engine = await this.engines.open(config);
    const unwatch = engine.watch(() => this.host.changed(name));
    const volume: Volume = { name, config, engine, isStarting: false, failure: undefined, unwatch };
    this.volumes.set(name, volume);
    await this.noteSize(volume, engine.sizeBytes);
  }

  private report(volume: Volume): VolumeReport {
    return reportOf(volume, this.host, {
      resolve: (path) => this.configs.resolve(path),
      pendingBudgetBytes: this.engines.pendingBudgetBytes,
    });
  }

  private volume(name: string): Volume {
    const volume = this.volumes.get(name);
    if (volume !== undefined) return volume;
    throw new WalbError("not-found", {
      what: "there is no such volume",
      where: { volume: name },
      hint: `make it: walb device create ${name} --size SIZE, on its host; those that are there: walb device list`,
    });
  }

  private sorted(): Volume[] {
    return [...this.volumes.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
  }
}
