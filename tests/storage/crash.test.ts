import { expect, test } from "bun:test";
import { BackupPath } from "../helpers/backup-path.ts";

/** A path whose volume is under backup, with some log shipped. */
async function runningPath(seed: number, options: { proxies?: number } = {}): Promise<BackupPath> {
  const path = new BackupPath(seed, { sizeLb: 1024, ...options });
  await path.world.complete(() => path.open());
  await path.world.complete(() => path.writes(5));
  await path.arrived(await path.world.complete(() => path.backup()));
  return path;
}

/** Writes and takes snapshots until the host it runs on is gone. */
function workInBackground(path: BackupPath): void {
  const work = async (): Promise<void> => {
    for (let i = 0; i < 6; i++) {
      await path.writes(2);
      await path.snapshot();
      await path.storageHost.platform.clock.sleep(300);
    }
  };
  work().catch(() => undefined);
}

async function finish(path: BackupPath): Promise<void> {
  const { world } = path;
  await world.complete(() => path.writes(3));
  await path.arrived(await world.complete(() => path.snapshot()), 600_000);
  expect(path.verify()).toBeGreaterThan(1);
  await world.run(2_000);
  expect(path.leasedBytes).toBe(0);
  // What was delivered is gone, and so is what was begun and given up.
  const files = path.proxyHosts.flatMap((host) => host.storage.paths());
  expect(files.filter((file) => file.includes("/diffs/"))).toEqual([]);
}

for (const how of ["power loss", "kill"] as const) {
  test(`a storage host that dies (${how}) at any operation of its disk leaves no gap`, async () => {
    for (let operation = 1; operation <= 61; operation += 2) {
      const path = await runningPath(operation);
      const { world, storageHost } = path;
      storageHost.crashAtOperation(operation, { kill: how === "kill", seed: operation });
      workInBackground(path);
      await world.run(4_000);
      if (storageHost.isUp) storageHost.crash();
      await world.complete(() => path.restartStorageHost());
      await world.complete(() => path.forgetLostWrites());
      await finish(path);
      path.close();
    }
  }, 300_000);

  test(`a proxy that dies (${how}) at any operation of its disk leaves no gap`, async () => {
    for (let operation = 1; operation <= 34; operation += 1) {
      const path = await runningPath(operation);
      const { world } = path;
      const proxyHost = path.proxyHosts[0]!;
      proxyHost.crashAtOperation(operation, { kill: how === "kill", seed: operation });
      workInBackground(path);
      await world.run(3_000);
      if (proxyHost.isUp) proxyHost.crash();
      await world.complete(() => path.restartProxy(0));
      await finish(path);
      path.close();
    }
  }, 300_000);
}

test("connections that break after any number of bytes leave no gap", async () => {
  for (let seed = 1; seed <= 24; seed++) {
    const path = await runningPath(seed, { proxies: 2 });
    const { world } = path;
    const pairs = [
      ["s0", "p0"],
      ["p0", "s0"],
      ["p0", "a0"],
      ["a0", "p0"],
      ["s0", "p1"],
      ["p1", "a0"],
    ] as const;
    for (let i = 0; i < 6; i++) {
      const [from, to] = world.random.pick(pairs);
      world.network.cutAfterBytes(from, to, world.random.between(1, 4_000));
    }
    workInBackground(path);
    await world.run(6_000);
    await finish(path);
    path.close();
  }
}, 300_000);

test("bytes that are damaged on their way are never taken for good", async () => {
  for (let seed = 1; seed <= 12; seed++) {
    const path = await runningPath(seed);
    const { world } = path;
    for (const [from, to] of [
      ["s0", "p0"],
      ["p0", "a0"],
    ] as const) {
      world.network.corruptByte(from, to, world.random.between(100, 6_000));
    }
    workInBackground(path);
    await world.run(6_000);
    await finish(path);
    path.close();
  }
}, 300_000);

test("a power loss right after a snapshot takes nothing away from it", async () => {
  for (let seed = 1; seed <= 6; seed++) {
    const path = await runningPath(seed);
    const { world } = path;
    await world.complete(() => path.writes(seed));
    const gid = await world.complete(() => path.snapshot());
    await world.complete(() => path.writes(seed));
    path.storageHost.crash({ keep: "none" });
    await world.complete(() => path.restartStorageHost());
    await world.complete(() => path.forgetLostWrites());
    await path.arrived(gid);
    await finish(path);
    path.close();
  }
});
