import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { program } from "../../src/cli/commands.ts";
import { command, commandLines, group, type WalbCommand } from "../../src/cli/program.ts";
import { renderReference } from "../../src/cli/reference.ts";
import { runCommandLine } from "../../src/cli/run.ts";
import { formatTime } from "../../src/cli/text/time.ts";
import { type ErrorCode, errorCodes, WalbError } from "../../src/errors.ts";
import { quietIo } from "../helpers/quiet-io.ts";
import { type FakeFleet, runIn, startFakeFleet } from "./fleet-fixture.ts";

let fleet: FakeFleet;
const { io: silentIo } = quietIo();

beforeEach(async () => {
  fleet = await startFakeFleet();
});
afterEach(() => fleet.close());

describe("a volume's life through the verbs", () => {
  test("init lets the storage check the device first, prepares the others, and again does nothing", async () => {
    const first = await fleet.run(["init", "vol0", "--device", "dev0"]);
    expect([first.code, first.err]).toEqual([0, expect.stringContaining("p0: sends vol0 to a0")]);
    expect(fleet.calls).toEqual([
      'storage init {"volume":"vol0","device":{"kind":"user","name":"dev0"}}',
      'archive init {"volume":"vol0"}',
      'proxy add-archive {"volume":"vol0","archiveName":"a0"}',
      'proxy start {"volume":"vol0"}',
    ]);
    const again = await fleet.run(["init", "vol0", "--device", "dev0", "--json"]);
    expect(JSON.parse(again.out)).toEqual({ volume: "vol0", storage: "s0", proxies: ["p0"], archive: "a0" });
    expect(fleet.calls).toHaveLength(4);
  });

  test("init takes a device of the kernel driver by its path, and goes on with it when the volume moved there", async () => {
    expect((await fleet.run(["init", "vol0", "--device", "/dev/walb/vol0"])).code).toBe(0);
    expect(fleet.calls[0]).toBe('storage init {"volume":"vol0","device":{"kind":"kernel","name":"vol0"}}');
    fleet.calls.length = 0;
    fleet.states.storage = "Stopped";
    const moved = await fleet.run(["init", "vol0", "--device", "/dev/walb/vol1", "--moved"]);
    expect([moved.code, moved.out]).toEqual([0, "vol0 is device /dev/walb/vol1 now; go on with: walb start vol0\n"]);
    expect(fleet.calls).toEqual(['storage set-device {"volume":"vol0","device":{"kind":"kernel","name":"vol1"}}']);
    fleet.states.storage = "Clear";
    const unknown = await fleet.run(["init", "vol0", "--device", "/dev/walb/vol1", "--moved"]);
    expect([unknown.code, unknown.err]).toEqual([1, expect.stringContaining("without --moved")]);
    for (const [device, ...more] of [
      ["/dev/walb/vol0", "--device-socket", "x.sock"],
      ["/dev/walb/control"],
      ["/dev/vg/lv"],
    ] as const) {
      expect((await fleet.run(["init", "vol0", "--device", device, ...more])).code).not.toBe(0);
    }
    expect(fleet.calls).toHaveLength(1);
  });

  test("init with a wrong device leaves the volume nowhere", async () => {
    const { code, err } = await fleet.run(["init", "vol0", "--device", "nosuch"]);
    expect([code, err]).toEqual([4, expect.stringContaining("refused by the fake")]);
    expect(fleet.calls).toEqual([]);
    expect(fleet.states).toEqual({ storage: "Clear", proxy: "Clear", archive: "Clear" });
  });

  test("init takes back what a proxy did without answering in time, too", async () => {
    const { code, err } = await fleet.run(["init", "late", "--device", "dev0", "--timeout", "1s"]);
    expect([code, err]).toEqual([8, expect.stringContaining("p0: undone\na0: undone\ns0: undone")]);
    expect(fleet.calls).toContain('proxy clear {"volume":"late"}');
    expect(fleet.states).toEqual({ storage: "Clear", proxy: "Clear", archive: "Clear" });
  });

  test("init of a volume that a storage or archive cannot open says why, and that it is not ready", async () => {
    for (const role of ["storage", "archive"] as const) {
      Object.assign(fleet.states, { storage: "SyncReady", proxy: "Started", archive: "Archived", [role]: "Broken" });
      const { code, out, err } = await fleet.run(["init", "vol0", "--device", "dev0"]);
      expect([code, out]).toEqual([4, ""]);
      expect(err).toContain(`the ${role} cannot open the volume: volume.db is no database`);
      expect(err).toContain("move volume.db aside");
    }
    expect(fleet.calls).toEqual([]);
  });

  test("status of one server tells what that server cannot open, and the way out", async () => {
    for (const [role, name] of [
      ["storage", "s0"],
      ["proxy", "p0"],
      ["archive", "a0"],
    ] as const) {
      Object.assign(fleet.states, { storage: "Target", proxy: "Started", archive: "Archived", [role]: "Broken" });
      const { out } = await fleet.run(["status", "--server", name]);
      expect(out).toContain(
        `vol0: warning: ${role} ${name}: state Broken: volume.db is no database; move volume.db aside`,
      );
    }
  });

  test("init makes a volume anew at a proxy that lost its database", async () => {
    Object.assign(fleet.states, { storage: "Target", proxy: "Broken", archive: "Archived" });
    expect((await fleet.run(["init", "vol0", "--device", "dev0"])).code).toBe(0);
    expect(fleet.calls).toEqual([
      'proxy add-archive {"volume":"vol0","archiveName":"a0"}',
      'proxy start {"volume":"vol0"}',
    ]);
  });

  test("backup does what is needed and says why", async () => {
    Object.assign(fleet.states, { storage: "SyncReady", proxy: "Started", archive: "SyncReady" });
    const full = await fleet.run(["backup", "vol0", "--wait"]);
    expect([full.code, full.err]).toEqual([
      0,
      expect.stringContaining("full backup of vol0: the archive has no image yet"),
    ]);
    expect(full.out).toContain("restorable as snapshot 1");
    fleet.states.storage = "SyncReady";
    const hash = await fleet.run(["backup", "vol0", "--json", "--quiet"]);
    expect([hash.code, hash.err]).toEqual([0, ""]);
    expect(JSON.parse(hash.out)).toMatchObject({ mode: "hash", gid: 1, isRestorable: false });
    const running = await fleet.run(["backup", "vol0"]);
    expect([running.code, running.err]).toEqual([4, expect.stringContaining("being backed up continuously already")]);
    fleet.states.storage = "SyncReady";
    fleet.calls.length = 0;
    fleet.states.archive = "WdiffRecv";
    const receiving = await fleet.run(["backup", "vol0", "--json", "--quiet"]);
    expect(JSON.parse(receiving.out)).toMatchObject({ mode: "hash" });
    expect(fleet.calls).toHaveLength(1);
    // No full backup while it is not known what the archive has.
    for (const [state, hint] of [
      ["Stopped", "walb start vol0 --server a0"],
      ["HashSync", "receiving a backup"],
      ["Broken", "walb status vol0"],
    ] as const) {
      Object.assign(fleet.states, { storage: "SyncReady", archive: state });
      const refused = await fleet.run(["backup", "vol0"]);
      expect([refused.code, refused.err]).toEqual([4, expect.stringContaining(hint)]);
    }
    expect(fleet.calls).toHaveLength(1);
  });

  test("whoever waits is told at once what holds it up, and once a minute that it still waits", async () => {
    Object.assign(fleet.states, { storage: "Target", proxy: "Stopped", archive: "Archived" });
    fleet.newestGid = 4n;
    // A clock of its own: every look at it is ten seconds later.
    let nowMs = 0;
    const stepping = { nowMs: () => (nowMs += 10_000) };
    const { code, err } = await fleet.run(["snapshot", "vol0", "--wait", "--timeout", "90s"], stepping);
    expect(code).toBe(8);
    const lines = err.split("\n");
    expect(lines[0]).toBe("waiting for snapshot 5 of vol0 at a0, which has 4");
    expect(lines[1]).toBe("  proxy p0: state Stopped, it takes nothing; start it: walb start vol0 --server p0");
    expect(lines.filter((line) => line.startsWith("waiting for"))).toHaveLength(2);
    const quiet = await fleet.run(["snapshot", "vol0", "--wait", "--quiet", "--timeout", "1s"]);
    expect([quiet.code, quiet.err]).toEqual([8, expect.not.stringContaining("waiting")]);
  });

  test("a backup whose time is over goes on; one that is interrupted is cancelled", async () => {
    fleet.states.storage = "SyncReady";
    const late = await fleet.run(["backup", "slow", "--full", "--server", "s0", "--timeout", "200ms"]);
    expect([late.code, late.err]).toEqual([8, expect.stringContaining("goes on as job")]);
    const status = (await (await fetch(`http://127.0.0.1:${fleet.ports.storage}/api/jobs`)).json()) as {
      ok: { jobs: { state: string }[] };
    };
    expect(status.ok.jobs.map(({ state }) => state)).toEqual(["running"]);
    const abort = new AbortController();
    const work = fleet.run(["backup", "slow", "--full", "--server", "s0"], { signal: abort.signal });
    await Bun.sleep(300);
    abort.abort();
    expect((await work).code).toBe(130);
    const after = (await (await fetch(`http://127.0.0.1:${fleet.ports.storage}/api/jobs`)).json()) as typeof status;
    expect(after.ok.jobs.map(({ state }) => state)).toEqual(["cancelled", "running"]);
  });

  test("snapshot and snapshots show gid and time", async () => {
    const taken = await fleet.run(["snapshot", "vol0", "--label", "before upgrade", "--protect"]);
    expect(taken.out).toMatch(/^vol0 5 \d{4}-\d\d-\d\d \d\d:\d\d:\d\d\n$/);
    expect(fleet.calls).toEqual([
      'storage snapshot {"volume":"vol0"}',
      'archive label-snapshot {"volume":"vol0","gid":5,"label":"before upgrade","protect":true}',
    ]);
    const listed = await fleet.run(["snapshots", "vol0"]);
    expect(listed.out.split("\n")[0]).toMatch(/^TIME +GID +CHANGES +SIZE +TAKEN BY +KEPT +LABEL$/);
    expect(listed.out.split("\n")[1]).toMatch(/ 1 +3\.00M +1\.00M +snapshot +first$/);
    const all = await fleet.run(["snapshots", "vol0", "--all", "--json"]);
    expect((JSON.parse(all.out) as { snapshots: { gid: number }[] }).snapshots.map(({ gid }) => gid)).toEqual([1, 3]);
  });

  test("a snapshot whose label the archive could not take is printed, and what to do is said", async () => {
    for (const [volume, flags, hint] of [
      ["vol0", ["--label", "it's late"], "walb label vol0 5 'it'\\''s late'"],
      ["vol0", ["--label", "late", "--protect"], "walb protect vol0 5 --label late"],
      ["vol0", ["--protect"], "walb protect vol0 5"],
    ] as const) {
      fleet.calls.length = 0;
      fleet.states.archive = "down";
      const { code, out, err } = await fleet.run(["snapshot", volume, ...flags, "--wait"]);
      expect([code, out]).toEqual([4, expect.stringMatching(/^vol0 5 \d{4}-/)]);
      expect(err).toContain("snapshot 5 was taken, but archive a0 could not be told");
      expect(err).toContain("refused by the fake");
      expect(err).toContain(`do not take it again; when the archive is back: ${hint}\n`);
      expect(fleet.calls).toEqual(['storage snapshot {"volume":"vol0"}']);
      const json = await fleet.run(["snapshot", volume, ...flags, "--json"]);
      expect(JSON.parse(json.out)).toMatchObject({ gid: 5, isMarked: false });
      expect(JSON.parse(json.err)).toMatchObject({ error: { code: "state", cause: expect.stringContaining("fake") } });
    }
  });

  test("snapshots are labelled and protected later, too", async () => {
    const lines = [
      ["label", "vol0", "5", "before upgrade"],
      ["label", "vol0", "5"],
      ["protect", "vol0", "5", "--label", "x"],
      ["unprotect", "vol0", "5"],
    ];
    for (const words of lines) expect([words, (await fleet.run(words)).code]).toEqual([words, 0]);
    expect(fleet.calls.map((call) => call.slice("archive label-snapshot ".length))).toEqual([
      '{"volume":"vol0","gid":5,"label":"before upgrade"}',
      '{"volume":"vol0","gid":5,"label":""}',
      '{"volume":"vol0","gid":5,"label":"x","protect":true}',
      '{"volume":"vol0","gid":5,"protect":false}',
    ]);
  });

  test("a full backup beside those the archive has is refused before anything is given up", async () => {
    Object.assign(fleet.states, { storage: "Target", proxy: "Started", archive: "Archived" });
    const { code, err } = await fleet.run(["backup", "vol0", "--full"]);
    expect([code, err]).toEqual([
      4,
      expect.stringContaining("walb stop vol0 --server a0; walb reset vol0 --server a0"),
    ]);
    expect(fleet.calls).toEqual([]);
  });

  test("a volume that ships its log to an archive without its backups is backed up anew, or told why not", async () => {
    Object.assign(fleet.states, { storage: "Target", proxy: "Started", archive: "Clear" });
    const unknown = await fleet.run(["backup", "vol0"]);
    expect([unknown.code, unknown.err]).toEqual([4, expect.stringContaining("walb init vol0 --device NAME")]);
    expect(fleet.calls).toEqual([]);
    fleet.states.archive = "SyncReady";
    expect((await fleet.run(["status", "vol0"])).out).toContain("it has no backup; make one: walb backup vol0\n");
    const anew = await fleet.run(["backup", "vol0"]);
    expect([anew.code, anew.err]).toEqual([0, expect.stringContaining("the archive has no image any more")]);
    expect(fleet.calls.map((call) => call.split(" ", 2).join(" "))).toEqual([
      "storage stop",
      "storage reset",
      "storage backup",
    ]);
  });

  test("a backup that broke off says why the archive ended it", async () => {
    fleet.states.storage = "SyncReady";
    const plain = await fleet.run(["backup", "broken-off", "--full"]);
    expect([plain.code, plain.err]).toEqual([3, expect.stringContaining("the peer closed the connection too early\n")]);
    fleet.archiveTrouble = { code: "no-space", message: "write: No space left", hint: "make room", atMs: 5 };
    const { code, err } = await fleet.run(["backup", "broken-off", "--full"]);
    expect(code).toBe(1);
    expect(err).toContain(
      "the peer closed the connection too early: archive a0 says: write: No space left\n  make room",
    );
    // What was wrong before the backup, and still is, is not the cause.
    const again = await fleet.run(["backup", "broken-off", "--full"]);
    expect([again.code, again.err]).toEqual([3, expect.not.stringContaining("No space")]);
  });

  test("restore asks for a time or a gid, and a dry run says how much and how long", async () => {
    const dry = await fleet.run(["restore", "vol0", "--to", "out.img", "--dry-run"]);
    expect([dry.code, dry.out]).toEqual([
      0,
      expect.stringContaining("3.00M to write, about 1m 30s; data is read and checked only when restoring"),
    ]);
    expect(fleet.calls[0]).toBe(`archive restore {"volume":"vol0","to":"${fleet.directory}/out.img","dryRun":true}`);
    await fleet.run(["restore", "vol0", "--to", "/x", "--at", "-5m", "--overwrite"], {
      nowMs: () => 1_000_000_000_000,
    });
    expect(fleet.calls[1]).toBe('archive restore {"volume":"vol0","atMs":999999700000,"to":"/x","overwrite":true}');
    await fleet.run(["restore", "vol0", "--to", "/x", "--snapshot", "7"]);
    expect(fleet.calls[2]).toBe('archive restore {"volume":"vol0","gid":7,"to":"/x"}');
    const both = await fleet.run(["restore", "vol0", "--to", "/x", "--snapshot", "7", "--at", "-5m"]);
    expect([both.code, both.err]).toEqual([2, expect.stringContaining("exclude each other")]);
    const future = new Date(Date.now() + 86_400_000).toISOString();
    const early = await fleet.run(["restore", "vol0", "--at", future, "--to", "/x"]);
    expect([early.code, early.err]).toEqual([
      0,
      expect.stringMatching(/^--at .* is in the future: taken is the newest point, of \d{4}-.* \(.* old\)\n$/),
    ]);
    expect((await fleet.run(["restore", "vol0", "--at", "-1s", "--to", "/x"])).err).toBe("");
    const lost = await fleet.run(["restore", "lost", "--to", "/x", "--json"]);
    expect(lost.code).toBe(6);
    expect(JSON.parse(lost.err)).toMatchObject({
      error: { code: "not-restorable", where: { volume: "lost", host: "a0" }, hint: "not 2026-01-01T23:59:59Z" },
    });
    // People read the times that walb snapshots shows them, and that --at takes.
    const told = await fleet.run(["restore", "lost", "--to", "/x"]);
    expect(told.code).toBe(6);
    expect(told.err).toContain(`gid 3 (${formatTime(Date.UTC(2026, 0, 2))})`);
    expect(told.err).toContain(`not ${formatTime(Date.UTC(2026, 0, 2) - 1000)}`);
    expect(told.err).not.toContain("Z");
  });

  test("stop goes from sender to receiver, start the other way round, one server on request", async () => {
    Object.assign(fleet.states, { storage: "Target", proxy: "Started", archive: "Archived" });
    expect((await fleet.run(["stop", "vol0", "--empty"])).code).toBe(0);
    expect(fleet.calls).toEqual([
      'storage stop {"volume":"vol0","mode":"graceful"}',
      'proxy stop {"volume":"vol0","mode":"empty"}',
      'archive stop {"volume":"vol0","mode":"graceful"}',
    ]);
    const nothing = await fleet.run(["stop", "vol0"]);
    expect([nothing.code, nothing.err]).toEqual([4, expect.stringContaining("s0 Stopped, p0 Stopped, a0 Stopped")]);
    fleet.calls.length = 0;
    await fleet.run(["start", "vol0", "--server", "p0"]);
    await fleet.run(["start", "vol0"]);
    expect(fleet.calls).toEqual([
      'proxy start {"volume":"vol0"}',
      'archive start {"volume":"vol0"}',
      'storage start {"volume":"vol0","mode":"target"}',
    ]);
  });

  test("clear of a volume that runs somewhere is refused before anything is forgotten, with the way out", async () => {
    Object.assign(fleet.states, { storage: "Stopped", proxy: "Started", archive: "SyncReady" });
    const { code, err } = await fleet.run(["clear", "vol0", "--yes"]);
    expect([code, fleet.calls]).toEqual([4, []]);
    expect(err).toContain("it is Started at p0");
    expect(err).toContain("walb stop vol0 --server p0");
    const stop = await fleet.run(["stop", "vol0"]);
    expect(stop.err).toContain("s0: nothing to stop, vol0 is Stopped there");
    expect((await fleet.run(["clear", "vol0", "--yes"])).code).toBe(0);
    expect(fleet.states).toEqual({ storage: "Clear", proxy: "Clear", archive: "Clear" });
  });

  test("destroying needs a yes: from the flag or from the user", async () => {
    Object.assign(fleet.states, { storage: "Stopped", proxy: "Stopped", archive: "Stopped" });
    const dry = await fleet.run(["clear", "vol0", "--dry-run"]);
    expect([dry.code, dry.err]).toEqual([0, expect.stringContaining("would delete all backups of vol0 at a0")]);
    const silent = await fleet.run(["clear", "vol0"]);
    expect([silent.code, silent.err]).toEqual([2, expect.stringContaining("--yes")]);
    const questions: string[] = [];
    const terminal = (answer: string) => ({
      isInTerminal: true,
      isErrTerminal: true,
      ask: async (question: string) => {
        questions.push(question);
        return answer;
      },
    });
    expect((await fleet.run(["reset", "vol0", "--server", "a0"], terminal("n"))).code).toBe(130);
    expect(fleet.calls).toEqual([]);
    expect((await fleet.run(["reset", "vol0", "--server", "a0"], terminal("y"))).code).toBe(0);
    expect(questions[1]).toContain("delete all backups of vol0 at a0");
    expect((await fleet.run(["clear", "vol0", "--yes"])).code).toBe(0);
    expect(fleet.calls).toEqual([
      'archive reset {"volume":"vol0"}',
      'storage reset {"volume":"vol0"}',
      'storage clear {"volume":"vol0"}',
      'proxy clear {"volume":"vol0"}',
      'archive clear {"volume":"vol0"}',
    ]);
  });

  test("resize grows the receiving end first, and only by whole blocks", async () => {
    Object.assign(fleet.states, { storage: "Target", proxy: "Started", archive: "Archived" });
    await fleet.run(["resize", "vol0", "1M"]);
    expect(fleet.calls).toEqual([
      'archive resize {"volume":"vol0","sizeLb":2048}',
      'storage resize {"volume":"vol0","sizeLb":2048}',
    ]);
    expect((await fleet.run(["resize", "vol0", "1000"])).code).toBe(2);
  });

  test("replicate makes a place at the other archive, and says what it took", async () => {
    Object.assign(fleet.states, { storage: "Target", proxy: "Started", archive: "Clear" });
    const to = "a0";
    const done = await fleet.run(["replicate", "vol0", "--to", to, "--all-points", "--compress", "zstd:3"]);
    expect([done.code, done.out]).toEqual([
      0,
      `replicated vol0 to ${to} up to gid 9: what was missing, sent 2.93K in 1s\n`,
    ]);
    expect(fleet.calls).toEqual([
      'archive init {"volume":"vol0"}',
      expect.stringMatching(
        /^archive replicate \{"volume":"vol0","to":"127\.0\.0\.1:\d+","keepAllPoints":true,"compression":"zstd:3"\}$/,
      ),
    ]);
    const resync = await fleet.run(["replicate", "vol0", "--to", "a0", "--resync", "--json"]);
    expect(JSON.parse(resync.out)).toMatchObject({ volume: "vol0", to: "a0", gid: 9, isResync: true });
  });

  test("replicate refuses what cannot be meant", async () => {
    const cases: [string[], RegExp][] = [
      [["--to", "a9"], /no server "a9" in the fleet.*servers\.a9/s],
      [["--to", "p0"], /p0 is a proxy server/],
      [["--to", "a0", "--once", "--follow"], /exclude each other/],
      [["--to", "a0", "--follow", "--until", "5"], /--follow has no end/],
    ];
    for (const [args, text] of cases) {
      const { code, err } = await fleet.run(["replicate", "vol0", ...args]);
      expect([code, err]).toEqual([2, expect.stringMatching(text)]);
    }
  });

  test("kick reaches storages and proxies", async () => {
    await fleet.run(["kick"]);
    await fleet.run(["kick", "vol0", "--server", "p0"]);
    expect(fleet.calls).toEqual(["storage kick {}", "proxy kick {}", 'proxy kick {"volume":"vol0"}']);
  });
});

