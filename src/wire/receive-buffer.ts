/**
 * @module What a connection has received and nobody has read yet: a bounded list of chunks, decoded in place.
 */
import { assert, WalbError } from "../errors.ts";
import type { ConnectionReader } from "../platform/net.ts";
import { Decoder, ShortRead } from "./serializer.ts";

/** Above this the connection is paused; one more chunk may still come. */
const highBytes = 2 * 1024 * 1024;
/** Below this it is resumed. */
const lowBytes = 1024 * 1024;

/** Smaller buffers are left to the garbage collector. */
const giveBackBytesMin = 16 * 1024;

/** Whether a chunk is all of its buffer, so that nobody else can be using that. */
function isWholeBuffer(chunk: Uint8Array): boolean {
  return chunk.byteLength === chunk.buffer.byteLength && chunk.byteLength >= giveBackBytesMin;
}

/**
 * Frees the memory of a used buffer now. The collector does not see how large socket buffers are: without this, hundreds
 * of MiB pile up before it runs.
 */
function giveBack(buffer: ArrayBufferLike): void {
  if (buffer instanceof ArrayBuffer) buffer.transfer(0);
}

export interface ReceiveBufferEvents {
  pause(): void;
  resume(): void;
  /** Bytes are wanted again: those that have arrived are to be brought at once, if that is possible. */
  wanted(): void;
  /** Bytes came, in the buffer or the bulk target. */
  arrived(sizeBytes: number): void;
  /** No more bytes will come. */
  over(): void;
}

/** Buffers chunks; copies straight into a bulk target while one is set. */
export class ReceiveBuffer implements ConnectionReader {
  /** Bytes copied into bulk targets since somebody set this to 0. */
  progressBytes = 0;
  /** Bytes the value needs that {@link decode} could not give. */
  neededBytes = 1;
  /** Why the connection broke, when it did. */
  closeError: Error | undefined;
  readonly #events: ReceiveBufferEvents;
  /** Chunks behind the head. */
  readonly #chunks: Uint8Array[] = [];
  /** Buffers that arrived as one chunk and are all ours: their memory is given back as soon as they are used up. */
  readonly #owned = new Set<ArrayBufferLike>();
  /** Index of the first chunk of `#chunks` not used yet: shifting an array is not free. */
  #chunkAt = 0;
  #head: Uint8Array = new Uint8Array(0);
  #decoder = new Decoder(this.#head);
  #bufferedBytes = 0;
  #target: Uint8Array | undefined;
  /** Where the target lies, when it is memory of the shim. */
  #targetAddress: number | undefined;
  #targetUsed = 0;
  #isOver = false;
  #isPaused = false;
  #isDiscarding = false;
  /** Somebody waits for a value. */
  #isWanted = false;
  #onOver: (() => void) | undefined;

  constructor(events: ReceiveBufferEvents) {
    this.#events = events;
  }

  get bufferedBytes(): number {
    return this.#bufferedBytes;
  }

  /** True when nothing more will come. */
  get isOver(): boolean {
    return this.#isOver;
  }

  /** Bytes still missing in the bulk target, undefined when none is set. */
  get targetRestBytes(): number | undefined {
    return this.#target === undefined ? undefined : this.#target.length - this.#targetUsed;
  }

