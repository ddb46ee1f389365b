import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { WalbError } from "../../../src/errors.ts";
import { goData, metaData, optionBytes, RawNbd, request, u32 } from "./raw.ts";
import { ManualClock, platform, type Setup, setup, until } from "./setup.ts";

const [read, write, disc, flush, trim, cache, zeroes, status] = [0, 1, 2, 3, 4, 5, 6, 7];
const [perm, io, inval, nospc, notsup] = [1, 5, 22, 28, 95];
const fua = 1;
const mib = 1024 * 1024;
const sizeBytes = 64 * mib;

describe("an NBD connection in transmission", () => {
  let at: Setup;
  beforeEach(async () => {
    at = await setup();
  });
  afterEach(async () => {
    await at.close();
    expect(at.pool.leasedBytes).toBe(0);
    expect(at.volume.pending).toBe(0);
  });

  const go = (structured = false): Promise<RawNbd> => RawNbd.go(platform.net, at.address, "vol0", { structured });

  test("refuses by the book and goes on", async () => {
    for (const structured of [false, true]) {
      const client = await go(structured);
      const cases: [why: string, type: number, offset: number | bigint, size: number, flags: number, error: number][] =
        [
          ["unaligned offset", read, 1, 512, 0, inval],
          ["unaligned length", read, 0, 513, 0, inval],
          ["zero length", read, 0, 0, 0, inval],
          ["read beyond the end", read, sizeBytes - 512, 1024, 0, inval],
          ["read far beyond", read, 2n ** 63n, 512, 0, inval],
          ["read too long", read, 0, 32 * mib + 512, 0, inval],
          ["unknown command", 77, 0, 512, 0, inval],
          ["resize", 8, 0, 512, 0, inval],
          ["unknown flag", read, 0, 512, 64, inval],
          ["flag of another command", flush, 0, 0, 2, inval],
          ["trim unaligned", trim, 100, 512, 0, inval],
          ["trim beyond the end", trim, sizeBytes, 512, 0, inval],
          ["zeroes beyond the end", zeroes, sizeBytes - 512, 1024, 0, nospc],
          ["zeroes unaligned", zeroes, 0, 100, 0, inval],
          ["fast zero", zeroes, 0, 4096, 16, notsup],
          ["flush with a length", flush, 0, 512, 0, inval],
          ["cache beyond the end", cache, sizeBytes, 512, 0, inval],
          ["status without context", status, 0, 512, 0, structured ? 0 : inval],
          ["status beyond the end", status, sizeBytes, 512, 0, inval],
          ["do not fragment", read, 0, 512, 4, structured ? 0 : inval],
          ["cache", cache, 0, 512, 0, 0],
          ["flush", flush, 0, 0, 0, 0],
        ];
      let handle = 1;
      for (const [why, type, offset, size, flags, error] of cases) {
        client.send(request(type, ++handle, offset, size, flags));
        const reply = await client.reply(handle, type === read ? 512 : 0);
        expect([why, reply.error]).toEqual([why, error]);
      }
      client.connection.close();
    }
  });

  test("refuses writes with their payload swallowed, however long it is", async () => {
    const client = await go();
    const cases: [offset: number, size: number, flags: number, error: number][] = [
      [1, 512, 0, inval],
      [0, 700, 0, inval],
      [sizeBytes - 512, 1024, 0, nospc],
      [sizeBytes + 512, 4096, 0, nospc],
      [0, 33 * mib, 0, inval],
      [0, 512, 2, inval],
      [0, 512, 0, 0],
    ];
    let handle = 0;
    for (const [offset, size, flags, error] of cases) {
      client.send(request(write, ++handle, offset, size, flags, Buffer.alloc(size, 9)));
      expect((await client.reply(handle)).error).toBe(error);
    }
    expect(at.volume.calls).toEqual(["write"]);
    client.connection.close();
  });

  test("maps failures of the volume to error numbers", async () => {
    for (const structured of [false, true]) {
      const client = await go(structured);
      for (const [code, error] of [
        ["io", io],
        ["no-space", nospc],
        ["read-only", perm],
      ] as const) {
        at.volume.failWith = new WalbError(code, { what: "made to fail" });
        client.send(request(write, 1, 0, 512, 0, Buffer.alloc(512)));
        expect((await client.reply(1)).error).toBe(error);
        client.send(request(read, 2, 0, 8192));
        expect((await client.reply(2)).error).toBe(error);
        client.send(request(flush, 3, 0, 0));
        expect((await client.reply(3)).error).toBe(error);
      }
      at.volume.failWith = undefined;
      at.volume.readOnlyReason = "the log failed";
      client.send(request(write, 4, 0, 512, 0, Buffer.alloc(512)));
      expect((await client.reply(4)).error).toBe(perm);
      client.send(request(read, 5, 0, 512));
      expect((await client.reply(5, 512)).error).toBe(0);
      at.volume.readOnlyReason = undefined;
      client.connection.close();
    }
  });

  test("hands FUA on, and makes long zeroes durable with one flush", async () => {
    const client = await go();
    client.send(request(write, 1, 0, 512, fua, Buffer.alloc(512)));
    client.send(request(trim, 2, 4096, 4096, fua));
    client.send(request(zeroes, 3, 8192, 4096, fua | 2));
    client.send(request(zeroes, 4, 0, 20 * mib, fua));
    for (const handle of [1, 2, 3, 4]) expect((await client.reply(handle)).error).toBe(0);
    expect(at.volume.calls).toEqual(expect.arrayContaining(["write fua", "discard fua", "zero fua"]));
    expect(at.volume.calls.filter((call) => call === "zero").length).toBe(3);
    expect(at.volume.calls.at(-1)).toBe("flush");
    client.connection.close();
  });

  test("tells extents, one when asked for one", async () => {
    const client = await go(true);
    client.send(request(write, 1, 8192, 4096, 0, Buffer.alloc(4096, 1)));
    await client.reply(1);
    client.send(request(status, 2, 4096, 16384));
    const { payload, type } = await client.reply(2);
    expect(type).toBe(5);
    const words = Array.from({ length: payload.length / 4 }, (_, i) => Buffer.from(payload).readUInt32BE(4 * i));
    expect(words).toEqual([1, 4096, 3, 4096, 0, 8192, 3]);
    client.send(request(status, 3, 4096, 16384, 8));
    expect((await client.reply(3)).payload.length).toBe(12);
    client.connection.close();
  });

  test("a request without its magic number closes the connection and is reported", async () => {
    const client = await go();
    client.send(request(write, 1, 0, 4096, 0, Buffer.alloc(4096)));
    client.send(Buffer.alloc(28, 3));
    await client.gone();
    expect(at.problems.map((problem) => problem.code)).toEqual(["protocol"]);
    expect(at.problems[0]!.where.volume).toBe("vol0");
  });

  test("DISC is answered with everything asked before", async () => {
    const client = await go();
    at.volume.isHeld = true;
    for (let handle = 1; handle <= 20; handle++) client.send(request(write, handle, 0, 512, 0, Buffer.alloc(512)));
    client.send(request(disc, 21, 0, 0));
    await until("all arrived", () => at.volume.pending === 20);
    expect(at.server.connectionsOf("vol0")).toBe(1);
    at.volume.release();
    for (let handle = 1; handle <= 20; handle++) expect((await client.reply(handle)).error).toBe(0);
    await client.gone();
    await until("the connection is gone", () => at.server.connectionsOf("vol0") === 0);
  });

  test("a client that has ended its side still gets its answers", async () => {
    const client = await go();
    for (let handle = 1; handle <= 300; handle++) {
      client.send(request(write, handle, handle * 512, 512, 0, Buffer.alloc(512)));
    }
    client.connection.end();
    for (let handle = 1; handle <= 300; handle++) expect((await client.reply(handle)).error).toBe(0);
    await client.gone();
  });

  test("disconnecting a volume waits for its requests and takes no more", async () => {
    const client = await go();
    at.volume.isHeld = true;
    client.send(request(write, 1, 0, 512, 0, Buffer.alloc(512)));
    await until("it arrived", () => at.volume.pending === 1);
    let isDone = false;
    const done = at.server.disconnect("vol0").then(() => {
      isDone = true;
    });
    client.send(request(write, 2, 0, 512, 0, Buffer.alloc(512)));
    await Bun.sleep(30);
    expect([isDone, at.volume.pending]).toEqual([false, 1]);
    at.volume.release();
    expect((await client.reply(1)).error).toBe(0);
    await client.gone();
    await done;
    expect(at.volume.calls).toEqual(["write"]);
  });

  test("a connection has at most 256 requests under way", async () => {
    const client = await go();
    at.volume.isHeld = true;
    const all = Array.from({ length: 1000 }, (_, i) => request(read, i, 0, 512));
    client.send(Buffer.concat(all));
    await until("the bound is reached", () => at.volume.pending === 256);
    await Bun.sleep(20);
    expect(at.volume.pending).toBe(256);
    at.volume.release();
    for (let handle = 0; handle < 1000; handle++) expect((await client.reply(handle, 512)).error).toBe(0);
    client.connection.close();
  });

  test("a client that does not read its answers holds bounded memory and hinders nobody", async () => {
    const lazy = await go();
    lazy.connection.pause();
    lazy.send(Buffer.concat(Array.from({ length: 200 }, (_, i) => request(read, i, 0, mib))));
    await until("memory is held", () => at.pool.leasedBytes >= 32 * mib);
    const other = await go();
    other.send(request(write, 1, 0, 4096, 0, Buffer.alloc(4096)));
    expect((await other.reply(1)).error).toBe(0);
    expect(at.pool.highestBytes).toBeLessThanOrEqual(66 * mib);
    lazy.connection.resume();
    for (let handle = 0; handle < 200; handle++) expect((await lazy.reply(handle, mib)).error).toBe(0);
    lazy.connection.close();
    other.connection.close();
  });

  test("writes wait for room in the volume", async () => {
    const client = await go();
    at.volume.roomBytes = 0;
    client.send(request(write, 1, 0, 4096, 0, Buffer.alloc(4096, 5)));
    client.send(request(trim, 2, 0, 4096));
    await Bun.sleep(20);
    expect(at.volume.calls).toEqual([]);
    // Another request that finishes makes room.
    at.volume.roomBytes = mib;
    const other = await go();
    other.send(request(write, 1, 8192, 4096, 0, Buffer.alloc(4096)));
    expect((await other.reply(1)).error).toBe(0);
    expect((await client.reply(1)).error).toBe(0);
    expect((await client.reply(2)).error).toBe(0);
    client.connection.close();
    other.connection.close();
  });
});

