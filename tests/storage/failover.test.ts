import { describe, expect, test } from "bun:test";
import type { StorageStatus } from "../../src/control/storage.ts";
import { deviceControlClient } from "../../src/device/user/control/client.ts";
import { readGet, replyGet } from "../../src/wire/get.ts";
import { serveWire, type WireHandler } from "../../src/wire/server.ts";
import { refusalWords } from "../../src/wire/words.ts";
import { BackupPath, call, volume } from "../helpers/backup-path.ts";

async function running(seed: number, options: ConstructorParameters<typeof BackupPath>[1] = {}): Promise<BackupPath> {
  const path = new BackupPath(seed, { sizeLb: 1024, ...options });
  await path.world.complete(() => path.open());
  await path.world.complete(() => path.writes(5));
  await path.arrived(await path.world.complete(() => path.backup()));
  return path;
}

const received = (path: BackupPath, i: number): number => path.world.network.deliveredBytes("s0", `p${i}`);

describe("a storage with two proxies", () => {
  test("goes over to the second when the first dies, and back when it is there again", async () => {
    const path = await running(1, { proxies: 2 });
    const { world } = path;
    path.proxyHosts[0]!.kill();
    await world.complete(() => path.writes(5));
    await path.arrived(await world.complete(() => path.snapshot()));
    const status = await world.complete(() => call<StorageStatus>(path.storage, "status", { volume }));
    expect(status.proxies.map((proxy) => proxy.isAvailable)).toEqual([false, true]);
    expect(status.volumes[0]!.trouble).toBeUndefined();
    await world.complete(() => path.restartProxy(0));
    await world.run(11_000);
    const before = received(path, 1);
    await world.complete(() => path.writes(5));
    await path.arrived(await world.complete(() => path.snapshot()));
    // The second gets heartbeats and nothing else.
    expect(received(path, 1) - before).toBeLessThan(500);
    path.verify();
    path.close();
  });

  test("goes on with the second when the first refuses, and says nothing is wrong", async () => {
    const path = await running(2, { proxies: 2 });
    const { world } = path;
    await world.complete(() => call(path.proxies[0]!, "stop", { volume, mode: "graceful" }));
    await world.complete(() => path.writes(5));
    await path.arrived(await world.complete(() => path.snapshot()));
    expect((await world.complete(() => path.storageVolume())).trouble).toBeUndefined();
    path.verify();
    path.close();
  });

  test("leaves the first alone for longer and longer when it answers probes but fails in every transfer", async () => {
    const path = await running(17, { proxies: 2 });
    const { world } = path;
    path.proxyHosts[0]!.kill();
    await world.run(15_000);
    path.proxyHosts[0]!.restart();
    let tries = 0;
    const hanging = await world.complete(() =>
      serveWire(
        path.proxyHosts[0]!.platform.net,
        { kind: "tcp", host: "", port: 10100 },
        {
          nodeId: "p0",
          clock: path.proxyHosts[0]!.platform.clock,
          handlers: new Map<string, WireHandler>([
            ["get", (stream) => readGet(stream, "proxy").then(() => replyGet(stream, "host-type", "proxy"))],
            [
              "wlog-transfer",
              async () => {
                tries += 1;
                await new Promise(() => undefined);
              },
            ],
          ]),
        },
      ),
    );
    const endMs = world.nowMs() + 600_000;
    while (world.nowMs() < endMs) {
      await world.complete(() => path.writes(1));
      await path.arrived(await world.complete(() => path.snapshot()));
      await world.run(5_000);
    }
    // 20 s, 40 s, 80 s, 160 s, then every 5 minutes; not with each of some hundred logs.
    expect(tries).toBeGreaterThanOrEqual(5);
    expect(tries).toBeLessThan(16);
    const status = await world.complete(() => call<StorageStatus>(path.storage, "status", { volume }));
    expect(status.proxies[0]).toMatchObject({ isAvailable: false, error: expect.stringContaining("log transfer") });
    // A kick asks for a try at once.
    const before = tries;
    await world.complete(() => call(path.storage, "kick", {}));
    await world.run(1_000);
    await world.complete(() => path.writes(1));
    await path.arrived(await world.complete(() => path.snapshot()));
    expect(tries).toBe(before + 1);
    void hanging;
    path.verify();
    path.close();
  });

  test("that is down after an idle time does not make new writes look old", async () => {
    const path = await running(13);
    const { world } = path;
    await world.run(3_600_000);
    path.proxyHosts[0]!.kill();
    await world.complete(() => path.writes(2));
    await world.run(30_000);
    const early = (await world.complete(() => path.storageVolume())).lagMs!;
    expect(early).toBeGreaterThanOrEqual(30_000);
    expect(early).toBeLessThan(60_000);
    await world.run(600_000);
    expect((await world.complete(() => path.storageVolume())).lagMs).toBeGreaterThan(600_000);
    path.close();
  });

  test("keeps everything while all are down, tells so, and sends it soon after one is back", async () => {
    const path = await running(3, { proxies: 2 });
    const { world } = path;
    for (const host of path.proxyHosts) host.kill();
    await world.complete(() => path.writes(40, 3_000));
    const gid = await world.complete(() => path.snapshot());
    await world.run(600_000);
    const { trouble, lagMs, lagBytes } = await world.complete(() => path.storageVolume());
    expect(trouble!.code).toBe("unreachable");
    expect(trouble!.retryAtMs).toBeGreaterThan(trouble!.atMs);
    expect(lagMs).toBeGreaterThan(600_000);
    expect(lagBytes).toBeGreaterThan(0);
    await world.complete(() => path.restartProxy(1));
    // The heartbeat finds it within 10 s, whatever the back-off is.
    await path.arrived(gid, 15_000);
    path.verify();
    path.close();
  });

  test("tells how long a snapshot waits that is sent for nothing but itself", async () => {
    const path = await running(18);
    const { world } = path;
    await world.run(3_600_000);
    for (const host of path.proxyHosts) host.kill();
    const gid = await world.complete(() => path.snapshot());
    await world.run(100_000);
    const waiting = await world.complete(() => path.storageVolume());
    expect(waiting.lagBytes).toBe(0);
    expect(waiting.lagMs).toBeWithin(95_000, 105_000);
    await world.complete(() => path.restartProxy(0));
    await path.arrived(gid, 15_000);
    expect((await world.complete(() => path.storageVolume())).lagMs).toBe(0);
    path.close();
  });

  test("retries for ever less often, not with every write", async () => {
    const path = await running(4);
    const { world } = path;
    world.network.refuse("s0", "p0");
    const eventsBefore = world.eventCount;
    await world.complete(() => path.writes(200, 500));
    // 200 writes over 100 s with about 15 tries and 10 heartbeats; a retry with every write would be many times that.
    expect(world.eventCount - eventsBefore).toBeLessThan(20_000);
    world.network.accept("s0", "p0");
    await path.arrived(await world.complete(() => path.snapshot()), 30_000);
    path.verify();
    path.close();
  });

  test("is not held up for long by a proxy that vanished without a word", async () => {
    const path = await running(5, { proxies: 2 });
    const { world } = path;
    world.network.partition("s0", "p0");
    await world.complete(() => path.writes(5));
    await path.arrived(await world.complete(() => path.snapshot()), 30_000);
    world.network.heal("s0", "p0");
    path.verify();
    path.close();
  });
});

