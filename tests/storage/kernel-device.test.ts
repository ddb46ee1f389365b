import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { RunningRole } from "../../src/control/role.ts";
import type { StorageStatus } from "../../src/control/storage.ts";
import { KernelAdmin } from "../../src/device/kernel/admin.ts";
import type { Address } from "../../src/platform/net.ts";
import { closePlatform, createPlatform } from "../../src/platform/real/index.ts";
import { openProxy } from "../../src/proxy/server.ts";
import { openStorage } from "../../src/storage/server.ts";
import { runCommand } from "../../src/wire/commands.ts";
import { connectWire } from "../../src/wire/handshake.ts";
import { call, testLogger } from "../helpers/backup-path.ts";
import { expectError } from "../helpers/errors.ts";
import { FakeArchive } from "../helpers/fake-archive.ts";
import { FakeKernel } from "../helpers/fake-kernel.ts";
import { until } from "../helpers/until.ts";
import { VolumeModel } from "../helpers/volume-model.ts";

const mib = 1024 * 1024;
const real = createPlatform({ memoryBudgetBytes: 1024 * mib, threads: 4 });
const kernel = new FakeKernel(real);
const directory = mkdtempSync(join(tmpdir(), "walb-kernel-storage-"));
afterAll(async () => {
  await kernel.close();
  await closePlatform(real);
  rmSync(directory, { recursive: true, force: true });
});

const anyPort: Address = { kind: "tcp", host: "127.0.0.1", port: 0 };
const volume = "vol0";

test("a volume on the kernel driver is backed up and shipped as it grows, its log is erased, a restart goes on", async () => {
  const { platform } = kernel;
  const log = testLogger(platform);
  for (const [name, sizeBytes] of [
    ["log", 2 * mib],
    ["data", 4 * mib],
  ] as const) {
    writeFileSync(join(directory, name), "");
    truncateSync(join(directory, name), sizeBytes);
    kernel.addBlock(`/dev/${name}`, join(directory, name));
  }
  await new KernelAdmin(platform).create({ name: "dev0", dataPath: "/dev/data", logPath: "/dev/log" });
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
  const startStorage = (): Promise<RunningRole> =>
    openStorage(
      platform,
      { ...common, dataDir: join(directory, "storage"), archive: archiveAddress, proxies: [proxy.address] },
      log,
    );
  let storage = await startStorage();
  await expectError(call(storage, "init", { volume, device: { kind: "kernel", name: "none" } }), {
    code: "not-found",
  });
  // As the original's controller says it: a path that is the driver's device.
  const peer = { clock: platform.clock, clientId: "ctl", protocol: "init-vol" };
  const { stream } = await connectWire(platform.net, storage.address, peer);
  await runCommand(stream, "init-vol", [volume, "/dev/walb/dev0"]);
  stream.close();
  await expectError(call(storage, "init", { volume: "again", device: { kind: "kernel", name: "dev0" } }), {
    code: "already-exists",
  });

  const write = async (count: number): Promise<void> => {
    for (let i = 0; i < count; i++) {
      const sizeLb = 1 + (model.count % 60);
      const offsetLb = (model.count * 997) % (model.sizeLb - sizeLb);
      const bytes = model.write(offsetLb, sizeLb, false)!;
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
  await write(20);
  const { gid } = await call<{ gid: bigint }>(storage, "backup", { volume, mode: "full" });
  await until(() => archive.latest.gidB >= gid, "the full backup");
  await write(20);
  await snapshotArrives();
  await until(async () => (await status()).oldestLsid === (await status()).latestLsid, "the log is erased");
  // Empty again: the next write is told by the driver's event.
  await write(1);
  await until(async () => ((await status()).doneLsid ?? 0) > 0 && (await status()).lagBytes === 0, "shipped by itself");

  await storage.close("graceful");
  await write(20);
  storage = await startStorage();
  await snapshotArrives();
  expect((await status()).device).toEqual({ kind: "kernel", name: "dev0" });

  await storage.close("force");
  await proxy.close("force");
  await archiveServer.shutdown(0);
}, 300_000);
