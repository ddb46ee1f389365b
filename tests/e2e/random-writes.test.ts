import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { firstDifference } from "../../src/cli/demo/images.ts";
import { binary, Fleet } from "../helpers/fleet.ts";

const writes = 100_000;
const points = 5;
let fleet: Fleet;

beforeAll(async () => {
  fleet = await Fleet.start();
}, 300_000);
afterAll(() => fleet?.close(), 60_000);

test("100,000 random writes, trims and zeroes through NBD come back equal at five points", async () => {
  expect(existsSync("/usr/bin/python3")).toBe(true);
  // The log must hold what is not shipped yet: nothing here slows the writer down.
  await fleet.makeVolume("vol0", "256M", "6G");
  await fleet.must("backup", "vol0", "--wait");
  const command = [
    binary,
    "snapshot",
    "vol0",
    "--wait",
    "--quiet",
    "--timeout",
    "120s",
    "--fleet",
    fleet.path("walb.toml"),
  ];
  const script = `${import.meta.dir}/random_writes.py`;
  const words = [fleet.nbdSocket, "vol0", `${writes}`, `${points}`, fleet.path("model"), "7", ...command];
  const child = Bun.spawn(["/usr/bin/python3", script, ...words], { stdout: "pipe", stderr: "pipe" });
  const [out, err] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  expect({ code: await child.exited, err }).toEqual({ code: 0, err: "" });
  const gids = out
    .trim()
    .split("\n")
    .map((line) => line.split(" ")[1]!);
  expect(gids).toHaveLength(points);
  for (const [i, gid] of gids.entries()) {
    const to = fleet.path(`restored-${i + 1}`);
    await fleet.must("restore", "vol0", "--snapshot", gid, "--to", to);
    expect(await firstDifference(fleet.path(`model.${i + 1}`), to)).toBeUndefined();
  }
}, 300_000);
