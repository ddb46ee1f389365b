import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { workerLockFile } from "../../src/cli/daemon/worker-lock.ts";
import type { RunningRole } from "../../src/control/role.ts";
import { createHttpFactory } from "../../src/http/server.ts";
import { addressText } from "../../src/platform/net.ts";
import { createPlatform } from "../../src/platform/real/index.ts";
import { expectSame, gidsOf, openTestArchive, run } from "../archive/harness.ts";
import { History } from "../archive/model.ts";
import { type Peer, sendDiff, sendImage, startS } from "../archive/peers.ts";
import { runIn } from "./fleet-fixture.ts";

const mib = 1024 * 1024;
const hourS = 3600;
const gidMax = 8;
/** When the last point was taken. */
const nowMs = (startS + gidMax * hourS) * 1000;
const platform = createPlatform({ memoryBudgetBytes: 1024 * mib, threads: 2 });
const peerPlatform = { ...platform, memory: platform.memory.carve(64 * mib) };
const directory = mkdtempSync(join(tmpdir(), "walb-worker-"));
const history = new History(300, 77);
let a0: RunningRole;
let a1: RunningRole;

const peerOf = (role: RunningRole): Peer => ({ platform: peerPlatform, address: role.address });

/** Archives the volume with a point an hour; gid 5 was taken by somebody. */
async function fill(volume: string): Promise<void> {
  await run(a0.control, "init", { volume });
  await sendImage(peerOf(a0), history.fuzzy(0), { volume, gidE: 0n });
  for (let gid = 0; gid < gidMax; gid++) {
    const options = { volume, sizeLb: 300, isMergeable: gid !== 5, timestampS: startS + (gid + 1) * hourS };
    const answer = await sendDiff(peerOf(a0), gid, gid + 1, history.diff(gid, gid + 1), options);
    expect(answer.kind).toBe("accept");
  }
}

function walb(words: readonly string[], options: { toml?: string; atMs?: number } = {}) {
  const fleet = join(directory, "walb.toml");
  const servers = `
    [servers.s0]
    role = "storage"
    address = "127.0.0.1:1"
    [servers.p0]
    role = "proxy"
    address = "127.0.0.1:1"
    [servers.a0]
    role = "archive"
    address = "${addressText(a0.address)}"
    primary = true
    [servers.a1]
    role = "archive"
    address = "${addressText(a1.address)}"
    [servers.dead]
    role = "archive"
    address = "127.0.0.1:1"
  `;
  writeFileSync(fleet, `${servers}\n${options.toml ?? ""}`);
  return runIn(directory, words, { nowMs: () => options.atMs ?? nowMs });
}

beforeAll(async () => {
  for (let gid = 0; gid < gidMax; gid++) history.step();
  const http = createHttpFactory(platform.net);
  a0 = await openTestArchive(platform, join(directory, "a0"), { http });
  a1 = await openTestArchive(platform, join(directory, "a1"), { http, nodeId: "a1" });
});
afterAll(async () => {
  await a0?.close("force");
  await a1?.close("force");
  rmSync(directory, { recursive: true, force: true });
});

/** Every point the archive lists is as the model has it. */
async function expectRestorable(role: RunningRole, volume: string): Promise<number[]> {
  const gids = await gidsOf(role.control, volume);
  for (const gid of gids) {
    const to = join(directory, "out.img");
    await run(role.control, "restore", { volume, gid, to, overwrite: true });
    expectSame(readFileSync(to), history.at(gid), `gid ${gid}`);
  }
  return gids;
}

