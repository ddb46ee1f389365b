import { describe, expect, test } from "bun:test";
import { deviceControlClient } from "../../src/device/user/control/client.ts";
import { BackupPath, call, volume } from "../helpers/backup-path.ts";
import { expectError } from "../helpers/errors.ts";

async function running(seed: number, options: ConstructorParameters<typeof BackupPath>[1] = {}): Promise<BackupPath> {
  const path = new BackupPath(seed, { sizeLb: 1024, ...options });
  await path.world.complete(() => path.open());
  await path.world.complete(() => path.writes(5));
  await path.arrived(await path.world.complete(() => path.backup()));
  return path;
}

const statusOf = (path: BackupPath) => path.world.complete(() => path.storageVolume());

describe("a log that overflows", () => {
  test("stops the volume by itself and says so until a new backup, after which it is followed again", async () => {
    const path = await running(1, { logBytes: 1024 * 1024, overflow: "keep-writing" });
    const { world } = path;
    world.network.refuse("s0", "p0");
    await world.complete(async () => {
      for (let i = 0; i < 30; i++) await path.writeAt(0, 128);
    });
    await world.run(15_000);
    const stopped = await statusOf(path);
    expect(stopped).toMatchObject({ state: "Stopped", isOverflow: true });
    expect(stopped.trouble!.code).toBe("log-overflow");
    await expectError(
      world.complete(() => call(path.storage, "start", { volume, mode: "target" })),
      "overflow",
    );
    await expectError(
      world.complete(() => path.snapshot()),
      "overflow",
    );
    // It stays so over a restart.
    await world.run(12_000);
    path.storageHost.kill();
    await world.complete(() => path.restartStorageHost());
    expect(await statusOf(path)).toMatchObject({ state: "Stopped", isOverflow: true });
    world.network.accept("s0", "p0");
    await world.complete(() => call(path.storage, "reset", { volume }));
    path.archive.state = "SyncReady";
    const base = await world.complete(() => path.backup());
    expect(await statusOf(path)).toMatchObject({ state: "Target", isOverflow: false });
    path.snapshots.clear();
    path.restorable[0]!.clear();
    await path.arrived(base, 100_000);
    await world.complete(() => path.writes(5));
    await path.arrived(await world.complete(() => path.snapshot()));
    expect(path.verify()).toBeGreaterThan(0);
    expect((await statusOf(path)).trouble).toBeUndefined();
    path.close();
  });

  test("without a restart in between is followed again, too", async () => {
    const path = await running(2, { logBytes: 1024 * 1024, overflow: "keep-writing" });
    const { world } = path;
    world.network.refuse("s0", "p0");
    await world.complete(async () => {
      for (let i = 0; i < 30; i++) await path.writeAt(0, 128);
    });
    await world.run(15_000);
    expect((await statusOf(path)).state).toBe("Stopped");
    world.network.accept("s0", "p0");
    await world.complete(() => call(path.storage, "reset", { volume }));
    path.archive.state = "SyncReady";
    path.snapshots.clear();
    path.restorable[0]!.clear();
    await path.arrived(await world.complete(() => path.backup()), 100_000);
    await world.complete(() => path.writes(5));
    await path.arrived(await world.complete(() => path.snapshot()));
    expect(path.verify()).toBeGreaterThan(0);
    path.close();
  });

  test("of a device that rather refuses writes never happens: it goes on when the proxy is back", async () => {
    const path = await running(3, { logBytes: 1024 * 1024, overflow: "stop" });
    const { world } = path;
    world.network.refuse("s0", "p0");
    let refused = false;
    await world.complete(async () => {
      for (let i = 0; i < 30 && !refused; i++) {
        refused = await path.writeAt(0, 128).then(
          () => false,
          () => true,
        );
      }
    });
    expect(refused).toBe(true);
    path.model.writes.pop();
    world.network.accept("s0", "p0");
    const gid = await world.complete(() => path.snapshot());
    await path.arrived(gid, 60_000);
    await world.run(15_000);
    await world.complete(() => path.writes(5));
    await path.arrived(await world.complete(() => path.snapshot()));
    expect((await statusOf(path)).isOverflow).toBe(false);
    path.verify();
    path.close();
  });
});

