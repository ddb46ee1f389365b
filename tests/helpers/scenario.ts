/**
 * @module What the scenarios of the original's suite work with: a fleet under the original's names, devices with seeded
 * random writes, and the comparison of what an archive restores with what is on the device.
 */
import { expect } from "bun:test";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { Seeded } from "../../src/cli/demo/files.ts";
import { NbdClient } from "../../src/cli/demo/nbd.ts";
import type { Platform } from "../../src/platform/platform.ts";
import { closePlatform, createPlatform } from "../../src/platform/real/index.ts";
import { freePort } from "./fleet.ts";
import { OriginalFleet, type OriginalFleetOptions } from "./original-fleet.ts";
import type { Controller, Server, ServerKind } from "./original-library.ts";

const mib = 1 << 20;
const blockBytes = 4096;
/** As the original's suite has them. */
const deviceSizeBytes = 12 * mib;
/** Holds what is written meanwhile for minutes, and is full after one device's worth. */
export const logSizeBytes = 12 * mib;
/** For how long what must not happen is waited for; the original takes 10 s with intervals ten times as long as ours. */
const quietMs = 2500;

/** Time for a scenario on a machine that is busy. */
export const limitMs = 240_000;

/** A device of the device daemon, written to by NBD. */
export class ScenarioDevice {
  readonly path: string;
  readonly #nbd: NbdClient;
  readonly #random: Seeded;
  /** Grows with resize. */
  sizeBytes = deviceSizeBytes;

  constructor(path: string, nbd: NbdClient, seed: number) {
    this.path = path;
    this.#nbd = nbd;
    this.#random = new Seeded(seed);
  }

  /** So many writes of up to 32 KiB anywhere behind `fromBytes`. */
  async write(count: number, fromBytes = 0): Promise<void> {
    for (let i = 0; i < count; i++) {
      const length = blockBytes * (1 + this.#random.below(8));
      const offset = fromBytes + blockBytes * this.#random.below((this.sizeBytes - fromBytes - length) / blockBytes);
      await this.#nbd.write(offset, this.#random.noise(length));
    }
    await this.#nbd.flush();
  }

  /** Writes the volume anew from its begin on, as much as is asked for and over and over. */
  async fill(sizeBytes: number): Promise<void> {
    for (let at = 0; at < sizeBytes; at += mib) await this.#nbd.write(at % this.sizeBytes, this.#random.noise(mib));
    await this.#nbd.flush();
  }

  /** Writes more than the log holds. */
  overflowLog(): Promise<void> {
    return this.fill(logSizeBytes + 4 * mib);
  }

  /** Writes a little all the time while work goes on. */
  async during<T>(work: () => Promise<T>, pauseMs = 100): Promise<T> {
    let isOver = false;
    const writer = async (): Promise<void> => {
      while (!isOver) {
        await this.write(1);
        await Bun.sleep(pauseMs);
      }
    };
    const writing = writer();
    try {
      return await work();
    } finally {
      isOver = true;
      await writing;
    }
  }

  async sha1(): Promise<string> {
    return sha1Of(await this.#nbd.read(0, this.sizeBytes));
  }

  close(): void {
    this.#nbd.close();
  }
}

/** A running fleet with three devices, w0 to w2. */
export class Scenario {
  readonly fleet: OriginalFleet;
  readonly library: Controller;
  readonly devices: readonly ScenarioDevice[];
  readonly #platform: Platform;

  private constructor(fleet: OriginalFleet, devices: readonly ScenarioDevice[], platform: Platform) {
    this.fleet = fleet;
    this.library = fleet.controller;
    this.devices = devices;
    this.#platform = platform;
  }

  /** Two storages, two proxies and two archives unless asked for others. */
  static async start(seed: number, options: OriginalFleetOptions = {}): Promise<Scenario> {
    const fleet = await OriginalFleet.start({
      storages: 2,
      proxies: 2,
      archives: 2,
      words: { storage: ["-snapintvl", "1"] },
      ...options,
    });
    const platform = createPlatform({ memoryBudgetBytes: 64 * mib });
    const devices: ScenarioDevice[] = [];
    for (let i = 0; i < 3; i++) {
      const path = await fleet.makeDevice(`w${i}`, `${deviceSizeBytes / mib}M`, `${logSizeBytes / mib}M`);
      // By default 10 s; logs are emptied behind checkpoints only.
      expect(await fleet.tool("wdevc", "set-checkpoint-interval", path, "200")).toMatchObject({ code: 0, err: "" });
      const nbd = await NbdClient.connect(platform.net, { kind: "unix", path: fleet.nbdSocket }, `w${i}`);
      devices.push(new ScenarioDevice(path, nbd, seed + i));
    }
    return new Scenario(fleet, devices, platform);
  }

  async close(): Promise<void> {
    for (const device of this.devices) device.close();
    await this.fleet.close();
    await closePlatform(this.#platform);
  }

  /** Starts one more daemon; the layout is left as it is. */
  async add(kind: ServerKind, name: string): Promise<Server> {
    const server = { name, kind, port: await freePort() };
    await this.fleet.run(server);
    return server;
  }

  /** SHA-1 of what an archive restores. */
  async restoredSha1(
    archive: Server,
    volume: string,
    gid: number,
    sizeBytes = this.devices[0]!.sizeBytes,
    library = this.library,
  ): Promise<string> {
    await library.restore(archive, volume, gid);
    const restored = readFileSync(this.fleet.restoredPath(archive, volume, gid));
    await library.delRestored(archive, volume, gid);
    expect(restored.length).toBeGreaterThanOrEqual(sizeBytes);
    return sha1Of(restored.subarray(0, sizeBytes));
  }

  /** Restores a gid and compares it with a device that has not been written to since. */
  async expectRestored(
    archive: Server,
    volume: string,
    gid: number,
    device = this.devices[0]!,
    library = this.library,
  ): Promise<void> {
    expect(await this.restoredSha1(archive, volume, gid, device.sizeBytes, library)).toBe(await device.sha1());
  }

  /** Fails when a gid becomes restorable soon. */
  notRestorable(archive: Server, volume: string, gid: number): Promise<void> {
    return this.library.verifyNotRestorable(archive, volume, gid, quietMs);
  }

  /** Fails when an archive that is away answers soon that a gid is restorable; the proxies keep what leads to it. */
  async keptByProxies(archive: Server, volume: string, gid: number): Promise<void> {
    const endMs = performance.now() + quietMs;
    while (performance.now() < endMs) {
      const { code, out } = await this.library.run(archive, "get", "restorable", volume);
      expect({ code, out }).toEqual({ code: 1, out: "" });
      const kept = await Promise.all(
        this.library.layout.proxies.map((proxy) =>
          this.library.lines(proxy, "get", "proxy-diff", volume, archive.name),
        ),
      );
      expect(kept.flat().join("\n")).toContain(`-->|${gid}|`);
      await Bun.sleep(100);
    }
  }

  /** Has all storages run with the layout as it is now. */
  async restartStorages(): Promise<void> {
    for (const storage of this.library.layout.storages) {
      await this.fleet.stop(storage);
      await this.fleet.run(storage);
    }
  }
}

function sha1Of(bytes: Uint8Array): string {
  return createHash("sha1").update(bytes).digest("hex");
}
