import { afterAll, beforeAll, expect, test } from "bun:test";
import { eventually } from "../helpers/fleet.ts";
import { ProcedureFleet } from "../helpers/procedure-fleet.ts";

/** The procedures of recovery and maintenance, one after the other in one fleet. */
let fleet: ProcedureFleet;
const limitMs = 600_000;
/** What vol0 is. */
let model: Buffer;
let gid = 0;

beforeAll(async () => {
  fleet = await ProcedureFleet.start(["s0", "s1", "p0", "p1", "a0", "a1"], '[volumes.vol0]\nstorage = "s0"\n');
  model = Buffer.alloc(fleet.sizeBytes);
  await fleet.makeDevice("s0", "vol0");
}, limitMs);
afterAll(() => fleet?.close(), limitMs);

/** Writes, and proves that a snapshot has it. */
async function proves(archive = "a0", storage = "s0"): Promise<void> {
  await fleet.write(storage, "vol0", model);
  gid = await fleet.snapshot("vol0", archive, storage);
  await fleet.mustEqual(archive, "vol0", gid, model);
}

test(
  "init that a server refuses takes back what it made; then the volume is made and backed up",
  async () => {
    await fleet.kill("a0");
    expect((await fleet.verb("init vol0 --device vol0")).code).not.toBe(0);
    await fleet.run("a0");
    expect(await fleet.stateAt("s0", "vol0")).toBe("Clear");
    expect((await fleet.verb("init vol0 --device nosuch")).code).not.toBe(0);
    for (const name of ["s0", "p0", "p1", "a0"])
      expect([name, await fleet.stateAt(name, "vol0")]).toEqual([name, "Clear"]);
    await fleet.must("init vol0 --device vol0");
    await fleet.write("s0", "vol0", model);
    expect(await fleet.must("backup vol0 --wait")).toContain("full backup of vol0: the archive has no image yet");
    await proves();
  },
  limitMs,
);

/** Of both proxies, what hinders sending to the first archive. */
async function sendErrors(): Promise<(string | undefined)[]> {
  const all = await Promise.all(["p0", "p1"].map((name) => fleet.proxy(name).call("status", { volume: "vol0" })));
  return all.map(({ volumes }) => volumes[0]!.archives[0]!.trouble?.message);
}

test(
  "R1, R3, R4: writes outlive a killed storage, killed proxies and a killed archive",
  async () => {
    await fleet.kill("s0");
    await fleet.write("s0", "vol0", model);
    await fleet.run("s0");
    await proves();
    await Promise.all([fleet.kill("p0"), fleet.kill("p1")]);
    await fleet.write("s0", "vol0", model);
    await Promise.all([fleet.run("p0"), fleet.run("p1")]);
    await fleet.must("kick vol0");
    await proves();
    await fleet.kill("a0");
    await fleet.write("s0", "vol0", model);
    await eventually("a diff at a proxy", 30_000, async () => {
      const all = await Promise.all(["p0", "p1"].map((name) => fleet.proxy(name).call("status", { volume: "vol0" })));
      const ways = all.map(({ volumes }) => volumes[0]!.archives[0]!);
      return ways.some(({ pendingCount, trouble }) => pendingCount > 0 && trouble !== undefined) ? true : undefined;
    });
    // It comes back without its volumes at first, as with a disk that is not mounted: that is an error of sending, too.
    fleet.rename("a0", "unmounted");
    await fleet.run("a0");
    await fleet.must("kick vol0");
    await eventually("the error of sending", 30_000, async () => {
      const errors = await sendErrors();
      return errors.some((message) => message?.includes("does not know this volume")) ? true : undefined;
    });
    await fleet.lose("a0");
    fleet.rename("unmounted", "a0");
    await fleet.run("a0");
    await fleet.must("kick vol0");
    await proves();
    await eventually("no error of sending", 30_000, async () => {
      const errors = await sendErrors();
      return errors.every((message) => message === undefined) ? true : undefined;
    });
    const { volumes } = await fleet.storage("s0").call("status", { volume: "vol0" });
    expect(volumes[0]).toMatchObject({ state: "Target", isOverflow: false });
  },
  limitMs,
);

