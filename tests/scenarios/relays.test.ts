/** The scenarios e9 to e17 of the original's suite, through relays that stop and limit, each from where the one before it ended. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { Controller, Server } from "../helpers/original-library.ts";
import type { Relay } from "../helpers/relay.ts";
import { limitMs, Scenario, type ScenarioDevice } from "../helpers/scenario.ts";

const volume = "vol0";
const mib = 1 << 20;
/** A volume that cannot be compressed takes 12 s. */
const slowBytesPerS = mib;
/** Of a transfer that is then cut. */
const cutAfterBytes = mib;
/** Nothing ends before it is cut, nor times out. */
const crawlBytesPerS = 64 * 1024;

let scenario: Scenario;
let library: Controller;
let [s0, p0, a0, a1] = [] as unknown as [Server, Server, Server, Server];
let [toP0, toA0, toA1] = [] as unknown as [Relay, Relay, Relay];
let w0: ScenarioDevice;

beforeAll(async () => {
  scenario = await Scenario.start(404, {
    storages: 1,
    proxies: 1,
    relayed: ["p0", "a0", "a1"],
    words: { storage: ["-snapintvl", "1", "-to", "5"], proxy: ["-to", "5"], archive: ["-to", "5"] },
  });
  library = scenario.library;
  [s0] = library.layout.storages as [Server];
  [p0] = library.layout.proxies as [Server];
  [a0, a1] = library.layout.archives as [Server, Server];
  [toP0, toA0, toA1] = ["p0", "a0", "a1"].map((name) => scenario.fleet.relays.get(name)) as [Relay, Relay, Relay];
  [w0] = scenario.devices as [ScenarioDevice];
  await library.initStorage(s0, volume, w0.path);
  await w0.write(50);
  await library.fullBackup(s0, volume);
}, limitMs);
afterAll(() => scenario?.close(), limitMs);

/** Starts work that passes a relay slowly, and cuts it in the middle. */
async function cutDuring(relay: Relay, work: () => Promise<unknown>, meanwhile?: () => Promise<void>): Promise<void> {
  relay.rateBytesPerS = slowBytesPerS;
  const from = relay.passedBytes("up");
  await work();
  await library.waitUntil("the transfer", limitMs, async () => relay.passedBytes("up") > from + cutAfterBytes);
  relay.rateBytesPerS = crawlBytesPerS;
  await meanwhile?.();
  relay.refuse();
  relay.rateBytesPerS = 0;
}

