import { afterAll, expect, test } from "bun:test";
import { join } from "node:path";
import { controlSocketPath, deviceControlClient } from "../../src/device/user/control/client.ts";
import { closePlatform, createPlatform } from "../../src/platform/real/index.ts";
import { DeviceProcess } from "../helpers/device-process.ts";

const device = new DeviceProcess();
afterAll(() => device.close());

test("50 idle volumes cost nearly no CPU, and are there again quickly after a restart", async () => {
  await device.start();
  const platform = createPlatform({ memoryBudgetBytes: 16 << 20, threads: 2 });
  const control = await deviceControlClient(platform, controlSocketPath(join(device.directory, "d")));
  for (let i = 0; i < 50; i++) await control.create({ name: `vol${i}`, sizeBytes: 64 << 20, logSizeBytes: 1 << 20 });
  await Bun.sleep(500);
  const before = device.cpuMs;
  await Bun.sleep(4000);
  // One percent of a core; the clock of the kernel ticks each 10 ms.
  expect(device.cpuMs - before).toBeLessThanOrEqual(40);
  await control.close();
  await closePlatform(platform);
  expect(await device.end("SIGTERM")).toBe(0);
  await device.start();
  expect(device.cpuMs).toBeLessThan(5000);
}, 300_000);
