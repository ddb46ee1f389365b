/**
 * @module A connection as values: buffered reading with a synchronous fast path, bulk reads straight into shim memory,
 * batched writing, and a deadline for every step.
 *
 * Reading: `poll(decode)` gives a value at once when its bytes are buffered; `read(step, decode)` waits for it. Bulk data
 * goes through `readInto`, without a copy in between. Writing: `put` batches small values, `sendBulk` sends memory
 * without copying, `flush` waits for the socket. A read that has to wait flushes first, so a request is never stuck here.
 *
 * At most one reader and one writer use a stream at a time; they may be different tasks.
 */
import { assert, asWalbError, WalbError } from "../errors.ts";
import type { Memory } from "../native/memory.ts";
import type { Clock } from "../platform/clock.ts";
import type { Connection } from "../platform/net.ts";
import { ReadWait, type Waiter } from "./read-wait.ts";
import { ReceiveBuffer } from "./receive-buffer.ts";
import { type Decoder, Encoder } from "./serializer.ts";
import { peerGone, tookTooLong } from "./stream-errors.ts";
import { ValueReader } from "./value-reader.ts";
import { ackWord } from "./words.ts";

/** Progress that renews the deadline of a bulk transfer. */
const bulkProgressBytes = 64 * 1024;
/** Unit in which bulk data is given to the socket; each has a deadline of its own. */
const sendUnitBytes = 256 * 1024;
/** Batched output above which a flush is due. */
const flushDueBytes = 64 * 1024;
/** Payloads up to this size are copied into the batch instead of being sent on their own. */
const copyBytesMax = 16 * 1024;

export interface WireStreamOptions {
  readonly clock: Clock;
  /** How long one step may take: a value, 64 KiB of bulk data, 256 KiB taken by the socket. Default 10 s; 0 is none
   * (keep-alive mode). */
  readonly deadlineMs?: number;
  /** How long the peer may take to make something durable before its Ack. Default 120 s; 0 is none. */
  readonly commitDeadlineMs?: number;
  /** Shown in errors; default `connection.peer`. */
  readonly peerName?: string;
}

/** A {@link Connection} as a stream of values. Takes over the connection's reader. */
export class WireStream extends ValueReader {
  /** Who is on the other side, for errors; the handshake refines it. */
  peerName: string;
  /** True while the peer waits for a confirmation string, so that an error can still be told as text. */
  confirmationDue = false;
  readonly clock: Clock;
  readonly connection: Connection;
  /** See {@link WireStreamOptions.commitDeadlineMs}. */
  readonly commitDeadlineMs: number;
  readonly #deadlineMs: number;
  readonly #in: ReceiveBuffer;
  readonly #out = new Encoder(8 * 1024);
  readonly #wait: ReadWait;
  #failure: WalbError | undefined;
  #isWriteEnded = false;
  #readBytes = 0;
  #writtenBytes = 0;

