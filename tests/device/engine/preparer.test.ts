import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, renameSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openEngine } from "../../../src/device/user/engine.ts";
import { formatLogDevice } from "../../../src/log/format.ts";
import { closePlatform, createPlatform } from "../../../src/platform/real/index.ts";
import { flush } from "./harness.ts";

const mib = 1024 * 1024;
const directory = mkdtempSync(join(tmpdir(), "walb-preparer-"));
const platform = createPlatform({ memoryBudgetBytes: 128 * mib, threads: 2 });
afterAll(async () => {
  await closePlatform(platform);
  rmSync(directory, { recursive: true, force: true });
});

test("space ahead is prepared in the log that is open, never in another file put at its path", async () => {
  const [logPath, movedPath, dataPath] = ["log", "log.moved", "data"].map((name) => join(directory, name)) as [
    string,
    string,
    string,
  ];
  writeFileSync(dataPath, "");
  truncateSync(dataPath, 4 * mib);
  writeFileSync(logPath, "");
  truncateSync(logPath, 300 * mib);
  const log = await platform.disk.open(logPath, { mode: "write" });
  await formatLogDevice(log, { name: "vol", pbsBytes: 4096, deviceSizeLb: 8192 }, platform);
  await log.close();
  const engine = await openEngine(platform, { name: "vol", dataPath, logPath, overflow: "keep-writing" });
  renameSync(logPath, movedPath);
  const foreign = Buffer.alloc(8192, "somebody else's");
  writeFileSync(logPath, foreign);
  const lease = await platform.memory.lease(4096);
  const written = new Promise((resolve) => engine.write(0, 4096, lease, false, resolve));
  expect(await written).toBeUndefined();
  expect(await flush(engine)).toBeUndefined();
  const isDone = (): boolean =>
    statSync(movedPath).blocks * 512 >= 32 * mib || statSync(logPath).size !== foreign.length;
  while (!isDone()) await Bun.sleep(10);
  expect(Buffer.compare(readFileSync(logPath), foreign)).toBe(0);
  await engine.close();
  expect(Buffer.compare(readFileSync(logPath), foreign)).toBe(0);
}, 120_000);
