import { expect, test } from "bun:test";
import { asWalbError, type WalbError } from "../../src/errors.ts";
import type { Connection, Net } from "../../src/platform/net.ts";
import type { ClusterKeys } from "../../src/secure/key.ts";
import { secureNet } from "../../src/secure/net.ts";
import { createSimWorld, type SimHost } from "../../src/sim/sim.ts";
import { testKeys } from "../secure/fixture.ts";

const address = { kind: "tcp", host: "b", port: 7 } as const;

function secured(host: SimHost, keys: ClusterKeys, refused: WalbError[] = []): Net {
  const { net, clock } = host.platform;
  const certificate = () => ({ certificatePem: "", keyPem: "" });
  return secureNet(net, { keys, clock, nodeId: "b", certificate, onRefused: (error) => refused.push(error) });
}

/** Collects what a connection brings. */
function read(connection: Connection): { text: string } {
  const inbox = { text: "" };
  connection.setReader({
    data: (chunk) => {
      inbox.text += Buffer.from(chunk).toString();
    },
    end: () => connection.close(),
    closed: () => undefined,
  });
  return inbox;
}

test("a secured network is the same over the simulated one: proof, refusal, and what is sent behind the proof", async () => {
  for (const keys of [testKeys(1), testKeys(2)]) {
    const world = createSimWorld(keys.all[0].id[0]!);
    const [a, b] = [world.host("a"), world.host("b")];
    const refused: WalbError[] = [];
    const inboxes: { text: string }[] = [];
    await world.complete(() =>
      secured(b, testKeys(1), refused).listen({ ...address, host: "" }, (connection) => inboxes.push(read(connection))),
    );
    const outcome = await world.complete(() =>
      secured(a, keys)
        .connect(address, { timeoutMs: 5000 })
        .then((connection) => void connection.write(Buffer.from("hello")), asWalbError),
    );
    await world.run(2000);
    const isSame = keys.all[0].fingerprint === testKeys(1).all[0].fingerprint;
    expect(inboxes.map(({ text }) => text)).toEqual(isSame ? ["hello"] : []);
    expect(outcome?.code).toBe(isSame ? undefined : "wrong-key");
    expect(refused.map(({ code }) => code)).toEqual(isSame ? [] : ["wrong-key"]);
    world.close();
  }
});

test("a connection that breaks at any byte of the introduction is told to who connects, and never accepted by half", async () => {
  for (const [from, to] of [
    ["a", "b"],
    ["b", "a"],
  ] as const) {
    for (let limit = 0; limit < 100; limit += 3) {
      const world = createSimWorld(limit);
      const [a, b] = [world.host("a"), world.host("b")];
      let acceptedCount = 0;
      await world.complete(() => secured(b, testKeys(1)).listen({ ...address, host: "" }, () => void acceptedCount++));
      world.network.cutAfterBytes(from, to, limit);
      const outcome = await world.complete(() =>
        secured(a, testKeys(1))
          .connect(address, { timeoutMs: 5000 })
          .then(() => "connected", asWalbError),
      );
      await world.run(20_000);
      // Client's messages: 35 bytes of TLS here and 50 of proof. Server's: 35 and 50.
      const isWhole = limit >= 85;
      if (!isWhole) expect([limit, outcome]).toEqual([limit, expect.objectContaining({ code: "unreachable" })]);
      if (from === "a") expect([limit, acceptedCount]).toEqual([limit, isWhole ? 1 : 0]);
      if (!isWhole) expect([limit, world.network.connectionCount("a", "b")]).toEqual([limit, 0]);
      world.close();
    }
  }
});
