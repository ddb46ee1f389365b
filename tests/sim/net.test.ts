import { describe, expect, test } from "bun:test";
import type { Connection } from "../../src/platform/net.ts";
import { createSimWorld, type SimHost, type SimWorld } from "../../src/sim/sim.ts";
import { codeOf } from "../helpers/errors.ts";

interface End {
  readonly connection: Connection;
  sizeBytes: number;
  flippedBits: number;
  ends: number;
  readonly closes: (Error | undefined)[];
}

/** Reads and counts; every byte is expected to be 0x55. */
function read(connection: Connection): End {
  const end: End = { connection, sizeBytes: 0, flippedBits: 0, ends: 0, closes: [] };
  connection.setReader({
    data(chunk) {
      end.sizeBytes += chunk.length;
      for (const byte of chunk) for (let bits = byte ^ 0x55; bits > 0; bits >>= 1) end.flippedBits += bits & 1;
    },
    end: () => void end.ends++,
    closed: (error) => void end.closes.push(error),
  });
  return end;
}

const address = { kind: "tcp", host: "b", port: 7 } as const;
const bytes = (sizeBytes: number) => new Uint8Array(sizeBytes).fill(0x55);

interface Scene {
  readonly world: SimWorld;
  readonly a: SimHost;
  readonly b: SimHost;
  readonly client: End;
  readonly server: End;
}

async function connected(seed: number): Promise<Scene> {
  const world = createSimWorld(seed);
  const [a, b] = [world.host("a"), world.host("b")];
  const accepted: End[] = [];
  await world.complete(() => b.platform.net.listen({ ...address, host: "" }, (c) => void accepted.push(read(c))));
  const client = read(await world.complete(() => a.platform.net.connect(address, { timeoutMs: 1000 })));
  await world.runUntil(() => accepted.length > 0);
  return { world, a, b, client, server: accepted[0]! };
}

describe("the simulated network", () => {
  test("cuts a connection after an exact number of bytes", async () => {
    for (const limit of [0, 1, 1000, 100_000]) {
      const { world, client, server } = await connected(limit);
      world.network.cutAfterBytes("a", "b", limit);
      client.connection.write(bytes(300_000));
      await world.run(1000);
      expect(server.sizeBytes).toBe(limit);
      expect(client.closes.length + server.closes.length).toBe(2);
      expect(server.closes[0]).toBeInstanceOf(Error);
      expect(world.network.connectionCount("a", "b")).toBe(0);
      world.close();
    }
  });

  test("stalls in a partition without a word, and goes on where it was when healed", async () => {
    const { world, a, client, server } = await connected(1);
    world.network.partition("a", "*");
    client.connection.write(bytes(500_000));
    await world.run(10_000);
    expect([server.sizeBytes, client.closes.length, server.closes.length]).toEqual([0, 0, 0]);
    expect(await world.complete(() => codeOf(a.platform.net.connect(address, { timeoutMs: 5000 })))).toBe(
      "unreachable",
    );
    world.network.heal("a", "*");
    await world.run(1000);
    expect([server.sizeBytes, server.flippedBits]).toEqual([500_000, 0]);
    world.close();
  });

  test("gives up on a partition after the retransmit limit, at the sender only", async () => {
    const { world, client, server } = await connected(1);
    world.network.partition("a", "b", { oneWay: true });
    client.connection.write(bytes(10));
    await world.run(16 * 60_000);
    expect(client.closes[0]).toBeInstanceOf(Error);
    expect(server.closes).toEqual([]);
    world.close();
  });

  test("flips exactly one bit", async () => {
    const { world, client, server } = await connected(1);
    world.network.corruptByte("a", "b", 150_000);
    client.connection.write(bytes(200_000));
    await world.run(1000);
    expect([server.sizeBytes, server.flippedBits]).toEqual([200_000, 1]);
    world.close();
  });

  test("refuses, and accepts again", async () => {
    const { world, a } = await connected(1);
    const connect = () => world.complete(() => codeOf(a.platform.net.connect(address, { timeoutMs: 1000 })));
    world.network.refuse("a", "b");
    expect(await connect()).toBe("unreachable");
    world.network.accept("a", "b");
    expect(await connect()).toBe("no error");
    world.close();
  });

  test("tells the peers of a killed process by an end or a reset, of a silent one nothing until it is back", async () => {
    const seen = new Set<string>();
    for (let seed = 0; seed < 20; seed++) {
      const { world, b, client, server } = await connected(seed);
      if (seed % 2 === 0) server.connection.pause();
      client.connection.write(bytes(10_000));
      await world.run(20);
      b.kill();
      await world.run(100);
      expect(client.ends + client.closes.length).toBe(1);
      seen.add(client.ends === 1 ? "end" : "reset");
      world.close();
    }
    expect([...seen].sort()).toEqual(["end", "reset"]);

    const { world, b, client } = await connected(1);
    b.crash({ silent: true });
    client.connection.write(bytes(10));
    await world.run(60_000);
    expect(client.ends + client.closes.length).toBe(0);
    b.restart();
    await world.run(1000);
    expect(client.closes[0]).toBeInstanceOf(Error);
    world.close();
  });

  test("takes the time that latency and bandwidth cost", async () => {
    const { world, client, server } = await connected(1);
    const quality = { latency: { minMs: 50, maxMs: 50 }, bytesPerSecond: 1_000_000, windowBytes: 1024 * 1024 };
    world.network.setQuality("a", "b", quality);
    const startMs = world.nowMs();
    client.connection.write(bytes(1_000_000));
    await world.runUntil(() => server.sizeBytes === 1_000_000);
    expect(world.nowMs() - startMs).toBeWithin(1049, 1200);
    world.close();
  });

  test("does not let other hosts reach a listener on the loopback", async () => {
    const world = createSimWorld(1);
    const [a, b] = [world.host("a"), world.host("b", { addresses: ["10.0.0.2"] })];
    await world.complete(() => b.platform.net.listen({ kind: "tcp", host: "127.0.0.1", port: 7 }, () => {}));
    await world.complete(() => b.platform.net.listen({ kind: "tcp", host: "0.0.0.0", port: 8 }, () => {}));
    const connect = (host: SimHost, name: string, port: number) =>
      world.complete(() => codeOf(host.platform.net.connect({ kind: "tcp", host: name, port }, { timeoutMs: 100 })));
    expect(await connect(a, "b", 7)).toBe("unreachable");
    expect(await connect(b, "localhost", 7)).toBe("no error");
    expect(await connect(a, "10.0.0.2", 8)).toBe("no error");
    expect(await connect(a, "unheard-of", 8)).toBe("unreachable");
    world.close();
  });
});
