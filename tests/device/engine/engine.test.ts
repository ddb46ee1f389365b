import { describe, expect, test } from "bun:test";
import type { EngineOptions } from "../../../src/device/user/engine.ts";
import { WalbError } from "../../../src/errors.ts";
import { LogDeviceReader } from "../../../src/log/reader.ts";
import { loggedWritesOf } from "../../../src/log/redo.ts";
import { decodeSuperblock } from "../../../src/log/superblock.ts";
import { Fate, TestDisk } from "../../log/doubles.ts";
import { settle } from "../../log/helpers.ts";
import { type Bench, blocks, discard, flush, makeBench, openOn, read, write, writeZeroes } from "./harness.ts";

function superblockOf(bench: Bench) {
  return decodeSuperblock(bench.disk.files.get("log")!.subarray(4096, 8192), "log");
}

/** Every block of the volume as its first byte. */
async function picture(bench: Bench, engine: Parameters<typeof read>[1]): Promise<number[]> {
  const bytes = await read(bench, engine, 0, engine.sizeBytes / 512);
  return Array.from({ length: bytes.length / 512 }, (_, i) => bytes[i * 512]!);
}

describe("a write", () => {
  test("is done once it is in the log, before anything is synced or on the data store", async () => {
    const bench = await makeBench();
    const engine = await openOn(bench);
    expect(await write(bench, engine, 3, blocks(2, 7))).toBeUndefined();
    const { lsids } = engine.deviceStatus();
    expect(lsids).toEqual({ oldest: 0, prevWritten: 0, written: 0, permanent: 0, flush: 0, completed: 3, latest: 3 });
    expect(bench.disk.files.get("data")![3 * 512]).toBe(0);
    expect((await read(bench, engine, 3, 2)).every((byte) => byte === 7)).toBe(true);
  });

  test("is permanent after a flush, written after the apply delay, and checkpointed after the interval", async () => {
    const bench = await makeBench();
    const engine = await openOn(bench);
    await write(bench, engine, 3, blocks(2, 7));
    expect(await flush(engine)).toBeUndefined();
    expect(engine.deviceStatus().lsids).toMatchObject({ permanent: 3, written: 0 });
    bench.clock.advance(50);
    await settle();
    expect(engine.deviceStatus().lsids).toMatchObject({ written: 3, prevWritten: 0 });
    expect(bench.disk.files.get("data")![3 * 512]).toBe(7);
    expect(superblockOf(bench).writtenLsid).toBe(0);
    bench.clock.advance(10_000);
    await settle();
    expect(engine.deviceStatus().lsids.prevWritten).toBe(3);
    expect(superblockOf(bench).writtenLsid).toBe(3);
    expect(bench.memory.leasedBytes).toBeLessThan(2 << 20);
  });

  test("becomes permanent by itself after 100 ms without any flush", async () => {
    const bench = await makeBench();
    const engine = await openOn(bench);
    await write(bench, engine, 0, blocks(1, 1));
    bench.clock.advance(99);
    await settle();
    expect(engine.deviceStatus().lsids.permanent).toBe(0);
    bench.clock.advance(1);
    await settle();
    expect(engine.deviceStatus().lsids.permanent).toBe(2);
  });

  test("with FUA is done only after a sync of the log that began behind it", async () => {
    const fate = new Fate((await makeBench()).random);
    const bench = await makeBench();
    const engine = await openOn(bench);
    bench.disk.hooks.fate = fate;
    let isDone = false;
    write(bench, engine, 0, blocks(1, 1), true).then(() => {
      isDone = true;
    });
    await settle();
    expect(fate.step()).toBe(true);
    await settle();
    expect(isDone).toBe(false);
    expect(engine.deviceStatus().lsids).toMatchObject({ completed: 2, flush: 2, permanent: 0 });
    expect(fate.step()).toBe(true);
    await settle();
    expect(isDone).toBe(true);
    expect(engine.deviceStatus().lsids.permanent).toBe(2);
  });

  test("that arrives together with others shares their pack and one log write", async () => {
    const bench = await makeBench();
    const engine = await openOn(bench);
    await Promise.all(Array.from({ length: 12 }, (_, i) => write(bench, engine, i * 3, blocks(1, i + 1))));
    expect(engine.counters).toMatchObject({ packCount: 1, logBatchCount: 1, writeCount: 12 });
    await flush(engine);
    expect(engine.counters.logSyncCount).toBe(1);
  });

  test("larger than a pack is split, and reads back whole", async () => {
    const bench = await makeBench({ ringPb: 20_000, sizeLb: 16_384 });
    const engine = await openOn(bench);
    const bytes = bench.random.bytes(9000 * 512);
    await write(bench, engine, 100, bytes);
    expect(Buffer.compare(await read(bench, engine, 100, 9000), bytes)).toBe(0);
    await engine.checkpoint();
    expect(Buffer.compare(await read(bench, engine, 100, 9000), bytes)).toBe(0);
    expect(engine.counters.packCount).toBe(5);
  });

  test("larger than the whole ring goes through, checkpoint by checkpoint", async () => {
    const bench = await makeBench({ ringPb: 40, sizeLb: 1024 });
    const engine = await openOn(bench);
    const bytes = bench.random.bytes(1000 * 512);
    await write(bench, engine, 7, bytes);
    await engine.close();
    expect(Buffer.compare(bench.disk.files.get("data")!.subarray(7 * 512, 1007 * 512), bytes)).toBe(0);
    expect(bench.memory.leasedBytes).toBe(0);
  });

  test("keeps old memory out of the slack of the last block", async () => {
    const bench = await makeBench({ pbsBytes: 4096, ringPb: 64 });
    const engine = await openOn(bench);
    await write(bench, engine, 1, blocks(3, 9));
    const log = bench.disk.files.get("log")!;
    const dataAt = (3 + 1) * 4096;
    expect(log[dataAt]).toBe(9);
    expect(log.subarray(dataAt + 3 * 512, dataAt + 4096).every((byte) => byte === 0)).toBe(true);
  });
});

