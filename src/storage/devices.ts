/** @module The walb device of a volume: one of a device daemon, or one of the kernel driver. */
import type { DeviceReference } from "../control/storage.ts";
import type { WalbDevice } from "../device/device.ts";
import { openKernelDevice } from "../device/kernel/device.ts";
import { connectUserDevice } from "../device/user/control/client.ts";
import { WalbError } from "../errors.ts";
import type { Platform } from "../platform/platform.ts";
import type { StorageSettings } from "./settings.ts";

/** Opens the device a volume is made of; it need not be there yet. @throws WalbError `bad-parameter`, `unsupported`. */
export function openDevice(platform: Platform, settings: StorageSettings, device: DeviceReference): WalbDevice {
  if (device.kind === "kernel") return openKernelDevice(platform, device.name);
  const socket = device.socket ?? settings.deviceSocket;
  if (socket === undefined) {
    throw new WalbError("bad-parameter", {
      what: `it is not known where the device ${device.name} is served`,
      where: { host: settings.nodeId, field: "device-socket" },
      hint: "start the storage with --device-socket DIR/control.sock of the device daemon",
    });
  }
  return connectUserDevice(platform, socket, device.name);
}

/** True when both name the same device. */
export function isSameDevice(a: DeviceReference, b: DeviceReference, defaultSocket: string | undefined): boolean {
  if (a.name !== b.name) return false;
  if (a.kind === "kernel" || b.kind === "kernel") return a.kind === b.kind;
  return (a.socket ?? defaultSocket) === (b.socket ?? defaultSocket);
}
