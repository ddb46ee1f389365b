import { afterAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openDeviceDaemon } from "../../../src/device/user/daemon.ts";
import type { Address } from "../../../src/platform/net.ts";
import { closePlatform, createPlatform } from "../../../src/platform/real/index.ts";
import { vectorBytes, vectorsDirectory } from "../../helpers/vectors.ts";
import { RawNbd, request } from "../nbd/raw.ts";

const directory = mkdtempSync(join(tmpdir(), "walb-captures-"));
const platform = createPlatform({ memoryBudgetBytes: 256 << 20, threads: 2 });
afterAll(async () => {
  await closePlatform(platform);
  rmSync(directory, { recursive: true, force: true });
});

// Stores of the real driver at a hard reset, and what its guest saw.
describe.skipIf(vectorsDirectory === undefined)("a volume of the real driver, taken after its host crashed", () => {
  for (const [name, oldest, end] of [
    ["512", 1886, 2789],
    ["4096", 324, 493],
    ["wrap512", 3783, 4697],
  ] as const) {
    test(`is served by the device daemon as it was: ${name}`, async () => {
      const final = await vectorBytes(`driver/D9.${name}.final.xz`);
      const [dataPath, logPath] = [join(directory, `${name}.data`), join(directory, `${name}.log`)];
      writeFileSync(dataPath, await vectorBytes(`driver/D9.${name}.base.xz`));
      writeFileSync(logPath, await vectorBytes(`driver/L9.${name}.crash.xz`));
      const nbd: Address = { kind: "unix", path: join(directory, `${name}.sock`) };
      const daemon = await openDeviceDaemon(platform, {
        dataDir: join(directory, name),
        nbdListeners: [nbd],
        nodeId: "node",
        nbdMemory: platform.memory.carve(64 << 20),
      });
      const report = await daemon.create({ name: "vol0", dataPath, logPath, reuseLog: true });
      expect(report.sizeBytes).toBe(final.length);
      expect(report.status?.lsids).toMatchObject({ oldest, latest: end, written: end });
      const client = await RawNbd.go(platform.net, nbd, "vol0");
      client.send(request(0, 1, 0, final.length));
      const read = await client.reply(1, final.length);
      expect(read.error).toBe(0);
      expect(Buffer.compare(read.payload, final)).toBe(0);
      // It goes on behind the driver's log.
      client.send(request(1, 2, 0, 4096, 1, new Uint8Array(4096).fill(9)));
      expect((await client.reply(2)).error).toBe(0);
      // The answer may come from the thread that has synced the log, before the daemon itself knows.
      const permanent = async () => (await daemon.show("vol0")).status!.lsids.permanent;
      while ((await permanent()) <= end) await Bun.sleep(5);
      client.connection.close();
      await client.gone();
      await daemon.close();
      expect(
        readFileSync(dataPath)
          .subarray(0, 4096)
          .every((byte) => byte === 9),
      ).toBe(true);
    }, 300_000);
  }
});
