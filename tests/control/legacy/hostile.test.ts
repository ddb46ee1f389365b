import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { Connection } from "../../../src/platform/net.ts";
import { type Encoder, encoded } from "../../../src/wire/serializer.ts";
import { LegacySite, type ServerName } from "./site.ts";

/** A whole request as a controller says it. */
function requestOf(protocol: string, put: (encoder: Encoder) => void): Uint8Array {
  return encoded((encoder) => {
    encoder.string("ctl").string(protocol).u32(1);
    put(encoder);
  });
}

const command = (protocol: string, ...parameters: string[]): Uint8Array =>
  requestOf(protocol, (encoder) => encoder.strings(parameters));

/** Collects what a server says until it ends. */
function listen(connection: Connection): { readonly text: () => string; readonly isEnded: () => boolean } {
  const chunks: Uint8Array[] = [];
  let isEnded = false;
  connection.setReader({
    data: (chunk) => chunks.push(chunk.slice()),
    end: () => {
      isEnded = true;
    },
    closed: () => {
      isEnded = true;
    },
  });
  connection.resume();
  return { text: () => Buffer.concat(chunks).toString("latin1"), isEnded: () => isEnded };
}

describe("clients that behave badly", () => {
  let site: LegacySite;

  beforeAll(async () => {
    site = new LegacySite(5);
    await site.open();
    await site.backUp("vol0");
  });
  afterAll(() => site.close());

  const state = (server: ServerName) => site.get(server, "state", "vol0");

  test("are served when they send one byte at a time, and hold up nobody meanwhile", async () => {
    for (const server of ["s0", "p0", "a0"] as const) {
      for (const bytes of [command("status", "vol0"), command("get", "state", "vol0")]) {
        const connection = await site.connect(server);
        const answer = listen(connection);
        for (const byte of bytes) {
          connection.write(Uint8Array.of(byte));
          await site.world.run(700);
        }
        expect(await site.status(server, "vol0")).not.toEqual([]);
        await site.world.run(2_000);
        expect(answer.text()).toContain(
          bytes.length === command("status", "vol0").length ? "state " : await state(server),
        );
        connection.close();
      }
    }
  });

  test("do not cancel accepted work, or hold a volume, by staying connected", async () => {
    for (const server of ["s0", "p0", "a0"] as const) {
      const connection = await site.connect(server);
      const answer = listen(connection);
      connection.write(command("stop", "vol0"));
      await site.until("Stopped", async () => (await state(server)) === "Stopped", 10_000);
      expect(answer.text()).toEndWith("\x06accept");
      await site.command(server, "start", server === "s0" ? ["vol0", "target"] : ["vol0"]);
      await site.world.run(30_000);
      expect(answer.isEnded()).toBe(true);
      connection.close();
    }
  });

  test("do not cancel accepted work by going away as soon as they have asked", async () => {
    await site.write("vol0", 0, 8, 1);
    const gid = await site.snapshot("vol0");
    const jobs: readonly (readonly [ServerName, Uint8Array, () => Promise<boolean>])[] = [
      ["a0", command("restore", "vol0", `${gid}`), async () => (await site.get("a0", "restored", "vol0")).length === 1],
      [
        "a0",
        command("apply", "vol0", `${gid}`),
        async () => (await site.get("a0", "base", "vol0")).startsWith(`<|${gid}|>`),
      ],
      ["p0", command("stop", "vol0", "empty"), async () => (await state("p0")) === "Stopped"],
      ["s0", command("stop", "vol0"), async () => (await state("s0")) === "Stopped"],
    ];
    for (const [server, bytes, isDone] of jobs) {
      const connection = await site.connect(server);
      listen(connection);
      connection.write(bytes);
      await site.world.run(1);
      connection.close();
      // What had not arrived when it went was not asked for.
      if (!(await settled(isDone))) {
        const again = await site.connect(server);
        listen(again);
        again.write(bytes);
        await site.world.run(50);
        again.close();
        await site.until("the work", isDone, 20_000);
      }
    }
    await site.command("p0", "start", ["vol0"]);
    await site.command("s0", "start", ["vol0", "target"]);
  });

  async function settled(isDone: () => Promise<boolean>): Promise<boolean> {
    for (let i = 0; i < 20; i++) {
      if (await isDone()) return true;
      await site.world.run(100);
    }
    return false;
  }

  test("leave nothing behind when they disappear at any byte", async () => {
    const archive = (encoder: Encoder): void => {
      encoder.strings(["update", "vol0"]).string("a9").string("a0").u16(1).u8(2).u8(0).u8(1).u32(0);
    };
    const requests: readonly (readonly [ServerName, Uint8Array])[] = [
      ["s0", command("snapshot", "novol")],
      ["s0", command("get", "is-overflow", "vol0")],
      ["p0", requestOf("archive-info", archive)],
      ["a0", command("bhash", "vol0", "1", "64k")],
      ["a0", requestOf("shutdown", () => undefined)],
      ["s0", requestOf("sleep", (encoder) => encoder.u64(3600))],
    ];
    for (const [server, bytes] of requests) {
      for (let length = 0; length <= bytes.length; length++) {
        const connection = await site.connect(server);
        listen(connection);
        if (length > 0) connection.write(bytes.subarray(0, length));
        await site.world.run(20);
        if (length % 2 === 0) connection.close();
        else connection.end();
      }
      await site.world.run(15_000);
      expect(await site.get(server, "host-type")).toBe(
        { s0: "storage", p0: "proxy", a0: "archive", a1: "archive" }[server],
      );
    }
    expect([await state("s0"), await state("p0"), await state("a0")]).toEqual(["Target", "Started", "Archived"]);
    expect(await site.get("a0", "num-action", "vol0", "Restore")).toBe(0);
    // Nobody sleeps on for those who are gone.
    for (let i = 0; i < 70; i++) expect(await site.get("s0", "host-type")).toBe("storage");
  });

  test("are told a bound, not allocated for, when they announce more than there can be", async () => {
    const hostile: readonly (readonly [string, (encoder: Encoder) => void])[] = [
      ["get", (encoder) => encoder.u64(1n << 40n)],
      ["status", (encoder) => encoder.u64(100_000).string("x")],
      ["status", (encoder) => encoder.u64(1).u64(1n << 62n)],
      ["archive-info", (encoder) => encoder.strings(["get", "vol0"]).u64(1n << 33n)],
      [
        "archive-info",
        (encoder) => encoder.strings(["add", "vol0"]).string("../../etc").string("a").u16(1).u8(2).u8(0).u8(1).u32(0),
      ],
      ["kick", (encoder) => encoder.strings(["vol0", "a".repeat(70_000)])],
      ["sleep", (encoder) => encoder.u64(1n << 63n)],
      ["stop", (encoder) => encoder.strings(["../vol0"])],
      ["stop", (encoder) => encoder.strings(["v".repeat(65)])],
    ];
    for (const [protocol, put] of hostile) {
      const { answer, isEnded } = await site.raw("p0", requestOf(protocol, put), 15_000);
      const text = Buffer.from(answer).toString("latin1");
      expect({ protocol, isEnded, hasStack: /\bat \w+ \(|\.ts:\d/.test(text) }).toEqual({
        protocol,
        isEnded: true,
        hasStack: false,
      });
      expect(text.slice("\x02p0\x02ok".length)).not.toStartWith("\x02ok");
    }
    expect(await site.get("p0", "vol")).toEqual(["vol0"]);
    expect(await state("p0")).toBe("Started");
  });

  test("that sleep are eight at most, told so, and make room when they have slept", async () => {
    const asleep: ReturnType<typeof listen>[] = [];
    for (let i = 0; i < 9; i++) {
      const connection = await site.connect("a0");
      asleep.push(listen(connection));
      connection.write(requestOf("sleep", (encoder) => encoder.u64(20)));
    }
    await site.world.run(2_000);
    const refused = asleep.filter((answer) => answer.isEnded());
    expect(refused.map((answer) => answer.text().includes("8 clients sleep here already"))).toEqual([true]);
    await site.world.run(25_000);
    for (let round = 0; round < 2; round++) {
      const { answer, isEnded } = await site.raw(
        "a0",
        requestOf("sleep", (encoder) => encoder.u64(1)),
        15_000,
      );
      expect(isEnded).toBe(true);
      expect(Buffer.from(answer).toString("latin1")).not.toContain("sleep here already");
    }
  });

  test("are dropped when they say a part and then nothing", async () => {
    const connection = await site.connect("a0");
    const answer = listen(connection);
    connection.write(command("reset-vol", "vol0").subarray(0, 20));
    await site.world.run(30_000);
    expect(answer.isEnded()).toBe(true);
    expect(await state("a0")).toBe("Archived");
  });
});
