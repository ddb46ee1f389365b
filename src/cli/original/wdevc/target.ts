/**
 * @module What `wdevc` commands work on: a device of the kernel driver, or one of our device daemon. A name, or a path
 * /dev/walb/NAME, means the driver's device where there is one, and else the daemon's.
 */
import { resolve } from "node:path";
import type { DeviceStatus } from "../../../device/device.ts";
import { KernelAdmin } from "../../../device/kernel/admin.ts";
import { openKernelDevice } from "../../../device/kernel/device.ts";
import { isKernelDevice } from "../../../device/kernel/sysfs.ts";
import {
  controlSocketPath,
  type DeviceControlClient,
  deviceControlClient,
} from "../../../device/user/control/client.ts";
import { WalbError } from "../../../errors.ts";
import type { Platform } from "../../../platform/platform.ts";
import { lbBytes } from "../../../units.ts";
import { defaultDataDir } from "../../daemon/common.ts";
import type { Io } from "../../verb.ts";

/** A device, whichever makes it. */
export interface WdevTarget {
  readonly name: string;
  status(): Promise<DeviceStatus>;
  logUsage(): Promise<{ readonly usagePb: number; readonly capacityPb: number }>;
  setOldest(lsid: number): Promise<void>;
  checkpoint(): Promise<void>;
  checkpointIntervalMs(): Promise<number>;
  setCheckpointIntervalMs(intervalMs: number): Promise<void>;
  isFlushCapable(): Promise<boolean>;
  isFrozen(): Promise<boolean>;
  /** @param timeoutS 0: until melted. */
  freeze(timeoutS: number): Promise<void>;
  melt(): Promise<void>;
  /** @param sizeLb 0: all of the data device. */
  resize(sizeLb: number): Promise<unknown>;
  resetLog(): Promise<unknown>;
  /** Stops it; both stores stay as they are. */
  delete(isForced: boolean): Promise<void>;
  close(): Promise<void>;
}

/** The environment names a daemon: then new devices are its, also where the driver is loaded. */
export function isDaemonNamed(io: Io): boolean {
  return io.env.WALB_DEVICE_SOCKET !== undefined || io.env.WALB_DEVICE_DATA !== undefined;
}

/** Connects to the device daemon that the environment names, or to the usual one. @throws WalbError `unreachable`. */
export function daemonOf(platform: Platform, io: Io): Promise<DeviceControlClient> {
  const { WALB_DEVICE_SOCKET: socket, WALB_DEVICE_DATA: dataDir } = io.env;
  const path = socket ?? controlSocketPath(dataDir ?? defaultDataDir("device"));
  return deviceControlClient(platform, resolve(io.cwd, path));
}

/** Finds the device that a path or name means. @throws WalbError `not-found`, `unreachable`. */
export async function openTarget(platform: Platform, io: Io, text: string): Promise<WdevTarget> {
  const name = await nameOf(platform, io, text);
  if (platform.kernel !== undefined && (await isKernelDevice(platform.kernel, name))) {
    const device = openKernelDevice(platform, name);
    const admin = new KernelAdmin(platform);
    return Object.assign(device, { delete: (force: boolean) => admin.delete(name, { force }) });
  }
  const client = await daemonOf(platform, io);
  try {
    await client.show(name);
  } catch (error) {
    await client.close();
    throw error;
  }
  return new DaemonTarget(platform, client, name);
}

async function nameOf(platform: Platform, io: Io, text: string): Promise<string> {
  const prefix = "/dev/walb/";
  if (!text.includes("/")) return text;
  const path = resolve(io.cwd, text);
  const found = path.startsWith(prefix) ? path : await platform.disk.realPath(path);
  if (found.startsWith(prefix)) return found.slice(prefix.length);
  throw new WalbError("not-found", {
    what: "it is no walb device",
    where: { file: text },
    hint: "e.g. /dev/walb/vol0",
  });
}

/** A device of the daemon. */
class DaemonTarget implements WdevTarget {
  constructor(
    private readonly platform: Platform,
    private readonly client: DeviceControlClient,
    readonly name: string,
  ) {}

  status(): Promise<DeviceStatus> {
    return this.client.status(this.name);
  }

  async logUsage(): Promise<{ usagePb: number; capacityPb: number }> {
    const { logUsagePb = 0, logCapacityPb = 0 } = await this.client.show(this.name);
    return { usagePb: logUsagePb, capacityPb: logCapacityPb };
  }

  setOldest(lsid: number): Promise<void> {
    return this.client.setOldest(this.name, lsid);
  }

  checkpoint(): Promise<void> {
    return this.client.checkpoint(this.name);
  }

  checkpointIntervalMs(): Promise<number> {
    return this.client.checkpointInterval(this.name);
  }

  async setCheckpointIntervalMs(intervalMs: number): Promise<void> {
    await this.client.checkpointInterval(this.name, intervalMs);
  }

  /** Always: a flush syncs the log store. */
  async isFlushCapable(): Promise<boolean> {
    return true;
  }

  async isFrozen(): Promise<boolean> {
    return (await this.client.show(this.name)).state === "frozen";
  }

  freeze(timeoutS: number): Promise<void> {
    return this.client.freeze(this.name, timeoutS === 0 ? {} : { timeoutMs: timeoutS * 1000 });
  }

  melt(): Promise<void> {
    return this.client.melt(this.name);
  }

  async resize(sizeLb: number): Promise<unknown> {
    if (sizeLb > 0) return await this.client.resize(this.name, sizeLb * lbBytes);
    const { dataPath } = await this.client.show(this.name);
    const sizeBytes = (await this.platform.disk.info(dataPath))?.sizeBytes ?? 0;
    return await this.client.resize(this.name, Math.floor(sizeBytes / lbBytes) * lbBytes);
  }

  resetLog(): Promise<unknown> {
    return this.client.resetLog(this.name);
  }

  delete(isForced: boolean): Promise<void> {
    return this.client.delete(this.name, { force: isForced, keepStores: true });
  }

  close(): Promise<void> {
    return this.client.close();
  }
}
