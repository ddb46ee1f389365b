import { describe, expect, test } from "bun:test";
import type { ProxyStatus } from "../../src/control/proxy.ts";
import { spaceNeeded } from "../../src/proxy/space.ts";
import type { WireStream } from "../../src/wire/stream.ts";
import { call } from "../helpers/backup-path.ts";
import { expectError } from "../helpers/errors.ts";
import { sendTestLog } from "../helpers/fake-storage.ts";
import { payload } from "../helpers/wire.ts";
import { io, ProxyBench, volume } from "./fixture.ts";

const mib = 1024 * 1024;
const proxyAddress = { kind: "tcp", host: "p0", port: 10100 } as const;

describe("a proxy", () => {
  test("delivers what it received: data, zeroes, discards, long writes across every boundary", async () => {
    const bench = await new ProxyBench(1, 1, {}, 40_000).open();
    await bench.complete(async () => {
      await bench.send([io(0, 8, 1), io(4, 8, 2), { kind: "discard", offsetLb: 6, sizeLb: 3 }, io(100, 1, 0)]);
      // Longer than a record may be, and not aligned to anything.
      await bench.send([{ kind: "data", offsetLb: 1001, sizeLb: 20_003, data: payload(20_003 * 512, 1) }]);
      await bench.send([
        { kind: "padding", offsetLb: 0, sizeLb: 5 },
        io(3000, 16, 3),
        { kind: "discard", offsetLb: 0, sizeLb: 30_000 },
      ]);
      await bench.send([]);
    });
    await bench.delivered();
    await bench.expectClean();
    expect((await bench.status()).lastReceivedMs).toBeGreaterThan(0);
    bench.world.close();
  });

  test("takes a log that comes again, because its Ack was lost, once", async () => {
    const bench = await new ProxyBench(2).open();
    bench.world.network.refuse("p0", "a0");
    await bench.complete(() => bench.send([io(0, 8, 1)]));
    await bench.complete(() => bench.send([io(0, 8, 1)], { fromGid: 0n, toGid: 1n, timestampS: 1_700_000_009 }));
    expect(bench.files()).toHaveLength(1);
    expect((await bench.status()).archives[0]!.pendingCount).toBe(1);
    // Its file got lost: now what comes again replaces it.
    await bench.complete(() => bench.host.platform.disk.remove(bench.files()[0]!));
    await bench.complete(() => bench.send([io(0, 8, 1)], { fromGid: 0n, toGid: 1n, timestampS: 1_700_000_010 }));
    expect(bench.files()).toHaveLength(1);
    // Overlapping, with another end: kept beside it.
    await bench.complete(() => bench.send([io(0, 8, 1), io(8, 8, 2)], { fromGid: 0n, toGid: 2n }));
    bench.world.network.accept("p0", "a0");
    await bench.delivered();
    await bench.expectClean();
    expect(bench.archive.applied.map((diff) => diff.to.gidB)).toEqual([2n]);
    bench.world.close();
  });

  test("keeps the diffs of an older log apart, and drops them only when the archive follows another", async () => {
    const bench = await new ProxyBench(3).open();
    const older = "ffffffffffffffffffffffffffffffff";
    bench.world.network.refuse("p0", "a0");
    await bench.complete(async () => {
      await bench.send([io(0, 8, 9)], { uuid: older, fromGid: 0n, toGid: 1n });
      await bench.send([io(8, 8, 9)], { uuid: older, fromGid: 1n, toGid: 2n });
      bench.gid = 0n;
      bench.expected.fill(0);
      await bench.send([io(0, 8, 1)]);
      await bench.send([io(8, 8, 2)]);
    });
    bench.world.network.accept("p0", "a0");
    await bench.delivered();
    await bench.expectClean();
    expect(bench.archive.asked.map(({ request }) => request.uuid.slice(0, 2))).toEqual(["ff", "00"]);
    bench.world.close();
  });

  test("is as it was before after a storage that vanishes or lies at any byte, and takes the log the next time", async () => {
    const log = [io(0, 8, 1), io(8, 64, 2)];
    for (let seed = 1; seed <= 60; seed++) {
      const bench = await new ProxyBench(seed).open();
      const { network } = bench.world;
      if (seed % 3 === 0) network.corruptByte("s0", "p0", seed * 13);
      else
        network.cutAfterBytes(
          seed % 3 === 1 ? "s0" : "p0",
          seed % 3 === 1 ? "p0" : "s0",
          seed % 3 === 1 ? seed * 20 : (seed % 20) * 2,
        );
      // The fault may strike late: until it has, and the log is through, everything is tried again.
      let failures = 0;
      const attempt = (): Promise<boolean> =>
        bench.send(log, { fromGid: 0n, toGid: 1n }).then(
          () => true,
          () => false,
        );
      while (!(await bench.complete(attempt))) {
        await bench.world.run(1_000);
        expect(bench.leasedBytes).toBe(0);
        failures += 1;
      }
      expect(failures).toBeLessThan(3);
      await bench.delivered();
      await bench.expectClean();
      expect((await bench.status()).trouble).toBeUndefined();
      bench.world.close();
    }
  });

  test("refuses what is not for it, with words", async () => {
    const bench = await new ProxyBench(4).open();
    const refusal = (options: object): Promise<string> =>
      bench.complete(() =>
        bench.send([io(0, 8, 1)], options).then(
          () => "accepted",
          (error: Error) => error.message,
        ),
      );
    expect(await refusal({ volume: "other" })).toContain("does not know this volume");
    expect(await refusal({ volume: "../../etc" })).toContain("not a volume name");
    await bench.complete(() => call(bench.proxy, "stop", { volume, mode: "graceful" }));
    expect(await refusal({})).toContain("Stopped");
    await bench.complete(() => call(bench.proxy, "start", { volume }));
    expect(await refusal({ sizeLb: 4 })).not.toBe("accepted");
    expect(await refusal({})).toBe("accepted");
    bench.world.close();
  });
});

