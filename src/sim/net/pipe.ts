/**
 * @module One direction of a connection: a bounded stream of bytes that arrive later, in order, in pieces of any size.
 */
import { WalbError } from "../../errors.ts";
import type { SimRandom } from "../api.ts";
import type { Engine } from "../engine.ts";
import { isSevered, type Link } from "./links.ts";

/** Send queue length above which `write` says false. */
const highMarkBytes = 1024 * 1024;

interface Entry {
  readonly bytes: Uint8Array;
  taken: number;
  readonly resolve: (() => void) | undefined;
  readonly reject: ((error: Error) => void) | undefined;
}

interface Waiter {
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

/** What the receiving end does. Data is offered only while it is willing. */
export interface PipeEnd {
  arrived(chunk: Uint8Array): void;
  ended(): void;
}

/** The sender's half (`write`, `send`, `drained`, `end`) and the way to the receiver. */
export class Pipe {
  private queue: Entry[] = [];
  private queuedBytes = 0;
  /** Taken by the socket and not yet by the reader. */
  private windowUsedBytes = 0;
  private waiters: Waiter[] = [];
  private lastArrivalUs = 0;
  private isEndAsked = false;
  private isEndSent = false;
  private isPumpPlanned = false;
  private isCut = false;
  /** Set while something is held up by a partition. */
  private readonly held: (() => void)[] = [];
  private wake: (() => void) | undefined;

  constructor(
    private readonly engine: Engine,
    private readonly link: Link,
    private readonly chance: SimRandom,
    private readonly label: string,
    private readonly receiver: PipeEnd,
    /** Resets the connection: "both" ends, or only the sender's when nobody can tell the receiver. */
    private readonly reset: (why: string, side: "both" | "sender") => void,
  ) {}

  get isEnding(): boolean {
    return this.isEndAsked;
  }

  /** Nothing gets through now. */
  get isSevered(): boolean {
    return isSevered(this.link);
  }

  write(bytes: Uint8Array): boolean {
    if (bytes.length > 0) this.enqueue({ bytes: bytes.slice(), taken: 0, resolve: undefined, reject: undefined });
    return this.queuedBytes <= highMarkBytes;
  }

  send(bytes: Uint8Array): Promise<void> {
    if (bytes.length === 0) return Promise.resolve();
    return new Promise((resolve, reject) => this.enqueue({ bytes, taken: 0, resolve, reject }));
  }

  drained(): Promise<void> {
    if (this.queue.length === 0) return Promise.resolve();
    return new Promise((resolve, reject) => this.waiters.push({ resolve, reject }));
  }

  end(): void {
    this.isEndAsked = true;
    this.pump();
  }

  /** The reader took bytes: there is room again. */
  consumed(sizeBytes: number): void {
    this.windowUsedBytes -= sizeBytes;
    if (this.queue.length > 0 && !this.isPumpPlanned && !this.isCut) {
      this.isPumpPlanned = true;
      this.engine.schedule(this.latencyMs(), `${this.label} window`, undefined, () => {
        this.isPumpPlanned = false;
        this.pump();
      });
    }
  }

  /** The sender closes: what the socket took still arrives, then the end; what it did not take is dropped. Without an
   * error nobody is told: the sender is dead. */
  abandon(error: Error | undefined): void {
    this.rejectQueue(error);
    this.end();
  }

  /** The connection is gone: nothing arrives any more. */
  cut(error: Error | undefined): void {
    this.isCut = true;
    if (this.wake !== undefined) this.link.waiters.delete(this.wake);
    this.held.length = 0;
    this.rejectQueue(error);
  }

  private rejectQueue(error: Error | undefined): void {
    const { queue, waiters } = this;
    this.queue = [];
    this.queuedBytes = 0;
    this.waiters = [];
    if (error === undefined) return;
    for (const entry of queue) entry.reject?.(error);
    for (const waiter of waiters) waiter.reject(error);
  }

  private enqueue(entry: Entry): void {
    this.queue.push(entry);
    this.queuedBytes += entry.bytes.length;
    this.pump();
  }

  /** Moves bytes from the queue into the window, a piece at a time. */
  private pump(): void {
    const { windowBytes, maxChunkBytes } = this.link.quality;
    while (!this.isCut && this.queue.length > 0) {
      const room = windowBytes - this.windowUsedBytes;
      if (room <= 0) return;
      const chunk = this.takeChunk(this.chunkBytes(Math.min(room, maxChunkBytes)));
      this.windowUsedBytes += chunk.length;
      this.transmit(chunk.length, `${this.label} ${chunk.length}`, () => this.deliver(chunk));
    }
    if (this.isCut || this.queue.length > 0) return;
    for (const waiter of this.waiters.splice(0)) waiter.resolve();
    if (!this.isEndAsked || this.isEndSent) return;
    this.isEndSent = true;
    this.transmit(0, `${this.label} FIN`, () => this.receiver.ended());
  }