  data(chunk: Uint8Array): void {
    if (this.#isDiscarding || chunk.length === 0) return;
    let rest = chunk;
    // Measured now: a buffer that was given back has no length any more.
    const arrivedBytes = chunk.length;
    const isOwned = isWholeBuffer(chunk);
    if (this.#target !== undefined) {
      const takeBytes = Math.min(this.#target.length - this.#targetUsed, chunk.length);
      this.#target.set(takeBytes === chunk.length ? chunk : chunk.subarray(0, takeBytes), this.#targetUsed);
      this.#targetUsed += takeBytes;
      this.progressBytes += takeBytes;
      rest = chunk.subarray(takeBytes);
    }
    if (rest.length === 0) {
      if (isOwned) giveBack(chunk.buffer);
    } else {
      if (isOwned) this.#owned.add(chunk.buffer);
      this.#bufferedBytes += rest.length;
      if (this.#head.length === this.#decoder.offsetBytes) this.#setHead(rest);
      else this.#chunks.push(rest);
      if (this.#bufferedBytes > highBytes && !this.#isPaused) {
        this.#isPaused = true;
        this.#events.pause();
      }
    }
    this.#events.arrived(arrivedBytes);
  }

  target(): Uint8Array | "nothing" | undefined {
    if (this.#isDiscarding) return undefined;
    if (this.#target === undefined) return this.#isWanted ? undefined : "nothing";
    return this.#targetUsed < this.#target.length ? this.#target.subarray(this.#targetUsed) : "nothing";
  }

  targetAddress(): number | undefined {
    return this.#targetAddress === undefined ? undefined : this.#targetAddress + this.#targetUsed;
  }

  filled(sizeBytes: number): void {
    if (this.#isDiscarding) return;
    this.#targetUsed += sizeBytes;
    this.progressBytes += sizeBytes;
    this.#events.arrived(sizeBytes);
  }

  end(): void {
    this.#finish();
  }

  closed(error: Error | undefined): void {
    this.closeError ??= error;
    this.#finish();
  }

  /** Calls back when nothing more will come. */
  whenOver(callback: () => void): void {
    if (this.#isOver) callback();
    else this.#onOver = callback;
  }

  /** Throws away what is buffered and what still comes. */
  discard(): void {
    this.abandon();
    this.resumeIfLow();
    this.#events.wanted();
  }

  /** Forgets everything: the stream has failed. */
  abandon(): void {
    this.#isDiscarding = true;
    this.#target = undefined;
    this.#chunks.length = 0;
    this.#chunkAt = 0;
    this.#bufferedBytes = 0;
    this.#owned.clear();
    this.#setHead(new Uint8Array(0));
  }

  /** One value, or undefined when it is not complete; then `neededBytes` says how much it takes at least. */
  decode<T>(decode: (decoder: Decoder) => T): T | undefined {
    const mark = this.#decoder.offsetBytes;
    try {
      const value = decode(this.#decoder);
      this.#bufferedBytes -= this.#decoder.offsetBytes - mark;
      this.#advance();
      return value;
    } catch (error) {
      this.#decoder.seek(mark);
      if (!(error instanceof ShortRead)) throw error;
      return this.#decodeAcross(decode, error.neededBytes - mark);
    }
  }

  /** Fills `target` when that much is buffered. */
  tryTake(target: Uint8Array): boolean {
    if (target.length > this.#bufferedBytes) return false;
    this.#take(target, target.length);
    return true;
  }

  /** Asks for bytes for a value, or no longer. */
  want(isWanted: boolean): void {
    if (this.#isWanted === isWanted) return;
    this.#isWanted = isWanted;
    if (isWanted) this.#events.wanted();
  }

  /**
   * Moves what is buffered into `target`, and what has arrived, where the connection can; chunks go straight into the
   * rest of it. @param address of memory of the shim, which stays until the target is full or the connection is closed.
   * @returns true when it is full.
   */
  setTarget(target: Uint8Array, address: number | undefined): boolean {
    assert(this.#target === undefined, "one bulk target at a time");
    this.#targetUsed = Math.min(target.length, this.#bufferedBytes);
    this.#take(target, this.#targetUsed);
    this.#target = target;
    this.#targetAddress = address;
    this.progressBytes = 0;
    this.#events.wanted();
    return this.#targetUsed === target.length;
  }

  clearTarget(): void {
    this.#target = undefined;
  }

  /** Lets the socket go on when there is room. */
  resumeIfLow(): void {
    if (!this.#isPaused || this.#bufferedBytes >= lowBytes) return;
    this.#isPaused = false;
    this.#events.resume();
  }

  /** A value that spans chunks: gathers just its bytes, never whole chunks. */
  #decodeAcross<T>(decode: (decoder: Decoder) => T, firstNeededBytes: number): T | undefined {
    let neededBytes = firstNeededBytes;
    while (neededBytes <= this.#bufferedBytes) {
      const decoder = new Decoder(this.#peek(neededBytes));
      try {
        const value = decode(decoder);
        this.#skip(decoder.offsetBytes);
        return value;
      } catch (error) {
        if (!(error instanceof ShortRead)) throw error;
        neededBytes = error.neededBytes;
      }
    }
    if (neededBytes > highBytes) {
      throw new WalbError("protocol", { what: `a value of ${neededBytes} bytes is more than fits the receive buffer` });
    }
    this.neededBytes = neededBytes;
    return undefined;
  }

  #peek(sizeBytes: number): Uint8Array {
    const bytes = new Uint8Array(sizeBytes);
    const first = this.#head.subarray(this.#decoder.offsetBytes).subarray(0, sizeBytes);
    bytes.set(first);
    let used = first.length;
    for (let i = this.#chunkAt; used < sizeBytes; i++) {
      const part = this.#chunks[i]!.subarray(0, sizeBytes - used);
      bytes.set(part, used);
      used += part.length;
    }
    return bytes;
  }

  #skip(sizeBytes: number): void {
    this.#bufferedBytes -= sizeBytes;
    let rest = sizeBytes;
    for (;;) {
      const inHead = this.#head.length - this.#decoder.offsetBytes;
      const step = Math.min(rest, inHead);
      this.#decoder.seek(this.#decoder.offsetBytes + step);
      rest -= step;
      this.#advance();
      if (rest === 0) return;
    }
  }

  #take(target: Uint8Array, sizeBytes: number): void {
    this.#bufferedBytes -= sizeBytes;
    let used = 0;
    while (used < sizeBytes) {
      const at = this.#decoder.offsetBytes;
      const part = this.#head.subarray(at, Math.min(this.#head.length, at + sizeBytes - used));
      target.set(part, used);
      used += part.length;
      this.#decoder.seek(at + part.length);
      this.#advance();
    }
    this.resumeIfLow();
  }

  /** Goes to the next chunk when the head is used up. */
  #advance(): void {
    if (this.#decoder.offsetBytes < this.#head.length) return;
    const next = this.#chunks[this.#chunkAt];
    if (next === undefined) return;
    this.#chunkAt += 1;
    if (this.#chunkAt === this.#chunks.length) {
      this.#chunks.length = 0;
      this.#chunkAt = 0;
    } else if (this.#chunkAt === 1024) {
      this.#chunks.splice(0, 1024);
      this.#chunkAt = 0;
    }
    this.#setHead(next);
  }

  #setHead(chunk: Uint8Array): void {
    const used = this.#head.buffer;
    this.#head = chunk;
    this.#decoder = new Decoder(chunk);
    if (used !== chunk.buffer && this.#owned.delete(used)) giveBack(used);
  }

  #finish(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#events.over();
    const onOver = this.#onOver;
    this.#onOver = undefined;
    onOver?.();
  }
}
