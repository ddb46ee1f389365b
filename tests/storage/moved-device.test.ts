import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { StorageStatus } from "../../src/control/storage.ts";
import { KernelAdmin } from "../../src/device/kernel/admin.ts";
import { openDeviceDaemon } from "../../src/device/user/daemon.ts";
import type { Address } from "../../src/platform/net.ts";
import { closePlatform, createPlatform } from "../../src/platform/real/index.ts";
import { openProxy } from "../../src/proxy/server.ts";
import { openStorage } from "../../src/storage/server.ts";
import { RawNbd, request } from "../device/nbd/raw.ts";
import { call, testLogger } from "../helpers/backup-path.ts";
import { expectError } from "../helpers/errors.ts";
import { FakeArchive } from "../helpers/fake-archive.ts";
import { FakeKernel } from "../helpers/fake-kernel.ts";
import { until } from "../helpers/until.ts";
import { VolumeModel } from "../helpers/volume-model.ts";

const mib = 1024 * 1024;
const real = createPlatform({ memoryBudgetBytes: 1024 * mib, threads: 4 });
const kernel = new FakeKernel(real);
const directory = mkdtempSync(join(tmpdir(), "walb-moved-"));
afterAll(async () => {
  await kernel.close();
  await closePlatform(real);
  rmSync(directory, { recursive: true, force: true });
});

const anyPort: Address = { kind: "tcp", host: "127.0.0.1", port: 0 };
const volume = "vol0";

test("a protected volume moves to the kernel driver and back without a new backup, and no write is missing", async () => {
  const { platform } = kernel;
  const log = testLogger(platform);
  const nbd: Address = { kind: "unix", path: join(directory, "nbd.sock") };
  const daemon = await openDeviceDaemon(real, {
    dataDir: join(directory, "device"),
    nbdListeners: [nbd],
    nodeId: "s0",
    nbdMemory: real.memory.carve(128 * mib),
  });
  await daemon.create({ name: "dev0", sizeBytes: 4 * mib, logSizeBytes: 8 * mib });
  const [dataPath, logPath] = ["data", "log"].map((kind) => join(directory, "device", `dev0.${kind}`)) as [
    string,
    string,
  ];
  kernel.addBlock("/dev/data", dataPath, { pbsBytes: 4096 });
  kernel.addBlock("/dev/log", logPath, { pbsBytes: 4096 });
  const admin = new KernelAdmin(platform);
  const model = new VolumeModel((4 * mib) / 512);

  const archive = new FakeArchive();
  const seen = new Map<bigint, Uint8Array>();
  archive.onClean = (gid, image) => seen.set(gid, image.slice());
  const archiveServer = await archive.open(platform, anyPort);
  const archiveAddress = archiveServer.address;
  const port = archiveAddress.kind === "tcp" ? archiveAddress.port : 0;
  const common = { nodeId: "x", security: "loopback", listen: anyPort } as const;
  const proxy = await openProxy(platform, { ...common, dataDir: join(directory, "proxy") }, log);
  await call(proxy, "add-archive", { volume, archiveName: "a0", address: `127.0.0.1:${port}` });
  await call(proxy, "start", { volume });
  const storage = await openStorage(
    platform,
    {
      ...common,
      dataDir: join(directory, "storage"),
      archive: archiveAddress,
      proxies: [proxy.address],
      deviceSocket: daemon.controlPath,
    },
    log,
  );
  const next = (): { offsetLb: number; bytes: Uint8Array } => {
    const sizeLb = 1 + (model.count % 60);
    const offsetLb = (model.count * 997) % (model.sizeLb - sizeLb);
    return { offsetLb, bytes: model.write(offsetLb, sizeLb, false)! };
  };
  const writeByNbd = async (count: number): Promise<void> => {
    const client = await RawNbd.go(platform.net, nbd, "dev0");
    for (let i = 1; i <= count; i++) {
      const { offsetLb, bytes } = next();
      client.send(request(1, i, offsetLb * 512, bytes.length, 0, bytes));
      expect((await client.reply(i)).error).toBe(0);
    }
    client.connection.close();
    await client.gone();
  };
  const writeByDriver = async (count: number): Promise<void> => {
    for (let i = 0; i < count; i++) {
      const { offsetLb, bytes } = next();
      await kernel.writeBytes("dev0", offsetLb, bytes);
    }
  };
  const status = async () => (await call<StorageStatus>(storage, "status", {})).volumes[0]!;
  const snapshotArrives = async (): Promise<void> => {
    const count = model.count;
    const { gid } = await call<{ gid: bigint }>(storage, "snapshot", { volume });
    await until(() => archive.latest.gidB >= gid, `snapshot ${gid}`);
    expect(Buffer.compare(seen.get(gid)!, model.imageAfter(count))).toBe(0);
  };
  const user = { kind: "user", name: "dev0" } as const;
  const driver = { kind: "kernel", name: "dev0" } as const;

  await call(storage, "init", { volume, device: user });
  await writeByNbd(20);
  const { gid } = await call<{ gid: bigint }>(storage, "backup", { volume, mode: "full" });
  await until(() => archive.latest.gidB >= gid, "the full backup");
  await writeByNbd(20);

  // What is logged and not shipped moves, too.
  await expectError(call(storage, "set-device", { volume, device: driver }), { code: "state" });
  await call(storage, "stop", { volume, mode: "graceful" });
  await writeByNbd(20);
  await daemon.delete("dev0", { force: true, keepStores: true });
  await expectError(call(storage, "set-device", { volume, device: driver }), { code: "not-found" });
  const stores = { name: "dev0", dataPath: "/dev/data", logPath: "/dev/log", reuseLog: true };
  await admin.create(stores);
  await writeByDriver(20);
  await call(storage, "set-device", { volume, device: driver });
  await call(storage, "start", { volume, mode: "target" });
  await snapshotArrives();
  expect(await status()).toMatchObject({ state: "Target", device: driver });

  await call(storage, "stop", { volume, mode: "graceful" });
  await writeByDriver(20);
  await admin.delete("dev0");
  await daemon.create({ name: "dev0", dataPath, logPath, reuseLog: true });
  await writeByNbd(20);
  await call(storage, "set-device", { volume, device: user });
  await call(storage, "start", { volume, mode: "target" });
  await snapshotArrives();

  // Another log is not taken for the volume's.
  await call(storage, "stop", { volume, mode: "graceful" });
  await daemon.create({ name: "other", sizeBytes: 4 * mib, logSizeBytes: 8 * mib });
  await expectError(call(storage, "set-device", { volume, device: { kind: "user", name: "other" } }), {
    code: "different-uuid",
  });
  expect((await status()).device).toEqual(user);

  await storage.close("force");
  await proxy.close("force");
  await archiveServer.shutdown(0);
  await daemon.close();
}, 300_000);
