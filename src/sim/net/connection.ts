/** @module The two ends of a simulated connection. */
import type { Connection, ConnectionReader, PeerTrust, TlsOptions, TlsSession } from "../../platform/net.ts";
import type { SimRandom } from "../api.ts";
import type { SimProcess } from "../process.ts";
import type { Link } from "./links.ts";
import { goneError, Pipe } from "./pipe.ts";
import { simulateTls } from "./tls.ts";

/** One end, owned by a process. */
export class SimConnection implements Connection {
  isClosed = false;
  peerTrust: PeerTrust = "trusted";
  /** The other end; set once, right after both are made. */
  private other!: SimConnection;
  private output!: Pipe;
  private reader: ConnectionReader | undefined;
  private isPaused = true;
  private readonly arrivedChunks: Uint8Array[] = [];
  /** Given back by the reader: counted as consumed already. */
  private returnedChunk: Uint8Array | undefined;
  private hasEndArrived = false;
  private isEndTold = false;
  private isDeliveryPlanned = false;
  private isClosedTold = false;
  private closedWith: { readonly error: Error | undefined } | undefined;

  constructor(
    readonly process: SimProcess,
    readonly peer: string,
    private readonly label: string,
    private readonly whenGone: (connection: SimConnection) => void,
  ) {}

  /** Ties two ends together. */
  static join(
    client: SimConnection,
    server: SimConnection,
    links: { readonly there: Link; readonly back: Link },
    chance: SimRandom,
  ): void {
    client.attach(server, links.there, chance.fork("there"));
    server.attach(client, links.back, chance.fork("back"));
  }

  private attach(other: SimConnection, link: Link, chance: SimRandom): void {
    this.other = other;
    const receiver = {
      arrived: (chunk: Uint8Array) => other.arrive(chunk),
      ended: () => other.arriveEnd(),
    };
    this.output = new Pipe(this.process.engine, link, chance, this.label, receiver, (why, side) => {
      this.resetNow(why);
      if (side === "both") other.resetNow(why);
    });
  }

  get peerProcess(): SimProcess {
    return this.other.process;
  }

  setReader(reader: ConnectionReader): void {
    this.reader = reader;
    if (this.closedWith === undefined) this.resume();
    else this.planClosed();
  }

  pause(): void {
    this.isPaused = true;
  }

  resume(): void {
    this.isPaused = false;
    this.planDelivery();
  }

  putBack(bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    const before = this.returnedChunk;
    this.returnedChunk = before === undefined ? bytes.slice() : Buffer.concat([bytes, before]);
    this.planDelivery();
  }

  startTls(options: TlsOptions): Promise<TlsSession> {
    return simulateTls(this, options, this.process);
  }

  write(bytes: Uint8Array): boolean {
    if (this.isClosed || !this.process.isAlive || this.output.isEnding) return false;
    return this.output.write(bytes);
  }

  send(bytes: Uint8Array): Promise<void> {
    if (!this.process.isAlive) return this.process.never();
    if (this.isClosed || this.output.isEnding) return Promise.reject(goneError(this.peer, "it was closed here"));
    return this.output.send(bytes);
  }

  drained(): Promise<void> {
    if (!this.process.isAlive) return this.process.never();
    if (this.isClosed) return Promise.reject(goneError(this.peer, "it was closed here"));
    return this.output.drained();
  }

  end(): void {
    if (this.isClosed || !this.process.isAlive) return;
    this.output.end();
    this.closeWhenBothEnded();
  }

  close(): void {
    if (this.isClosed || !this.process.isAlive) return;
    this.leave();
    this.tellClosed(undefined);
  }

  /** The process dies: its kernel closes the socket, in one of two ways. With `silent`, nobody does. */
  die(isSilent: boolean): void {
    if (this.isClosed) return;
    if (!isSilent) {
      this.leave();
      return;
    }
    this.markClosed();
    this.output.cut(undefined);
  }

  /** RST: whatever is under way is lost, the reader hears it. */
  resetNow(why: string): void {
    if (this.isClosed) return;
    const error = goneError(this.peer, why);
    this.markClosed();
    this.output.cut(this.process.isAlive ? error : undefined);
    this.arrivedChunks.length = 0;
    this.tellClosed(error);
  }

  /** Closes this end as a kernel does: RST when unread bytes are thrown away, else FIN after what is under way. */
  private leave(): void {
    const error = this.process.isAlive ? goneError(this.peer, "it was closed here") : undefined;
    const hasUnread = this.arrivedChunks.length > 0;
    this.markClosed();
    if (!hasUnread) {
      this.output.abandon(error);
      return;
    }
    this.output.cut(error);
    this.arrivedChunks.length = 0;
    this.sendReset();
  }

  private markClosed(): void {
    this.isClosed = true;
    this.whenGone(this);
  }

  private sendReset(): void {
    const { engine } = this.process;
    // A reset that is dropped is not sent again: the peer learns when it sends.
    const reset = () => {
      if (!this.output.isSevered) this.other.resetNow("connection reset by peer (ECONNRESET)");
    };
    engine.schedule(this.process.delay({ minMs: 0.1, maxMs: 1 }), `${this.label} RST`, undefined, reset);
  }

  private arrive(chunk: Uint8Array): void {
    if (this.isClosed) {
      // Data for a closed socket is answered by RST.
      this.sendReset();
      return;
    }
    this.arrivedChunks.push(chunk);
    this.deliver();
  }

  private arriveEnd(): void {
    this.hasEndArrived = true;
    if (this.isClosed) return;
    this.deliver();
  }

  private planDelivery(): void {
    if (this.isDeliveryPlanned || this.isPaused || this.reader === undefined) return;
    const hasData = this.arrivedChunks.length > 0 || this.returnedChunk !== undefined;
    if (!hasData && (!this.hasEndArrived || this.isEndTold)) return;
    this.isDeliveryPlanned = true;
    this.process.engine.schedule(0, `${this.label} resume`, this.process, () => {
      this.isDeliveryPlanned = false;
      this.deliver();
    });
  }

  private deliver(): void {
    if (!this.process.isAlive || this.isDeliveryPlanned) return;
    while (this.reader !== undefined && !this.isPaused && !this.isClosed) {
      const returned = this.returnedChunk;
      if (returned !== undefined) {
        this.returnedChunk = undefined;
        this.reader.data(returned);
        continue;
      }
      const chunk = this.arrivedChunks.shift();
      if (chunk === undefined) break;
      this.other.output.consumed(chunk.length);
      this.reader.data(chunk);
    }
    if (this.isClosed || this.isPaused || this.reader === undefined || this.arrivedChunks.length > 0) return;
    if (this.returnedChunk !== undefined) return;
    if (!this.hasEndArrived || this.isEndTold) return;
    this.isEndTold = true;
    this.reader.end();
    this.closeWhenBothEnded();
  }

  /** Both directions are done: an orderly end, once our FIN is on its way. */
  private closeWhenBothEnded(): void {
    if (this.isClosed || !this.isEndTold || !this.output.isEnding) return;
    this.output.drained().then(
      () => {
        if (this.isClosed) return;
        this.markClosed();
        this.tellClosed(undefined);
      },
      () => {},
    );
  }

  private tellClosed(error: Error | undefined): void {
    this.closedWith ??= { error };
    this.planClosed();
  }

  /** A reader that is set after the end hears of it all the same. */
  private planClosed(): void {
    this.process.engine.schedule(0, `${this.label} closed`, this.process, () => {
      if (this.isClosedTold || this.reader === undefined) return;
      this.isClosedTold = true;
      this.reader.closed(this.closedWith?.error);
    });
  }
}
