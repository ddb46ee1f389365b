/** @module The kernel's NBD devices, as sysfs shows them. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { WalbError } from "../../errors.ts";
import type { NbdPeer } from "../../native/nbdkernel.ts";

const blockDir = "/sys/block";

/** An NBD block device of the kernel. */
export interface NbdDevice {
  /** `/dev/nbd0` */
  readonly path: string;
  readonly isInUse: boolean;
}

/** What sysfs calls a device of ours. Kernels before 5.14 do not show it. */
export function backendOf(name: string): string {
  return `walb:${name}`;
}

/** @throws WalbError `usage`. */
export function asNbdDevice(text: string): string {
  if (/^\/dev\/nbd\d{1,4}$/.test(text)) return text;
  throw new WalbError("usage", {
    what: `${JSON.stringify(text)} is not an NBD block device`,
    hint: "e.g. /dev/nbd0; leave it out for the first free one",
  });
}

export function indexOf(path: string): number {
  return Number(path.slice("/dev/nbd".length));
}

/** Where the address of an NBD URI is. */
export function peerOf(uri: string, exportName: string): NbdPeer {
  const url = new URL(uri);
  const socket = url.searchParams.get("socket");
  if (socket !== null) return { host: socket, port: "", exportName };
  return { host: url.hostname.replace(/^\[(.*)\]$/, "$1"), port: url.port === "" ? "10809" : url.port, exportName };
}

/** The device that was asked for, or the first free one. @throws WalbError when there is none or it is in use. */
export function chooseDevice(asked: string | undefined, devices: readonly NbdDevice[]): string {
  const free = devices.find(({ path, isInUse }) => (asked === undefined ? !isInUse : path === asked));
  if (free !== undefined && !free.isInUse) return free.path;
  if (devices.length === 0) {
    throw new WalbError("not-found", { what: "the kernel has no nbd devices", hint: "load the module: modprobe nbd" });
  }
  if (free !== undefined) {
    throw new WalbError("busy", {
      what: `${free.path} is in use`,
      hint: `leave it out for the first free one, or detach it: walb device detach ${free.path}`,
    });
  }
  throw new WalbError(asked === undefined ? "busy" : "not-found", {
    what: asked === undefined ? `all ${devices.length} nbd devices are in use` : `there is no ${asked}`,
    hint:
      asked === undefined
        ? "detach one: walb device detach /dev/nbd0; or load the module with more: modprobe nbd nbds_max=64"
        : `there are ${devices[0]?.path} to ${devices.at(-1)?.path}`,
  });
}

/** What the kernel has, by number. */
export function nbdDevices(): NbdDevice[] {
  if (!existsSync(blockDir)) return [];
  return readdirSync(blockDir)
    .filter((name) => /^nbd\d+$/.test(name))
    .sort((left, right) => Number(left.slice(3)) - Number(right.slice(3)))
    .map((name) => ({ path: `/dev/${name}`, isInUse: isConnected(`/dev/${name}`) }));
}

/** The pid is there exactly while the device has a client. */
function isConnected(path: string): boolean {
  return existsSync(`${blockDir}/${path.slice("/dev/".length)}/pid`);
}

/** Whether the device is connected, and to the backend as far as the kernel tells. */
export function isAttached(path: string, backend: string): boolean {
  if (!isConnected(path)) return false;
  const told = backendIn(path);
  return told === undefined || told === backend;
}

/** The block device of this kernel that a walb device is attached to. */
export function attachedTo(name: string): string | undefined {
  return nbdDevices().find(({ path, isInUse }) => isInUse && backendIn(path) === backendOf(name))?.path;
}

/** What a device is connected to, where the kernel tells. */
function backendIn(path: string): string | undefined {
  try {
    return readFileSync(`${blockDir}/${path.slice("/dev/".length)}/backend`, "utf8").trim();
  } catch {
    return undefined;
  }
}
