/** @module errno of the kernel → WalbError, exactly. */
import { constants } from "node:os";
import { type ErrorCode, type ErrorPlace, WalbError } from "../errors.ts";
import { errnoText } from "./shim.ts";

const names = new Map<number, string>(Object.entries(constants.errno).map(([name, number]) => [number, name]));

/** The cause inside a WalbError that the kernel gave: its number and name. */
export class ErrnoError extends Error {
  override readonly name = "ErrnoError";
  readonly errno: number;
  readonly errnoName: string;

  constructor(errno: number) {
    const errnoName = names.get(errno) ?? `errno ${errno}`;
    super(`${errnoText(errno)} (${errnoName})`);
    this.errno = errno;
    this.errnoName = errnoName;
  }
}

const codes: Record<string, ErrorCode> = {
  ENOSPC: "no-space",
  EDQUOT: "no-space",
  ENOENT: "not-found",
  EEXIST: "already-exists",
  EROFS: "read-only",
  EBUSY: "busy",
};

const hints: Record<string, string> = {
  ENOSPC: "free space on this file system or grow it",
  EDQUOT: "raise the quota or free space",
  EPERM: "check the user and capabilities walb runs with",
  EROFS: "the file system is mounted read-only: look at the kernel log why, then: mount -o remount,rw",
  EMFILE: "raise the limit of open files (LimitNOFILE=)",
  ENFILE: "raise the limit of open files of the host: sysctl fs.file-max",
  EISDIR: "a directory is in the place of a file: look at what is in it, and move it away",
  ESTALE: "the server of this file system does not know the file any more: mount it anew",
  EIO: "look at the kernel log: the device below reports errors",
};

/** Who may use a path is a matter of its owner and mode, and of all directories above it. */
function accessHint(file: string | undefined): string {
  const user = `walb runs as uid ${process.geteuid?.() ?? 0}`;
  const show = file === undefined ? "" : `; see who may with: namei -l ${file}`;
  return `${user}, which may not use it${show}`;
}

/** A device has no space left when what it is in promised more than it has. */
function hintFor(errnoName: string, file: string | undefined): string | undefined {
  if (errnoName === "ENOSPC" && file?.startsWith("/dev/") === true && !file.startsWith("/dev/shm/")) {
    return "what the device is in is full: grow the thin pool (lvextend), or remove restored images that nobody needs";
  }
  return hints[errnoName];
}

/** @param what what failed: "read of 4096 bytes". @param errno positive. */
export function errnoError(what: string, errno: number, where: ErrorPlace): WalbError {
  const cause = new ErrnoError(errno);
  const hint = cause.errnoName === "EACCES" ? accessHint(where.file) : hintFor(cause.errnoName, where.file);
  return new WalbError(codes[cause.errnoName] ?? "io", {
    what: `${what} failed`,
    where,
    cause,
    ...(hint === undefined ? {} : { hint }),
  });
}

/** Whether the process or the host has no open files left, which says nothing of the file that was to be opened. */
export function isOutOfFiles({ cause }: WalbError): boolean {
  return cause instanceof ErrnoError && ["EMFILE", "ENFILE"].includes(cause.errnoName);
}

/** errno of what `node:fs` and Bun throw, undefined for other errors. */
export function errnoOf(error: unknown): number | undefined {
  if (!(error instanceof Error) || !("errno" in error) || typeof error.errno !== "number") return undefined;
  return Math.abs(error.errno);
}
