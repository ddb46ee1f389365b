/** The random scenario of the original's suite: volumes are worked on concurrently, by one storage, proxy and archive. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { Seeded } from "../../src/cli/demo/files.ts";
import type { Controller, Server } from "../helpers/original-library.ts";
import { limitMs, Scenario, type ScenarioDevice } from "../helpers/scenario.ts";
import { countFrom } from "../helpers/shards.ts";

/** Actions of each volume. */
const actionCount = countFrom("WALB_SCENARIO_ACTIONS", process.env.WALB_SCENARIOS === "all" ? 30 : 6);
const seed = countFrom("WALB_SCENARIO_SEED", 505);

let scenario: Scenario;
let library: Controller;
let [s0, p0, a0] = [] as unknown as [Server, Server, Server];

beforeAll(async () => {
  scenario = await Scenario.start(seed, {
    storages: 1,
    proxies: 1,
    archives: 1,
    words: {
      storage: ["-snapintvl", "1", "-fg", "6", "-bg", "3"],
      proxy: ["-fg", "6", "-bg", "3"],
      archive: ["-fg", "6"],
    },
  });
  library = scenario.library;
  [s0] = library.layout.storages as [Server];
  [p0] = library.layout.proxies as [Server];
  [a0] = library.layout.archives as [Server];
}, limitMs);
afterAll(() => scenario?.close(), limitMs);

/** One volume and all that can be done with it. */
class Volume {
  readonly #random: Seeded;

  constructor(
    readonly name: string,
    readonly device: ScenarioDevice,
    volumeSeed: number,
  ) {
    this.#random = new Seeded(volumeSeed);
  }

  expectRestored(gid: number): Promise<void> {
    return scenario.expectRestored(a0, this.name, gid, this.device);
  }

  async firstBackup(): Promise<void> {
    await library.initStorage(s0, this.name, this.device.path);
    await this.device.write(20);
    await this.expectRestored(await library.fullBackup(s0, this.name));
  }

  async fullBackup(): Promise<void> {
    await this.device.during(() => library.stop(s0, this.name));
    await library.stopSynchronizing(a0, this.name);
    await library.clear(a0, this.name);
    await this.expectRestored(await library.fullBackup(s0, this.name));
  }

  async continuousBackup(): Promise<void> {
    await this.device.write(10);
    await this.expectRestored(await library.snapshot(s0, this.name));
  }

  async hashBackup(): Promise<void> {
    await library.stop(s0, this.name);
    await this.device.write(10);
    await this.expectRestored(await library.hashBackup(s0, this.name));
  }

  async merge(): Promise<void> {
    const gids: number[] = [];
    for (let i = 0; i < 3; i++) {
      await this.device.write(5);
      gids.push(await library.snapshot(s0, this.name));
    }
    const [first, middle, last] = gids as [number, number, number];
    await library.disableSnapshot(a0, this.name, [middle]);
    await library.merge(a0, this.name, first, last);
    expect(await library.restorableGids(a0, this.name, true)).not.toContain(middle);
    await this.expectRestored(last);
  }

  async apply(): Promise<void> {
    await this.device.write(5);
    const gid = await library.snapshot(s0, this.name);
    await library.apply(a0, this.name, gid);
    await this.expectRestored(gid);
  }

  async stopAndStart(): Promise<void> {
    const server = [s0, p0, a0][this.#random.below(3)]!;
    await this.device.during(async () => {
      await library.stop(server, this.name);
      await library.start(server, this.name);
    });
    await this.expectRestored(await library.snapshot(s0, this.name));
  }

  /** Each action once in an order of the seed's, then any. */
  async work(done: string[]): Promise<void> {
    const all = ["fullBackup", "continuousBackup", "hashBackup", "merge", "apply", "stopAndStart"] as const;
    const rest = [...all];
    await this.firstBackup();
    for (let i = 0; i < actionCount; i++) {
      const from = rest.length > 0 ? rest : [...all];
      const [action] = from.splice(this.#random.below(from.length), 1);
      done.push(`${this.name} ${action}`);
      await this[action!]();
    }
  }
}

test(
  "three volumes at once, anything in any order: every snapshot restores what the device had",
  async () => {
    const done: string[] = [];
    const volumes = scenario.devices.map((device, i) => new Volume(`vol${i}`, device, seed + 10 + i));
    const results = await Promise.allSettled(volumes.map((volume) => volume.work(done)));
    const failures = results.flatMap((result) => (result.status === "rejected" ? [result.reason] : []));
    if (failures.length > 0) throw new AggregateError(failures, `seed ${seed}, after ${done.join(", ")}`);
    expect(done).toHaveLength(3 * actionCount);
  },
  limitMs * (1 + Math.floor(actionCount / 10)),
);
