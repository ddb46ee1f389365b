/** @module Small files read and written whole on this thread. Errors are those of `node:fs`. */
import { closeSync, constants, fsyncSync, openSync, readSync, writeSync } from "node:fs";
import { WalbError } from "../../errors.ts";

/** @throws WalbError `bad-format` above `maxBytes`. */
export function readSmallFile(path: string, maxBytes: number): Uint8Array {
  const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    return readToEnd(fd, path, maxBytes);
  } finally {
    closeSync(fd);
  }
}

/** Reads to the end: files of /proc and /sys do not tell their size. */
function readToEnd(fd: number, path: string, maxBytes: number): Uint8Array {
  const parts: Uint8Array[] = [];
  let size = 0;
  for (;;) {
    const part = new Uint8Array(Math.min(maxBytes + 1 - size, 65536));
    const got = readSync(fd, part, 0, part.length, null);
    if (got === 0) return Buffer.concat(parts);
    size += got;
    if (size > maxBytes) {
      throw new WalbError("bad-format", { what: `it is larger than ${maxBytes} bytes`, where: { file: path } });
    }
    parts.push(part.subarray(0, got));
  }
}

/** Writes a file in the place of any other, and syncs it. */
export function writeWhole(path: string, bytes: Uint8Array): void {
  const fd = openSync(path, "w", 0o600);
  try {
    for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at);
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
