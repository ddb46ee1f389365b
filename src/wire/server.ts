/**
 * @module The one port of a daemon: HTTP goes to the HTTP hook, anything else is the wire protocol.
 *
 * The first bytes decide. A wire conversation starts with the length of the client's id; an HTTP request with a method
 * and a space, which no sane client id looks like (it would be 68 bytes or longer and continue the word).
 */
import { asWalbError, WalbError } from "../errors.ts";
import type { Clock, Timer } from "../platform/clock.ts";
import { type Address, addressText, type Connection, type Listener, type Net } from "../platform/net.ts";
import { readHello, reject, welcome } from "./handshake.ts";
import { WireStream } from "./stream.ts";
import { errorText, PeerError, protocolVersion } from "./words.ts";

/** Who asks, for a handler and for logs. */
export interface WireCaller {
  /** Free text, not proven. */
  readonly clientId: string;
  readonly protocol: string;
  readonly peer: string;
}

/**
 * Serves one conversation behind the handshake. When it returns, the server half-closes and ends the connection; when it
 * throws while `stream.confirmationDue`, the peer gets the error as text. A handler never waits for the peer's close.
 */
export type WireHandler = (stream: WireStream, caller: WireCaller) => Promise<void>;

export interface WireServerOptions {
  /** Our id, sent to clients. */
  readonly nodeId: string;
  readonly clock: Clock;
  /** By protocol or command name. */
  readonly handlers: ReadonlyMap<string, WireHandler>;
  /** Takes over a connection that speaks HTTP, with what was read of it. Must set a reader before it returns. */
  readonly http?: (connection: Connection, firstBytes: Uint8Array) => void;
  /** Conversations served at once; more get a refusal text. Default 64. */
  readonly maxConversations?: number;
  /** Deadline of a step, see WireStream. */
  readonly deadlineMs?: number;
  readonly commitDeadlineMs?: number;
  /** Told about each conversation that ended, for logs and statistics. Must not throw. */
  readonly ended?: (report: ConversationReport) => void;
}

/** How a conversation went. */
export interface ConversationReport {
  readonly caller: WireCaller | undefined;
  readonly peer: string;
  readonly durationMs: number;
  readonly readBytes: number;
  readonly writtenBytes: number;
  readonly error: WalbError | undefined;
}

export interface WireServer {
  /** The bound address, with the real port. */
  readonly address: Address;
  /** Conversations being served now. */
  readonly activeCount: number;
  /**
   * Stops accepting. Graceful: waits until conversations ended, at most `graceMs`, then closes the rest at once.
   * @param graceMs 0 is forced.
   */
  shutdown(graceMs: number): Promise<void>;
}

/** Listens and serves until shut down. @throws WalbError `port-in-use`. */
export async function serveWire(net: Net, address: Address, options: WireServerOptions): Promise<WireServer> {
  const server = new Server(options);
  server.listener = await net.listen(address, (connection) => server.accept(connection));
  return server;
}

const httpMethods = ["GET ", "HEAD ", "POST ", "PUT ", "PATCH ", "DELETE ", "OPTIONS ", "CONNECT ", "TRACE ", "PRI "];

/** A fatal handshake_failure, which a TLS client takes as a no (RFC 8446 §6). */
const tlsAlert = Uint8Array.of(0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 40);

/** What the first bytes are: `undefined` when more are needed to tell. */
export function sniffProtocol(bytes: Uint8Array): "http" | "wire" | "tls" | undefined {
  // A handshake record. A wire conversation that begins so would announce an id of 790 bytes.
  if (bytes[0] === 0x16 && (bytes.length < 2 || bytes[1] === 0x03)) return bytes.length < 2 ? undefined : "tls";
  const text = String.fromCharCode(...bytes.subarray(0, 8));
  let isOpen = false;
  for (const method of httpMethods) {
    if (text.startsWith(method)) return "http";
    if (method.startsWith(text)) isOpen = true;
  }
  return isOpen ? undefined : "wire";
}

/** How long a failed conversation may take to deliver what was already said. */
const failedLingerMs = 500;

