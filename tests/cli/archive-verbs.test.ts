import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { type FakeFleet, startFakeFleet } from "./fleet-fixture.ts";

let fleet: FakeFleet;
beforeEach(async () => {
  fleet = await startFakeFleet();
  Object.assign(fleet.states, { storage: "Target", proxy: "Started", archive: "Archived" });
});
afterEach(() => fleet.close());

describe("apply", () => {
  test("gives up what is before a time or a gid, asks first, and can only say what it would do", async () => {
    const dry = await fleet.run(["apply", "vol0", "--before", "2026-01-01T12:00:00Z", "--dry-run"]);
    expect([dry.code, dry.out]).toEqual([
      4,
      "", // The first point is the oldest one already.
    ]);
    const unasked = await fleet.run(["apply", "vol0", "--before", "3"]);
    expect([unasked.code, unasked.err]).toEqual([2, expect.stringContaining("gives up 1 points before gid 3")]);
    expect(fleet.calls).toEqual(['archive apply {"volume":"vol0","gid":3,"dryRun":true}']);
    const done = await fleet.run(["apply", "vol0", "--before", "2026-01-02T12:00:00Z", "--yes", "--json"]);
    expect(JSON.parse(done.out)).toMatchObject({ volume: "vol0", isDryRun: false, gid: 3, lostPointCount: 1 });
    expect(fleet.calls.at(-1)).toBe('archive apply {"volume":"vol0","gid":3}');
  });

  test("finishes an interrupted apply by the gid that the status names, and refuses what cannot be", async () => {
    expect((await fleet.run(["apply", "vol0", "--before", "2", "--yes"])).code).toBe(0);
    expect(fleet.calls.at(-1)).toBe('archive apply {"volume":"vol0","gid":2}');
    expect((await fleet.run(["apply", "vol0", "--before", "2025-01-01", "--yes"])).code).toBe(6);
    expect((await fleet.run(["apply", "vol0", "--before", "soon", "--yes"])).code).toBe(2);
    expect((await fleet.run(["apply", "vol0", "--yes"])).code).toBe(2);
  });
});

test("merge hands on its limits", async () => {
  const dry = await fleet.run(["merge", "vol0", "--from", "1", "--to", "3", "--dry-run"]);
  expect([dry.code, dry.out]).toEqual([0, "would make one diff of 3 with 1.00M\n"]);
  expect((await fleet.run(["merge", "vol0", "--max-size", "1G"])).out).toBe("made one diff of 3, 1.00M, in 1s\n");
  expect(fleet.calls).toEqual([
    'archive merge {"volume":"vol0","fromGid":1,"toGid":3,"dryRun":true}',
    'archive merge {"volume":"vol0","fromGid":0,"maxBytes":1073741824}',
  ]);
  expect((await fleet.run(["merge", "vol0", "--to", "3", "--max-size", "1G"])).code).toBe(2);
});

test("images that an archive keeps are made, listed and deleted", async () => {
  const kept = await fleet.run(["restore", "vol0", "--keep"]);
  expect([kept.code, kept.out]).toEqual([0, expect.stringContaining("to /a/restored-5.img: wrote 3.00M")]);
  expect(fleet.calls).toEqual(['archive restore {"volume":"vol0"}']);
  expect((await fleet.run(["restore", "vol0"])).code).toBe(2);
  expect((await fleet.run(["restore", "vol0", "--keep", "--to", "/x"])).code).toBe(2);
  const list = await fleet.run(["images", "vol0"]);
  expect(list.out).toMatch(/ 3 {2}restored {2}\/a\/restored-3.img\n.* 4 {2}cold {6}\/a\/cold-4.img\n$/);
  expect((await fleet.run(["delete-image", "vol0", "3"])).code).toBe(2);
  expect((await fleet.run(["delete-image", "vol0", "3", "--yes"])).code).toBe(0);
  expect((await fleet.run(["delete-image", "vol0", "4", "--cold", "--yes"])).code).toBe(0);
  expect((await fleet.run(["delete-image", "vol0", "4", "--cold", "--dry-run"])).out).toContain("would delete");
  expect(fleet.calls.slice(-2)).toEqual([
    'archive del-restored {"volume":"vol0","gid":3}',
    'archive del-cold {"volume":"vol0","gid":4}',
  ]);
});

