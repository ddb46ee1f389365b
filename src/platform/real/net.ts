/** @module The real Net: TCP and unix sockets through Bun.listen and Bun.connect. */
import { rmSync, statSync } from "node:fs";
import { type ErrorPlace, WalbError } from "../../errors.ts";
import { errnoOf } from "../../native/errno.ts";
import { setKeepAlive } from "../../native/keep-alive.ts";
import {
  type Address,
  addressText,
  type Connection,
  isAbstract,
  type KeepAlive,
  type Listener,
  type Net,
} from "../net.ts";
import { type RawSocket, RealConnection, type SocketData } from "./connection.ts";
import { descriptorOf, socketHandlers } from "./handlers.ts";

let keepAlive: KeepAlive | undefined;

/** From now on every TCP connection of this process probes a silent peer. */
export function keepConnectionsAlive(times: KeepAlive): void {
  keepAlive = times;
}

/** The real {@link Net}. */
export function createNet(): Net {
  return { listen, connect };
}

async function listen(address: Address, accept: (connection: Connection) => void): Promise<Listener> {
  const hasFile = address.kind === "unix" && !isAbstract(address);
  if (hasFile) await removeStaleSocket(address);
  const socket = socketHandlers((opened) => {
    const connection = adopt(opened, address);
    accept(connection);
    return connection;
  });
  const server = listenNow(address, socket);
  const bound: Address =
    address.kind === "tcp" && "port" in server ? { kind: "tcp", host: address.host, port: server.port } : address;
  let isClosed = false;
  return {
    address: bound,
    close: async () => {
      if (isClosed) return;
      isClosed = true;
      server.stop(false);
      if (hasFile) rmSync(address.path, { force: true });
    },
  };
}

function listenNow(address: Address, socket: Bun.SocketHandler<SocketData, "uint8array">) {
  // Half-open connections are kept: a peer may end its side and still wait for our answer.
  const common = { allowHalfOpen: true, socket: socket as unknown as Bun.SocketHandler<SocketData> };
  try {
    return address.kind === "unix"
      ? Bun.listen<SocketData>({ ...common, unix: address.path })
      : Bun.listen<SocketData>({ ...common, hostname: address.host, port: address.port, exclusive: true });
  } catch (cause) {
    const where: ErrorPlace = address.kind === "unix" ? { file: address.path } : {};
    if (codeOf(cause) === "EADDRINUSE") {
      throw new WalbError("port-in-use", {
        what: `cannot listen on ${addressText(address)}, which is in use by another program`,
        where,
        hint:
          address.kind === "tcp"
            ? `see which with: ss -ltnp 'sport = :${address.port}'; or choose another with --port`
            : "stop that program first",
      });
    }
    throw new WalbError("io", {
      what: `cannot listen on ${addressText(address)}`,
      where,
      hint: "use an address of this host and a port that the user may open, for example 127.0.0.1:10200",
      cause,
    });
  }
}

/** Removes a unix socket that nobody listens on. @throws WalbError `port-in-use` when somebody does. */
async function removeStaleSocket(address: Address & { kind: "unix" }): Promise<void> {
  const stats = statSync(address.path, { throwIfNoEntry: false });
  if (stats === undefined) return;
  if (!stats.isSocket()) {
    throw new WalbError("already-exists", {
      what: "a unix socket cannot be made here: there is something else",
      where: { file: address.path },
      hint: "remove it or choose another path",
    });
  }
  try {
    (await connect(address, { timeoutMs: 2000 })).close();
  } catch (error) {
    if (error instanceof WalbError && codeOf(error.cause) === "ECONNREFUSED") {
      rmSync(address.path, { force: true });
      return;
    }
  }
  throw new WalbError("port-in-use", {
    what: `cannot listen on ${addressText(address)}, which is in use by another program`,
    where: { file: address.path },
    hint: "stop that program first",
  });
}

function connect(address: Address, options: { readonly timeoutMs: number }): Promise<Connection> {
  return new Promise((resolve, reject) => {
    let isOver = false;
    const finish = (act: () => void): void => {
      if (isOver) return;
      isOver = true;
      clearTimeout(timeout);
      act();
    };
    const timeout = setTimeout(() => {
      finish(() => reject(unreachable(address, `no answer within ${options.timeoutMs} ms`, undefined)));
    }, options.timeoutMs);
    const socket = socketHandlers((opened) => {
      const connection = adopt(opened, address);
      if (isOver) connection.close();
      else finish(() => resolve(connection));
      return connection;
    }) as unknown as Bun.SocketHandler<SocketData>;
    const failed = (cause: unknown): void => {
      finish(() => reject(unreachable(address, codeOf(cause) ?? "connection failed", cause)));
    };
    startConnect(address, { ...socket, connectError: (_socket, error) => failed(error) }).catch(failed);
  });
}

async function startConnect(address: Address, socket: Bun.SocketHandler<SocketData>): Promise<void> {
  const common = { allowHalfOpen: true, socket };
  if (address.kind === "unix") await Bun.connect<SocketData>({ ...common, unix: address.path });
  else await Bun.connect<SocketData>({ ...common, hostname: address.host, port: address.port });
}

/** Makes the connection of a socket that was just opened. */
function adopt(socket: RawSocket, address: Address): RealConnection {
  // Of a peer that is gone already there is none, whatever the types say.
  const host: string | undefined = socket.remoteAddress;
  const peer =
    address.kind === "unix"
      ? addressText(address)
      : addressText({ kind: "tcp", host: host ?? "unknown", port: socket.remotePort });
  if (address.kind === "tcp" && keepAlive !== undefined) {
    setKeepAlive(descriptorOf(socket), keepAlive.idleS, keepAlive.intervalS, keepAlive.count);
  }
  const connection = new RealConnection(socket, peer);
  socket.data = { connection };
  return connection;
}

function unreachable(address: Address, why: string, cause: unknown): WalbError {
  return new WalbError("unreachable", {
    what: `cannot connect to ${addressText(address)}: ${why}`,
    where: { peer: addressText(address) },
    hint: "check that the daemon runs there and that no firewall is between",
    ...(cause === undefined ? {} : { cause }),
  });
}

function codeOf(error: unknown): string | undefined {
  if (error instanceof Error && "code" in error && typeof error.code === "string") return error.code;
  const errno = errnoOf(error);
  return errno === undefined ? undefined : `errno ${errno}`;
}