describe("status", () => {
  /** A fleet file of servers where nobody listens. */
  const deadFleet = (): string => {
    const file = join(fleet.directory, "dead.toml");
    writeFileSync(file, '[servers.s0]\nrole = "storage"\naddress = "127.0.0.1:1"\n');
    return file;
  };

  test("a volume that is shipped and restorable is protected: exit 0", async () => {
    Object.assign(fleet.states, { storage: "Target", proxy: "Started", archive: "Archived" });
    const { code, out } = await fleet.run(["status"]);
    expect(code).toBe(0);
    expect(out.split("\n")[1]).toMatch(/^vol0 +yes +\d{4}-\d\d-\d\d .* +1s +2\.00K 3s +4\.00K 5s +25% +59m$/);
    for (const line of out.split("\n")) expect(line.length).toBeLessThanOrEqual(80);
  });

  test("a log that has overflowed is not a percentage", async () => {
    Object.assign(fleet.states, { storage: "Target", proxy: "Started", archive: "Archived" });
    fleet.logUsagePb = 2452;
    const { out } = await fleet.run(["status", "vol0"]);
    expect(out).toContain("overflowed");
    expect(out).not.toContain("2452%");
  });

  test("each break of the path is told, with exit 1", async () => {
    for (const [states, reason] of [
      [
        { storage: "Stopped", proxy: "Started", archive: "Archived" },
        "storage s0: state Stopped, writes are not shipped",
      ],
      [
        { storage: "Target", proxy: "Stopped", archive: "Archived" },
        "proxy p0: state Stopped, it takes nothing; start it",
      ],
      [{ storage: "Target", proxy: "Started", archive: "Stopped" }, "archive a0: state Stopped"],
      [{ storage: "Target", proxy: "Started", archive: "Clear" }, "archive a0: does not know it"],
    ] as const) {
      Object.assign(fleet.states, states);
      const { code, out } = await fleet.run(["status", "vol0"]);
      expect([code, out]).toEqual([1, expect.stringContaining(`vol0: ${reason}`)]);
      const json = await fleet.run(["status", "--json"]);
      expect(JSON.parse(json.out)).toMatchObject({ volumes: [{ volume: "vol0", isProtected: false }] });
    }
  });

  test("as a Nagios plugin it is one line with performance data", async () => {
    Object.assign(fleet.states, { storage: "Target", proxy: "Started", archive: "Archived" });
    const good = await fleet.run(["status", "--nagios", "-w", "10m", "-c", "1h"]);
    expect([good.code, good.err]).toEqual([0, ""]);
    expect(good.out).toMatch(
      /^WALB OK - vol0 is protected \| 'vol0 age'=1s;;;0 'vol0 lag'=5s;600;3600;0 'vol0 waiting'=6144B 'vol0 log'=25\.0%;80;100;0;100\n$/,
    );
    const old = await fleet.run(["status", "--nagios", "-w", "500ms", "-c", "1h"]);
    expect([old.code, old.out]).toEqual([1, expect.stringMatching(/^WALB WARNING - vol0: the newest point is 1s old/)]);
    fleet.states.storage = "Stopped";
    const bad = await fleet.run(["status", "--nagios"]);
    expect([bad.code, bad.out]).toEqual([
      2,
      expect.stringMatching(/^WALB CRITICAL - 1 of 1 not protected: vol0: stor/),
    ]);
    const unknown = await fleet.run(["status", "--nagios", "--fleet", deadFleet()]);
    expect([unknown.code, unknown.out]).toEqual([3, expect.stringMatching(/^WALB UNKNOWN - cannot reach server s0/)]);
    expect((await fleet.run(["status", "--nagios", "--watch"])).code).toBe(2);
    expect((await fleet.run(["status", "-w", "2h", "-c", "1h"])).code).toBe(2);
  });

  test("a point too old is looked at twice before the alarm: a write after an idle time needs a second", async () => {
    Object.assign(fleet.states, { storage: "Target", proxy: "Started", archive: "Archived" });
    const late = await fleet.run(["status", "-w", "500ms", "-c", "900ms"]);
    expect([late.code, late.out]).toEqual([1, expect.stringContaining("while 6.00K of writes wait")]);
    const work = fleet.run(["status", "-w", "500ms", "-c", "900ms"]);
    await Bun.sleep(1000);
    fleet.newestMs = Date.now() + 2500;
    expect((await work).code).toBe(0);
  }, 300_000);

  test("it watches until interrupted, through servers that go away", async () => {
    Object.assign(fleet.states, { storage: "Target", proxy: "Started", archive: "Archived" });
    const abort = new AbortController();
    const io = { signal: abort.signal, isOutTerminal: true };
    const work = fleet.run(["status", "--watch", "--interval", "50ms"], io);
    await Bun.sleep(400);
    abort.abort();
    const { code, out } = await work;
    expect(code).toBe(130);
    expect(out.split("\x1b[H").length).toBeGreaterThan(2);
    const stop = new AbortController();
    const json = fleet.run(["status", "--watch", "--interval", "50ms", "--json", "--fleet", deadFleet()], {
      signal: stop.signal,
    });
    await Bun.sleep(500);
    stop.abort();
    const lines = (await json).err.trim().split("\n");
    const codes = lines.map((line) => (JSON.parse(line) as { error: { code: string } }).error.code);
    // The look under way when it is interrupted may end as cancelled; all before it say what is wrong.
    expect(codes[0]).toBe("unreachable");
    expect(codes.slice(0, -1)).toEqual(codes.slice(0, -1).map(() => "unreachable"));
    expect(["unreachable", "cancelled"]).toContain(codes.at(-1)!);
  });

  test("one server alone does not judge", async () => {
    Object.assign(fleet.states, { storage: "Stopped", proxy: "Started", archive: "Archived" });
    const { code, out } = await fleet.run(["status", "--server", "a0"]);
    expect([code, out.split("\n")[1]]).toEqual([0, expect.stringMatching(/^vol0 +- +2/)]);
    const json = await fleet.run(["status", "--server", "a0", "--json"]);
    expect(JSON.parse(json.out)).toMatchObject({ volumes: [{ isProtected: null, reasons: [] }] });
  });

  test("a volume nobody knows is not found", async () => {
    expect((await fleet.run(["status", "nope"])).code).toBe(1);
  });
});

