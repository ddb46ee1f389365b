import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { truncateSync, writeFileSync } from "node:fs";
import { KernelAdmin } from "../../../src/device/kernel/admin.ts";
import type { CreateVolume } from "../../../src/device/user/control/schema.ts";
import { readSuperblock } from "../../../src/log/format.ts";
import { DriverBench, mib } from "./setup.ts";

let bench: DriverBench;
let admin: KernelAdmin;
beforeEach(() => {
  bench = new DriverBench();
  admin = new KernelAdmin(bench.kernel.platform);
  bench.block("log0", 2 * mib);
  bench.block("data0", 4 * mib);
});
afterEach(() => bench.close());

const vol0 = { name: "vol0", dataPath: "/dev/data0", logPath: "/dev/log0" };

test("create formats the log and starts the device; show and list tell of it", async () => {
  const report = await admin.create(vol0);
  expect(report).toMatchObject({
    name: "vol0",
    state: "running",
    sizeBytes: 4 * mib,
    overflow: "keep-writing",
    dataPath: "/dev/data0",
    logPath: "/dev/log0",
    path: "/dev/walb/vol0",
    uris: [],
    logUsagePb: 0,
    logCapacityPb: 4086,
    info: { pbsBytes: 512 },
  });
  expect(await admin.list()).toEqual([await admin.show("vol0")]);
});

test("a deleted device is started again with its log, and has its data and lsids", async () => {
  await admin.create({ ...vol0, sizeBytes: 3 * mib });
  await bench.kernel.write("vol0", 0, 8, 5);
  const before = await admin.show("vol0");
  await admin.delete("vol0");
  expect(await admin.list()).toEqual([]);
  const after = await admin.create({ ...vol0, reuseLog: true });
  expect(after.info).toEqual(before.info!);
  expect(after.sizeBytes).toBe(3 * mib);
  expect(after.status?.lsids.latest).toBe(before.status!.lsids.latest);
});

test("checkpoint, freeze, melt, resize and reset-log reach the driver", async () => {
  await admin.create(vol0);
  await bench.kernel.write("vol0", 0, 8, 5);
  await admin.freeze("vol0", { timeoutMs: 100_000 });
  expect((await admin.show("vol0")).state).toBe("frozen");
  await admin.melt("vol0");
  await admin.checkpoint("vol0");
  truncateSync(bench.file("data0"), 8 * mib);
  expect((await admin.resize("vol0", 6 * mib)).sizeLb).toBe((6 * mib) / 512);
  expect((await admin.resetLog("vol0")).uuid).not.toBe("");
  expect((await admin.show("vol0")).status?.lsids.latest).toBe(0);
});

describe("what the driver would refuse without a reason is refused with one", () => {
  const refused = async (volume: CreateVolume, code: string, text: string): Promise<void> => {
    await expect(admin.create(volume)).rejects.toMatchObject({ code, message: expect.stringContaining(text) });
  };

  test("a driver that is not loaded", async () => {
    bench.kernel.isLoaded = false;
    await refused(vol0, "unsupported", "the walb driver is not loaded");
  });

  test("stores that are missing, no block devices, or the same", async () => {
    writeFileSync(bench.file("plain"), "x");
    await refused({ name: "vol0", logPath: "/dev/log0" }, "bad-parameter", "two block devices");
    await refused({ ...vol0, dataPath: "/dev/none" }, "not-found", "there is no such block device");
    await refused({ ...vol0, dataPath: bench.file("plain") }, "bad-parameter", "block devices only");
    await refused({ ...vol0, dataPath: "/dev/log0" }, "bad-parameter", "cannot share a device");
  });

  test("stores of another device, and a name that is taken", async () => {
    await admin.create(vol0);
    bench.block("log1", 2 * mib);
    bench.block("data1", 4 * mib);
    await refused({ ...vol0, name: "vol1" }, "busy", "is the log of the walb device vol0");
    await refused({ ...vol0, name: "vol1", logPath: "/dev/log1" }, "busy", "is the data of the walb device vol0");
    await refused({ name: "vol0", logPath: "/dev/log1", dataPath: "/dev/data1" }, "already-exists", "of this name");
  });

  test("stores that somebody else has open", async () => {
    const file = await bench.platform.disk.open(bench.file("data0"), { mode: "write", lock: true });
    await refused(vol0, "locked", "in use by another process");
    await file.close();
    await admin.create(vol0);
  });

  test("block sizes that differ, between the devices or from the log", async () => {
    bench.block("data4k", 4 * mib, 4096);
    await refused(
      { ...vol0, dataPath: "/dev/data4k" },
      "bad-parameter",
      "blocks of 512 bytes, the data device of 4096",
    );
    await bench.pair("k4", { pbsBytes: 4096 });
    bench.kernel.addBlock("/dev/k4-log512", bench.file("k4-log"));
    const volume = { name: "k4", logPath: "/dev/k4-log512", dataPath: "/dev/data0", reuseLog: true };
    await refused(volume, "bad-parameter", "the log has blocks of 4096 bytes, its device of 512");
  });

  test("a log that is there, one that is not, and a data device that is too small", async () => {
    await refused({ ...vol0, reuseLog: true }, "bad-format", "no log to reuse");
    await refused({ ...vol0, sizeBytes: 5 * mib }, "out-of-range", "cannot hold a volume of 5242880 bytes");
    await admin.create(vol0);
    await admin.delete("vol0");
    await refused(vol0, "already-exists", "there is a log of the volume");
    truncateSync(bench.file("data0"), 2 * mib);
    await refused({ ...vol0, reuseLog: true }, "out-of-range", "cannot hold a volume of 4194304 bytes");
  });

  test("wishes that only a device in user space can fulfil", async () => {
    await refused({ ...vol0, overflow: "stop" }, "unsupported", "lets writes go on when a log is full");
    await refused({ ...vol0, logSizeBytes: mib }, "bad-parameter", "has its size and its block size already");
    await refused({ ...vol0, name: "x".repeat(26) }, "bad-parameter", "1 to 25 letters");
  });

  test("a device that is in use is not deleted unless forced", async () => {
    await admin.create(vol0);
    bench.kernel.device("vol0").isOpen = true;
    await expect(admin.delete("vol0")).rejects.toMatchObject({
      code: "busy",
      hint: "unmount it and stop what uses it, see: fuser -vm /dev/walb/vol0; or force it",
    });
    await admin.delete("vol0", { force: true });
    await expect(admin.delete("vol0")).rejects.toMatchObject({ code: "not-found" });
  });
});

test("a start that the driver refuses leaves no log behind, so that it can be tried again", async () => {
  const { ioctl } = bench.kernel;
  bench.kernel.ioctl = async (path, request, argument, buffers) => {
    const answer = await ioctl.call(bench.kernel, path, request, argument, buffers);
    if (argument[0] !== 1 || argument.length !== 120) return answer;
    await bench.kernel.close();
    const left = argument.slice();
    new DataView(left.buffer).setInt32(20, -8, true);
    return { ...answer, errno: 14, argument: left };
  };
  await expect(admin.create(vol0)).rejects.toMatchObject({
    code: "state",
    what: "the walb driver did not start the device: the block device could not be registered",
    hint: "the kernel log says why: dmesg | grep walb",
  });
  const log = await bench.platform.disk.open(bench.file("log0"), { mode: "read" });
  await expect(readSuperblock(log, bench.platform.memory)).rejects.toMatchObject({ code: "bad-format" });
  await log.close();
  bench.kernel.ioctl = ioctl;
  await admin.create(vol0);
});
