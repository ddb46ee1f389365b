/**
 * @module A byte stream over a Bun socket. It owns what `socket.write` does not take: the tail is kept and sent on drain.
 */
import { closeSync } from "node:fs";
import { asWalbError, type ErrorPlace, WalbError } from "../../errors.ts";
import { duplicateDescriptor } from "../../native/descriptor.ts";
import { errnoError } from "../../native/errno.ts";
import type { RunningSync } from "../disk.ts";
import type { Connection, ConnectionReader, Entrusted, PeerTrust, TlsOptions, TlsSession } from "../net.ts";
import { DirectInput, isDirectTarget } from "./direct-input.ts";
import { descriptorOf, tlsHandlers } from "./handlers.ts";
import { LeftToSync, RealSync } from "./sync.ts";
import { upgradeToTls } from "./tls.ts";

/** What a Bun socket carries. */
export interface SocketData {
  connection?: RealConnection;
}
export type RawSocket = Bun.Socket<SocketData>;

/** Send queue above which `write` asks the caller to wait. */
const highMarkBytes = 1024 * 1024;

/** Bytes the socket has not taken yet. */
interface Unsent {
  bytes: Uint8Array;
  /** Of `send`: the caller waits. */
  readonly taken?: (() => void) | undefined;
  readonly failed?: ((error: WalbError) => void) | undefined;
}

interface Waiter {
  readonly resolve: () => void;
  readonly reject: (error: WalbError) => void;
}

/** The real {@link Connection}. */
export class RealConnection implements Connection {
  readonly peer: string;
  peerTrust: PeerTrust = "trusted";
  #socket: RawSocket;
  #isTls = false;
  #reader: ConnectionReader | undefined;
  #isPaused = true;
  #isDelivering = false;
  /** What came in while paused: the little that the event loop had read already. */
  #received: Uint8Array[] = [];
  #peerEnded = false;
  #endTold = false;
  #queue: Unsent[] = [];
  #queueBytes = 0;
  #drainWaiters: Waiter[] = [];
  #endAsked = false;
  #finSent = false;
  #isClosed = false;
  #closedTold = false;
  #closeError: Error | undefined;
  #isLocalClose = false;
  /** Nothing can be sent any more. */
  #isBroken = false;
  /** For others that send: a descriptor of its own, so that the number stays this socket's. */
  #outputFd: number | undefined;
  /** Bytes that somebody else sends. Until they are taken back or sent, nothing else may be. */
  #entrusted: Entrusted | undefined;
  /** While it is open the event loop does not read the socket. */
  readonly #input: DirectInput;

  constructor(socket: RawSocket, peer: string) {
    this.#socket = socket;
    this.peer = peer;
    this.#input = new DirectInput({
      reader: () => (this.#isPaused || this.#isClosed ? undefined : this.#reader),
      filled: (sizeBytes) => this.#reader?.filled?.(sizeBytes),
      data: (chunk) => {
        this.#received.push(chunk);
        this.#deliver();
      },
      ended: (reason) => this.#inputEnded(reason),
      left: () => this.#socket.resume(),
    });
    socket.setNoDelay(true);
    socket.pause();
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  setReader(reader: ConnectionReader): void {
    this.#input.stopFilling();
    this.#reader = reader;
    this.resume();
  }