test(
  "M2, M3: a second archive is replicated to, fed by the proxies, and left; a dry run changes nothing",
  async () => {
    const plan = await fleet.must("synchronize vol0 --to a1 --dry-run");
    expect(plan).toContain("a0: replicate vol0 to a1\n    because a1 has nothing of it yet");
    expect(plan).toContain("p1: send vol0 to a1 at");
    expect(await fleet.stateAt("a1", "vol0")).toBe("Clear");
    await fleet.must("synchronize vol0 --to a1");
    expect([await fleet.fed("p0", "vol0"), await fleet.fed("p1", "vol0")]).toEqual([
      ["a0", "a1"],
      ["a0", "a1"],
    ]);
    await fleet.write("s0", "vol0", model);
    gid = await fleet.snapshot("vol0");
    await fleet.restorable("a1", "vol0", gid);
    for (const archive of ["a0", "a1"]) await fleet.mustEqual(archive, "vol0", gid, model);
    expect(await fleet.must("synchronize vol0 --to a1")).toContain("the proxies feed a1 with vol0");
    await fleet.must("desynchronize vol0 --from a1");
    await proves("a0");
    expect(await fleet.newestGid("a1", "vol0")).toBeLessThan(gid);
    expect((await fleet.verb("desynchronize vol0 --from a0")).code).toBe(4);
  },
  limitMs,
);

test(
  "a synchronize that is interrupted, or whose archive is away, leaves the proxies running, and is gone on with",
  async () => {
    await fleet.kill("a1");
    const away = await fleet.verb("synchronize vol0 --to a1");
    expect([away.code, await fleet.stateAt("p0", "vol0")]).toEqual([3, "Started"]);
    await fleet.run("a1");
    const interrupt = new AbortController();
    const running = fleet.verb("synchronize vol0 --to a1", interrupt.signal);
    await eventually("the first proxy", 30_000, async () =>
      (await fleet.fed("p0", "vol0")).includes("a1") ? true : undefined,
    );
    interrupt.abort();
    expect([0, 130]).toContain((await running).code);
    await proves("a0");
    await fleet.must("synchronize vol0 --to a1");
    await fleet.restorable("a1", "vol0", gid);
    await fleet.mustEqual("a1", "vol0", gid, model);
  },
  limitMs,
);

test(
  "stop and start of the whole path reach an archive that the proxies feed though the fleet file does not name it for the volume",
  async () => {
    expect(await Bun.file(fleet.path("walb.toml")).text()).not.toContain("replicate");
    await fleet.must("stop vol0 --empty");
    const states = async () => Promise.all(["s0", "p0", "p1", "a0", "a1"].map((name) => fleet.stateAt(name, "vol0")));
    expect(await states()).toEqual(Array.from({ length: 5 }, () => "Stopped"));
    const dry = await fleet.must("reset vol0 --dry-run");
    expect(dry).toContain("would delete all backups of vol0 at a1");
    expect(await fleet.must("clear vol0 --dry-run")).toContain("would delete all backups of vol0 at a1");
    await fleet.must("start vol0");
    expect(await states()).toEqual(["Target", "Started", "Started", "Archived", "Archived"]);
    // What proxies do not feed, but what has a copy, is reached, too; one that is away and has nothing to do with it is told.
    await fleet.must("desynchronize vol0 --from a1");
    expect(await fleet.must("stop vol0 --empty")).toContain("stop vol0 at a1");
    await fleet.must("start vol0");
    await fleet.kill("a1");
    expect(await fleet.must("stop vol0")).toContain("going on without a1");
    await fleet.run("a1");
    await fleet.must("start vol0");
    await fleet.must("synchronize vol0 --to a1");
    await proves();
  },
  limitMs,
);

