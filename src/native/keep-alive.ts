/** @module TCP keep-alive of sockets: Bun sets its idle time alone. */
import { errnoError } from "./errno.ts";
import { shim } from "./shim.ts";

/**
 * Has the kernel probe a silent peer after `idleS` seconds, then each `intervalS`; after `count` probes without an answer
 * the connection is broken. @throws WalbError `io` for times that the system does not take.
 */
export function setKeepAlive(fd: number, idleS: number, intervalS: number, count: number): void {
  const result = shim.keepAlive(fd, idleS, intervalS, count);
  if (result < 0) throw errnoError("setting TCP keep-alive", -result, {});
}
