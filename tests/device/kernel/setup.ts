/** @module A fake driver with block devices, for the tests of what is above it. */
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { WalbDriver } from "../../../src/device/kernel/driver.ts";
import { defaultStartParam } from "../../../src/device/kernel/layout.ts";
import { formatLogDevice } from "../../../src/log/format.ts";
import { closePlatform, createPlatform } from "../../../src/platform/real/index.ts";
import { FakeKernel } from "../../helpers/fake-kernel.ts";

export const mib = 1024 * 1024;

/** A fresh fake driver; `pair` makes /dev/NAME-log and /dev/NAME-data. */
export class DriverBench {
  readonly directory = mkdtempSync(join(tmpdir(), "walb-driver-"));
  readonly platform = createPlatform({ memoryBudgetBytes: 256 * mib, threads: 2 });
  readonly kernel = new FakeKernel(this.platform);
  readonly driver = new WalbDriver(this.kernel);

  /** Two block devices, the log formatted. */
  async pair(name: string, options: { dataBytes?: number; logBytes?: number; pbsBytes?: number } = {}): Promise<void> {
    const { dataBytes = 4 * mib, logBytes = 2 * mib, pbsBytes = 512 } = options;
    for (const [kind, sizeBytes] of [
      ["log", logBytes],
      ["data", dataBytes],
    ] as const) {
      this.block(`${name}-${kind}`, sizeBytes, pbsBytes);
    }
    const log = await this.platform.disk.open(this.file(`${name}-log`), { mode: "write" });
    await formatLogDevice(log, { name, pbsBytes, deviceSizeLb: dataBytes / 512 }, this.platform);
    await log.close();
  }

  /** A block device without content. */
  block(name: string, sizeBytes: number, pbsBytes = 512): void {
    writeFileSync(this.file(name), "");
    truncateSync(this.file(name), sizeBytes);
    this.kernel.addBlock(`/dev/${name}`, this.file(name), { pbsBytes });
  }

  file(name: string): string {
    return join(this.directory, name);
  }

  /** Starts what `pair` made. */
  async start(name: string, param: Partial<typeof defaultStartParam> = {}): Promise<void> {
    const log = (await this.kernel.deviceNumber(`/dev/${name}-log`))!;
    const data = (await this.kernel.deviceNumber(`/dev/${name}-data`))!;
    await this.driver.start(log, data, { ...defaultStartParam, name, ...param });
  }

  async close(): Promise<void> {
    await this.kernel.close();
    await closePlatform(this.platform);
    rmSync(this.directory, { recursive: true, force: true });
  }
}
