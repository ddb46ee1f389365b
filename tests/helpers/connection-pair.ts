/** @module Two connected in-memory connections that cut data at chosen boundaries, and a clock that is moved by hand. */
import { WalbError } from "../../src/errors.ts";
import type { Clock, Timer } from "../../src/platform/clock.ts";
import type {
  Address,
  Connection,
  ConnectionReader,
  Listener,
  Net,
  PeerTrust,
  TlsSession,
} from "../../src/platform/net.ts";
import { addressText } from "../../src/platform/net.ts";

export interface PairOptions {
  /** Size of the next chunk that is delivered, given what is left. Default: everything. */
  readonly chunkBytes?: (restBytes: number) => number;
  /** The connection breaks when the client has delivered this many bytes. */
  readonly cutClientAfterBytes?: number;
  /** The connection breaks when the server has delivered this many bytes. */
  readonly cutServerAfterBytes?: number;
}

interface Queued {
  readonly bytes: Uint8Array;
  at: number;
  readonly done: (() => void) | undefined;
  readonly failed: ((error: Error) => void) | undefined;
}

const highBytes = 1024 * 1024;

/** One end; what it writes arrives at the other. */
export class PairEnd implements Connection {
  other!: PairEnd;
  peerTrust: PeerTrust = "trusted";
  /** Everything this end has delivered to the other one, when recording. */
  readonly recorded: Uint8Array[] = [];
  isRecording = false;
  /** Most bytes that ever waited in the send queue. */
  deliveredBytes = 0;
  #reader: ConnectionReader | undefined;
  #isPaused = true;
  #isClosed = false;
  #isEnded = false;
  #isEndDelivered = false;
  #isPumping = false;
  #queue: Queued[] = [];
  #queuedBytes = 0;
  #drainWaiters: { resolve: () => void; reject: (error: Error) => void }[] = [];

  constructor(
    readonly peer: string,
    private readonly chunkBytes: (restBytes: number) => number,
    private readonly cutAfterBytes: number,
  ) {}

  get isClosed(): boolean {
    return this.#isClosed;
  }

  get queuedBytes(): number {
    return this.#queuedBytes;
  }

  setReader(reader: ConnectionReader): void {
    this.#reader = reader;
    this.other.pump();
  }

  pause(): void {
    this.#isPaused = true;
  }

  resume(): void {
    this.#isPaused = false;
    this.other.pump();
  }

  putBack(): void {
    throw new Error("not of a pair");
  }

  startTls(): Promise<TlsSession> {
    throw new Error("not of a pair");
  }