describe("servers and fleet files", () => {
  test("a server is a name of the fleet or an address, whose role is asked for", async () => {
    const address = `127.0.0.1:${fleet.ports.archive}`;
    expect((await fleet.run(["snapshots", "vol0", "--server", address])).code).toBe(0);
    expect((await runIn("/", ["snapshots", "vol0", "--server", address])).code).toBe(0);
    const wrong = await runIn("/", ["snapshots", "vol0", "--server", `127.0.0.1:${fleet.ports.proxy}`]);
    expect([wrong.code, wrong.err]).toEqual([2, expect.stringContaining("is a proxy server")]);
    const unknown = await fleet.run(["snapshots", "vol0", "--server", "zz"]);
    expect([unknown.code, unknown.err]).toEqual([2, expect.stringContaining("servers: s0, p0, a0")]);
  });

  test("a server that is down is exit 3 and named", async () => {
    const { code, err } = await fleet.run(["snapshots", "vol0", "--server", "127.0.0.1:1"]);
    expect([code, err]).toEqual([3, expect.stringContaining("127.0.0.1:1")]);
  });

  test("a wrong fleet file is refused with file and field", async () => {
    const cases: readonly (readonly [string, string])[] = [
      ["servers = 3", "servers"],
      ['[servers.a0]\nrole = "archvie"\naddress = "h:1"', "servers.a0.role"],
      ['[servers.a0]\nrole = "archive"\naddress = "h"', "servers.a0.address"],
      ['[servers.a0]\nrole = "archive"\naddress = "h:1"\n[servers.a1]\nrole = "archive"\naddress = "h:2"', "primary"],
      ['[servers.a0]\nrole = "archive"\naddress = "h:1"\n[volumes.v]\nstorage = "s9"', "volumes.v.storage"],
      ['[servers.a0]\nrole = "archive"\naddress = "h:1"\nadress = "x"', "servers.a0"],
      ["[[[", "not TOML"],
    ];
    for (const [text, field] of cases) {
      const file = join(fleet.directory, "bad.toml");
      writeFileSync(file, text);
      const { code, err } = await fleet.run(["status", "--fleet", "bad.toml"]);
      expect([code, err]).toEqual([2, expect.stringContaining(file)]);
      expect(err).toContain(field);
    }
    expect((await fleet.run(["status", "--fleet", "none.toml"])).code).toBe(2);
  });
});

