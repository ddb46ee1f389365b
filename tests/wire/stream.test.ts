import { describe, expect, test } from "bun:test";
import { WalbError } from "../../src/errors.ts";
import {
  readParameters,
  reply,
  replyLines,
  runCommand,
  runLines,
  runSnapshot,
  sendParameters,
} from "../../src/wire/commands.ts";
import { readGet, replyGet, runGet } from "../../src/wire/get.ts";
import { snappyZeros } from "../../src/wire/snappy-zero.ts";
import type { WireStream } from "../../src/wire/stream.ts";
import { errorText, parseAnswer } from "../../src/wire/words.ts";
import { randomChunks, settle } from "../helpers/connection-pair.ts";
import { codeOf } from "../helpers/errors.ts";
import { converse, leaseOf, payload, resultOf, streamPair, testPool } from "../helpers/wire.ts";

describe("reading", () => {
  test("values and bulk data arrive whole at any chunk size, in the order they were sent", async () => {
    for (const chunkBytes of [() => 1, () => 3, randomChunks(5, 100), randomChunks(9, 70_000)]) {
      const { client, server } = streamPair({ chunkBytes });
      const sizes = [0, 1, 100, 5000, 16 * 1024, 16 * 1024 + 1, 40_000];
      const send = (async () => {
        for (const sizeBytes of sizes) {
          client.put((encoder) => encoder.u64(sizeBytes).string("é".repeat(sizeBytes % 50)));
          await client.sendBulk(payload(sizeBytes, sizeBytes), "sending");
        }
        await client.flush();
      })();
      for (const sizeBytes of sizes) {
        expect(await server.readSize("size")).toBe(sizeBytes);
        expect(await server.readString("text")).toBe("é".repeat(sizeBytes % 50));
        const target = new Uint8Array(sizeBytes);
        await server.readInto(target, "bulk");
        expect(Buffer.compare(target, payload(sizeBytes, sizeBytes))).toBe(0);
      }
      await send;
      client.close();
      server.close();
    }
  });

  test("a value is given at once when it is buffered, and nothing is consumed when it is not", async () => {
    const { client, server } = streamPair();
    client.put((encoder) => encoder.string("hello").u8(7));
    await client.flush();
    await settle();
    expect(server.poll((decoder) => decoder.raw(8))).toBeUndefined();
    expect(server.poll((decoder) => decoder.string())).toBe("hello");
    expect(server.poll((decoder) => decoder.u8())).toBe(7);
    expect(server.poll((decoder) => decoder.u8())).toBeUndefined();
    client.close();
    server.close();
  });

  test("a reader that does not read stops the peer after about 2 MiB", async () => {
    const { client, server, clientEnd } = streamPair({ chunkBytes: () => 64 * 1024 });
    const data = payload(8 * 1024 * 1024, 1);
    const sending = client.sendBulk(data, "sending");
    await settle(50);
    expect(clientEnd.deliveredBytes).toBeGreaterThan(2 * 1024 * 1024);
    expect(clientEnd.deliveredBytes).toBeLessThan(2.2 * 1024 * 1024);
    const target = new Uint8Array(data.length);
    await server.readInto(target, "bulk");
    await sending;
    expect(Buffer.compare(target, data)).toBe(0);
    client.close();
    server.close();
  });

  test("a request that was put is sent before its answer is waited for", async () => {
    const { client, server } = streamPair();
    const answer = (async () => {
      client.put((encoder) => encoder.string("ping"));
      return client.readString("answer");
    })();
    expect(await server.readString("question")).toBe("ping");
    server.put((encoder) => encoder.string("pong"));
    await server.flush();
    expect(await answer).toBe("pong");
    client.close();
    server.close();
  });

  test("what the peer sent before it closed is still read, then the end is an error that names the step", async () => {
    const { client, server } = streamPair();
    client.put((encoder) => encoder.u8(1).u8(2));
    client.endWrite();
    await settle();
    expect(await server.readU8("one")).toBe(1);
    expect(await server.readU8("two")).toBe(2);
    expect(server.isAtEnd).toBe(true);
    const third = server.readU8("three");
    expect(await codeOf(third)).toBe("unreachable");
    expect(await third.catch(String)).toContain("step three");
  });
});