test("a few writes go to the data store in one job that lets others have their turn, many as fast as can be", async () => {
  const jobs: { writeCount: number; isGentle: boolean }[] = [];
  const many = (writeCount: number, isGentle: boolean): void => void jobs.push({ writeCount, isGentle });
  const bench = await makeBench({ sizeLb: 8192, ringPb: 20_000, hooks: { many } });
  const engine = await openOn(bench);
  const applied = async (writeCount: number): Promise<typeof jobs> => {
    jobs.length = 0;
    await Promise.all(Array.from({ length: writeCount }, (_, i) => write(bench, engine, 2 * i, blocks(1, i % 200))));
    await engine.checkpoint();
    return jobs;
  };
  expect(await applied(100)).toEqual([{ writeCount: 100, isGentle: true }]);
  const fast = await applied(3000);
  expect(fast.every(({ isGentle }) => !isGentle)).toBe(true);
  expect(fast.reduce((sum, { writeCount }) => sum + writeCount, 0)).toBe(3000);
  await engine.close();
});

describe("zeroes", () => {
  test("by discard and by writing zeroes read back at once, after the apply, and after redo", async () => {
    const bench = await makeBench();
    const engine = await openOn(bench);
    await write(bench, engine, 0, blocks(200, 5));
    await engine.checkpoint();
    await discard(engine, 10, 128);
    await writeZeroes(engine, 150, 20);
    const expected = Array.from({ length: 256 }, (_, i) =>
      i >= 200 || (i >= 10 && i < 138) || (i >= 150 && i < 170) ? 0 : 5,
    );
    expect(await picture(bench, engine)).toEqual(expected);
    await flush(engine);
    // A kill: the engine is left as it is, another one opens the stores.
    bench.disk.locks.clear();
    const second = await openOn(bench);
    expect(await picture(bench, second)).toEqual(expected);
    await second.close();
    expect(
      bench.disk.files
        .get("data")!
        .subarray(10 * 512, 138 * 512)
        .every((byte) => byte === 0),
    ).toBe(true);
  });

  test("written are data records in the log, discarded are discard records", async () => {
    const bench = await makeBench();
    const engine = await openOn(bench);
    await writeZeroes(engine, 5, 3);
    await discard(engine, 5, 3);
    await flush(engine);
    const file = await engine.openLog();
    const { ringSizePb, ringOffsetPb, salt } = engine.deviceInfo();
    const ring = { pbsBytes: 512, ringSizePb, ringOffsetPb, salt };
    const parts = { file, ring, pool: bench.memory, compute: bench.compute };
    const kinds: string[] = [];
    for await (const batch of new LogDeviceReader(parts).packs(0, engine.deviceStatus().lsids.permanent)) {
      for (const part of batch.parts) kinds.push(...part.header.records.map((record) => record.kind));
      batch.release();
    }
    expect(kinds).toEqual(["data", "discard"]);
  });

  test("show as holes over data, and pending data over holes", async () => {
    const bench = await makeBench({ sizeLb: 64 });
    const engine = await openOn(bench);
    await write(bench, engine, 8, blocks(16, 5));
    expect(await engine.allocation(0, 64 * 512)).toEqual([
      { sizeBytes: 8 * 512, isHole: true },
      { sizeBytes: 16 * 512, isHole: false },
      { sizeBytes: 40 * 512, isHole: true },
    ]);
    await engine.checkpoint();
    await discard(engine, 8, 8);
    expect(await engine.allocation(4 * 512, 20 * 512)).toEqual([
      { sizeBytes: 12 * 512, isHole: true },
      { sizeBytes: 8 * 512, isHole: false },
    ]);
  });
});

