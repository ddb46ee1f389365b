import { afterAll, beforeAll, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { Seeded } from "../../src/cli/demo/files.ts";
import { firstDifference } from "../../src/cli/demo/images.ts";
import { NbdClient } from "../../src/cli/demo/nbd.ts";
import { closePlatform, createPlatform } from "../../src/platform/real/index.ts";
import { eventually, Fleet, type Role } from "../helpers/fleet.ts";

const sizeBytes = 64 << 20;
const platform = createPlatform({ memoryBudgetBytes: 64 << 20 });
let fleet: Fleet;

beforeAll(async () => {
  fleet = await Fleet.start();
}, 300_000);
afterAll(async () => {
  await fleet?.close();
  await closePlatform(platform);
}, 300_000);

/** Writes at random through NBD, over restarts of the device, and knows what must be on the volume. */
class Writer {
  readonly model = Buffer.alloc(sizeBytes);
  readonly #random = new Seeded(99);
  #client: NbdClient | undefined;
  #isEnding = false;
  #isPaused = false;
  #idle: (() => void) | undefined;
  writes = 0;
  reconnects = 0;

  async run(): Promise<void> {
    while (!this.#isEnding) {
      if (this.#isPaused) {
        this.#idle?.();
        await Bun.sleep(5);
        continue;
      }
      const length = 512 * (1 + this.#random.below(64));
      const offset = 512 * this.#random.below((sizeBytes - length) / 512);
      const data = this.#random.noise(length);
      // A write without an answer may or may not be there: it is repeated until it has one.
      for (;;) {
        try {
          await (await this.#connected()).write(offset, data);
          break;
        } catch {
          this.#client?.close();
          this.#client = undefined;
          await Bun.sleep(20);
        }
      }
      this.model.set(data, offset);
      this.writes += 1;
    }
    await (await this.#connected()).flush();
    this.#client?.close();
  }

  /** No write is under way while it works. */
  async paused<T>(work: () => Promise<T>): Promise<T> {
    const idle = new Promise<void>((resolve) => {
      this.#idle = resolve;
    });
    this.#isPaused = true;
    await idle;
    try {
      return await work();
    } finally {
      this.#isPaused = false;
    }
  }

  end(): void {
    this.#isEnding = true;
  }

  async #connected(): Promise<NbdClient> {
    if (this.#client !== undefined) return this.#client;
    this.reconnects += 1;
    this.#client = await NbdClient.connect(platform.net, { kind: "unix", path: fleet.nbdSocket }, "vol0");
    return this.#client;
  }
}

test("kill -9 of each process in turn while the volume is written loses nothing", async () => {
  await fleet.makeVolume("vol0", "64M", "2G");
  await fleet.must("backup", "vol0", "--wait");
  const writer = new Writer();
  const writing = writer.run();
  const points: { gid: string; model: string }[] = [];
  const remember = async (): Promise<void> => {
    await writer.paused(async () => {
      const { gid } = JSON.parse(await fleet.must("snapshot", "vol0", "--json")) as { gid: number };
      const model = fleet.path(`model-${points.length}`);
      writeFileSync(model, writer.model);
      points.push({ gid: `${gid}`, model });
    });
  };
  const roles: Role[] = ["device", "storage", "proxy", "archive", "device", "archive", "proxy", "storage"];
  for (const role of roles) {
    await Bun.sleep(400);
    await fleet.kill(role);
    await Bun.sleep(150);
    await fleet.run(role);
    if (role === "device" || role === "storage") {
      await eventually("the storage sees its device", 15_000, async () => {
        const { out } = await fleet.verb("status", "vol0", "--json");
        return out.includes('"latestLsid"') ? true : undefined;
      });
    }
    await remember();
  }
  writer.end();
  await writing;
  expect(writer.writes).toBeGreaterThan(200);
  expect(writer.reconnects).toBeGreaterThanOrEqual(3);
  await fleet.must("snapshot", "vol0", "--wait", "--timeout", "60s");
  for (const { gid, model } of points) {
    const to = fleet.path(`restored-${gid}`);
    await fleet.must("restore", "vol0", "--snapshot", gid, "--to", to);
    expect({ gid, difference: await firstDifference(model, to) }).toEqual({ gid, difference: undefined });
  }
}, 180_000);
