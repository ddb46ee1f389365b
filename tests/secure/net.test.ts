import { describe, expect, test } from "bun:test";
import { asWalbError, type WalbError } from "../../src/errors.ts";
import { type Address, addressText, type Connection } from "../../src/platform/net.ts";
import { createClock } from "../../src/platform/real/clock.ts";
import { createNet } from "../../src/platform/real/net.ts";
import { ServerCertificates } from "../../src/secure/authority.ts";
import { clientMessage, exporterBytes, exporterLabel, messageBytesMax, proofMagic } from "../../src/secure/proof.ts";
import { connectWire } from "../../src/wire/handshake.ts";
import { type ConversationReport, serveWire } from "../../src/wire/server.ts";
import { ManualClock } from "../helpers/connection-pair.ts";
import { failureOf } from "../helpers/errors.ts";
import { anyPort, context, Inbox, listening, netWith, testKey, testKeys, tlsOnly } from "./fixture.ts";

const plain = createNet();
const limit = { timeoutMs: 20_000 };
const one = testKey(1).fingerprint;
const two = testKey(2).fingerprint;

async function refused(list: readonly WalbError[]): Promise<WalbError> {
  while (list.length === 0) await Bun.sleep(5);
  return list[0]!;
}

describe("two hosts with the same key", () => {
  test("are connected, trusted, and move data both ways through half-closed connections", async () => {
    const server = await listening(netWith(testKeys(1)));
    const client = await netWith(testKeys(1)).connect(server.address, limit);
    const accepted = await server.accepted;
    expect([client.peerTrust, accepted.peerTrust]).toEqual(["trusted", "trusted"]);
    const [atClient, atServer] = [new Inbox(client), new Inbox(accepted)];
    const big = context.randomBytes(12 << 20);
    await client.send(big.subarray(0, 4 << 20));
    client.end();
    await atServer.until((inbox) => inbox.hasEnded);
    expect(Buffer.compare(atServer.bytes, big.subarray(0, 4 << 20))).toBe(0);
    await accepted.send(big.subarray(4 << 20));
    accepted.end();
    await atClient.until((inbox) => inbox.hasEnded);
    expect(Buffer.compare(atClient.bytes, big.subarray(4 << 20))).toBe(0);
    await Promise.all([atClient.until((inbox) => inbox.isClosed), atServer.until((inbox) => inbox.isClosed)]);
    await server.close();
  });

  test("take what is sent right behind the proof", async () => {
    const server = await listening(netWith(testKeys(1)));
    const { connection, session } = await tlsOnly(server.address);
    const exporter = session.exportKeyingMaterial(exporterLabel, exporterBytes);
    connection.write(Buffer.concat([clientMessage(testKeys(1), exporter), Buffer.from("first words")]));
    const inbox = new Inbox(await server.accepted);
    await inbox.until(({ bytes }) => bytes.length === 11);
    expect(inbox.text).toBe("first words");
    connection.close();
    await server.close();
  });

  test("leave unix sockets as they are", async () => {
    const path = `/tmp/walb-secure-${process.pid}.sock`;
    const net = netWith(testKeys(1));
    const accepted = Promise.withResolvers<Connection>();
    const listener = await net.listen({ kind: "unix", path }, accepted.resolve);
    const client = await plain.connect({ kind: "unix", path }, limit);
    client.write(Buffer.from("in plain"));
    const inbox = new Inbox(await accepted.promise);
    await inbox.until(({ bytes }) => bytes.length === 8);
    client.close();
    await listener.close();
  });
});

describe("keys are changed host by host", () => {
  test("two hosts agree when they have one key in common, wherever it is in the file", async () => {
    const sets = [[1], [1, 2], [2, 1], [2], [3, 2, 1]] as const;
    for (const there of sets) {
      const server = await listening(netWith(testKeys(...(there as unknown as [number]))));
      for (const here of sets) {
        const isCommon = here.some((key) => (there as readonly number[]).includes(key));
        const connecting = netWith(testKeys(...(here as unknown as [number]))).connect(server.address, limit);
        if (isCommon) (await connecting).close();
        else expect((await failureOf(connecting)).code).toBe("wrong-key");
      }
      await server.close();
    }
  });
});

