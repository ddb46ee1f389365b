/** @module Input of sockets that the event loop does not read: straight into memory that was chosen before. */
import { closeSync } from "node:fs";
import { duplicateDescriptor } from "./descriptor.ts";
import { shim } from "./shim.ts";
import { fileWatch } from "./watch.ts";

/** What comes behind the target of a read at once: headers, so that they cost no read of their own. */
const spillBytes = 4 * 1024;
const chunkBytesMax = 256 * 1024;
/** Used only during a call. */
const scratch = new Uint8Array(chunkBytesMax);
const spill = scratch.subarray(0, spillBytes);
const noBytes = new Uint8Array(0);

/** Copies of a few bytes, cut from one buffer after the other: a buffer for each would cost more than the read. */
const pieces = {
  bufferBytes: 64 * 1024,
  buffer: noBytes,
  usedBytes: 0,
  copy(bytes: Uint8Array, sizeBytes: number): Uint8Array {
    if (this.usedBytes + sizeBytes > this.buffer.length) {
      this.buffer = new Uint8Array(this.bufferBytes);
      this.usedBytes = 0;
    }
    const { buffer, usedBytes } = this;
    for (let i = 0; i < sizeBytes; i++) buffer[usedBytes + i] = bytes[i]!;
    this.usedBytes += sizeBytes;
    return buffer.subarray(usedBytes, usedBytes + sizeBytes);
  },
};
/** Larger ones are buffers of their own, which can be given back. */
const pieceBytesMax = 256;

function copyOf(bytes: Uint8Array, sizeBytes: number): Uint8Array {
  return sizeBytes <= pieceBytesMax ? pieces.copy(bytes, sizeBytes) : bytes.slice(0, sizeBytes);
}
const errnoAgain = 11;

/** What a read gave. */
export interface Received {
  /** Bytes in the target. */
  readonly targetBytes: number;
  /** What followed them: a copy. */
  readonly rest: Uint8Array;
}

/** How a fill ended. */
export interface Filled extends Received {
  /** What follows: more, nothing any more, or an errno. */
  readonly next: "again" | "end" | number;
}

/** Of fills, used only during a call. */
const fillResult = new Float64Array(512);
const endOfFill = 1;

/** Reads a socket that the event loop does not read, through a descriptor of its own. */
export class SocketInput {
  readonly #fd: number;
  readonly #number: number;
  #isNew = true;
  #isArmed = false;
  #isClosed = false;
  /** Slot of the fill under way. */
  #fillSlot: number | undefined;

  private constructor(fd: number, ready: () => void) {
    this.#fd = fd;
    this.#number = fileWatch().enter(() => {
      this.#isArmed = false;
      ready();
    });
  }

  /** `ready` is called after {@link arm}, when there is something to read. undefined when the process has no descriptor left. */
  static open(socketFd: number, ready: () => void): SocketInput | undefined {
    const fd = duplicateDescriptor(socketFd);
    return fd === undefined ? undefined : new SocketInput(fd, ready);
  }

  /** Memory is being filled: nothing else may read. */
  get isFilling(): boolean {
    return this.#fillSlot !== undefined;
  }

  /**
   * Has the next bytes put into memory by a thread, until it is full or the socket ends; then `ready` is called. The memory
   * must stay until {@link takeFill} or {@link close} has ended it. False when that is not possible.
   */
  fill(address: number, sizeBytes: number): boolean {
    if (this.#isClosed || this.#fillSlot !== undefined) return false;
    const slot = fileWatch().fill(this.#fd, this.#number, this.#isNew, address, sizeBytes);
    if (slot < 0) return false;
    this.#isNew = false;
    this.#isArmed = false;
    this.#fillSlot = slot;
    return true;
  }

  /** How the fill ended; undefined when it goes on. With `isStop` it ends now. */
  takeFill(isStop: boolean): Filled | undefined {
    const slot = this.#fillSlot;
    if (slot === undefined || !fileWatch().takeFill(slot, isStop, fillResult, spill)) return undefined;
    this.#fillSlot = undefined;
    const [targetBytes = 0, restBytes = 0, status = 0] = fillResult;
    const next = status === 0 ? "again" : status === endOfFill ? "end" : -status;
    return { targetBytes, rest: restBytes === 0 ? noBytes : copyOf(spill, restBytes), next };
  }

  /**
   * Reads what has arrived, into the target and a little beyond it; without one, a chunk of up to `chunkBytes`.
   * @returns `again` when nothing has arrived, `end` behind the last byte; else an errno.
   */
  read(target: Uint8Array | undefined, chunkBytes: number): Received | "again" | "end" | number {
    if (this.#isClosed) return "end";
    const into = target === undefined ? scratch.subarray(0, Math.min(chunkBytes, chunkBytesMax)) : spill;
    const gotBytes = shim.receive(this.#fd, target ?? null, into);
    if (gotBytes === -errnoAgain) return "again";
    if (gotBytes <= 0) return gotBytes === 0 ? "end" : -gotBytes;
    const targetBytes = Math.min(gotBytes, target?.length ?? 0);
    const restBytes = gotBytes - targetBytes;
    return { targetBytes, rest: restBytes === 0 ? noBytes : copyOf(into, restBytes) };
  }

  /** Asks to be told once when there is something to read. False when that is not possible. */
  arm(): boolean {
    if (this.#isArmed || this.#isClosed || this.#fillSlot !== undefined) return true;
    if (fileWatch().armInput(this.#fd, this.#number, this.#isNew) < 0) return false;
    this.#isNew = false;
    this.#isArmed = true;
    return true;
  }

  close(): void {
    if (this.#isClosed) return;
    this.takeFill(true);
    this.#isClosed = true;
    const watch = fileWatch();
    watch.leave(this.#number);
    if (!this.#isNew) watch.remove(this.#fd);
    closeSync(this.#fd);
  }
}
