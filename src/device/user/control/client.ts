/** @module Clients of the device daemon: the admin verbs, and a {@link WalbDevice} over the control socket. */
import type { Platform } from "../../../platform/platform.ts";
import type { WalbDevice } from "../../device.ts";
import type { DeviceAdmin } from "./admin.ts";

/** The admin verbs over the control socket, until closed. */
export interface DeviceControlClient extends DeviceAdmin {
  readonly nodeId: string;
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
export declare function deviceControlClient(platform: Platform, socketPath: string): Promise<DeviceControlClient>;

/**
 * A volume of a device daemon as a {@link WalbDevice}. Never fails at once: it connects in the background and again with
 * back-off whenever the daemon goes away; calls fail with `unreachable` meanwhile and watchers are called when it is back.
 */
export declare function connectUserDevice(platform: Platform, socketPath: string, name: string): WalbDevice;
