import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { eventually } from "../helpers/fleet.ts";
import { Site, volume } from "../helpers/site.ts";

let site: Site;

async function arrives(): Promise<bigint> {
  const gid = await site.snapshot();
  await site.arrived(gid);
  return gid;
}

describe("a storage with two proxies", () => {
  beforeAll(async () => {
    site = await Site.start({
      proxies: 2,
      flags: { storage: ["--socket-timeout", "2s"], proxy: ["--socket-timeout", "2s"] },
    });
  }, 300_000);
  afterAll(() => site?.close(), 60_000);

  test("goes over to the second when the first is gone, and back when it is there again", async () => {
    await site.end("p0");
    await site.write(20);
    await arrives();
    const status = await site.storage.call("status", {});
    expect(status.proxies.map(({ isAvailable }) => isAvailable)).toEqual([false, true]);
    expect(status.proxies[0]).toMatchObject({ error: expect.any(String), sinceMs: expect.any(Number) });
    expect((await site.storageVolume()).trouble).toBeUndefined();
    await site.run("p0");
    await eventually("the first proxy", 30_000, async () => {
      const { proxies } = await site.storage.call("status", {});
      return proxies[0]!.isAvailable ? true : undefined;
    });
    const { lastReceivedMs } = await site.proxyVolume(1);
    await site.write(20);
    await arrives();
    expect((await site.proxyVolume(1)).lastReceivedMs).toBe(lastReceivedMs!);
    expect((await site.proxyVolume(0)).lastReceivedMs).toBeGreaterThan(lastReceivedMs!);
  }, 300_000);

  test("goes on with the second when the first is cut, hangs, or damages what passes", async () => {
    const first = site.toProxy[0]!;
    /** Sends logs until something has happened, over the first proxy whenever it can be had. */
    const until = async (isOver: () => boolean): Promise<void> => {
      while (!isOver()) {
        await site.storage.call("kick", {});
        await site.write(6);
        await arrives();
      }
    };
    // A changed byte is found by the proxy or by the storage, wherever in the conversation it is.
    const places = [
      ["up", 60],
      ["up", 200],
      ["up", 20_000],
      ["down", 30],
    ] as const;
    for (const [direction, afterBytes] of places) {
      const before = first.corrupted;
      first.corrupt(direction, afterBytes);
      await until(() => first.corrupted > before);
    }
    for (const afterBytes of [0, 20_000]) {
      let isHeld = false;
      void first.hold("up", afterBytes).then(() => {
        isHeld = true;
      });
      await until(() => isHeld);
      if (afterBytes > 0) first.cut();
      await site.write(6);
      await arrives();
      first.release();
    }
    expect(await site.verify()).toBeGreaterThan(8);
  }, 300_000);

  test("keeps all that is written while none is there, tells what it waits for, and catches up", async () => {
    for (const relay of site.toProxy) relay.refuse();
    const gids: bigint[] = [];
    for (let i = 0; i < 4; i++) {
      await site.write(10);
      gids.push(await site.snapshot());
      await Bun.sleep(300);
    }
    const waiting = await eventually("the reason", 30_000, async () => {
      const status = await site.storageVolume();
      return status.trouble === undefined ? undefined : status.waiting;
    });
    expect(waiting).toMatchObject({
      host: expect.stringContaining("127.0.0.1:"),
      next: expect.stringContaining("walb kick"),
    });
    expect(waiting.nextMs).toBeGreaterThan(waiting.sinceMs!);
    expect((await site.storageVolume()).lagBytes).toBeGreaterThan(0);
    for (const relay of site.toProxy) relay.accept();
    // By itself within ten seconds; at once when asked for.
    await site.storage.call("kick", {});
    await site.arrived(gids.at(-1)!);
    // Each snapshot on the way is a point of its own.
    await site.verify();
    const { snapshots } = await site.archive().call("snapshots", { volume });
    for (const gid of gids) expect(snapshots.map((snapshot) => snapshot.gid)).toContain(gid);
  }, 300_000);
});

