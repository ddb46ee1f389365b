/**
 * @module A site with three archives in one world: a0 takes the backups, a1 gets diffs from the proxy beside it, a2
 * follows a0 by replication. All roles are the production code.
 */
import { openArchive } from "../../src/archive/server.ts";
import { silentLogger } from "../../src/control/logger.ts";
import type { RunningRole } from "../../src/control/role.ts";
import { deviceControlClient } from "../../src/device/user/control/client.ts";
import { openDeviceDaemon } from "../../src/device/user/daemon.ts";
import { openProxy } from "../../src/proxy/server.ts";
import type { SimHost } from "../../src/sim/api.ts";
import { createSimWorld, type SimWorld } from "../../src/sim/sim.ts";
import { openStorage } from "../../src/storage/server.ts";
import { run } from "../archive/harness.ts";
import { RawNbd, request } from "../device/nbd/raw.ts";

const mib = 1024 * 1024;
const tcp = (host: string, port: number) => ({ kind: "tcp", host, port }) as const;
const nbdSocket = { kind: "unix", path: "/device/nbd.sock" } as const;
const security = "insecure" as const;
export const volume = "vol0";
export const archiveNames = ["a0", "a1", "a2"] as const;
export type ArchiveName = (typeof archiveNames)[number];

/** The site, and the volume as it must be. */
export class ReplicaSite {
  readonly world: SimWorld;
  readonly hosts = new Map<string, SimHost>();
  readonly roles = new Map<string, RunningRole>();
  readonly model: Buffer;
  /** The volume at each snapshot that was acknowledged. */
  readonly snapshots = new Map<bigint, Buffer>();
  /** Why a job of following ended, other than by a kill. */
  readonly failures: unknown[] = [];
  #nbd!: RawNbd;
  #handle = 0;

  constructor(
    seed: number,
    readonly sizeLb: number,
  ) {
    this.world = createSimWorld(seed);
    this.model = Buffer.alloc(sizeLb * 512);
    for (const name of ["pc", "relay", ...archiveNames]) {
      this.hosts.set(name, this.world.host(name, { memoryBytes: 512 * mib, disk: { reflink: seed % 2 === 0 } }));
    }
  }

  platform(name: string) {
    return this.hosts.get(name)!.platform;
  }

  do<T>(work: () => Promise<T>): Promise<T> {
    return this.world.complete(work);
  }

  command(name: string, command: string, params: object = {}): Promise<Record<string, unknown>> {
    return this.do(() => run(this.roles.get(name)!.control, command, { volume, ...params }));
  }

  async open(): Promise<void> {
    await this.do(async () => {
      const pc = this.platform("pc");
      await openDeviceDaemon(pc, {
        dataDir: "/device",
        nbdListeners: [nbdSocket],
        nodeId: "pc",
        nbdMemory: pc.memory.carve(128 * mib),
      });
      for (const name of archiveNames) await this.openArchive(name);
      const relay = { listen: tcp("", 10100), dataDir: "/proxy", nodeId: "relay", security, retryDelayMsMax: 60_000 };
      this.roles.set("relay", await openProxy(this.platform("relay"), relay, silentLogger));
      this.roles.set(
        "pc",
        await openStorage(
          pc,
          {
            listen: tcp("", 10000),
            dataDir: "/storage",
            nodeId: "pc",
            security,
            archive: tcp("a0", 10200),
            proxies: [tcp("relay", 10100)],
            deviceSocket: "/device/control.sock",
            retryDelayMsMax: 60_000,
            snapshotIntervalMs: 60_000,
          },
          silentLogger,
        ),
      );
      const admin = await deviceControlClient(pc, "/device/control.sock");
      const sizes = { sizeBytes: this.sizeLb * 512, logSizeBytes: 8 * mib };
      await admin.create({ name: "dev0", ...sizes, overflow: "stop" });
      await admin.close();
      this.#nbd = await RawNbd.go(pc.net, nbdSocket, "dev0");
    });
    await this.command("pc", "init", { device: { kind: "user", name: "dev0" } });
    for (const name of archiveNames) await this.command(name, "init");
    await this.command("relay", "add-archive", { archiveName: "a0", address: "a0:10200" });
    await this.command("relay", "start");
  }

