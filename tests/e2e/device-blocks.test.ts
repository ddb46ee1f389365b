/** @module A volume on real block devices of both sector sizes: loop devices over files, killed and started again. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { closePlatform, createPlatform } from "../../src/platform/real/index.ts";
import { RawNbd, request } from "../device/nbd/raw.ts";
import { DeviceProcess, missing, run } from "../helpers/device-process.ts";

const mib = 1024 * 1024;
const sizeBytes = 8 * mib;
const lacking = missing("losetup", "mkfs.ext4");
if (process.getuid?.() !== 0) lacking.push("root");
else if (!Bun.spawnSync(["losetup", "-f"]).success) lacking.push("loop device");
if (lacking.length > 0) console.log(`skipping: there is no ${lacking.join(", ")}`);

describe.skipIf(lacking.length > 0)("a volume on block devices", () => {
  let directory: string;
  let device: DeviceProcess;
  let loops: string[];
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), "walb-blocks-"));
    device = new DeviceProcess();
    loops = [];
  });
  afterEach(async () => {
    await device.close();
    for (const loop of loops) await run("losetup", "-d", loop);
    rmSync(directory, { recursive: true, force: true });
  });

  const loop = async (name: string, size: number, sectorBytes: number): Promise<string> => {
    const path = join(directory, name);
    writeFileSync(path, "");
    truncateSync(path, size);
    const made = await run("losetup", "-f", "--show", "--direct-io=on", "-b", `${sectorBytes}`, path);
    loops.push(made.trim());
    return made.trim();
  };

  for (const [dataSector, logSector, blockBytes] of [
    [512, 512, 512],
    [4096, 4096, 4096],
    [4096, 512, 4096],
  ] as const) {
    test(`with sectors of ${dataSector} under the data and ${logSector} under the log keeps all it answered through kills`, async () => {
      const dataPath = await loop("data", sizeBytes, dataSector);
      const logPath = await loop("log", 4 * mib, logSector);
      const platform = createPlatform({ memoryBudgetBytes: 64 * mib, threads: 2 });
      const model = Buffer.alloc(sizeBytes);
      try {
        for (let round = 0; round < 3; round++) {
          await device.start();
          if (round === 0) await device.create(sizeBytes, 4 * mib, { dataPath, logPath });
          const address = { kind: "unix", path: device.socket } as const;
          const client = await RawNbd.go(platform.net, address, "vol");
          const block = (await run("nbdinfo", device.uri)).match(/block_size_preferred: (\d+)/)?.[1];
          expect(block).toBe(`${blockBytes}`);
          for (let at = 0; at < sizeBytes; at += mib) {
            client.send(request(0, 1, at, mib));
            const { payload } = await client.reply(1, mib);
            expect(Buffer.compare(payload, model.subarray(at, at + mib))).toBe(0);
          }
          for (let i = 0; i < 300; i++) {
            const size = 512 * (1 + Math.floor(Math.random() * (i % 10 === 0 ? 500 : 24)));
            const offset = 512 * Math.floor(Math.random() * ((sizeBytes - size) / 512));
            if (i % 4 === 3) {
              model.fill(0, offset, offset + size);
              client.send(request(i % 8 === 3 ? 4 : 6, i, offset, size));
            } else {
              const data = Buffer.alloc(size, 1 + (i % 255));
              data.copy(model, offset);
              client.send(request(1, i, offset, size, i % 16 === 0 ? 1 : 0, data));
            }
            expect((await client.reply(i)).error).toBe(0);
          }
          client.connection.close();
          await device.end(round === 2 ? "SIGTERM" : "SIGKILL");
        }
        // After an orderly stop the block device is the volume.
        expect(Buffer.compare(Buffer.from(await Bun.file(join(directory, "data")).bytes()), model)).toBe(0);
      } finally {
        await closePlatform(platform);
      }
    }, 300_000);
  }

  test("has its block devices for itself: nobody mounts them, formats them, or serves them a second time", async () => {
    const dataPath = await loop("data", sizeBytes, 512);
    const logPath = await loop("log", 4 * mib, 512);
    await device.start();
    await device.create(sizeBytes, 4 * mib, { dataPath, logPath });
    for (const path of [dataPath, logPath]) {
      expect(Bun.spawnSync(["mkfs.ext4", "-q", path], { stdin: "ignore", stderr: "ignore" }).success).toBe(false);
    }
    const second = new DeviceProcess();
    try {
      await second.start();
      const error = await second.create(sizeBytes, 4 * mib, { dataPath, logPath }).catch((cause: unknown) => cause);
      expect(error).toMatchObject({ code: "locked" });
    } finally {
      await second.close();
    }
    await device.end("SIGKILL");
    // A dead owner holds nothing.
    await device.start();
    expect((await run("nbdinfo", "--size", device.uri)).trim()).toBe(`${sizeBytes}`);
  }, 300_000);
});
