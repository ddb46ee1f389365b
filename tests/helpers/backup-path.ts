/** @module A simulated path of a volume: device and storage on one host, proxies, an archive; and what writes to it. */

import { createLogger, type Logger, silentLogger } from "../../src/control/logger.ts";
import type { ProxyStatus } from "../../src/control/proxy.ts";
import type { ProxyOptions, RunningRole, StorageOptions } from "../../src/control/role.ts";
import type { StorageVolume } from "../../src/control/storage.ts";
import { deviceControlClient } from "../../src/device/user/control/client.ts";
import { type DeviceDaemon, openDeviceDaemon } from "../../src/device/user/daemon.ts";
import type { MemoryPool } from "../../src/native/memory.ts";
import type { Platform } from "../../src/platform/platform.ts";
import { openProxy } from "../../src/proxy/server.ts";
import { watchedMemory } from "../../src/sim/memory.ts";
import { createSimWorld, type SimHost, type SimWorld } from "../../src/sim/sim.ts";
import { openStorage } from "../../src/storage/server.ts";
import { RawNbd, request } from "../device/nbd/raw.ts";
import { FakeArchive } from "./fake-archive.ts";
import { VolumeModel } from "./volume-model.ts";

const mib = 1024 * 1024;
const tcp = (host: string, port: number) => ({ kind: "tcp", host, port }) as const;
export const volume = "vol0";
const nbdSocket = { kind: "unix", path: "/device/nbd.sock" } as const;

/** The logger of a role in a test: silent, or stderr with WALB_TEST_LOG set. */
export function testLogger(platform: Platform): Logger {
  if (process.env.WALB_TEST_LOG === undefined) return silentLogger;
  const write = (line: string): void => console.error(platform.hostName, line);
  return createLogger({ format: "human", level: "debug", clock: platform.clock, write });
}

/** Runs a command of a role. */
export async function call<T = unknown>(role: RunningRole, command: string, params: unknown = {}): Promise<T> {
  const outcome = await role.control.call(command, params);
  if (outcome.kind === "result") return outcome.result as T;
  const id = outcome.job.id;
  return await new Promise<T>((resolve, reject) => {
    role.control.watchJob(id, (job) => {
      if (job.state === "done") resolve(job.result as T);
      else if (job.state !== "running") reject(new Error(`${job.error?.code}: ${job.error?.what}`));
    });
  });
}

export interface PathOptions {
  readonly proxies?: number;
  readonly sizeLb?: number;
  readonly logBytes?: number;
  readonly overflow?: "keep-writing" | "stop";
  readonly storage?: Partial<StorageOptions>;
  readonly proxy?: Partial<ProxyOptions>;
  /** Archives that every proxy sends to: a0, a1 … */
  readonly archives?: number;
}

/** All of it, in one world. */
export class BackupPath {
  readonly world: SimWorld;
  readonly storageHost: SimHost;
  readonly proxyHosts: SimHost[] = [];
  readonly archiveHosts: SimHost[] = [];
  readonly archives: FakeArchive[] = [];
  readonly model: VolumeModel;
  readonly options: PathOptions;
  device!: DeviceDaemon;
  storage!: RunningRole;
  readonly proxies: RunningRole[] = [];
  /** Writes in the log when a gid was given out on request. */
  readonly snapshots = new Map<bigint, number>();
  /** What each clean gid at each archive was: writes in the image. */
  readonly restorable: Map<bigint, number>[] = [];
  readonly failures: string[] = [];
  /** Pools of the roles that run, by host. */
  readonly pools = new Map<string, MemoryPool[]>();
  #writer: RawNbd | undefined;
  #handle = 0;

  constructor(seed: number, options: PathOptions = {}) {
    this.options = options;
    this.world = createSimWorld(seed);
    const host = (name: string): SimHost => this.world.host(name, { memoryBytes: 512 * mib });
    this.storageHost = host("s0");
    for (let i = 0; i < (options.proxies ?? 1); i++) this.proxyHosts.push(host(`p${i}`));
    this.model = new VolumeModel(options.sizeLb ?? 2048);
    for (let i = 0; i < (options.archives ?? 1); i++) {
      this.archiveHosts.push(host(`a${i}`));
      const archive = new FakeArchive();
      const known = new Map<bigint, number>();
      this.restorable.push(known);
      archive.onClean = (gid, image) => this.#check(`a${i}`, known, gid, image);
      this.archives.push(archive);
    }
  }

