import { afterAll, beforeAll, expect, test } from "bun:test";
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { ProcedureFleet } from "../helpers/procedure-fleet.ts";

/** The page about replaced hosts, followed as it is written. */
const page = readFileSync(join(import.meta.dir, "../../docs/operations/replace-host.md"), "utf8");
const blocks = [...page.matchAll(/^ *```sh\n([\s\S]*?)^ *```/gm)].map(([, text]) => text ?? "");
const main = join(import.meta.dir, "../../src/main.ts");
const limitMs = 120_000;
let fleet: ProcedureFleet;
let model: Buffer;

beforeAll(async () => {
  fleet = await ProcedureFleet.start(["s0", "p0", "p1", "a0"], '[volumes.vol0]\nstorage = "s0"\n');
  model = Buffer.alloc(fleet.sizeBytes);
  mkdirSync(fleet.path("bin"));
  for (const name of ["restore", "srv"]) mkdirSync(fleet.path(name));
  writeFileSync(fleet.path("bin/walb"), `#!/bin/sh\nexec ${process.execPath} ${main} "$@"\n`);
  chmodSync(fleet.path("bin/walb"), 0o755);
  await fleet.makeDevice("s0", "vol0");
  await fleet.must("init vol0 --device vol0");
  await fleet.must("backup vol0 --wait");
}, limitMs);
afterAll(() => fleet?.close(), limitMs);

/** Types a block. Other hosts are this one; a device here is served by NBD, as there may be no kernel to attach it to. */
async function type(block: string, deviceData = ""): Promise<string> {
  const here = block
    .replaceAll(/rsync --sparse (\S+) newhost:/g, "cp --sparse=always $1 ")
    .replaceAll(/ (\/restore|\/srv)\//g, ` ${fleet.directory}$1/`)
    .replace("--log-size 20G", `--log-size 8M --device-data ${deviceData}`)
    .replace(/^ *walb device attach .*$/m, "");
  const child = Bun.spawn(["bash", "-ec", here], {
    cwd: fleet.directory,
    env: { ...process.env, PATH: `${fleet.path("bin")}:${process.env.PATH ?? ""}` },
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  const [out, err] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  expect({ code: await child.exited, text: `${here}\n${out}${err}` }).toMatchObject({ code: 0 });
  return out + err;
}

async function proves(archive: string, storage: string): Promise<number> {
  await fleet.write(storage, "vol0", model);
  const gid = await fleet.snapshot("vol0", archive, storage);
  await fleet.mustEqual(archive, "vol0", gid, model);
  return gid;
}

test("the page has a block for each step", () => {
  expect(blocks.map((block) => block.match(/walb \S+/g))).toEqual([
    ["walb restore"],
    ["walb device", "walb device"],
    ["walb replace"],
    ["walb init", "walb backup"],
    ["walb replace", "walb backup"],
    ["walb replace", "walb backup"],
  ]);
});

test(
  "the host with the volume is lost: the points of before stay",
  async () => {
    const before = await proves("a0", "s0");
    const then = Buffer.from(model);
    await fleet.lose("s0");
    await fleet.lose("d0");
    await type(blocks[0]!);
    await fleet.add("s1");
    await type(blocks[1]!, fleet.path("d1"));
    await type(blocks[2]!);
    fleet.takeOut("s0");
    await proves("a0", "s1");
    await fleet.must("status vol0");
    await fleet.mustEqual("a0", "vol0", before, then);
    // The same at the same address.
    await fleet.lose("s1");
    await fleet.lose("d1");
    await type(blocks[0]!.replaceAll("vol0.img", "again.img"));
    for (const name of ["d1", "s1"]) await fleet.run(name);
    await type(blocks[1]!.replaceAll("vol0.img", "again.img"), fleet.path("d1"));
    await type(blocks[3]!);
    fleet.disconnect("s1", "vol0");
    await proves("a0", "s1");
    await fleet.mustEqual("a0", "vol0", before, then);
  },
  limitMs,
);

test(
  "a proxy is lost with what it held, then one at its address",
  async () => {
    await fleet.lose("p0");
    await fleet.add("p2");
    expect(await type(blocks[4]!)).toContain("next: walb backup vol0 --hash --wait");
    fleet.takeOut("p0");
    await proves("a0", "s1");
    await fleet.lose("p2");
    await fleet.run("p2");
    await type(blocks[4]!.split("\n")[1]!);
    await proves("a0", "s1");
  },
  limitMs,
);

test(
  "the archive is lost, then one at its address",
  async () => {
    await fleet.lose("a0");
    await fleet.add("a2");
    expect(await type(blocks[5]!)).toContain("next: walb backup vol0 --full --wait");
    fleet.takeOut("a0");
    await proves("a2", "s1");
    await fleet.lose("a2");
    await fleet.run("a2");
    await type(blocks[5]!.split("\n")[1]!);
    await proves("a2", "s1");
  },
  limitMs,
);
