/** @module Small files that hold a secret: written for their owner alone, read only while nobody else can. */
import { closeSync, fstatSync, fsyncSync, openSync, readSync, writeSync } from "node:fs";
import { WalbError } from "../../errors.ts";

const fileBytesMax = 64 * 1024;
/** Bits that let group or others in; reading by the group is allowed to a group of the daemon's own. */
const othersBits = 0o007;
const groupWriteBits = 0o030;

/** The text of a file. @throws WalbError `usage` when it is not there, too open or too large; naming it and the way out. */
export function readSecretFile(file: string): string {
  let descriptor: number;
  try {
    descriptor = openSync(file, "r");
  } catch (cause) {
    const isMissing = cause instanceof Error && "code" in cause && cause.code === "ENOENT";
    throw new WalbError("usage", {
      what: isMissing ? "the key file is not there" : "the key file cannot be read",
      where: { file },
      hint: isMissing
        ? `make one, once for all hosts, with: walb key new ${file}; elsewhere copy it there`
        : `let the user that runs this read it: chown USER ${file}`,
      ...(isMissing ? {} : { cause }),
    });
  }
  try {
    const stats = fstatSync(descriptor);
    if (!stats.isFile()) throw new WalbError("usage", { what: "the key file is not a file", where: { file } });
    if ((stats.mode & (othersBits | groupWriteBits)) !== 0) {
      const mode = (stats.mode & 0o777).toString(8).padStart(3, "0");
      throw new WalbError("usage", {
        what: `the key file is open to others (mode ${mode}): whoever reads it can read and delete backups`,
        where: { file },
        hint: `close it with: chmod 600 ${file}; if others may have read it, make a new key: walb key new`,
      });
    }
    if (stats.size > fileBytesMax) {
      throw new WalbError("usage", { what: `the key file is larger than ${fileBytesMax} bytes`, where: { file } });
    }
    const bytes = Buffer.alloc(stats.size);
    const size = readSync(descriptor, bytes, 0, bytes.length, 0);
    return bytes.toString("utf8", 0, size);
  } finally {
    closeSync(descriptor);
  }
}

/** Makes a file of mode 0600. @throws WalbError `already-exists`, `io`. */
export function writeSecretFile(file: string, text: string): void {
  let descriptor: number;
  try {
    // Exclusive: neither an old key nor a link somebody planted is written to.
    descriptor = openSync(file, "wx", 0o600);
  } catch (cause) {
    if (cause instanceof Error && "code" in cause && cause.code === "EEXIST") {
      throw new WalbError("already-exists", {
        what: "there is a file already, which is left as it is",
        where: { file },
        hint: "use it, or name another file",
      });
    }
    throw new WalbError("io", { what: "the file cannot be made", where: { file }, cause });
  }
  try {
    writeSync(descriptor, text);
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}