describe("the ring", () => {
  test("goes round many times, and what a consumer reads from it is the volume", async () => {
    const bench = await makeBench({ ringPb: 100, seed: 4 });
    const engine = await openOn(bench);
    const model = new Uint8Array(256 * 512);
    const shipped = new Uint8Array(256 * 512);
    const file = await engine.openLog();
    let at = 0;
    for (let round = 0; round < 120; round += 1) {
      const sizeLb = bench.random.between(1, 12);
      const offsetLb = bench.random.between(0, 256 - sizeLb);
      const bytes = bench.random.bytes(sizeLb * 512);
      await write(bench, engine, offsetLb, bytes);
      model.set(bytes, offsetLb * 512);
      await engine.checkpoint();
      const { permanent } = engine.deviceStatus().lsids;
      const { ringSizePb, ringOffsetPb, salt } = engine.deviceInfo();
      const ring = { pbsBytes: 512, ringSizePb, ringOffsetPb, salt };
      const reader = new LogDeviceReader({ file, ring, pool: bench.memory, compute: bench.compute });
      for await (const batch of reader.packs(at, permanent)) {
        for (const item of loggedWritesOf(batch, 256)) shipped.set(item.memory!.bytes, item.offsetLb * 512);
        batch.release();
      }
      at = permanent;
      await engine.setOldest(at);
    }
    expect(at).toBeGreaterThan(600);
    expect(engine.deviceStatus().isOverflow).toBe(false);
    expect(Buffer.compare(shipped, model)).toBe(0);
  });

  test("overflows when nobody ships it: writes go on, the flag is set and survives a restart", async () => {
    const bench = await makeBench({ ringPb: 60 });
    const engine = await openOn(bench);
    for (let i = 0; i < 30; i += 1) await write(bench, engine, i, blocks(4, i + 1));
    expect(engine.deviceStatus().isOverflow).toBe(true);
    await engine.close();
    const second = await openOn(bench);
    expect(second.deviceStatus().isOverflow).toBe(true);
    expect((await second.resetLog()).uuid).not.toBe(engine.deviceInfo().uuid);
    expect(second.deviceStatus()).toMatchObject({ isOverflow: false, lsids: { oldest: 0, latest: 0 } });
    expect((await picture(bench, second))[29]).toBe(30);
    await second.close();
    const third = await openOn(bench);
    expect(third.deviceStatus().isOverflow).toBe(false);
    expect((await picture(bench, third))[32]).toBe(30);
  });

  test("with the stop policy refuses writes before it overflows, and takes them again when log is erased", async () => {
    const bench = await makeBench({ ringPb: 60 });
    const engine = await openOn(bench, { overflow: "stop" });
    let failure: WalbError | undefined;
    let count = 0;
    while (failure === undefined && count < 100) {
      failure = await write(bench, engine, count, blocks(4, count + 1));
      count += 1;
    }
    expect(failure?.code).toBe("no-space");
    const { latest } = engine.deviceStatus().lsids;
    expect(latest).toBeGreaterThan(40);
    expect(latest).toBeLessThanOrEqual(60);
    expect(engine.deviceStatus().isOverflow).toBe(false);
    expect((await read(bench, engine, count + 2, 1))[0]).not.toBe(count);
    await engine.checkpoint();
    await engine.setOldest(latest);
    expect(await write(bench, engine, 0, blocks(4, 99))).toBeUndefined();
    expect(await write(bench, engine, 0, blocks(200, 1))).toMatchObject({ code: "no-space" });
    await engine.close();
    expect(bench.memory.leasedBytes).toBe(0);
  });

  test("is erased only up to what is checkpointed, and only at the begin of a pack", async () => {
    const bench = await makeBench();
    const engine = await openOn(bench);
    await write(bench, engine, 0, blocks(4, 1));
    await write(bench, engine, 9, blocks(4, 1));
    const code = (lsid: number) =>
      engine.setOldest(lsid).then(
        () => "done",
        (error: WalbError) => error.code,
      );
    expect(await code(5)).toBe("state");
    await engine.checkpoint();
    expect(await code(3)).toBe("state");
    expect(await code(11)).toBe("state");
    expect(await code(5)).toBe("done");
    expect(superblockOf(bench).oldestLsid).toBe(5);
    expect(await code(0)).toBe("state");
    expect(await code(10)).toBe("done");
  });
});

