import { describe, expect, test } from "bun:test";
import { WalbError } from "../../src/errors.ts";
import type { Platform } from "../../src/platform/platform.ts";
import { createSimWorld, type SimWorld } from "../../src/sim/sim.ts";
import { expectError } from "../helpers/errors.ts";

const kib = 1024;

/** A client that sends blocks, a server that stores each and answers, with a crash of the server on the way. */
async function shippingScenario(seed: number): Promise<{ world: SimWorld; stored: number }> {
  const world = createSimWorld(seed);
  const [client, server] = [world.host("client"), world.host("server")];
  await world.complete(() => serve(server.platform));
  world.network.setQuality("client", "server", { latency: { minMs: 1, maxMs: 20 } });
  world.after(world.random.between(50, 300), () => {
    server.crash();
    world.after(40, () => void serve(server.restart()));
  });
  await world.complete(() => shipUntilStored(client.platform, 20), { limitMs: 60_000 });
  return { world, stored: server.storage.sizeOf("/log") ?? 0 };
}

async function serve(platform: Platform): Promise<void> {
  const { disk, net, memory } = platform;
  const file = await disk.open("/log", { mode: "createOrOpen", lock: true });
  await disk.syncDirectory("/");
  await net.listen({ kind: "tcp", host: "", port: 10 }, (connection) => {
    let pending = new Uint8Array(0);
    let work = Promise.resolve();
    connection.setReader({
      data(chunk) {
        pending = new Uint8Array(Buffer.concat([pending, chunk]));
        while (pending.length >= 4 * kib) {
          const block = pending.slice(0, 4 * kib);
          pending = pending.slice(4 * kib);
          work = work.then(async () => {
            const lease = await memory.lease(4 * kib);
            lease.bytes.set(block);
            await file.write(block[0]! * 4 * kib, lease);
            await file.sync();
            lease.release();
            connection.write(block.slice(0, 1));
          });
        }
      },
      end: () => connection.end(),
      closed: () => {},
    });
  });
}

async function shipUntilStored(platform: Platform, blocks: number): Promise<void> {
  const done = new Set<number>();
  while (done.size < blocks) {
    try {
      const connection = await platform.net.connect({ kind: "tcp", host: "server", port: 10 }, { timeoutMs: 1000 });
      await new Promise<void>((resolve) => {
        connection.setReader({
          data(chunk) {
            for (const number of chunk) done.add(number);
            if (done.size === blocks) connection.end();
          },
          end: () => connection.close(),
          closed: () => resolve(),
        });
        for (let i = 0; i < blocks; i++) {
          if (!done.has(i)) connection.write(new Uint8Array(4 * kib).fill(i));
        }
      });
    } catch (error) {
      expect(error).toBeInstanceOf(WalbError);
      await platform.clock.sleep(10);
    }
  }
}

