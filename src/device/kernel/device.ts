/** @module A device of the kernel driver as a {@link WalbDevice}: lsids and events from sysfs, commands by ioctl. */
import { WalbError } from "../../errors.ts";
import { readSuperblock } from "../../log/format.ts";
import { isPackFault } from "../../log/pack.ts";
import { LogDeviceReader } from "../../log/reader.ts";
import { geometryOf, type Superblock } from "../../log/superblock.ts";
import type { DiskFile } from "../../platform/disk.ts";
import type { Kernel } from "../../platform/kernel.ts";
import type { Platform } from "../../platform/platform.ts";
import { checkRange } from "../../units.ts";
import type { DeviceInfo, DeviceStatus, WalbDevice } from "../device.ts";
import {
  checkGrowth,
  checkOldest,
  checkpointIntervalMsMax,
  checkWritable,
  freezeSecondsMax,
  readOnlyReason,
  refusedBy,
} from "./checks.ts";
import { WalbDriver } from "./driver.ts";
import type { CtlInput, CtlOutput } from "./layout.ts";
import {
  logNode,
  nodeOf,
  readBelow,
  readFlags,
  readLsids,
  readNumber,
  readSizeLb,
  readUuid,
  wrapperNode,
} from "./sysfs.ts";
import { LogWatch } from "./watch.ts";

/** What is read together must be of one log: how often it is tried. */
const attemptsMax = 5;

/** The kernel of a platform. @throws WalbError `unsupported` where there is none. */
export function kernelOf(platform: Platform): Kernel {
  if (platform.kernel !== undefined) return platform.kernel;
  throw new WalbError("unsupported", { what: "there is no kernel for the walb driver here" });
}

/** A device of the driver; it need not be there yet: calls fail with `not-found` meanwhile. */
export function openKernelDevice(platform: Platform, name: string): KernelDevice {
  return new KernelDevice(platform, name);
}

/** See {@link openKernelDevice}. What it offers beyond {@link WalbDevice} are the driver's other commands. */
export class KernelDevice implements WalbDevice {
  readonly name: string;
  readonly #platform: Platform;
  readonly #kernel: Kernel;
  readonly #driver: WalbDriver;
  readonly #watch: LogWatch;
  /** Of the log with the uuid in it. */
  #superblock: Superblock | undefined;

  constructor(platform: Platform, name: string) {
    this.#platform = platform;
    this.name = name;
    this.#kernel = kernelOf(platform);
    this.#driver = new WalbDriver(this.#kernel);
    this.#watch = new LogWatch(this.#kernel, platform.clock, name);
  }