describe("NBD memory", () => {
  test("writes that wait for room are refused when the volume fails, although there will never be room", async () => {
    const at = await setup();
    at.volume.roomBytes = 0;
    const client = await RawNbd.go(platform.net, at.address, "vol0");
    client.send(request(write, 1, 0, 4096, 0, Buffer.alloc(4096)));
    client.send(request(zeroes, 2, 0, 20 * mib));
    await Bun.sleep(20);
    at.volume.fail("the log failed");
    expect((await client.reply(1)).error).toBe(perm);
    expect((await client.reply(2)).error).toBe(perm);
    client.connection.close();
    await at.close();
    expect(at.pool.leasedBytes).toBe(0);
  });

  test("clients of one volume that read no answers do not hinder those of another", async () => {
    const at = await setup(["vol0", "vol1"], 128 * mib);
    const lazy = await Promise.all(Array.from({ length: 8 }, () => RawNbd.go(platform.net, at.address, "vol0")));
    for (const client of lazy) {
      client.connection.pause();
      client.send(Buffer.concat(Array.from({ length: 64 }, (_, i) => request(read, i, 0, mib))));
    }
    await until("memory is held", () => at.pool.leasedBytes >= 60 * mib);
    const other = await RawNbd.go(platform.net, at.address, "vol1");
    for (let handle = 0; handle < 2; handle++) {
      other.send(request(write, handle, 0, 32 * mib, 0, Buffer.alloc(32 * mib)));
      expect((await other.reply(handle)).error).toBe(0);
    }
    for (const client of [...lazy, other]) client.connection.close();
    await at.close();
    expect(at.pool.leasedBytes).toBe(0);
  });

  test("clients that vanish while they wait for memory, or for somebody to read, leave nothing behind", async () => {
    const at = await setup(["vol0"], 128 * mib);
    const lazy = await Promise.all(Array.from({ length: 12 }, () => RawNbd.go(platform.net, at.address, "vol0")));
    for (const client of lazy) {
      client.connection.pause();
      client.send(Buffer.concat([request(read, 1, 0, 32 * mib), request(read, 2, 0, 32 * mib)]));
    }
    await until("memory is held", () => at.pool.leasedBytes >= 90 * mib);
    for (const client of lazy) client.connection.close();
    await until("their memory is back", () => at.pool.leasedBytes === 0);
    await until("they are gone", () => at.server.connectionsOf("vol0") === 0);
    await at.close();
  });

  test("a pool far smaller than what clients ask for is never exceeded, and all is answered", async () => {
    const at = await setup(["vol0"], 256 * 1024);
    const clients = await Promise.all(
      Array.from({ length: 4 }, () => RawNbd.go(platform.net, at.address, "vol0", { structured: true })),
    );
    await Promise.all(
      clients.map(async (client, c) => {
        for (let i = 0; i < 64; i++) {
          const offset = (c * 64 + i) * 65536;
          client.send(request(write, i, offset, 65536, 0, Buffer.alloc(65536, c * 64 + i)));
        }
        for (let i = 0; i < 64; i++) expect((await client.reply(i)).error).toBe(0);
        for (let i = 0; i < 64; i++) client.send(request(read, i, (c * 64 + i) * 65536, 65536));
        for (let i = 0; i < 64; i++) {
          const { payload } = await client.reply(i);
          expect(payload.subarray(8).every((byte) => byte === c * 64 + i)).toBe(true);
        }
        client.connection.close();
      }),
    );
    expect(at.pool.highestBytes).toBeLessThanOrEqual(256 * 1024);
    await at.close();
    expect(at.pool.leasedBytes).toBe(0);
  });

  test("a client that vanishes or ends at any byte leaves nothing behind", async () => {
    const at = await setup();
    const session = Buffer.concat([
      u32(3),
      optionBytes(3, Buffer.alloc(0)),
      optionBytes(8, Buffer.alloc(0)),
      optionBytes(10, metaData("vol0", ["base:allocation"])),
      optionBytes(7, goData("vol0")),
      request(write, 1, 0, 8192, 0, Buffer.alloc(8192, 1)),
      request(read, 2, 0, 65536),
      request(write, 3, 1, 512, 0, Buffer.alloc(512, 1)),
      request(status, 4, 0, 65536),
      request(zeroes, 5, 0, 65536),
      request(disc, 6, 0, 0),
    ]);
    const cuts = new Set([0, 1, 4, 5, session.length - 1, session.length]);
    for (let i = 0; i < 120; i++) cuts.add(Math.floor(Math.random() * session.length));
    let opened = 0;
    for (const cut of cuts) {
      const client = await RawNbd.open(platform.net, at.address);
      opened++;
      client.send(session.subarray(0, cut));
      if (Math.random() < 0.5) await Bun.sleep(Math.random() * 4);
      if (Math.random() < 0.5) client.connection.end();
      else client.connection.close();
      if (!client.connection.isClosed) await client.gone();
    }
    expect(opened).toBe(cuts.size);
    await until("no lease is left", () => at.pool.leasedBytes === 0 && at.volume.pending === 0);
    await until("no connection is left", () => at.server.connectionsOf("vol0") === 0);
    await at.close();
    expect(at.problems.map((problem) => problem.message)).toEqual([]);
  });
});