  /** The first backup, and everything that makes the other two archives follow. */
  async begin(): Promise<void> {
    await this.write(20);
    await this.command("pc", "backup", { mode: "full" });
    await this.snapshot();
    await this.arrived("a0");
    // As docs/operations/second-archive.md says: fill, register, close the gap.
    await this.command("a0", "replicate", { to: "a1:10200" });
    await this.write(5);
    await this.command("relay", "stop", { mode: "graceful" });
    await this.command("relay", "add-archive", { archiveName: "a1", address: "a1:10200" });
    await this.command("relay", "start");
    await this.snapshot();
    await this.arrived("a0");
    await this.command("a0", "replicate", { to: "a1:10200" });
    await this.follow();
  }

  async openArchive(name: ArchiveName): Promise<void> {
    const options = { listen: tcp("", 10200), dataDir: "/archive", nodeId: name, security };
    this.roles.set(name, await openArchive(this.platform(name), options, silentLogger));
  }

  /** Kills an archive and starts it again. */
  async restart(name: ArchiveName): Promise<void> {
    const host = this.hosts.get(name)!;
    host.kill();
    await this.world.run(2_000);
    host.restart();
    await this.do(() => this.openArchive(name));
    if (name === "a0") await this.follow();
  }

  /** a0 sends to a2 from now on. */
  async follow(): Promise<void> {
    const role = this.roles.get("a0")!;
    await this.do(async () => {
      void run(role.control, "replicate", { volume, to: "a2:10200", follow: true }).catch((error: unknown) => {
        if (this.roles.get("a0") === role) this.failures.push(error);
      });
    });
  }

  /** Noise at random places, one after the other. */
  async write(count: number): Promise<void> {
    const { random } = this.world;
    await this.do(async () => {
      for (let i = 0; i < count; i++) {
        const blocksLb = random.between(1, 32);
        const offset = random.between(0, this.sizeLb - blocksLb) * 512;
        const data = random.chance(0.2) ? new Uint8Array(blocksLb * 512) : random.bytes(blocksLb * 512);
        const handle = ++this.#handle;
        this.#nbd.send(request(1, handle, offset, data.length, 0, data));
        const { error } = await this.#nbd.reply(handle);
        if (error !== 0) throw new Error(`a write failed with ${error}`);
        this.model.set(data, offset);
      }
    });
  }

  async snapshot(): Promise<bigint> {
    const { gid } = (await this.command("pc", "snapshot")) as { gid: bigint };
    this.snapshots.set(gid, Buffer.from(this.model));
    return gid;
  }

  get newest(): bigint {
    return [...this.snapshots.keys()].at(-1)!;
  }

  /** Waits until the newest snapshot is at an archive. */
  async arrived(name: ArchiveName): Promise<void> {
    const gid = this.newest;
    for (let i = 0; i < 2_000; i++) {
      if ((await this.gids(name)).includes(gid)) return;
      await this.world.run(1_000);
    }
    const { volumes } = (await this.command(name, "status")) as { volumes: object[] };
    throw new Error(
      `snapshot ${gid} does not come to ${name}: ${JSON.stringify(volumes, (_, value) => (typeof value === "bigint" ? `${value}` : value))}`,
    );
  }

  async gids(name: ArchiveName): Promise<bigint[]> {
    const { snapshots } = await this.command(name, "snapshots", { all: true });
    return (snapshots as { gid: bigint }[]).map(({ gid }) => gid);
  }

  /** The volume at a point, as an archive restores it. */
  async image(name: ArchiveName, gid: bigint): Promise<Buffer> {
    await this.command(name, "restore", { gid, to: "/restored.img", overwrite: true });
    return Buffer.from(this.hosts.get(name)!.storage.peek("/restored.img", 0, this.sizeLb * 512));
  }

  close(): void {
    this.world.close();
  }
}
