/**
 * @module What the driver's commands need, checked before they are given: the driver itself answers EFAULT to everything
 * and tells the reason only to the kernel log.
 */
import { WalbError } from "../../errors.ts";
import { ErrnoError } from "../../native/errno.ts";
import type { Kernel } from "../../platform/kernel.ts";
import { lbBytes } from "../../units.ts";
import type { Lsids } from "../device.ts";
import type { DriverCommand } from "./layout.ts";
import { blockSizeLb, nodeOf, readBelow, readFlags, readSizeLb, wrapperNode } from "./sysfs.ts";

/** Longest time between checkpoints, and longest freeze. */
export const checkpointIntervalMsMax = 86_400_000;
export const freezeSecondsMax = 86_400;

const errnoFault = 14;
const errnoBusy = 16;

/** The errno inside an error that the kernel gave. */
export function errnoIn(error: unknown): number | undefined {
  for (let at: unknown = error; at instanceof Error; at = at.cause) if (at instanceof ErrnoError) return at.errno;
  return undefined;
}

/** A device that failed takes no commands that write. @throws WalbError `read-only`. */
export async function checkWritable(kernel: Kernel, name: string): Promise<void> {
  if (!(await readFlags(kernel, name)).isReadOnly) return;
  throw new WalbError("read-only", { what: readOnlyReason, where: { volume: name }, hint: restartHint(name) });
}

/** Why a device of the driver takes no more writes: the driver does not say more. */
export const readOnlyReason =
  "a write to its log or data failed, so that it takes no more; the kernel log says which: dmesg | grep walb";

/** How to bring back a device that failed. */
export function restartHint(name: string, stores = { dataPath: "DEV", logPath: "DEV" }): string {
  const { dataPath, logPath } = stores;
  const restart = `walb device delete ${name} --kernel, walb device create ${name} --kernel --data ${dataPath} --log ${logPath} --reuse-log`;
  return `mend the disk below, then stop and start it, which redoes from the log: ${restart}`;
}

/** @throws WalbError `state` unless log up to `lsid` may go. */
export function checkOldest(name: string, lsids: Lsids, isOverflow: boolean, lsid: number): void {
  const refuse = (why: string, hint: string): WalbError =>
    new WalbError("state", {
      what: `the log cannot be erased up to lsid ${lsid}: ${why}`,
      where: { volume: name },
      hint,
    });
  const { oldest, prevWritten } = lsids;
  if (!Number.isSafeInteger(lsid) || lsid < oldest || lsid > prevWritten) {
    const hint =
      lsid > prevWritten ? "take a checkpoint first, when it is written to the data" : "it is erased already";
    throw refuse(`it is not between oldest ${oldest} and prevWritten ${prevWritten}`, hint);
  }
  if (isOverflow) throw refuse("the log has overflowed", "reset the log, and take a new backup");
}

/** Size a device may grow to. @throws WalbError `out-of-range`. */
export async function checkGrowth(kernel: Kernel, name: string, sizeLb: number): Promise<void> {
  const oldLb = await readSizeLb(kernel, name);
  const where = { volume: name };
  if (sizeLb !== 0 && sizeLb < oldLb) {
    const what = `the volume has ${oldLb} blocks and cannot shrink to ${sizeLb}`;
    throw new WalbError("out-of-range", { what, where, hint: "make a new volume and copy" });
  }
  const below = await readBelow(kernel, name, "ddev");
  const storeLb = await blockSizeLb(kernel, below);
  if (storeLb === undefined || sizeLb <= storeLb) return;
  const file = await nodeOf(kernel, below);
  throw new WalbError("out-of-range", {
    what: `the data device has ${storeLb * lbBytes} bytes, too few for ${sizeLb * lbBytes}`,
    where: { ...where, file },
    hint: `enlarge ${file} first, e.g. with lvextend`,
  });
}

/** What went wrong although all that could be checked was well. */
export function refusedBy(error: unknown, name: string, command: DriverCommand): WalbError {
  const errno = errnoIn(error);
  if (errno === errnoFault) {
    return new WalbError("state", {
      what: `the walb driver refused ${command}; it tells the reason only to the kernel log`,
      where: { volume: name, file: wrapperNode(name) },
      hint: "look at its last lines: dmesg | grep walb",
      cause: error,
    });
  }
  if (errno === errnoBusy) return busyError(name, error);
  if (error instanceof WalbError) return error.at({ volume: name });
  return new WalbError("io", {
    what: `the walb driver could not be given ${command}`,
    where: { volume: name },
    cause: error,
  });
}

/** Somebody has the device open. */
function busyError(name: string, cause: unknown): WalbError {
  return new WalbError("busy", {
    what: "the device is in use",
    where: { volume: name, file: wrapperNode(name) },
    hint: `unmount it and stop what uses it, see: fuser -vm ${wrapperNode(name)}; or force it`,
    cause,
  });
}

const startFailures: Readonly<Record<number, readonly [what: string, hint: string]>> = {
  [-1]: ["a buffer of another size was expected", "check that the version of the driver is 1.5"],
  [-2]: ["a buffer of another size was expected", "check that the version of the driver is 1.5"],
  [-3]: ["a parameter was not accepted", "leave the tuning parameters at their defaults"],
  [-4]: ["the log device is in use by another walb device", "walb device list shows the devices and what is below"],
  [-5]: ["the data device is in use by another walb device", "walb device list shows the devices and what is below"],
  [-6]: [
    "log or data device could not be opened, verified or redone",
    "is something mounted, or in use by device-mapper? The kernel log says more: dmesg | grep walb",
  ],
  [-7]: ["the name is taken", "choose another, or delete that device first"],
  [-8]: ["the block device could not be registered", "the kernel log says why: dmesg | grep walb"],
};

/** Why START_DEV failed. @param error of the control structure; 0, as it was sent: there was no minor. */
export function startFailure(name: string, error: number, cause: unknown): WalbError {
  const [what, hint] = startFailures[error] ?? ["there is no free minor number", "delete a device that is not needed"];
  const code = error === -4 || error === -5 ? "busy" : error === -7 ? "already-exists" : "state";
  return new WalbError(code, {
    what: `the walb driver did not start the device: ${what}`,
    where: { volume: name },
    hint,
    cause,
  });
}
