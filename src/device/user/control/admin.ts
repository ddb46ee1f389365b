/** @module The admin verbs of the device daemon: the same interface in process and over the control socket. */
import type { DeviceInfo } from "../../device.ts";
import type { CreateVolume, VolumeReport } from "./schema.ts";

/** How a device is stopped. */
export interface StopOptions {
  /** Also while it is open or watched. */
  readonly force?: boolean;
}

/** How a device is deleted. */
export interface DeleteOptions extends StopOptions {
  /** Leave the stores, also those that the daemon made itself, with all that is in them. */
  readonly keepStores?: boolean;
}

/** What `walb device …` can ask. Errors are WalbErrors; `not-found` for an unknown volume. */
export interface DeviceAdmin {
  list(): Promise<VolumeReport[]>;
  show(name: string): Promise<VolumeReport>;
  /** @throws WalbError `already-exists`, `bad-parameter`, `no-space`. */
  create(volume: CreateVolume): Promise<VolumeReport>;
  /** @throws WalbError `busy` while connected or watched, unless forced. */
  delete(name: string, options?: DeleteOptions): Promise<void>;
  /**
   * Brings a volume back that failed, takes no more writes or was stopped, redoing its log; clients of it are cut off.
   * One that runs is left alone. @throws WalbError why it still cannot be opened, or `no-space` when it could not be redone.
   */
  start(name: string): Promise<VolumeReport>;
  /** Closes the stores of a volume until it or the daemon is started. @throws WalbError `busy` while connected or watched,
   * unless forced. */
  stop(name: string, options?: StopOptions): Promise<VolumeReport>;
  /** Grows the volume. @throws WalbError `out-of-range` on shrink. */
  resize(name: string, sizeBytes: number): Promise<DeviceInfo>;
  checkpoint(name: string): Promise<void>;
  /** Holds writes back until {@link melt} or for `timeoutMs`; without it until melted. */
  freeze(name: string, options?: { readonly timeoutMs?: number }): Promise<void>;
  melt(name: string): Promise<void>;
  resetLog(name: string): Promise<DeviceInfo>;
}
