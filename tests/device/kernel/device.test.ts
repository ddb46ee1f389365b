import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { truncateSync } from "node:fs";
import { type KernelDevice, openKernelDevice } from "../../../src/device/kernel/device.ts";
import { readSuperblock } from "../../../src/log/format.ts";
import { until } from "../../helpers/until.ts";
import { DriverBench, mib } from "./setup.ts";

let bench: DriverBench;
let device: KernelDevice;
beforeEach(async () => {
  bench = new DriverBench();
  await bench.pair("vol0");
  await bench.start("vol0");
  device = openKernelDevice(bench.kernel.platform, "vol0");
});
afterEach(async () => {
  await device.close();
  await bench.close();
});

/** Lets everything written so far get to the data device and into the superblock. */
async function settle(): Promise<void> {
  await until(async () => {
    await device.checkpoint();
    const { lsids } = await device.status();
    return lsids.prevWritten === lsids.latest;
  });
}

test("info comes from the superblock behind the log view, the sizes and the devices below from sysfs", async () => {
  const log = await bench.platform.disk.open(bench.file("vol0-log"), { mode: "read" });
  const superblock = await readSuperblock(log, bench.platform.memory);
  await log.close();
  expect(await device.info()).toEqual({
    name: "vol0",
    sizeLb: 8192,
    pbsBytes: 512,
    uuid: superblock.uuid,
    salt: superblock.salt,
    ringSizePb: 4086,
    ringOffsetPb: 10,
    logPath: "/dev/vol0-log",
    dataPath: "/dev/vol0-data",
  });
  expect(await device.logUsage()).toEqual({ usagePb: 0, capacityPb: 4086 });
});

test("status is lsids, overflow, uuid, and why it takes no writes", async () => {
  await bench.kernel.write("vol0", 0, 8, 1);
  const status = await device.status();
  expect(status).toMatchObject({ lsids: { latest: 9, permanent: 9, oldest: 0 }, isOverflow: false });
  expect(status.readOnlyReason).toBeUndefined();
  bench.kernel.device("vol0").isReadOnly = true;
  bench.kernel.device("vol0").isOverflow = true;
  expect(await device.status()).toMatchObject({
    isOverflow: true,
    readOnlyReason: expect.stringContaining("dmesg | grep walb"),
  });
});

test("a device that is not there fails with not-found, and works when it comes", async () => {
  const absent = openKernelDevice(bench.kernel.platform, "vol1");
  await expect(absent.status()).rejects.toMatchObject({ code: "not-found", where: { volume: "vol1" } });
  await expect(absent.checkpoint()).rejects.toMatchObject({ code: "not-found" });
  await bench.pair("vol1");
  await bench.start("vol1");
  expect((await absent.status()).lsids.latest).toBe(0);
  await absent.close();
});

describe("erasing log", () => {
  test("goes up to what a checkpoint covered, at the beginning of a pack", async () => {
    await bench.kernel.write("vol0", 0, 8, 1);
    await bench.kernel.write("vol0", 8, 8, 2);
    await settle();
    await device.setOldest(9);
    expect((await device.status()).lsids.oldest).toBe(9);
    await device.setOldest(18);
    expect((await device.status()).lsids.oldest).toBe(18);
  });

  test("is refused with the reason, and without asking the driver, when it cannot be", async () => {
    await device.setOldest(0);
    await bench.kernel.write("vol0", 0, 8, 1);
    await settle();
    const calls = bench.kernel.calls.length;
    await expect(device.setOldest(10)).rejects.toThrow("not between oldest 0 and prevWritten 9");
    await expect(device.setOldest(3)).rejects.toThrow("no log pack begins there");
    bench.kernel.device("vol0").isOverflow = true;
    await expect(device.setOldest(9)).rejects.toThrow("the log has overflowed");
    bench.kernel.device("vol0").isOverflow = false;
    bench.kernel.device("vol0").isReadOnly = true;
    await expect(device.setOldest(9)).rejects.toMatchObject({ code: "read-only" });
    expect(bench.kernel.calls.length).toBe(calls);
  });
});

test("resetting the log gives a new one, and info and status follow", async () => {
  await bench.kernel.write("vol0", 0, 8, 1);
  const before = await device.info();
  const after = await device.resetLog();
  expect(after.uuid).not.toBe(before.uuid);
  expect(after.salt).not.toBe(before.salt);
  expect(await device.status()).toMatchObject({ uuid: after.uuid, lsids: { latest: 0 } });
});

