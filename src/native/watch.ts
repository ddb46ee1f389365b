/** @module Priority events of files, as attributes of sysfs give them: one thread of the shim waits for all. */
import { closeSync, constants, openSync } from "node:fs";
import { WalbError } from "../errors.ts";
import { connectDescriptor } from "./descriptor.ts";
import { errnoError, errnoOf } from "./errno.ts";
import { shim } from "./shim.ts";

const numberBytes = 4;

interface Watched {
  readonly fd: number;
  readonly changed: () => void;
}

class PriorityWatch {
  readonly #watch = shim.watchCreate();
  readonly #watched = new Map<number, Watched>();
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
    void connectDescriptor(shim.watchFd(this.#watch), (bytes) => this.#fired(bytes)).then((socket) => socket.unref());
  }

  add(path: string, changed: () => void): () => void {
    const fd = openForReading(path);
    const number = this.#next++;
    const result = shim.watchArm(this.#watch, fd, number, true);
    if (result < 0) {
      closeSync(fd);
      throw errnoError("waiting for events", -result, { file: path });
    }
    this.#watched.set(number, { fd, changed });
    return () => {
      if (!this.#watched.delete(number)) return;
      shim.watchRemove(this.#watch, fd);
      closeSync(fd);
    };
  }

  #fired(bytes: Uint8Array): void {
    for (const byte of bytes) {
      this.#rest.push(byte);
      if (this.#rest.length < numberBytes) continue;
      const [a = 0, b = 0, c = 0, d = 0] = this.#rest;
      this.#rest = [];
      const number = (a | (b << 8) | (c << 16) | (d << 24)) >>> 0;
      const watched = this.#watched.get(number);
      if (watched === undefined) continue;
      // Armed before it is told, so that nothing is missed. When the file is gone there is nothing to arm.
      shim.watchArm(this.#watch, watched.fd, number, false);
      watched.changed();
    }
  }
}

let shared: PriorityWatch | undefined;

/**
 * Calls back when a file has a priority event (EPOLLPRI), and when it is gone. The answer ends it.
 * @throws WalbError `not-found`, or `io` when the file gives no events.
 */
export function watchPriority(path: string, changed: () => void): () => void {
  shared ??= new PriorityWatch();
  return shared.add(path, changed);
}

function openForReading(path: string): number {
  try {
    return openSync(path, constants.O_RDONLY);
  } catch (error) {
    throw errnoError("open", errnoOf(error) ?? 5, { file: path });
  }
}