test(
  "M4, M5, M6: merge and apply keep the points they should; a volume grows on the whole path",
  async () => {
    const before = await fleet.snapshot("vol0");
    const same = Buffer.from(model);
    await fleet.write("s0", "vol0", model);
    const middle = await fleet.snapshot("vol0");
    await proves();
    // M5: with the snapshot in the middle disabled, what lies between the two others becomes one diff.
    const diffsBetween = async (): Promise<number> => {
      const { diffs } = await fleet.archive("a0").call("diffs", { volume: "vol0" });
      const gidOf = (text: string): number => Number(/^\|(\d+)/.exec(text)?.[1]);
      return diffs.filter(({ from, to }) => gidOf(from) >= before && gidOf(to) <= gid).length;
    };
    expect(await diffsBetween()).toBeGreaterThan(1);
    await fleet.must(`disable-snapshot vol0 ${middle}`);
    await fleet.must(`merge vol0 --from ${before} --to ${gid}`);
    expect(await diffsBetween()).toBe(1);
    await fleet.mustEqual("a0", "vol0", before, same);
    await fleet.mustEqual("a0", "vol0", gid, model);
    await fleet.must(`apply vol0 --before ${before} --yes`);
    await fleet.mustEqual("a0", "vol0", before, same);
    await fleet.mustEqual("a0", "vol0", gid, model);
    const { base } = await fleet.archive("a0").call("diffs", { volume: "vol0" });
    expect(Number(base.gid)).toBe(before);
    await fleet.must("resize vol0 6M");
    fleet.disconnect("s0", "vol0");
    model = Buffer.concat([model, Buffer.alloc(2 << 20)]);
    await fleet.writeAt("s0", "vol0", model, 5 << 20, fleet.noise(65536));
    await proves();
    await fleet.restorable("a1", "vol0", gid);
    await fleet.mustEqual("a1", "vol0", gid, model);
  },
  limitMs,
);

/** What must not become restorable does not, whatever is kicked. */
async function neverRestorable(at: number): Promise<void> {
  for (let i = 0; i < 10; i++) {
    await fleet.must("kick vol0");
    expect(await fleet.newestGid("a0", "vol0")).toBeLessThan(at);
    await Bun.sleep(200);
  }
}

test(
  "R2, R5, R6: after an overflow, a lost storage and lost proxies a hash backup closes the gap",
  async () => {
    // R5: the storage's state is gone, the device is there.
    await fleet.lose("s0");
    await fleet.write("s0", "vol0", model);
    await fleet.run("s0");
    await fleet.must("init vol0 --device vol0");
    expect(await fleet.must("backup vol0 --wait")).toContain("hash backup of vol0");
    await proves();
    // The second archive was brought along, and is fed again.
    await fleet.restorable("a1", "vol0", gid);
    await fleet.mustEqual("a1", "vol0", gid, model);
    // R6: what the proxies held is gone.
    await fleet.kill("a0");
    await fleet.write("s0", "vol0", model);
    await eventually("an empty log", 30_000, async () => {
      const { volumes } = await fleet.storage("s0").call("status", { volume: "vol0" });
      return volumes[0]?.lagBytes === 0 ? true : undefined;
    });
    await fleet.lose("p0");
    await fleet.lose("p1");
    for (const name of ["a0", "p0", "p1"]) await fleet.run(name);
    expect((await fleet.verb("backup vol0")).code).toBe(4);
    await fleet.write("s0", "vol0", model);
    const early = JSON.parse(await fleet.verbOut("snapshot vol0 --json")) as { gid: number };
    await neverRestorable(early.gid);
    expect(await fleet.must("backup vol0 --hash --wait")).toContain("p0: send vol0 to a0");
    await proves();
    // R2: more is written than the log takes, with nobody to ship it.
    await fleet.kill("s0");
    await fleet.write("s0", "vol0", model, 400);
    await fleet.run("s0");
    await eventually("the overflow", 30_000, async () => {
      const { volumes } = await fleet.storage("s0").call("status", { volume: "vol0" });
      return volumes[0]?.isOverflow === true ? true : undefined;
    });
    if ((await fleet.stateAt("s0", "vol0")) === "Target") await fleet.must("stop vol0 --server s0");
    expect(await fleet.must("backup vol0 --wait")).toContain("hash backup of vol0");
    await proves();
  },
  limitMs,
);