class Server implements WireServer {
  listener: Listener | undefined;
  readonly #options: WireServerOptions;
  readonly #maxConversations: number;
  /** Everything open that is not HTTP: sniffing, refused or served. */
  readonly #open = new Set<{ close(): void }>();
  /** Those of them that have not said what they want, oldest first. */
  readonly #silent = new Set<{ close(): void }>();
  /** Conversations that are served, oldest first. */
  readonly #serving = new Set<WireStream>();
  #isStopping = false;
  #whenIdle: (() => void) | undefined;

  constructor(options: WireServerOptions) {
    this.#options = options;
    this.#maxConversations = options.maxConversations ?? 64;
  }

  get address(): Address {
    return this.listener!.address;
  }

  get activeCount(): number {
    return this.#serving.size;
  }

  accept(connection: Connection): void {
    if (this.#isStopping) {
      connection.close();
      return;
    }
    // Refusals take a short while too: beyond twice the limit the one goes that has said nothing for longest.
    if (this.#open.size >= 2 * this.#maxConversations + 16) {
      const [oldest] = this.#silent;
      (oldest ?? connection).close();
      if (oldest === undefined) return;
    }
    this.#sniff(connection);
  }

  /** Reads just enough to decide. The reader is replaced inside the callback, so that no event is lost between. */
  #sniff(connection: Connection): void {
    const { clock, http } = this.#options;
    let seen: Uint8Array = new Uint8Array(0);
    const entry = { close: () => done(() => connection.close()) };
    const timer: Timer = clock.timer(this.#options.deadlineMs || 10_000, () => entry.close());
    let isDone = false;
    const done = (next: () => void): void => {
      if (isDone) return;
      isDone = true;
      timer.cancel();
      this.#open.delete(entry);
      this.#silent.delete(entry);
      next();
      this.#checkIdle();
    };
    this.#open.add(entry);
    this.#silent.add(entry);
    connection.setReader({
      data: (chunk) => {
        seen = seen.length === 0 ? chunk : concat(seen, chunk);
        const kind = sniffProtocol(seen);
        if (kind === undefined) return;
        connection.pause();
        done(() => {
          if (kind === "wire" && connection.peerTrust === "trusted") this.#start(connection, seen);
          else if (kind === "tls") this.#refuseTls(connection);
          else if (kind === "wire" || http === undefined) connection.close();
          else http(connection, seen);
        });
      },
      end: () => entry.close(),
      closed: () => entry.close(),
    });
    connection.resume();
  }