  async info(): Promise<DeviceInfo> {
    const superblock = await this.#currentSuperblock();
    const { pbsBytes, uuid, salt, ringSizePb } = superblock;
    return {
      name: this.name,
      sizeLb: await readSizeLb(this.#kernel, this.name),
      pbsBytes,
      uuid,
      salt,
      ringSizePb,
      ringOffsetPb: geometryOf(superblock).ringOffsetPb,
      logPath: await nodeOf(this.#kernel, await readBelow(this.#kernel, this.name, "ldev")),
      dataPath: await nodeOf(this.#kernel, await readBelow(this.#kernel, this.name, "ddev")),
    };
  }

  async status(): Promise<DeviceStatus> {
    for (let attempt = 0; attempt < attemptsMax; attempt++) {
      const uuid = await readUuid(this.#kernel, this.name);
      const { isOverflow, isReadOnly } = await readFlags(this.#kernel, this.name);
      const lsids = await readLsids(this.#kernel, this.name);
      // A reset between them would give the lsids of one log the uuid of another.
      if (uuid !== (await readUuid(this.#kernel, this.name))) continue;
      return { lsids, isOverflow, readOnlyReason: isReadOnly ? readOnlyReason : undefined, uuid };
    }
    throw this.#changing();
  }

  async setOldest(lsid: number): Promise<void> {
    const { lsids, isOverflow } = await this.status();
    checkOldest(this.name, lsids, isOverflow, lsid);
    if (lsid === lsids.oldest) return;
    await checkWritable(this.#kernel, this.name);
    if (lsid < lsids.permanent) await this.#checkPack(lsid);
    await this.command({ command: "SET_OLDEST_LSID", valU64: lsid });
  }

  async resetLog(): Promise<DeviceInfo> {
    await checkWritable(this.#kernel, this.name);
    if (await this.isFrozen()) {
      throw new WalbError("state", {
        what: "the log of a frozen device cannot be reset",
        where: { volume: this.name },
        hint: `let it go on first: walb device melt ${this.name} --kernel`,
      });
    }
    await this.command({ command: "CLEAR_LOG" });
    return await this.info();
  }

  async checkpoint(): Promise<void> {
    await checkWritable(this.#kernel, this.name);
    await this.command({ command: "TAKE_CHECKPOINT" });
  }

  /** @param sizeLb 0: all of the data device. */
  async resize(sizeLb: number): Promise<DeviceInfo> {
    checkRange(sizeLb, 0, Number.MAX_SAFE_INTEGER, "sizeLb");
    await checkGrowth(this.#kernel, this.name, sizeLb);
    await checkWritable(this.#kernel, this.name);
    await this.command({ command: "RESIZE", valU64: sizeLb });
    return await this.info();
  }

  /** Holds writes back, and answers when all before are on the data device. @param timeoutS 0: until melted. */
  async freeze(timeoutS: number): Promise<void> {
    checkRange(timeoutS, 0, freezeSecondsMax, "timeout");
    await this.command({ command: "FREEZE", valU32: timeoutS });
  }

  async melt(): Promise<void> {
    await this.command({ command: "MELT" });
  }

  async isFrozen(): Promise<boolean> {
    return (await this.command({ command: "IS_FROZEN" })).valInt !== 0;
  }

  async isFlushCapable(): Promise<boolean> {
    return (await this.command({ command: "IS_FLUSH_CAPABLE" })).valInt !== 0;
  }

  async checkpointIntervalMs(): Promise<number> {
    return (await this.command({ command: "GET_CHECKPOINT_INTERVAL" })).valU32;
  }

  /** @param intervalMs 0: none by time. @throws WalbError `out-of-range` above a day. */
  async setCheckpointIntervalMs(intervalMs: number): Promise<void> {
    checkRange(intervalMs, 0, checkpointIntervalMsMax, "checkpoint interval");
    await this.command({ command: "SET_CHECKPOINT_INTERVAL", valU32: intervalMs });
  }

  /** PB of log in use, and its capacity. */
  async logUsage(): Promise<{ usagePb: number; capacityPb: number }> {
    const usagePb = await readNumber(this.#kernel, this.name, "log_usage");
    return { usagePb, capacityPb: await readNumber(this.#kernel, this.name, "log_capacity") };
  }

  watch(changed: () => void): () => void {
    return this.#watch.add(changed);
  }

  /** The driver's read-only view of its log. Direct, since what it writes does not pass the view's page cache. */
  async openLog(): Promise<DiskFile> {
    return await this.#openNode(logNode(this.name));
  }

  /** The wrapper device itself, which shows what is logged and not on the data device yet. */
  async openData(): Promise<DiskFile> {
    return await this.#openNode(wrapperNode(this.name));
  }

  async close(): Promise<void> {
    this.#watch.close();
  }

  /** Gives any command to the device. @throws WalbError with what can be said of the reason. */
  async command(input: CtlInput): Promise<CtlOutput> {
    try {
      return await this.#driver.wdev(this.name, input);
    } catch (error) {
      throw refusedBy(error, this.name, input.command);
    }
  }

  async #openNode(path: string): Promise<DiskFile> {
    return await this.#platform.disk.open(path, { mode: "read", direct: true });
  }

  /** What the log device says, as long as it is the log that the driver has. */
  async #currentSuperblock(): Promise<Superblock> {
    for (let attempt = 0; attempt < attemptsMax; attempt++) {
      const uuid = await readUuid(this.#kernel, this.name);
      if (this.#superblock?.uuid === uuid) return this.#superblock;
      const log = await this.openLog();
      try {
        this.#superblock = await readSuperblock(log, this.#platform.memory);
      } finally {
        await log.close();
      }
    }
    throw this.#changing();
  }

  /** @throws WalbError `state` unless a log pack begins there. */
  async #checkPack(lsid: number): Promise<void> {
    const ring = geometryOf(await this.#currentSuperblock());
    const { memory, compute } = this.#platform;
    const file = await this.openLog();
    try {
      const reader = new LogDeviceReader({ file, ring, pool: memory, compute, chunkBytes: 4096 });
      const found = await reader.headerAt(lsid);
      if (!isPackFault(found)) return;
      throw new WalbError("state", {
        what: `the log cannot be erased up to lsid ${lsid}: no log pack begins there (${found.field} ${found.reason})`,
        where: { volume: this.name },
        hint: "take an lsid at the end of a log pack that was shipped",
      });
    } finally {
      await file.close();
    }
  }

  #changing(): WalbError {
    const what = "the log is being reset, or its superblock is not the one the walb driver works with";
    return new WalbError("state", { what, where: { volume: this.name }, hint: "try again in a moment" });
  }
}
