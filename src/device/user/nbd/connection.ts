/** @module One NBD connection: handshake, then transmission, with back-pressure and an orderly end. */
import { asWalbError, WalbError } from "../../../errors.ts";
import type { Clock, Timer } from "../../../platform/clock.ts";
import type { Connection, ConnectionReader } from "../../../platform/net.ts";
import type { BlockVolume } from "../block.ts";
import type { NbdExports } from "./exports.ts";
import { Handshake, type HandshakeHost, type Negotiated } from "./handshake.ts";
import { ByteQueue } from "./input.ts";
import type { RoomGates } from "./room.ts";
import type { NbdTls } from "./server.ts";
import type { ClientMemory, MemoryShares } from "./shares.ts";
import { Transmission, type TransmissionHost } from "./transmission.ts";

/** A client must have chosen an export within this time. */
const handshakeMs = 60_000;
/** Where it is required, TLS must be agreed on within this time. */
const tlsMs = 10_000;
/** A client that owes us reading, or payload, for so long holds memory that others may need: it is cut off, … */
const stallMs = 300_000;
/** … and already then when another client of the volume waits for memory. */
const wantedStallMs = 10_000;
/** How often stalled clients are looked at. */
const stallLookMs = 5_000;
/** After our last byte the client has this long to close; also how long a stopping server waits for its reading. A close
 * at once could make the kernel throw away answers on their way. */
const lingerMs = 2_000;

/** What all connections of a server share. */
export interface ConnectionContext {
  readonly memory: MemoryShares;
  readonly clock: Clock;
  readonly rooms: RoomGates;
  readonly exports: NbdExports;
  /** Required before anything else. */
  readonly tls: NbdTls | undefined;
  /** Told once for each connection that was cut off because of what its peer did. */
  readonly onProblem: (error: WalbError) => void;
}

/** A connection of a client; lives until its socket is closed and its requests are finished. */
export class NbdConnection implements ConnectionReader, HandshakeHost, TransmissionHost {
  isBlocked = false;
  private readonly input = new ByteQueue();
  private readonly handshake: Handshake;
  private transmission: Transmission | undefined;
  private memory: ClientMemory | undefined;
  private isPumping = false;
  private isPaused = false;
  private hasPeerEnded = false;
  private isEnding = false;
  private isClosed = false;
  private isOver = false;
  private isProven = false;
  /** No volume is open, or no longer. */
  private isIdle = true;
  private deadline: Timer | undefined;
  private stallTimer: Timer | undefined;
  private drainCount = 0;

  constructor(
    private readonly context: ConnectionContext,
    readonly connection: Connection,
    /** Told when a stopped connection has become idle, and once when nothing of it is left. */
    private readonly events: { idle(): void; gone(): void },
  ) {
    this.handshake = new Handshake(this);
  }

  /** Greets the client and reads. */
  start(): void {
    this.arm(this.isUnproven ? tlsMs : handshakeMs);
    this.handshake.greet();
    this.connection.setReader(this);
    this.connection.resume();
  }

  /** True while nothing is known of the client: anybody can have connected. */
  get isUnproven(): boolean {
    return this.isTlsRequired && !this.isProven;
  }

  get isTlsRequired(): boolean {
    return this.context.tls !== undefined;
  }

  startTls(): void {
    const { tls } = this.context;
    if (tls === undefined || this.isClosed) return;
    // What comes before TLS is anybody's; a client sends nothing until it has our answer.
    if (this.input.availableBytes > 0) {
      this.fail(
        new WalbError("protocol", {
          what: "the client sent more behind its request for TLS, before TLS began",
          where: { step: "NBD handshake" },
          hint: "somebody may be injecting commands: check the network between",
        }),
      );
      return;
    }
    const run = async (): Promise<void> => {
      this.connection.pause();
      await this.connection.drained();
      await this.connection.startTls({
        isServer: true,
        certificate: tls.certificate(),
        peerAuthoritiesPem: tls.authoritiesPem,
        timeoutMs: tlsMs,
      });
      this.isProven = true;
      this.arm(handshakeMs);
      this.handshake.tlsStarted();
      this.connection.resume();
    };
    run().catch((error: unknown) => {
      const { code, what } = asWalbError(error);
      const where = { peer: this.connection.peer, step: "NBD handshake" };
      const hint = "give the client certificates of this daemon's key: walb key certificates DIR";
      // Told even when the connection is known to be gone.
      this.context.onProblem(new WalbError(code, { what, where, hint }));
      this.close();
    });
  }

  get exports(): NbdExports {
    return this.context.exports;
  }

  get rooms(): RoomGates {
    return this.context.rooms;
  }

  /** The volume the client has open; undefined as soon as it is not touched any more. */
  get volume(): BlockVolume | undefined {
    return this.isIdle ? undefined : this.transmission?.volume;
  }

  /** Takes no further request, answers those under way, closes. */
  stop(): void {
    this.arm(lingerMs);
    if (this.transmission === undefined) this.close();
    else this.transmission.stop();
  }

  data(chunk: Uint8Array): void {
    if (this.isEnding || this.isClosed) return;
    this.input.push(chunk);
    this.pump();
  }

