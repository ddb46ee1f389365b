import { afterEach, beforeEach, expect, test } from "bun:test";
import { DriverFailure } from "../../../src/device/kernel/driver.ts";
import {
  kernelDeviceNames,
  nodeOf,
  readBelow,
  readFlags,
  readLsids,
  readSizeLb,
  readUuid,
} from "../../../src/device/kernel/sysfs.ts";
import { DriverBench } from "./setup.ts";

let bench: DriverBench;
beforeEach(() => {
  bench = new DriverBench();
});
afterEach(() => bench.close());

test("a driver that is not loaded is unsupported, and the error says what to do", async () => {
  bench.kernel.isLoaded = false;
  await expect(bench.driver.version()).rejects.toMatchObject({
    code: "unsupported",
    what: "the walb driver is not loaded",
    hint: "load it: modprobe walb-mod; or make a device in user space, without --kernel",
  });
  await expect(bench.driver.count()).rejects.toMatchObject({ code: "unsupported" });
});

test("version, major, count and the list of more devices than one answer can hold", async () => {
  expect(await bench.driver.version()).toBe("1.5.1");
  expect(await bench.driver.major()).toBe(250);
  expect(await bench.driver.list()).toEqual([]);
  const names = Array.from({ length: 35 }, (_, i) => `vol${i}`);
  for (const name of names) {
    await bench.pair(name, { dataBytes: 65536, logBytes: 65536 });
    await bench.start(name);
  }
  expect(await bench.driver.count()).toBe(35);
  const list = await bench.driver.list();
  expect(list.map(({ diskName }) => diskName)).toEqual(names.map((name) => `walb/${name}`));
  expect(list.map(({ minor }) => minor)).toEqual(names.map((_, i) => 2 * i));
  expect(await kernelDeviceNames(bench.kernel)).toEqual(names.toSorted());
}, 300_000);

test("a device takes the name of the superblock when none is given", async () => {
  await bench.pair("stored");
  const log = (await bench.kernel.deviceNumber("/dev/stored-log"))!;
  const data = (await bench.kernel.deviceNumber("/dev/stored-data"))!;
  await bench.start("stored", { name: "" });
  expect((await bench.driver.list()).map(({ diskName }) => diskName)).toEqual(["walb/stored"]);
  expect(log).toEqual({ major: 8, minor: 0 });
  expect(await nodeOf(bench.kernel, data)).toBe("/dev/stored-data");
});

test("a failed start tells the driver's own reason, a stop of an open device EBUSY", async () => {
  await bench.pair("a");
  await bench.pair("b");
  await bench.start("a");
  const again = bench.start("a");
  await expect(again).rejects.toBeInstanceOf(DriverFailure);
  await expect(again).rejects.toMatchObject({ error: -4 });
  await expect(bench.start("b", { name: "a" })).rejects.toMatchObject({ error: -7 });
  await expect(bench.start("b", { maxPendingMb: 1 })).rejects.toMatchObject({ error: -3 });
  bench.kernel.device("a").isOpen = true;
  const device = { major: 250, minor: 0 };
  await expect(bench.driver.stop(device, false)).rejects.toMatchObject({ error: -2, failure: { code: "busy" } });
  await bench.driver.stop(device, true);
  await expect(bench.driver.stop(device, true)).rejects.toMatchObject({ error: -1 });
});

test("lsids are found by key, with keys of other versions around them", async () => {
  await bench.pair("vol0");
  await bench.start("vol0");
  const zero = { oldest: 0, prevWritten: 0, written: 0, permanent: 0, flush: 0, completed: 0, latest: 0 };
  expect(await readLsids(bench.kernel, "vol0")).toEqual(zero);
  await bench.kernel.write("vol0", 0, 8, 1);
  expect(await readLsids(bench.kernel, "vol0")).toMatchObject({ permanent: 9, latest: 9, oldest: 0 });
  await expect(readLsids(bench.kernel, "none")).rejects.toMatchObject({ code: "not-found" });
});

test("an attribute that is not as it should be names its file, and what to check", async () => {
  await bench.pair("vol0");
  await bench.start("vol0");
  const { readAttribute } = bench.kernel;
  const withText = async (attribute: string, text: string, read: () => Promise<unknown>, code = "protocol") => {
    bench.kernel.readAttribute = async (path) =>
      path.endsWith(`/${attribute}`) ? text : await readAttribute.call(bench.kernel, path);
    await expect(read()).rejects.toMatchObject({
      code,
      message: expect.stringMatching(/lsids|uuid|status|ldev|size|latest/),
    });
  };
  const lsids = () => readLsids(bench.kernel, "vol0");
  const good = (await readAttribute.call(bench.kernel, "/sys/block/walb!vol0/walb/lsids"))!;
  await withText("lsids", "", lsids);
  await withText("lsids", good.replace("prev_written", "prev"), lsids);
  await withText("lsids", good.replace(/latest +0/, "latest -1"), lsids);
  await withText("lsids", good.replace(/latest +0/, `latest ${2n ** 64n - 1n}`), lsids, "out-of-range");
  await withText("status", "read_only 0\n", () => readFlags(bench.kernel, "vol0"));
  await withText("uuid", "00 11 22\n", () => readUuid(bench.kernel, "vol0"));
  await withText("ldev", "8\n", () => readBelow(bench.kernel, "vol0", "ldev"));
  await withText("size", "large\n", () => readSizeLb(bench.kernel, "vol0"));
});

test("a log view is no device, though it may have the attributes, and a device may be named like one", async () => {
  await bench.pair("Lx");
  await bench.start("Lx");
  const { readAttribute } = bench.kernel;
  // The view of Lx is LLx, with an odd minor.
  bench.kernel.readAttribute = async (path) => {
    if (path === "/sys/block/walb!LLx/dev") return "250:1\n";
    return await readAttribute.call(bench.kernel, path.replace("walb!LLx", "walb!Lx"));
  };
  expect(await kernelDeviceNames(bench.kernel)).toEqual(["Lx"]);
});