  /** A peer with a cluster key, which we have not: else TLS would have been taken off before. */
  #refuseTls(connection: Connection): void {
    const entry = { close: () => connection.close() };
    const timer = this.#options.clock.timer(failedLingerMs, () => entry.close());
    this.#open.add(entry);
    connection.setReader({
      data: () => undefined,
      end: () => entry.close(),
      closed: () => {
        timer.cancel();
        this.#open.delete(entry);
        this.#checkIdle();
      },
    });
    connection.write(tlsAlert);
    connection.end();
    const { nodeId } = this.#options;
    this.#options.ended?.({
      caller: undefined,
      peer: connection.peer,
      durationMs: 0,
      readBytes: 0,
      writtenBytes: tlsAlert.length,
      error: new WalbError("wrong-key", {
        what: `a peer speaks TLS, so it has a cluster key; ${nodeId} has none`,
        where: { peer: connection.peer },
        hint: "start this daemon with --cluster-key and the peer's key file",
      }),
    });
  }

  #start(connection: Connection, firstBytes: Uint8Array): void {
    const { clock, deadlineMs, commitDeadlineMs } = this.#options;
    const stream = new WireStream(
      connection,
      {
        clock,
        ...(deadlineMs === undefined ? {} : { deadlineMs }),
        ...(commitDeadlineMs === undefined ? {} : { commitDeadlineMs }),
      },
      firstBytes,
    );
    this.#open.add(stream);
    this.#silent.add(stream);
    void this.#converse(stream).finally(() => {
      this.#silent.delete(stream);
      this.#serving.delete(stream);
      this.#open.delete(stream);
      this.#checkIdle();
    });
  }

  /** A place for a conversation; one that never comes to its request must not keep others out. */
  #hasPlace(): boolean {
    if (this.#serving.size < this.#maxConversations) return true;
    for (const stream of this.#serving) {
      if (!stream.confirmationDue || !stream.isReading) continue;
      this.#serving.delete(stream);
      stream.close(
        new WalbError("busy", {
          what: "others were waiting while the request did not come",
          where: { peer: stream.peerName },
        }),
      );
      return true;
    }
    return false;
  }

  /** One conversation from handshake to close; never rejects. */
  async #converse(stream: WireStream): Promise<void> {
    const startMs = this.#options.clock.monotonicMs();
    let caller: WireCaller | undefined;
    let failure: WalbError | undefined;
    let lingerMs: number | undefined;
    try {
      const hello = await readHello(stream);
      this.#silent.delete(stream);
      const isRefused = !this.#hasPlace();
      if (!isRefused) this.#serving.add(stream);
      caller = { clientId: hello.clientId, protocol: hello.protocol, peer: stream.connection.peer };
      const handler = this.#options.handlers.get(hello.protocol);
      const refusal = this.#refusal(hello.version, caller, handler, isRefused);
      if (refusal !== undefined || handler === undefined) {
        failure = refusal;
        reject(stream, this.#options.nodeId, errorText(refusal));
      } else {
        welcome(stream, this.#options.nodeId);
        await stream.flush("handshake, answer");
        await handler(stream, caller);
      }
    } catch (error) {
      failure = asWalbError(error, { peer: stream.peerName });
      // Behind the confirmation there is no place for a text: the peer sees the end of the stream instead, soon, but not
      // before what was said to it.
      if (!stream.isWriteEnded) lingerMs = failedLingerMs;
      if (stream.confirmationDue && !stream.isWriteEnded && stream.failure === undefined) {
        const text = errorText(error);
        stream.put((encoder) => encoder.string(text));
        lingerMs = undefined;
      }
    }
    try {
      await stream.finish(lingerMs);
    } catch (error) {
      failure ??= asWalbError(error, { peer: stream.peerName });
      stream.close(failure);
    }
    this.#options.ended?.({
      caller,
      peer: stream.connection.peer,
      durationMs: this.#options.clock.monotonicMs() - startMs,
      readBytes: stream.readBytes,
      writtenBytes: stream.writtenBytes,
      error: failure,
    });
  }

  #refusal(
    version: number,
    caller: WireCaller,
    handler: WireHandler | undefined,
    isRefused: boolean,
  ): WalbError | undefined {
    const { nodeId } = this.#options;
    if (version !== protocolVersion) {
      return new PeerError(
        `run1stNegotiateAsServer:version differ c/s:${version}:${protocolVersion}`,
        new WalbError("unsupported", {
          what: `protocol version ${version} is not served by ${nodeId}, only ${protocolVersion} is`,
        }),
      );
    }
    if (handler === undefined) {
      return new PeerError(
        `findServerHandler:bad protocol:${caller.protocol}:${caller.clientId}`,
        new WalbError("unsupported", {
          what: `${nodeId} does not serve ${JSON.stringify(caller.protocol)}, which ${caller.clientId} asked for`,
          hint: "check that the address is that of the right daemon",
        }),
      );
    }
    if (isRefused) {
      return new WalbError("busy", {
        what: `${nodeId} already serves ${this.#maxConversations} connections`,
        hint: "try again later",
      });
    }
    return undefined;
  }

  async shutdown(graceMs: number): Promise<void> {
    this.#isStopping = true;
    await this.listener?.close();
    if (graceMs > 0 && this.#open.size > 0) {
      await new Promise<void>((resolve) => {
        const timer = this.#options.clock.timer(graceMs, resolve);
        this.#whenIdle = () => {
          timer.cancel();
          resolve();
        };
      });
    }
    this.#whenIdle = undefined;
    const stopped = new WalbError("cancelled", { what: `${addressText(this.address)} shuts down` });
    for (const entry of [...this.#open]) {
      if (entry instanceof WireStream) entry.close(stopped);
      else entry.close();
    }
    // Handlers now fail at their next step; wait until they have cleaned up, within reason.
    if (this.#open.size > 0) {
      await new Promise<void>((resolve) => {
        const timer = this.#options.clock.timer(10_000, resolve);
        this.#whenIdle = () => {
          timer.cancel();
          resolve();
        };
      });
    }
  }

  #checkIdle(): void {
    if (this.#open.size === 0) this.#whenIdle?.();
  }
}

function concat(first: Uint8Array, second: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(first.length + second.length);
  bytes.set(first);
  bytes.set(second, first.length);
  return bytes;
}
