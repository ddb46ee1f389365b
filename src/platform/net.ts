/**
 * @module The Net interface: byte streams between processes. Real TCP and unix sockets, or the simulator's.
 */
import type { RunningSync } from "./disk.ts";

/** `host:port`, or a unix socket. */
export type Address =
  | { readonly kind: "tcp"; readonly host: string; readonly port: number }
  | { readonly kind: "unix"; readonly path: string };

/** Receives what a connection reads. Called synchronously; must not throw. */
export interface ConnectionReader {
  /** A chunk; the callee owns it and may keep it. */
  data(chunk: Uint8Array): void;
  /**
   * Memory that the next bytes belong into. A connection that can reads straight into it and tells by {@link filled};
   * others, and for undefined all, call {@link data}. "nothing": no bytes are wanted before `readNow()`; the connection
   * may still bring some.
   */
  target?(): Uint8Array | "nothing" | undefined;
  /**
   * Address of the {@link target} when it is memory of the shim: then a thread may read into it, until it is full, or until
   * `readNow()`, `pause()` or `close()` is called. So {@link filled} may tell of much at once, and late.
   */
  targetAddress?(): number | undefined;
  /** So many bytes are in the {@link target} that was asked for last. */
  filled?(sizeBytes: number): void;
  /** The peer half-closed: no more data follows. */
  end(): void;
  /** The connection is gone, with an error or by close(). Called once, last. */
  closed(error: Error | undefined): void;
}

/** A certificate with its private key, both PEM. */
export interface CertificatePair {
  readonly certificatePem: string;
  readonly keyPem: string;
}

/** TCP keep-alive: how a peer whose host or network is gone is found out though nothing is sent. */
export interface KeepAlive {
  /** Silence before the first probe. */
  readonly idleS: number;
  readonly intervalS: number;
  /** Probes without an answer after which the connection is broken. */
  readonly count: number;
}

/** How to speak TLS. */
export interface TlsOptions {
  readonly isServer: boolean;
  /** What we show; a server must show one. */
  readonly certificate?: CertificatePair;
  /** Certificates (PEM), one of which must have signed the peer's. Without, a peer may show any or none. */
  readonly peerAuthoritiesPem?: string;
  readonly timeoutMs: number;
}

/** A TLS session. */
export interface TlsSession {
  /** Keying material of this session alone (RFC 8446 §7.5): both ends get the same bytes, nobody between them does. */
  exportKeyingMaterial(label: string, sizeBytes: number): Uint8Array;
}

/**
 * How far a peer is believed. `trusted`: it may do everything. `unproven`: it has not shown the cluster key; HTTP must ask
 * it for a token, and nothing else is served.
 */
export type PeerTrust = "trusted" | "unproven";

/** Bytes that were left to somebody else to be sent. */
export interface Entrusted {
  /** True: they were not sent, and will not be. False: they are being sent, or were. May be asked at any time. */
  takeBack(): boolean;
}

/**
 * A byte stream. Reading is pushed to the reader and stops while paused, so that TCP stops the peer. Starts paused
 * until a reader is set.
 */
export interface Connection {
  /** For messages: `10.0.0.2:51234`, `unix:/run/x`. */
  readonly peer: string;
  /** `trusted` unless a Net that knows better says otherwise. */
  peerTrust: PeerTrust;
  setReader(reader: ConnectionReader): void;
  pause(): void;
  resume(): void;
  /** Reads what has arrived into the reader's target before it returns, when the target is large and that is possible. To be
   * called when the reader wants bytes again; never from inside of the reader. */
  readNow?(): void;
  /** Gives bytes back that the reader got and did not use: they are read again, before all others. */
  putBack(bytes: Uint8Array): void;
  /**
   * Turns the stream into TLS 1.3 from the next byte on, in both directions; everything written must be drained. Leaves it
   * paused. @throws WalbError `protocol` when the peer speaks no TLS or its certificate is not accepted, `unreachable`,
   * `timed-out`; the connection is closed then.
   */
  startTls(options: TlsOptions): Promise<TlsSession>;
  /** Writes what the socket takes now and copies the rest into the send queue. False when the queue is above its high
   * mark (1 MiB): then await `drained()` before more. A closed connection ignores it (closed() told already). */
  write(bytes: Uint8Array): boolean;
  /**
   * Leaves up to 32 bytes to a sync of the same platform, which sends them as soon as it has succeeded, before this thread
   * hears of it. What is written before that goes out first, and takes them back when it must. They are copied. undefined
   * when they cannot be left to it; absent where they never can.
   */
  entrust?(bytes: Uint8Array, sync: RunningSync): Entrusted | undefined;
  /** Writes without copying: resolves when the socket has taken every byte; until then the bytes must stay as they are.
   * Sends of one connection keep their order with each other and with write(). @throws WalbError `unreachable`. */
  send(bytes: Uint8Array): Promise<void>;
  /** Resolves when the send queue is empty. @throws WalbError `unreachable` when the connection is gone. */
  drained(): Promise<void>;
  /** Sends FIN after all that was written. */
  end(): void;
  /** Closes at once; queued bytes are dropped. Idempotent. */
  close(): void;
  readonly isClosed: boolean;
}

export interface Listener {
  /** The bound address, with the real port when 0 was asked. */
  readonly address: Address;
  /** Stops accepting; open connections go on. */
  close(): Promise<void>;
}

export interface Net {
  /** @throws WalbError `port-in-use` naming the address. A stale unix socket (nobody listens) is replaced. */
  listen(address: Address, accept: (connection: Connection) => void): Promise<Listener>;
  /** @throws WalbError `unreachable` naming the address and why. */
  connect(address: Address, options: { readonly timeoutMs: number }): Promise<Connection>;
}

/** A unix socket that has a name in the kernel alone: there is no file of it, and it is gone with its process. */
export function abstractAddress(name: string): Address & { readonly kind: "unix" } {
  return { kind: "unix", path: `\0${name}` };
}

/** Whether a unix socket has no file. */
export function isAbstract(address: Address & { readonly kind: "unix" }): boolean {
  return address.path.startsWith("\0");
}

/** Text of an address as users write it. */
export function addressText(address: Address): string {
  if (address.kind === "unix") return `unix:${address.path.replace("\0", "@")}`;
  return address.host.includes(":") ? `[${address.host}]:${address.port}` : `${address.host}:${address.port}`;
}

/** The address a `host:port` names, an IPv6 host in brackets. The text was checked. */
export function addressOf(text: string): Address {
  const colon = text.lastIndexOf(":");
  return { kind: "tcp", host: text.slice(0, colon).replace(/^\[(.*)\]$/, "$1"), port: Number(text.slice(colon + 1)) };
}
