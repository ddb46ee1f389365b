import { expect, test } from "bun:test";
import { receiveBulks, sendBulks } from "../../src/wire/bulk-stream.ts";
import { WireStream } from "../../src/wire/stream.ts";
import { connectionPair, ManualClock } from "../helpers/connection-pair.ts";
import { testPool } from "../helpers/wire.ts";

/** Goes on at once, and counts how often it was asked to let others have their turn. */
class TurnClock extends ManualClock {
  turns = 0;

  override sleep(delayMs: number): Promise<void> {
    expect(delayMs).toBe(0);
    this.turns += 1;
    return Promise.resolve();
  }
}

test("the zeroes of a sparse volume let others have their turn, at both ends of a full copy", async () => {
  const count = 200_000;
  const ends = connectionPair();
  const [clientClock, serverClock] = [new TurnClock(), new TurnClock()];
  const client = new WireStream(ends.client, { clock: clientClock });
  const server = new WireStream(ends.server, { clock: serverClock });
  async function* zeroes() {
    for (let i = 0; i < count; i++) yield { kind: "zero" } as const;
  }
  let received = 0;
  const sink = {
    write: () => {
      received += 1;
    },
    finish: () => Promise.resolve(),
    abandon: () => Promise.resolve(),
  };
  const range = { startLb: 0, sizeLb: count, bulkLb: 1 };
  await Promise.all([sendBulks(client, range, zeroes()), receiveBulks(server, range, testPool(), sink)]);
  client.close();
  server.close();
  expect(received).toBe(count);
  expect(clientClock.turns).toBeGreaterThan(1);
  expect(serverClock.turns).toBeGreaterThan(1);
});