  /** Sizes as TCP gives them: mostly large, sometimes any, sometimes a few bytes, so that framing errors show. */
  private chunkBytes(mostBytes: number): number {
    const kind = this.chance.fraction();
    if (kind < 0.6) return mostBytes;
    if (kind < 0.9) return this.chance.between(1, mostBytes);
    return this.chance.between(1, Math.min(64, mostBytes));
  }

  private takeChunk(mostBytes: number): Uint8Array {
    const sizeBytes = Math.min(mostBytes, this.queuedBytes);
    const chunk = new Uint8Array(sizeBytes);
    let filled = 0;
    while (filled < sizeBytes) {
      const entry = this.queue[0]!;
      const part = Math.min(entry.bytes.length - entry.taken, sizeBytes - filled);
      chunk.set(entry.bytes.subarray(entry.taken, entry.taken + part), filled);
      filled += part;
      entry.taken += part;
      if (entry.taken < entry.bytes.length) break;
      this.queue.shift();
      entry.resolve?.();
    }
    this.queuedBytes -= sizeBytes;
    return chunk;
  }

  /** Lets something arrive after the link's delay, behind all that was sent before. */
  private transmit(sizeBytes: number, label: string, arrive: () => void): void {
    const { bytesPerSecond } = this.link.quality;
    const serialUs = bytesPerSecond === 0 ? 0 : Math.ceil((sizeBytes / bytesPerSecond) * 1_000_000);
    const soonestUs = this.engine.nowUs + Math.round(this.latencyMs() * 1000);
    this.lastArrivalUs = Math.max(soonestUs, this.lastArrivalUs + 1) + serialUs;
    this.engine.scheduleAt(this.lastArrivalUs, label, undefined, () => this.passLink(arrive));
  }

  private passLink(arrive: () => void): void {
    if (this.isCut) return;
    if (isSevered(this.link) || this.held.length > 0) this.hold(arrive);
    else arrive();
  }

  /** TCP keeps sending what a partition drops, until it gives up. */
  private hold(arrive: () => void): void {
    this.held.push(arrive);
    if (this.held.length > 1) return;
    this.waitForLink();
    const first = arrive;
    this.engine.schedule(this.link.quality.retransmitLimitMs, `${this.label} retransmit limit`, undefined, () => {
      if (!this.isCut && this.held.includes(first)) this.reset("connection timed out (ETIMEDOUT)", "sender");
    });
  }

  private waitForLink(): void {
    this.wake = () => {
      this.engine.schedule(this.latencyMs(), `${this.label} retransmit`, undefined, () => this.releaseHeld());
    };
    this.link.waiters.add(this.wake);
  }

  private releaseHeld(): void {
    while (!this.isCut && this.held.length > 0) {
      if (isSevered(this.link)) {
        this.waitForLink();
        return;
      }
      const arrive = this.held[0]!;
      arrive();
      this.held.shift();
    }
  }

  private deliver(chunk: Uint8Array): void {
    const { link } = this;
    const startBytes = link.deliveredBytes;
    link.deliveredBytes += chunk.length;
    const { corruptAtBytes, corruptPieceBytesMin: pieceBytesMin, cutAtBytes } = link;
    if (corruptAtBytes !== undefined && corruptAtBytes < link.deliveredBytes && chunk.length >= (pieceBytesMin ?? 1)) {
      const at = pieceBytesMin === undefined ? corruptAtBytes - startBytes : chunk.length >>> 1;
      chunk[at]! ^= 1 << this.chance.between(0, 7);
      link.corruptAtBytes = undefined;
    }
    if (cutAtBytes === undefined || cutAtBytes > link.deliveredBytes) {
      this.receiver.arrived(chunk);
      return;
    }
    link.cutAtBytes = undefined;
    if (cutAtBytes > startBytes) this.receiver.arrived(chunk.subarray(0, cutAtBytes - startBytes));
    this.reset("connection reset by peer (ECONNRESET)", "both");
  }

  private latencyMs(): number {
    const { minMs, maxMs } = this.link.quality.latency;
    return minMs + this.chance.fraction() * (maxMs - minMs);
  }
}

/** The error of everything that waits on a connection that is gone. */
export function goneError(peer: string, why: string): WalbError {
  return new WalbError("unreachable", { what: `the connection is gone: ${why}`, where: { peer } });
}
