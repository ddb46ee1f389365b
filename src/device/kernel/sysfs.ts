/**
 * @module What the walb driver shows in sysfs: lsids, flags, the devices below, and which nodes these are.
 *
 * Values are found by their key, and unknown keys are passed over: versions of the driver differ in them.
 */
import { WalbError } from "../../errors.ts";
import type { DeviceNumber, Kernel } from "../../platform/kernel.ts";
import { safeNumber } from "../../units.ts";
import type { Lsids } from "../device.ts";

/** The control node of the driver; there while the module is loaded. */
export const controlNode = "/dev/walb/control";

/** Node of a device, and of the read-only view of its log. */
export const wrapperNode = (name: string): string => `/dev/walb/${name}`;
export const logNode = (name: string): string => `/dev/walb/L${name}`;

/** Directory of a device; "/" in the name of a disk is "!" there. */
const diskDirectory = (name: string): string => `/sys/block/walb!${name}`;
/** An attribute of the driver. */
export const attributePath = (name: string, attribute: string): string => `${diskDirectory(name)}/walb/${attribute}`;

/** Names of the driver's devices, sorted; their log views left out. */
export async function kernelDeviceNames(kernel: Kernel): Promise<string[]> {
  const names = (await kernel.listAttributes("/sys/block"))
    .filter((disk) => disk.startsWith("walb!"))
    .map((disk) => disk.slice("walb!".length));
  const found: string[] = [];
  for (const name of names) if (await isKernelDevice(kernel, name)) found.push(name);
  return found;
}

/** True when the driver has a device of this name. */
export async function isKernelDevice(kernel: Kernel, name: string): Promise<boolean> {
  if (name === "" || name.includes("/") || name.includes("\0")) return false;
  if ((await kernel.readAttribute(attributePath(name, "lsids"))) === undefined) return false;
  // A device may be called Lx, so the name does not tell; log views have the odd minors.
  const minor = /^\d+:(\d+)$/.exec((await kernel.readAttribute(`${diskDirectory(name)}/dev`))?.trim() ?? "")?.[1];
  return minor === undefined || Number(minor) % 2 === 0;
}

/** The device is gone, or was never there. */
export function noDeviceError(name: string): WalbError {
  return new WalbError("not-found", {
    what: "the walb driver has no such device",
    where: { volume: name, file: wrapperNode(name) },
    hint: `look with: walb device list; start it with: walb device create ${name} --kernel --data DEV --log DEV --reuse-log`,
  });
}

/** Text of an attribute. @throws WalbError `not-found` when the device is not there. */
export async function readAttribute(kernel: Kernel, name: string, attribute: string): Promise<string> {
  const text = await kernel.readAttribute(attributePath(name, attribute));
  if (text === undefined) throw noDeviceError(name);
  return text;
}

/** The seven lsids. @throws WalbError `not-found`, `protocol`. */
export async function readLsids(kernel: Kernel, name: string): Promise<Lsids> {
  const path = attributePath(name, "lsids");
  const values = parsePairs(await readAttribute(kernel, name, "lsids"));
  const lsid = (key: string): number => safeNumber(wholeNumber(values.get(key), path, key), key);
  return {
    oldest: lsid("oldest"),
    prevWritten: lsid("prev_written"),
    written: lsid("written"),
    permanent: lsid("permanent"),
    flush: lsid("flush"),
    completed: lsid("completed"),
    latest: lsid("latest"),
  };
}

/** Flags of a device. */
export interface KernelFlags {
  readonly isReadOnly: boolean;
  readonly isOverflow: boolean;
}

/** @throws WalbError `not-found`, `protocol`. */
export async function readFlags(kernel: Kernel, name: string): Promise<KernelFlags> {
  const path = attributePath(name, "status");
  const values = parsePairs(await readAttribute(kernel, name, "status"));
  const flag = (key: string): boolean => wholeNumber(values.get(key), path, key) !== 0n;
  return { isReadOnly: flag("read_only"), isOverflow: flag("log_overflow") };
}

