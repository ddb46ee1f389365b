/** @module Calls the driver through the real kernel interface; `main.ts NODE` is a file that can be opened. */
import { DriverFailure, WalbDriver } from "../../../../src/device/kernel/driver.ts";
import { defaultStartParam } from "../../../../src/device/kernel/layout.ts";
import type { Kernel } from "../../../../src/platform/kernel.ts";
import { closePlatform, createPlatform } from "../../../../src/platform/real/index.ts";

const node = process.argv[2]!;
const platform = createPlatform({ memoryBudgetBytes: 16 << 20, threads: 1 });
const real = platform.kernel!;
const kernel: Kernel = {
  ioctl: (_path, request, argument, buffers) => real.ioctl(node, request, argument, buffers),
  readAttribute: (path) => real.readAttribute(path),
  listAttributes: (path) => real.listAttributes(path),
  watchAttribute: (path, changed) => real.watchAttribute(path, changed),
  deviceNumber: (path) => real.deviceNumber(path),
};
const driver = new WalbDriver(kernel);
const param = { ...defaultStartParam, name: "vol0" };
const failure = await driver.start({ major: 7, minor: 1 }, { major: 99, minor: 2 }, param).catch((error) => error);
console.log(
  JSON.stringify({
    version: await driver.version(),
    started: await driver.start({ major: 7, minor: 1 }, { major: 8, minor: 2 }, param),
    failure: failure instanceof DriverFailure ? [failure.error, failure.failure.message] : String(failure),
    oldest: (await driver.wdev("vol0", { command: "GET_OLDEST_LSID" })).valU64,
    set: (await driver.wdev("vol0", { command: "SET_OLDEST_LSID", valU64: 0x123456789abcd })).error,
    refused: await driver.wdev("vol0", { command: "SET_OLDEST_LSID", valU64: 1 }).catch((error) => error.message),
  }),
);
await closePlatform(platform);
