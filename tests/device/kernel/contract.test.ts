import { afterAll, describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { KernelAdmin } from "../../../src/device/kernel/admin.ts";
import { errnoIn } from "../../../src/device/kernel/checks.ts";
import { openKernelDevice } from "../../../src/device/kernel/device.ts";
import { WalbDriver } from "../../../src/device/kernel/driver.ts";
import { type CtlInput, defaultStartParam } from "../../../src/device/kernel/layout.ts";
import { readLsids } from "../../../src/device/kernel/sysfs.ts";
import { isPackFault } from "../../../src/log/pack.ts";
import { LogDeviceReader } from "../../../src/log/reader.ts";
import type { Platform } from "../../../src/platform/platform.ts";
import { closePlatform, createPlatform } from "../../../src/platform/real/index.ts";
import { DriverBench, mib } from "./setup.ts";

/**
 * What is expected of the driver, tried on the one of the tests always, and on the real one where it is loaded:
 * WALB_DRIVER_STORES="LDEV DDEV" names two spare block devices of at least 4 MiB, whose content is lost.
 */
interface Site {
  readonly platform: Platform;
  readonly logPath: string;
  readonly dataPath: string;
  /** Writes a block of 4096 bytes through the wrapper device, durably. */
  write(offsetBytes: number, value: number): Promise<void>;
}

const name = "walbtest";
const EFAULT = 14;

function contract(siteOf: () => Site): void {
  test("a device is made, written, shipped, erased, frozen, reset, stopped, and started again", async () => {
    const site = siteOf();
    const { platform, logPath, dataPath } = site;
    const admin = new KernelAdmin(platform);
    const driver = new WalbDriver(platform.kernel!);
    const device = openKernelDevice(platform, name);
    const lsids = () => readLsids(platform.kernel!, name);
    const until = async (condition: () => boolean | Promise<boolean>, what: string): Promise<void> => {
      const limitMs = performance.now() + 30_000;
      while (!(await condition())) {
        if (performance.now() > limitMs) throw new Error(`still waiting: ${what}`);
        await Bun.sleep(10);
      }
    };
    /** The driver itself is asked, past our own checks. */
    const refusedByDriver = async (input: CtlInput): Promise<void> => {
      const error = await driver.wdev(name, input).then(
        () => undefined,
        (thrown: unknown) => thrown,
      );
      expect({ input, errno: errnoIn(error) }).toEqual({ input, errno: EFAULT });
    };
    expect(await driver.version()).toMatch(/^1\.\d+\.\d+$/);

    const created = await admin.create({ name, logPath, dataPath });
    const { pbsBytes, sizeLb } = created.info!;
    expect(created).toMatchObject({ state: "running", path: `/dev/walb/${name}`, logPath, dataPath, logUsagePb: 0 });
    expect(created.status?.lsids).toMatchObject({ oldest: 0, latest: 0 });
    expect(created.info!.ringOffsetPb).toBe(4096 / pbsBytes + 2);
    const listed = (await driver.list()).find(({ diskName }) => diskName === `walb/${name}`)!;
    expect(listed.major).toBe(await driver.major());
    expect(await platform.kernel!.deviceNumber(`/dev/walb/${name}`)).toEqual({
      major: listed.major,
      minor: listed.minor,
    });
    expect(await driver.count()).toBeGreaterThanOrEqual(1);

    let told = 0;
    device.watch(() => {
      told += 1;
    });
    await until(() => told > 0, "the first look");
    await Bun.sleep(200);
    const before = told;
    await site.write(8192, 7);
    await until(() => told > before, "the event of the first write");
    await until(async () => (await lsids()).permanent === 1 + 4096 / pbsBytes, "permanent");
    await until(async () => (await lsids()).written === (await lsids()).latest, "written");
    await device.checkpoint();
    expect((await lsids()).prevWritten).toBe((await lsids()).written);

    const log = await device.openLog();
    const { uuid, salt, ringSizePb, ringOffsetPb } = await device.info();
    const ring = { pbsBytes, ringSizePb, ringOffsetPb, salt };
    const reader = new LogDeviceReader({ file: log, ring, pool: platform.memory, compute: platform.compute });
    const header = await reader.headerAt(0);
    if (isPackFault(header)) throw new Error(`no pack at lsid 0: ${header.field} ${header.reason}`);
    expect(header.records[0]).toMatchObject({ kind: "data", offsetLb: 16, sizeLb: 8 });
    await log.close();

    const end = (await lsids()).prevWritten;
    await refusedByDriver({ command: "SET_OLDEST_LSID", valU64: 3 });
    await refusedByDriver({ command: "SET_OLDEST_LSID", valU64: end + 1 });
    await device.setOldest(end);
    expect((await lsids()).oldest).toBe(end);
    expect(await device.logUsage()).toEqual({ usagePb: 0, capacityPb: ringSizePb });
    for (const [command, value] of [
      ["GET_OLDEST_LSID", end],
      ["GET_WRITTEN_LSID", end],
      ["GET_PERMANENT_LSID", end],
      ["GET_COMPLETED_LSID", end],
      ["GET_LOG_USAGE", 0],
      ["GET_LOG_CAPACITY", ringSizePb],
    ] as const) {
      expect([command, (await driver.wdev(name, { command })).valU64]).toEqual([command, value]);
    }
    expect((await driver.wdev(name, { command: "IS_LOG_OVERFLOW" })).valInt).toBe(0);

    await refusedByDriver({ command: "RESIZE", valU64: sizeLb - 8 });
    expect((await device.resize(sizeLb)).sizeLb).toBe(sizeLb);
    await device.setCheckpointIntervalMs(1234);
    expect(await device.checkpointIntervalMs()).toBe(1234);
    await refusedByDriver({ command: "SET_CHECKPOINT_INTERVAL", valU32: 86_400_001 });
    await device.isFlushCapable();

    await device.freeze(60);
    expect(await device.isFrozen()).toBe(true);
    expect((await admin.show(name)).state).toBe("frozen");
    await refusedByDriver({ command: "CLEAR_LOG" });
    await device.melt();
    expect(await device.isFrozen()).toBe(false);
    await device.freeze(1);
    await until(async () => !(await device.isFrozen()), "the end of a freeze");

    const fresh = await device.resetLog();
    expect(fresh.uuid).not.toBe(uuid);
    expect(await device.status()).toMatchObject({
      uuid: fresh.uuid,
      lsids: { oldest: 0, latest: 0 },
      isOverflow: false,
    });

    await site.write(0, 9);
    await expect(admin.create({ name: "other", logPath, dataPath, reuseLog: true })).rejects.toMatchObject({
      code: "busy",
    });
    await device.close();
    await admin.delete(name);
    await expect(admin.show(name)).rejects.toMatchObject({ code: "not-found" });
    const again = await admin.startOver({ logPath, dataPath }, defaultStartParam);
    expect(again.name).toBe(name);
    const shown = await admin.show(name);
    expect(shown.info?.uuid).toBe(fresh.uuid);
    expect(shown.status?.lsids.latest).toBe(1 + 4096 / pbsBytes);
    await admin.delete(name);
  }, 300_000);
}

describe("the driver of the tests", () => {
  const bench = new DriverBench();
  afterAll(() => bench.close());
  contract(() => {
    bench.block("ldev", 4 * mib);
    bench.block("ddev", 4 * mib);
    const write = (offsetBytes: number, value: number) => bench.kernel.write(name, offsetBytes / 512, 8, value);
    return { platform: bench.kernel.platform, logPath: "/dev/ldev", dataPath: "/dev/ddev", write };
  });
});

const stores = process.env.WALB_DRIVER_STORES?.split(" ") ?? [];
const isLoaded = existsSync("/dev/walb/control");
const canTry = isLoaded && stores.length === 2;
describe.skipIf(!canTry)("the real driver (needs it loaded, and WALB_DRIVER_STORES)", () => {
  let made: Platform | undefined;
  if (canTry) afterAll(async () => made && closePlatform(made));
  contract(() => {
    const platform = createPlatform({ memoryBudgetBytes: 64 * mib, threads: 2 });
    made = platform;
    const [logPath, dataPath] = stores as [string, string];
    const write = async (offsetBytes: number, value: number): Promise<void> => {
      const node = await platform.disk.open(`/dev/walb/${name}`, { mode: "write", direct: true });
      const lease = await platform.memory.lease(4096);
      lease.bytes.fill(value);
      await node.write(offsetBytes, lease);
      await node.sync();
      lease.release();
      await node.close();
    };
    return { platform, logPath, dataPath, write };
  });
});