describe("a peer that is refused hears why, and so does the log", () => {
  test("another key: both sides name both keys, and no secret", async () => {
    const log: WalbError[] = [];
    const server = await listening(netWith(testKeys(1), log));
    const error = await failureOf(netWith(testKeys(2)).connect(server.address, limit));
    expect(error.code).toBe("wrong-key");
    expect(error.what).toBe(
      `${addressText(server.address)} has cluster key ${one}, this side has cluster key ${two}: they have none in common`,
    );
    expect(error.hint).toContain("/etc/walb/key2");
    const told = await refused(log);
    expect(told.message).toContain(`a peer has cluster key ${two}, a0 has cluster key ${one}`);
    expect(told.where.peer).toMatch(/^127\.0\.0\.1:/);
    expect(server.count()).toBe(0);
    await server.close();
  });

  test("no key, wire protocol: an answer in that protocol", async () => {
    const log: WalbError[] = [];
    const server = await listening(netWith(testKeys(1), log));
    const connecting = connectWire(plain, server.address, {
      clientId: "s0",
      protocol: "version",
      clock: createClock(),
    });
    const error = await failureOf(connecting);
    expect(error.what).toContain(`a0 takes connections that are protected by cluster key ${one} only`);
    expect(error.what).toContain("--cluster-key");
    expect((await refused(log)).message).toContain(`a peer came without a cluster key; a0 has cluster key ${one}`);
    await server.close();
  });

  test("no key, HTTP: status 400 and the same in JSON", async () => {
    const server = await listening(netWith(testKeys(1)));
    const response = await fetch(`http://${addressText(server.address)}/metrics`);
    expect(response.status).toBe(400);
    const { error } = (await response.json()) as { error: { code: string; what: string; hint: string } };
    expect(error).toMatchObject({ code: "wrong-key", what: expect.stringContaining(one) });
    expect(error.hint).toContain("walb key token");
    await server.close();
  });

  test("a key towards a daemon without one: the client names its key, the daemon the client", async () => {
    const reports: ConversationReport[] = [];
    const options = {
      nodeId: "p0",
      clock: createClock(),
      handlers: new Map(),
      ended: (r: ConversationReport) => reports.push(r),
    };
    const server = await serveWire(plain, anyPort, options);
    const error = await failureOf(netWith(testKeys(1)).connect(server.address, limit));
    expect(error.code).toBe("wrong-key");
    expect(error.what).toContain("has no cluster key");
    expect(error.what).toContain(one);
    expect(error.hint).toContain("--cluster-key");
    expect(reports[0]?.error).toMatchObject({ code: "wrong-key", what: expect.stringContaining("p0 has none") });
    await server.shutdown(0);
  });

  test("TLS but no proof: HTTP is passed on unproven, anything else is cut", async () => {
    const log: WalbError[] = [];
    const server = await listening(netWith(testKeys(1), log));
    const wire = new Inbox((await tlsOnly(server.address)).connection);
    wire.connection.write(Buffer.from("\x02s0\x07version\x01"));
    await wire.until(({ hasEnded, isClosed }) => hasEnded || isClosed);
    expect([wire.text, server.count()]).toEqual(["", 0]);
    expect((await refused(log)).message).toContain("has not proved the cluster key");
    const { connection } = await tlsOnly(server.address);
    connection.write(Buffer.from("GE"));
    await Bun.sleep(20);
    connection.write(Buffer.from("T / HTTP/1.1\r\n"));
    const accepted = await server.accepted;
    expect(accepted.peerTrust).toBe("unproven");
    const inbox = new Inbox(accepted);
    await inbox.until(({ bytes }) => bytes.length === 16);
    expect(inbox.text).toBe("GET / HTTP/1.1\r\n");
    connection.close();
    await server.close();
  });
});

