/** The scenarios r1 to r4 of the original's suite, each from where the one before it ended. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { Controller, Server } from "../helpers/original-library.ts";
import { limitMs, Scenario, type ScenarioDevice } from "../helpers/scenario.ts";

const volume = "vol0";
const mib = 1 << 20;

let scenario: Scenario;
let library: Controller;
let [s0, s1, p0, p1, a0, a1] = [] as unknown as [Server, Server, Server, Server, Server, Server];
let [w0, w2] = [] as unknown as [ScenarioDevice, ScenarioDevice];

beforeAll(async () => {
  scenario = await Scenario.start(303);
  library = scenario.library;
  [s0, s1] = library.layout.storages as [Server, Server];
  [p0, p1] = library.layout.proxies as [Server, Server];
  [a0, a1] = library.layout.archives as [Server, Server];
  const [first, second, third] = scenario.devices as [ScenarioDevice, ScenarioDevice, ScenarioDevice];
  [w0, w2] = [first, third];
  await library.initStorage(s0, volume, first.path);
  await library.initStorage(s1, volume, second.path);
  await w0.write(50);
  await library.fullBackup(s0, volume);
}, limitMs);
afterAll(() => scenario?.close(), limitMs);

describe("replacing", () => {
  test(
    "r1: a storage by another, whose device must grow first, and back",
    async () => {
      // The device of the new storage is as small as all were at the beginning.
      const grownFromBytes = w0.sizeBytes;
      await library.resize(volume, grownFromBytes / mib + 4);
      for (const device of scenario.devices.slice(0, 2)) device.sizeBytes += 4 * mib;
      const resized: string[] = [];
      const replace = async (from: Server, to: Server, device: ScenarioDevice): Promise<void> => {
        await library.goStandby(from, volume);
        library.layout = { ...library.layout, storages: [to, s1] };
        await library.initStorage(to, volume, device.path);
        const volumeBytes = 512 * (await library.getVolumeSizeLb(a0, volume));
        if (device.sizeBytes < volumeBytes) {
          await library.ctl(to, "resize", volume, `${volumeBytes / mib}m`);
          device.sizeBytes = volumeBytes;
          resized.push(to.name);
        }
        expect(await library.lines(to, "status", volume)).toContain(`sizeLb ${volumeBytes / 512}`);
        await device.write(10);
        await device.write(5, grownFromBytes);
        await scenario.expectRestored(a0, volume, await library.hashBackup(to, volume), device);
        await library.clear(from, volume);
        await device.write(10);
        await scenario.expectRestored(a0, volume, await library.snapshot(to, volume), device);
      };
      const s2 = await scenario.add("storage", "s2");
      await replace(s0, s2, w2);
      await replace(s2, s0, w0);
      expect(resized).toEqual(["s2"]);
      await scenario.fleet.stop(s2);
    },
    limitMs,
  );

  test(
    "r2: a proxy by another and back, under writes",
    async () => {
      const replace = async (from: Server, to: Server): Promise<void> => {
        await w0.during(async () => {
          await library.copyArchiveInfo(from, volume, to);
          library.layout = { ...library.layout, proxies: [to, p1] };
          await library.stop(from, volume, "empty");
          await library.clear(from, volume);
          await scenario.restartStorages();
        });
        await scenario.expectRestored(a0, volume, await library.snapshot(s0, volume));
      };
      const p2 = await scenario.add("proxy", "p2");
      await replace(p0, p2);
      await replace(p2, p0);
      await scenario.fleet.stop(p2);
    },
    limitMs,
  );

  test(
    "r3: the primary archive by another and back, under writes",
    async () => {
      const replace = async (from: Server, to: Server): Promise<void> => {
        await w0.during(async () => {
          await library.replicateAndSynchronize(from, volume, to);
          library.layout = { ...library.layout, archives: [to, a1] };
          await scenario.restartStorages();
          await library.stopSynchronizing(from, volume);
          await library.clear(from, volume);
        });
        await scenario.expectRestored(to, volume, await library.snapshot(s0, volume));
      };
      const a2 = await scenario.add("archive", "a2");
      await replace(a0, a2);
      await replace(a2, a0);
      await scenario.fleet.stop(a2);
    },
    limitMs,
  );

  test(
    "r4: the second archive by another and back, not synchronized",
    async () => {
      const replace = async (from: Server, to: Server): Promise<void> => {
        await w0.write(10);
        const gid = await library.snapshot(s0, volume);
        await library.replicateOnce(a0, volume, to);
        library.layout = { ...library.layout, archives: [a0, to] };
        await library.clear(from, volume);
        expect(await library.latestCleanSnapshot(to, volume)).toBe(gid);
        await scenario.expectRestored(to, volume, gid);
      };
      await library.replicateOnce(a0, volume, a1);
      const a2 = await scenario.add("archive", "a2");
      await replace(a1, a2);
      await replace(a2, a1);
      await scenario.fleet.stop(a2);
    },
    limitMs,
  );
});
