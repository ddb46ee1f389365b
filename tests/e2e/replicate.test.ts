import { afterAll, beforeAll, expect, test } from "bun:test";
import { rmSync, writeFileSync } from "node:fs";
import { Seeded } from "../../src/cli/demo/files.ts";
import { firstDifference } from "../../src/cli/demo/images.ts";
import { NbdClient } from "../../src/cli/demo/nbd.ts";
import { closePlatform, createPlatform } from "../../src/platform/real/index.ts";
import { binary, type DaemonProcess, eventually, Fleet, freePort, spawnDaemon, untilReady } from "../helpers/fleet.ts";

const mib = 1 << 20;
const sizeBytes = 24 * mib;
const platform = createPlatform({ memoryBudgetBytes: 64 * mib });
const random = new Seeded(11);
const model = Buffer.alloc(sizeBytes);
let fleet: Fleet;
let nbd: NbdClient;
let port: number;
let second: DaemonProcess;

async function startSecond(): Promise<void> {
  const log = fleet.path("a1.log");
  second = spawnDaemon(["archive", "--port", `${port}`, "--node", "a1", "--data", fleet.path("a1")], log);
  await untilReady(second, "archive", log);
}

async function killSecond(): Promise<void> {
  second.kill("SIGKILL");
  await second.exited;
}

beforeAll(async () => {
  fleet = await Fleet.start();
  await fleet.makeVolume("vol0", "24M", "16M");
  nbd = await NbdClient.connect(platform.net, { kind: "unix", path: fleet.nbdSocket }, "vol0");
  port = await freePort();
  await startSecond();
}, 300_000);
afterAll(async () => {
  nbd?.close();
  second?.kill("SIGKILL");
  await second?.exited;
  await fleet?.close();
  await closePlatform(platform);
}, 300_000);

/** Writes noise and takes a snapshot. @returns its gid. */
async function change(count: number): Promise<number> {
  for (let i = 0; i < count; i++) {
    const length = 4096 * (1 + random.below(16));
    const offset = 4096 * random.below((sizeBytes - length) / 4096);
    const data = random.noise(length);
    await nbd.write(offset, data);
    model.set(data, offset);
  }
  await nbd.flush();
  const { gid } = JSON.parse(await fleet.must("snapshot", "vol0", "--json", "--wait", "--timeout", "60s"));
  return gid;
}

const to = (): string => `127.0.0.1:${port}`;

/** The second archive restores what the volume is. */
async function expectSecond(gid: number): Promise<void> {
  const [image, expected] = [fleet.path("second.img"), fleet.path("model.img")];
  writeFileSync(expected, model);
  await fleet.must("restore", "vol0", "--server", to(), "--snapshot", `${gid}`, "--to", image);
  expect(await firstDifference(expected, image)).toBeUndefined();
  rmSync(image);
}

async function hasPoint(gid: number): Promise<true | undefined> {
  const { code, out } = await fleet.verb("snapshots", "vol0", "--server", to(), "--json");
  const points = code === 0 ? (JSON.parse(out).snapshots as { gid: number }[]) : [];
  return points.some((point) => point.gid === gid) ? true : undefined;
}

test("a second archive is filled, brought up to date, and killed in the middle", async () => {
  await fleet.must("backup", "vol0", "--wait", "--timeout", "60s");
  const first = await change(100);
  const full = fleet.verb("replicate", "vol0", "--to", to());
  await Bun.sleep(60);
  await killSecond();
  await full;
  await startSecond();
  const again = JSON.parse(await fleet.must("replicate", "vol0", "--to", to(), "--json"));
  expect(again.gid).toBe(first);
  await expectSecond(first);
  const next = await change(50);
  const diff = JSON.parse(await fleet.must("replicate", "vol0", "--to", to(), "--json"));
  expect(diff).toMatchObject({ gid: next, isFull: false, diffCount: 1 });
  await expectSecond(next);
}, 300_000);

test("following goes on through kills of both archives, and ends with Ctrl-C", async () => {
  const fleetFile = fleet.path("walb.toml");
  const follower = Bun.spawn([binary, "replicate", "vol0", "--to", to(), "--follow", "--fleet", fleetFile], {
    stdin: "ignore",
    stdout: "ignore",
    stderr: "pipe",
  });
  const gid = await change(30);
  await eventually(`snapshot ${gid} at the second archive`, 30_000, () => hasPoint(gid));
  await killSecond();
  await startSecond();
  const afterSecond = await change(30);
  await eventually(`snapshot ${afterSecond}`, 60_000, () => hasPoint(afterSecond));
  await fleet.kill("archive");
  await fleet.run("archive");
  const afterFirst = await change(30);
  await eventually(`snapshot ${afterFirst}`, 60_000, () => hasPoint(afterFirst));
  await expectSecond(afterFirst);
  follower.kill("SIGINT");
  expect(await follower.exited).toBe(0);
  expect(await new Response(follower.stderr).text()).toContain("is not followed");
}, 240_000);

test("an archive with another full backup is refused with the way out, and a resync replaces it", async () => {
  const gid = await change(10);
  await fleet.must("replicate", "vol0", "--to", to());
  for (const verb of ["stop", "reset"]) {
    await fleet.must(verb, "vol0", "--server", "a0", ...(verb === "reset" ? ["--yes"] : []));
    await fleet.must(verb, "vol0", "--server", "s0", ...(verb === "reset" ? ["--yes"] : []));
  }
  await fleet.must("backup", "vol0", "--full", "--wait", "--timeout", "60s");
  const newest = await change(20);
  const refused = await fleet.verb("replicate", "vol0", "--to", to());
  expect([refused.code, refused.err]).toEqual([4, expect.stringMatching(/other backups of vol0.*--resync/)]);
  expect(await hasPoint(gid)).toBe(true);
  await fleet.must("replicate", "vol0", "--to", to(), "--resync");
  await eventually(`snapshot ${newest}`, 30_000, () => hasPoint(newest));
  await eventually("the second archive to be ready", 30_000, async () => {
    const { code } = await fleet.verb("restore", "vol0", "--server", to(), "--to", fleet.path("x.img"), "--dry-run");
    return code === 0 ? true : undefined;
  });
  await expectSecond(newest);
}, 300_000);
