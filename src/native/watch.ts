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

  /** Has a socket's next bytes read into memory: the slot of it, or −errno. */
  fill(fd: number, number: number, isNew: boolean, address: number, sizeBytes: number): number {
    return shim.watchFill(this.#watch, fd, number, isNew, address, sizeBytes);
  }

  /** See `shim.watchFillTake`. */
  takeFill(slot: number, isStop: boolean, result: Float64Array, spill: Uint8Array): boolean {
    return shim.watchFillTake(this.#watch, slot, isStop, result, spill);
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

/** The one of this process. */
export function fileWatch(): FileWatch {
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

function openForReading(path: string): number {
  try {
    return openSync(path, constants.O_RDONLY);
  } catch (error) {
    throw errnoError("open", errnoOf(error) ?? 5, { file: path });
  }
}
