import { afterEach, expect, test } from "bun:test";
import { formatTime } from "../../src/cli/text/time.ts";
import { type FakeFleet, startFakeFleet } from "./fleet-fixture.ts";

let fleet: FakeFleet;
afterEach(() => fleet.close());

test("a server is found by its node id, which is what daemons call each other", async () => {
  fleet = await startFakeFleet({ storage: "pc1", proxy: "relay1", archive: "backup1" });
  Object.assign(fleet.states, { storage: "Target", proxy: "Stopped", archive: "Stopped" });
  expect((await fleet.run(["start", "vol0", "--server", "relay1"])).code).toBe(0);
  expect((await fleet.run(["start", "vol0", "--server", "backup1"])).code).toBe(0);
  expect(fleet.calls).toEqual(['proxy start {"volume":"vol0"}', 'archive start {"volume":"vol0"}']);
  expect((await fleet.run(["snapshots", "vol0", "--server", "backup1"])).code).toBe(0);
  expect((await fleet.run(["replicate", "vol0", "--to", "backup1"])).out).toContain("replicated vol0 to a0");
  const unknown = await fleet.run(["start", "vol0", "--server", "relay2"]);
  expect([unknown.code, unknown.err]).toEqual([2, expect.stringContaining('no server "relay2" in the fleet')]);
  const other = await fleet.run(["snapshots", "vol0", "--server", "relay1"]);
  expect([other.code, other.err]).toEqual([2, expect.stringContaining("needs the archive server")]);
});

test("of servers that share a node id the one that has the work is meant, or all are named", async () => {
  fleet = await startFakeFleet({ storage: "host", proxy: "host", archive: "host" });
  Object.assign(fleet.states, { storage: "Target", proxy: "Started", archive: "Archived" });
  expect((await fleet.run(["snapshots", "vol0", "--server", "host"])).code).toBe(0);
  const { code, err } = await fleet.run(["stop", "vol0", "--server", "host"]);
  expect([code, err]).toEqual([2, expect.stringContaining("name one of: s0, p0, a0")]);
  expect(fleet.calls).toEqual([]);
});

test("commands in a daemon's hint name it as the fleet does", async () => {
  fleet = await startFakeFleet({ storage: "pc1", proxy: "relay1", archive: "backup1" });
  fleet.states.archive = "down";
  const { code, err } = await fleet.run(["label", "vol0", "1", "upgrade", "--server", "a0"]);
  expect([code, err]).toEqual([4, expect.stringContaining("walb snapshots vol0 --server a0; or not")]);
});

test("moments in a daemon's error are told in local time, and to programs in UTC", async () => {
  fleet = await startFakeFleet();
  fleet.states.archive = "down";
  const label = ["label", "vol0", "1", "upgrade"];
  expect((await fleet.run(label)).err).toContain(`by the fake since ${formatTime(Date.UTC(2026, 0, 1))}\n`);
  expect(JSON.parse((await fleet.run([...label, "--json"])).err)).toMatchObject({
    error: { what: "refused by the fake since 2026-01-01T00:00:00Z" },
  });
});
