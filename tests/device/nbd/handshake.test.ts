import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { goData, metaData, optionBytes, RawNbd, u32 } from "./raw.ts";
import { platform, type Setup, setup } from "./setup.ts";

const unsup = 0x8000_0001;
const invalid = 0x8000_0003;
const unknown = 0x8000_0006;
const tooBig = 0x8000_0009;

describe("negotiating with an NBD server", () => {
  let two: Setup;
  let one: Setup;
  beforeAll(async () => {
    two = await setup(["alpha", "beta"]);
    one = await setup(["only"]);
  });
  afterAll(async () => {
    await two.close();
    await one.close();
  });

  const open = async (at: Setup): Promise<RawNbd> => {
    const client = await RawNbd.open(platform.net, at.address);
    expect(await client.greet()).toBe(3);
    return client;
  };
  const lastType = (replies: { type: number }[]): number => replies.at(-1)!.type;

  test("LIST names every volume, and takes no data", async () => {
    const client = await open(two);
    const replies = await client.option(3);
    expect(replies.slice(0, -1).map((r) => r.data.toString("utf8", 4))).toEqual(["alpha", "beta"]);
    expect(lastType(replies)).toBe(1);
    expect(lastType(await client.option(3, u32(1)))).toBe(invalid);
    client.connection.close();
  });

  test("INFO tells size, flags and block sizes, and GO starts the transmission", async () => {
    const client = await open(two);
    const info = await client.option(6, goData("beta", [1, 2, 3, 0, 99]));
    const byType = new Map(info.slice(0, -1).map((r) => [r.data.readUInt16BE(0), r.data]));
    expect(byType.get(0)!.readBigUInt64BE(2)).toBe(64n * 1024n * 1024n);
    // HAS_FLAGS FLUSH FUA TRIM WRITE_ZEROES CAN_MULTI_CONN CACHE FAST_ZERO; DF only with structured replies.
    expect(byType.get(0)!.readUInt16BE(10)).toBe(1 | 4 | 8 | 32 | 64 | 256 | 1024 | 2048);
    expect(byType.get(1)!.toString("utf8", 2)).toBe("beta");
    const sizes = byType.get(3)!;
    expect([sizes.readUInt32BE(2), sizes.readUInt32BE(6), sizes.readUInt32BE(10)]).toEqual([512, 4096, 33554432]);
    await client.option(8);
    const go = await client.option(7, goData("beta"));
    expect(go[0]!.data.readUInt16BE(10) & 128).toBe(128);
    expect(two.server.connectionsOf("beta")).toBe(1);
    client.connection.close();
  });

  test("a read-only volume says so in its flags", async () => {
    two.volume.readOnlyReason = "the log failed";
    const client = await open(two);
    const info = await client.option(6, goData("alpha"));
    two.volume.readOnlyReason = undefined;
    expect(info[0]!.data.readUInt16BE(10) & 2).toBe(2);
    client.connection.close();
  });

  test("the empty name is the only volume, and nobody when there are two", async () => {
    const single = await open(one);
    expect(lastType(await single.option(6, goData("")))).toBe(1);
    single.connection.close();
    const client = await open(two);
    expect(lastType(await client.option(6, goData("")))).toBe(unknown);
    expect(lastType(await client.option(7, goData("gamma")))).toBe(unknown);
    expect(lastType(await client.option(7, goData("alpha")))).toBe(1);
    client.connection.close();
  });

  test("unknown options and TLS are refused, and negotiation goes on", async () => {
    const client = await open(two);
    expect(lastType(await client.option(5))).toBe(unsup);
    expect(lastType(await client.option(11))).toBe(unsup);
    expect(lastType(await client.option(0x7fff_ffff, Buffer.from("data")))).toBe(unsup);
    expect(lastType(await client.option(6, goData("alpha")))).toBe(1);
    client.connection.close();
  });

  test("malformed options are invalid, whatever lengths they claim", async () => {
    const client = await open(two);
    const bad = [
      Buffer.alloc(0),
      Buffer.alloc(5),
      Buffer.concat([u32(0xffff_ffff), Buffer.alloc(2)]),
      Buffer.concat([u32(4), Buffer.from("al"), Buffer.alloc(2)]),
      Buffer.concat([goData("alpha"), Buffer.alloc(1)]),
      Buffer.concat([u32(2), Buffer.from([0xff, 0xfe]), Buffer.alloc(2)]),
    ];
    for (const data of bad) expect(lastType(await client.option(7, data))).toBe(invalid);
    expect(lastType(await client.option(8, u32(0)))).toBe(invalid);
    await client.option(8);
    const badMeta = [
      Buffer.alloc(3),
      Buffer.concat([u32(5), Buffer.from("alpha"), u32(0xffff_ffff)]),
      Buffer.concat([u32(5), Buffer.from("alpha"), u32(1), u32(100), Buffer.from("base:")]),
      Buffer.concat([metaData("alpha", ["base:allocation"]), Buffer.alloc(1)]),
    ];
    for (const data of badMeta) expect(lastType(await client.option(10, data))).toBe(invalid);
    expect(lastType(await client.option(7, goData("alpha")))).toBe(1);
    client.connection.close();
  });

  test("an option too long to look at is skipped and refused", async () => {
    const client = await open(two);
    expect(lastType(await client.option(7, Buffer.alloc(1024 * 1024)))).toBe(tooBig);
    expect(lastType(await client.option(6, goData("alpha")))).toBe(1);
    client.connection.close();
  });

  test("metadata contexts: listing, selecting, and only after structured replies", async () => {
    const client = await open(two);
    expect(lastType(await client.option(10, metaData("alpha", ["base:allocation"])))).toBe(invalid);
    await client.option(8);
    const names = (replies: { type: number; data: Buffer }[]): string[] =>
      replies.filter((r) => r.type === 4).map((r) => r.data.toString("utf8", 4));
    expect(names(await client.option(9, metaData("alpha", [])))).toEqual(["base:allocation"]);
    expect(names(await client.option(9, metaData("alpha", ["base:"])))).toEqual(["base:allocation"]);
    expect(names(await client.option(9, metaData("alpha", ["qemu:"])))).toEqual([]);
    expect(names(await client.option(10, metaData("alpha", ["x:y", "base:allocation"])))).toEqual(["base:allocation"]);
    expect(names(await client.option(10, metaData("alpha", ["base:"])))).toEqual([]);
    expect(lastType(await client.option(9, metaData("gamma", [])))).toBe(unknown);
    client.connection.close();
  });

  test("ABORT is acknowledged and ends the connection", async () => {
    const client = await open(two);
    expect(lastType(await client.option(2))).toBe(1);
    await client.gone();
  });

  test("the old EXPORT_NAME works with and without the zeroes, and closes on an unknown name", async () => {
    for (const [flags, sizeBytes] of [
      [3, 10],
      [1, 134],
    ] as const) {
      const client = await RawNbd.open(platform.net, two.address);
      await client.greet(flags);
      client.send(optionBytes(1, Buffer.from("alpha")));
      const answer = await client.take(sizeBytes);
      expect(answer.readBigUInt64BE(0)).toBe(64n * 1024n * 1024n);
      client.connection.close();
    }
    const client = await open(two);
    client.send(optionBytes(1, Buffer.from("gamma")));
    await client.gone();
  });

  test("a client of another protocol is cut off and reported", async () => {
    const before = two.problems.length;
    const http = await RawNbd.open(platform.net, two.address);
    http.send(Buffer.from("GET / HTTP/1.1\r\n\r\n"));
    await http.gone();
    const wrong = await open(two);
    wrong.send(Buffer.alloc(16, 7));
    await wrong.gone();
    const endless = await open(two);
    endless.send(Buffer.concat([Buffer.from("IHAVEOPT"), u32(7), u32(0xffff_ffff)]));
    await endless.gone();
    expect(two.problems.slice(before).map((problem) => problem.code)).toEqual(["protocol", "protocol", "protocol"]);
  });
});