describe("control", () => {
  test("freeze brings everything to the data store and holds writes, not reads, until melted or timed out", async () => {
    const bench = await makeBench();
    const engine = await openOn(bench);
    await write(bench, engine, 0, blocks(4, 1));
    await engine.freeze();
    const { lsids } = engine.deviceStatus();
    expect(lsids.written).toBe(lsids.latest);
    expect(bench.disk.files.get("data")![0]).toBe(1);
    let isDone = false;
    const pending = write(bench, engine, 0, blocks(4, 2)).then(() => {
      isDone = true;
    });
    await settle();
    expect(isDone).toBe(false);
    expect((await read(bench, engine, 0, 1))[0]).toBe(1);
    expect(await engine.resetLog().catch((error: WalbError) => error.code)).toBe("state");
    engine.melt();
    await pending;
    expect((await read(bench, engine, 0, 1))[0]).toBe(2);
    await engine.freeze({ timeoutMs: 1000 });
    await engine.freeze({ timeoutMs: 3000 });
    const late = write(bench, engine, 0, blocks(4, 3));
    bench.clock.advance(2999);
    expect(engine.isFrozen).toBe(true);
    bench.clock.advance(1);
    await late;
    expect(engine.isFrozen).toBe(false);
  });

  test("resize grows volume and file store durably, and refuses to shrink", async () => {
    const bench = await makeBench();
    const engine = await openOn(bench);
    expect(await engine.resize(100).catch((error: WalbError) => error.code)).toBe("out-of-range");
    expect((await engine.resize(512)).sizeLb).toBe(512);
    expect(engine.sizeBytes).toBe(512 * 512);
    await write(bench, engine, 500, blocks(12, 3));
    await engine.close();
    const second = await openOn(bench);
    expect(second.sizeBytes).toBe(512 * 512);
    expect((await read(bench, second, 511, 1))[0]).toBe(3);
  });

  for (const disturb of ["melt", "freeze and melt", "stop"] as const) {
    test(`a ${disturb} in the middle of a reset lets no write into the log that goes away`, async () => {
      for (let steps = 0; steps < 12; steps += 1) {
        const bench = await makeBench();
        const engine = await openOn(bench);
        await write(bench, engine, 0, blocks(4, 1));
        const fate = new Fate(bench.random);
        bench.disk.hooks.fate = fate;
        const reset = engine.resetLog();
        await settle();
        for (let i = 0; i < steps; i += 1) {
          fate.step();
          await settle();
        }
        const written = write(bench, engine, 2, blocks(4, 2), true);
        let closed: Promise<void> | undefined;
        if (disturb === "stop") closed = engine.close();
        else if (disturb === "freeze and melt") engine.freeze().catch(() => {});
        if (disturb !== "stop") engine.melt();
        await settle();
        bench.disk.hooks.fate = undefined;
        let isOver = false;
        const all = Promise.all([written, reset, closed]).finally(() => {
          isOver = true;
        });
        while (!isOver) {
          fate.step();
          await settle(1);
        }
        expect((await all)[0]).toBeUndefined();
        // A crash now, right behind the answer.
        const after: Bench = { ...bench, disk: new TestDisk({}) };
        for (const [path, bytes] of bench.disk.files) after.disk.files.set(path, bytes.slice());
        const again = await openOn(after);
        expect((await picture(after, again)).slice(0, 7)).toEqual([1, 1, 2, 2, 2, 2, 0]);
        await again.close();
      }
    });
  }

  test("both stores are locked while open, and free after close", async () => {
    const bench = await makeBench();
    const engine = await openOn(bench);
    expect(await openOn(bench).catch((error: WalbError) => [error.code, error.where.volume])).toEqual([
      "locked",
      "vol",
    ]);
    await engine.close();
    await engine.close();
    const second = await openOn(bench);
    expect(await write(bench, engine, 0, blocks(1, 1))).toMatchObject({ code: "state" });
    await second.close();
    expect(bench.disk.locks.size).toBe(0);
    expect(bench.clock.timerCount).toBe(0);
    expect(bench.memory.leasedBytes).toBe(0);
  });

  test("a data store smaller than the volume, or a log that is none, is refused and unlocked", async () => {
    const bench = await makeBench();
    const data = bench.disk.files.get("data")!;
    bench.disk.files.set("data", data.slice(0, 100));
    expect(await openOn(bench).catch((error: WalbError) => error.code)).toBe("out-of-range");
    bench.disk.files.set("data", data);
    const log = bench.disk.files.get("log")!;
    log[4096 + 30]! ^= 1;
    expect(await openOn(bench).catch((error: WalbError) => error.code)).toBe("damaged");
    log.set(new Uint8Array(4096), 4096);
    expect(await openOn(bench).catch((error: WalbError) => error.code)).toBe("bad-format");
    expect(bench.disk.locks.size).toBe(0);
    expect(bench.memory.leasedBytes).toBe(0);
  });

  test("watchers hear of permanent log, at most each 20 ms, and not after they stopped", async () => {
    const bench = await makeBench();
    const engine = await openOn(bench);
    let count = 0;
    const stop = engine.watch(() => {
      count += 1;
    });
    for (let i = 0; i < 5; i += 1) await write(bench, engine, i, blocks(1, 1), true);
    await settle();
    expect(count).toBe(1);
    bench.clock.advance(20);
    await settle();
    expect(count).toBe(2);
    stop();
    bench.clock.advance(100);
    await write(bench, engine, 0, blocks(1, 1), true);
    expect(count).toBe(2);
  });

  test("back-pressure: room shrinks with pending writes and comes back when they are applied", async () => {
    const bench = await makeBench({ ringPb: 4000, sizeLb: 2048 });
    const engine = await openOn(bench, { pendingBudgetBytes: 256 * 1024 });
    const fate = new Fate(bench.random);
    bench.disk.hooks.fate = fate;
    const all = Array.from({ length: 70 }, (_, i) => write(bench, engine, i * 8, blocks(8, i + 1)));
    expect(engine.roomBytes).toBe(0);
    let rooms = 0;
    engine.onRoom(() => {
      rooms += 1;
    });
    await settle();
    expect(rooms).toBe(0);
    for (let i = 0; i < 1000 && rooms === 0; i += 1) {
      fate.step();
      await settle(1);
    }
    expect(rooms).toBe(1);
    expect(engine.roomBytes).toBeGreaterThan(0);
    bench.disk.hooks.fate = undefined;
    while (fate.step());
    expect(await Promise.all(all)).toEqual(all.map(() => undefined));
  });
});

