/**
 * @module Block devices of the kernel's NBD driver, by its netlink interface. Everything here blocks: it is for a program
 * that does nothing else.
 */
import { WalbError } from "../errors.ts";
import { errnoText, shim } from "./shim.ts";

/** Where a volume is served. */
export interface NbdPeer {
  /** Path of a unix socket, or a host. */
  readonly host: string;
  /** Empty for a unix socket. */
  readonly port: string;
  readonly exportName: string;
}

/** Negotiated connections to one export. */
export interface NbdConnections {
  readonly fds: Int32Array;
  readonly sizeBytes: number;
  readonly flags: number;
}

/** How a device behaves when its server does not answer. */
export interface NbdPatience {
  /** A request that is not answered for so long is sent again. */
  readonly requestTimeoutS: number;
  /** Without any connection requests wait for so long, then fail. */
  readonly deadTimeoutS: number;
}

const handshakeTimeoutS = 30;
const logicalBlockBytes = 512;
/** None, at an address that is one. */
const noFds = new Int32Array(1).subarray(0, 0);
const unchanged: NbdPatience = { requestTimeoutS: 0, deadTimeoutS: 0 };
const commands = { connect: 1, disconnect: 2, reconfigure: 3 } as const;
const reasons: Readonly<Record<number, string>> = {
  [-100001]: "the server does not speak NBD of the fixed newstyle",
  [-100002]: "the server has no such export",
  [-100003]: "the server refuses the export to a client without TLS",
};

const text = (value: string): Uint8Array => Buffer.from(`${value}\0`);
const why = (result: number): string => reasons[result] ?? errnoText(-result);

/** Connects `count` times. @throws WalbError `unreachable`. */
export function openNbdConnections(peer: NbdPeer, count: number): NbdConnections {
  const out = new Float64Array(2);
  const fds: number[] = [];
  for (let i = 0; i < count; i++) {
    const fd = shim.nbdOpen(text(peer.host), text(peer.port), text(peer.exportName), handshakeTimeoutS, out);
    if (fd < 0) {
      for (const open of fds) shim.nbdClose(open);
      throw new WalbError("unreachable", {
        what: `no connection to the NBD server: ${why(fd)}`,
        where: { volume: peer.exportName, peer: peer.port === "" ? peer.host : `${peer.host}:${peer.port}` },
        hint: "is the device daemon running?",
      });
    }
    fds.push(fd);
  }
  return { fds: Int32Array.from(fds), sizeBytes: out[0]!, flags: out[1]! };
}

/** Our side only: the kernel keeps what it was given. */
export function closeNbdConnections({ fds }: NbdConnections): void {
  for (const fd of fds) if (fd >= 0) shim.nbdClose(fd);
}

/** Blocks until a connection is over, by either side; a signal to stop ends the process. */
export function waitForNbdEnd({ fds }: NbdConnections): void {
  shim.nbdWait(fds, -1);
}

/** Those that are not over. */
export function livingNbdConnections(connections: NbdConnections): NbdConnections {
  shim.nbdWait(connections.fds, 0);
  return { ...connections, fds: connections.fds.filter((fd) => fd >= 0) };
}

/**
 * Makes `/dev/nbdINDEX` a device on the connections. `backend` is what sysfs tells of it, where the kernel knows that.
 * @throws WalbError `io`, `busy`, `unsupported`.
 */
export function connectNbdDevice(
  index: number,
  connections: NbdConnections,
  patience: NbdPatience,
  backend: string,
): void {
  configure(commands.connect, index, connections, patience, backend);
}

/** Puts new connections in place of those that are over. @throws WalbError. */
export function reconnectNbdDevice(
  index: number,
  connections: NbdConnections,
  patience: NbdPatience,
  backend: string,
): void {
  configure(commands.reconfigure, index, connections, patience, backend);
}

/** Tells the kernel that the export has grown. @throws WalbError. */
export function growNbdDevice(index: number, sizeBytes: number, backend: string): void {
  const connections = { fds: noFds, sizeBytes, flags: 0 };
  configure(commands.reconfigure, index, connections, unchanged, backend);
}

/** @throws WalbError. */
export function disconnectNbdDevice(index: number): void {
  configure(commands.disconnect, index, { fds: noFds, sizeBytes: 0, flags: 0 }, unchanged, "");
}

function configure(
  command: number,
  index: number,
  connections: NbdConnections,
  patience: NbdPatience,
  backend: string,
): void {
  const { sizeBytes, flags, fds } = connections;
  const { requestTimeoutS, deadTimeoutS } = patience;
  const settings = Float64Array.of(index, sizeBytes, logicalBlockBytes, flags, requestTimeoutS, deadTimeoutS);
  const result = shim.nbdConfigure(command, settings, fds, text(backend));
  if (result >= 0) return;
  const errno = -result;
  const isBusy = errno === 16;
  const isAbsent = errno === 2 || errno === 93;
  throw new WalbError(isBusy ? "busy" : isAbsent ? "unsupported" : "io", {
    what: `the kernel's NBD driver refused /dev/nbd${index}: ${isAbsent ? "it is not there" : errnoText(errno)}`,
    hint: isBusy ? "use another device, or detach this one" : "is the nbd module loaded? modprobe nbd",
  });
}