test("the log of a frozen device cannot be reset, which is said", async () => {
  await device.freeze(0);
  expect(await device.isFrozen()).toBe(true);
  await expect(device.resetLog()).rejects.toThrow("the log of a frozen device cannot be reset");
  await device.melt();
  await device.melt();
  expect(await device.isFrozen()).toBe(false);
  await device.resetLog();
});

test("a freeze ends by itself after its timeout", async () => {
  await device.freeze(1);
  await until(async () => !(await device.isFrozen()));
});

test("growing needs the data device to be large enough, and shrinking is refused", async () => {
  await expect(device.resize(8193)).rejects.toThrow("the data device has 4194304 bytes, too few for 4194816");
  await expect(device.resize(8191)).rejects.toThrow("cannot shrink");
  expect((await device.resize(8192)).sizeLb).toBe(8192);
  truncateSync(bench.file("vol0-data"), 8 * mib);
  expect((await device.resize(10_000)).sizeLb).toBe(10_000);
  expect((await device.resize(0)).sizeLb).toBe(16384);
});

test("the driver's other commands", async () => {
  expect(await device.isFlushCapable()).toBe(true);
  expect(await device.checkpointIntervalMs()).toBe(10_000);
  await device.setCheckpointIntervalMs(0);
  expect(await device.checkpointIntervalMs()).toBe(0);
  await expect(device.setCheckpointIntervalMs(86_400_001)).rejects.toMatchObject({ code: "out-of-range" });
});

test("a refusal nobody foresaw names the command and where the reason is", async () => {
  bench.kernel.device("vol0").isReadOnly = true;
  await expect(device.command({ command: "TAKE_CHECKPOINT" })).rejects.toMatchObject({
    code: "state",
    what: "the walb driver refused TAKE_CHECKPOINT; it tells the reason only to the kernel log",
    hint: "look at its last lines: dmesg | grep walb",
  });
});

describe("watching", () => {
  test("tells of the first write by the driver's event, and of further ones although there is no event", async () => {
    let count = 0;
    const stop = device.watch(() => {
      count += 1;
    });
    await until(() => count > 0);
    await Bun.sleep(50);
    for (let i = 0; i < 4; i++) {
      const before = count;
      await bench.kernel.write("vol0", 8 * i, 8, i);
      await until(() => count > before);
    }
    stop();
    const before = count;
    await bench.kernel.write("vol0", 0, 8, 9);
    await Bun.sleep(300);
    expect(count).toBe(before);
  });

  test("tells of a reset, of an overflow, and of a device that goes and comes back", async () => {
    let count = 0;
    device.watch(() => {
      count += 1;
    });
    const told = async (change: () => unknown): Promise<void> => {
      await Bun.sleep(50);
      const before = count;
      await change();
      await until(() => count > before);
    };
    await until(() => count > 0);
    await told(() => bench.kernel.write("vol0", 0, 8, 1));
    await told(() => device.resetLog());
    await told(() => bench.kernel.write("vol0", 0, 8, 1));
    await told(() => {
      bench.kernel.device("vol0").isOverflow = true;
    });
    await told(() => bench.driver.stop({ major: 250, minor: 0 }, false));
    await told(() => bench.start("vol0"));
    await told(() => bench.kernel.write("vol0", 0, 8, 1));
  });

  test("two watchers have one look, and an empty log is looked at seldom", async () => {
    let reads = 0;
    const { readAttribute } = bench.kernel;
    bench.kernel.readAttribute = (path) => {
      reads += 1;
      return readAttribute.call(bench.kernel, path);
    };
    device.watch(() => undefined);
    device.watch(() => undefined);
    await Bun.sleep(1_000);
    expect(reads).toBeLessThanOrEqual(6);
  });
});

test("log and data are read through the driver's own nodes, past the page cache", async () => {
  await bench.kernel.write("vol0", 0, 8, 7);
  await settle();
  const log = await device.openLog();
  const data = await device.openData();
  expect([log.path, data.path]).toEqual(["/dev/walb/Lvol0", "/dev/walb/vol0"]);
  expect(bench.kernel.opened.slice(-2)).toEqual([
    { path: "/dev/walb/Lvol0", direct: true },
    { path: "/dev/walb/vol0", direct: true },
  ]);
  const lease = await bench.platform.memory.lease(4096);
  await data.read(0, lease);
  expect(lease.bytes.every((byte) => byte === 7)).toBe(true);
  lease.release();
  await log.close();
  await data.close();
});