  /** @param initial bytes that were already read from the connection. */
  constructor(connection: Connection, options: WireStreamOptions, initial?: Uint8Array) {
    super();
    this.connection = connection;
    this.clock = options.clock;
    this.peerName = options.peerName ?? connection.peer;
    this.#deadlineMs = options.deadlineMs ?? 10_000;
    this.commitDeadlineMs = options.commitDeadlineMs ?? 120_000;
    this.#wait = new ReadWait(this.clock, {
      // A thread that fills memory tells of it in the end alone.
      look: () => connection.readNow?.(),
      late: ({ step, deadlineMs: lateMs }) => {
        this.#fail(tookTooLong(this.peerName, step, lateMs, "nothing complete arrived from the peer"));
      },
    });
    this.#in = new ReceiveBuffer({
      pause: () => connection.pause(),
      resume: () => connection.resume(),
      wanted: () => connection.readNow?.(),
      arrived: (sizeBytes) => this.#arrived(sizeBytes),
      over: () => {
        this.#checkWaiter();
        // Nobody waits from now on: without this, a timer would hold all of it until it fires.
        this.#wait.cancelTimer();
      },
    });
    if (initial !== undefined) this.#in.data(initial);
    connection.setReader(this.#in);
    connection.resume();
  }

  /** Bytes received from the peer so far. */
  get readBytes(): number {
    return this.#readBytes;
  }

  /** Bytes handed to the connection so far. */
  get writtenBytes(): number {
    return this.#writtenBytes;
  }

  /** Why the stream cannot be used any more, when it cannot. */
  get failure(): WalbError | undefined {
    return this.#failure;
  }

  /** True when the peer half-closed or is gone, and all it sent was read. */
  get isAtEnd(): boolean {
    return this.#in.isOver && this.#in.bufferedBytes === 0;
  }

  /** True while a reader waits for bytes of the peer. */
  get isReading(): boolean {
    return this.#wait.current !== undefined;
  }

  /** True behind {@link endWrite}: all there is to say was said. */
  get isWriteEnded(): boolean {
    return this.#isWriteEnded;
  }

  /** True when unread bytes are buffered. */
  get hasBuffered(): boolean {
    return this.#in.bufferedBytes > 0;
  }

  /**
   * One value when all its bytes are buffered, else undefined and nothing is consumed. `decode` must not return undefined.
   * @throws WalbError `protocol` for a value that cannot be.
   */
  poll<T>(decode: (decoder: Decoder) => T): T | undefined {
    if (this.#failure !== undefined) throw this.#failure;
    try {
      return this.#in.decode(decode);
    } catch (error) {
      throw asWalbError(error, { peer: this.peerName });
    }
  }

  /**
   * One value; `step` says what it is in errors: "the answer of full-sync".
   * @throws WalbError `timed-out`, `unreachable` when the peer went away, `protocol` for a value that cannot be.
   */
  async read<T>(step: string, decode: (decoder: Decoder) => T, deadlineMs: number = this.#deadlineMs): Promise<T> {
    const deadlineAtMs = this.#wait.deadlineAtMs(deadlineMs);
    for (;;) {
      let value: T | undefined;
      try {
        value = this.poll(decode);
      } catch (error) {
        throw asWalbError(error, { step });
      }
      if (value !== undefined) return value;
      await this.#until(step, this.#in.neededBytes, deadlineMs, deadlineAtMs);
    }
  }

  /** Fills `target` when that many bytes are buffered; else does nothing and answers false. */
  tryReadInto(target: Uint8Array): boolean {
    if (this.#failure !== undefined) throw this.#failure;
    return this.#in.tryTake(target);
  }

  /** Fills `target` with the next bytes: chunks of the socket are copied straight into it. */
  readInto(target: Uint8Array, step: string): Promise<void> {
    return this.#readBulk(target, undefined, step);
  }

  /** As {@link readInto}, for memory of the shim: a thread may fill it. It must stay until this has settled. */
  readMemory(target: Memory, step: string): Promise<void> {
    return this.#readBulk(target.bytes, target.address, step);
  }

  async #readBulk(target: Uint8Array, address: number | undefined, step: string): Promise<void> {
    if (this.tryReadInto(target)) return;
    if (this.#in.setTarget(target, address)) {
      this.#in.clearTarget();
      return;
    }
    try {
      await this.#until(step, 0, this.#deadlineMs, this.#wait.deadlineAtMs(this.#deadlineMs));
    } finally {
      this.#in.clearTarget();
    }
  }

  /** Appends small values to the batch; nothing is sent before {@link flush}, a full batch, or a read that waits. */
  put(write: (encoder: Encoder) => void): void {
    write(this.#out);
    if (this.#out.sizeBytes >= 4 * flushDueBytes) this.#push();
  }

  /** True when the batch is large enough that the writer should await {@link flush} before it puts more. */
  get isFlushDue(): boolean {
    return this.#out.sizeBytes >= flushDueBytes;
  }

  /** Copies a payload of up to 16 KiB into the batch; false when it is larger and must go through {@link sendBulk}. */
  tryPutBulk(bytes: Uint8Array): boolean {
    if (bytes.length > copyBytesMax) return false;
    this.#out.raw(bytes);
    return true;
  }

  /** Gives all that was put to the socket, and waits while its queue is full. */
  async flush(step = "sending"): Promise<void> {
    this.#checkWritable(step);
    if (this.#push()) return;
    await this.#bounded(this.connection.drained(), step);
  }

  /** Sends memory behind all that was put, without copying; the bytes may be reused when it resolves. */
  async sendBulk(bytes: Uint8Array, step: string): Promise<void> {
    this.#checkWritable(step);
    if (this.tryPutBulk(bytes)) {
      if (this.isFlushDue) await this.flush(step);
      return;
    }
    this.#push();
    for (let at = 0; at < bytes.length; at += sendUnitBytes) {
      const part = bytes.subarray(at, Math.min(at + sendUnitBytes, bytes.length));
      this.#writtenBytes += part.length;
      await this.#bounded(this.connection.send(part), step);
    }
  }

  /** Sends an Ack and waits for the socket to take it. */
  async sendAck(step = "sending the Ack"): Promise<void> {
    this.put((encoder) => encoder.u32(ackWord));
    await this.flush(step);
  }

  /** Half-closes: all that was put goes out, then FIN. Reading goes on. Idempotent. */
  endWrite(): void {
    if (this.#isWriteEnded || this.connection.isClosed) return;
    this.#push();
    this.#isWriteEnded = true;
    this.connection.end();
  }

  /**
   * Ends a served connection: half-closes, throws away what the peer still sends so that it reads our last bytes instead
   * of a reset, and closes when the peer does, or after `timeoutMs`. Never throws; no work may depend on it.
   */
  async finish(timeoutMs = 3_000): Promise<void> {
    if (this.#failure === undefined) this.endWrite();
    this.#in.discard();
    if (!this.#in.isOver && !this.connection.isClosed && this.#failure === undefined) {
      await new Promise<void>((resolve) => {
        const timer = this.clock.timer(timeoutMs, resolve);
        this.#in.whenOver(() => {
          timer.cancel();
          resolve();
        });
      });
    }
    this.close();
  }

  /** Closes at once. Whoever waits gets the error, by default `cancelled`. Idempotent. */
  close(error?: WalbError): void {
    this.#fail(
      error ?? new WalbError("cancelled", { what: "the connection was closed here", where: { peer: this.peerName } }),
    );
  }

  /** A violation of the protocol by the peer. */
  protocolError(step: string, what: string): WalbError {
    return new WalbError("protocol", { what, where: { peer: this.peerName, step } });
  }

  /** Fails the stream with an error and returns the first one it failed with. */
  #fail(error: WalbError): WalbError {
    if (this.#failure === undefined) {
      this.#failure = error;
      this.#wait.cancelTimer();
      this.connection.close();
      this.#in.abandon();
      this.#takeWaiter()?.reject(error);
    }
    return error;
  }

  #checkWritable(step: string): void {
    if (this.#failure !== undefined) throw this.#failure;
    if (this.connection.isClosed) throw this.#fail(this.#gone(step));
  }

  #push(): boolean {
    if (this.#out.sizeBytes === 0) return true;
    assert(!this.#isWriteEnded, "nothing is written after the half-close");
    this.#writtenBytes += this.#out.sizeBytes;
    const hasRoom = this.connection.write(this.#out.view());
    this.#out.clear();
    return hasRoom;
  }

  /** Waits for so many bytes in the buffer, or, with a bulk target, until that is full. */
  async #until(step: string, neededBytes: number, deadlineMs: number, deadlineAtMs: number): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure;
    assert(this.#wait.current === undefined, "one task reads a stream at a time");
    this.#push();
    await new Promise<void>((resolve, reject) => {
      this.#wait.begin({ step, neededBytes, deadlineMs, deadlineAtMs, resolve, reject });
      this.#in.resumeIfLow();
      this.#in.want(true);
      this.#checkWaiter();
    });
  }

  #arrived(sizeBytes: number): void {
    this.#readBytes += sizeBytes;
    this.#checkWaiter();
  }

  /** Wakes the waiting reader when what it needs is here or can never come. */
  #checkWaiter(): void {
    const waiter = this.#wait.current;
    if (waiter === undefined) return;
    const target = this.#in.targetRestBytes;
    if (target === undefined ? this.#in.bufferedBytes >= waiter.neededBytes : target === 0) {
      this.#takeWaiter();
      waiter.resolve();
    } else if (this.#in.isOver) {
      this.#takeWaiter();
      waiter.reject(this.#fail(this.#gone(waiter.step)));
    } else if (target !== undefined && this.#in.progressBytes >= bulkProgressBytes && waiter.deadlineMs > 0) {
      this.#in.progressBytes = 0;
      this.#wait.renew();
    }
  }

  /** Whoever waits gets its answer now: nothing more is read for it. */
  #takeWaiter(): Waiter | undefined {
    this.#in.want(false);
    return this.#wait.end();
  }

  #gone(step: string): WalbError {
    return peerGone(this.peerName, step, this.#in.closeError);
  }

  /** Waits for the socket to take bytes, for at most a step's deadline. */
  async #bounded(work: Promise<void>, step: string): Promise<void> {
    const deadlineMs = this.#deadlineMs;
    const timer =
      deadlineMs === 0
        ? undefined
        : this.clock.timer(deadlineMs, () => {
            this.#fail(tookTooLong(this.peerName, step, deadlineMs, "the peer took no data"));
          });
    try {
      await work;
    } catch (error) {
      throw this.#failure ?? this.#fail(asWalbError(error, { peer: this.peerName, step }));
    } finally {
      timer?.cancel();
    }
    if (this.#failure !== undefined) throw this.#failure;
  }
}
