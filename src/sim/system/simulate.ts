/** @module One seeded run of the whole system: set-up, work under faults, calm, and everything that must hold then. */
import type { Logger } from "../../control/logger.ts";
import type { Platform } from "../../platform/platform.ts";
import { kib } from "../../units.ts";
import { createSimWorld, type SimWorld } from "../sim.ts";
import { Fate } from "./fate.ts";
import { VolumeModel } from "./model.ts";
import { sleep } from "./node.ts";
import { Operator } from "./operator.ts";
import { Oracle } from "./oracle.ts";
import { drawSite, Site } from "./site.ts";
import { Writer } from "./writer.ts";

/** How a run is wished. */
export interface SimulationOptions {
  readonly onTrace?: (line: string) => void;
  readonly logOf?: (platform: Platform) => Logger;
}

/** What a run did. The same seed gives the same report. */
export interface SimulationReport {
  readonly seed: number;
  readonly traceHash: number;
  readonly eventCount: number;
  readonly virtualMs: number;
  readonly writeCount: number;
  readonly snapshotCount: number;
  readonly restoreCount: number;
  readonly backupCount: number;
  readonly hashBackupCount: number;
  readonly overflowCount: number;
  readonly restartCount: number;
  /** Kinds of faults and how often each came. */
  readonly faults: Readonly<Record<string, number>>;
}

/** What a run failed with, and where it was. */
export class SimulationFailure extends Error {
  constructor(
    readonly seed: number,
    readonly reason: unknown,
    /** The newest events that tell the story, oldest first. */
    readonly trace: readonly string[],
    readonly site: string,
  ) {
    super(`seed ${seed}: ${reason instanceof Error ? reason.message : String(reason)}`, { cause: reason });
  }
}

/** What tells the story of a run: faults, starts, snapshots, failures; not each piece of data that travels. */
const storyLine =
  /^[\d.]+ (fault|writer|snapshot|restore|a full|a command|calm|the storage|\S+ (start|kill|crash) \d+$|\S+ cannot)/;
const storyLines = 400;
/** Files that no role may keep. Restores are made where the user wishes, and are the user's. */
const temporary = /^(?!\/restored\/).*(\.tmp$|partial|quarantine|\.clearing)/;
const maxEvents = 8_000_000;
/** Virtual time in which everything must be well again once faults have stopped. */
const recoveryMs = 1_200_000;

/** Runs a seed. @throws SimulationFailure when anything does not hold. */
export async function simulate(seed: number, options: SimulationOptions = {}): Promise<SimulationReport> {
  const story: string[] = [];
  const world = createSimWorld(seed, {
    onTrace(line) {
      if (storyLine.test(line) && story.push(line) > 2 * storyLines) story.splice(0, storyLines);
      options.onTrace?.(line);
    },
  });
  const siteOptions = drawSite(world.random.fork("site"));
  const site = new Site(world, siteOptions, options.logOf);
  try {
    const run = new Run(world, site);
    return await world.complete(() => run.run(), { limitMs: 24 * 3_600_000, maxEvents });
  } catch (error) {
    throw new SimulationFailure(seed, error, story.slice(-storyLines), JSON.stringify(siteOptions));
  } finally {
    for (const node of site.nodes) node.leave();
    world.close();
  }
}

class Run {
  readonly #model: VolumeModel;
  readonly #writer: Writer;
  readonly #oracle: Oracle;
  readonly #operator: Operator;
  readonly #fate: Fate;
  #isCalm = false;

  constructor(
    private readonly world: SimWorld,
    private readonly site: Site,
  ) {
    const random = world.random.fork("run");
    const { sizeLb, logBytes } = site.options;
    this.#model = new VolumeModel(sizeLb);
    const writeBytesMax = Math.min(256 * kib, logBytes / 16);
    this.#writer = new Writer(world, site.source, this.#model, writeBytesMax, 3_000);
    this.#oracle = new Oracle(world, site.backup, this.#model);
    this.#operator = new Operator(world, site, this.#writer, this.#oracle);
    this.#fate = new Fate(world, site, random.pick([500, 2_000, 8_000]));
    this.#operator.onSnapshot = () => this.#fate.snapshotTaken();
  }

