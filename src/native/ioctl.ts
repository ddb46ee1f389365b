/** @module ioctl on a device node, for the kernel driver: an argument, and buffers that it points to. */
import { closeSync, constants, openSync } from "node:fs";
import { WalbError } from "../errors.ts";
import type { IoctlAnswer, IoctlBuffer } from "../platform/kernel.ts";
import { checkRange } from "../units.ts";
import { errnoError, errnoOf } from "./errno.ts";
import { Op } from "./layout.ts";
import type { JobRunner } from "./pool.ts";
import { withTable } from "./tables.ts";

/** Argument and buffers have a page each: the driver never sees one beside the other. */
const pageBytes = 4096;
const pointerBytes = 8;

/**
 * Opens a device node for reading and writing, does one ioctl on a pool thread, closes it. Argument and buffers are
 * copied to shim memory and back: no address of a JavaScript array gets to the kernel.
 * @throws WalbError `not-found`, `busy`, `io` when the node cannot be opened.
 */
export async function nodeIoctl(
  runner: JobRunner,
  path: string,
  request: number,
  argument: Uint8Array,
  buffers: readonly IoctlBuffer[] = [],
): Promise<IoctlAnswer> {
  checkRange(request, 0, 0xffff_ffff, "ioctl request");
  checkRange(argument.length, 0, pageBytes, "size of the ioctl argument");
  for (const { bytes, pointerOffset } of buffers) {
    checkRange(bytes.length, 1, pageBytes, "size of an ioctl buffer");
    checkRange(pointerOffset, 0, argument.length - pointerBytes, "place of a pointer");
  }
  const fd = openNode(path);
  try {
    return await withTable(pageBytes * (1 + buffers.length), async (table) => {
      table.bytes.fill(0, 0, pageBytes * (1 + buffers.length));
      table.bytes.set(argument);
      const view = new DataView(table.bytes.buffer, table.bytes.byteOffset, table.bytes.byteLength);
      buffers.forEach(({ pointerOffset, bytes }, i) => {
        const place = pageBytes * (1 + i);
        table.bytes.set(bytes, place);
        view.setBigUint64(pointerOffset, BigInt(table.address + place), true);
      });
      const job = { op: Op.ioctl, isSlow: true, fd, extra: request, address: table.address };
      const { result } = await runner.run(job);
      return {
        errno: result < 0 ? -result : 0,
        argument: table.bytes.slice(0, argument.length),
        buffers: buffers.map(({ bytes }, i) =>
          table.bytes.slice(pageBytes * (1 + i), pageBytes * (1 + i) + bytes.length),
        ),
      };
    });
  } finally {
    closeSync(fd);
  }
}

function openNode(path: string): number {
  try {
    // O_CLOEXEC is set by the runtime; O_NONBLOCK, so that what is no device does not hold us up.
    return openSync(path, constants.O_RDWR | constants.O_NONBLOCK);
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === undefined) throw new WalbError("io", { what: "open failed", where: { file: path }, cause: error });
    throw errnoError("open", errno, { file: path });
  }
}