describe("a proxy's disk", () => {
  test("is never filled: logs are refused with both numbers while deliveries go on and make room", async () => {
    const bench = await new ProxyBench(5).open();
    const { storage } = bench.host;
    bench.world.network.refuse("p0", "a0");
    await bench.complete(() => bench.send([io(0, 64, 1)]));
    storage.setCapacity(32 * mib);
    const huge = bench.complete(() => bench.send([io(64, 8, 2)], { logSizePb: (64 * mib) / 512 }));
    await expectError(huge, /MiB free, but needs 64 MiB for this log and 2 MiB in reserve/);
    expect((await bench.status()).trouble!.code).toBe("no-space");
    expect((await bench.status()).state).toBe("Started");
    bench.world.network.accept("p0", "a0");
    storage.setCapacity(1024 * mib);
    await bench.complete(() => bench.send([io(64, 8, 2)]));
    await bench.delivered(400_000);
    expect((await bench.status()).trouble).toBeUndefined();
    await bench.expectClean();
    bench.world.close();
  });

  test("that fills up is told for as long as it is so, by whatever it is filled, and no longer", async () => {
    const bench = await new ProxyBench(10).open();
    await bench.complete(() => bench.send([io(0, 8, 1)]));
    await bench.delivered(10_000);
    const { storage } = bench.host;
    const idle = await bench.status();
    expect(idle.trouble).toBeUndefined();
    storage.setCapacity(64 * mib);
    const { disk } = bench.host.platform;
    const { freeBytes } = await bench.complete(() => disk.freeSpace("/"));
    const fillTo = (freeMib: number) =>
      bench.complete(async () => {
        await disk.remove("/other");
        await disk.writeSmall("/other", new Uint8Array(freeBytes - freeMib * mib));
      });
    await fillTo(6);
    await bench.world.run(3_600_000);
    const filling = await bench.status();
    expect(filling.trouble!.message).toContain("filling up: 6 MiB free");
    // Logs come in all the same.
    expect(filling.waiting!.why).toBe("no storage sends");
    await fillTo(1);
    const full = await bench.status();
    expect(full.trouble!.message).toContain("is full: 1 MiB free, and no log is taken below 3 MiB");
    expect(full.trouble!.sinceMs).toBe(filling.trouble!.sinceMs!);
    expect(full.waiting!.why).toBe(full.trouble!.message);
    await bench.complete(() => disk.remove("/other"));
    const after = await bench.status();
    expect([after.trouble, after.waiting!.why]).toEqual([undefined, "no storage sends"]);
    bench.world.close();
  });

  test("is not promised to two logs at once", async () => {
    const bench = await new ProxyBench(8, 1, { maxForegroundTasks: 2 }).open();
    await bench.complete(async () => {
      await call(bench.proxy, "add-archive", { volume: "v1", archiveName: "a0", address: "a0:10200" });
      await call(bench.proxy, "start", { volume: "v1" });
    });
    bench.host.storage.setCapacity(32 * mib);
    const logSizePb = (20 * mib) / 512;
    let goOn = (): void => undefined;
    const held = new Promise<void>((resolve) => {
      goOn = resolve;
    });
    let isFirstDone = false;
    const first = { volume, fromGid: 0n, toGid: 1n, ios: [io(0, 8, 1)], logSizePb, beforeEnd: () => held };
    const second = { volume: "v1", fromGid: 0n, toGid: 1n, ios: [io(0, 8, 1)], logSizePb };
    bench.world.after(
      0,
      () => void sendTestLog(bench.source.platform, proxyAddress, first).then(() => (isFirstDone = true)),
    );
    await bench.world.run(1_000);
    const sendSecond = (): Promise<void> => sendTestLog(bench.source.platform, proxyAddress, second);
    await expectError(bench.complete(sendSecond), /and 20 MiB for logs on their way in/);
    goOn();
    await bench.world.runUntil(() => isFirstDone, { limitMs: 5_000 });
    await bench.complete(sendSecond);
    bench.world.close();
  });

  test("takes no more of a log than was announced", async () => {
    const bench = await new ProxyBench(9).open();
    const sent = bench.complete(() => bench.send([io(0, 64, 1), io(64, 64, 2)], { logSizePb: 100 }));
    await expectError(sent);
    expect((await bench.status()).trouble!.message).toContain("129 blocks of log came, but 100 were announced");
    await bench.complete(() => bench.send([io(0, 64, 1)]));
    await bench.delivered();
    await bench.expectClean();
    bench.world.close();
  });

  test("that is full or broken in the middle of a log costs that try only", async () => {
    for (const effect of ["no-space", "io"] as const) {
      for (let skip = 0; skip < 7; skip++) {
        const bench = await new ProxyBench(skip + 1).open();
        const remove = bench.host.storage.inject({
          kinds: ["write", "sync", "rename", "syncDirectory", "open"],
          pathIncludes: "/diffs",
          skip,
          effect,
        });
        const outcome = await bench.complete(() =>
          bench.send([io(0, 8, 1), io(100, 2, 5)]).then(
            () => "ok",
            (error: Error) => error.message,
          ),
        );
        remove();
        if (outcome !== "ok") {
          expect(bench.files().filter((file) => file.includes("receiving"))).toEqual([]);
          expect(bench.leasedBytes).toBe(0);
          expect((await bench.status()).trouble).toBeDefined();
          await bench.complete(() => bench.send([io(0, 8, 1), io(100, 2, 5)]));
        }
        await bench.delivered();
        await bench.expectClean();
        bench.world.close();
      }
    }
  });

  test("needs little more than the log on a small file system, and no 2 % of a huge one", () => {
    expect(spaceNeeded(0, 1024 * mib).neededBytes).toBeLessThan(22 * mib);
    expect(spaceNeeded(0, 2 ** 50).neededBytes).toBe(257 * mib);
    expect(spaceNeeded(100 * mib, 2 ** 50).neededBytes).toBe(357 * mib);
    expect(spaceNeeded(0, 2 ** 50).warnBytes).toBe((257 + 1024) * mib);
  });
});