describe("an archive that is away for an hour", () => {
  test("gets all of it soon after it is back, while the storage's log was freed all the time", async () => {
    const path = await running(14);
    const { world } = path;
    world.network.refuse("p0", "a0");
    for (let minute = 0; minute < 60; minute += 1) {
      await world.complete(() => path.writes(3));
      await world.run(60_000);
    }
    const { logUsagePb, lagBytes } = await world.complete(() => path.storageVolume());
    expect(lagBytes).toBe(0);
    expect(logUsagePb).toBe(0);
    const [entry] = (await world.complete(() => path.proxyVolume())).archives;
    expect(entry!.lagMs).toBeGreaterThan(3_500_000);
    const { waiting } = entry!;
    const nowMs = path.storageHost.platform.clock.nowMs();
    expect(waiting).toMatchObject({ step: "sending to a0", host: "a0 (a0:10200)" });
    expect(nowMs - waiting!.sinceMs!).toBeGreaterThan(3_500_000);
    expect(waiting!.nextMs).toBeGreaterThan(nowMs - 1_000);
    world.network.accept("p0", "a0");
    // A new log brings the next try forward, however long the back-off is by now.
    await world.complete(() => path.writes(1));
    await path.arrived(await world.complete(() => path.snapshot()), 5_000);
    await world.run(1_000);
    expect((await world.complete(() => path.proxyVolume())).archives[0]!.trouble).toBeUndefined();
    path.verify();
    path.close();
  });
});

