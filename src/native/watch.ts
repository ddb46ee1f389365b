/** @module Events of files: priority events, as attributes of sysfs give them, and input of sockets. One thread of the shim waits for all. */
import { closeSync, constants, openSync } from "node:fs";
import { WalbError } from "../errors.ts";
import { connectDescriptor } from "./descriptor.ts";
import { errnoError, errnoOf } from "./errno.ts";
import { shim } from "./shim.ts";

const numberBytes = 4;

/** The thread, and who is told by it. */
class FileWatch {
  readonly #watch = shim.watchCreate();
  readonly #fired = new Map<number, () => void>();
  #next = 1;
  /** Bytes of a number that came in two pieces. */
  #rest: number[] = [];

  constructor() {
    if (this.#watch === 0) {
      throw new WalbError("internal", {
        what: "the thread that waits for file events could not be made",
        hint: "look at the limits of open files and threads of the service",
      });
    }
    // It keeps no process alive: who waits for a device has a reason of its own.
    void connectDescriptor(shim.watchFd(this.#watch), (bytes) => this.#read(bytes)).then((socket) => socket.unref());
  }

  /** Takes part under a number. */
  enter(fired: () => void): number {
    const number = this.#next;
    this.#next = (this.#next % 0xffff_ffff) + 1;
    this.#fired.set(number, fired);
    return number;
  }

  /** False when it has left before. */
  leave(number: number): boolean {
    return this.#fired.delete(number);
  }

  /** 0, or −errno. */
  armPriority(fd: number, number: number, isNew: boolean): number {
    return shim.watchArm(this.#watch, fd, number, isNew);
  }

  /** 0, or −errno. */
  armInput(fd: number, number: number, isNew: boolean): number {
    return shim.watchInput(this.#watch, fd, number, isNew);
  }

  /** Before the file is closed. */
  remove(fd: number): void {
    shim.watchRemove(this.#watch, fd);
  }

  #read(bytes: Uint8Array): void {
    for (const byte of bytes) {
      this.#rest.push(byte);
      if (this.#rest.length < numberBytes) continue;
      const [a = 0, b = 0, c = 0, d = 0] = this.#rest;
      this.#rest = [];
      this.#fired.get((a | (b << 8) | (c << 16) | (d << 24)) >>> 0)?.();
    }
  }
}

let shared: FileWatch | undefined;

function fileWatch(): FileWatch {
  shared ??= new FileWatch();
  return shared;
}

/**
 * Calls back when a file has a priority event (EPOLLPRI), and when it is gone. The answer ends it.
 * @throws WalbError `not-found`, or `io` when the file gives no events.
 */
export function watchPriority(path: string, changed: () => void): () => void {
  const watch = fileWatch();
  const fd = openForReading(path);
  const number = watch.enter(() => {
    // Armed before it is told, so that nothing is missed. When the file is gone there is nothing to arm.
    watch.armPriority(fd, number, false);
    changed();
  });
  const result = watch.armPriority(fd, number, true);
  if (result < 0) {
    watch.leave(number);
    closeSync(fd);
    throw errnoError("waiting for events", -result, { file: path });
  }
  return () => {
    if (!watch.leave(number)) return;
    watch.remove(fd);
    closeSync(fd);
  };
}

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

/** Reads a socket that the event loop does not read, through a descriptor of its own. */
export class SocketInput {
  readonly #fd: number;
  readonly #number: number;
  #isNew = true;
  #isArmed = false;
  #isClosed = false;

  private constructor(fd: number, ready: () => void) {
    this.#fd = fd;
    this.#number = fileWatch().enter(() => {
      this.#isArmed = false;
      ready();
    });
  }

  /** `ready` is called after {@link arm}, when there is something to read. undefined when the process has no descriptor left. */
  static open(socketFd: number, ready: () => void): SocketInput | undefined {
    const fd = shim.duplicate(socketFd);
    return fd < 0 ? undefined : new SocketInput(fd, ready);
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
    if (this.#isArmed || this.#isClosed) return true;
    if (fileWatch().armInput(this.#fd, this.#number, this.#isNew) < 0) return false;
    this.#isNew = false;
    this.#isArmed = true;
    return true;
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    const watch = fileWatch();
    watch.leave(this.#number);
    if (!this.#isNew) watch.remove(this.#fd);
    closeSync(this.#fd);
  }
}

function openForReading(path: string): number {
  try {
    return openSync(path, constants.O_RDONLY);
  } catch (error) {
    throw errnoError("open", errnoOf(error) ?? 5, { file: path });
  }
}