describe("a proof is worth nothing elsewhere", () => {
  const certificates = new ServerCertificates(testKeys(9), ["localhost"], context);

  /** A server that speaks TLS and answers what `reply` makes of the client's message. */
  async function impostor(reply: (message: Uint8Array) => Promise<Uint8Array>): Promise<Address> {
    const listener = await plain.listen(anyPort, (connection) => {
      const run = async (): Promise<void> => {
        await connection.startTls({ isServer: true, certificate: certificates.current(), timeoutMs: 5000 });
        const inbox = new Inbox(connection);
        await inbox.until(({ bytes }) => bytes.length >= proofMagic.length + 42);
        connection.write(await reply(inbox.bytes));
      };
      void run();
    });
    return listener.address;
  }

  test("what the client sent, given back as the server's answer, is no proof", async () => {
    const address = await impostor(async (message) => {
      const answer = Buffer.from(message);
      answer[proofMagic.length + 1] = 0;
      return answer;
    });
    const error = await failureOf(netWith(testKeys(1)).connect(address, limit));
    expect(error).toMatchObject({ code: "wrong-key", what: expect.stringContaining("could not prove") });
  });

  test("somebody in between who passes everything on gets in at neither side", async () => {
    const log: WalbError[] = [];
    const server = await listening(netWith(testKeys(1), log));
    const address = await impostor(async (message) => {
      const { connection } = await tlsOnly(server.address);
      connection.write(message);
      const inbox = new Inbox(connection);
      await inbox.until(({ hasEnded, isClosed }) => hasEnded || isClosed);
      return inbox.bytes;
    });
    const error = await failureOf(netWith(testKeys(1)).connect(address, limit));
    expect(error.code).toBe("wrong-key");
    expect((await refused(log)).message).toContain(`a wrong proof of cluster key ${one}`);
    expect(server.count()).toBe(0);
    await server.close();
  });

  test("a proof of an earlier session is refused in the next", async () => {
    const log: WalbError[] = [];
    const server = await listening(netWith(testKeys(1), log));
    const first = await tlsOnly(server.address);
    const message = clientMessage(testKeys(1), first.session.exportKeyingMaterial(exporterLabel, exporterBytes));
    first.connection.write(message);
    (await server.accepted).close();
    const second = new Inbox((await tlsOnly(server.address)).connection);
    second.connection.write(message);
    await second.until(({ hasEnded, isClosed }) => hasEnded || isClosed);
    expect((await refused(log)).message).toContain("a wrong proof");
    expect(server.count()).toBe(1);
    await server.close();
  });

  test("the keying material of both ends is the same, and another one in each session", async () => {
    const seen: string[] = [];
    for (let round = 0; round < 2; round += 1) {
      const session = Promise.withResolvers<Uint8Array>();
      const listener = await plain.listen(anyPort, (connection) => {
        connection
          .startTls({ isServer: true, certificate: certificates.current(), timeoutMs: 5000 })
          .then((tls) => session.resolve(tls.exportKeyingMaterial(exporterLabel, exporterBytes)), session.reject);
      });
      const client = await tlsOnly(listener.address);
      const here = client.session.exportKeyingMaterial(exporterLabel, exporterBytes);
      expect(Buffer.compare(here, await session.promise)).toBe(0);
      seen.push(Buffer.from(here).toString("hex"));
      client.connection.close();
      await listener.close();
    }
    expect(seen[0]).not.toBe(seen[1]);
  });
});

