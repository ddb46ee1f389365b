import { describe, expect, test } from "bun:test";
import { WalbError } from "../../src/errors.ts";
import type { Address, Connection } from "../../src/platform/net.ts";
import { readParameters, reply, replyVersion, runCommand, runVersion } from "../../src/wire/commands.ts";
import { type ConnectOptions, connectWire, type Opened } from "../../src/wire/handshake.ts";
import { type ConversationReport, serveWire, sniffProtocol, type WireHandler } from "../../src/wire/server.ts";
import { ManualClock, PairNet, settle } from "../helpers/connection-pair.ts";

const address: Address = { kind: "tcp", host: "a0", port: 10_200 };

async function daemon(
  handlers: Record<string, WireHandler>,
  options: { maxConversations?: number; chunk?: number } = {},
) {
  const net = new PairNet({ chunkBytes: () => options.chunk ?? 1 << 20 });
  const clock = new ManualClock();
  const reports: ConversationReport[] = [];
  const https: { connection: Connection; text: string }[] = [];
  const server = await serveWire(net, address, {
    nodeId: "a0",
    clock,
    handlers: new Map(Object.entries(handlers)),
    http: (connection, firstBytes) => {
      const entry = { connection, text: Buffer.from(firstBytes).toString() };
      https.push(entry);
      connection.setReader({
        data: (chunk) => {
          entry.text += Buffer.from(chunk).toString();
        },
        end: () => connection.close(),
        closed: () => undefined,
      });
      connection.resume();
    },
    ended: (report) => reports.push(report),
    ...(options.maxConversations === undefined ? {} : { maxConversations: options.maxConversations }),
  });
  const open = (protocol: string): Promise<Opened> => {
    const connectOptions: ConnectOptions = { clientId: "ctl", protocol, clock };
    return connectWire(net, address, connectOptions);
  };
  return { net, clock, server, reports, https, open };
}

const version: WireHandler = (stream) => replyVersion(stream, "version:1.0.19");

describe("one port", () => {
  test("the first bytes decide, and no more than needed are waited for", () => {
    const sniff = (text: string): unknown => sniffProtocol(Buffer.from(text, "latin1"));
    expect(sniff("GET / HTTP/1.1\r\n")).toBe("http");
    expect(sniff("OPTIONS *")).toBe("http");
    expect(sniff("GE")).toBeUndefined();
    expect(sniff("P")).toBeUndefined();
    expect(sniff("\x02py\x07version\x01")).toBe("wire");
    expect(sniff("\x00")).toBe("wire");
    expect(sniff("Gabriel")).toBe("wire");
    expect(sniff("GETTER")).toBe("wire");
  });

  test("HTTP is handed over with every byte, at any chunk size", async () => {
    const { net, https, server } = await daemon({}, { chunk: 1 });
    const connection = await net.connect(address);
    connection.write(Buffer.from("GET /api HTTP/1.1\r\nhost: a0\r\n\r\n"));
    connection.end();
    await settle(80);
    expect(https.map(({ text }) => text)).toEqual(["GET /api HTTP/1.1\r\nhost: a0\r\n\r\n"]);
    await server.shutdown(0);
  });

  test("a captured version request gets the captured shape of an answer", async () => {
    const { net, server } = await daemon({ version });
    const connection = await net.connect(address);
    const heard: Uint8Array[] = [];
    let isEnded = false;
    connection.setReader({
      data: (chunk) => heard.push(chunk),
      end: () => {
        isEnded = true;
        connection.close();
      },
      closed: () => undefined,
    });
    connection.resume();
    connection.write(Uint8Array.fromHex("0270790776657273696f6e01"));
    await settle(30);
    expect(Buffer.concat(heard).toString("latin1")).toBe("\x02a0\x02ok\x0eversion:1.0.19");
    expect(isEnded).toBe(true);
    await server.shutdown(0);
  });
});

