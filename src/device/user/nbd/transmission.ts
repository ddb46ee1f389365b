/** @module The transmission half of an NBD connection: requests in, volume operations, replies out. */
import { asWalbError, WalbError } from "../../../errors.ts";
import type { Connection, Entrusted } from "../../../platform/net.ts";
import { alignUp } from "../../../units.ts";
import type { AllocationExtent, BlockVolume, Done, LeaveAnswer } from "../block.ts";
import type { Negotiated } from "./handshake.ts";
import type { ByteQueue } from "./input.ts";
import { commandFlags, commands, errors, requestBytes, requestMagic, u32At } from "./protocol.ts";
import { ReplyWriter } from "./replies.ts";
import { decodeRequest, errorNumber, type Request, refusal } from "./request.ts";
import type { RoomGates } from "./room.ts";
import type { ClientLease, ClientMemory } from "./shares.ts";

/** Bounds of one connection: requests under way, and the payload they hold. */
const maxInFlight = 256;
const maxInFlightBytes = 64 * 1024 * 1024;
/** WRITE_ZEROES (up to 4 GiB) goes to the volume in pieces, so that its log and its readers keep up. */
const zeroPieceBytes = 8 * 1024 * 1024;
/** Most of a volume that one BLOCK_STATUS looks at: bounds the extents of an answer. A shorter answer is allowed. */
const maxStatusBytes = 1024 * 1024 * 1024;

/** The connection as the transmission sees it. */
export interface TransmissionHost {
  readonly connection: Connection;
  readonly rooms: RoomGates;
  /** True while the peer does not read replies. */
  readonly isBlocked: boolean;
  /** Replies pile up: block until the peer has read them. */
  outputFull(): void;
  /** The peer owes us reading, or the rest of a payload, while memory is held: see to it that it goes on. */
  watchStall(): void;
  /** Calls consume() again. */
  pump(): void;
  /** Everything asked is answered after DISC, end of stream or stop(). */
  finished(): void;
  fail(error: WalbError): void;
}

/** Parses requests and performs them; at most one request waits (for room or memory), and then nothing is read. */
export class Transmission {
  readonly volume: BlockVolume;
  private state: "header" | "ready" | "payload" | "drain" | "waiting" | "stopped" = "header";
  private request: Request | undefined;
  private lease: ClientLease | undefined;
  private filledBytes = 0;
  /** Grows with each piece of payload: how a client that stops in the middle is noticed. */
  receivedCount = 0;
  private drainError = errors.none as number;
  private inFlight = 0;
  private inFlightBytes = 0;
  private isGone = false;
  private isFinished = false;
  private stopWaiting: (() => void) | undefined;
  private readonly replies: ReplyWriter;

  constructor(
    private readonly host: TransmissionHost,
    private readonly negotiated: Negotiated,
    private readonly memory: ClientMemory,
  ) {
    this.volume = negotiated.volume;
    this.replies = new ReplyWriter(host.connection, negotiated.isStructured, host);
  }

  /** Data sent so far and still to be sent, in replies: how a stalled client is noticed. */
  get sentCount(): number {
    return this.replies.sentCount;
  }

  get unsentCount(): number {
    return this.replies.unsentCount;
  }

  /** True while a write waits for the rest of its payload. */
  get isReceiving(): boolean {
    return this.state === "payload";
  }

  /** Where the rest of a write's payload belongs, while one is waited for. */
  get payloadRest(): Uint8Array | undefined {
    if (this.state !== "payload" || this.lease === undefined) return undefined;
    const { sizeBytes } = this.request!;
    const { bytes } = this.lease;
    return this.filledBytes === 0 && sizeBytes === bytes.length ? bytes : bytes.subarray(this.filledBytes, sizeBytes);
  }

  /** So much of {@link payloadRest} has come. */
  filled(sizeBytes: number): void {
    this.filledBytes += sizeBytes;
  }

  /** True when more input would only be kept: the socket is not to be read. */
  get isBlocked(): boolean {
    return this.state === "waiting" || this.state === "stopped" || (this.state === "header" && this.isFull);
  }

  /** Takes what can be taken. */
  consume(input: ByteQueue): void {
    while (!this.host.isBlocked) {
      switch (this.state) {
        case "header":
          if (this.isFull || !input.ensure(requestBytes)) return;
          if (!this.header(input)) return;
          break;
        case "ready":
          this.begin();
          break;
        case "payload":
          if (!this.payload(input)) return;
          break;
        case "drain":
          this.filledBytes += input.skip(this.request!.sizeBytes - this.filledBytes);
          if (this.filledBytes < this.request!.sizeBytes) return;
          this.replies.simple(this.request!, this.drainError);
          this.state = "header";
          break;
        default:
          return;
      }
    }
  }

