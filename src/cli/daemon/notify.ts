/**
 * @module sd_notify: tells systemd that a service is ready or stopping. Bun has no unix datagram sockets, so libc is called.
 *
 * The calls are synchronous: the buffers live until they return.
 */

/** Sends a state such as `READY=1` when systemd asked for it; does nothing otherwise. Never fails. */
export async function notifySystemd(socketPath: string | undefined, state: string): Promise<void> {
  if (socketPath === undefined || socketPath === "") return;
  const path = Buffer.from(socketPath.startsWith("@") ? `\0${socketPath.slice(1)}` : socketPath);
  if (path.length > 107) return;
  const { dlopen } = await import("bun:ffi");
  const { symbols, close } = dlopen("libc.so.6", {
    socket: { args: ["i32", "i32", "i32"], returns: "i32" },
    sendto: { args: ["i32", "buffer", "u64", "i32", "buffer", "u32"], returns: "i64" },
    close: { args: ["i32"], returns: "i32" },
  });
  const [unixFamily, datagramCloexec, noSignal] = [1, 2 | 0o2000000, 0x4000];
  // struct sockaddr_un: the family as u16, then the path. An abstract name has no end mark.
  const address = Buffer.alloc(2 + path.length + (path[0] === 0 ? 0 : 1));
  address.writeUInt16LE(unixFamily, 0);
  path.copy(address, 2);
  const message = Buffer.from(state);
  const socket = symbols.socket(unixFamily, datagramCloexec, 0);
  if (socket >= 0) {
    symbols.sendto(socket, message, message.length, noSignal, address, address.length);
    symbols.close(socket);
  }
  close();
}
