/** @module Failures in the original's words: the driver answers EFAULT to what it refuses, and EBUSY for what is open. */
import { asWalbError, type ErrorCode, WalbError } from "../../../errors.ts";
import { ErrnoError } from "../../../native/errno.ts";
import { errnoText } from "../../../native/shim.ts";

const errnoFault = 14;
/** What stopping a device that is open fails with. */
export const errnoBusy = 16;
/** Refusals by the state of a device or by a value: an ioctl of the driver fails for each of them. */
const refusals: ReadonlySet<ErrorCode> = new Set([
  "state",
  "read-only",
  "out-of-range",
  "bad-parameter",
  "bad-format",
  "damaged",
  "already-exists",
  "log-overflow",
]);

/**
 * Runs what is an ioctl in the original; a refusal begins with its text, which scripts look for.
 * @param busyErrno what the driver says of something that is in use.
 */
export async function asIoctl<T>(call: () => Promise<T>, busyErrno = errnoFault): Promise<T> {
  try {
    return await call();
  } catch (thrown) {
    const error = asWalbError(thrown);
    const errno = errnoIn(error) ?? errnoOf(error.code, busyErrno);
    if (errno === undefined) throw error;
    const hint = error.hint === undefined ? "" : ` (${error.hint})`;
    const what = `ioctl error:${errnoText(errno)}(${errno}):${error.message}${hint}`;
    throw new WalbError(error.code, { what });
  }
}

function errnoOf(code: ErrorCode, busyErrno: number): number | undefined {
  if (code === "busy") return busyErrno;
  return refusals.has(code) ? errnoFault : undefined;
}

function errnoIn(error: WalbError): number | undefined {
  for (let at: unknown = error; at instanceof Error; at = at.cause) {
    // What could not be opened says so itself.
    if (at instanceof ErrnoError) return at.errno === errnoFault || at.errno === errnoBusy ? at.errno : undefined;
  }
  return undefined;
}