describe("deadlines", () => {
  test("a peer that goes takes the deadline with it, also when nobody waits any more", async () => {
    const { client, server, clock } = streamPair();
    const reading = server.readU8("one");
    expect(clock.timerCount).toBe(1);
    client.put((encoder) => encoder.u8(1));
    client.endWrite();
    expect(await reading).toBe(1);
    await settle();
    expect(clock.timerCount).toBe(0);
    client.close();
  });

  test("a silent peer ends with timed-out, naming peer and step", async () => {
    const { server, clock } = streamPair();
    const reading = server.readString("the request");
    const code = codeOf(reading);
    await clock.advance(9_900);
    expect(server.failure).toBeUndefined();
    await clock.advance(200);
    expect(await code).toBe("timed-out");
    expect(await reading.catch(String)).toContain("peer client:2, step the request");
    expect(clock.timerCount).toBe(0);
  });

  test("a peer that sends one byte at a time does not extend the deadline of a value", async () => {
    const { client, server, clock } = streamPair();
    const code = codeOf(server.readString("the request"));
    client.put((encoder) => encoder.u64(100));
    await client.flush();
    for (let i = 0; i < 12 && server.failure === undefined; i++) {
      client.put((encoder) => encoder.u8(0x61));
      await client.flush().catch(() => undefined);
      await clock.advance(1_000);
    }
    expect(await code).toBe("timed-out");
  });

  test("bulk data that trickles below 64 KiB a deadline fails, and data that flows does not", async () => {
    const slow = streamPair();
    const code = codeOf(slow.server.readInto(new Uint8Array(1 << 20), "bulk"));
    for (let i = 0; i < 20 && slow.server.failure === undefined; i++) {
      slow.client.put((encoder) => encoder.raw(new Uint8Array(100)));
      await slow.client.flush().catch(() => undefined);
      await slow.clock.advance(1_000);
    }
    expect(await code).toBe("timed-out");
    const good = streamPair();
    const done = codeOf(good.server.readInto(new Uint8Array(1 << 20), "bulk"));
    for (let i = 0; i < 16; i++) {
      await good.client.sendBulk(new Uint8Array(1 << 16), "sending");
      await good.clock.advance(9_000);
    }
    expect(await done).toBe("no error");
  });

  test("a peer that takes no data ends with timed-out", async () => {
    const { client, clock } = streamPair({ chunkBytes: () => 64 * 1024 });
    const code = codeOf(client.sendBulk(payload(4 * 1024 * 1024, 1), "sending the log"));
    await clock.advance(10_100);
    expect(await code).toBe("timed-out");
  });
});

describe("closing", () => {
  test("whoever waits gets the error that the stream was closed with", async () => {
    const { server } = streamPair();
    const code = codeOf(server.readU8("x"));
    server.close(new WalbError("state", { what: "stopped by force" }));
    server.close();
    expect(await code).toBe("state");
  });

  test("finish lets the peer read the last words although it is still sending", async () => {
    const { client, server } = streamPair({ chunkBytes: () => 64 * 1024 });
    const sending = client.sendBulk(payload(1024 * 1024, 1), "sending").catch(() => undefined);
    await server.readInto(new Uint8Array(10), "x");
    server.put((encoder) => encoder.string("no more, please"));
    const finishing = server.finish();
    expect(await client.readString("answer")).toBe("no more, please");
    await sending;
    client.close();
    await finishing;
  });

  test("finish gives up on a peer that neither sends nor closes", async () => {
    const { server, clock } = streamPair();
    let isDone = false;
    const finishing = server.finish().then(() => {
      isDone = true;
    });
    await clock.advance(2_900);
    expect(isDone).toBe(false);
    await clock.advance(200);
    await finishing;
    expect(clock.timerCount).toBe(0);
  });
});