describe("a proxy that is killed", () => {
  beforeAll(async () => {
    site = await Site.start();
  }, 300_000);
  afterAll(() => site?.close(), 60_000);

  test("at any step between the first byte of a log and the Ack leaves no gap", async () => {
    const [relay] = site.toProxy;
    const steps: { readonly name: string; readonly arm: () => Promise<void> }[] = [
      ...[0, 40, 90, 5_000, 50_000].map((bytes) => ({
        name: `${bytes} bytes of a conversation have come`,
        arm: () => relay!.hold("up", bytes),
      })),
      // The server id, ok, accept; then the Ack, one byte, which does not pass: all is durable at the proxy.
      { name: "the answer is on its way", arm: () => relay!.hold("down", 5) },
      { name: "the Ack is on its way", arm: () => untilAckIsHeld() },
    ];
    for (const step of steps) {
      const reached = step.arm();
      await site.write(12);
      const gid = await site.snapshot();
      await reached;
      await site.end("p0");
      relay!.release();
      await site.run("p0");
      await site.arrived(gid);
      const { trouble } = await site.proxyVolume();
      expect({ step: step.name, trouble }).toEqual({ step: step.name, trouble: undefined });
    }
    expect(await site.verify()).toBe(steps.length + 1);
  }, 180_000);
});

/** The proxy has committed a log, and its Ack is held back. */
async function untilAckIsHeld(): Promise<void> {
  const [relay] = site.toProxy;
  const before = (await site.proxyVolume()).lastReceivedMs ?? 0;
  // Heartbeats would use up a count of bytes: the answers pass until a log has been received.
  for (;;) {
    await Bun.sleep(5);
    if (((await site.proxyVolume()).lastReceivedMs ?? 0) > before) break;
    relay!.delayMs = 200;
  }
  relay!.cut();
  relay!.delayMs = 0;
}

describe("two archives", () => {
  beforeAll(async () => {
    site = await Site.start({ archives: 2 });
  }, 300_000);
  afterAll(() => site?.close(), 60_000);

  test("get the same; the fast one is not delayed by the slow one, whose reason is told", async () => {
    const slow = site.toArchive[0]![1]!;
    slow.rateBytesPerS = 64 * 1024;
    let gid = 0n;
    for (let i = 0; i < 5; i++) {
      await site.write(20);
      gid = await site.snapshot();
      await site.arrived(gid, 0, 20_000);
    }
    expect(await site.newestGid(1)).toBeLessThan(gid);
    const entry = (await site.proxyVolume()).archives.find(({ archiveName }) => archiveName === "a1")!;
    expect(entry.pendingCount).toBeGreaterThan(0);
    expect(entry.isSending || entry.waiting !== undefined).toBe(true);
    slow.rateBytesPerS = 0;
    await site.arrived(gid, 1);
    expect(await site.verify(0)).toBe(6);
    expect(await site.verify(1)).toBe(6);
  }, 300_000);

  test("one of which damages or cuts what comes get the same in the end", async () => {
    const [relay] = site.toArchive[0]!;
    let gid = 0n;
    for (const afterBytes of [20, 150, 30_000]) {
      relay!.corrupt("up", afterBytes);
      await site.write(8);
      gid = await site.snapshot();
      await site.arrived(gid, 0, 60_000);
    }
    const held = relay!.hold("up", 10_000);
    await site.write(20);
    gid = await site.snapshot();
    await held;
    relay!.cut();
    relay!.release();
    for (const i of [0, 1]) {
      await site.arrived(gid, i);
      await site.verify(i);
    }
    await eventually("the end of all troubles", 20_000, async () => {
      const { archives } = await site.proxyVolume();
      return archives.every(({ trouble, pendingCount }) => trouble === undefined && pendingCount === 0) || undefined;
    });
  }, 300_000);

  test("are told by name while one of them hangs, and so is a device that hangs, each since when", async () => {
    site.signal("a1", "SIGSTOP");
    const startMs = Date.now();
    await site.write(8);
    const gid = await site.snapshot();
    await site.arrived(gid, 0);
    /** What is said at each look, while the proxy asks, waits and asks again. */
    for (let i = 0; i < 4; i++) {
      const entry = (await site.proxyVolume()).archives.find(({ archiveName }) => archiveName === "a1")!;
      expect(entry.waiting).toMatchObject({
        host: expect.stringContaining("a1 (127.0.0.1:"),
        next: expect.any(String),
      });
      expect(entry.waiting!.sinceMs).toBeWithin(startMs, startMs + 20_000);
      await Bun.sleep(400);
    }
    site.signal("a1", "SIGCONT");
    await site.arrived(gid, 1);
    site.signal("d0", "SIGSTOP");
    const first = await site.storageVolume();
    expect(first.waiting).toMatchObject({ why: first.trouble!.message, next: expect.stringContaining("walb device") });
    expect(first.trouble!.message).toContain("does not answer within 3000 ms");
    expect((await site.storageVolume()).waiting!.sinceMs).toBe(first.waiting!.sinceMs!);
    site.signal("d0", "SIGCONT");
    await eventually("the device", 20_000, async () => (await site.storageVolume()).trouble === undefined || undefined);
  }, 300_000);
});
