/** The scenarios m1 to m3 and e1 to e8 of the original's suite, each from where the one before it ended. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { Controller, Server } from "../helpers/original-library.ts";
import { limitMs, logSizeBytes, Scenario, type ScenarioDevice } from "../helpers/scenario.ts";

const volume = "vol0";
const mib = 1 << 20;

let scenario: Scenario;
let library: Controller;
let [s0, p0, a0, a1] = [] as unknown as [Server, Server, Server, Server];
let w0: ScenarioDevice;

beforeAll(async () => {
  scenario = await Scenario.start(202);
  library = scenario.library;
  [s0] = library.layout.storages as [Server];
  [p0] = library.layout.proxies as [Server, Server];
  [a0, a1] = library.layout.archives as [Server, Server];
  [w0] = scenario.devices as [ScenarioDevice];
  await library.initStorage(s0, volume, w0.path);
  await library.initStorage(library.layout.storages[1]!, volume, scenario.devices[1]!.path);
  await w0.write(50);
  await library.fullBackup(s0, volume);
}, limitMs);
afterAll(() => scenario?.close(), limitMs);

describe("wrong use", () => {
  test(
    "m1: a full backup onto an archive that has data is refused, and changes nothing",
    async () => {
      const before = await library.getRestorable(a0, volume, true);
      await library.stop(s0, volume);
      await expect(library.fullBackup(s0, volume)).rejects.toThrow("full-bkp");
      await library.verifyState(s0, volume, "SyncReady");
      await library.verifyState(a0, volume, "Archived");
      expect(await library.getRestorable(a0, volume, true)).toEqual(before);
    },
    limitMs,
  );

  test(
    "m2: a hash backup onto an archive that was reset is refused; a full one after standby works",
    async () => {
      await library.goStandby(s0, volume);
      await library.stopSynchronizing(a0, volume);
      await library.stop(a0, volume);
      await library.reset(a0, volume);
      await expect(library.hashBackup(s0, volume)).rejects.toThrow("hash-bkp");
      await library.goStandby(s0, volume);
      await scenario.expectRestored(a0, volume, await library.fullBackup(s0, volume));
    },
    limitMs,
  );

  test(
    "m3: what is written where the archive is too small waits until the archive grows",
    async () => {
      const from = w0.sizeBytes;
      const sizeMb = from / mib + 4;
      for (const storage of library.layout.storages) await library.ctl(storage, "resize", volume, `${sizeMb}m`);
      for (const device of scenario.devices.slice(0, 2)) device.sizeBytes += 4 * mib;
      await w0.write(5, from);
      const gid = await library.snapshotNoWait(s0, volume);
      await scenario.notRestorable(a0, volume, gid);
      await library.waitUntil("the error of sending", limitMs, () => library.isWdiffSendError(p0, volume, a0));
      await library.ctl(a0, "resize", volume, `${sizeMb}m`);
      await library.kickAll();
      await library.waitForRestorable(a0, volume, gid);
      expect(await library.isWdiffSendError(p0, volume, a0)).toBe(false);
      await scenario.expectRestored(a0, volume, gid);
    },
    limitMs,
  );
});

describe("daemons that are killed", () => {
  test(
    "e1: the second proxy takes over from the first that is killed; the log does not overflow",
    async () => {
      await scenario.fleet.kill(p0);
      for (let written = 0; written < logSizeBytes * 1.25; written += 3 * mib) {
        await w0.fill(3 * mib);
        await library.waitForLogEmpty(s0, volume);
      }
      await scenario.fleet.run(p0);
      await library.kickAll();
      expect(await library.isOverflow(s0, volume)).toBe(false);
      await scenario.expectRestored(a0, volume, await library.snapshot(s0, volume));
    },
    limitMs,
  );

  test(
    "e2: proxies keep what an archive that is killed does not take",
    async () => {
      await scenario.fleet.kill(a0);
      for (let written = 0; written < logSizeBytes * 1.25; written += 3 * mib) {
        await w0.fill(3 * mib);
        await library.waitForLogEmpty(s0, volume);
      }
      const expected = await w0.sha1();
      const first = await library.snapshotNoWait(s0, volume);
      await library.waitForLogEmpty(s0, volume);
      await scenario.keptByProxies(a0, volume, first);
      // Nor when it is back, for as long as nobody brings what it missed.
      const { proxies } = library.layout;
      for (const proxy of proxies) await library.stop(proxy, volume, "force");
      await scenario.fleet.run(a0);
      await scenario.notRestorable(a0, volume, first);
      for (const proxy of proxies) await library.start(proxy, volume);
      await library.kickAll();
      await library.waitForRestorable(a0, volume, first);
      for (const proxy of proxies) expect(await library.isWdiffSendError(proxy, volume, a0)).toBe(false);
      await w0.write(10);
      const second = await library.snapshot(s0, volume);
      expect(await scenario.restoredSha1(a0, volume, first)).toBe(expected);
      await scenario.expectRestored(a0, volume, second);
    },
    limitMs,
  );

  test(
    "e3: a storage that was killed goes on where it was",
    async () => {
      await scenario.fleet.kill(s0);
      await w0.write(20);
      await scenario.fleet.run(s0);
      await scenario.expectRestored(a0, volume, await library.snapshot(s0, volume));
    },
    limitMs,
  );

  /** After an overflow. */
  async function hashBackupAgain(): Promise<void> {
    const state = await library.getState(s0, volume);
    if (state === "Target") await library.stop(s0, volume);
    await scenario.expectRestored(a0, volume, await library.hashBackup(s0, volume));
    expect(await library.isOverflow(s0, volume)).toBe(false);
    await library.verifyState(s0, volume, "Target");
  }

  test(
    "e4: a log that overflowed while the storage was killed is told; a hash backup mends it",
    async () => {
      await scenario.fleet.kill(s0);
      await w0.overflowLog();
      await scenario.fleet.run(s0);
      expect(await library.isOverflow(s0, volume)).toBe(true);
      await expect(library.snapshotNoWait(s0, volume)).rejects.toThrow("overflow");
      await hashBackupAgain();
    },
    limitMs,
  );

  test(
    "e5: nothing behind what a proxy lost is restorable; a hash backup closes the gap",
    async () => {
      await library.stop(a0, volume, "force");
      await w0.write(20);
      await library.waitForLogEmpty(s0, volume);
      await scenario.fleet.kill(p0);
      scenario.fleet.forget(p0);
      await scenario.fleet.run(p0);
      await library.startSynchronizing(a0, volume);
      await w0.write(20);
      const gid = await library.snapshotNoWait(s0, volume);
      await library.start(a0, volume);
      await library.kickAll();
      await scenario.notRestorable(a0, volume, gid);
      await library.stop(s0, volume);
      await scenario.expectRestored(a0, volume, await library.hashBackup(s0, volume));
    },
    limitMs,
  );

  test(
    "e6: an archive that lost everything gets a full backup, and the second one a resync",
    async () => {
      await library.replicateOnce(a0, volume, a1);
      await scenario.fleet.kill(a0);
      scenario.fleet.forget(a0);
      await scenario.fleet.run(a0);
      await library.ctl(a0, "init-vol", volume);
      await w0.write(10);
      const lost = await library.snapshotNoWait(s0, volume);
      await scenario.notRestorable(a0, volume, lost);
      await library.stop(s0, volume);
      const gid = await library.fullBackup(s0, volume);
      await scenario.expectRestored(a0, volume, gid);
      await library.replicateOnce(a0, volume, a1, true);
      await scenario.expectRestored(a1, volume, gid);
    },
    limitMs,
  );

  test(
    "e7: a second archive that lost everything is replicated to anew",
    async () => {
      await w0.during(() => library.replicateAndSynchronize(a0, volume, a1));
      await library.snapshot(s0, volume, [a0, a1]);
      await scenario.fleet.kill(a1);
      scenario.fleet.forget(a1);
      await scenario.fleet.run(a1);
      await w0.write(10);
      const lost = await library.snapshot(s0, volume);
      await scenario.expectRestored(a0, volume, lost);
      await library.verifyState(a1, volume, "Clear");
      await library.ctl(a1, "init-vol", volume);
      await scenario.notRestorable(a1, volume, lost);
      await library.replicateAndSynchronize(a0, volume, a1);
      const gid = await library.snapshot(s0, volume, [a0, a1]);
      for (const archive of [a0, a1]) await scenario.expectRestored(archive, volume, gid);
    },
    limitMs,
  );

  test(
    "e8: a storage that lost what it knew is set up again, with a hash backup",
    async () => {
      await scenario.fleet.kill(s0);
      scenario.fleet.forget(s0);
      await scenario.fleet.run(s0);
      await w0.write(10);
      await library.initStorage(s0, volume, w0.path);
      await scenario.expectRestored(a0, volume, await library.hashBackup(s0, volume));
      await library.verifyState(s0, volume, "Target");
    },
    limitMs,
  );
});
