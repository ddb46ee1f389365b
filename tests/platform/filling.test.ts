/** @module Large pieces of memory that a thread fills from a socket. */
import { describe, expect, test } from "bun:test";
import type { Lease } from "../../src/native/memory.ts";
import { createMemoryPool } from "../../src/native/slabs.ts";
import type { Connection, ConnectionReader } from "../../src/platform/net.ts";
import { createClock } from "../../src/platform/real/clock.ts";
import { createNet } from "../../src/platform/real/net.ts";
import { kib, mib } from "../../src/units.ts";
import { Encoder } from "../../src/wire/serializer.ts";
import { WireStream } from "../../src/wire/stream.ts";
import { numbers } from "../helpers/numbers.ts";
import { withSocketPair } from "../helpers/socket-pair.ts";

const net = createNet();
const clock = createClock();
const pool = createMemoryPool(64 * mib);
const edgeBytes = 64;

function noise(sizeBytes: number, next: (limit: number) => number): Uint8Array {
  const bytes = new Uint8Array(sizeBytes);
  for (let i = 0; i < sizeBytes; i += 97) bytes[i] = next(256);
  return bytes;
}

const withPair = (kind: string, use: (client: Connection, server: Connection) => Promise<void>): Promise<void> =>
  withSocketPair(net, kind, use);

/** In pieces of any size, as fast as the peer takes them or with pauses. */
async function sendAll(connection: Connection, bytes: Uint8Array, next: (limit: number) => number): Promise<void> {
  for (let at = 0; at < bytes.length; ) {
    const end = Math.min(bytes.length, at + 1 + next(next(3) === 0 ? 100 : 400 * kib));
    connection.write(bytes.subarray(at, end));
    await connection.drained();
    if (next(10) === 0) await Bun.sleep(1);
    at = end;
  }
}

/** Memory in the middle of a lease whose edges tell when something is written beside it. */
function edged(sizeBytes: number): { lease: Lease; check(): void } {
  const lease = pool.tryLease(sizeBytes + 2 * edgeBytes)!;
  lease.bytes.fill(0xee);
  return {
    lease,
    check() {
      expect(lease.bytes.subarray(0, edgeBytes).every((byte) => byte === 0xee)).toBe(true);
      expect(lease.bytes.subarray(edgeBytes + sizeBytes).every((byte) => byte === 0xee)).toBe(true);
    },
  };
}

const codeOf = (work: Promise<void>): Promise<string> =>
  work.then(
    () => "complete",
    (error) => error.code,
  );

/** Takes one piece, and pauses all the time. */
class PausingReader implements ConnectionReader {
  usedBytes = 0;
  fills = 0;
  rest: Uint8Array = new Uint8Array(0);

  constructor(
    readonly connection: Connection,
    readonly lease: Lease,
  ) {}

  target(): Uint8Array | undefined {
    return this.usedBytes < this.lease.sizeBytes ? this.lease.bytes.subarray(this.usedBytes) : undefined;
  }

  targetAddress(): number {
    return this.lease.address + this.usedBytes;
  }

  filled(sizeBytes: number): void {
    this.usedBytes += sizeBytes;
    this.fills += 1;
  }

  data(chunk: Uint8Array): void {
    const part = chunk.subarray(0, this.lease.sizeBytes - this.usedBytes);
    this.lease.bytes.set(part, this.usedBytes);
    this.usedBytes += part.length;
    this.rest = new Uint8Array(Buffer.concat([this.rest, chunk.subarray(part.length)]));
  }

  end(): void {}
  closed(): void {}
}