describe("a device", () => {
  test("whose daemon restarts is followed again, and the trouble is told meanwhile", async () => {
    const path = await running(4);
    const { world } = path;
    await world.complete(() => path.device.close());
    await world.run(120_000);
    const away = await statusOf(path);
    expect(away.trouble!.code).toBe("unreachable");
    expect(away.state).toBe("Target");
    await expectError(
      world.complete(() => path.snapshot()),
      "device daemon",
    );
    await world.complete(() => path.openDevice());
    await world.complete(() => path.writes(5));
    // The wait for the device is never long.
    await world.run(12_000);
    await path.arrived(await world.complete(() => path.snapshot()), 20_000);
    await world.run(1_000);
    expect((await statusOf(path)).trouble).toBeUndefined();
    // The proxy was never blamed for it.
    path.verify();
    path.close();
  });

  test("whose log somebody else resets is not trusted any more, and nothing of it is sent", async () => {
    const path = await running(5);
    const { world } = path;
    await world.run(2_000);
    const admin = await world.complete(() => deviceControlClient(path.storageHost.platform, "/device/control.sock"));
    await world.complete(() => admin.resetLog("dev0"));
    const { gidB } = path.archive.latest;
    await world.complete(() => path.writes(5));
    await world.run(30_000);
    expect((await statusOf(path)).trouble!.code).toBe("different-uuid");
    expect(path.archive.latest.gidB).toBe(gidB);
    await expectError(
      world.complete(() => path.snapshot()),
      "reset by somebody else",
    );
    path.close();
  });

  test("that hangs does not hold up the status", async () => {
    const path = await running(6);
    const { world } = path;
    // Nobody reads the control socket any more.
    path.storageHost.storage.inject({ pathIncludes: "dev0", effect: "hang", times: 1_000_000 });
    world.after(0, () => void path.write().catch(() => undefined));
    await world.run(1_000);
    const startMs = world.nowMs();
    await statusOf(path);
    expect(world.nowMs() - startMs).toBeLessThan(4_000);
    path.close();
  });
});

describe("the commands of a storage", () => {
  const codeOf = async (path: BackupPath, command: string, params: unknown): Promise<string> =>
    await path.world.complete(() =>
      call(path.storage, command, params).then(
        () => "ok",
        (error: { code?: string; message: string }) => error.code ?? error.message.split(":")[0]!,
      ),
    );

  test("that are refused by state say the way out", async () => {
    const path = await running(12);
    const hintOf = (command: string, params: object) =>
      path.world.complete(() =>
        call(path.storage, command, { volume, ...params }).then(
          () => "",
          (error: { hint?: string }) => error.hint ?? "",
        ),
      );
    const at = `${volume} --server s0`;
    expect(await hintOf("reset", {})).toBe(`stop it first: walb stop ${at}`);
    expect(await hintOf("clear", {})).toContain(`walb stop ${at}; walb reset ${at}`);
    await path.world.complete(() => call(path.storage, "stop", { volume, mode: "graceful" }));
    expect(await hintOf("clear", {})).toContain(`walb reset ${at}`);
    await path.world.complete(() => call(path.storage, "reset", { volume }));
    expect(await hintOf("reset", {})).toContain(`walb backup ${volume}`);
    expect(await hintOf("snapshot", {})).toContain(`walb backup ${volume}`);
    path.close();
  });

  test("are refused in states they do not belong to, and change nothing", async () => {
    const path = await running(7);
    for (const [command, params] of [
      ["backup", { volume, mode: "full" }],
      ["clear", { volume }],
      ["reset", { volume }],
      ["start", { volume, mode: "target" }],
      ["start", { volume, mode: "standby" }],
    ] as const) {
      expect(`${command} ${await codeOf(path, command, params)}`).toBe(`${command} state`);
    }
    expect((await statusOf(path)).state).toBe("Target");
    expect(await codeOf(path, "init", { volume, device: { kind: "user", name: "dev0" } })).toBe("already-exists");
    expect(await codeOf(path, "init", { volume: "other", device: { kind: "user", name: "dev0" } })).toBe(
      "already-exists",
    );
    expect(await codeOf(path, "init", { volume: "other", device: { kind: "user", name: "none" } })).toBe("not-found");
    expect(await codeOf(path, "snapshot", { volume: "other" })).toBe("not-found");
    expect(await codeOf(path, "stop", { volume, mode: "graceful" })).toBe("ok");
    expect(await codeOf(path, "stop", { volume, mode: "graceful" })).toBe("state");
    expect(await codeOf(path, "snapshot", { volume })).toBe("ok");
    expect(await codeOf(path, "clear", { volume })).toBe("state");
    expect(await codeOf(path, "start", { volume, mode: "target" })).toBe("ok");
    expect(await codeOf(path, "stop", { volume, mode: "force" })).toBe("ok");
    expect(await codeOf(path, "reset", { volume })).toBe("ok");
    expect(await codeOf(path, "clear", { volume })).toBe("ok");
    expect((await statusOf(path)).state).toBe("Clear");
    expect(path.storageHost.storage.paths().filter((file) => file.includes("/storage/vol0"))).toEqual([]);
    path.close();
  });

  test("keep a standby's log empty, whatever its log was before", async () => {
    const path = await running(8);
    const { world } = path;
    for (const command of ["stop", "reset"] as const) {
      await world.complete(() =>
        call(path.storage, command, command === "stop" ? { volume, mode: "graceful" } : { volume }),
      );
    }
    const admin = await world.complete(() => deviceControlClient(path.storageHost.platform, "/device/control.sock"));
    await world.complete(() => admin.resetLog("dev0"));
    await world.complete(() => call(path.storage, "start", { volume, mode: "standby" }));
    const { gidB } = path.archive.latest;
    await world.complete(() => path.writes(30));
    await world.run(30_000);
    const standby = await statusOf(path);
    expect(standby).toMatchObject({ state: "Standby", logUsagePb: 0 });
    expect(standby.trouble).toBeUndefined();
    expect(path.archive.latest.gidB).toBe(gidB);
    await world.complete(() => call(path.storage, "stop", { volume, mode: "graceful" }));
    expect((await statusOf(path)).state).toBe("SyncReady");
    path.close();
  });

  test("close in the middle of everything, gracefully or by force, and leave the lock and the memory", async () => {
    for (const mode of ["graceful", "force"] as const) {
      const path = await running(9);
      const { world } = path;
      await world.complete(() => path.writes(20));
      world.after(0, () => void path.snapshot().catch(() => undefined));
      await world.run(3);
      await world.complete(() => path.storage.close(mode));
      expect(path.leasedBytes).toBe(0);
      await world.complete(() => path.openStorage());
      await world.complete(() => path.proxies[0]!.close(mode));
      await world.complete(() => path.openProxy(0));
      await path.arrived(await world.complete(() => path.snapshot()), 60_000);
      path.verify();
      path.close();
    }
  });

  test("start over with little memory, or say how much is needed", async () => {
    const path = new BackupPath(10);
    const { world } = path;
    const small = world.host("small", { memoryBytes: 40 * 1024 * 1024 });
    const options = {
      listen: { kind: "tcp", host: "", port: 1 },
      dataDir: "/x",
      nodeId: "x",
      security: "insecure",
      archive: { kind: "tcp", host: "a0", port: 1 },
      proxies: [{ kind: "tcp", host: "p0", port: 1 }],
    } as const;
    const { openStorage } = await import("../../src/storage/server.ts");
    const { openProxy } = await import("../../src/proxy/server.ts");
    const { silentLogger } = await import("../../src/control/logger.ts");
    for (const open of [openStorage, openProxy]) {
      await expectError(
        world.complete(() => open(small.platform, options, silentLogger)),
        "MiB of memory",
      );
      // The lock is free again.
      await expectError(
        world.complete(() => open(small.platform, options, silentLogger)),
        "memory",
      );
      const enough = world.host(open.name, { memoryBytes: 128 * 1024 * 1024 });
      await (await world.complete(() => open(enough.platform, options, silentLogger))).control.info();
    }
    path.close();
  });
});