/** uuid of the log as 32 lower-case hex digits: sysfs has pairs with blanks between. */
export async function readUuid(kernel: Kernel, name: string): Promise<string> {
  const uuid = (await readAttribute(kernel, name, "uuid")).replace(/\s/g, "").toLowerCase();
  if (/^[0-9a-f]{32}$/.test(uuid)) return uuid;
  throw badAttribute(attributePath(name, "uuid"), "uuid", "is not 16 hex pairs");
}

/** A number that is alone in an attribute. */
export async function readNumber(kernel: Kernel, name: string, attribute: string): Promise<number> {
  const text = (await readAttribute(kernel, name, attribute)).trim();
  return safeNumber(wholeNumber(text, attributePath(name, attribute), attribute), attribute);
}

/** Size of the device in logical blocks. */
export async function readSizeLb(kernel: Kernel, name: string): Promise<number> {
  const path = `${diskDirectory(name)}/size`;
  const text = await kernel.readAttribute(path);
  if (text === undefined) throw noDeviceError(name);
  return safeNumber(wholeNumber(text.trim(), path, "size"), "size");
}

/** Number of the device below: `ldev` or `ddev`. */
export async function readBelow(kernel: Kernel, name: string, attribute: "ldev" | "ddev"): Promise<DeviceNumber> {
  const match = /^(\d{1,4}):(\d{1,7})$/.exec((await readAttribute(kernel, name, attribute)).trim());
  if (match !== null) return { major: Number(match[1]), minor: Number(match[2]) };
  throw badAttribute(attributePath(name, attribute), attribute, "is not MAJOR:MINOR");
}

/** Node of a block device by its number: a name of device-mapper where it has one. */
export async function nodeOf(kernel: Kernel, number: DeviceNumber): Promise<string> {
  const directory = `/sys/dev/block/${number.major}:${number.minor}`;
  const mapped = (await kernel.readAttribute(`${directory}/dm/name`))?.trim();
  if (mapped !== undefined && mapped !== "" && (await isNode(kernel, `/dev/mapper/${mapped}`, number))) {
    return `/dev/mapper/${mapped}`;
  }
  const uevent = (await kernel.readAttribute(`${directory}/uevent`)) ?? "";
  const name = /^DEVNAME=(.+)$/m.exec(uevent)?.[1];
  return name === undefined ? `/dev/block/${number.major}:${number.minor}` : `/dev/${name.replaceAll("!", "/")}`;
}

/** Size of any block device in logical blocks; undefined when there is none. */
export async function blockSizeLb(kernel: Kernel, { major, minor }: DeviceNumber): Promise<number | undefined> {
  const path = `/sys/dev/block/${major}:${minor}/size`;
  const text = await kernel.readAttribute(path);
  return text === undefined ? undefined : safeNumber(wholeNumber(text.trim(), path, "size"), "size");
}

async function isNode(kernel: Kernel, path: string, number: DeviceNumber): Promise<boolean> {
  const found = await kernel.deviceNumber(path);
  return found?.major === number.major && found.minor === number.minor;
}

/** `key value` lines, padded with blanks. */
function parsePairs(text: string): Map<string, string> {
  const pairs = new Map<string, string>();
  for (const line of text.split("\n")) {
    const [key, value] = line.trim().split(/\s+/);
    if (key !== undefined && value !== undefined) pairs.set(key, value);
  }
  return pairs;
}

function wholeNumber(text: string | undefined, file: string, field: string): bigint {
  if (text !== undefined && /^\d{1,20}$/.test(text)) return BigInt(text);
  throw badAttribute(file, field, text === undefined ? "is missing" : `is ${JSON.stringify(text.slice(0, 40))}`);
}

function badAttribute(file: string, field: string, what: string): WalbError {
  return new WalbError("protocol", {
    what: `${field} ${what}`,
    where: { file, field },
    hint: "check that the version of the walb driver is 1.5: walb wdevc get-version",
  });
}