  get archive(): FakeArchive {
    return this.archives[0]!;
  }

  /** Opens everything, makes the volume, and starts the proxies. */
  async open(): Promise<void> {
    for (let i = 0; i < this.archives.length; i++) await this.openArchive(i);
    for (let i = 0; i < this.proxyHosts.length; i++) {
      await this.openProxy(i);
      for (let a = 0; a < this.archives.length; a++) {
        const params = { volume, archiveName: `a${a}`, address: `a${a}:10200` };
        await call(this.proxies[i]!, "add-archive", params);
      }
      await call(this.proxies[i]!, "start", { volume });
    }
    await this.openDevice();
    const admin = await deviceControlClient(this.storageHost.platform, "/device/control.sock");
    await admin.create({
      name: "dev0",
      sizeBytes: this.model.sizeLb * 512,
      logSizeBytes: this.options.logBytes ?? 8 * mib,
      overflow: this.options.overflow ?? "keep-writing",
    });
    await admin.close();
    await this.openStorage();
    await call(this.storage, "init", { volume, device: { kind: "user", name: "dev0" } });
  }

  async openArchive(i: number): Promise<void> {
    await this.archives[i]!.open(this.archiveHosts[i]!.platform, tcp("", 10200));
  }

  async openProxy(i: number): Promise<void> {
    const platform = this.#watched(this.proxyHosts[i]!);
    const options: ProxyOptions = {
      listen: tcp("", 10100),
      dataDir: "/proxy",
      nodeId: `p${i}`,
      security: "insecure",
      ...this.options.proxy,
    };
    this.proxies[i] = await openProxy(platform, options, testLogger(platform));
  }

  async openDevice(): Promise<void> {
    const { platform } = this.storageHost;
    this.device = await openDeviceDaemon(platform, {
      dataDir: "/device",
      nbdListeners: [nbdSocket],
      nodeId: "s0",
      nbdMemory: platform.memory.carve(128 * mib),
    });
    this.#writer = undefined;
  }

  async openStorage(): Promise<void> {
    const platform = this.#watched(this.storageHost);
    const options: StorageOptions = {
      listen: tcp("", 10000),
      dataDir: "/storage",
      nodeId: "s0",
      security: "insecure",
      archive: tcp("a0", 10200),
      proxies: this.proxyHosts.map((host) => tcp(host.name, 10100)),
      deviceSocket: "/device/control.sock",
      ...this.options.storage,
    };
    this.storage = await openStorage(platform, options, testLogger(platform));
  }