describe("through a relay", () => {
  test(
    "e9: what is written while the proxy cannot be reached is sent when it can",
    async () => {
      toP0.refuse();
      await w0.write(10);
      const waiting = await library.snapshotNoWait(s0, volume);
      await scenario.notRestorable(a0, volume, waiting);
      toP0.accept();
      await scenario.expectRestored(a0, volume, await library.snapshot(s0, volume));
      expect(await library.restorableGids(a0, volume)).toContain(waiting);
    },
    limitMs,
  );

  test(
    "e10: the log overflows while the proxy cannot be reached; a hash backup mends it",
    async () => {
      toP0.refuse();
      await w0.overflowLog();
      await library.waitUntil("an overflow", limitMs, () => library.isOverflow(s0, volume));
      toP0.accept();
      await library.waitForState(s0, volume, ["Stopped"]);
      await scenario.expectRestored(a0, volume, await library.hashBackup(s0, volume));
      expect(await library.isOverflow(s0, volume)).toBe(false);
    },
    limitMs,
  );

  test(
    "e11: what the proxy has while the archive cannot be reached is sent when it can",
    async () => {
      toA0.refuse();
      await w0.during(() => Bun.sleep(1000));
      const gid = await library.snapshotNoWait(s0, volume);
      await scenario.notRestorable(a0, volume, gid);
      toA0.accept();
      await library.kickAll();
      await library.waitForRestorable(a0, volume, gid);
      await scenario.expectRestored(a0, volume, gid);
    },
    limitMs,
  );

  test(
    "e12: a full backup that is cut leaves both sides as before it, and is repeated",
    async () => {
      await library.stop(s0, volume);
      await library.stopSynchronizing(a0, volume);
      await library.reset(s0, volume);
      await library.clear(a0, volume);
      await w0.fill(w0.sizeBytes);
      await library.ctl(a0, "init-vol", volume);
      await library.startSynchronizing(a0, volume);
      await cutDuring(
        toA0,
        () => library.ctl(s0, "full-bkp", volume, "64K"),
        () => library.verifyState(a0, volume, "FullSync"),
      );
      await library.waitForState(s0, volume, ["SyncReady"], 20_000);
      await library.waitForState(a0, volume, ["SyncReady"], 20_000);
      toA0.accept();
      await scenario.expectRestored(a0, volume, await library.fullBackup(s0, volume));
    },
    limitMs,
  );

  test(
    "e13: a hash backup that is cut changes nothing at the archive, and is repeated",
    async () => {
      await library.goStandby(s0, volume);
      await w0.fill(w0.sizeBytes);
      await library.stop(s0, volume);
      await library.startSynchronizing(a0, volume);
      const before = await library.getRestorable(a0, volume);
      await cutDuring(
        toA0,
        () => library.ctl(s0, "hash-bkp", volume, "64K"),
        async () => {
          await library.verifyState(a0, volume, "HashSync");
          expect(await library.getRestorable(a0, volume)).toEqual(before);
        },
      );
      await library.waitForState(s0, volume, ["SyncReady"], 20_000);
      await library.waitForState(a0, volume, ["Archived"], 20_000);
      expect(await library.getRestorable(a0, volume)).toEqual(before);
      toA0.accept();
      await scenario.expectRestored(a0, volume, await library.hashBackup(s0, volume));
    },
    limitMs,
  );

  /** A replication that is cut, and what its target is then. */
  async function cutReplication(stateAfter: string): Promise<void> {
    const gid = await library.latestCleanSnapshot(a0, volume);
    const options = [`127.0.0.1:${a1.peerPort}`, "0", "0", "snappy:0:1", "1G", "64K"];
    await cutDuring(toA1, () => library.ctl(a0, "replicate", volume, "gid", `${gid}`, ...options));
    await library.waitForNoAction(a0, volume, "ReplSyncAsClient");
    await library.waitForState(a1, volume, [stateAfter]);
    toA1.accept();
  }

  async function expectReplicated(): Promise<void> {
    const gid = await library.replicateOnce(a0, volume, a1);
    expect(await library.latestCleanSnapshot(a1, volume)).toBe(gid);
    for (const archive of [a0, a1]) await scenario.expectRestored(archive, volume, gid);
  }

  test(
    "e14: a replication of everything that is cut is repeated",
    async () => {
      await library.ctl(a1, "init-vol", volume);
      await cutReplication("SyncReady");
      await expectReplicated();
    },
    limitMs,
  );

  test(
    "e15: a replication by hashes that is cut is repeated",
    async () => {
      const behind = await library.latestCleanSnapshot(a1, volume);
      await w0.fill(w0.sizeBytes / 2);
      await library.apply(a0, volume, await library.snapshot(s0, volume));
      await w0.write(5);
      await library.snapshot(s0, volume);
      await cutReplication("Archived");
      expect(await library.latestCleanSnapshot(a1, volume)).toBe(behind);
      await expectReplicated();
      expect(Math.max(...(await library.comparedGids(a1, volume)))).toBeGreaterThan(behind);
    },
    limitMs,
  );

  test(
    "e16: a replication of diffs that is cut is repeated",
    async () => {
      const behind = await library.latestCleanSnapshot(a1, volume);
      await w0.fill(w0.sizeBytes / 2);
      const gid = await library.snapshot(s0, volume);
      await cutReplication("Archived");
      expect(await library.latestCleanSnapshot(a1, volume)).toBeGreaterThanOrEqual(behind);
      expect(await library.restorableGids(a1, volume)).not.toContain(gid);
      await expectReplicated();
      expect((await library.comparedGids(a1, volume)).filter((compared) => compared > behind)).toEqual([]);
    },
    limitMs,
  );

  test(
    "e17: a diff that is sent twice is taken once",
    async () => {
      const { fleet } = scenario;
      await library.stop(s0, volume);
      await library.stop(p0, volume, "empty");
      const latest = (await library.restorableGids(a0, volume, true)).at(-1)!;
      const [log, diff] = [fleet.path("generated.wlog"), fleet.path("generated.wdiff")];
      expect(await fleet.tool("wlog-gen", "-s", "1M", "-z", "8M", "-o", log)).toMatchObject({ code: 0 });
      expect(await fleet.tool("wlog-to-wdiff", "-i", log, "-o", diff)).toMatchObject({ code: 0 });
      const uuid = await library.getUuid(a0, volume);
      const to = ["127.0.0.1", `${a0.port}`, volume, `${w0.sizeBytes}`, diff];
      const about = ["-g0", `${latest}`, "-g1", `${latest + 1}`, "-uuid", uuid];
      const send = (answer: string) => fleet.tool("wdiff-send", ...to, ...about, "-msg", answer);
      expect(await send("accept")).toMatchObject({ code: 0, err: "" });
      expect(await send("too-old-diff")).toMatchObject({ code: 0, err: "" });
      expect((await library.restorableGids(a0, volume, true)).at(-1)).toBe(latest + 1);
    },
    limitMs,
  );
});
