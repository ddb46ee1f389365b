import { describe, expect, test } from "bun:test";
import { receiveBulks } from "../../src/wire/bulk-stream.ts";
import { compareHashes, sendHashes } from "../../src/wire/hash-stream.ts";
import { receiveLog } from "../../src/wire/log-receive.ts";
import { receivePacks } from "../../src/wire/pack-stream.ts";
import { type Encoder, encoded } from "../../src/wire/serializer.ts";
import type { WireStream } from "../../src/wire/stream.ts";
import { settle } from "../helpers/connection-pair.ts";
import { compute, diffPack, each, logPack, payload, streamPair, type TestPack, testPool } from "../helpers/wire.ts";

const pbsBytes = 512;
const salt = 77;
const limitLb = 100;

/** Gives bytes to a receiver and returns its error. Nothing may stay leased, and the sink must be abandoned. */
async function refuses(
  bytes: Uint8Array,
  receive: (stream: WireStream, pool: ReturnType<typeof testPool>, sink: typeof dropSink) => Promise<unknown>,
): Promise<string> {
  const pool = testPool();
  const { client, server } = streamPair();
  abandoned = 0;
  const receiving = receive(server, pool, dropSink).then(
    () => "accepted",
    (error: unknown) => String(error),
  );
  await client.sendBulk(bytes, "sending").catch(() => undefined);
  await client.flush().catch(() => undefined);
  client.endWrite();
  const text = await receiving;
  expect(abandoned).toBe(1);
  server.close();
  client.close();
  await settle(2);
  pool.expectEmpty();
  return text;
}

let abandoned = 0;
const dropSink = {
  write: (item: { release(): void } | { kind: "zero" }) => {
    if ("release" in item) item.release();
  },
  finish: async () => undefined,
  abandon: async () => {
    abandoned += 1;
  },
};

const packs = (bytes: Uint8Array): Promise<string> =>
  refuses(bytes, (stream, pool, sink) => receivePacks(stream, { pool, compute, limitLb }, sink));
const log = (bytes: Uint8Array): Promise<string> =>
  refuses(bytes, (stream, pool, sink) => receiveLog(stream, { pool, compute, pbsBytes, salt, sizeLb: limitLb }, sink));
const bulks = (bytes: Uint8Array): Promise<string> =>
  refuses(bytes, (stream, pool, sink) => receiveBulks(stream, { startLb: 0, sizeLb: 20, bulkLb: 8 }, pool, sink));
const differences = (bytes: Uint8Array): Promise<string> =>
  refuses(bytes, (stream, pool, sink) =>
    sendHashes(stream, { sizeLb: 20, bulkLb: 8 }, each([new Uint8Array(48)]), { pool, compute, limitLb }, sink),
  );

const unit = (encoder: Encoder, pack: Uint8Array): Encoder => encoder.u8(0).u64(pack.length).raw(pack);
const goodPack = diffPack([{ addressLb: 4, blocksLb: 2, data: payload(1024, 1) }]);