describe("back-pressure begins at the maximum and ends", () => {
  const budget = 256 * 1024;
  const piece = 8 * 512 + 256;
  const count = Math.ceil(budget / piece);
  /** As much as is pending when the first of two parts is on the data store. */
  const secondPart = (count - 20) * piece;

  /** An engine that has stopped to let writes in, with a part of them on the data store. */
  const begin = async (options: Partial<EngineOptions>, stopped: (bench: Bench) => void = () => undefined) => {
    const bench = await makeBench({ ringPb: 4000, sizeLb: 2048 });
    const engine = await openOn(bench, { pendingBudgetBytes: budget, ...options });
    const many = (from: number, to: number) =>
      Array.from({ length: to - from }, (_, i) => write(bench, engine, (from + i) * 8, blocks(8, i + 1)));
    await Promise.all(many(0, 20));
    await flush(engine);
    const fate = new Fate(bench.random);
    bench.disk.hooks.fate = fate;
    const all = many(20, count - 1);
    expect(engine.roomBytes).toBe(budget - (count - 1) * piece);
    all.push(...many(count - 1, count));
    const seen: number[] = [];
    engine.onRoom(() => seen.push(engine.counters.pendingBytes));
    stopped(bench);
    await settle();
    // Nothing more is on the data store: the maximum holds, however long it has taken.
    expect([engine.counters.pendingBytes, engine.roomBytes, seen.length]).toEqual([count * piece, 0, 0]);
    for (let i = 0; i < 1000 && engine.counters.pendingBytes === count * piece; i += 1) {
      fate.step();
      await settle(1);
    }
    expect(engine.counters.pendingBytes).toBe(secondPart);
    const end = async (): Promise<void> => {
      bench.disk.hooks.fate = undefined;
      while (fate.step());
      await Promise.all(all);
      await engine.close();
    };
    return { bench, engine, fate, seen, all, many, end };
  };

  test("below the minimum, not before", async () => {
    const { engine, fate, seen, end } = await begin({ minPendingBytes: secondPart });
    expect([engine.roomBytes, seen]).toEqual([0, []]);
    for (let i = 0; i < 1000 && seen.length === 0; i += 1) {
      fate.step();
      await settle(1);
    }
    expect(seen).toEqual([0]);
    expect(engine.roomBytes).toBe(budget);
    await end();
  });

  test("as soon as it is below the minimum", async () => {
    const { engine, seen, end } = await begin({ minPendingBytes: secondPart + 1 });
    expect(seen).toEqual([secondPart]);
    expect(engine.roomBytes).toBe(budget - secondPart);
    await end();
  });

  test("or when it takes too long and there is room at all", async () => {
    const options = { minPendingBytes: 1, queueStopTimeoutMs: 700 };
    const { bench, engine, seen, all, many, end } = await begin(options, ({ clock }) => clock.advance(699));
    expect([engine.roomBytes, seen]).toEqual([0, []]);
    bench.clock.advance(1);
    await settle();
    expect(seen).toEqual([secondPart]);
    expect(engine.roomBytes).toBe(budget - secondPart);
    // The next time it has not taken too long yet.
    all.push(...many(count, count + 20));
    expect(engine.roomBytes).toBe(0);
    await end();
  });

  test("or with the first room there is, when it has taken too long before", async () => {
    const options = { minPendingBytes: 1, queueStopTimeoutMs: 700 };
    const { engine, seen, end } = await begin(options, ({ clock }) => clock.advance(700));
    expect(seen).toEqual([secondPart]);
    expect(engine.roomBytes).toBe(budget - secondPart);
    await end();
  });
});