describe("commands", () => {
  const ask = async <T>(
    client: (stream: WireStream) => Promise<T>,
    server: (stream: WireStream) => Promise<void>,
  ): Promise<T> => resultOf((await converse(streamPair({ chunkBytes: randomChunks(3, 9) }), client, server))[0]);

  test("parameters, a confirmation, lines and values come across", async () => {
    const serveLines = async (stream: WireStream): Promise<void> => {
      const parameters = await readParameters(stream, { minCount: 1 });
      await replyLines(stream, [...parameters, "é"]);
    };
    expect(await ask((stream) => runLines(stream, "status", ["v0"]), serveLines)).toEqual(["v0", "é"]);
    const snapshot = await ask(
      (stream) => runSnapshot(stream, "v0"),
      async (stream) => {
        await readParameters(stream, { exactCount: 1 });
        await reply(stream, "ok", (encoder) => encoder.u64(2n ** 60n));
      },
    );
    expect(snapshot).toBe(2n ** 60n);
  });

  test("a refusal is an error with the peer's first line, and its stack addresses are not shown", async () => {
    const work = ask(
      (stream) => runCommand(stream, "stop", ["v0"], "accept"),
      async (stream) => {
        await readParameters(stream);
        stream.put((encoder) => encoder.string("bad state:Clear\n<<<STACKTRACE>>> 0x41"));
      },
    );
    expect(await work.catch(String)).toBe("WalbError: peer server:1: stop was refused: bad state:Clear");
  });

  test("empty parameters are refused by both ends, a wrong count by the server", async () => {
    const { client } = streamPair();
    expect(() => sendParameters(client, ["v0", ""])).toThrow("parameter 2");
    const [, empty] = await converse(
      streamPair(),
      async (stream) => {
        stream.put((encoder) => encoder.strings(["v0", ""]));
        await stream.flush();
        await stream.readString("answer");
      },
      (stream) => readParameters(stream),
    );
    expect(empty.status === "rejected" && String(empty.reason)).toContain("parameter 2");
    const [, count] = await converse(
      streamPair(),
      (stream) => runCommand(stream, "start", ["v0"]),
      (stream) => readParameters(stream, { exactCount: 2 }),
    );
    expect(count.status === "rejected" && String(count.reason)).toContain("takes 2");
  });

  test("get gives a value of the target's kind, and refuses what the role does not have", async () => {
    expect(
      await ask(
        (stream) => runGet(stream, "num-diff", ["v0"]),
        async (stream) => {
          expect(await readGet(stream, "archive")).toEqual({ name: "num-diff", args: ["v0"] });
          await replyGet(stream, "num-diff", 70_000);
        },
      ),
    ).toBe(70_000);
    expect(
      await ask(
        (stream) => runGet(stream, "exists-base-image", ["v0"]),
        async (stream) => {
          await readGet(stream, "archive");
          await replyGet(stream, "exists-base-image", true);
        },
      ),
    ).toBe(true);
    const [, other] = await converse(
      streamPair(),
      (stream) => runGet(stream, "base", ["v0"]),
      (stream) => readGet(stream, "proxy"),
    );
    expect(other.status === "rejected" && String(other.reason)).toContain('a proxy has no target "base"');
    const [, none] = await converse(
      streamPair(),
      (stream) => runCommand(stream, "get", []),
      (stream) => readGet(stream, "proxy"),
    );
    expect(none.status === "rejected" && errorText(none.reason)).toBe("runGetCommandServer:no target specified");
  });
});

describe("texts", () => {
  test("errors become one bounded line that is none of the fixed words", () => {
    expect(errorText(new Error("a\r\nb\tc"))).toBe("a b c");
    expect(errorText(new Error("different-uuid"))).toBe("error: different-uuid");
    expect(errorText(new Error("ok"))).toBe("error: ok");
    expect(errorText(new Error(""))).toBe("failed without a reason");
    expect(errorText(new Error("x".repeat(100_000))).length).toBeLessThanOrEqual(8192);
    const error = new WalbError("state", { what: "it is Stopped", where: { volume: "v0" }, hint: "start it" });
    expect(errorText(error)).toBe("volume v0: it is Stopped (start it)");
  });

  test("answers are told apart by the fixed words alone", () => {
    expect(parseAnswer("accept").kind).toBe("accept");
    expect(parseAnswer("too-new-diff")).toEqual({ kind: "word", word: "too-new-diff" });
    expect(parseAnswer("too-new-diff!")).toEqual({ kind: "text", text: "too-new-diff!" });
    expect(parseAnswer("ok").kind).toBe("text");
  });
});

test("made-up snappy of zeroes expands to zeroes of every size", async () => {
  const pool = testPool();
  const { compute } = await import("../helpers/wire.ts");
  for (const sizeBytes of [1, 2, 64, 65, 66, 127, 128, 129, 512, 4096, 16_384, 65_536, 1 << 21]) {
    const source = leaseOf(pool, snappyZeros(sizeBytes));
    const target = leaseOf(pool, new Uint8Array(sizeBytes).fill(9));
    const checksum = compute.checksumNow(source.memory.bytes, 0);
    const result = await compute.decode([{ source: source.memory, codec: 2, checksum, target: target.memory }]);
    expect([...result]).toEqual([0]);
    expect(target.memory.bytes.every((byte) => byte === 0)).toBe(true);
    source.lease.release();
    target.lease.release();
  }
  pool.expectEmpty();
});
