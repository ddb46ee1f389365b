/**
 * @module Reads a socket in place of the event loop: straight into the reader's memory, or chunks of it. Large pieces are
 * filled by a thread of the shim.
 */
import { type Filled, type Received, SocketInput } from "../../native/socket-input.ts";
import type { ConnectionReader } from "../net.ts";

/** Targets of this size are read into directly: what the event loop reads is copied twice more, but costs fewer calls. */
const directBytesMin = 16 * 1024;
/** Targets of this size are filled by a thread: the event loop would do nothing but copy for a millisecond and more. */
const fillBytesMin = 256 * 1024;
/** Read directly before others have their turn. */
const directTurnBytes = 4 * 1024 * 1024;
/** Chunks that are read directly, for what has no large target: small first, for the header in front of the next one. */
const chunkBytesMin = 4 * 1024;
const chunkBytesMax = 256 * 1024;
/** After so many chunks without a large target the event loop reads again: it answers small requests sooner. */
const directChunksMax = 64;

/** What {@link DirectInput} tells its connection. */
export interface DirectInputEvents {
  /** Who is to get bytes now; undefined while nobody is. */
  reader(): ConnectionReader | undefined;
  /** So many bytes are in the reader's target. */
  filled(sizeBytes: number): void;
  data(chunk: Uint8Array): void;
  /** Nothing more can be read: the end of the stream, or an errno. */
  ended(reason: "end" | number): void;
  /** The event loop is to read again. */
  left(): void;
}

/** Whether a reader's target is worth it. */
export function isDirectTarget(target: ReturnType<NonNullable<ConnectionReader["target"]>>): target is Uint8Array {
  return target instanceof Uint8Array && target.length >= directBytesMin;
}

/** Input of one connection, read directly while it is open. */
export class DirectInput {
  readonly #events: DirectInputEvents;
  #input: SocketInput | undefined;
  #isReading = false;
  #chunkBytes = chunkBytesMin;
  #chunksInRow = 0;

  constructor(events: DirectInputEvents) {
    this.#events = events;
  }

  get isOpen(): boolean {
    return this.#input !== undefined;
  }

  /** True while the reader is called from here. */
  get isReading(): boolean {
    return this.#isReading;
  }

  /** False when that is not possible. The event loop must read no more. */
  open(socketFd: number): boolean {
    this.#input = SocketInput.open(socketFd, () => this.#ready());
    this.#chunksInRow = 0;
    return this.#input !== undefined;
  }

  /** Reads no more; what a thread has read and nobody was told of is dropped. */
  close(): void {
    this.#input?.close();
    this.#input = undefined;
  }

  /** Goes on after a pause. */
  resume(): void {
    this.#input?.arm();
  }

  /** What a thread has read until now is the reader's, and it reads no more. */
  stopFilling(): void {
    const filled = this.#input?.takeFill(true);
    if (filled !== undefined) this.#takeFilled(filled);
  }

  /** Reads what has arrived before it returns, also while a thread fills the target; then as {@link read}. */
  readNow(): void {
    const wasFilling = this.#input?.isFilling === true;
    this.stopFilling();
    this.#read(!wasFilling);
  }

  /** Reads as long as there is something that is wanted, and has itself told of more. */
  read(): void {
    this.#read(true);
  }

  /** Reads all that has arrived of a socket that is about to be gone. @returns whether its end had come. */
  readRest(keep: (chunk: Uint8Array) => void): boolean {
    const filled = this.#input?.takeFill(true);
    if (filled !== undefined) {
      if (filled.targetBytes > 0) this.#events.filled(filled.targetBytes);
      if (filled.rest.length > 0) keep(filled.rest);
    }
    for (;;) {
      const received = this.#input?.read(undefined, chunkBytesMax);
      if (typeof received !== "object") return received === "end";
      keep(received.rest);
    }
  }

  /** The socket has input, or a fill is over. */
  #ready(): void {
    if (this.#input?.isFilling === true) {
      const filled = this.#input.takeFill(false);
      if (filled === undefined || !this.#takeFilled(filled)) return;
    }
    this.#read(true);
  }

  /** False when nothing more can be read. */
  #takeFilled(filled: Filled): boolean {
    this.#take(filled);
    if (filled.next !== "again") this.#end(filled.next);
    return filled.next === "again";
  }

  #take({ targetBytes, rest }: Received): void {
    if (targetBytes > 0) this.#events.filled(targetBytes);
    if (rest.length > 0) this.#events.data(rest);
  }

  #end(reason: "end" | number): void {
    this.close();
    this.#events.ended(reason);
  }

  #leave(): void {
    this.close();
    this.#events.left();
  }

  /** @param mayFill a thread may do it from the start, not only what has not arrived. */
  #read(mayFill: boolean): void {
    if (this.#isReading) return;
    this.#isReading = true;
    try {
      if (this.#readArrived(mayFill)) return;
      // Paused or closed meanwhile, it is told when it goes on.
      if (this.#events.reader() !== undefined && this.#input?.arm() === false) this.#leave();
    } finally {
      this.#isReading = false;
    }
  }

  /** True when nobody needs to be told of more. */
  #readArrived(mayFill: boolean): boolean {
    for (let leftBytes = directTurnBytes; leftBytes > 0; ) {
      const input = this.#input;
      const reader = this.#events.reader();
      if (input === undefined || reader === undefined) return true;
      const wanted = reader.target?.();
      if (wanted === "nothing") return true;
      const target = isDirectTarget(wanted) ? wanted : undefined;
      if (target === undefined && this.#chunksInRow >= directChunksMax) {
        this.#leave();
        return true;
      }
      if (mayFill && this.#beginFill(input, reader, target)) return true;
      const received = input.read(target, this.#chunkBytes);
      if (received === "again") return this.#beginFill(input, reader, target);
      if (typeof received !== "object") {
        this.#end(received);
        return true;
      }
      leftBytes -= received.targetBytes + received.rest.length;
      this.#noteRead(target !== undefined, received.rest.length);
      this.#take(received);
    }
    return false;
  }

  #beginFill(input: SocketInput, reader: ConnectionReader, target: Uint8Array | undefined): boolean {
    if (target === undefined || target.length < fillBytesMin) return false;
    const address = reader.targetAddress?.();
    if (address === undefined || !input.fill(address, target.length)) return false;
    this.#noteRead(true, 0);
    return true;
  }

  /** Chunks grow while they are filled without a large target. */
  #noteRead(hadTarget: boolean, chunkBytes: number): void {
    if (hadTarget) {
      this.#chunksInRow = 0;
      this.#chunkBytes = chunkBytesMin;
      return;
    }
    this.#chunksInRow += 1;
    if (chunkBytes === this.#chunkBytes) this.#chunkBytes = Math.min(2 * this.#chunkBytes, chunkBytesMax);
  }
}