test("two hundred idle volumes cost next to nothing", async () => {
  const path = new BackupPath(11, { sizeLb: 64 });
  const { world } = path;
  await world.complete(() => path.open());
  await world.complete(() => path.device.close());
  await world.complete(() => path.storage.close("graceful"));
  path.storageHost.kill();
  const host = world.host("s1", { memoryBytes: 1024 * 1024 * 1024 });
  Object.assign(path, { storageHost: host });
  await world.complete(() => path.openDevice());
  await world.complete(() => path.openStorage());
  const admin = await world.complete(() => deviceControlClient(host.platform, "/device/control.sock"));
  await world.complete(async () => {
    for (let i = 0; i < 200; i++) {
      await admin.create({ name: `dev${i}`, sizeBytes: 32768, logSizeBytes: 1024 * 1024 });
      await call(path.storage, "init", { volume: `vol${i}`, device: { kind: "user", name: `dev${i}` } });
      await call(path.storage, "start", { volume: `vol${i}`, mode: "standby" });
    }
  });
  await world.run(60_000);
  const before = world.eventCount;
  await world.run(60_000);
  // Per volume one look each 10 s, of a few events, and the device's own checkpoints.
  expect(world.eventCount - before).toBeLessThan(200 * 6 * 20);
  path.close();
});

describe("a storage whose database is garbage", () => {
  test("says what to do, and refuses to make the volume anew over it", async () => {
    const path = await running(11);
    path.storageHost.kill();
    const file = path.storageHost.storage.paths().find((name) => name.endsWith(`/${volume}/volume.db`))!;
    path.storageHost.storage.corrupt(file, 0, 100);
    await path.world.complete(() => path.restartStorageHost());
    const status = await statusOf(path);
    expect(status).toMatchObject({ state: "Broken", trouble: { code: "damaged" } });
    expect(status.trouble!.hint).toContain(`walb backup ${volume}`);
    const device = { kind: "user", name: "dev0" };
    await expectError(
      path.world.complete(() => call(path.storage, "init", { volume, device })),
      "not a SQLite database",
    );
    path.close();
  });
});