test(
  "M1: another storage becomes the target, and the old one a standby; and back",
  async () => {
    const wrong = await fleet.verb("switch vol0 --to s1 --device nosuch");
    expect([wrong.code === 0, await fleet.stateAt("s0", "vol0")]).toEqual([false, "Target"]);
    expect(wrong.err).toContain(
      "nothing was changed before; go on with the same command: walb switch vol0 --to s1 --device nosuch",
    );
    await fleet.makeDevice("s1", "vol0", "4M");
    await fleet.must(`device resize vol0 6M --device-data ${fleet.path("d1")}`);
    await fleet.must("standby vol0 --server s1 --device vol0");
    expect(await fleet.stateAt("s1", "vol0")).toBe("Standby");
    // Its replica lags: what differs is what the hash backup finds.
    const replica = Buffer.from(model);
    await fleet.write("s1", "vol0", replica, 1);
    await fleet.writeAt("s1", "vol0", replica, 0, model);
    expect((await fleet.verb("backup vol0 --server s1")).code).toBe(4);
    await fleet.must("switch vol0 --to s1");
    expect([await fleet.stateAt("s0", "vol0"), await fleet.stateAt("s1", "vol0")]).toEqual(["Standby", "Target"]);
    await proves("a0", "s1");
    expect(await fleet.must("switch vol0 --to s1")).toContain("s1 ships vol0 already");
    await fleet.writeAt("s0", "vol0", Buffer.from(model), 0, model);
    await fleet.must("switch vol0 --to s0");
    await proves();
  },
  limitMs,
);

test(
  "P2: a proxy is replaced, and no diff is lost",
  async () => {
    await fleet.add("p2");
    await fleet.write("s0", "vol0", model);
    await fleet.must("replace p0 --with p2");
    const { proxies, told } = await fleet.storage("s0").call("status", {});
    expect(proxies.map(({ address }) => address)).toEqual([fleet.address("p2"), fleet.address("p1")]);
    expect([told?.proxies, await fleet.stateAt("p0", "vol0")]).toEqual([true, "Clear"]);
    await fleet.kill("p1");
    await proves();
    await fleet.run("p1");
    await fleet.kill("s0");
    await fleet.run("s0");
    expect((await fleet.storage("s0").call("status", {})).proxies[0]?.address).toBe(fleet.address("p2"));
    expect(await fleet.must("replace p0 --with p2")).toContain("p2 has the place of p0");
  },
  limitMs,
);

test(
  "P3, P4, R7: a primary archive and a secondary one are replaced",
  async () => {
    await fleet.add("a2");
    await fleet.must("synchronize vol0 --to a1");
    // It is lost while something waits for it.
    await fleet.lose("a1");
    await fleet.write("s0", "vol0", model);
    gid = await fleet.snapshot("vol0");
    const refused = await fleet.verb("replace a1 --with a2");
    expect([refused.code, refused.err]).toEqual([3, expect.stringContaining("walb replace a1 --with a2 --lost")]);
    await fleet.must("replace a1 --with a2 --lost");
    expect(await fleet.fed("p2", "vol0")).toEqual(["a0", "a2"]);
    await fleet.restorable("a2", "vol0", gid);
    await fleet.mustEqual("a2", "vol0", gid, model);
    expect(await fleet.must("replace a1 --with a2 --lost")).toContain("a2 has the place of a1");
    await proves();
    await fleet.restorable("a2", "vol0", gid);
    await fleet.must("promote a2");
    expect((await fleet.storage("s0").call("status", {})).archive).toBe(fleet.address("a2"));
    expect(await Bun.file(fleet.path("walb.toml")).text()).toMatch(/\[servers\.a2\]\nprimary = true/);
    await fleet.must("desynchronize vol0 --from a0");
    await proves("a2");
  },
  limitMs,
);

test(
  "P1: a storage is replaced by a new one with a copy of the device",
  async () => {
    await fleet.add("s2");
    await fleet.makeDevice("s2", "vol0", "4M");
    await fleet.must(`device resize vol0 6M --device-data ${fleet.path("d2")}`);
    await fleet.writeAt("s2", "vol0", Buffer.from(model), 0, model);
    await fleet.must("standby vol0 --server s2 --device vol0");
    await fleet.must("replace s0 --with s2");
    expect(await fleet.stateAt("s2", "vol0")).toBe("Target");
    expect(await fleet.stateAt("s0", "vol0")).not.toBe("Target");
    await proves("a2", "s2");
    expect(await Bun.file(fleet.path("walb.toml")).text()).toContain('storage = "s2"');
    expect(await fleet.must("replace s0 --with s2")).toContain("s2 has the place of s0");
  },
  limitMs,
);