  /** Takes no further request; finished() is called when those under way are answered. */
  stop(): void {
    if (this.state !== "stopped") {
      this.state = "stopped";
      this.dropWaiting();
    }
    this.settle();
  }

  /** The connection is gone: nobody hears replies. */
  gone(): void {
    this.isGone = true;
    this.replies.close();
    this.stop();
  }

  private get isFull(): boolean {
    return this.inFlight >= maxInFlight || this.inFlightBytes >= maxInFlightBytes;
  }

  private header(input: ByteQueue): boolean {
    const { bytes, at } = input;
    if (u32At(bytes, at) !== requestMagic) {
      this.host.fail(
        new WalbError("protocol", {
          what: `a request starts with 0x${u32At(bytes, at).toString(16)} instead of its magic number`,
          where: { volume: this.volume.name, step: "NBD request" },
          hint: "check the client: it lost count of what it sent",
        }),
      );
      return false;
    }
    const request = decodeRequest(bytes, at);
    input.skip(requestBytes);
    this.request = request;
    if (request.type === commands.disc) {
      this.stop();
      return false;
    }
    const { volume, negotiated } = this;
    const refused = refusal(request, {
      volumeBytes: volume.sizeBytes,
      isReadOnly: volume.readOnlyReason !== undefined,
      isStructured: negotiated.isStructured,
      hasAllocationContext: negotiated.hasAllocationContext,
    });
    if (refused === undefined) {
      this.state = "ready";
    } else if (request.type === commands.write) {
      this.drainError = refused.error;
      this.filledBytes = 0;
      this.state = "drain";
    } else if (request.type === commands.read || request.type === commands.blockStatus) {
      this.replies.failure(request, refused.error, refused.why);
    } else {
      this.replies.simple(request, refused.error);
    }
    return true;
  }

  /** Starts the request, or waits for room or memory. */
  private begin(): void {
    const request = this.request!;
    const { type, sizeBytes, offsetBytes } = request;
    const isWriting = type === commands.write || type === commands.trim || type === commands.writeZeroes;
    if (isWriting && !hasRoom(this.volume)) {
      this.state = "waiting";
      this.stopWaiting = this.host.rooms.wait(this.volume, () => this.goOn());
      return;
    }
    if (type === commands.write || type === commands.read) {
      // A whole block more than asked at most: the engine pads the last block of a write.
      const leaseBytes = type === commands.write ? alignUp(sizeBytes, this.volume.preferredBlockBytes) : sizeBytes;
      this.lease ??= this.memory.tryLease(leaseBytes);
      if (this.lease === undefined) {
        this.awaitLease(leaseBytes);
        return;
      }
    }
    const isFua = (request.flags & commandFlags.fua) !== 0;
    this.state = "header";
    switch (type) {
      case commands.write:
        this.filledBytes = 0;
        this.state = "payload";
        return;
      case commands.read:
        this.startRead(request);
        return;
      case commands.flush:
        this.start(0);
        this.durable(request, 0, (done, leaveAnswer) => this.volume.flush(done, leaveAnswer));
        return;
      case commands.trim:
        this.start(0);
        this.volume.discard(offsetBytes, sizeBytes, isFua, (error) => this.done(request, 0, error));
        return;
      case commands.writeZeroes:
        this.start(0);
        this.zeroPiece(request, offsetBytes, isFua);
        return;
      case commands.blockStatus:
        this.start(0);
        this.blockStatus(request);
        return;
      default:
        // CACHE: reading ahead would only warm the page cache of a store that is read directly.
        this.replies.simple(request, errors.none);
    }
  }

  private payload(input: ByteQueue): boolean {
    const request = this.request!;
    const lease = this.lease!;
    const { sizeBytes } = request;
    this.filledBytes += input.copyInto(lease.bytes, this.filledBytes, sizeBytes - this.filledBytes);
    if (this.filledBytes < sizeBytes) {
      this.receivedCount++;
      this.host.watchStall();
      return false;
    }
    this.lease = undefined;
    this.state = "header";
    this.start(sizeBytes);
    lease.handOver();
    const { offsetBytes } = request;
    if ((request.flags & commandFlags.fua) === 0) {
      this.volume.write(offsetBytes, sizeBytes, lease, false, (error) => this.done(request, sizeBytes, error));
    } else {
      this.durable(request, sizeBytes, (done, leaveAnswer) =>
        this.volume.write(offsetBytes, sizeBytes, lease, true, done, leaveAnswer),
      );
    }
    return true;
  }

