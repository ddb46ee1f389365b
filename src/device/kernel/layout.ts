/**
 * @module Numbers and structures of the walb driver's interface, byte for byte. Little-endian; the same on x86-64 and
 * arm64. Source: `docs/formats.md`, kernel driver.
 */
import { WalbError } from "../../errors.ts";
import type { IoctlBuffer } from "../../platform/kernel.ts";
import { checkRange, readU64, writeU64 } from "../../units.ts";

/** `_IOR`/`_IOWR` of Linux: direction, size, magic, number. */
function ioctlNumber(direction: "read" | "read-write", number: number, sizeBytes: number): number {
  const bits = direction === "read" ? 2 : 3;
  return ((bits << 30) | (sizeBytes << 16) | (driverMagic << 8) | number) >>> 0;
}

const driverMagic = 0xfe;
/** Bytes of the control structure. */
const ctlBytes = 120;
/** What the driver takes and gives in one buffer at most: above a page it frees memory wrongly. */
export const ctlBufferBytesMax = 4096;
const versionBytes = 4;

/** Requests of ioctl. */
export const driverRequests = {
  /** On the control device and on wrapper devices. */
  version: ioctlNumber("read", 0, versionBytes),
  /** On the control device. */
  control: ioctlNumber("read-write", 1, ctlBytes),
  /** On wrapper devices. */
  wdev: ioctlNumber("read-write", 2, ctlBytes),
} as const;

/** Commands in the control structure; the first five are for the control device. */
export const driverCommands = {
  START_DEV: 1,
  STOP_DEV: 2,
  GET_MAJOR: 3,
  LIST_DEV: 4,
  NUM_OF_DEV: 5,
  GET_OLDEST_LSID: 6,
  SET_OLDEST_LSID: 7,
  GET_CHECKPOINT_INTERVAL: 16,
  TAKE_CHECKPOINT: 17,
  SET_CHECKPOINT_INTERVAL: 18,
  GET_WRITTEN_LSID: 19,
  GET_PERMANENT_LSID: 20,
  GET_COMPLETED_LSID: 21,
  GET_LOG_USAGE: 22,
  GET_LOG_CAPACITY: 23,
  IS_FLUSH_CAPABLE: 24,
  RESIZE: 25,
  CLEAR_LOG: 26,
  IS_LOG_OVERFLOW: 27,
  FREEZE: 28,
  MELT: 29,
  IS_FROZEN: 30,
} as const;
export type DriverCommand = keyof typeof driverCommands;

/** A minor that the driver chooses. */
export const anyMinor = 0xffff_ffff;

const place = { command: 0, valInt: 4, valU64: 8, valU32: 16, error: 20, u2k: 24, k2u: 72 } as const;
const block = { wmajor: 0, wminor: 4, lmajor: 8, lminor: 12, dmajor: 16, dminor: 20, bufSize: 24, buf: 32 } as const;

/** Device numbers of a block of the structure. */
export interface CtlNumbers {
  readonly wmajor?: number;
  readonly wminor?: number;
  readonly lmajor?: number;
  readonly lminor?: number;
  readonly dmajor?: number;
  readonly dminor?: number;
}

/** What goes to the driver; what is left out is zero. */
export interface CtlInput {
  readonly command: DriverCommand;
  readonly valInt?: number;
  readonly valU64?: number;
  readonly valU32?: number;
  readonly u2k?: CtlNumbers;
  /** Buffer for the driver to read, and size of the one it fills: at most 4096 bytes each. */
  readonly toKernel?: Uint8Array;
  readonly fromKernelBytes?: number;
}

/** What comes back. */
export interface CtlOutput {
  readonly valInt: number;
  readonly valU32: number;
  /** @throws WalbError `out-of-range` beyond 2^53. */
  readonly valU64: number;
  readonly error: number;
  readonly wmajor: number;
  readonly wminor: number;
}