describe("conversations", () => {
  test("a handler gets the caller, and the report tells how it went", async () => {
    const { open, reports, server } = await daemon({
      version: async (stream, caller) => {
        expect(caller).toEqual({ clientId: "ctl", protocol: "version", peer: "client:2" });
        await version(stream, caller);
      },
    });
    const { stream, serverId } = await open("version");
    expect(serverId).toBe("a0");
    expect(await runVersion(stream)).toBe("version:1.0.19");
    stream.close();
    await settle(30);
    expect(reports).toHaveLength(1);
    expect(reports[0]!.error).toBeUndefined();
    expect(reports[0]!.readBytes).toBe(1 + 3 + 1 + 7 + 1);
    expect(server.activeCount).toBe(0);
    await server.shutdown(0);
  });

  test("an unknown protocol and another version are refused with the server's id and a text", async () => {
    const { net, open, reports, server } = await daemon({ version });
    const refused = await open("nosuch").catch(String);
    expect(refused).toContain('a0 does not serve "nosuch", which ctl asked for');
    const connection = await net.connect(address);
    const heard: Uint8Array[] = [];
    connection.setReader({
      data: (chunk) => heard.push(chunk),
      end: () => connection.close(),
      closed: () => undefined,
    });
    connection.resume();
    connection.write(Uint8Array.fromHex("0270790776657273696f6e02"));
    await settle(30);
    expect(Buffer.concat(heard).toString("latin1")).toContain("protocol version 2 is not served");
    expect(reports.map(({ error }) => error?.code)).toEqual(["unsupported", "unsupported"]);
    await server.shutdown(0);
  });

  test("an error before the confirmation is told as text, one behind it closes the connection", async () => {
    const { open, reports, server } = await daemon({
      start: async (stream) => {
        await readParameters(stream);
        throw new WalbError("state", { what: "bad state", where: { volume: "v0" } });
      },
      stop: async (stream) => {
        await readParameters(stream);
        stream.put((encoder) => encoder.string("accept"));
        stream.confirmationDue = false;
        await stream.flush();
        throw new Error("later");
      },
    });
    const start = await open("start");
    expect(await runCommand(start.stream, "start", ["v0"]).catch(String)).toBe(
      "WalbError: peer a0 (server:1): start was refused: volume v0: bad state",
    );
    start.stream.close();
    const stop = await open("stop");
    await runCommand(stop.stream, "stop", ["v0"], "accept");
    expect(await stop.stream.readU8("more").catch(String)).toContain("clos");
    await settle(30);
    expect(reports.map(({ error }) => error?.code)).toEqual(["state", "internal"]);
    await server.shutdown(0);
  });

  test("work goes on behind an answer although the client is gone, and the client is not kept waiting", async () => {
    let finishWork: () => void = () => undefined;
    const work = new Promise<void>((resolve) => {
      finishWork = resolve;
    });
    let isDone = false;
    const { open, server } = await daemon({
      stop: async (stream) => {
        await readParameters(stream);
        await reply(stream, "accept");
        await work;
        isDone = true;
      },
    });
    const { stream } = await open("stop");
    await runCommand(stream, "stop", ["v0"], "accept");
    stream.close();
    await settle(20);
    expect(server.activeCount).toBe(1);
    finishWork();
    await settle(20);
    expect(isDone).toBe(true);
    expect(server.activeCount).toBe(0);
    await server.shutdown(0);
  });

  test("more conversations than the limit are refused at once with a text, and the limit frees again", async () => {
    let finish: () => void = () => undefined;
    const gate = new Promise<void>((resolve) => {
      finish = resolve;
    });
    const { open, server } = await daemon(
      {
        slow: async (stream) => {
          await gate;
          await replyVersion(stream, "done");
        },
      },
      { maxConversations: 2 },
    );
    const first = await open("slow");
    const second = await open("slow");
    expect(await open("slow").catch(String)).toContain("already serves 2 connections");
    finish();
    expect(await runVersion(first.stream)).toBe("done");
    first.stream.close();
    second.stream.close();
    await settle(30);
    const third = await open("slow");
    expect(await runVersion(third.stream)).toBe("done");
    third.stream.close();
    await settle(10);
    await server.shutdown(0);
  });

  test("clients that say nothing, half a handshake, or no request keep nobody out, however many they are", async () => {
    const command: WireHandler = async (stream) => {
      await readParameters(stream);
      await reply(stream);
    };
    const { net, open, server } = await daemon({ command }, { maxConversations: 3 });
    const silent = await Promise.all(Array.from({ length: 9 }, () => net.connect(address)));
    const half = await Promise.all(Array.from({ length: 30 }, () => net.connect(address)));
    for (const connection of half) connection.write(Uint8Array.fromHex("027079"));
    await settle(10);
    const idle: Opened[] = [];
    for (let i = 0; i < 5; i++) idle.push(await open("command"));
    const { stream } = await open("command");
    await runCommand(stream, "command", ["vol0"]);
    stream.close();
    // The oldest went first, and those that are in nobody's way stay.
    expect(silent.every(({ isClosed }) => isClosed)).toBe(true);
    expect(half.at(-1)!.isClosed).toBe(false);
    await runCommand(idle.at(-1)!.stream, "command", ["vol0"]);
    await expect(runCommand(idle[0]!.stream, "command", ["vol0"])).rejects.toThrow();
    await server.shutdown(0);
  });

  test("whoever is served, or was, is not taken for silent when too many are", async () => {
    const gate = Promise.withResolvers<void>();
    const slow: WireHandler = async (stream) => {
      await gate.promise;
      await replyVersion(stream, "done");
    };
    const { net, open, https, server } = await daemon({ slow, version }, { maxConversations: 1 });
    const web = await net.connect(address);
    web.write(Buffer.from("GET / HTTP/1.1\r\n\r\n"));
    await settle(5);
    expect(https).toHaveLength(1);
    const served = await open("slow");
    // Places for 18 at a time, of which one is being served.
    const silent = await Promise.all(Array.from({ length: 17 }, () => net.connect(address)));
    await settle(10);
    expect(silent.filter(({ isClosed }) => isClosed)).toEqual([]);
    const late = await Promise.all(Array.from({ length: 3 }, () => net.connect(address)));
    await settle(10);
    expect(silent.map(({ isClosed }) => isClosed).indexOf(false)).toBe(3);
    expect(late.filter(({ isClosed }) => isClosed)).toEqual([]);
    gate.resolve();
    expect(await runVersion(served.stream)).toBe("done");
    expect(web.isClosed).toBe(false);
    await server.shutdown(0);
  });

  test("a client that connects and says nothing, or half a handshake, is dropped after the deadline", async () => {
    const { net, clock, server, reports } = await daemon({ version });
    const silent = await net.connect(address);
    const half = await net.connect(address);
    half.write(Uint8Array.fromHex("027079"));
    await settle(5);
    await clock.advance(10_100);
    expect(silent.isClosed).toBe(true);
    expect(half.isClosed).toBe(true);
    expect(reports.map(({ error }) => error?.code)).toEqual(["timed-out"]);
    expect(clock.timerCount).toBe(0);
    await server.shutdown(0);
  });

  test("a client that disappears in the middle of a handshake leaves nothing behind", async () => {
    const hello = Uint8Array.fromHex("0270790776657273696f6e01");
    for (let cut = 0; cut < hello.length; cut++) {
      const { net, clock, server, reports } = await daemon({ version });
      const connection = await net.connect(address);
      connection.write(hello.subarray(0, cut));
      await settle(3);
      connection.close();
      await settle(10);
      expect(server.activeCount).toBe(0);
      expect(clock.timerCount).toBe(0);
      expect(reports.length).toBe(cut === 0 ? 0 : 1);
      await server.shutdown(0);
    }
  });
});

describe("shutdown", () => {
  test("graceful waits for what runs and refuses what is new; forced ends it with a cancellation", async () => {
    for (const graceMs of [5_000, 0]) {
      const codes: unknown[] = [];
      let finish: () => void = () => undefined;
      const gate = new Promise<void>((resolve) => {
        finish = resolve;
      });
      const { open, clock, server } = await daemon({
        slow: async (stream) => {
          await Promise.race([gate, stream.readU8("never").catch((error) => codes.push(error.code))]);
          if (graceMs > 0) await replyVersion(stream, "done");
        },
      });
      const { stream } = await open("slow");
      let isDown = false;
      const down = server.shutdown(graceMs).then(() => {
        isDown = true;
      });
      await settle(20);
      expect(await open("slow").catch((error) => error.code)).toBe("unreachable");
      if (graceMs > 0) {
        expect(isDown).toBe(false);
        finish();
        expect(await runVersion(stream)).toBe("done");
        stream.close();
      }
      await clock.advance(1_000);
      await down;
      expect(codes).toEqual([graceMs > 0 ? "unreachable" : "cancelled"]);
      expect(server.activeCount).toBe(0);
    }
  });
});