  /** Runs a request that ends by a sync, whose reply that may send: so the client waits for one wake-up less. */
  private durable(request: Request, sizeBytes: number, run: (done: Done, leaveAnswer: LeaveAnswer) => void): void {
    let reply: Entrusted | undefined;
    run(
      (error) => {
        if (reply === undefined || reply.takeBack()) this.done(request, sizeBytes, error);
        else this.end(sizeBytes);
      },
      (sync) => {
        reply = this.replies.entrust(request, sync);
      },
    );
  }

  private startRead(request: Request): void {
    const lease = this.lease!;
    const { offsetBytes, sizeBytes } = request;
    this.lease = undefined;
    this.start(sizeBytes);
    const target = lease.sizeBytes === sizeBytes ? lease : lease.slice(0, sizeBytes);
    this.volume.read(offsetBytes, target, (error) => {
      if (error !== undefined || this.isGone) {
        lease.release();
        if (error !== undefined) this.replies.failure(request, errorNumber(error.code), error.what);
        this.end(sizeBytes);
        return;
      }
      this.replies.data(request, offsetBytes, sizeBytes, lease, () => this.end(sizeBytes));
    });
  }

  private zeroPiece(request: Request, offsetBytes: number, isFua: boolean): void {
    const endBytes = request.offsetBytes + request.sizeBytes;
    const sizeBytes = Math.min(zeroPieceBytes, endBytes - offsetBytes);
    const isWhole = sizeBytes === request.sizeBytes;
    this.volume.writeZeroes(offsetBytes, sizeBytes, isFua && isWhole, (error) => {
      const nextBytes = offsetBytes + sizeBytes;
      if (error !== undefined || (nextBytes === endBytes && (isWhole || !isFua))) {
        this.done(request, 0, error);
      } else if (nextBytes === endBytes) {
        // One flush makes all pieces durable, whatever order they took.
        this.volume.flush((failure) => this.done(request, 0, failure));
      } else if (this.isGone) {
        this.end(0);
      } else if (hasRoom(this.volume)) {
        this.zeroPiece(request, nextBytes, isFua);
      } else {
        this.host.rooms.wait(this.volume, () => this.zeroPiece(request, nextBytes, isFua));
      }
    });
  }

  private blockStatus(request: Request): void {
    const isOne = (request.flags & commandFlags.reqOne) !== 0;
    this.volume.allocation(request.offsetBytes, Math.min(request.sizeBytes, maxStatusBytes)).then(
      (extents: AllocationExtent[]) => {
        this.replies.status(request, isOne ? extents.slice(0, 1) : extents);
        this.end(0);
      },
      (cause: unknown) => {
        const error = asWalbError(cause);
        this.replies.failure(request, errorNumber(error.code), error.what);
        this.end(0);
      },
    );
  }

  private awaitLease(leaseBytes: number): void {
    this.state = "waiting";
    let isDropped = false;
    this.stopWaiting = () => {
      isDropped = true;
    };
    this.memory.lease(leaseBytes).then(
      (lease) => {
        if (isDropped) {
          lease.release();
          return;
        }
        this.lease = lease;
        this.goOn();
      },
      (cause: unknown) => {
        if (!isDropped) this.host.fail(asWalbError(cause, { volume: this.volume.name, step: "NBD request" }));
      },
    );
  }

  private goOn(): void {
    this.stopWaiting = undefined;
    if (this.state !== "waiting") return;
    this.state = "ready";
    this.host.pump();
  }

  private dropWaiting(): void {
    this.stopWaiting?.();
    this.stopWaiting = undefined;
    this.lease?.release();
    this.lease = undefined;
  }

  private start(sizeBytes: number): void {
    this.inFlight++;
    this.inFlightBytes += sizeBytes;
  }

  private done(request: Request, sizeBytes: number, error: WalbError | undefined): void {
    this.replies.simple(request, error === undefined ? errors.none : errorNumber(error.code));
    this.end(sizeBytes);
  }

  private end(sizeBytes: number): void {
    const wasFull = this.isFull;
    this.inFlight--;
    this.inFlightBytes -= sizeBytes;
    if (this.state === "stopped") this.settle();
    else if (wasFull && !this.isFull) this.host.pump();
  }

  private settle(): void {
    if (this.isFinished || this.inFlight > 0) return;
    this.isFinished = true;
    this.replies.flush();
    this.host.finished();
  }
}

/** True when a write need not wait; a volume that takes no more writes refuses them at once. */
function hasRoom(volume: BlockVolume): boolean {
  return volume.roomBytes > 0 || volume.readOnlyReason !== undefined;
}