describe("the worker, once", () => {
  test("without rules has nothing to do", async () => {
    await fill("plain");
    expect(await walb(["worker", "--once"])).toMatchObject({ code: 0, out: "nothing to do\n" });
    expect(await gidsOf(a0.control, "plain")).toHaveLength(gidMax + 1);
  });

  test("thins a volume by its rules, tells what it does and why, and is done then", async () => {
    await fill("kept");
    const toml = '[volumes.kept]\nkeep = { all = "2h", every3h = "1d" }';
    const dry = await walb(["worker", "--dry-run"], { toml });
    expect(dry.out).toMatch(/^would (apply|merge) kept at a0 .*: keep: /m);
    expect(await gidsOf(a0.control, "kept")).toHaveLength(gidMax + 1);
    const done = await walb(["worker", "--once"], { toml });
    expect(done).toMatchObject({ code: 0 });
    expect(done.err).toContain("merge kept at a0");
    const gids = await expectRestorable(a0, "kept");
    // Of each three hours the last point, and all of the last three-hour interval and after.
    expect(gids.length).toBeLessThan(gidMax);
    expect(gids.slice(-3)).toEqual([6, 7, 8]);
    expect(await walb(["worker", "--once"], { toml })).toMatchObject({ code: 0, out: "nothing to do\n" });
  });

  test("applies and merges by the clock as the original's worker did", async () => {
    await fill("clock");
    const toml = '[worker]\napply = { keep = "6h", every = "1d" }\nmerge = { every = "1h" }';
    const done = await walb(["worker", "--once", "--volume", "clock"], { toml });
    expect(done).toMatchObject({ code: 0 });
    const gids = await expectRestorable(a0, "clock");
    // Points 0 and 1 are older than six hours; the run of diffs up to the snapshot somebody took was merged.
    expect(gids).toEqual([2, 5, 6, 7, 8]);
  });

  test("brings a replica up to date, from nothing and after new diffs; an archive that is down delays nobody", async () => {
    await fill("copied");
    const toml = '[volumes.copied]\nreplicate = ["dead", "a1"]';
    const first = await walb(["worker", "--once", "--volume", "copied", "--timeout", "5s"], { toml });
    expect(first.err).toContain("replicate copied from a0 to a1");
    expect(first.err).toContain("dead does not answer");
    // What could be done was done, and cron hears of the rest.
    expect(first.code).toBe(1);
    expect(first.out).toContain("1 failed");
    expect((await expectRestorable(a1, "copied")).at(-1)).toBe(8);
    history.step();
    const options = { volume: "copied", sizeLb: 300, timestampS: startS + 9 * hourS };
    await sendDiff(peerOf(a0), 8, 9, history.diff(8, 9), options);
    const alive = '[volumes.copied]\nreplicate = ["a1"]';
    const second = await walb(["worker", "--once", "--volume", "copied"], { toml: alive, atMs: nowMs + 3_600_000 });
    expect(second.code).toBe(0);
    expect((await expectRestorable(a1, "copied")).at(-1)).toBe(9);
  });

  test("is refused while another one has the lock, with exit code 7", async () => {
    const lock = join(directory, "worker.lock");
    const held = await platform.disk.open(lock, { mode: "createOrOpen", lock: true });
    try {
      const refused = await walb(["worker", "--once", "--lock", lock]);
      expect(refused.code).toBe(7);
      expect(refused.err).toContain("another worker is at work");
    } finally {
      await held.close();
    }
  });

  test("has its lock where cron and systemd meet, and leaves nothing in the directory for temporary files", async () => {
    const root = workerLockFile("/etc/walb/walb.toml", { uid: 0, homedir: "/root" });
    expect(root).toMatch(/^\/run\/walb\/worker-[0-9a-f]{12}\.lock$/);
    const other = workerLockFile("/etc/walb/walb.toml", { uid: 7, homedir: "/home/op" });
    expect(other).toBe(root.replace("/run/walb", "/home/op/.local/state/walb"));
    expect(workerLockFile("/srv/walb.toml", { uid: 0, homedir: "/root" })).not.toBe(root);
    // A file that a link leads to is the same fleet.
    const file = join(directory, "linked.toml");
    writeFileSync(file, "");
    symlinkSync(file, join(directory, "link.toml"));
    const [byFile, byLink] = ["linked.toml", "link.toml"].map((name) =>
      workerLockFile(join(directory, name), { uid: 0, homedir: "/root" }),
    );
    expect(byLink).toBe(byFile!);
    const locks = () =>
      readdirSync(tmpdir()).filter((name) => name.startsWith("walb-worker-") && name.endsWith(".lock"));
    const before = locks();
    expect((await walb(["worker", "--once", "--volume", "plain"])).code).toBe(0);
    expect(locks()).toEqual(before);
  });

  test("says which field of the fleet file is wrong", async () => {
    const bad = await walb(["worker", "--once"], { toml: '[worker]\napply = { keep = "soon" }' });
    expect(bad.code).toBe(2);
    expect(bad.err).toContain("worker.apply.keep");
  });

  test("fails with exit code 3 when the primary archive does not answer", async () => {
    const alone = await runIn(
      directory,
      ["worker", "--once", "--timeout", "5s", "--fleet", join(directory, "dead.toml")],
      {
        nowMs: () => nowMs,
      },
    );
    expect(alone.code).toBe(2);
    writeFileSync(join(directory, "dead.toml"), '[servers.a0]\nrole = "archive"\naddress = "127.0.0.1:1"\n');
    const dead = await runIn(
      directory,
      ["worker", "--once", "--timeout", "5s", "--fleet", join(directory, "dead.toml")],
      {
        nowMs: () => nowMs,
      },
    );
    expect(dead.code).toBe(3);
  });
});

describe("walb retain", () => {
  const rules = ["--keep", "all=2h", "--keep", "every3h=1d"];

  test("dry lists what stays and why, and changes nothing", async () => {
    await fill("retained");
    const { code, out } = await walb(["retain", "retained", ...rules, "--dry-run"]);
    expect(code).toBe(0);
    expect(out).toContain("newest");
    expect(out).toMatch(/\d+ points would stay, \d+ would go\n$/);
    expect(await gidsOf(a0.control, "retained")).toHaveLength(gidMax + 1);
  });

  test("asks before points go, and keeps what is protected", async () => {
    await run(a0.control, "label-snapshot", { volume: "retained", gid: 1, protect: true });
    expect((await walb(["retain", "retained", ...rules])).code).toBe(2);
    const done = await walb(["retain", "retained", ...rules, "--yes"]);
    expect(done.code).toBe(0);
    const gids = await expectRestorable(a0, "retained");
    expect(gids).toContain(1);
    expect(gids.length).toBeLessThan(gidMax + 1);
    expect((await walb(["retain", "retained", ...rules, "--yes"])).out).toMatch(/^0 points went/);
  });

  test("without rules says how to give some", async () => {
    const { code, err } = await walb(["retain", "plain"]);
    expect(code).toBe(2);
    expect(err).toContain('[volumes.plain] keep = { all = "2h"');
  });
});
