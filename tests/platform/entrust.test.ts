import { expect, test } from "bun:test";
import { execFileSync } from "node:child_process";
import { closeSync, openSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { JobAnswer } from "../../src/native/answer.ts";
import { createJobPool, createMemoryPool, type JobPool } from "../../src/native/index.ts";
import { Op } from "../../src/native/layout.ts";
import type { Address, Connection, Entrusted } from "../../src/platform/net.ts";
import { RealDisk } from "../../src/platform/real/disk.ts";
import { createNet } from "../../src/platform/real/net.ts";
import { RealSync } from "../../src/platform/real/sync.ts";
import { withTemporaryDirectory } from "../helpers/temporary.ts";

const net = createNet();
const slowThreads = 4;

/** A pool whose syncs wait until they are let go: its threads for them wait for somebody to write to a pipe. */
class HeldPool {
  readonly pool: JobPool = createJobPool();
  readonly #paths: string[];
  readonly #blockers: Promise<unknown>[] = [];

  constructor(directory: string) {
    const memory = createMemoryPool(1 << 20);
    this.#paths = Array.from({ length: slowThreads }, (_, i) => join(directory, `pipe${i}`));
    for (const path of this.#paths) {
      execFileSync("mkfifo", [path]);
      const lease = memory.tryLease(4096)!;
      lease.bytes.set(new TextEncoder().encode(`${path}\0`));
      this.#blockers.push(this.pool.run({ op: Op.fsyncPath, isSlow: true, address: lease.address }));
    }
  }

  sync(fd: number): RealSync {
    const answer = new JobAnswer();
    const ended = this.pool.run({ op: Op.fdatasync, isSlow: true, fd, answer }).then(({ result }) => {
      if (result < 0) throw new Error(`errno ${-result}`);
    });
    ended.catch(() => undefined);
    return new RealSync(ended, answer);
  }

  async letGo(): Promise<void> {
    for (const path of this.#paths) closeSync(openSync(path, "w"));
    await Promise.all(this.#blockers);
  }
}

/** The end of a connection that reads. */
class Peer {
  bytes: Buffer = Buffer.alloc(0);
  readonly ended = Promise.withResolvers<void>();
  #wake: () => void = () => undefined;

  constructor(readonly connection: Connection) {
    connection.setReader({
      data: (chunk) => {
        this.bytes = Buffer.concat([this.bytes, chunk]);
        this.#wake();
      },
      end: () => this.ended.resolve(),
      closed: () => this.ended.resolve(),
    });
  }

  async get(sizeBytes: number): Promise<string> {
    while (this.bytes.length < sizeBytes) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    return this.bytes.toString();
  }
}

async function withPair(address: Address, use: (ours: Connection, peer: Peer) => Promise<void>): Promise<void> {
  const incoming = Promise.withResolvers<Connection>();
  const listener = await net.listen(address, (connection) => {
    connection.setReader({ data: () => undefined, end: () => undefined, closed: () => undefined });
    incoming.resolve(connection);
  });
  const peer = new Peer(await net.connect(listener.address, { timeoutMs: 5000 }));
  const ours = await incoming.promise;
  try {
    await use(ours, peer);
  } finally {
    ours.close();
    peer.connection.close();
    await listener.close();
  }
}

const tcp: Address = { kind: "tcp", host: "127.0.0.1", port: 0 };
const text = (bytes: string): Uint8Array => new TextEncoder().encode(bytes);

interface Held {
  readonly held: HeldPool;
  readonly fd: number;
  readonly ours: Connection;
  readonly peer: Peer;
}

/** A connection and a pool that holds syncs of a file. */
function withHeld(use: (held: Held) => Promise<void>): () => Promise<void> {
  return () =>
    withTemporaryDirectory(async (directory) => {
      const held = new HeldPool(directory);
      writeFileSync(join(directory, "file"), "data");
      const fd = openSync(join(directory, "file"), "r+");
      await withPair({ kind: "unix", path: join(directory, "socket") }, (ours, peer) => use({ held, fd, ours, peer }));
      await held.pool.close();
      closeSync(fd);
    });
}

test(
  "bytes left to a sync are sent when it has succeeded and not before, behind what was written",
  withHeld(async ({ held, fd, ours, peer }) => {
    ours.write(text("first "));
    const left = ours.entrust?.(text("answer"), held.sync(fd));
    expect(await peer.get(6)).toBe("first ");
    await Bun.sleep(50);
    expect(peer.bytes.toString()).toBe("first ");
    await held.letGo();
    expect(await peer.get(12)).toBe("first answer");
    expect(left?.takeBack()).toBe(false);
    ours.write(text(" last"));
    expect(await peer.get(17)).toBe("first answer last");
  }),
);

test(
  "a sync that fails sends nothing",
  withHeld(async ({ held, ours, peer }) => {
    const sync = held.sync(-1);
    const left = ours.entrust?.(text("answer"), sync);
    expect(left).toBeDefined();
    await held.letGo();
    await expect(sync.ended).rejects.toThrow("errno 9");
    expect(left?.takeBack()).toBe(true);
    ours.write(text("error"));
    ours.end();
    await peer.ended.promise;
    expect(peer.bytes.toString()).toBe("error");
  }),
);

test(
  "bytes can be taken back from a sync that has failed although nobody has heard of it yet",
  withHeld(async ({ held, ours, peer }) => {
    const left = ours.entrust?.(text("answer"), held.sync(-1));
    const letGo = held.letGo();
    Bun.sleepSync(100);
    expect(left?.takeBack()).toBe(true);
    ours.write(text("error"));
    await letGo;
    ours.end();
    await peer.ended.promise;
    expect(peer.bytes.toString()).toBe("error");
  }),
);

test(
  "what is taken back, or has to make way for what is written, is not sent",
  withHeld(async ({ held, fd, ours, peer }) => {
    const [first, second] = [held.sync(fd), held.sync(fd)];
    const left = ours.entrust?.(text("one"), first);
    expect(ours.entrust?.(text("two"), second)).toBeUndefined();
    expect([left?.takeBack(), left?.takeBack()]).toEqual([true, true]);
    const next = ours.entrust?.(text("three"), second);
    ours.write(text("written"));
    expect(next?.takeBack()).toBe(true);
    await held.letGo();
    await Promise.all([first.ended, second.ended]);
    ours.end();
    await peer.ended.promise;
    expect(peer.bytes.toString()).toBe("written");
  }),
);

test(
  "the end of a stream waits for what was left to a sync",
  withHeld(async ({ held, fd, ours, peer }) => {
    ours.entrust?.(text("answer"), held.sync(fd));
    ours.end();
    const drained = ours.drained();
    await Bun.sleep(20);
    await held.letGo();
    await Promise.all([drained, peer.ended.promise]);
    expect(peer.bytes.toString()).toBe("answer");
  }),
);

test(
  "a connection that is closed takes back what was left to a sync, and leaves no descriptor behind",
  withHeld(async ({ held, fd, ours, peer }) => {
    const count = (): number => readdirSync("/proc/self/fd").length;
    const before = count();
    const left = ours.entrust?.(text("answer"), held.sync(fd));
    expect(count()).toBe(before + 1);
    ours.close();
    expect(left?.takeBack()).toBe(true);
    await peer.ended.promise;
    await held.letGo();
    expect(peer.bytes.length).toBe(0);
    expect(count()).toBeLessThan(before);
  }),
);

/** A message: its size, its number, and as many bytes of it. */
function message(number: number, sizeBytes: number): Uint8Array {
  const bytes = new Uint8Array(sizeBytes).fill(number);
  new DataView(bytes.buffer).setUint32(0, sizeBytes);
  new DataView(bytes.buffer).setUint32(4, number);
  return bytes;
}

/** Numbers of the messages. @throws when one is not whole. */
function numbersOf(bytes: Buffer): number[] {
  const numbers: number[] = [];
  for (let at = 0; at < bytes.length; ) {
    const sizeBytes = bytes.readUInt32BE(at);
    const number = bytes.readUInt32BE(at + 4);
    if (!bytes.subarray(at, at + sizeBytes).equals(message(number, sizeBytes))) throw new Error(`torn at ${at}`);
    numbers.push(number);
    at += sizeBytes;
  }
  return numbers;
}

test("what a sync could not send since the peer does not read is sent later, whatever became of the caller's bytes", () =>
  withTemporaryDirectory(async (directory) => {
    const pool = createJobPool();
    const path = join(directory, "file");
    writeFileSync(path, "data");
    const file = await new RealDisk(pool).open(path, { mode: "write" });
    const numbers = Array.from({ length: 2000 }, (_, number) => number);
    let writtenCount = 0;
    await withPair({ kind: "unix", path: join(directory, "socket") }, async (ours, peer) => {
      peer.connection.pause();
      const bytes = new Uint8Array(16);
      for (const number of numbers) {
        bytes.set(message(number, 16));
        const sync = file.beginSync();
        const left = ours.entrust?.(bytes, sync);
        bytes.fill(255);
        await sync.ended;
        if (left !== undefined && !left.takeBack()) continue;
        ours.write(message(number, 16));
        writtenCount++;
      }
      peer.connection.resume();
      ours.end();
      await peer.ended.promise;
      expect(numbersOf(peer.bytes)).toEqual(numbers);
    });
    expect(writtenCount).toBeGreaterThan(100);
    expect(writtenCount).toBeLessThan(1900);
    await file.close();
    await pool.close();
  }));

for (const kind of ["tcp", "unix"] as const) {
  test(`${kind}: each message arrives once and whole, whoever sends it and however slowly the peer reads`, () =>
    withTemporaryDirectory(async (directory) => {
      const pool = createJobPool();
      const path = join(directory, "file");
      writeFileSync(path, "data");
      const file = await new RealDisk(pool).open(path, { mode: "write" });
      const address = kind === "tcp" ? tcp : ({ kind: "unix", path: join(directory, "socket") } as const);
      let state = 1;
      const below = (limit: number): number => {
        state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
        return Math.floor((state / 2 ** 32) * limit);
      };
      let sentBySync = 0;
      let count = 0;
      await withPair(address, async (ours, peer) => {
        const syncs: Promise<void>[] = [];
        const say = (left: Entrusted | undefined, bytes: Uint8Array): void => {
          if (left === undefined || left.takeBack()) ours.write(bytes);
          else sentBySync++;
        };
        for (let round = 0; round < 1500; round++) {
          if (below(3) === 0) ours.write(message(count++, 8 + below(below(20) === 0 ? 300_000 : 100)));
          if (below(40) === 0) peer.connection.pause();
          if (below(20) === 0) peer.connection.resume();
          const bytes = message(count++, 16);
          const sync = file.beginSync();
          const left = ours.entrust?.(bytes, sync);
          if (below(8) === 0) say(left, bytes);
          else syncs.push(sync.ended.then(() => say(left, bytes)));
          if (below(3) > 0) await sync.ended;
        }
        await Promise.all(syncs);
        peer.connection.resume();
        ours.end();
        await peer.ended.promise;
        expect(numbersOf(peer.bytes).sort((a, b) => a - b)).toEqual(Array.from({ length: count }, (_, i) => i));
      });
      expect(sentBySync).toBeGreaterThan(100);
      await file.close();
      await pool.close();
    }));
}
