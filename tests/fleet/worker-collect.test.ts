import { afterEach, expect, test } from "bun:test";
import type { Fleet } from "../../src/fleet/fleet.ts";
import { collectViews, newWorkerMemory } from "../../src/fleet/worker/collect.ts";

const servers: { stop(force: boolean): unknown }[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) server.stop(true);
});

/** A server that answers each command with the same, after a while; missing: never. */
function serve(answer: object | undefined, delayMs = 0): { readonly address: string; readonly asked: () => number } {
  let count = 0;
  const server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    async fetch() {
      count += 1;
      await Bun.sleep(answer === undefined ? 60_000 : delayMs);
      return Response.json({ ok: answer });
    },
  });
  servers.push(server);
  return { address: `127.0.0.1:${server.port}`, asked: () => count };
}

const archiveStatus = {
  images: "files",
  volumes: [{ volume: "vol0", state: "Archived", stopState: "not-stopping", running: [], base: "|0|" }],
};
/** What the archive says of diffs and points, too: schemas take what they need. */
const primaryAnswer = { ...archiveStatus, base: { gid: 0, timeMs: 0 }, diffs: [], snapshots: [] };

function fleetOf(primary: string, proxy: string, replica: string): Fleet {
  return {
    file: undefined,
    servers: [
      { name: "a0", role: "archive", address: primary, isPrimary: true },
      { name: "p0", role: "proxy", address: proxy, isPrimary: false },
      { name: "a1", role: "archive", address: replica, isPrimary: false },
    ],
    volumes: { vol0: { replicate: ["a1"] } },
  };
}

const look = (fleet: Fleet, memory = newWorkerMemory(), nowMs = 0) =>
  collectViews({
    fleet,
    memory,
    readDuration: Number,
    signal: new AbortController().signal,
    timeoutMs: 1_000,
    nowMs: () => nowMs,
  });

test("an archive that refuses connections while a proxy takes its time is a failure of its own, and none that nobody handles", async () => {
  const fleet = fleetOf(serve(primaryAnswer).address, serve({ volumes: [] }, 300).address, "127.0.0.1:1");
  const { views, failures } = await look(fleet);
  expect(failures).toEqual([]);
  expect(views[0]?.replicas).toMatchObject([{ server: "a1", state: undefined, isSynchronizing: false }]);
});

test("a server that lets the worker wait in vain is not waited for again at each look, but asked again later", async () => {
  const silent = serve(undefined);
  const fleet = fleetOf(serve(primaryAnswer).address, serve({ volumes: [] }).address, silent.address);
  const memory = newWorkerMemory();
  for (let i = 0; i < 3; i++) {
    const { views } = await look(fleet, memory, i * 1_000);
    expect(views[0]?.replicas[0]?.failure).toContain("no answer");
  }
  expect(silent.asked()).toBe(1);
  await look(fleet, memory, 120_000);
  expect(silent.asked()).toBe(2);
});
