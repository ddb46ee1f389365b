import { afterAll, beforeAll, expect, test } from "bun:test";
import { ProcedureFleet } from "../helpers/procedure-fleet.ts";

const limitMs = 120_000;
let fleet: ProcedureFleet;
let model: Buffer;
let gid = 0;

/** Writes, and proves that a snapshot has it. */
async function proves(archive: string): Promise<void> {
  await fleet.write("s0", "vol0", model);
  gid = await fleet.snapshot("vol0", archive, "s0");
  await fleet.mustEqual(archive, "vol0", gid, model);
}

beforeAll(async () => {
  fleet = await ProcedureFleet.start(["s0", "p0", "a0", "a1"], '[volumes.vol0]\nstorage = "s0"\n');
  model = Buffer.alloc(fleet.sizeBytes);
  await fleet.makeDevice("s0", "vol0");
  await fleet.must("init vol0 --device vol0");
  await fleet.must("backup vol0 --wait");
  await fleet.must("synchronize vol0 --to a1");
}, limitMs);
afterAll(() => fleet?.close(), limitMs);

test(
  "R8: the primary archive is lost, and the second one takes its place without a gap",
  async () => {
    await proves("a0");
    await fleet.restorable("a1", "vol0", gid);
    await fleet.lose("a0");
    await fleet.write("s0", "vol0", model);
    const refused = await fleet.verb("promote a1");
    expect([refused.code, refused.err]).toEqual([3, expect.stringContaining("--lost")]);
    await fleet.must("promote a1 --lost");
    expect(await fleet.fed("p0", "vol0")).toEqual(["a1"]);
    await proves("a1");
  },
  limitMs,
);

test(
  "R9: without any archive a full backup goes to a new one",
  async () => {
    await fleet.lose("a1");
    await fleet.add("a3");
    expect(await fleet.must("promote a3 --lost")).toContain("next: walb backup vol0 --full --wait");
    await fleet.must("backup vol0 --full --wait");
    await proves("a3");
  },
  limitMs,
);

test(
  "forget leaves no server that knows the volume; shutdown ends daemons with 0, and tells of those that are away",
  async () => {
    await fleet.must("forget vol0 --without a0,a1 --yes");
    for (const name of ["s0", "p0", "a3"]) expect(await fleet.stateAt(name, "vol0")).toBe("Clear");
    expect((await fleet.verb("shutdown --all --json")).code).toBe(3);
    expect(await fleet.exited("s0")).toBe(0);
  },
  limitMs,
);