describe("packs", () => {
  const flipped = (offset: number): Uint8Array => {
    const bytes = goodPack.slice();
    bytes[offset]! ^= 1;
    return encoded((encoder) => unit(encoder, bytes).u8(1));
  };

  test("any damage of a pack is found: header, records, data", async () => {
    for (const offset of [0, 4, 8, 16, 24, 28, 36, 40, 4095])
      expect(await packs(flipped(offset))).toContain("checksum");
    for (const offset of [4096, 5119]) expect(await packs(flipped(offset))).toContain("data of a record");
  });

  test("sizes that lie are refused before memory is taken", async () => {
    expect(await packs(encoded((encoder) => encoder.u8(0).u64(2n ** 60n)))).toContain("pack size");
    expect(await packs(encoded((encoder) => encoder.u8(0).u64(4096 + 32 * 1024 * 1024 + 1)))).toContain("pack size");
    expect(await packs(encoded((encoder) => encoder.u8(0).u64(100).raw(new Uint8Array(100))))).toContain("shorter");
    const short = encoded((encoder) => unit(encoder, goodPack.subarray(0, 4096)).u8(1));
    expect(await packs(short)).toContain("1024 bytes of data");
  });

  test("records must ascend over packs and end inside the volume", async () => {
    const twice = encoded((encoder) => unit(unit(encoder, goodPack), goodPack).u8(1));
    expect(await packs(twice)).toContain("starts before the end");
    const beyond = diffPack([{ addressLb: 99, blocksLb: 2, data: payload(1024, 1) }]);
    expect(await packs(encoded((encoder) => unit(encoder, beyond).u8(1)))).toContain("ends beyond 100");
  });

  test("control bytes that do not belong here, Error, and an early end are told apart", async () => {
    expect(await packs(Uint8Array.of(2))).toContain("peer failed");
    expect(await packs(Uint8Array.of(3))).toContain("control byte 3");
    expect(await packs(Uint8Array.of(9))).toContain("control byte 9");
    expect(await packs(new Uint8Array(0))).toContain("closed the connection too early");
  });

  test("a failing sink ends the stream with its error", async () => {
    const pool = testPool();
    const { client, server } = streamPair();
    let isAbandoned = false;
    const receiving = receivePacks(
      server,
      { pool, compute, limitLb },
      {
        write: (pack) => {
          pack.release();
          throw new Error("disk is full");
        },
        finish: async () => undefined,
        abandon: async () => {
          isAbandoned = true;
        },
      },
    ).catch(String);
    const many = Array.from({ length: 20 }, (_, i) => diffPack([{ addressLb: i, blocksLb: 1, data: payload(512, i) }]));
    for (const pack of many) client.put((encoder) => void unit(encoder, pack));
    client.put((encoder) => encoder.u8(1));
    await client.flush();
    expect(await receiving).toContain("disk is full");
    expect(isAbandoned).toBe(true);
    client.close();
    server.close();
    pool.expectEmpty();
  });
});

describe("logs", () => {
  const stored = (encoder: Encoder, bytes: Uint8Array): Encoder => encoder.u8(0).u32(0).u32(bytes.length).raw(bytes);
  const write = (encoder: Encoder, pack: TestPack): Encoder => {
    stored(encoder, pack.headerBytes);
    for (const bytes of pack.data) if (bytes !== undefined) stored(encoder, bytes);
    return encoder;
  };
  const io = { kind: "data", offsetLb: 8, sizeLb: 2, data: payload(1024, 1) } as const;
  const good = logPack(10, [io], pbsBytes, salt);

  test("any damage of a header or of data is found", async () => {
    for (const offset of [0, 4, 6, 8, 16, 30, 40, 60, 300]) {
      const headerBytes = good.headerBytes.slice();
      headerBytes[offset]! ^= 1;
      const text = await log(encoded((encoder) => write(encoder, { ...good, headerBytes }).u8(1)));
      expect(text).toContain("log pack header");
    }
    const data = [good.data[0]!.slice()];
    data[0]![1023]! ^= 1;
    expect(await log(encoded((encoder) => write(encoder, { ...good, data }).u8(1)))).toContain("does not match");
  });

  test("packs must follow each other, and must not be empty", async () => {
    const far = logPack(14, [io], pbsBytes, salt);
    expect(await log(encoded((encoder) => write(write(encoder, good), far).u8(1)))).toContain("is 14, not 13");
    const empty = logPack(13, [], pbsBytes, salt);
    expect(await log(encoded((encoder) => write(write(encoder, good), empty).u8(1)))).toContain("no records");
  });

  test("addresses beyond the volume, data and discard alike", async () => {
    for (const one of [{ ...io, offsetLb: 99 }, { kind: "discard", offsetLb: 50, sizeLb: 51 } as const]) {
      const pack = logPack(10, [one], pbsBytes, salt);
      expect(await log(encoded((encoder) => write(encoder, pack).u8(1)))).toContain("beyond the volume");
    }
  });

  test("sizes that lie are refused", async () => {
    expect(await log(encoded((encoder) => encoder.u8(0).u32(0).u32(0)))).toContain("not whole physical blocks");
    expect(await log(encoded((encoder) => encoder.u8(0).u32(0).u32(100)))).toContain("not whole physical blocks");
    expect(await log(encoded((encoder) => encoder.u8(0).u32(0).u32(0x8000_0000)))).toContain("above 33553920");
    expect(await log(encoded((encoder) => encoder.u8(0).u32(512).u32(512)))).toContain("compressed to 512");
    const short = { ...good, data: [good.data[0]!.subarray(0, 512)] };
    expect(await log(encoded((encoder) => write(encoder, short).u8(1)))).toContain("512 bytes instead of 1024");
    const large = { ...good, headerBytes: new Uint8Array(1024) };
    expect(await log(encoded((encoder) => write(encoder, large).u8(1)))).toContain("a pack header of 1024 bytes");
  });

  test("compressed bytes that do not expand to the size they promise", async () => {
    const rubbish = encoded((encoder) =>
      encoder
        .u8(0)
        .u32(5)
        .u32(512)
        .raw(Uint8Array.of(9, 9, 9, 9, 9))
        .u8(1),
    );
    expect(await log(rubbish)).toContain("does not expand to 512");
    // A bomb: it says 512 bytes and expands to 2 MiB.
    const bomb = Uint8Array.of(0x80, 0x80, 0x80, 0x01, 0x00, 0x00, 0xfe, 0x01, 0x00);
    expect(await log(encoded((encoder) => encoder.u8(0).u32(9).u32(512).raw(bomb).u8(1)))).toContain("not expand");
  });

  test("a log that ends inside a pack", async () => {
    const headerOnly = encoded((encoder) => stored(encoder, good.headerBytes).u8(1));
    expect(await log(headerOnly)).toContain("inside the pack at lsid 10");
    expect(await log(Uint8Array.of(2))).toContain("peer failed");
    expect(await log(Uint8Array.of(3))).toContain("control byte 3");
  });
});

