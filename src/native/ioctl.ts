/** @module ioctl on a device node, for the kernel driver. */
import type { Memory } from "./memory.ts";
import type { JobPool } from "./pool.ts";

/**
 * Opens a device node (read-write, or read-only), does one ioctl in the pool, closes it.
 * @param argument shim memory the request points to (nested pointers are addresses of other shim memory).
 * @returns the non-negative return value of ioctl. @throws WalbError `io`, `not-found`, `busy`, with errno text.
 */
export async function deviceIoctl(
  pool: JobPool,
  path: string,
  request: number,
  argument: Memory,
  options: { readonly readOnly?: boolean } = {},
): Promise<number> {
  throw new Error(`being written ${path} ${request} ${argument.address} ${options.readOnly} ${typeof pool}`);
}