  async run(): Promise<SimulationReport> {
    const { world } = this;
    const random = world.random.fork("length");
    await this.#operator.setUp();
    const failures: unknown[] = [];
    const watch = (work: Promise<void>): Promise<void> =>
      work.catch((error: unknown) => {
        failures.push(error);
      });
    const writing = watch(this.#writer.run());
    const operating = watch(this.#operator.run(() => this.#isCalm));
    const checking = watch(this.#checkNowAndThen());
    if (random.chance(0.5)) await sleep(world, 5_000);
    const faults = watch(this.#fate.run());
    const endMs = world.nowMs() + random.between(10_000, 90_000);
    while (world.nowMs() < endMs && failures.length === 0) await sleep(world, 100);
    this.#isCalm = true;
    this.#fate.end();
    world.note("calm");
    await faults;
    const stop = async (): Promise<void> => {
      this.#writer.isStopped = true;
      this.#operator.isStopped = true;
      await Promise.all([writing, operating, checking]);
      if (failures.length > 0) throw failures[0];
    };
    if (failures.length > 0) throw failures[0];
    await this.#untilWell(failures);
    await stop();
    await this.#finalChecks();
    return this.#report();
  }

  async #checkNowAndThen(): Promise<void> {
    const random = this.world.random.fork("checks");
    while (!this.#isCalm) {
      await sleep(this.world, random.between(1_000, 8_000));
      if (!this.#isCalm) await this.#oracle.check(3);
    }
  }

  /** Liveness: once faults have stopped, all is well within bounded time. */
  async #untilWell(failures: readonly unknown[]): Promise<void> {
    const endMs = this.world.nowMs() + recoveryMs;
    let reasons: string[] = [];
    while (this.world.nowMs() < endMs) {
      if (failures.length > 0) throw failures[0];
      reasons = await this.#unwell();
      if (reasons.length === 0) return;
      // What a disk error made look damaged is known to be good when it was read again.
      if (reasons.length === 1 && reasons[0]?.startsWith("archive: ")) await this.#oracle.check(12, true);
      await sleep(this.world, 1_000);
      // Writes would keep the queues from ever being empty.
      this.#writer.isPaused = true;
    }
    throw new Error(`${recoveryMs / 1000} s after the last fault: ${reasons.join("; ")}`);
  }

  /** What keeps the system from being well. */
  async #unwell(): Promise<string[]> {
    const reasons: string[] = [];
    const { site } = this;
    for (const node of site.nodes) {
      if (node.service === undefined) reasons.push(`${node.name} is down (${String(node.lastStartError ?? "")})`);
    }
    if (reasons.length > 0) return reasons;
    if (!this.#writer.isReady || this.#writer.isDeviceBroken) reasons.push("the device cannot be written to");
    const storage = await this.#operator.storageVolume();
    const archive = await this.#operator.archiveVolume();
    const proxies = await this.#operator.proxyVolumes();
    if (storage?.state !== "Target") reasons.push(`the storage is ${storage?.state}`);
    if (archive?.state !== "Archived") reasons.push(`the archive is ${archive?.state}`);
    if (storage?.trouble !== undefined) reasons.push(`storage: ${storage.trouble.message}`);
    if (archive?.trouble !== undefined) reasons.push(`archive: ${archive.trouble.message}`);
    if (storage?.lagBytes !== 0) reasons.push(`the storage lags ${storage?.lagBytes} bytes`);
    if (storage?.logUsagePb !== 0) reasons.push(`${storage?.logUsagePb} PB of the log are in use`);
    if (storage?.uuid !== archive?.uuid) reasons.push("storage and archive follow different logs");
    for (const [i, proxy] of proxies.entries()) {
      const name = `relay${i + 1}`;
      if (proxy?.state !== "Started") reasons.push(`${name} is ${proxy?.state}`);
      if (proxy?.trouble !== undefined) reasons.push(`${name}: ${proxy.trouble.message}`);
      for (const entry of proxy?.archives ?? []) {
        if (entry.pendingCount > 0) reasons.push(`${name} has ${entry.pendingCount} diffs`);
        if (entry.trouble !== undefined) reasons.push(`${name} to ${entry.archiveName}: ${entry.trouble.message}`);
      }
    }
    return reasons;
  }

  async #finalChecks(): Promise<void> {
    const { site, world } = this;
    await this.#writer.check();
    this.#writer.isPaused = false;
    await this.#writer.burst(5);
    await this.#writer.flush();
    const gid = await this.#operator.snapshot();
    if (gid === undefined) throw new Error("no snapshot can be taken when all is well");
    const endMs = world.nowMs() + 120_000;
    let newest: string | undefined;
    for (;;) {
      const archive = await this.#operator.archiveVolume();
      newest = archive?.newestPoint === undefined ? "none" : String(archive.newestPoint.gid);
      if (archive?.newestPoint !== undefined && archive.newestPoint.gid >= gid) break;
      if (world.nowMs() > endMs)
        throw new Error(`snapshot ${gid} does not arrive when all is well: newest is ${newest}`);
      await sleep(world, 100);
    }
    await this.#oracle.expectNow(gid);
    await this.#untilWell([]);
    await this.#oracle.check(12, true);
    await this.#writer.check();
    for (const node of site.nodes) {
      const closed = await node.attempt<void>((service) => service.close("graceful"), 120_000);
      if (closed.kind !== "done") throw new Error(`${node.name} cannot be closed: ${JSON.stringify(closed)}`);
      await sleep(world, 10);
      if (node.leasedBytes > 0) throw new Error(`${node.name} has not given back ${node.leasedBytes} bytes of memory`);
    }
    await this.#requireNoTemporaries();
  }

  /** What a failed removal left is gone after the next start. */
  async #requireNoTemporaries(): Promise<void> {
    for (const node of this.site.nodes) node.kill();
    await sleep(this.world, 1_000);
    for (const { host, service } of this.site.nodes) {
      if (service === undefined) throw new Error(`${host.name} does not start`);
      const left = host.storage.paths().filter((path) => temporary.test(path));
      if (left.length > 0) throw new Error(`${host.name} has left behind: ${left.join(" ")}`);
    }
  }

  #report(): SimulationReport {
    const { world, site } = this;
    return {
      seed: world.seed,
      traceHash: world.traceHash,
      eventCount: world.eventCount,
      virtualMs: world.nowMs(),
      writeCount: this.#model.count,
      snapshotCount: this.#oracle.snapshotCount,
      restoreCount: this.#oracle.restoreCount,
      backupCount: this.#operator.backupCount,
      hashBackupCount: this.#operator.hashBackupCount,
      overflowCount: this.#operator.overflowCount,
      restartCount: site.nodes.reduce((sum, node) => sum + node.host.incarnation - 1, 0),
      faults: Object.fromEntries(this.#fate.counts),
    };
  }
}