test("verify goes on behind damage, and its exit code tells", async () => {
  const { code, out } = await fleet.run(["verify", "vol0", "bad0", "vol1", "--subset", "10%", "--stale", "30d"]);
  expect(code).toBe(5);
  expect(out).toMatch(/^vol0: good; read 4 of 4 diffs .*\nbad0: DAMAGED, 1 points .*\n {2}x\.wdiff.*gid 3\nvol1: good/);
  expect(fleet.calls[0]).toBe('archive verify {"volume":"vol0","subsetPercent":10,"staleMs":2592000000}');
  const good = await fleet.run(["verify", "vol0", "--json"]);
  expect([good.code, JSON.parse(good.out)]).toMatchObject([0, { isGood: true, volumes: [{ volume: "vol0" }] }]);
  expect((await fleet.run(["verify", "vol0", "--subset", "0"])).code).toBe(2);
});

test("a storage has one rate, that of its scans, and keeps blocks of a log", async () => {
  expect((await fleet.run(["limit", "--scan", "20M", "--server", "s0"])).out).toBe("scan 20.0M/s\n");
  expect(JSON.parse((await fleet.run(["limit", "--server", "s0", "--json"])).out)).toEqual({ scanBytesPerS: 0 });
  const refused = await fleet.run(["limit", "--apply", "1M", "--server", "s0"]);
  expect(refused.code).toBe(2);
  expect(refused.err).toContain("walb limit --scan 100M --server s0");
  expect((await fleet.run(["limit", "--server", "p0"])).code).toBe(2);
  const dump = await fleet.run(["dump-log-header", "vol0", "12"]);
  expect(dump.out).toContain("/data/vol0/logpackheader-12: no header: checksum does not match");
  expect((await fleet.run(["dump-log-header", "vol0"])).code).toBe(2);
});

test("snapshots are enabled and disabled, and rates are limited and shown", async () => {
  await fleet.run(["enable-snapshot", "vol0", "3", "4"]);
  await fleet.run(["disable-snapshot", "vol0", "3"]);
  expect(fleet.calls).toEqual([
    'archive enable-snapshot {"volume":"vol0","gids":[3,4]}',
    'archive disable-snapshot {"volume":"vol0","gids":[3]}',
  ]);
  expect((await fleet.run(["limit", "--apply", "50M"])).out).toBe(
    "apply 50.0M/s\nrestore no limit\nmerge no limit\nscan no limit\n",
  );
});

test("diff lists what was written between two points, named by gid or time", async () => {
  const { code, out } = await fleet.run(["diff", "vol0", "3", "2026-01-02T13:00:00Z", "--max", "2"]);
  expect(code).toBe(0);
  expect(out).toMatch(/^vol0 from .* \(3\) to .* \(\d\): 5.50K in 3 ranges, 1.50K of them zeroes\n/);
  expect(out).toMatch(/\n *0 +4096\n *1048576 +1536 +ZERO\nand 1 more\n$/);
  expect(fleet.calls[0]).toMatch(/^archive changes {"volume":"vol0","fromGid":3,"toGid":\d,"rangesMax":2}$/);
  const json = await fleet.run(["diff", "vol0", "3", "3", "--json"]);
  expect(JSON.parse(json.out)).toMatchObject({ volume: "vol0", rangeCount: 3, changedBytes: 5632 });
  expect((await fleet.run(["diff", "vol0", "3"])).code).toBe(2);
  expect((await fleet.run(["diff", "vol0", "3", "99"])).code).toBe(6);
});
