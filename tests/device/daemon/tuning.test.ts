import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { volumeTuningSchema } from "../../../src/device/user/control/schema.ts";
import { boundTuning, tuningOptions } from "../../../src/device/user/daemon-tuning.ts";
import { VolumeSet } from "../../../src/device/user/daemon-volumes.ts";
import { closePlatform, createPlatform } from "../../../src/platform/real/index.ts";

const mib = 1024 * 1024;
const directory = mkdtempSync(join(tmpdir(), "walb-tuning-"));
const platform = createPlatform({ memoryBudgetBytes: 64 * mib, threads: 1 });
afterAll(async () => {
  await closePlatform(platform);
  rmSync(directory, { recursive: true, force: true });
});

const host = {
  clientMemoryBytes: 60 * mib,
  isTcpTls: false,
  connectionsOf: () => 0,
  watchersOf: () => 0,
  addresses: () => [],
  changed: () => undefined,
  problem: () => undefined,
  disconnect: async () => undefined,
};

test("a volume has at most as much pending as it was made for, also behind a restart, within the daemon's budget", async () => {
  const sizes = { sizeBytes: 4 * mib, logSizeBytes: 4 * mib };
  const first = new VolumeSet(platform, directory, {}, host);
  await first.load(60_000);
  await first.create({ name: "small", ...sizes, tuning: { maxPendingBytes: 2 * mib } });
  await first.create({ name: "greedy", ...sizes, tuning: { maxPendingBytes: 2 ** 34 } });
  await first.create({ name: "plain", ...sizes });
  await first.close(60_000);
  const again = new VolumeSet(platform, directory, {}, host);
  await again.load(60_000);
  const room = Object.fromEntries(["small", "greedy", "plain"].map((name) => [name, again.find(name)?.roomBytes]));
  expect(room).toEqual({ small: 2 * mib, greedy: 10 * mib, plain: 10 * mib });
  expect(again.show("greedy").tuning).toEqual({ maxPendingBytes: 10 * mib });
  await again.close(60_000);
});

test("what writes wait for stays below the maximum, whatever the daemon has for a volume", () => {
  expect(boundTuning({ minPendingBytes: 16 * mib }, 10 * mib)).toEqual({ minPendingBytes: 10 * mib - 1 });
  expect(boundTuning({ minPendingBytes: 3 * mib, maxPendingBytes: 4 * mib }, 10 * mib)).toEqual({
    minPendingBytes: 3 * mib,
    maxPendingBytes: 4 * mib,
  });
  expect(volumeTuningSchema.safeParse({ minPendingBytes: 4 * mib, maxPendingBytes: 4 * mib }).success).toBe(false);
});

test("only what a tuning names reaches the engine", () => {
  expect(tuningOptions({})).toEqual({});
  expect(tuningOptions(boundTuning({ maxPackBytes: 64 * mib, logSyncBytes: 0 }, mib))).toEqual({
    maxPackBytes: mib,
    logSyncBytes: 0,
  });
});