describe("a world", () => {
  test("gives the same trace for the same seed and others for others", async () => {
    const hashes = new Set<number>();
    for (let seed = 1; seed <= 12; seed++) {
      const [first, second] = [await shippingScenario(seed), await shippingScenario(seed)];
      expect(first.world.traceHash).toBe(second.world.traceHash);
      expect(first.world.eventCount).toBe(second.world.eventCount);
      expect(first.stored).toBe(20 * 4 * kib);
      hashes.add(first.world.traceHash);
      for (const { world } of [first, second]) world.close();
    }
    expect(hashes.size).toBe(12);
  });

  test("passes hours of virtual time without waiting for them", async () => {
    const world = createSimWorld(1);
    const { clock } = world.host("a", { wallClockMs: 1_000_000 }).platform;
    let ticks = 0;
    const tick = () => {
      ticks++;
      clock.timer(60_000, tick);
    };
    tick();
    await world.run(24 * 3600_000);
    expect(ticks).toBe(1441);
    expect(world.nowMs()).toBe(24 * 3600_000);
    expect(clock.nowMs()).toBe(1_000_000 + 24 * 3600_000);
    world.close();
  });

  test("tells when nothing is left to do, and when what goes on leads nowhere", async () => {
    const world = createSimWorld(1);
    const { clock } = world.host("a").platform;
    const idle = world.complete(() => new Promise<void>(() => {}));
    await expectError(idle, "nothing is left to do");
    const tick = () => void clock.timer(1, tick);
    tick();
    const endless = world.runUntil(() => false, { limitMs: 1000 });
    await expectError(endless, "1000 ms of virtual time passed");
    const busy = world.runUntil(() => false, { maxEvents: 100 });
    await expectError(busy, "events passed");
    world.close();
  });

  test("ends the run with what a timer or a reader throws", async () => {
    const world = createSimWorld(1);
    world.host("a").platform.clock.timer(5, () => {
      throw new Error("a defect");
    });
    await expectError(world.run(10), "a defect");
    world.close();
  });

  test("lets a process that died do nothing more", async () => {
    const world = createSimWorld(3);
    const host = world.host("a");
    const { disk, clock, net, compute, memory } = host.platform;
    let steps = 0;
    const count = () => {
      steps++;
    };
    const file = await world.complete(() => disk.open("/f", { mode: "create" }));
    const lease = await world.complete(() => memory.lease(4096));
    clock.timer(1, count);
    clock.sleep(1).then(count, count);
    file.write(0, lease).then(count, count);
    file.close().then(count, count);
    disk.list("/").then(count, count);
    net.connect({ kind: "tcp", host: "nowhere", port: 1 }, { timeoutMs: 5 }).then(count, count);
    compute.hashes([lease], 1).then(count, count);
    host.kill();
    disk.writeSmall("/zombie", new Uint8Array(1)).then(count, count);
    clock.timer(1, count);
    await world.run(60_000);
    expect(steps).toBe(0);
    expect(host.storage.paths()).toEqual(["/f"]);
    expect(() => host.platform).toThrow("down");
    world.close();
  });

  test("decides at once what becomes of a write that a death interrupts", async () => {
    const outcomes = new Set<number>();
    for (let seed = 0; seed < 20; seed++) {
      const world = createSimWorld(seed);
      const host = world.host("a");
      await world.complete(async () => {
        const { disk, memory } = host.platform;
        const file = await disk.open("/f", { mode: "create" });
        await file.truncate(512);
        const lease = await memory.lease(512);
        lease.bytes.fill(7);
        void file.write(0, lease);
      });
      host.kill();
      const [value] = host.storage.peek("/f", 0, 1);
      await world.run(1000);
      expect(host.storage.peek("/f", 0, 1)[0]).toBe(value!);
      outcomes.add(value!);
      world.close();
    }
    expect([...outcomes].sort()).toEqual([0, 7]);
  });

  test("orders what falls on the same moment by the seed", async () => {
    const order = async (seed: number) => {
      const world = createSimWorld(seed);
      const fired: number[] = [];
      for (let i = 0; i < 10; i++) world.after(5, () => void fired.push(i));
      await world.run(5);
      world.close();
      return fired.join();
    };
    expect(await order(1)).toBe(await order(1));
    expect(await order(1)).not.toBe(await order(2));
  });

  test("gives a dead process's memory, locks and databases to the next one", async () => {
    const world = createSimWorld(3);
    const host = world.host("a", { memoryBytes: 8192 });
    await world.complete(async () => {
      await host.platform.memory.lease(8192);
      await host.platform.disk.open("/f", { mode: "create", lock: true });
      await host.platform.disk.syncDirectory("/");
    });
    const database = host.platform.databases.open("/db");
    database.run("CREATE TABLE t (n INTEGER)");
    database.run("INSERT INTO t VALUES (1)");
    host.crash();
    database.run("INSERT INTO t VALUES (2)");
    const next = host.restart();
    await world.complete(async () => {
      await next.memory.lease(8192);
      await next.disk.open("/f", { mode: "write", lock: true });
    });
    expect(next.databases.open("/db").query("SELECT n FROM t").all()).toEqual([{ n: 1n }]);
    host.storage.corrupt("/db", 0, 1);
    expect(() => next.databases.open("/db")).toThrow("not a SQLite database");
    world.close();
  });

  test("steps the wall clock and not the monotonic one", async () => {
    const world = createSimWorld(3);
    const host = world.host("a", { wallClockMs: 5000 });
    await world.run(100);
    host.jumpWallClock(-1000);
    expect(host.platform.clock.nowMs()).toBe(4100);
    expect(host.platform.clock.monotonicMs()).toBe(100);
    world.close();
  });
});
