/** @module An archive in a simulated world whose images are logical volumes of a fake LVM. */
import { expect } from "bun:test";
import type { RunningRole } from "../../src/control/role.ts";
import type { Disk } from "../../src/platform/disk.ts";
import type { Platform } from "../../src/platform/platform.ts";
import type { SimHost } from "../../src/sim/api.ts";
import { createSimWorld, type SimWorld } from "../../src/sim/sim.ts";
import { FakeLvm } from "../helpers/fake-lvm.ts";
import { expectSame, gidsOf, openTestArchive, run } from "./harness.ts";
import { Chance, History } from "./model.ts";
import { sendDiff, sendImage } from "./peers.ts";

const mib = 1024 * 1024;
const listen = { kind: "tcp", host: "", port: 10200 } as const;
const volume = "vol0";

/** The archive, its peers and its history. */
export class LvmScene {
  readonly world: SimWorld;
  readonly archive: SimHost;
  readonly client: SimHost;
  readonly lvm: FakeLvm;
  readonly history: History;
  readonly chance: Chance;
  role!: RunningRole;

  constructor(seed: number, pool: string | undefined, sizeLb = 300) {
    this.world = createSimWorld(seed);
    this.archive = this.world.host("archive", { memoryBytes: 700 * mib });
    this.client = this.world.host("client", { memoryBytes: 64 * mib });
    const scribble = async (disk: Disk, path: string, sizeBytes: number): Promise<void> => {
      const { memory } = this.archive.platform;
      const lease = await memory.lease(mib);
      lease.bytes.fill(0x5a);
      const file = await disk.open(path, { mode: "write" });
      for (let at = 0; at < sizeBytes; at += mib) await file.write(at, lease);
      await file.sync();
      await file.close();
      lease.release();
    };
    this.lvm = new FakeLvm({ root: "/lv", scribble, ...(pool === undefined ? {} : { pool }) });
    this.history = new History(sizeLb, seed);
    this.chance = new Chance(seed * 7919);
  }

  get images(): string {
    return this.lvm.pool === undefined ? "lvm:vg" : `lvm:vg/${this.lvm.pool}`;
  }

  platform(): Platform {
    const { platform } = this.archive;
    return { ...platform, disk: this.lvm.disk(platform.disk), commands: this.lvm.commands(platform.disk) };
  }

  async open(options: object = {}): Promise<void> {
    if (!this.archive.isUp) this.archive.restart();
    this.role = await openTestArchive(this.platform(), "/data", { listen, images: this.images, ...options });
  }

  command(name: string, params: object = {}): Promise<Record<string, unknown>> {
    return run(this.role.control, name, { volume, ...params });
  }

  get peer() {
    return { platform: this.client.platform, address: { kind: "tcp", host: "archive", port: 10200 } } as const;
  }

  async backup(gidE: number): Promise<void> {
    while (this.history.gid < gidE) this.history.step();
    await this.command("init");
    const answer = await sendImage(this.peer, this.history.fuzzy(gidE), { gidE: BigInt(gidE), bulkLb: 64 });
    expect(answer).toEqual({ kind: "accept" });
  }

  async diff(from: number, to: number, isMergeable = true): Promise<void> {
    while (this.history.gid < to) this.history.step();
    const options = { sizeLb: this.history.sizeLb, isMergeable, recordsPerPack: 5 };
    const answer = await sendDiff(this.peer, from, to, this.history.diff(from, to), options);
    expect(answer).toEqual({ kind: "accept" });
  }

  content(name: string): Uint8Array {
    return this.archive.storage.peek(this.lvm.fileOf(name), 0, this.history.sizeLb * 512);
  }

  /** Restores every point and compares. @returns the gids. */
  async check(what: string): Promise<number[]> {
    const gids = await gidsOf(this.role.control);
    for (const gid of gids) {
      await this.command("restore", { to: "/out.img", gid, overwrite: true });
      const found = this.archive.storage.peek("/out.img", 0, this.history.sizeLb * 512);
      expectSame(found, this.history.at(gid), `${what}, gid ${gid}`);
    }
    // What nobody but the archive writes is what it was, as often as it is read.
    for (let i = 0; i < 2 && gids.length > 0; i++) {
      expect({ what, ...(await this.command("verify")) }).toMatchObject({ what, damage: [] });
    }
    return gids;
  }
}

export async function withLvmScene(
  seed: number,
  pool: string | undefined,
  work: (scene: LvmScene) => Promise<void>,
  sizeLb?: number,
): Promise<void> {
  const scene = new LvmScene(seed, pool, sizeLb);
  try {
    await scene.world.complete(() => work(scene));
  } catch (error) {
    throw new Error(`seed ${seed}, ${scene.images}: ${String(error)}`, { cause: error });
  } finally {
    scene.world.close();
  }
}