  #watched(host: SimHost): Platform {
    const pools: MemoryPool[] = [];
    this.pools.set(host.name, pools);
    return watchedMemory(host.platform, pools);
  }

  /** Memory that the roles have not given back. */
  get leasedBytes(): number {
    return [...this.pools.values()].flat().reduce((sum, pool) => sum + pool.leasedBytes, 0);
  }

  /** Device and storage of a restarted host. */
  async restartStorageHost(): Promise<void> {
    this.storageHost.restart();
    await this.openDevice();
    await this.openStorage();
  }

  /** Takes back from the model the writes that a crash of the host has lost: none that an archive has. */
  async forgetLostWrites(): Promise<void> {
    const image = await this.readDevice();
    const shipped = Math.max(0, ...this.restorable.flatMap((known) => [...known.values()]));
    const count = this.model.prefixOf(image, shipped, "last");
    if (count === undefined) throw new Error(`the device is no state of the volume after ${shipped} writes`);
    this.model.writes.length = count;
    for (const [gid, writes] of this.snapshots) if (writes > count) throw new Error(`snapshot ${gid} has lost writes`);
  }

  async readDevice(): Promise<Uint8Array> {
    const sizeBytes = this.model.sizeLb * 512;
    this.#writer ??= await RawNbd.go(this.storageHost.platform.net, nbdSocket, "dev0");
    this.#writer.send(request(0, ++this.#handle, 0, sizeBytes));
    return (await this.#writer.reply(this.#handle, sizeBytes)).payload;
  }

  async restartProxy(i: number): Promise<void> {
    this.proxyHosts[i]!.restart();
    await this.openProxy(i);
  }

  /** Writes once, at random, and waits for the answer. */
  async write(): Promise<void> {
    const { random } = this.world;
    const sizeLb = random.chance(0.1) ? random.between(64, 300) : random.between(1, 24);
    const offsetLb = random.between(0, this.model.sizeLb - sizeLb);
    await this.writeAt(offsetLb, sizeLb, random.chance(0.1));
  }

  async writeAt(offsetLb: number, sizeLb: number, isZero = false): Promise<void> {
    this.#writer ??= await RawNbd.go(this.storageHost.platform.net, nbdSocket, "dev0");
    const bytes = this.model.write(offsetLb, sizeLb, isZero);
    const handle = ++this.#handle;
    const at = offsetLb * 512;
    this.#writer.send(
      bytes === undefined ? request(6, handle, at, sizeLb * 512) : request(1, handle, at, sizeLb * 512, 0, bytes),
    );
    const { error } = await this.#writer.reply(handle);
    if (error !== 0) throw new Error(`a write failed with ${error}`);
  }

  async writes(count: number, pauseMs = 0): Promise<void> {
    for (let i = 0; i < count; i++) {
      await this.write();
      if (pauseMs > 0) await this.storageHost.platform.clock.sleep(pauseMs);
    }
  }

  async backup(mode: "full" | "hash" = "full"): Promise<bigint> {
    const { gid } = await call<{ gid: bigint }>(this.storage, "backup", { volume, mode });
    return gid;
  }

  /** Takes a snapshot while nothing is being written. */
  async snapshot(): Promise<bigint> {
    const count = this.model.count;
    const { gid } = await call<{ gid: bigint }>(this.storage, "snapshot", { volume });
    this.snapshots.set(gid, count);
    return gid;
  }

  /** Waits, in virtual time, until every archive has a gid (or one). */
  async arrived(gid: bigint, limitMs = 60_000, archives = this.archives): Promise<void> {
    await this.world.runUntil(
      () => archives.every((archive) => archive.state === "Archived" && archive.latest.gidB >= gid),
      {
        limitMs,
      },
    );
  }

  async storageVolume(): Promise<StorageVolume> {
    const { volumes } = await call<{ volumes: StorageVolume[] }>(this.storage, "status", { volume });
    return volumes[0]!;
  }

  async proxyVolume(i = 0): Promise<ProxyStatus["volumes"][number]> {
    return (await call<ProxyStatus>(this.proxies[i]!, "status", { volume })).volumes[0]!;
  }

  /** Fails when any image was not what the log said, or a snapshot not what it was taken of. @returns gids that were checked. */
  verify(): number {
    if (this.failures.length > 0)
      throw new Error(`${this.failures.join("\n")}\n${this.world.recentTrace().slice(-40).join("\n")}`);
    let checked = 0;
    for (const known of this.restorable) {
      let before = 0;
      for (const [gid, count] of [...known].toSorted(([a], [b]) => (a < b ? -1 : 1))) {
        if (count < before) throw new Error(`gid ${gid} has ${count} writes, an older one has ${before}`);
        before = count;
        checked += 1;
      }
    }
    return checked;
  }

  close(): void {
    this.world.close();
  }

  #check(name: string, known: Map<bigint, number>, gid: bigint, image: Uint8Array): void {
    try {
      const from = Math.max(0, ...[...known].filter(([other]) => other < gid).map(([, count]) => count));
      const count = this.model.prefixOf(image, from);
      if (count === undefined) this.failures.push(`${name}: gid ${gid} is no state of the volume after ${from} writes`);
      else known.set(gid, count);
      const expected = this.snapshots.get(gid);
      if (expected !== undefined && Buffer.compare(image, this.model.imageAfter(expected)) !== 0) {
        this.failures.push(`${name}: snapshot ${gid} is not the volume after ${expected} writes`);
      }
    } catch (error) {
      this.failures.push(`${name}: gid ${gid}: ${error}`);
    }
  }
}
