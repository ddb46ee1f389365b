/** @module The admin verbs of a device daemon over its control socket. */
import type { Platform } from "../../../platform/platform.ts";
import type { DeviceInfo, DeviceStatus } from "../../device.ts";
import type { DeleteOptions, DeviceAdmin, StopOptions } from "./admin.ts";
import { ControlChannel, daemonUnreachable } from "./channel.ts";
import type { CreateVolume, VolumeReport } from "./schema.ts";

export { connectUserDevice } from "./userdevice.ts";

/** The admin verbs over the control socket, until closed. */
export interface DeviceControlClient extends DeviceAdmin {
  readonly nodeId: string;
  status(name: string): Promise<DeviceStatus>;
  setOldest(name: string, lsid: number): Promise<void>;
  /** Tells, and sets when it is given, the time between checkpoints; 0: none by time. */
  checkpointInterval(name: string, intervalMs?: number): Promise<number>;
  close(): Promise<void>;
}

/** Path of the control socket in a daemon's data directory. */
export function controlSocketPath(dataDir: string): string {
  return `${dataDir}/control.sock`;
}

/**
 * Connects to a daemon for admin verbs.
 * @throws WalbError `unreachable` when no daemon answers at the path, `protocol` when it speaks another version.
 */
export async function deviceControlClient(platform: Platform, socketPath: string): Promise<DeviceControlClient> {
  try {
    return new Client(
      await ControlChannel.open(platform, socketPath, { changed: () => undefined, closed: () => undefined }),
    );
  } catch (error) {
    throw daemonUnreachable(error, socketPath);
  }
}

class Client implements DeviceControlClient {
  constructor(private readonly channel: ControlChannel) {}

  get nodeId(): string {
    return this.channel.nodeId;
  }

  async list(): Promise<VolumeReport[]> {
    return (await this.channel.call("list", {})).volumes;
  }

  show(name: string): Promise<VolumeReport> {
    return this.channel.call("show", { name });
  }

  create(volume: CreateVolume): Promise<VolumeReport> {
    return this.channel.call("create", volume);
  }

  async delete(name: string, options: DeleteOptions = {}): Promise<void> {
    await this.channel.call("delete", { name, ...options });
  }

  start(name: string): Promise<VolumeReport> {
    return this.channel.call("start", { name });
  }

  stop(name: string, options: StopOptions = {}): Promise<VolumeReport> {
    return this.channel.call("stop", { name, ...options });
  }

  resize(name: string, sizeBytes: number): Promise<DeviceInfo> {
    return this.channel.call("resize", { name, sizeBytes });
  }

  async checkpoint(name: string): Promise<void> {
    await this.channel.call("checkpoint", { name });
  }

  async freeze(name: string, options: { readonly timeoutMs?: number } = {}): Promise<void> {
    await this.channel.call("freeze", { name, ...options });
  }

  async melt(name: string): Promise<void> {
    await this.channel.call("melt", { name });
  }

  resetLog(name: string): Promise<DeviceInfo> {
    return this.channel.call("resetLog", { name });
  }

  async status(name: string): Promise<DeviceStatus> {
    const { lsids, isOverflow, readOnlyReason, uuid } = await this.channel.call("status", { name });
    return { lsids, isOverflow, readOnlyReason, uuid };
  }

  async setOldest(name: string, lsid: number): Promise<void> {
    await this.channel.call("setOldest", { name, lsid });
  }

  async checkpointInterval(name: string, intervalMs?: number): Promise<number> {
    const wish = intervalMs === undefined ? {} : { intervalMs };
    return (await this.channel.call("checkpointInterval", { name, ...wish })).intervalMs;
  }

  async close(): Promise<void> {
    this.channel.close();
  }
}
