import { afterAll, beforeAll, expect, test } from "bun:test";
import { rmSync, writeFileSync } from "node:fs";
import { Seeded } from "../../src/cli/demo/files.ts";
import { firstDifference } from "../../src/cli/demo/images.ts";
import { NbdClient } from "../../src/cli/demo/nbd.ts";
import { closePlatform, createPlatform } from "../../src/platform/real/index.ts";
import { eventually, Fleet } from "../helpers/fleet.ts";

const mib = 1 << 20;
const sizeBytes = 24 * mib;
const platform = createPlatform({ memoryBudgetBytes: 64 * mib });
const random = new Seeded(7);
const model = Buffer.alloc(sizeBytes);
/** Points with the volume as it was then. */
const points: { readonly gid: string; readonly model: string }[] = [];
let fleet: Fleet;
let nbd: NbdClient;

beforeAll(async () => {
  // A backup takes about half a second, so that it can be interrupted.
  fleet = await Fleet.start({ flags: { storage: ["--full-scan-rate", "48M"] } });
  const device = ["--device-data", fleet.dataOf("device")];
  const sizes = ["--size", "24M", "--log-size", "8M", "--overflow", "keep-writing"];
  await fleet.must("device", "create", "vol0", ...sizes, ...device);
  await fleet.must("init", "vol0", "--device", "vol0");
  nbd = await NbdClient.connect(platform.net, { kind: "unix", path: fleet.nbdSocket }, "vol0");
}, 300_000);
afterAll(async () => {
  nbd?.close();
  await fleet?.close();
  await closePlatform(platform);
}, 300_000);

/** Writes noise, at random places or at one. */
async function write(count: number, at?: number): Promise<void> {
  for (let i = 0; i < count; i++) {
    const length = 4096 * (1 + random.below(16));
    const offset = at ?? 4096 * random.below((sizeBytes - length) / 4096);
    const data = random.noise(length);
    await nbd.write(offset, data);
    model.set(data, offset);
  }
  await nbd.flush();
}

/** Takes a snapshot, waits for it, and remembers what the volume is. */
async function remember(): Promise<void> {
  const { gid } = JSON.parse(await fleet.must("snapshot", "vol0", "--json", "--wait", "--timeout", "30s"));
  rememberAs(gid);
}

function rememberAs(gid: number): void {
  const path = fleet.path(`model-${gid}`);
  writeFileSync(path, model);
  points.push({ gid: `${gid}`, model: path });
}

interface Backup {
  readonly mode: string;
  readonly gid: number;
  readonly sentBytes: number;
  readonly scannedBytes: number;
}

async function backup(): Promise<Backup> {
  return JSON.parse(await fleet.must("backup", "vol0", "--json", "--wait", "--timeout", "60s")) as Backup;
}

/** Every point ever taken is what the volume was. */
async function checkAllPoints(): Promise<void> {
  for (const { gid, model: expected } of points) {
    const to = fleet.path(`restored-${gid}`);
    await fleet.must("restore", "vol0", "--snapshot", gid, "--to", to);
    expect({ gid, difference: await firstDifference(expected, to) }).toEqual({ gid, difference: undefined });
    rmSync(to);
  }
}

test("after an overflow a hash backup makes all identical again, and earlier points stay", async () => {
  await write(300);
  const first = await backup();
  expect(first.mode).toBe("full");
  rememberAs(first.gid);
  await write(20);
  await remember();
  // Nobody takes the log: it runs full.
  await fleet.stop("proxy");
  await write(400);
  const status = await eventually("the overflow", 30_000, async () => {
    const { out } = await fleet.verb("status", "vol0");
    return out.includes("the log has overflowed") && out.includes("back it up anew: walb reset") ? out : undefined;
  });
  expect(status).toContain("walb reset vol0 --server s0; walb backup vol0");
  await fleet.run("proxy");
  await checkAllPoints();
  await fleet.must("reset", "vol0", "--server", "s0", "--yes");
  const again = await backup();
  expect(again.mode).toBe("hash");
  expect(again.gid).toBeGreaterThan(Number(points.at(-1)!.gid));
  rememberAs(again.gid);
  await write(20);
  await remember();
  await checkAllPoints();
}, 300_000);

test("a second hash backup over nearly the same data moves little", async () => {
  await fleet.must("stop", "vol0", "--server", "s0");
  await write(1, 12 * mib);
  await write(1, 20 * mib);
  await fleet.must("reset", "vol0", "--server", "s0", "--yes");
  const result = await backup();
  expect(result.mode).toBe("hash");
  expect(result.scannedBytes).toBe(sizeBytes);
  // Two bulks of 256 KiB with the headers of their packs, and a byte for each of 96 hashes.
  expect(result.sentBytes).toBeLessThan(2 * 262_144 + 2 * 4096 + 1024);
  rememberAs(result.gid);
  await checkAllPoints();
}, 300_000);

test("after the storage's data directory was lost, init and a hash backup are enough, and no point is lost", async () => {
  await fleet.kill("storage");
  rmSync(fleet.dataOf("storage"), { recursive: true, force: true });
  await write(40);
  await fleet.run("storage");
  await fleet.must("init", "vol0", "--device", "vol0");
  const result = await backup();
  expect(result.mode).toBe("hash");
  rememberAs(result.gid);
  await write(20);
  await remember();
  await checkAllPoints();
}, 300_000);

test("killed at any moment, storage or archive, a hash backup is taken again and loses nothing", async () => {
  let interrupted = 0;
  for (const [role, delayMs] of [
    ["storage", 200],
    ["archive", 250],
  ] as const) {
    const { out } = await fleet.verb("status", "vol0", "--json");
    if (out.includes('"Target"')) await fleet.must("stop", "vol0", "--server", "s0");
    await write(100);
    await fleet.must("reset", "vol0", "--server", "s0", "--yes");
    const broken = fleet.verb("backup", "vol0", "--hash");
    await Bun.sleep(delayMs);
    await fleet.kill(role);
    await fleet.run(role);
    interrupted += (await broken).code === 0 ? 0 : 1;
    const state = await eventually("the end of the backup", 30_000, async () => {
      const { out: text } = await fleet.verb("status", "vol0", "--json");
      return /"state":\s*"(SyncReady|Target)"/.exec(text)?.[1];
    });
    if (state === "SyncReady") rememberAs((await backup()).gid);
    else await remember();
  }
  await checkAllPoints();
  expect(interrupted).toBeGreaterThan(0);
}, 180_000);
