import { afterAll, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ProxyStatus } from "../../src/control/proxy.ts";
import type { RunningRole } from "../../src/control/role.ts";
import type { StorageStatus } from "../../src/control/storage.ts";
import { deviceControlClient } from "../../src/device/user/control/client.ts";
import { openDeviceDaemon } from "../../src/device/user/daemon.ts";
import type { Address } from "../../src/platform/net.ts";
import { closePlatform, createPlatform } from "../../src/platform/real/index.ts";
import { openProxy } from "../../src/proxy/server.ts";
import { openStorage } from "../../src/storage/server.ts";
import { RawNbd, request } from "../device/nbd/raw.ts";
import { call, testLogger } from "../helpers/backup-path.ts";
import { FakeArchive } from "../helpers/fake-archive.ts";
import { until } from "../helpers/until.ts";
import { VolumeModel } from "../helpers/volume-model.ts";

const mib = 1024 * 1024;
const platform = createPlatform({ memoryBudgetBytes: 1024 * mib, threads: 4 });
const directory = mkdtempSync(join(tmpdir(), "walb-roles-"));
const log = testLogger(platform);
afterAll(async () => {
  await closePlatform(platform);
  rmSync(directory, { recursive: true, force: true });
});

const anyPort: Address = { kind: "tcp", host: "127.0.0.1", port: 0 };
const volume = "vol0";

test("over real sockets and files a volume is backed up, shipped, and survives the restart of every part", async () => {
  const nbd: Address = { kind: "unix", path: join(directory, "nbd.sock") };
  const nbdMemory = platform.memory.carve(128 * mib);
  const device = await openDeviceDaemon(platform, {
    dataDir: join(directory, "device"),
    nbdListeners: [nbd],
    nodeId: "s0",
    nbdMemory,
  });
  const model = new VolumeModel((8 * mib) / 512);
  const admin = await deviceControlClient(platform, device.controlPath);
  await admin.create({ name: "dev0", sizeBytes: 8 * mib, logSizeBytes: 64 * mib });
  await admin.close();

  const archive = new FakeArchive();
  let failure: unknown;
  const seen = new Map<bigint, Uint8Array>();
  archive.onClean = (gid, image) => {
    seen.set(gid, image.slice());
    try {
      if (model.prefixOf(image) === undefined) failure ??= new Error(`gid ${gid} is no state of the volume`);
    } catch (error) {
      failure ??= error;
    }
  };
  const archiveServer = await archive.open(platform, anyPort);
  const addressOf = (address: Address): string => (address.kind === "tcp" ? `127.0.0.1:${address.port}` : "");
  const common = { nodeId: "x", security: "loopback" } as const;
  let proxyAddress: Address = anyPort;
  const startProxy = async (): Promise<RunningRole> => {
    const proxy = await openProxy(
      platform,
      { ...common, listen: proxyAddress, dataDir: join(directory, "proxy") },
      log,
    );
    proxyAddress = proxy.address;
    return proxy;
  };
  let proxy = await startProxy();
  await call(proxy, "add-archive", { volume, archiveName: "a0", address: addressOf(archiveServer.address) });
  await call(proxy, "start", { volume });
  const startStorage = (): Promise<RunningRole> =>
    openStorage(
      platform,
      {
        ...common,
        listen: anyPort,
        dataDir: join(directory, "storage"),
        archive: archiveServer.address,
        proxies: [proxyAddress],
        deviceSocket: device.controlPath,
        retryDelayMs: 100,
      },
      log,
    );
  let storage = await startStorage();
  await call(storage, "init", { volume, device: { kind: "user", name: "dev0" } });

  const client = await RawNbd.go(platform.net, nbd, "dev0");
  let handle = 0;
  const writes = async (count: number): Promise<void> => {
    for (let i = 0; i < count; i++) {
      const sizeLb = 1 + Math.floor(Math.random() * 200);
      const offsetLb = Math.floor(Math.random() * (model.sizeLb - sizeLb));
      const isZero = Math.random() < 0.1;
      const bytes = model.write(offsetLb, sizeLb, isZero);
      handle += 1;
      const at = offsetLb * 512;
      client.send(
        bytes === undefined ? request(6, handle, at, sizeLb * 512) : request(1, handle, at, sizeLb * 512, 0, bytes),
      );
      expect((await client.reply(handle)).error).toBe(0);
    }
  };
  const snapshotArrives = async (): Promise<void> => {
    const count = model.count;
    const { gid } = await call<{ gid: bigint }>(storage, "snapshot", { volume });
    await until(() => archive.latest.gidB >= gid, `snapshot ${gid}`);
    expect(Buffer.compare(seen.get(gid)!, model.imageAfter(count))).toBe(0);
  };

  await writes(50);
  const backup = call<{ gid: bigint; scannedBytes: number }>(storage, "backup", { volume, mode: "full" });
  await writes(100);
  const { gid, scannedBytes } = await backup;
  expect(scannedBytes).toBe(8 * mib);
  await until(() => archive.latest.gidB >= gid, "the full backup");
  await writes(50);
  await snapshotArrives();

  await storage.close("graceful");
  await writes(50);
  storage = await startStorage();
  await snapshotArrives();

  await proxy.close("force");
  await writes(50);
  const waiting = await call<{ gid: bigint }>(storage, "snapshot", { volume });
  await until(
    async () => (await call<StorageStatus>(storage, "status", {})).volumes[0]!.trouble !== undefined,
    "trouble",
  );
  proxy = await startProxy();
  await call(storage, "kick", {});
  await until(() => archive.latest.gidB >= waiting.gid, "what waited");
  await writes(20);
  await snapshotArrives();

  await until(async () => (await call<StorageStatus>(storage, "status", {})).volumes[0]!.lagMs === 0, "no lag");
  expect((await call<StorageStatus>(storage, "status", {})).volumes[0]!.trouble).toBeUndefined();
  await until(
    async () => (await call<ProxyStatus>(proxy, "status", {})).volumes[0]!.archives[0]!.pendingCount === 0,
    "sent",
  );
  await proxy.close("graceful");
  await storage.close("graceful");
  const diffs = join(directory, "proxy", volume, "diffs");
  const left = existsSync(diffs)
    ? readdirSync(diffs, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile())
    : [];
  expect(left).toEqual([]);
  client.connection.close();
  await device.close();
  await archiveServer.shutdown(0);
  if (failure !== undefined) throw failure;
  expect(seen.size).toBeGreaterThan(3);
}, 300_000);