  target(): Uint8Array | undefined {
    return this.isEnding || this.isClosed || this.input.availableBytes > 0 ? undefined : this.transmission?.payloadRest;
  }

  filled(sizeBytes: number): void {
    if (this.isEnding || this.isClosed) return;
    this.transmission?.filled(sizeBytes);
    this.pump();
  }

  end(): void {
    this.hasPeerEnded = true;
    if (this.isEnding || this.transmission === undefined) this.close();
    else this.pump();
  }

  closed(): void {
    if (this.isClosed) return;
    this.isClosed = true;
    this.deadline?.cancel();
    this.stallTimer?.cancel();
    this.input.clear();
    // A client that vanishes is not a problem of ours, only its requests have to be finished.
    this.transmission?.gone();
    this.settle();
  }

  write(bytes: Uint8Array): void {
    if (!this.connection.write(bytes)) this.outputFull();
  }

  enter(negotiated: Negotiated): void {
    this.deadline?.cancel();
    this.deadline = undefined;
    this.isIdle = false;
    this.memory = this.context.memory.of(negotiated.volume.name);
    this.transmission = new Transmission(this, negotiated, this.memory);
  }

  outputFull(): void {
    if (this.isBlocked || this.isClosed) return;
    this.isBlocked = true;
    this.watchStall();
    this.connection.drained().then(
      () => {
        this.isBlocked = false;
        this.drainCount++;
        this.pump();
      },
      // Of a socket that is not read, nobody else may tell.
      () => this.close(),
    );
  }

  /** Watches that the client goes on while memory is held for it. */
  watchStall(): void {
    if (this.stallTimer === undefined && !this.isClosed) this.lookForStall(this.progress, 0);
  }

  private lookForStall(progress: number, stalledMs: number): void {
    this.stallTimer = this.context.clock.timer(
      stallLookMs,
      () => {
        this.stallTimer = undefined;
        const isHolding = (this.transmission?.unsentCount ?? 0) > 0 || this.transmission?.isReceiving === true;
        if (!isHolding && !this.isBlocked) return;
        const nowMs = this.progress === progress ? stalledMs + stallLookMs : 0;
        const limitMs = isHolding && this.memory?.isWanted === true ? wantedStallMs : stallMs;
        if (nowMs < limitMs) {
          this.lookForStall(this.progress, nowMs);
          return;
        }
        this.fail(
          new WalbError("timed-out", {
            what: `the client has neither read replies nor sent the rest of its data for ${nowMs / 1000} s`,
            where: { step: "NBD transfer" },
            hint: "check whether the client hangs or the network is down",
          }),
        );
      },
      { unref: true },
    );
  }

  finish(): void {
    if (this.isEnding || this.isClosed) return;
    this.isEnding = true;
    this.input.clear();
    this.connection.end();
    if (this.hasPeerEnded) {
      this.connection.drained().then(
        () => this.close(),
        () => undefined,
      );
    }
    if (this.deadline === undefined) this.arm(lingerMs);
    this.applyPause(false);
  }

  finished(): void {
    this.isIdle = true;
    this.events.idle();
    if (this.isClosed) this.settle();
    else this.finish();
  }

  fail(error: WalbError): void {
    if (this.isClosed) return;
    const volume = this.volume?.name;
    this.context.onProblem(error.at({ peer: this.connection.peer, ...(volume === undefined ? {} : { volume }) }));
    this.close();
  }

  pump(): void {
    if (this.isPumping || this.isClosed || this.isEnding) return;
    this.isPumping = true;
    try {
      this.consume();
    } catch (error) {
      // Nothing a client sends may take the others down; what went wrong is told.
      this.fail(asWalbError(error));
    } finally {
      this.isPumping = false;
    }
    if (!this.isEnding && !this.isClosed) this.applyPause(this.isBlocked || (this.transmission?.isBlocked ?? false));
  }

  /** Grows whenever the client has taken something, or given a piece of payload. */
  private get progress(): number {
    return this.drainCount + (this.transmission?.sentCount ?? 0) + (this.transmission?.receivedCount ?? 0);
  }

  private consume(): void {
    if (this.transmission === undefined) this.handshake.consume(this.input);
    this.transmission?.consume(this.input);
    const isStarved = !this.isBlocked && this.transmission?.isBlocked === false;
    if (this.hasPeerEnded && isStarved) this.transmission?.stop();
  }

  private applyPause(isPaused: boolean): void {
    if (this.isPaused === isPaused) return;
    this.isPaused = isPaused;
    if (isPaused) this.connection.pause();
    else this.connection.resume();
  }

  private arm(delayMs: number): void {
    this.deadline?.cancel();
    this.deadline = this.context.clock.timer(delayMs, () => this.close(), { unref: true });
  }

  private close(): void {
    this.connection.close();
    // Some closes are told at once, some later: either way this is the end of it.
    this.closed();
  }

  private settle(): void {
    if (!this.isClosed || !this.isIdle || this.isOver) return;
    this.isOver = true;
    this.events.gone();
  }
}