/** The control structure and its buffers for ioctl: the one to the kernel first. */
export function encodeCtl(input: CtlInput): { argument: Uint8Array; buffers: IoctlBuffer[] } {
  const argument = new Uint8Array(ctlBytes);
  const view = new DataView(argument.buffer);
  view.setInt32(place.command, driverCommands[input.command], true);
  view.setInt32(place.valInt, input.valInt ?? 0, true);
  writeU64(view, place.valU64, input.valU64 ?? 0);
  view.setUint32(place.valU32, input.valU32 ?? 0, true);
  for (const [name, value] of Object.entries(input.u2k ?? {})) {
    view.setUint32(place.u2k + block[name as keyof CtlNumbers], value, true);
  }
  const buffers: IoctlBuffer[] = [];
  const addBuffer = (at: number, bytes: Uint8Array | undefined): void => {
    if (bytes === undefined) return;
    checkRange(bytes.length, 1, ctlBufferBytesMax, "size of a buffer for the driver");
    writeU64(view, at + block.bufSize, bytes.length);
    buffers.push({ pointerOffset: at + block.buf, bytes });
  };
  addBuffer(place.u2k, input.toKernel);
  addBuffer(place.k2u, input.fromKernelBytes === undefined ? undefined : new Uint8Array(input.fromKernelBytes));
  return { argument, buffers };
}

/** Reads the structure that the driver left. */
export function decodeCtl(argument: Uint8Array): CtlOutput {
  const view = new DataView(argument.buffer, argument.byteOffset, argument.byteLength);
  return {
    valInt: view.getInt32(place.valInt, true),
    valU32: view.getUint32(place.valU32, true),
    get valU64() {
      return readU64(view, place.valU64, "val_u64");
    },
    error: view.getInt32(place.error, true),
    wmajor: view.getUint32(place.k2u + block.wmajor, true),
    wminor: view.getUint32(place.k2u + block.wminor, true),
  };
}

/** How the driver runs a device. */
export interface StartParam {
  /** At most 25 bytes; empty: the name in the superblock, or half the minor. */
  readonly name: string;
  readonly maxPendingMb: number;
  readonly minPendingMb: number;
  readonly queueStopTimeoutMs: number;
  /** 0: unlimited. */
  readonly maxLogpackKb: number;
  readonly logFlushIntervalMs: number;
  readonly logFlushIntervalMb: number;
  readonly packBulk: number;
  readonly ioBulk: number;
}

/** Those of the original's wdevc. */
export const defaultStartParam: StartParam = {
  name: "",
  maxPendingMb: 32,
  minPendingMb: 16,
  queueStopTimeoutMs: 100,
  maxLogpackKb: 32,
  logFlushIntervalMs: 100,
  logFlushIntervalMb: 16,
  packBulk: 128,
  ioBulk: 1024,
};

/** Bytes of the start parameters and of an entry of the list of devices. */
export const startParamBytes = 64;
export const diskDataBytes = 40;
const nameFieldBytes = 32;
/** 32 − "walb" − "/L" − NUL. */
const deviceNameBytesMax = 25;

const startFields = [
  "maxPendingMb",
  "minPendingMb",
  "queueStopTimeoutMs",
  "maxLogpackKb",
  "logFlushIntervalMs",
  "logFlushIntervalMb",
  "packBulk",
  "ioBulk",
] as const satisfies readonly (keyof StartParam)[];

export function encodeStartParam(param: StartParam): Uint8Array {
  const bytes = new Uint8Array(startParamBytes);
  const view = new DataView(bytes.buffer);
  bytes.set(new TextEncoder().encode(param.name));
  startFields.forEach((field, i) => {
    view.setUint32(nameFieldBytes + 4 * i, param[field], true);
  });
  return bytes;
}

