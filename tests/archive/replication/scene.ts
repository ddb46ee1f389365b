/** @module Archives in a world of their own, fed with the backups of a modelled volume. */
import { expect } from "bun:test";
import type { RunningRole } from "../../../src/control/role.ts";
import type { SimHost, SimHostOptions } from "../../../src/sim/api.ts";
import { createSimWorld, type SimWorld } from "../../../src/sim/sim.ts";
import { expectSame, gidsOf, openTestArchive, run, statusOf } from "../harness.ts";
import { History } from "../model.ts";
import { type DiffOptions, sendDiff, sendImage } from "../peers.ts";

const mib = 1024 * 1024;
const listen = { kind: "tcp", host: "", port: 10200 } as const;

/** One archive. */
export class ArchiveHost {
  role!: RunningRole;

  constructor(
    readonly world: SimWorld,
    readonly host: SimHost,
    readonly options: object,
  ) {}

  get name(): string {
    return this.host.name;
  }

  async open(): Promise<void> {
    if (!this.host.isUp) this.host.restart();
    const options = { listen, nodeId: this.name, ...this.options };
    this.role = await this.world.complete(() => openTestArchive(this.host.platform, "/data", options));
  }

  do<T>(work: () => Promise<T>): Promise<T> {
    return this.world.complete(work);
  }

  command(name: string, params: object = {}): Promise<Record<string, unknown>> {
    return this.do(() => this.start(name, params));
  }

  /** As {@link command}, while the world is run by somebody else. */
  start(name: string, params: object = {}): Promise<Record<string, unknown>> {
    return run(this.role.control, name, { volume: "vol0", ...params });
  }

  status(): Promise<Record<string, unknown>> {
    return this.do(() => statusOf(this.role.control));
  }

  gids(): Promise<number[]> {
    return this.do(() => gidsOf(this.role.control));
  }

  files(pattern: RegExp): string[] {
    return this.host.storage.paths().filter((path) => pattern.test(path));
  }
}

export interface SceneOptions {
  readonly sizeLb?: number;
  readonly archives?: readonly string[];
  readonly archiveOptions?: Readonly<Record<string, object>>;
  readonly hostOptions?: SimHostOptions;
}

/** A volume's history, somebody who delivers it, and archives. */
export class ReplicaScene {
  readonly world: SimWorld;
  readonly client: SimHost;
  readonly history: History;
  readonly archives: readonly ArchiveHost[];

  constructor(seed: number, options: SceneOptions = {}) {
    const { sizeLb = 700, archives = ["a0", "a1"] } = options;
    this.world = createSimWorld(seed);
    this.history = new History(sizeLb, seed);
    this.client = this.world.host("client", { memoryBytes: 64 * mib });
    this.archives = archives.map((name) => {
      const disk = { reflink: seed % 2 === 0, ...options.hostOptions?.disk };
      const host = this.world.host(name, { memoryBytes: 320 * mib, ...options.hostOptions, disk });
      return new ArchiveHost(this.world, host, options.archiveOptions?.[name] ?? {});
    });
  }

  get a0(): ArchiveHost {
    return this.archives[0]!;
  }
  get a1(): ArchiveHost {
    return this.archives[1]!;
  }
  get a2(): ArchiveHost {
    return this.archives[2]!;
  }

  peer(archive: ArchiveHost) {
    const address = { kind: "tcp", host: archive.name, port: 10200 } as const;
    return { platform: this.client.platform, address };
  }

  /** All archives open with the volume made; the first has a full backup that took until gid `gidE`. */
  async begin(gidE = 0): Promise<void> {
    while (this.history.gid < gidE) this.history.step();
    for (const archive of this.archives) {
      await archive.open();
      await archive.command("init");
    }
    await this.backup(this.a0, gidE);
  }

  async backup(archive: ArchiveHost, gidE = 0): Promise<void> {
    const image = this.history.fuzzy(gidE);
    const answer = await this.world.complete(() =>
      sendImage(this.peer(archive), image, { gidE: BigInt(gidE), bulkLb: 64 }),
    );
    expect(answer).toEqual({ kind: "accept" });
  }

  async diff(archive: ArchiveHost, from: number, to: number, options: Partial<DiffOptions> = {}): Promise<string> {
    return this.world.complete(() => this.deliver(archive, from, to, options));
  }

  async deliver(archive: ArchiveHost, from: number, to: number, options: Partial<DiffOptions> = {}): Promise<string> {
    while (this.history.gid < to) this.history.step();
    const { sizeLb } = this.history;
    const records = this.history.diff(from, to);
    const answer = await sendDiff(this.peer(archive), from, to, records, { sizeLb, recordsPerPack: 3, ...options });
    return answer.kind === "word" ? answer.word : answer.kind;
  }

  async replicate(from: ArchiveHost, to: ArchiveHost, params: object = {}): Promise<Record<string, unknown>> {
    const result = await from.command("replicate", { to: `${to.name}:10200`, bulkBytes: 8192, ...params });
    await this.settle(to);
    return result;
  }

  /** Waits until a resync that is decided is carried out. */
  async settle(archive: ArchiveHost): Promise<void> {
    for (let i = 0; i < 1000 && (await archive.status()).state === "Resync"; i++) await this.world.run(10);
  }

  /** Restores every point and compares it with the model. @returns the gids. */
  async check(archive: ArchiveHost, what: string): Promise<number[]> {
    const gids = await archive.gids();
    const sizeBytes = this.history.sizeLb * 512;
    for (const gid of gids) {
      await archive.command("restore", { to: "/restored.img", gid, overwrite: true });
      const found = archive.host.storage.peek("/restored.img", 0, sizeBytes);
      expectSame(found, this.history.at(gid), `${what}: gid ${gid} at ${archive.name}`);
    }
    expect(archive.files(/\.tmp$|partial$|quarantine|resync/)).toEqual([]);
    return gids;
  }

  async close(): Promise<void> {
    for (const archive of this.archives) {
      if (archive.host.isUp) await this.world.complete(() => archive.role.close("graceful"));
    }
  }
}

/** Runs a test in a scene; every lease must be back at its end. */
export async function withReplicas(
  seed: number,
  use: (scene: ReplicaScene) => Promise<void>,
  options: SceneOptions = {},
): Promise<void> {
  const scene = new ReplicaScene(seed, options);
  try {
    await use(scene);
    await scene.close();
    expect(scene.client.platform.memory.leasedBytes).toBe(0);
    for (const { host } of scene.archives) if (host.isUp) expect(host.platform.memory.leasedBytes).toBe(0);
  } catch (error) {
    throw new Error(`seed ${seed}: ${String(error)}`, { cause: error });
  } finally {
    scene.world.close();
  }
}
