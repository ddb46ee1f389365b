/** @module ioctl on a device node, for the kernel driver. */
import { closeSync, constants, openSync } from "node:fs";
import { checkRange } from "../units.ts";
import { errnoError, errnoOf } from "./errno.ts";
import { Op } from "./layout.ts";
import type { Memory } from "./memory.ts";
import type { JobPool } from "./pool.ts";

/**
 * Opens a device node (read-write, or read-only), does one ioctl in the pool, closes it.
 * @param argument shim memory the request points to (nested pointers are addresses of other shim memory).
 * @returns the non-negative return value of ioctl.
 * @throws WalbError `io`, `not-found`, `busy`, …; its cause is an `ErrnoError`. The argument is as the kernel left it.
 */
export async function deviceIoctl(
  pool: JobPool,
  path: string,
  request: number,
  argument: Memory,
  options: { readonly readOnly?: boolean } = {},
): Promise<number> {
  checkRange(request, 0, 0xffff_ffff, "ioctl request");
  const fd = openNode(path, options.readOnly === true ? constants.O_RDONLY : constants.O_RDWR);
  try {
    const { result } = await pool.run({ op: Op.ioctl, isSlow: true, fd, extra: request, address: argument.address });
    if (result < 0) throw errnoError(`ioctl 0x${request.toString(16)}`, -result, { file: path });
    return result;
  } finally {
    closeSync(fd);
  }
}

function openNode(path: string, mode: number): number {
  try {
    // O_CLOEXEC is set by the runtime.
    return openSync(path, mode);
  } catch (error) {
    throw errnoError("open", errnoOf(error) ?? 5, { file: path });
  }
}