export function decodeStartParam(bytes: Uint8Array): StartParam {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const values = startFields.map((field, i) => [field, view.getUint32(nameFieldBytes + 4 * i, true)] as const);
  return { ...defaultStartParam, ...Object.fromEntries(values), name: textOf(bytes.subarray(0, nameFieldBytes)) };
}

/** What the driver would refuse without a reason. @throws WalbError `bad-parameter` naming the field. */
export function checkStartParam(param: StartParam): void {
  const bad = (field: string, what: string, hint: string): WalbError =>
    new WalbError("bad-parameter", { what, where: { field }, hint });
  const nameBytes = new TextEncoder().encode(param.name).length;
  if (nameBytes > deviceNameBytesMax || !/^[^/\0]*$/.test(param.name)) {
    const what = `the device name ${JSON.stringify(param.name)} is not possible`;
    throw bad(
      "name",
      what,
      `use at most ${deviceNameBytesMax} letters, digits, dots, underscores or dashes, e.g. vol0`,
    );
  }
  for (const field of startFields) checkRange(param[field], 0, 0xffff_ffff, field);
  const { maxPendingMb, minPendingMb, queueStopTimeoutMs, logFlushIntervalMb, packBulk, ioBulk } = param;
  if (maxPendingMb < 2 || maxPendingMb > 16384) {
    throw bad("max_pending_mb", `${maxPendingMb} MiB may be pending`, "use 2 to 16384");
  }
  if (minPendingMb < 1 || minPendingMb >= maxPendingMb) {
    const what = `writes go on when ${minPendingMb} MiB are pending, of at most ${maxPendingMb}`;
    throw bad("min_pending_mb", what, "use at least 1, and less than max_pending_mb");
  }
  if (queueStopTimeoutMs < 1) throw bad("queue_stop_timeout_ms", "the queue stops for 0 ms", "use at least 1");
  if (2 * logFlushIntervalMb > maxPendingMb) {
    const what = `the log is flushed each ${logFlushIntervalMb} MiB, but only ${maxPendingMb} MiB may be pending`;
    throw bad("log_flush_interval_mb", what, `use at most ${Math.floor(maxPendingMb / 2)}, or let more be pending`);
  }
  if (packBulk < 1 || ioBulk < 1) {
    throw bad("bulk", `packs are made ${packBulk} and I/Os ${ioBulk} at a time`, "use at least 1 of both");
  }
}

/** A device in the driver's list. */
export interface DiskData {
  /** `walb/NAME` */
  readonly diskName: string;
  readonly major: number;
  readonly minor: number;
}

/** Reads `count` entries of the list. @throws WalbError `protocol` when the buffer does not hold them. */
export function decodeDiskData(bytes: Uint8Array, count: number): DiskData[] {
  if (count < 0 || count * diskDataBytes > bytes.length) {
    const what = `the walb driver lists ${count} devices in ${bytes.length} bytes`;
    throw new WalbError("protocol", { what, hint: "check that the version of the driver is 1.5" });
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Array.from({ length: count }, (_, i) => {
    const at = i * diskDataBytes;
    return {
      diskName: textOf(bytes.subarray(at, at + nameFieldBytes)),
      major: view.getUint32(at + nameFieldBytes, true),
      minor: view.getUint32(at + nameFieldBytes + 4, true),
    };
  });
}

/** Two minors for LIST_DEV: first, and end. */
export function encodeMinorRange(first: number, end: number): Uint8Array {
  const bytes = new Uint8Array(8);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, first, true);
  view.setUint32(4, end, true);
  return bytes;
}

/** major.minor.patch of a VERSION answer. */
export function decodeVersion(bytes: Uint8Array): string {
  const value = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getUint32(0, true);
  return `${value >>> 16}.${(value >>> 8) & 0xff}.${value & 0xff}`;
}

/** A C string in a field of fixed size. */
function textOf(field: Uint8Array): string {
  const end = field.indexOf(0);
  return new TextDecoder().decode(field.slice(0, end < 0 ? field.length : end));
}