test("what a failed sync has left in the page cache of the log alone is not redone: nobody could read it later", async () => {
  const bench = await makeBench();
  const first = await openOn(bench);
  await write(bench, first, 0, blocks(1, 1), true);
  const onDisk = bench.disk.files.get("log")!.slice();
  bench.disk.hooks.fault = (operation, path) => {
    if (operation === "sync" && path === "log") throw new WalbError("io", { what: "EIO" });
  };
  await write(bench, first, 8, blocks(1, 2));
  expect((await flush(first))?.code).toBe("io");
  await first.close();
  bench.disk.hooks.fault = undefined;
  const open = bench.disk.open.bind(bench.disk);
  bench.disk.open = async (path, options) => {
    const forgetCached = (): void => {
      bench.disk.files.set("log", onDisk.slice());
    };
    const file = await open(path, options);
    return path === "log" ? Object.assign(file, { forgetCached }) : file;
  };
  const again = await openOn(bench);
  expect(await picture(bench, again)).toEqual(Array.from({ length: 256 }, (_, i) => (i === 0 ? 1 : 0)));
  expect(again.deviceStatus().lsids.latest).toBe(2);
  await again.close();
});

describe("what goes to the log at once", () => {
  test.each([
    [{}, { packCount: 3, logBatchCount: 1 }],
    [{ maxBatchPacks: 1 }, { packCount: 3, logBatchCount: 3 }],
    [{ maxBatchWrites: 4 }, { packCount: 10, logBatchCount: 10 }],
  ] as const)("is bounded by the tuning %p", async (options, counts) => {
    const bench = await makeBench({ ringPb: 1000 });
    const engine = await openOn(bench, options);
    await Promise.all(Array.from({ length: 40 }, (_, i) => write(bench, engine, i * 2, blocks(1, i + 1))));
    expect(engine.counters).toMatchObject({ writeCount: 40, ...counts });
    await engine.checkpoint();
    for (let i = 0; i < 40; i += 1) expect((await read(bench, engine, i * 2, 1))[0]).toBe(i + 1);
    await engine.close();
  });
});

