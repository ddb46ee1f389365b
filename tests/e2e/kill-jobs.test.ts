import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { Seeded } from "../../src/cli/demo/files.ts";
import { firstDifference } from "../../src/cli/demo/images.ts";
import { NbdClient } from "../../src/cli/demo/nbd.ts";
import { closePlatform, createPlatform } from "../../src/platform/real/index.ts";
import { eventually, Fleet, type Role, type VerbResult } from "../helpers/fleet.ts";

const sizeBytes = 256 << 20;
const platform = createPlatform({ memoryBudgetBytes: 64 << 20 });
let fleet: Fleet;

beforeAll(async () => {
  fleet = await Fleet.start();
}, 300_000);
afterAll(async () => {
  await fleet?.close();
  await closePlatform(platform);
}, 300_000);

/** Fills a volume with noise; answers the path of what is on it. */
async function fill(volume: string, seed: number): Promise<string> {
  const client = await NbdClient.connect(platform.net, { kind: "unix", path: fleet.nbdSocket }, volume);
  const data = Buffer.from(new Seeded(seed).noise(sizeBytes));
  for (let at = 0; at < sizeBytes; at += 1 << 20) await client.write(at, data.subarray(at, at + (1 << 20)));
  await client.flush();
  client.close();
  const model = fleet.path(`model-${volume}-${seed}`);
  writeFileSync(model, data);
  return model;
}

/** Kills a role a moment after a verb began, and starts it again. */
async function killDuring(role: Role, delayMs: number, verb: readonly string[]): Promise<VerbResult> {
  const running = fleet.verb(...verb);
  await Bun.sleep(delayMs);
  await fleet.kill(role);
  await fleet.run(role);
  return running;
}

/** Takes a full backup, again when an attempt was cut off. */
async function backUp(volume: string): Promise<void> {
  await eventually("a backup", 60_000, async () => {
    const { code } = await fleet.verb("backup", volume, "--wait", "--timeout", "30s");
    return code === 0 ? true : undefined;
  });
}

async function expectRestore(volume: string, model: string): Promise<void> {
  const to = fleet.path(`restored-${volume}`);
  await fleet.must("restore", volume, "--to", to, "--overwrite");
  expect(await firstDifference(model, to)).toBeUndefined();
}

describe("kill -9 in the middle of long work", () => {
  for (const [i, role] of (["archive", "storage", "device", "proxy"] as const).entries()) {
    test(`of ${role} in a full backup: it fails with a reason or goes on, and a repetition is right`, async () => {
      const volume = `full-${role}`;
      await fleet.makeVolume(volume, "256M", "1G");
      const model = await fill(volume, 10 + i);
      const { code, err } = await killDuring(role, 150, ["backup", volume, "--quiet"]);
      if (code !== 0) {
        expect(err).toMatch(/^walb: /);
        expect(err).not.toMatch(/\bat .*\.ts:/);
        await backUp(volume);
      }
      await fleet.must("snapshot", volume, "--wait", "--timeout", "60s");
      await expectRestore(volume, model);
    }, 300_000);
  }

  test("of the archive in a restore: the client hears of it, and a repetition is right", async () => {
    await fleet.makeVolume("restored", "256M", "1G");
    const model = await fill("restored", 20);
    await fleet.must("backup", "restored", "--wait");
    const to = fleet.path("cut-restore");
    const { code, err } = await killDuring("archive", 60, ["restore", "restored", "--to", to, "--quiet"]);
    // It may have been through before the kill; then there is nothing to hear.
    if (code !== 0) expect(err).toMatch(/^walb: /);
    await expectRestore("restored", model);
  }, 300_000);

  test("of each daemon while a snapshot is awaited: what was answered is restorable", async () => {
    await fleet.makeVolume("awaited", "256M", "1G");
    await fleet.must("backup", "awaited", "--wait");
    for (const [i, role] of (["storage", "proxy", "archive", "device"] as const).entries()) {
      const model = await fill("awaited", 30 + i);
      const { code } = await killDuring(role, 30, ["snapshot", "awaited", "--wait", "--timeout", "60s"]);
      // A storage reaches its restarted device again within seconds.
      if (code !== 0) {
        await eventually("a snapshot", 30_000, async () => {
          const again = await fleet.verb("snapshot", "awaited", "--wait", "--timeout", "60s");
          return again.code === 0 ? true : undefined;
        });
      }
      await expectRestore("awaited", model);
    }
  }, 180_000);
});
