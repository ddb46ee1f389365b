import { afterAll, beforeAll, expect, test } from "bun:test";
import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { ProcedureFleet } from "../helpers/procedure-fleet.ts";

/**
 * Every procedure is killed (SIGKILL) at each of its calls that change something, and repeated each time. A call is killed
 * once, before or behind its answer by turns; `WALB_KILL_POINTS=all` does both.
 */
const limitMs = 300_000;
const preload = join(import.meta.dir, "../helpers/die-once.ts");
const main = join(import.meta.dir, "../../src/main.ts");
const rounds = process.env.WALB_KILL_POINTS === "all" ? ["sent", "answered"] : ["sent,answered"];
const killsMax = 60;
const refusalsMax = 5;
let fleet: ProcedureFleet;
let model: Buffer;

beforeAll(async () => {
  fleet = await ProcedureFleet.start(["s0", "s1", "p0", "p1", "a0", "a1"], '[volumes.vol0]\nstorage = "s0"\n');
  model = Buffer.alloc(fleet.sizeBytes);
  for (const storage of ["s0", "s1"]) await fleet.makeDevice(storage, "vol0");
}, limitMs);
afterAll(() => fleet?.close(), limitMs);

/** Repeats a command, which dies at each of its calls once, until it ends. @returns at how many it died. */
async function killed(line: string, at: string): Promise<number> {
  const list = fleet.path("died");
  rmSync(list, { force: true });
  let failures = 0;
  for (let kills = 0; kills <= killsMax; ) {
    const child = Bun.spawn([process.execPath, "--preload", preload, main, ...line.split(" ")], {
      cwd: fleet.directory,
      env: { ...process.env, DIE_ONCE_LIST: list, DIE_ONCE_AT: at },
      stdin: "ignore",
      stdout: "pipe",
      stderr: "pipe",
    });
    const [out, err, code] = await Promise.all([
      new Response(child.stdout).text(),
      new Response(child.stderr).text(),
      child.exited,
    ]);
    // A backup says so with an exit code, so that scripts notice.
    const isDone = line.startsWith("backup") && err.includes("is being backed up continuously already");
    if (code === 0 || isDone) return kills;
    if (child.signalCode === "SIGKILL") {
      kills += 1;
      failures = 0;
      continue;
    }
    // What the killed one had asked for may be under way still, and then be refused to a second one.
    if (code === 4 && failures++ < refusalsMax) {
      await Bun.sleep(200);
      continue;
    }
    throw new Error(`killed ${kills} times, ${line} ended with ${code}:\n${out}${err}\n${readFileSync(list, "utf8")}`);
  }
  throw new Error(`${line} does not end:\n${readFileSync(list, "utf8")}`);
}

/** Writes, and proves that a snapshot has it wherever the proxies bring it. */
async function proves(storage: string, archives: readonly string[]): Promise<void> {
  await fleet.write(storage, "vol0", model);
  const gid = await fleet.snapshot("vol0", archives[0], storage);
  for (const archive of archives) {
    await fleet.restorable(archive, "vol0", gid);
    await fleet.mustEqual(archive, "vol0", gid, model);
  }
}

/** Kills it everywhere, and sees that a repetition has nothing to do. */
async function survives(line: string, killsMin: number, back?: string): Promise<void> {
  for (const [i, at] of rounds.entries()) {
    if (i > 0 && back !== undefined) await fleet.must(back);
    expect(await killed(line, at)).toBeGreaterThanOrEqual(i === 0 ? killsMin : back === undefined ? 0 : 1);
  }
}

test(
  "init, and the backup after it",
  async () => {
    await survives("init vol0 --device vol0", 6);
    await fleet.write("s0", "vol0", model);
    await fleet.must("backup vol0 --wait");
    await proves("s0", ["a0"]);
  },
  limitMs,
);

test(
  "synchronize, desynchronize, and synchronize again",
  async () => {
    await survives("synchronize vol0 --to a1", 8, "desynchronize vol0 --from a1");
    await proves("s0", ["a0", "a1"]);
    // A backup that is asked for with a second archive, which comes along.
    await fleet.must("stop vol0 --server s0");
    await fleet.must("reset vol0 --server s0 --yes");
    await fleet.write("s0", "vol0", model);
    await survives("backup vol0 --wait", 2);
    await proves("s0", ["a0", "a1"]);
    await survives("desynchronize vol0 --from a1", 6, "synchronize vol0 --to a1");
    await proves("s0", ["a0"]);
    await survives("synchronize vol0 --to a1", 7, "desynchronize vol0 --from a1");
    await proves("s0", ["a0", "a1"]);
  },
  limitMs,
);

test(
  "switch to another storage and back",
  async () => {
    await fleet.writeAt("s1", "vol0", Buffer.from(model), 0, model);
    await survives("switch vol0 --to s1", 5);
    await proves("s1", ["a0", "a1"]);
    await fleet.writeAt("s0", "vol0", Buffer.from(model), 0, model);
    await survives("switch vol0 --to s0", 5);
    await proves("s0", ["a0", "a1"]);
  },
  limitMs,
);

test(
  "promote another archive, and leave the old one",
  async () => {
    await survives("promote a1", 2, "promote a0");
    await fleet.must("desynchronize vol0 --from a0");
    await proves("s0", ["a1"]);
  },
  limitMs,
);

test(
  "replace a proxy, an archive and a storage",
  async () => {
    await fleet.add("p2");
    await fleet.write("s0", "vol0", model);
    await survives("replace p0 --with p2", 5);
    expect(await fleet.stateAt("p0", "vol0")).toBe("Clear");
    await proves("s0", ["a1"]);
    await fleet.add("a2");
    await survives("replace a1 --with a2", 8);
    await proves("s0", ["a2"]);
    expect(await fleet.fed("p2", "vol0")).toEqual(["a2"]);
    // A secondary one, too.
    await fleet.must("synchronize vol0 --to a0");
    await survives("replace a0 --with a1", 8);
    await proves("s0", ["a2", "a1"]);
    expect(await fleet.fed("p1", "vol0")).toEqual(["a1", "a2"]);
    await fleet.writeAt("s1", "vol0", Buffer.from(model), 0, model);
    await survives("replace s0 --with s1", 4);
    await proves("s1", ["a2", "a1"]);
  },
  limitMs,
);

test(
  "forget",
  async () => {
    await survives("forget vol0 --yes", 10);
    for (const name of ["s0", "s1", "p0", "p1", "p2", "a0", "a1", "a2"])
      expect([name, await fleet.stateAt(name, "vol0")]).toEqual([name, "Clear"]);
  },
  limitMs,
);