test("log that is not synced is never more than a start searches for leftovers of a crash, whatever the tuning asks for", async () => {
  const windowBytes = 64 * 1024;
  const bench = await makeBench({ ringPb: 4000, sizeLb: 2048 });
  const open = bench.disk.open.bind(bench.disk);
  let stuck = Promise.resolve();
  bench.disk.open = async (path, options) => {
    const file = await open(path, options);
    const sync = file.sync.bind(file);
    if (path === "log") file.sync = () => stuck.then(sync);
    return file;
  };
  const engine = await openOn(bench, {
    unsyncedWindowBytes: windowBytes,
    logSyncBytes: 2 ** 34,
    logSyncIntervalMs: 86_400_000,
  });
  const { promise, resolve: letGoOn } = Promise.withResolvers<void>();
  stuck = promise;
  let answered = 0;
  const writes = Array.from({ length: 400 }, (_, i) =>
    write(bench, engine, (i * 3) % 2040, blocks(1 + (i % 8), i + 1)).then((error) => {
      expect(error).toBeUndefined();
      answered += 1;
    }),
  );
  await settle();
  const { latest, permanent } = engine.deviceStatus().lsids;
  const unsyncedBytes = (latest - permanent) * 512;
  expect(unsyncedBytes).toBeLessThanOrEqual(windowBytes);
  expect(unsyncedBytes).toBeGreaterThan(windowBytes / 2);
  expect(answered).toBeGreaterThan(0);
  expect(answered).toBeLessThan(writes.length);
  stuck = Promise.resolve();
  letGoOn();
  await Promise.all(writes);
  await engine.close();
});

describe("a write that is synced each time", () => {
  test("is written and synced in one, and no flush behind it waits for another sync", async () => {
    const bench = await makeBench();
    const engine = await openOn(bench);
    const seen: string[] = [];
    bench.disk.hooks.fault = (what, where) => void (where === "log" && seen.push(what));
    for (let i = 0; i < 8; i++) {
      expect(await write(bench, engine, i, blocks(1, 1 + i))).toBeUndefined();
      if (i >= 4) expect(engine.deviceStatus().lsids).toMatchObject({ completed: 2 * i + 2, permanent: 2 * i + 2 });
      expect(await flush(engine)).toBeUndefined();
    }
    expect(seen).toEqual(Array.from({ length: 8 }, () => ["write", "sync"]).flat());
    // As does one that asks for it itself, beside a sync that is under way for others.
    const fate = new Fate(bench.random);
    bench.disk.hooks.fate = fate;
    const all = [9, 10, 11].map((i) => write(bench, engine, i, blocks(1, i), i !== 10));
    for (let i = 0; i < 20; i++) {
      fate.step();
      await settle();
    }
    expect(await Promise.all(all)).toEqual(all.map(() => undefined));
    const { completed, permanent } = engine.deviceStatus().lsids;
    expect(permanent).toBe(completed);
    delete bench.disk.hooks.fate;
    while (fate.step());
    await engine.close();
  });

  test("and whose sync fails is not answered as done, and makes the volume read-only", async () => {
    const bench = await makeBench();
    const engine = await openOn(bench);
    for (let i = 0; i < 6; i++) {
      await write(bench, engine, i, blocks(1, 1 + i));
      await flush(engine);
    }
    bench.disk.hooks.fault = (what, where) => {
      if (what === "sync" && where === "log") throw new WalbError("io", { what: "the disk is broken" });
    };
    expect((await write(bench, engine, 7, blocks(1, 7)))?.code).toBe("read-only");
    expect((await flush(engine))?.code).toBeUndefined();
    expect(engine.readOnlyReason).toContain("the disk is broken");
    await engine.close();
  });
});

describe("a failure", () => {
  const faults = ["log write", "log sync", "data write", "data sync"] as const;
  for (const fault of faults) {
    test(`of a ${fault} makes the volume read-only for good; reads go on and give what was acknowledged`, async () => {
      const bench = await makeBench();
      const engine = await openOn(bench);
      await write(bench, engine, 0, blocks(4, 1));
      await engine.checkpoint();
      await write(bench, engine, 2, blocks(4, 2));
      const [path, operation] = fault.split(" ");
      let isBroken = true;
      bench.disk.hooks.fault = (what, where) => {
        if (isBroken && what === operation && where === path) throw new WalbError("io", { what: "the disk is broken" });
      };
      const outcome = await write(bench, engine, 20, blocks(4, 3));
      if (fault === "log write") expect(outcome?.code).toBe("read-only");
      const flushed = await flush(engine);
      if (fault === "log sync") expect(flushed).toBeInstanceOf(WalbError);
      await engine.checkpoint().catch(() => {});
      isBroken = false;
      expect(engine.readOnlyReason).toContain("the disk is broken");
      expect(engine.deviceStatus().readOnlyReason).toBe(engine.readOnlyReason!);
      expect((await write(bench, engine, 0, blocks(1, 9)))?.code).toBe("read-only");
      expect((await discard(engine, 0, 1))?.code).toBe("read-only");
      expect(engine.resize(1000).catch((error: WalbError) => error.code)).resolves.toBe("read-only");
      const seen = await picture(bench, engine);
      expect(seen.slice(0, 6)).toEqual([1, 1, 2, 2, 2, 2]);
      if (outcome === undefined) expect(seen[20]).toBe(3);
      await engine.close();
      expect(bench.disk.locks.size).toBe(0);
      // The next start redoes what the log holds.
      const second = await openOn(bench);
      expect((await picture(bench, second)).slice(0, 6)).toEqual([1, 1, 2, 2, 2, 2]);
    });
  }

  test("for want of space on the data store says so", async () => {
    const bench = await makeBench();
    const engine = await openOn(bench);
    await write(bench, engine, 0, blocks(4, 1));
    bench.disk.hooks.fault = (what, where) => {
      if (what === "write" && where === "data") throw new WalbError("no-space", { what: "no space left" });
    };
    await engine.checkpoint().catch(() => {});
    expect(engine.readOnlyReason).toContain("no space left");
    expect((await read(bench, engine, 0, 1))[0]).toBe(1);
  });
});