describe("help", () => {
  test("every command has help with usage, examples that it would take, and exit codes", async () => {
    const lines = commandLines(program);
    expect(lines.length).toBeGreaterThan(20);
    for (const { path } of lines) {
      const { code, out } = await fleet.run([...path, "--help"]);
      expect([path, code]).toEqual([path, 0]);
      expect(out).toContain(`Usage:\n  walb ${path.join(" ")}`);
      expect(out).toContain(`Examples:\n  walb ${path.join(" ")}`);
      expect(out).toContain("Exit codes:\n  0");
      // Examples are there to be copied: they stay whole.
      const lines = out.split("\n").filter((line) => !line.startsWith("  walb "));
      for (const line of lines) expect([path, Bun.stringWidth(line) <= 80 ? "" : line]).toEqual([path, ""]);
    }
  });
});

describe("exit codes", () => {
  const failing = (error: unknown): WalbCommand => {
    const verb = {
      summary: "Fails",
      flags: {},
      examples: ["walb boom"],
      run: async () => {
        throw error;
      },
    };
    return group("walb", "walb", [command("boom", "fails", async () => ({ verb }))]);
  };

  test("every error code ends with its exit code, telling what to do next", async () => {
    for (const [code, { exit }] of Object.entries(errorCodes)) {
      let err = "";
      const error = new WalbError(code as ErrorCode, {
        what: `it is ${code}`,
        where: { volume: "vol0" },
        hint: "do this",
      });
      const io = {
        ...silentIo,
        err: (text: string) => {
          err += text;
        },
      };
      expect(await runCommandLine(["boom"], io, failing(error))).toBe(exit);
      expect(err).toStartWith(`walb: volume vol0: it is ${code}\n  do this\n`);
    }
  });

  test("what nobody expected is exit 1 without a stack trace", async () => {
    let err = "";
    const io = {
      ...silentIo,
      err: (text: string) => {
        err += text;
      },
    };
    expect(await runCommandLine(["boom"], io, failing(new TypeError("x is undefined")))).toBe(1);
    expect(err).toBe("walb: x is undefined\n");
  });
});

test("docs/cli.md is what the commands say of themselves", async () => {
  const page = await Bun.file(join(import.meta.dir, "../../docs/cli.md")).text();
  const isCurrent = page === (await renderReference());
  expect(isCurrent ? "current" : "run: node_modules/.bin/bun run src/cli/reference.ts").toBe("current");
});
