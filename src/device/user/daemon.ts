/** @module The user-space device daemon: many volumes in one process, exported over NBD, steered by a control socket. */
import type { Address } from "../../platform/net.ts";
import type { Platform } from "../../platform/platform.ts";
import type { DeviceAdmin } from "./control/admin.ts";

/** What {@link openDeviceDaemon} needs. */
export interface DeviceDaemonOptions {
  /** Holds volumes/NAME.json, the default stores NAME.data and NAME.log, control.sock and the lock. Made when missing. */
  readonly dataDir: string;
  /** Where to serve NBD; port 0 takes a free one, see {@link DeviceDaemon.nbdAddresses}. */
  readonly nbdListeners: readonly Address[];
  readonly nodeId: string;
}

/** A running device daemon. */
export interface DeviceDaemon extends DeviceAdmin {
  readonly nodeId: string;
  readonly dataDir: string;
  /** Unix socket for `deviceControlClient` and `connectUserDevice`. */
  readonly controlPath: string;
  /** Bound NBD addresses, in the order of the options, with real ports. */
  readonly nbdAddresses: readonly Address[];
  /** Stops listeners, lets requests in flight finish, checkpoints and closes every volume. Idempotent. */
  close(): Promise<void>;
}

/**
 * Locks the directory, opens every configured volume (with redo) and starts serving. A volume that cannot be opened is
 * listed as `failed` with its reason and does not stop the others.
 * @throws WalbError `locked` when another daemon owns the directory, `port-in-use` when a listener cannot be bound.
 */
export declare function openDeviceDaemon(platform: Platform, options: DeviceDaemonOptions): Promise<DeviceDaemon>;