describe("many storages at once", () => {
  test("lose their turn when next to nothing comes for a minute", async () => {
    const bench = new ProxyBench(8);
    await bench.open();
    const slow = { volume, fromGid: 0n, toGid: 1n, ios: [io(0, 8, 1)], beforeEnd: () => new Promise<void>(() => {}) };
    bench.world.after(0, () => {
      sendTestLog(bench.source.platform, proxyAddress, slow).catch(() => undefined);
    });
    await bench.world.run(50_000);
    expect((await bench.status()).state).toBe("WlogRecv");
    await bench.world.run(15_000);
    const { state, trouble } = await bench.status();
    expect(state).toBe("Started");
    expect(trouble?.message).toContain("of the log came within 60 s");
    await bench.complete(() => bench.send([io(0, 8, 2)]));
    await bench.delivered();
    bench.world.close();
  });

  test("that crawl do not keep the others out, however many they are, and go on as long as there is room for them", async () => {
    const bench = new ProxyBench(11, 1, { maxForegroundTasks: 2 });
    await bench.open();
    const count = 14;
    await bench.complete(async () => {
      for (let i = 1; i < count; i++) {
        await call(bench.proxy, "add-archive", { volume: `v${i}`, archiveName: "a0", address: "a0:10200" });
        await call(bench.proxy, "start", { volume: `v${i}` });
      }
    });
    const begun: string[] = [];
    const release = Promise.withResolvers<void>();
    const crawl = (name: string) => {
      const log = { volume: name, fromGid: 0n, toGid: 1n, ios: [io(0, 8, 1)] };
      const beforeEnd = (): Promise<void> => {
        begun.push(name);
        return release.promise;
      };
      return sendTestLog(bench.source.platform, proxyAddress, { ...log, beforeEnd });
    };
    const send = (name: string, fromGid: bigint) =>
      bench.complete(() =>
        sendTestLog(bench.source.platform, proxyAddress, { volume: name, fromGid, toGid: fromGid + 1n, ios: [] }),
      );
    const first: Promise<unknown>[] = [];
    bench.world.after(0, () => {
      first.push(crawl("v1"), crawl("v2"));
      for (const one of first) one.catch(() => undefined);
    });
    await bench.world.run(1_000);
    expect(begun.toSorted()).toEqual(["v1", "v2"]);
    await expectError(send("v3", 0n), "which is the limit");
    await bench.world.run(12_000);
    await send("v3", 0n);
    // What crawls is not lost by that.
    release.resolve();
    await bench.complete(() => Promise.all(first));
    // More and more of them: those for whom there is no room are given up, and others still get in.
    for (let i = 4; i < count; i++) {
      const never = {
        volume: `v${i}`,
        fromGid: 0n,
        toGid: 1n,
        ios: [io(0, 8, 1)],
        beforeEnd: () => new Promise<void>(() => {}),
      };
      bench.world.after(0, () => {
        sendTestLog(bench.source.platform, proxyAddress, never).catch(() => undefined);
      });
      if (i % 2 === 1) await bench.world.run(10_500);
    }
    await bench.world.run(1_000);
    const { volumes } = await bench.complete(() => call<ProxyStatus>(bench.proxy, "status"));
    const stateOf = (name: string) => volumes.find((one) => one.volume === name)!.state;
    expect([stateOf("v4"), stateOf("v11"), stateOf("v12"), stateOf("v13")]).toEqual([
      ...["WlogRecv", "WlogRecv"],
      ...["Started", "Started"],
    ]);
    await send("v3", 1n);
    bench.world.close();
  });

  test("are not blamed for our own disk, whether it is slow to write or to sync", async () => {
    for (const kind of ["write", "sync"] as const) {
      const bench = new ProxyBench(13, 1, {}, 65_536);
      await bench.open();
      bench.host.storage.inject({
        kinds: [kind],
        pathIncludes: "receiving-",
        effect: { minMs: 90_000, maxMs: 90_000 },
      });
      const ios = Array.from({ length: 16 }, (_, i) => io(4096 * i, 4096, i + 1));
      await bench.complete(() => bench.send(ios, { deadlineMs: 300_000 }));
      const { state, trouble } = await bench.status();
      expect([kind, state, trouble]).toEqual([kind, "Started", undefined]);
      await bench.delivered();
      await bench.expectClean();
      bench.world.close();
    }
  });

  test("that begin a log of a volume again take the place of one that hardly comes, not of one that moves", async () => {
    const bench = new ProxyBench(12);
    await bench.open();
    const trickle = (bytesPerS: number, name: string) => {
      const beforeEnd = async (stream: WireStream): Promise<void> => {
        stream.put((encoder) =>
          encoder
            .u8(0)
            .u32(0)
            .u32(1 << 20),
        );
        for (let second = 0; second < 30; second++) {
          await stream.sendBulk(new Uint8Array(bytesPerS / 10), "a trickle");
          await stream.flush();
          await bench.source.platform.clock.sleep(100);
        }
      };
      const log = { volume, fromGid: 0n, toGid: 1n, ios: [io(0, 8, 1)], beforeEnd };
      let isOver = false;
      bench.world.after(0, () => {
        sendTestLog(bench.source.platform, proxyAddress, log).catch(() => {
          isOver = true;
        });
      });
      return { name, isOver: () => isOver };
    };
    const moving = trickle(100_000, "moving");
    await bench.world.run(300);
    await expectError(bench.complete(() => bench.send([io(0, 8, 2)])));
    expect(moving.isOver()).toBe(false);
    await bench.world.run(60_000);
    expect(moving.isOver()).toBe(true);
    const crawling = trickle(1_000, "crawling");
    await bench.world.run(300);
    await bench.complete(() => bench.send([io(0, 8, 2)]));
    await bench.world.run(1_000);
    expect(crawling.isOver()).toBe(true);
    await bench.delivered();
    bench.world.close();
  });

  test("wait for their turn in order, and all get it", async () => {
    const bench = new ProxyBench(6, 1, { maxForegroundTasks: 1 });
    await bench.open();
    await bench.complete(async () => {
      for (let i = 1; i < 8; i++) {
        await call(bench.proxy, "add-archive", { volume: `v${i}`, archiveName: "a0", address: "a0:10200" });
        await call(bench.proxy, "start", { volume: `v${i}` });
      }
    });
    const send = (i: number) =>
      sendTestLog(bench.source.platform, proxyAddress, {
        volume: i === 0 ? volume : `v${i}`,
        fromGid: 0n,
        toGid: 1n,
        ios: [io(0, 64, i)],
      });
    const outcomes = await bench.complete(() => Promise.allSettled(Array.from({ length: 8 }, (_, i) => send(i))));
    expect(outcomes.map((outcome) => outcome.status)).toEqual(Array(8).fill("fulfilled"));
    // One that hangs does not make the others wait for long: they hear that the proxy is busy, and try again.
    const hanging = { volume, fromGid: 1n, toGid: 2n, ios: [io(0, 8, 1)] };
    bench.world.after(0, () => {
      const never = () => new Promise<void>(() => undefined);
      sendTestLog(bench.source.platform, proxyAddress, { ...hanging, beforeEnd: never }).catch(() => undefined);
    });
    await bench.world.run(100);
    const startMs = bench.world.nowMs();
    await expectError(
      bench.complete(() =>
        sendTestLog(bench.source.platform, proxyAddress, { volume: "v1", fromGid: 1n, toGid: 2n, ios: [] }),
      ),
      "which is the limit",
    );
    expect(bench.world.nowMs() - startMs).toBeLessThan(5_000);
    // Its own storage comes again, and takes the place of what hangs.
    await bench.complete(() => sendTestLog(bench.source.platform, proxyAddress, hanging));
    expect((await bench.status()).state).toBe("Started");
    bench.world.close();
  });
});