  write(bytes: Uint8Array): boolean {
    if (this.#isClosed || this.#isEnded) return true;
    this.#add({ bytes: bytes.slice(), at: 0, done: undefined, failed: undefined });
    return this.#queuedBytes <= highBytes;
  }

  send(bytes: Uint8Array): Promise<void> {
    if (this.#isClosed) return Promise.reject(this.#gone());
    return new Promise((resolve, reject) => this.#add({ bytes, at: 0, done: resolve, failed: reject }));
  }

  drained(): Promise<void> {
    if (this.#isClosed) return Promise.reject(this.#gone());
    if (this.#queuedBytes === 0) return Promise.resolve();
    return new Promise((resolve, reject) => this.#drainWaiters.push({ resolve, reject }));
  }

  end(): void {
    this.#isEnded = true;
    this.pump();
  }

  close(): void {
    this.break(undefined);
  }

  /** Closes both ends; the other one sees a reset when an error is given. */
  break(error: Error | undefined): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    const queue = this.#queue;
    this.#queue = [];
    this.#queuedBytes = 0;
    for (const item of queue) item.failed?.(this.#gone());
    for (const waiter of this.#drainWaiters.splice(0)) waiter.reject(this.#gone());
    setImmediate(() => {
      this.#reader?.closed(error);
      this.other.break(error ?? (queue.length > 0 ? new Error("reset by peer") : undefined));
    });
  }

  /** Delivers what the other end takes. */
  pump(): void {
    if (this.#isPumping) return;
    this.#isPumping = true;
    setImmediate(() => {
      this.#isPumping = false;
      this.#deliver();
    });
  }

  #deliver(): void {
    const { other } = this;
    for (let turns = 0; turns < 4096; turns++) {
      const reader = other.#reader;
      if (reader === undefined || other.#isPaused || other.#isClosed || this.#isClosed) return;
      const item = this.#queue[0];
      if (item === undefined) {
        for (const waiter of this.#drainWaiters.splice(0)) waiter.resolve();
        if (this.#isEnded && !this.#isEndDelivered) {
          this.#isEndDelivered = true;
          reader.end();
        }
        return;
      }
      const restBytes = item.bytes.length - item.at;
      const cutBytes = this.cutAfterBytes - this.deliveredBytes;
      const takeBytes = Math.min(restBytes, cutBytes, Math.max(1, this.chunkBytes(restBytes)));
      if (cutBytes <= 0) {
        this.break(new Error("connection reset"));
        return;
      }
      const chunk = item.bytes.slice(item.at, item.at + takeBytes);
      item.at += takeBytes;
      this.deliveredBytes += takeBytes;
      this.#queuedBytes -= takeBytes;
      if (this.isRecording) this.recorded.push(chunk.slice());
      if (item.at === item.bytes.length) {
        this.#queue.shift();
        item.done?.();
      }
      if (takeBytes > 0) reader.data(chunk);
    }
    this.pump();
  }

  #add(item: Queued): void {
    this.#queue.push(item);
    this.#queuedBytes += item.bytes.length;
    this.pump();
  }

  #gone(): WalbError {
    return new WalbError("unreachable", { what: "the connection is closed", where: { peer: this.peer } });
  }
}

/** Two ends of one connection. */
export function connectionPair(options: PairOptions = {}): { client: PairEnd; server: PairEnd } {
  const chunkBytes = options.chunkBytes ?? ((restBytes: number) => restBytes);
  const client = new PairEnd("server:1", chunkBytes, options.cutClientAfterBytes ?? Number.POSITIVE_INFINITY);
  const server = new PairEnd("client:2", chunkBytes, options.cutServerAfterBytes ?? Number.POSITIVE_INFINITY);
  client.other = server;
  server.other = client;
  return { client, server };
}

/** Chunks of pseudo-random sizes up to `maxBytes`, the same for the same seed. */
export function randomChunks(seed: number, maxBytes: number): (restBytes: number) => number {
  let state = seed >>> 0 || 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return 1 + ((state >>> 0) % maxBytes);
  };
}

/** A Net of connection pairs. */
export class PairNet implements Net {
  readonly pairs: { client: PairEnd; server: PairEnd }[] = [];
  readonly #accepts = new Map<string, (connection: Connection) => void>();
  readonly #options: PairOptions;

  constructor(options: PairOptions = {}) {
    this.#options = options;
  }

  async listen(address: Address, accept: (connection: Connection) => void): Promise<Listener> {
    const key = addressText(address);
    this.#accepts.set(key, accept);
    return {
      address,
      close: async () => {
        this.#accepts.delete(key);
      },
    };
  }

  async connect(address: Address): Promise<Connection> {
    const accept = this.#accepts.get(addressText(address));
    if (accept === undefined) throw new WalbError("unreachable", { what: `nobody listens on ${addressText(address)}` });
    const pair = connectionPair(this.#options);
    this.pairs.push(pair);
    accept(pair.server);
    return pair.client;
  }
}

/** A clock that goes on only when told to. */
export class ManualClock implements Clock {
  #nowMs = 1_000_000;
  #timers: { atMs: number; callback: () => void }[] = [];

  nowMs(): number {
    return this.#nowMs;
  }

  monotonicMs(): number {
    return this.#nowMs;
  }

  timer(delayMs: number, callback: () => void): Timer {
    const entry = { atMs: this.#nowMs + delayMs, callback };
    this.#timers.push(entry);
    return {
      cancel: () => {
        this.#timers = this.#timers.filter((one) => one !== entry);
      },
    };
  }

  sleep(delayMs: number): Promise<void> {
    return new Promise((resolve) => void this.timer(delayMs, resolve));
  }

  /** Timers that are running. */
  get timerCount(): number {
    return this.#timers.length;
  }

  /** Moves the clock and runs what is due, in order, letting promises settle in between. */
  async advance(byMs: number): Promise<void> {
    const endMs = this.#nowMs + byMs;
    for (;;) {
      await settle();
      const next = this.#timers.filter((one) => one.atMs <= endMs).sort((a, b) => a.atMs - b.atMs)[0];
      if (next === undefined) break;
      this.#nowMs = Math.max(this.#nowMs, next.atMs);
      this.#timers = this.#timers.filter((one) => one !== next);
      next.callback();
    }
    this.#nowMs = endMs;
    await settle();
  }
}

/** Lets everything that is ready happen. */
export async function settle(turns = 8): Promise<void> {
  for (let i = 0; i < turns; i++) await new Promise<void>((resolve) => setImmediate(resolve));
}