describe("a peer that takes its time", () => {
  test("may send its proof one byte at a time", async () => {
    const server = await listening(netWith(testKeys(1, 2)));
    const { connection, session } = await tlsOnly(server.address);
    for (const byte of clientMessage(testKeys(2, 3), session.exportKeyingMaterial(exporterLabel, exporterBytes))) {
      await connection.send(Uint8Array.of(byte));
      await Bun.sleep(0);
    }
    (await server.accepted).close();
    connection.close();
    await server.close();
  });

  test("is cut off when it says nothing, half a TLS hello or half a proof for ten seconds", async () => {
    const log: WalbError[] = [];
    const clock = new ManualClock();
    const server = await listening(netWith(testKeys(1), log, clock));
    const raw = async (bytes: readonly number[]): Promise<Inbox> => {
      const connection = await plain.connect(server.address, limit);
      connection.write(Uint8Array.from(bytes));
      return new Inbox(connection);
    };
    const half = await tlsOnly(server.address);
    half.connection.write(Buffer.from(proofMagic));
    const inboxes = [await raw([]), await raw([0x16]), await raw([0x16, 3, 1, 2, 0, 1, 0]), new Inbox(half.connection)];
    while (clock.timerCount < inboxes.length) await Bun.sleep(5);
    await Bun.sleep(50);
    await clock.advance(9_999);
    expect(inboxes.map(({ isClosed }) => isClosed)).toEqual([false, false, false, false]);
    await clock.advance(1);
    await Promise.all(inboxes.map((inbox) => inbox.until(({ hasEnded, isClosed }) => hasEnded || isClosed)));
    expect(clock.timerCount).toBe(0);
    expect(log.length).toBe(4);
    await server.close();
  });

  test("makes room for others when 128 do", async () => {
    const log: WalbError[] = [];
    const server = await listening(netWith(testKeys(1), log, new ManualClock()));
    const idle: Inbox[] = [];
    for (let number = 0; number < 128; number += 1) idle.push(new Inbox(await plain.connect(server.address, limit)));
    const client = await netWith(testKeys(1)).connect(server.address, limit);
    await idle[0]!.until(({ hasEnded, isClosed }) => hasEnded || isClosed);
    expect(idle.slice(1).filter(({ hasEnded, isClosed }) => hasEnded || isClosed)).toEqual([]);
    expect((await refused(log)).message).toContain("too many others");
    client.close();
    for (const { connection } of idle) connection.close();
    await server.close();
  });

  test("cannot fill memory, nor confuse with lengths, before it has proved", async () => {
    const messages = [
      Buffer.concat([Buffer.from(proofMagic), Buffer.of(1, 5)]),
      Buffer.concat([Buffer.from(proofMagic), Buffer.of(1, 0)]),
      Buffer.concat([Buffer.from(proofMagic), Buffer.of(2, 1)]),
      Buffer.from("walb-kex"),
      Buffer.from(`GET${"T".repeat(messageBytesMax)}`),
    ];
    for (const message of messages) {
      const log: WalbError[] = [];
      const server = await listening(netWith(testKeys(1), log));
      const inbox = new Inbox((await tlsOnly(server.address)).connection);
      inbox.connection.write(message);
      await inbox.until(({ hasEnded, isClosed }) => hasEnded || isClosed);
      expect([message.toString().slice(0, 12), server.count(), log.length]).toEqual([
        message.toString().slice(0, 12),
        0,
        1,
      ]);
      await server.close();
    }
  });

  test("a client gives up a server that does not prove", async () => {
    const certificates = new ServerCertificates(testKeys(1), ["localhost"], context);
    const listener = await plain.listen(anyPort, (connection) => {
      void connection.startTls({ isServer: true, certificate: certificates.current(), timeoutMs: 5000 });
    });
    const started = performance.now();
    const error = await failureOf(netWith(testKeys(1)).connect(listener.address, { timeoutMs: 300 }));
    expect(asWalbError(error).code).toBe("timed-out");
    expect(performance.now() - started).toBeGreaterThan(250);
    await listener.close();
  });
});
