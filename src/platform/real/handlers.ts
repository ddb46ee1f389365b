/** @module Events of sockets as Bun gives them, handed to their connections. */
import type { RawSocket, RealConnection, SocketData } from "./connection.ts";

/** The descriptor of an open socket; the types of Bun do not know it. */
export function descriptorOf(socket: RawSocket): number {
  const { fd } = socket as unknown as { readonly fd: number };
  return fd;
}

/**
 * Handlers for Bun.listen and Bun.connect. Those of a listener are shared by its connections. Nothing a reader throws may reach the event loop, where it would end the
 * process: it closes this one connection and is told on standard error, because it is a defect.
 */
export function socketHandlers(
  opened: (socket: RawSocket) => RealConnection,
): Bun.SocketHandler<SocketData, "uint8array"> {
  return {
    binaryType: "uint8array",
    open(socket) {
      try {
        opened(socket);
      } catch (error) {
        fail(socket, socket.data?.connection, error);
      }
    },
    data: (socket, chunk) => guard(socket, (connection) => connection.onSocketData(chunk)),
    drain: (socket) => guard(socket, (connection) => connection.onSocketEvent(() => connection.onDrain())),
    end: (socket) => guard(socket, (connection) => connection.onSocketEvent(() => connection.onEnd())),
    close: (socket, error) => guard(socket, (connection) => connection.onSocketClose(error)),
    error: (socket, error) => guard(socket, (connection) => connection.onSocketClose(error)),
  };
}

/** Handlers of TLS that runs over a connection's socket. */
export function tlsHandlers(connection: RealConnection): Bun.SocketHandler<SocketData, "uint8array"> {
  return {
    binaryType: "uint8array",
    data: (socket, chunk) => guard(socket, () => connection.onData(chunk)),
    drain: (socket) => guard(socket, () => connection.onDrain()),
    end: (socket) => guard(socket, () => connection.onEnd()),
    close: (socket, error) => guard(socket, () => connection.onClose(error)),
    error: (socket, error) => guard(socket, () => connection.onClose(error)),
  };
}

function guard(socket: RawSocket, handle: (connection: RealConnection) => void): void {
  const connection = socket.data?.connection;
  if (connection === undefined) return;
  try {
    handle(connection);
  } catch (error) {
    fail(socket, connection, error);
  }
}

function fail(socket: RawSocket, connection: RealConnection | undefined, error: unknown): void {
  console.error(`walb: defect: a handler of the connection ${connection?.peer ?? "being opened"} failed:`, error);
  socket.close();
  try {
    connection?.onClose(error instanceof Error ? error : new Error(String(error)));
  } catch (second) {
    console.error("walb: defect: and so did its end:", second);
  }
}
