/** @module Standard input and output as sequential inputs and outputs of data. */
import { closeSync, fstatSync, open, read, statSync, write } from "node:fs";
import type { DiffInput } from "../../../diff/stream.ts";
import { WalbError } from "../../../errors.ts";
import type { Encoded } from "../../../native/codec.ts";
import type { Memory } from "../../../native/memory.ts";
import type { DiskFile } from "../../../platform/disk.ts";

const stepBytesMax = 1024 * 1024;
const retryMs = 1;

/** Standard input, or another descriptor that is closed by `end`, read to its end. */
export function standardInput(fd = 0, name = "standard input"): DiffInput & { end(): void } {
  return {
    name,
    end: () => {
      if (fd !== 0) closeSync(fd);
    },
    read: async (target) => {
      let at = 0;
      while (at < target.sizeBytes) {
        const gotBytes = await some("read", fd, target.bytes, at, target.sizeBytes - at);
        if (gotBytes === 0) break;
        at += gotBytes;
      }
      return at;
    },
  };
}

/** Opens a pipe or character device by its name; a pipe waits for its other end, which must not hold up the process. */
export function openStream(path: string, mode: "r" | "w"): Promise<number> {
  return new Promise((resolve, reject) => {
    open(path, mode, (error, fd) => {
      if (error === null) resolve(fd);
      else reject(new WalbError("io", { what: "it cannot be opened", where: { file: path }, cause: error }));
    });
  });
}

/** True for `-`, and for a path that names what standard output goes to, as `/dev/stdout` does. */
export function isStandardOutput(path: string): boolean {
  if (path === "-") return true;
  const named = statSync(path, { throwIfNoEntry: false });
  if (named === undefined) return false;
  const standard = fstatSync(1);
  return named.dev === standard.dev && named.ino === standard.ino;
}

/** True when standard output is a terminal's, where data has no business. */
export function isTerminalOutput(): boolean {
  return fstatSync(1).isCharacterDevice() && process.stdout.isTTY === true;
}

/**
 * A descriptor written from front to back, with the face of a file: writes may be asked for out of order, but must in
 * the end leave no gap; each resolves when all before it is written. Reading and going back are refused.
 */
export class SequentialOutput implements DiskFile {
  readonly path: string;
  readonly isBlockDevice = false;
  readonly isDirect = false;
  readonly alignmentBytes = 1;
  readonly physicalBlockBytes = 512;
  readonly #fd: number;
  readonly #onClose: () => void;
  #at = 0;
  #failure: unknown;
  readonly #waiting = new Map<number, () => void>();

  constructor(fd: number, path: string, onClose: () => void = () => undefined) {
    this.#fd = fd;
    this.path = path;
    this.#onClose = onClose;
  }

  size(): Promise<number> {
    return Promise.resolve(this.#at);
  }

  write(offsetBytes: number, source: Memory): Promise<void> {
    return this.writeGather(offsetBytes, [source]);
  }

  async writeGather(offsetBytes: number, sources: readonly Memory[]): Promise<void> {
    const sizeBytes = sources.reduce((sum, source) => sum + source.sizeBytes, 0);
    if (sizeBytes === 0) return;
    if (offsetBytes < this.#at || this.#waiting.has(offsetBytes)) throw this.#unsupported("be written twice");
    if (offsetBytes > this.#at) await new Promise<void>((resolve) => this.#waiting.set(offsetBytes, resolve));
    try {
      if (this.#failure !== undefined) throw this.#failure;
      for (const source of sources) await this.#writeAll(source.bytes);
    } catch (error) {
      this.#failure = error;
      throw error;
    } finally {
      this.#at += sizeBytes;
      const next = this.#waiting.get(this.#at);
      this.#waiting.delete(this.#at);
      next?.();
    }
  }

  async #writeAll(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length; ) {
      at += await some("write", this.#fd, bytes, at, bytes.length - at);
    }
  }

  sync(): Promise<void> {
    return Promise.resolve();
  }

  close(): Promise<void> {
    this.#onClose();
    return Promise.resolve();
  }

  read(): Promise<void> {
    return Promise.reject(this.#unsupported("be read"));
  }

  zero(): Promise<void> {
    return Promise.reject(this.#unsupported("be punched"));
  }

  truncate(): Promise<void> {
    return Promise.reject(this.#unsupported("be truncated"));
  }

  nextData(): Promise<undefined> {
    return Promise.reject(this.#unsupported("be searched"));
  }

  readEncoded(): Promise<Encoded[]> {
    return Promise.reject(this.#unsupported("be read"));
  }

  readHashed(): Promise<Uint8Array> {
    return Promise.reject(this.#unsupported("be read"));
  }

  writeDecoded(): Promise<Uint8Array> {
    return Promise.reject(this.#unsupported("take images"));
  }

  #unsupported(what: string): WalbError {
    return new WalbError("unsupported", {
      what: `what is written from front to back cannot ${what}`,
      where: { file: this.path },
      hint: "write to a file instead",
    });
  }
}

/** One read or write of at most 1 MiB; waits where the other end is not ready. */
async function some(
  kind: "read" | "write",
  fd: number,
  bytes: Uint8Array,
  at: number,
  sizeBytes: number,
): Promise<number> {
  const takeBytes = Math.min(sizeBytes, stepBytesMax);
  for (;;) {
    const [error, count] = await new Promise<[NodeJS.ErrnoException | null, number]>((resolve) => {
      const done = (failure: NodeJS.ErrnoException | null, doneBytes: number): void => resolve([failure, doneBytes]);
      if (kind === "read") read(fd, bytes, at, takeBytes, null, done);
      else write(fd, bytes, at, takeBytes, null, done);
    });
    if (error === null) return count;
    if (error.code === "EAGAIN") {
      await Bun.sleep(retryMs);
      continue;
    }
    const name = fd === 0 ? "standard input" : fd === 1 ? "standard output" : `descriptor ${fd}`;
    const what = error.code === "EPIPE" ? "the reader of the output went away" : `${kind} failed`;
    throw new WalbError("io", { what, where: { file: name }, cause: error });
  }
}
