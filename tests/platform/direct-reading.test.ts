import { describe, expect, test } from "bun:test";
import type { Connection, ConnectionReader } from "../../src/platform/net.ts";
import { createClock } from "../../src/platform/real/clock.ts";
import { createNet } from "../../src/platform/real/net.ts";
import { kib } from "../../src/units.ts";
import { WireStream } from "../../src/wire/stream.ts";
import { numbers } from "../helpers/numbers.ts";
import { withSocketPair } from "../helpers/socket-pair.ts";

const net = createNet();

/** Frames: u32 size, then that many bytes. Runs of small ones between large ones, as commands and data come. */
function makeFrames(seed: number, count: number): Uint8Array[] {
  const next = numbers(seed);
  let smallRun = 0;
  return Array.from({ length: count }, () => {
    if (smallRun === 0 && next(40) === 0) smallRun = 200;
    const isSmall = smallRun > 0;
    if (isSmall) smallRun -= 1;
    const frame = new Uint8Array(1 + (isSmall ? next(64) : next(200 * kib)));
    for (let i = 0; i < frame.length; i += 7) frame[i] = next(256);
    return frame;
  });
}

async function sendFrames(connection: Connection, frames: readonly Uint8Array[], seed: number): Promise<void> {
  const next = numbers(seed);
  const all = Buffer.concat(frames.flatMap((frame) => [new Uint8Array(new Uint32Array([frame.length]).buffer), frame]));
  for (let at = 0; at < all.length; ) {
    const end = Math.min(all.length, at + 1 + next(next(3) === 0 ? 100 : 150 * kib));
    connection.write(all.subarray(at, end));
    await connection.drained();
    if (next(20) === 0) await Bun.sleep(1);
    at = end;
  }
}

/** A reader of frames that has large ones put straight where they belong, and pauses now and then. */
class FrameReader implements ConnectionReader {
  readonly frames: Uint8Array[] = [];
  directBytes = 0;
  readonly done = Promise.withResolvers<void>();
  events: string[] = [];
  #kept: Uint8Array = new Uint8Array(0);
  #frame: Uint8Array | undefined;
  #frameUsed = 0;
  #asked: Uint8Array | undefined;

  constructor(
    readonly connection: Connection,
    readonly next: (limit: number) => number,
  ) {}

  target(): Uint8Array | undefined {
    this.#asked = this.#frame?.subarray(this.#frameUsed);
    return this.#asked;
  }

  filled(sizeBytes: number): void {
    expect(sizeBytes).toBeLessThanOrEqual(this.#asked!.length);
    this.#frameUsed += sizeBytes;
    this.directBytes += sizeBytes;
    this.#take(new Uint8Array(0));
  }

  data(chunk: Uint8Array): void {
    this.#take(chunk);
  }

  #take(chunk: Uint8Array): void {
    let rest = this.#kept.length === 0 ? chunk : new Uint8Array(Buffer.concat([this.#kept, chunk]));
    for (;;) {
      if (this.#frame !== undefined) {
        const part = rest.subarray(0, this.#frame.length - this.#frameUsed);
        this.#frame.set(part, this.#frameUsed);
        this.#frameUsed += part.length;
        rest = rest.subarray(part.length);
        if (this.#frameUsed < this.#frame.length) break;
        this.frames.push(this.#frame);
        this.#frame = undefined;
      }
      if (rest.length < 4) break;
      this.#frame = new Uint8Array(new DataView(rest.buffer, rest.byteOffset).getUint32(0, true));
      this.#frameUsed = 0;
      rest = rest.subarray(4);
    }
    this.#kept = rest.slice();
    if (this.next(8) !== 0) return;
    this.connection.pause();
    setTimeout(() => this.connection.resume(), this.next(2));
  }

  end(): void {
    this.events.push("end");
  }

  closed(error: Error | undefined): void {
    this.events.push(error === undefined ? "closed" : "broken");
    this.done.resolve();
  }
}

const withPair = (kind: string, use: (client: Connection, server: Connection) => Promise<void>): Promise<void> =>
  withSocketPair(net, kind, use);

function sameFrames(got: readonly Uint8Array[], sent: readonly Uint8Array[]): void {
  expect(got.length).toBe(sent.length);
  expect(got.every((frame, i) => Buffer.compare(frame, sent[i]!) === 0)).toBe(true);
}

describe.each(["tcp", "unix"])("a socket of %s that is read straight into the reader's memory", (kind) => {
  test("gives every byte in order, however it comes and whenever the reader pauses", async () => {
    for (const seed of [1, 2, 3]) {
      await withPair(kind, async (client, server) => {
        const frames = makeFrames(seed, 600);
        const reader = new FrameReader(server, numbers(seed + 100));
        server.setReader(reader);
        await sendFrames(client, frames, seed);
        client.end();
        while (!reader.events.includes("end")) await Bun.sleep(1);
        sameFrames(reader.frames, frames);
        // Not one of the buffers of the event loop.
        expect(reader.directBytes).toBeGreaterThan(0);
      });
    }
  }, 60_000);

  test("gives what had arrived when the peer is gone at once", async () => {
    await withPair(kind, async (client, server) => {
      const large = new Uint8Array(150 * kib).fill(1);
      const small = [new Uint8Array(30 * kib).fill(2), new Uint8Array(20 * kib).fill(3)];
      const reader = new FrameReader(server, () => 1);
      server.setReader(reader);
      client.write(new Uint8Array(new Uint32Array([large.length]).buffer));
      await Bun.sleep(20);
      client.write(large);
      while (reader.frames.length === 0) await Bun.sleep(1);
      expect(reader.directBytes).toBeGreaterThan(0);
      server.pause();
      await sendFrames(client, small, 2);
      client.end();
      client.close();
      await Bun.sleep(50);
      server.resume();
      while (!reader.events.includes("end")) await Bun.sleep(1);
      sameFrames(reader.frames, [large, ...small]);
    });
  });

  test("tells a break that comes in the middle of a large piece", async () => {
    await withPair(kind, async (client, server) => {
      const stream = new WireStream(server, { clock: createClock(), deadlineMs: 20_000 });
      client.write(new Uint8Array(100 * kib));
      const target = new Uint8Array(200 * kib);
      const reading = stream.readInto(target, "the piece").then(
        () => "complete",
        (error) => error.code,
      );
      await Bun.sleep(20);
      client.close();
      expect(await reading).toBe("unreachable");
      stream.close();
    });
  });

  test("carries values and large pieces of a stream in turn, and answers in between", async () => {
    await withPair(kind, async (client, server) => {
      const clock = createClock();
      const frames = makeFrames(5, 300);
      const sending = new WireStream(client, { clock, deadlineMs: 20_000 });
      const receiving = new WireStream(server, { clock, deadlineMs: 20_000 });
      const send = async (): Promise<void> => {
        for (const [i, frame] of frames.entries()) {
          sending.put((encoder) => encoder.u32(frame.length));
          await sending.sendBulk(frame, "a frame");
          if (i % 50 === 49) await sending.readAck("an answer");
        }
        await sending.flush();
        sending.endWrite();
      };
      const receive = async (): Promise<void> => {
        for (const [i, frame] of frames.entries()) {
          const got = new Uint8Array(await receiving.readU32("a size"));
          await receiving.readInto(got, "a frame");
          expect(Buffer.compare(got, frame)).toBe(0);
          if (i % 50 === 49) await receiving.sendAck();
        }
      };
      await Promise.all([send(), receive()]);
      await receiving.finish(5000);
      expect(server.isClosed).toBe(true);
      sending.close();
    });
  });
});