describe.each(["tcp", "unix"])("memory that a thread fills from a socket of %s", (kind) => {
  test("gets its bytes and no others, between values and pieces that are too small for it", async () => {
    await withPair(kind, async (client, server) => {
      const next = numbers(3);
      const sizes = Array.from({ length: 60 }, () => 1 + next(next(3) === 0 ? 300 : 1500 * kib));
      const pieces = sizes.map((size) => noise(size, next));
      const framed = pieces.flatMap((piece) => [new Encoder().u32(piece.length).view().slice(), piece]);
      const stream = new WireStream(server, { clock, deadlineMs: 60_000 });
      const sent = sendAll(client, Buffer.concat(framed), next).then(() => client.end());
      for (const piece of pieces) {
        const { lease, check } = edged(await stream.readU32("a size"));
        await stream.readMemory(lease.slice(edgeBytes, piece.length), "a piece");
        expect(Buffer.compare(lease.bytes.subarray(edgeBytes, edgeBytes + piece.length), piece)).toBe(0);
        check();
        lease.release();
      }
      await sent;
      await stream.finish(5000);
      expect(stream.failure?.code).toBe("cancelled");
    });
  }, 60_000);

  test("goes on where it was after pauses in the middle", async () => {
    await withPair(kind, async (client, server) => {
      const next = numbers(4);
      const lease = pool.tryLease(6 * mib)!;
      const bytes = noise(lease.sizeBytes + 1000, next);
      const reader = new PausingReader(server, lease);
      server.setReader(reader);
      const sent = sendAll(client, bytes, next);
      while (reader.usedBytes + reader.rest.length < bytes.length) {
        server.pause();
        const { usedBytes } = reader;
        await Bun.sleep(next(3));
        expect(reader.usedBytes).toBe(usedBytes);
        server.resume();
        await Bun.sleep(next(3));
      }
      await sent;
      expect(Buffer.compare(Buffer.concat([lease.bytes, reader.rest]), bytes)).toBe(0);
      expect(reader.fills).toBeGreaterThan(1);
      lease.release();
    });
  }, 60_000);

  test("is left alone from the moment a peer is given up that sends too little", async () => {
    await withPair(kind, async (client, server) => {
      const stream = new WireStream(server, { clock, deadlineMs: 300 });
      const lease = pool.tryLease(2 * mib)!;
      const reading = codeOf(stream.readMemory(lease, "a piece"));
      client.write(new Uint8Array(40 * kib).fill(1));
      expect(await reading).toBe("timed-out");
      lease.bytes.fill(7);
      client.write(new Uint8Array(mib).fill(1));
      await Bun.sleep(50);
      expect(lease.bytes.every((byte) => byte === 7)).toBe(true);
      lease.release();
    });
  });

  test("waits for a peer that is slow for as long as something comes", async () => {
    await withPair(kind, async (client, server) => {
      const stream = new WireStream(server, { clock, deadlineMs: 1000 });
      const lease = pool.tryLease(2 * mib)!;
      const reading = codeOf(stream.readMemory(lease, "a piece"));
      for (let at = 0; at < lease.sizeBytes; at += 128 * kib) {
        client.write(new Uint8Array(128 * kib).fill(at >> 17));
        await Bun.sleep(200);
      }
      expect(await reading).toBe("complete");
      for (let at = 0; at < lease.sizeBytes; at += 128 * kib) expect(lease.bytes[at]).toBe(at >> 17);
      lease.release();
    });
  }, 60_000);

  test("is left alone after a break in the middle, and the break is told", async () => {
    await withPair(kind, async (client, server) => {
      const stream = new WireStream(server, { clock, deadlineMs: 60_000 });
      const lease = pool.tryLease(2 * mib)!;
      const reading = codeOf(stream.readMemory(lease, "a piece"));
      client.write(new Uint8Array(mib).fill(1));
      await Bun.sleep(20);
      client.close();
      expect(await reading).toBe("unreachable");
      stream.close();
      lease.release();
    });
  });
});

test("more sockets than are filled at a time all get their pieces", async () => {
  const count = 80;
  const accepted: Connection[] = [];
  const all = Promise.withResolvers<void>();
  const listener = await net.listen({ kind: "tcp", host: "127.0.0.1", port: 0 }, (connection) => {
    accepted.push(connection);
    if (accepted.length === count) all.resolve();
  });
  const clients = await Promise.all(
    Array.from({ length: count }, () => net.connect(listener.address, { timeoutMs: 30_000 })),
  );
  await all.promise;
  const leases = accepted.map(() => pool.tryLease(300 * kib)!);
  const readings = accepted.map((connection, i) => {
    const stream = new WireStream(connection, { clock, deadlineMs: 60_000 });
    return stream.readMemory(leases[i]!, "a piece");
  });
  await Promise.all(
    clients.map((client) => client.send(new Uint8Array(300 * kib).fill(5)).then(() => client.drained())),
  );
  await Promise.all(readings);
  for (const lease of leases) {
    expect(lease.bytes.every((byte) => byte === 5)).toBe(true);
    lease.release();
  }
  for (const connection of [...clients, ...accepted]) connection.close();
  await listener.close();
  expect(pool.leasedBytes).toBe(0);
}, 60_000);