  pause(): void {
    if (this.#isPaused) return;
    this.#input.stopFilling();
    this.#isPaused = true;
    if (!this.#isClosed && !this.#input.isOpen) this.#socket.pause();
  }

  resume(): void {
    if (this.#reader === undefined || !this.#isPaused) return;
    this.#isPaused = false;
    this.#deliver();
    if (this.#isPaused || this.#isClosed) return;
    if (this.#input.isOpen) this.#input.resume();
    else this.#socket.resume();
  }

  readNow(): void {
    if (this.#isDelivering || this.#input.isReading) return;
    if (this.#input.isOpen) this.#input.readNow();
    else if (this.#beginInput()) this.#input.read();
  }

  putBack(bytes: Uint8Array): void {
    if (bytes.length > 0) this.#received.unshift(bytes);
  }

  async startTls(options: TlsOptions): Promise<TlsSession> {
    if (this.#isClosed || this.#endAsked) throw this.#gone();
    if (this.#isTls || this.#queue.length > 0 || !this.#isOutputFree()) {
      throw new WalbError("internal", { what: "TLS is started twice, or before all was sent" });
    }
    this.#isPaused = true;
    this.#isTls = true;
    this.#input.close();
    const initialBytes = Buffer.concat(this.#received.splice(0));
    try {
      const { socket, session } = await upgradeToTls(this.#socket, tlsHandlers(this), options, initialBytes, (tls) => {
        this.#socket = tls;
      });
      if (this.#isPaused && !this.#isClosed) socket.pause();
      return session;
    } catch (error) {
      this.close();
      throw asWalbError(error, { peer: this.peer, step: "TLS handshake" });
    }
  }

  write(bytes: Uint8Array): boolean {
    if (this.#isClosed || this.#endAsked || this.#isBroken) return false;
    const rest = this.#tryWrite(bytes);
    // Copied, because the caller may reuse its bytes after write().
    if (rest.length > 0) this.#enqueue({ bytes: rest.slice() });
    return this.#queueBytes <= highMarkBytes;
  }

  send(bytes: Uint8Array): Promise<void> {
    if (this.#isClosed || this.#endAsked || this.#isBroken) return Promise.reject(this.#gone());
    const rest = this.#tryWrite(bytes);
    if (rest.length === 0) return Promise.resolve();
    return new Promise((resolve, reject) => {
      this.#enqueue({ bytes: rest, taken: resolve, failed: reject });
    });
  }

  entrust(bytes: Uint8Array, sync: RunningSync): Entrusted | undefined {
    if (this.#isClosed || this.#endAsked || this.#isBroken || this.#isTls) return undefined;
    if (this.#queue.length > 0 || this.#entrusted !== undefined || !(sync instanceof RealSync)) return undefined;
    this.#outputFd ??= duplicateDescriptor(descriptorOf(this.#socket));
    if (this.#outputFd === undefined) return undefined;
    this.#entrusted = LeftToSync.leave(sync, this.#outputFd, bytes, (unsent) => this.#noteEntrustedOver(unsent));
    return this.#entrusted;
  }

  drained(): Promise<void> {
    if (this.#isClosed || this.#isBroken) return Promise.reject(this.#gone());
    if (this.#queue.length === 0 && this.#entrusted === undefined) return Promise.resolve();
    return new Promise((resolve, reject) => {
      this.#drainWaiters.push({ resolve, reject });
    });
  }

  end(): void {
    if (this.#isClosed || this.#endAsked) return;
    this.#endAsked = true;
    if (this.#queue.length === 0 && this.#entrusted === undefined) this.#sendFin();
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isLocalClose = true;
    this.#input.close();
    this.#endOutput();
    this.#socket.close();
    this.onClose(undefined);
  }

  /** Event of the socket that was accepted or connected; when TLS runs over it, its bytes are not ours to deliver. */
  onSocketData(chunk: Uint8Array): void {
    if (!this.#isTls) {
      this.onData(chunk);
      return;
    }
    // A copy that nobody reads: given back at once, since the collector does not see how large it is.
    if (chunk.buffer instanceof ArrayBuffer && chunk.length === chunk.buffer.byteLength) chunk.buffer.transfer(0);
  }

  /** As {@link onSocketData}: what TLS tells itself is left to it. */
  onSocketEvent(handle: () => void): void {
    if (!this.#isTls) handle();
  }

  /** The socket is gone; TLS over it says why right after, if it can. */
  onSocketClose(error: Error | undefined): void {
    if (this.#isTls) setTimeout(() => this.onClose(error), 0);
    else this.onClose(error);
  }

  /** Socket event: a chunk came in. */
  onData(chunk: Uint8Array): void {
    // The bytes of a chunk are its own: the event loop makes a new buffer for each.
    this.#received.push(chunk);
    this.#deliver();
    // What follows goes straight where it belongs.
    if (this.#beginInput()) this.#input.read();
  }

  /** Socket event: the socket takes more. */
  onDrain(): void {
    while (!this.#isClosed && this.#entrusted === undefined) {
      const first = this.#queue[0];
      if (first === undefined) break;
      const accepted = this.#socket.write(first.bytes);
      if (accepted < 0) this.#noteBroken();
      if (accepted <= 0) return;
      this.#queueBytes -= accepted;
      if (accepted < first.bytes.length) {
        first.bytes = first.bytes.subarray(accepted);
        return;
      }
      this.#queue.shift();
      first.taken?.();
    }
    if (this.#isClosed || this.#entrusted !== undefined) return;
    for (const waiter of this.#drainWaiters.splice(0)) waiter.resolve();
    if (this.#endAsked) this.#sendFin();
  }

  /** Socket event: the peer sends no more. */
  onEnd(): void {
    this.#peerEnded = true;
    this.#deliver();
    this.#closeWhenDone();
  }

  /** Socket event: the socket is gone. Also after a handler failed. */
  onClose(error: Error | undefined): void {
    if (this.#isClosed) return;
    this.#keepUnread();
    this.#endOutput();
    this.#isClosed = true;
    // When our own end went out before, the peer's end is told by a clean close alone.
    if (error === undefined && !this.#isLocalClose && this.#finSent) this.#peerEnded = true;
    // A peer that goes after it has read our end and sent its own is no error, whatever the kernel calls it.
    this.#closeError = this.#peerEnded && this.#finSent ? undefined : error;
    const gone = this.#gone();
    for (const unsent of this.#queue.splice(0)) unsent.failed?.(gone);
    this.#queueBytes = 0;
    for (const waiter of this.#drainWaiters.splice(0)) waiter.reject(gone);
    if (this.#isLocalClose || this.#closeError !== undefined) this.#received = [];
    // Not from inside close(): the caller must not be re-entered.
    queueMicrotask(() => this.#deliver());
  }

  /** Lets the event loop read no more when the reader has a large target. False when it goes on. */
  #beginInput(): boolean {
    if (this.#isTls || this.#isClosed || this.#isPaused || this.#peerEnded || this.#input.isOpen) return false;
    if (!isDirectTarget(this.#reader?.target?.()) || !this.#input.open(descriptorOf(this.#socket))) return false;
    this.#socket.pause();
    return true;
  }

  #inputEnded(reason: "end" | number): void {
    if (reason === "end") {
      this.onEnd();
      return;
    }
    this.#socket.close();
    this.onClose(errnoError("reading", reason, {}));
  }

  /** The socket is about to be gone: what has arrived of it is still the reader's. */
  #keepUnread(): void {
    if (!this.#input.isOpen) return;
    if (!this.#isLocalClose && this.#input.readRest((chunk) => this.#received.push(chunk))) this.#peerEnded = true;
    this.#input.close();
  }

  /** Nobody else sends. */
  #isOutputFree(): boolean {
    return this.#entrusted === undefined || this.#entrusted.takeBack();
  }

  /** What was left to somebody else is sent, or taken back: the queue goes on. */
  #noteEntrustedOver(unsent: Uint8Array): void {
    this.#entrusted = undefined;
    if (this.#isClosed) {
      this.#endOutput();
      return;
    }
    if (unsent.length > 0) {
      this.#queue.unshift({ bytes: unsent });
      this.#queueBytes += unsent.length;
    }
    this.onDrain();
  }

  /** As soon as nobody else sends. */
  #endOutput(): void {
    if (!this.#isOutputFree() || this.#outputFd === undefined) return;
    closeSync(this.#outputFd);
    this.#outputFd = undefined;
  }

  #tryWrite(bytes: Uint8Array): Uint8Array {
    if (this.#queue.length > 0 || bytes.length === 0 || !this.#isOutputFree()) return bytes;
    const accepted = this.#socket.write(bytes);
    if (accepted < 0) this.#noteBroken();
    return accepted <= 0 ? bytes : bytes.subarray(accepted);
  }

  /**
   * The peer is gone. Of a socket that is paused the event loop tells nothing more: whoever waits for it to take something
   * would wait for ever. What has arrived of the peer can still be read.
   */
  #noteBroken(): void {
    if (this.#isBroken) return;
    this.#isBroken = true;
    queueMicrotask(() => {
      if (this.#isClosed) return;
      const gone = this.#gone();
      this.#queueBytes = 0;
      for (const unsent of this.#queue.splice(0)) unsent.failed?.(gone);
      for (const waiter of this.#drainWaiters.splice(0)) waiter.reject(gone);
      if (this.#endAsked) this.#sendFin();
    });
  }

  #enqueue(unsent: Unsent): void {
    this.#queue.push(unsent);
    this.#queueBytes += unsent.bytes.length;
  }

  #sendFin(): void {
    if (this.#finSent) return;
    this.#finSent = true;
    this.#socket.shutdown();
    this.#closeWhenDone();
  }

  #closeWhenDone(): void {
    if (!this.#peerEnded || !this.#finSent || this.#isClosed) return;
    this.#socket.close();
    this.onClose(undefined);
  }

  /** Hands on what came in, in order: data, end, closed. A reader that pauses stops it. */
  #deliver(): void {
    if (this.#reader === undefined || this.#isDelivering) return;
    this.#isDelivering = true;
    try {
      // A reader may set another one while it is called.
      while (!this.#isPaused) {
        const chunk = this.#received.shift();
        if (chunk === undefined) break;
        this.#reader.data(chunk);
      }
      const reader = this.#reader;
      const isLost = this.#isLocalClose || this.#closeError !== undefined;
      if (this.#received.length > 0 && !isLost) return;
      if (this.#peerEnded && !this.#endTold && !this.#isPaused && !isLost) {
        this.#endTold = true;
        reader.end();
      }
      // A clean close behind data or an end that a paused reader has not seen waits until it has.
      const isOwed = this.#peerEnded && !this.#endTold && !isLost;
      if (this.#isClosed && !this.#closedTold && !isOwed) {
        this.#closedTold = true;
        reader.closed(this.#closeError);
      }
    } finally {
      this.#isDelivering = false;
    }
  }

  #gone(): WalbError {
    const where: ErrorPlace = { peer: this.peer };
    const cause = this.#closeError;
    return new WalbError("unreachable", {
      what: this.#endAsked && !this.#isClosed ? "the connection was ended for sending" : "the connection is closed",
      where,
      ...(cause === undefined ? {} : { cause }),
    });
  }
}