describe("NBD clients that hang", () => {
  const minute = 60_000;
  /** How often the server looks at clients that hold memory. */
  const lookMs = 5_000;
  /** Lets time go by for them, with nothing happening meanwhile. */
  const pass = (clock: ManualClock, ms: number): void => {
    for (let i = 0; i < ms / lookMs; i++) clock.fire(lookMs);
  };

  test("one that never chooses a volume is cut off after a minute", async () => {
    const clock = new ManualClock();
    const at = await setup(["vol0"], 64 * mib, clock);
    const client = await RawNbd.open(platform.net, at.address);
    await client.greet();
    const chosen = await RawNbd.go(platform.net, at.address, "vol0");
    expect(clock.fire(minute)).toBe(1);
    await client.gone();
    expect(chosen.isClosed || chosen.hasEnded).toBe(false);
    chosen.connection.close();
    await at.close();
  });

  test("one that stops in the middle of its data is cut off after five, one that goes on is not", async () => {
    const clock = new ManualClock();
    const at = await setup(["vol0"], 64 * mib, clock);
    const client = await RawNbd.go(platform.net, at.address, "vol0");
    const whole = request(write, 1, 0, 65536, 0, Buffer.alloc(65536));
    client.send(whole.subarray(0, 1000));
    await until("the data has its memory", () => at.pool.leasedBytes === 65536);
    client.send(whole.subarray(1000, 30_000));
    await Bun.sleep(30);
    pass(clock, 5 * minute);
    await Bun.sleep(10);
    expect(client.isClosed || client.hasEnded).toBe(false);
    pass(clock, lookMs);
    await client.gone();
    expect(at.problems.map((problem) => problem.code)).toEqual(["timed-out"]);
    await at.close();
    expect(at.pool.leasedBytes).toBe(0);
  });

  test("one that reads no answers is cut off after five, and its memory comes back", async () => {
    const clock = new ManualClock();
    const at = await setup(["vol0"], 64 * mib, clock);
    const client = await RawNbd.go(platform.net, at.address, "vol0");
    client.connection.pause();
    for (let handle = 0; handle < 8; handle++) client.send(request(read, handle, 0, 4 * mib));
    await until("answers are stuck", () => at.volume.pending === 0 && at.pool.leasedBytes >= 24 * mib);
    await Bun.sleep(20);
    pass(clock, 5 * minute - lookMs);
    expect(at.problems).toEqual([]);
    pass(clock, 2 * lookMs);
    await until("its memory is back", () => at.pool.leasedBytes === 0);
    expect(at.problems.map((problem) => problem.code)).toEqual(["timed-out"]);
    client.connection.close();
    await at.close();
  });

  test("one that reads no answers leaves memory for other clients of its volume, at once", async () => {
    const at = await setup(["vol0"], 64 * mib, new ManualClock());
    const lazy = await RawNbd.go(platform.net, at.address, "vol0");
    lazy.connection.pause();
    lazy.send(Buffer.concat(Array.from({ length: 64 }, (_, i) => request(read, i, 0, mib))));
    await until("answers are stuck", () => at.volume.pending === 0 && at.pool.leasedBytes >= 20 * mib);
    const other = await RawNbd.go(platform.net, at.address, "vol0");
    for (let handle = 0; handle < 20; handle++) {
      other.send(request(write, handle, 0, 4 * mib, 0, Buffer.alloc(4 * mib, handle)));
      expect((await other.reply(handle)).error).toBe(0);
    }
    for (const client of [lazy, other]) client.connection.close();
    await at.close();
    expect(at.pool.leasedBytes).toBe(0);
  });

  test("many that read no answers are cut off within seconds when another client of the volume waits for memory", async () => {
    const clock = new ManualClock();
    const at = await setup(["vol0"], 64 * mib, clock);
    const lazy = await Promise.all(Array.from({ length: 3 }, () => RawNbd.go(platform.net, at.address, "vol0")));
    for (const client of lazy) {
      client.connection.pause();
      client.send(Buffer.concat(Array.from({ length: 4 }, (_, i) => request(read, i, 0, 8 * mib))));
    }
    await until("answers are stuck", () => at.volume.pending === 0 && at.pool.leasedBytes >= 32 * mib);
    // Nobody who could use it waits: they are left alone.
    pass(clock, minute);
    expect(at.problems).toEqual([]);
    const other = await RawNbd.go(platform.net, at.address, "vol0");
    other.send(request(write, 1, 0, 32 * mib, 0, Buffer.alloc(32 * mib, 1)));
    await Bun.sleep(50);
    pass(clock, 3 * lookMs);
    expect((await other.reply(1)).error).toBe(0);
    expect(at.problems.map((problem) => problem.code)).toContain("timed-out");
    for (const client of [...lazy, other]) client.connection.close();
    await at.close();
    expect(at.pool.leasedBytes).toBe(0);
  });
});