test("direct I/O at 512 bytes keeps alignment, and stores with 4096 fall back where they must", async () => {
  for (const [pbsBytes, alignmentBytes] of [
    [512, 512],
    [4096, 512],
    [4096, 4096],
    [512, 4096],
  ] as const) {
    const bench = await makeBench({ pbsBytes, ringPb: 64, hooks: { alignmentBytes } });
    const engine = await openOn(bench, { direct: true });
    await write(bench, engine, 3, blocks(5, 8));
    await discard(engine, 4, 1);
    await engine.checkpoint();
    const lease = bench.memory.tryLease(4096)!;
    const crooked = lease.slice(8, 1024);
    await new Promise((resolve) => engine.read(3 * 512, crooked, resolve));
    expect([crooked.bytes[0], crooked.bytes[512]]).toEqual([8, 0]);
    lease.release();
    await engine.close();
    const second = await openOn(bench, { direct: true });
    expect((await picture(bench, second)).slice(2, 9)).toEqual([0, 8, 0, 8, 8, 8, 0]);
  }
});

describe("a checkpoint by time", () => {
  /** What happened to the data store, in order. */
  async function checkpointed(fault?: (operation: string) => void) {
    const bench = await makeBench({ sizeLb: 8192, ringPb: 20_000 });
    const engine = await openOn(bench);
    for (let i = 0; i < 4; i += 1) await write(bench, engine, i * 2048, blocks(2047, i + 1));
    await flush(engine);
    bench.clock.advance(50);
    await settle();
    const { written } = engine.deviceStatus().lsids;
    const seen: string[] = [];
    bench.disk.hooks.fault = (operation, path, offsetBytes) => {
      if (path !== "data") return;
      seen.push(operation === "writeBack" ? `writeBack ${offsetBytes / 512}` : operation);
      fault?.(operation);
    };
    expect(written).toBeGreaterThan(4 * 2047);
    bench.clock.advance(10_000);
    await settle(20);
    return { bench, engine, seen, written };
  }

  test("writes the data store back a little at a time before the sync, so that syncs of the log get their turn", async () => {
    const { engine, seen, written } = await checkpointed();
    expect(seen).toEqual(["writeBack 0", "writeBack 2048", "writeBack 4096", "writeBack 6144", "sync"]);
    expect(engine.deviceStatus().lsids.prevWritten).toBe(written);
  });

  test("makes haste as soon as somebody waits for the superblock", async () => {
    const bench = await makeBench({ sizeLb: 8192, ringPb: 20_000 });
    const engine = await openOn(bench);
    for (let i = 0; i < 4; i += 1) await write(bench, engine, i * 2048, blocks(2047, i + 1));
    await flush(engine);
    bench.clock.advance(50);
    await settle();
    const seen: string[] = [];
    let asked: Promise<void> | undefined;
    bench.disk.hooks.fault = (operation, path) => {
      if (path !== "data") return;
      seen.push(operation);
      asked ??= engine.checkpoint();
    };
    bench.clock.advance(10_000);
    await settle(20);
    await asked;
    expect(seen).toEqual(["writeBack", "sync"]);
  });

  test("that hears of a failure while it writes back names nothing in the superblock: the sync would not tell it again", async () => {
    const { bench, engine } = await checkpointed((operation) => {
      if (operation === "writeBack") throw new WalbError("io", { what: "writing back failed" });
    });
    expect(engine.readOnlyReason).toContain("syncing the data store failed");
    expect(superblockOf(bench).writtenLsid).toBe(0);
    expect((await read(bench, engine, 2048, 1))[0]).toBe(2);
  });
});
