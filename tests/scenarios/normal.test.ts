/** The scenarios n1 to n14 of the original's suite, each from where the one before it ended. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { Seeded } from "../../src/cli/demo/files.ts";
import { InProcessController } from "../helpers/in-process-controller.ts";
import type { Controller, Server } from "../helpers/original-library.ts";
import { limitMs, Scenario, type ScenarioDevice } from "../helpers/scenario.ts";
import { interruptions, shuffled } from "./interruptions.ts";

const volume = "vol0";
const mib = 1 << 20;

let scenario: Scenario;
let library: Controller;
let [s0, s1, p0, p1, a0, a1] = [] as unknown as [Server, Server, Server, Server, Server, Server];
let [w0, w1] = [] as unknown as [ScenarioDevice, ScenarioDevice];

beforeAll(async () => {
  scenario = await Scenario.start(101);
  library = scenario.library;
  [s0, s1] = library.layout.storages as [Server, Server];
  [p0, p1] = library.layout.proxies as [Server, Server];
  [a0, a1] = library.layout.archives as [Server, Server];
  [w0, w1] = scenario.devices as [ScenarioDevice, ScenarioDevice];
}, limitMs);
afterAll(() => scenario?.close(), limitMs);

const latestSha1 = async (archive: Server): Promise<string> =>
  scenario.restoredSha1(archive, volume, await library.latestCleanSnapshot(archive, volume));

describe("a site under the original's names", () => {
  test(
    "n1: what a full backup restores is the device",
    async () => {
      await library.initStorage(s0, volume, w0.path);
      await library.initStorage(s1, volume, w1.path);
      await w0.write(100);
      await scenario.expectRestored(a0, volume, await library.fullBackup(s0, volume));
    },
    limitMs,
  );

  test(
    "n2: what a snapshot restores is the device",
    async () => {
      await w0.write(20);
      await scenario.expectRestored(a0, volume, await library.snapshot(s0, volume));
    },
    limitMs,
  );

  test(
    "n3: what a hash backup after standby restores is the device",
    async () => {
      await library.goStandby(s0, volume);
      await w0.write(20);
      await scenario.expectRestored(a0, volume, await library.hashBackup(s0, volume));
    },
    limitMs,
  );

  const plans = interruptions(["s0", "p0", "a0"]);
  test(
    "n4a: all orders of stopping and starting the volume at storage, proxy and archive while writes go on",
    async () => {
      const direct = new InProcessController(library.walbc, library.layout);
      const servers: Record<string, Server> = { s0, p0, a0 };
      for (const plan of plans) {
        await w0.during(async () => {
          for (const { name, isStart } of plan) {
            await (isStart ? direct.start(servers[name]!, volume) : direct.stop(servers[name]!, volume));
          }
        }, 5);
        await direct.kickAll();
        await scenario.expectRestored(a0, volume, await direct.snapshot(s0, volume), w0, direct);
      }
      await direct.close();
    },
    limitMs * 3,
  );

  // With WALB_SCENARIOS=all every order with daemons that end, too.
  const isAll = process.env.WALB_SCENARIOS === "all";
  const chosen = isAll ? plans : shuffled(plans, new Seeded(4)).slice(0, 5);

  test(
    `n4b: ${isAll ? "all" : "five"} orders, daemons too, of stopping and starting storage, proxy and archive while writes go on`,
    async () => {
      const servers: Record<string, Server> = { s0, p0, a0 };
      for (const [round, plan] of chosen.entries()) {
        await w0.during(async () => {
          for (const { name, isStart } of plan) {
            const server = servers[name]!;
            // The volume there in one round, the whole daemon in the other.
            if (round % 2 === 0) await (isStart ? library.start(server, volume) : library.stop(server, volume));
            else await (isStart ? scenario.fleet.run(server) : scenario.fleet.stop(server));
          }
        });
        await library.kickAll();
        await scenario.expectRestored(a0, volume, await library.snapshot(s0, volume));
      }
    },
    isAll ? limitMs * 10 : limitMs,
  );

  test(
    "n5: apply changes nothing of what its gid restores",
    async () => {
      const gid = await w0.during(() => library.snapshot(s0, volume));
      const before = await scenario.restoredSha1(a0, volume, gid);
      await library.apply(a0, volume, gid);
      // The newest is listed too, whether somebody asked for it or not.
      expect((await library.restorableGids(a0, volume))[0]).toBe(gid);
      expect(await scenario.restoredSha1(a0, volume, gid)).toBe(before);
    },
    limitMs,
  );

  test(
    "n6: merging diffs between two snapshots changes nothing of what the second restores",
    async () => {
      await w0.write(10);
      const from = await library.snapshot(s0, volume);
      for (let i = 0; i < 2; i++) {
        await w0.write(10);
        await library.waitForLogEmpty(s0, volume);
        await library.stop(s0, volume);
        for (const proxy of [p0, p1]) await library.stop(proxy, volume, "empty");
        for (const proxy of [p0, p1]) await library.start(proxy, volume);
        await library.start(s0, volume);
      }
      await w0.write(10);
      const to = await library.snapshot(s0, volume);
      const all = await library.restorableGids(a0, volume, true);
      expect(all.filter((gid) => gid > from && gid < to).length).toBeGreaterThanOrEqual(2);
      const before = await scenario.restoredSha1(a0, volume, to);
      await library.merge(a0, volume, from, to);
      const merged = await library.restorableGids(a0, volume, true);
      expect(merged.filter((gid) => gid > from && gid < to)).toEqual([]);
      expect(await scenario.restoredSha1(a0, volume, to)).toBe(before);
      await scenario.expectRestored(a0, volume, to);
    },
    limitMs,
  );

  /** Both archives list the same and restore the same. */
  async function expectEqualArchives(gid: number): Promise<void> {
    expect(await library.restorableGids(a1, volume)).toEqual(await library.restorableGids(a0, volume));
    expect(await library.latestCleanSnapshot(a1, volume)).toBe(gid);
    expect(await latestSha1(a1)).toBe(await scenario.restoredSha1(a0, volume, gid));
  }

  test(
    "n7: the first replication copies everything",
    async () => {
      await w0.write(10);
      const gid = await library.snapshot(s0, volume);
      expect(await library.replicateOnce(a0, volume, a1)).toBe(gid);
      await expectEqualArchives(gid);
    },
    limitMs,
  );

  test(
    "n8: the next sends the diffs since",
    async () => {
      await w0.write(10);
      const gid = await library.snapshot(s0, volume);
      const behind = await library.latestCleanSnapshot(a1, volume);
      expect(behind).toBeLessThan(gid);
      await library.replicateOnce(a0, volume, a1);
      expect((await library.comparedGids(a1, volume)).filter((compared) => compared > behind)).toEqual([]);
      await expectEqualArchives(gid);
    },
    limitMs,
  );

  test(
    "n9: one after the diffs were applied compares hashes",
    async () => {
      const behind = await library.latestCleanSnapshot(a1, volume);
      await w0.write(10);
      const applied = await library.snapshot(s0, volume);
      await library.apply(a0, volume, applied);
      expect(await library.restorableGids(a0, volume)).toEqual([applied]);
      await w0.write(10);
      const gid = await library.snapshot(s0, volume);
      await library.replicateOnce(a0, volume, a1);
      expect(Math.max(...(await library.comparedGids(a1, volume)))).toBeGreaterThan(behind);
      expect(await library.latestCleanSnapshot(a1, volume)).toBe(gid);
      expect(await latestSha1(a1)).toBe(await latestSha1(a0));
    },
    limitMs,
  );

  test(
    "n10: a synchronized archive receives what the first does, until synchronizing is stopped",
    async () => {
      await w0.during(() => library.replicateAndSynchronize(a0, volume, a1));
      expect(await library.isSynchronizing(a1, volume)).toBe(true);
      await w0.write(10);
      const gid = await library.snapshot(s0, volume, [a0, a1]);
      const expected = await w0.sha1();
      for (const archive of [a0, a1]) expect(await scenario.restoredSha1(archive, volume, gid)).toBe(expected);
      await library.stopSynchronizing(a1, volume);
      await w0.write(10);
      const later = await library.snapshot(s0, volume);
      await scenario.expectRestored(a0, volume, later);
      expect(await library.latestCleanSnapshot(a1, volume)).toBe(gid);
    },
    limitMs,
  );

  async function grow(isZeroClear: boolean): Promise<number> {
    const from = w0.sizeBytes;
    await library.resize(volume, from / mib + 4, isZeroClear);
    for (const device of [w0, w1]) device.sizeBytes += 4 * mib;
    for (const archive of [a0, a1]) {
      expect(await library.getVolumeSizeLb(archive, volume)).toBe(w0.sizeBytes / 512);
    }
    await w0.write(10, from);
    return from;
  }

  test(
    "n11a: a volume grows, the new part cleared: a snapshot has it",
    async () => {
      await grow(true);
      await scenario.expectRestored(a0, volume, await library.snapshot(s0, volume));
    },
    limitMs,
  );

  test(
    "n11b: a volume grows, the new part as it is: a hash backup has it",
    async () => {
      await grow(false);
      await library.goStandby(s0, volume);
      await scenario.expectRestored(a0, volume, await library.hashBackup(s0, volume));
    },
    limitMs,
  );

  test(
    "n12: the target goes to the other storage and back",
    async () => {
      const exchange = async (from: Server, to: Server, device: ScenarioDevice): Promise<void> => {
        await library.verifyState(from, volume, "Target");
        await library.verifyState(to, volume, "Standby");
        await w0.during(() => w1.during(() => library.goStandby(from, volume)));
        await library.verifyState(from, volume, "Standby");
        await w0.during(() => w1.during(() => library.hashBackup(to, volume)));
        await library.verifyState(to, volume, "Target");
        await scenario.expectRestored(a0, volume, await library.snapshot(to, volume), device);
      };
      await exchange(s0, s1, w1);
      await exchange(s1, s0, w0);
    },
    limitMs,
  );

  test(
    "n13: snapshots that are disabled are not listed, until they are enabled",
    async () => {
      await library.apply(a0, volume, await library.latestCleanSnapshot(a0, volume));
      const gids: number[] = [];
      for (let i = 0; i < 5; i++) {
        await w0.write(2);
        gids.push(await library.snapshot(s0, volume));
      }
      await library.disableSnapshot(a0, volume, gids.slice(0, 4));
      expect(await library.restorableGids(a0, volume)).toHaveLength(2);
      await library.enableSnapshot(a0, volume, gids.slice(0, 4));
      expect(await library.restorableGids(a0, volume)).toHaveLength(6);
      await scenario.expectRestored(a0, volume, gids[4]!);
    },
    limitMs,
  );

  test(
    "n14: an archive of another life is replicated to only with resync",
    async () => {
      await library.replicateOnce(a0, volume, a1);
      await library.stop(s0, volume);
      await library.stopSynchronizing(a0, volume);
      await library.clear(a0, volume);
      await w0.write(10);
      const gid = await library.fullBackup(s0, volume);
      expect(await library.getArchiveUuid(a0, volume)).not.toBe(await library.getArchiveUuid(a1, volume));
      const before = await library.getRestorable(a1, volume, true);
      await expect(library.replicateOnce(a0, volume, a1)).rejects.toThrow();
      expect(await library.getRestorable(a1, volume, true)).toEqual(before);
      await library.replicateOnce(a0, volume, a1, true);
      for (const archive of [a0, a1]) await scenario.expectRestored(archive, volume, gid);
    },
    limitMs,
  );
});