describe("an archive that answers", () => {
  for (const word of [...refusalWords, "text"] as const) {
    const isFinal = word === "different-uuid" || word === "too-old-diff";
    test(`${word} ${isFinal ? "gets the diff no more" : "is asked again until it accepts, and the status says why"}`, async () => {
      const path = await running(6);
      const { world } = path;
      path.archive.answer = () => (word === "text" ? { kind: "text", text: "no way" } : { kind: "word", word });
      await world.complete(() => path.writes(5));
      const gid = await world.complete(() => path.snapshot());
      await world.run(20_000);
      const [archive] = (await world.complete(() => path.proxyVolume())).archives;
      path.archive.answer = undefined;
      if (isFinal) {
        expect(archive).toMatchObject({ pendingCount: 0, isSending: false });
        expect(path.archive.latest.gidB).toBeLessThan(gid);
      } else {
        expect(archive!.pendingCount).toBeGreaterThan(0);
        expect(archive!.trouble!.message).toContain(word === "text" ? "no way" : word);
        expect(archive!.trouble!.hint).toBeString();
        await path.arrived(gid, 400_000);
        path.verify();
        await world.run(1_000);
        const after = (await world.complete(() => path.proxyVolume())).archives[0]!;
        expect(after.trouble).toBeUndefined();
      }
      path.close();
    });
  }

  test("after a long absence gets what waits as soon as the next log comes, not when the back-off is over", async () => {
    const path = await running(7);
    const { world } = path;
    world.network.refuse("p0", "a0");
    await world.complete(() => path.writes(3));
    await world.complete(() => path.snapshot());
    await world.run(1_000_000);
    world.network.accept("p0", "a0");
    await world.complete(() => path.writes(3));
    await path.arrived(await world.complete(() => path.snapshot()), 5_000);
    path.verify();
    path.close();
  });
});

describe("two archives", () => {
  test("are served apart: one that is dead or slow does not delay the other", async () => {
    for (const how of ["dead", "silent", "slow"] as const) {
      const path = new BackupPath(8, { sizeLb: 1024, archives: 2 });
      const { world } = path;
      await world.complete(() => path.open());
      await world.complete(() => path.writes(5));
      // The second archive got a copy of the first's base.
      const base = await world.complete(() => path.backup());
      const [first, second] = path.archives as [typeof path.archive, typeof path.archive];
      Object.assign(second, {
        state: "Archived",
        uuid: first.uuid,
        latest: { gidB: 0n, gidE: base },
        image: first.image.slice(),
      });
      await path.arrived(base);
      if (how === "dead") path.archiveHosts[1]!.kill();
      if (how === "silent") world.network.partition("p0", "a1");
      if (how === "slow") second.delayMs = 30_000;
      for (let round = 0; round < 3; round++) {
        await world.complete(() => path.writes(5));
        await path.arrived(await world.complete(() => path.snapshot()), 3_000, [first]);
      }
      const last = first.latest.gidB;
      const waiting = (await world.complete(() => path.proxyVolume())).archives[1]!;
      expect(waiting.pendingCount).toBeGreaterThan(0);
      if (how === "dead") {
        path.archiveHosts[1]!.restart();
        await world.complete(() => path.openArchive(1));
      }
      if (how === "silent") world.network.heal("p0", "a1");
      await path.arrived(last, 1_000_000);
      path.verify();
      expect(second.image).toEqual(first.image);
      path.close();
    }
  });
});

test("many volumes of one storage share one proxy that takes one log at a time, and none starves", async () => {
  const path = await running(9, { proxy: { maxForegroundTasks: 1 }, storage: { maxBackgroundTasks: 4 } });
  const { world } = path;
  const { platform } = path.storageHost;
  const admin = await world.complete(() => deviceControlClient(platform, "/device/control.sock"));
  const names = Array.from({ length: 6 }, (_, i) => `more${i}`);
  await world.complete(async () => {
    for (const name of names) {
      await admin.create({ name, sizeBytes: 65536, logSizeBytes: 1024 * 1024 });
      await call(path.storage, "init", { volume: name, device: { kind: "user", name } });
      await call(path.proxies[0]!, "add-archive", { volume: name, archiveName: "a0", address: "a0:10200" });
      await call(path.proxies[0]!, "start", { volume: name });
      path.archive.state = "SyncReady";
      await call(path.storage, "backup", { volume: name, mode: "full" });
    }
  });
  // The archive of this test has one volume; here only the way to the proxy counts.
  path.archive.answer = () => ({ kind: "word", word: "too-old-diff" });
  const before = new Map<string, bigint>();
  const done = async (): Promise<Map<string, bigint>> => {
    const { volumes } = await call<StorageStatus>(path.storage, "status", {});
    return new Map(volumes.map((one) => [one.volume, one.doneGid ?? 0n]));
  };
  for (const [name, gid] of await world.complete(done)) before.set(name, gid);
  await world.complete(async () => {
    for (let round = 0; round < 5; round++)
      for (const name of names) await call(path.storage, "snapshot", { volume: name });
  });
  await world.run(5_000);
  for (const [name, gid] of await world.complete(done)) {
    if (name !== volume) expect(gid).toBeGreaterThanOrEqual(before.get(name)! + 5n);
  }
  path.close();
});
