/** @module Descriptors: an open socketpair end of the shim in the event loop, and second ones of the same file. */
import { shim } from "./shim.ts";

/** A socket that only wakes. */
export type WakeSocket = Bun.Socket<undefined>;

/** Watches an open socketpair end. The types of Bun do not know this form of connect. */
export function connectDescriptor(fd: number, woken: (bytes: Uint8Array) => void): Promise<WakeSocket> {
  const data = (_socket: WakeSocket, bytes: Uint8Array): void => woken(bytes);
  const options = { fd, socket: { data, error: () => undefined, close: () => undefined } };
  return Bun.connect(options as unknown as Bun.UnixSocketOptions<undefined>);
}

/** Another descriptor of an open file; undefined when the process has none left. */
export function duplicateDescriptor(fd: number): number | undefined {
  const copy = shim.duplicate(fd);
  return copy < 0 ? undefined : copy;
}