describe("bulks", () => {
  test("a bulk larger than any codec makes is refused before memory is taken", async () => {
    expect(await bulks(encoded((encoder) => encoder.u64(2n ** 50n)))).toContain("bulk size");
    expect(await bulks(encoded((encoder) => encoder.u64(2 * 8 * 512 + 4097)))).toContain("bulk size");
  });

  test("a copy that ends early", async () => {
    expect(await bulks(Uint8Array.of(0, 0))).toContain("the bulk at 16 LB");
  });
});

describe("hash comparison", () => {
  const comparer = { compare: async () => [], finish: async () => [] };
  const compare = async (bytes: Uint8Array): Promise<string> => {
    const { client, server } = streamPair();
    const comparing = compareHashes(server, { sizeLb: 20, bulkLb: 8 }, comparer).then(
      () => "accepted",
      (error: unknown) => String(error),
    );
    client.put((encoder) => encoder.raw(bytes));
    await client.flush().catch(() => undefined);
    client.endWrite();
    const text = await comparing;
    client.close();
    server.close();
    return text;
  };
  const list = (count: number, end: number): Uint8Array =>
    encoded((encoder) => {
      for (let i = 0; i < count; i++) encoder.u8(0).raw(new Uint8Array(16));
      encoder.u8(end);
    });

  test("there must be exactly one hash per bulk", async () => {
    expect(await compare(list(3, 1))).toBe("accepted");
    expect(await compare(list(2, 1))).toContain("only 2 hashes");
    expect(await compare(list(4, 1))).toContain("more than 3 hashes");
    expect(await compare(list(40, 1))).toContain("more than 3 hashes");
    expect(await compare(list(1, 2))).toContain("peer failed");
    expect(await compare(list(1, 3))).toContain("control byte 3");
  });

  test("the differences may hold any mixture of Dummy and packs, but not without end", async () => {
    expect(await differences(new Uint8Array(5000).fill(3))).toContain("more Dummy bytes");
    expect(await differences(Uint8Array.of(3, 3, 2))).toContain("peer failed");
    expect(await differences(encoded((encoder) => unit(encoder.u8(3), goodPack)))).toContain("too early");
  });
});
