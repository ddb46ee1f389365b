/** @module Reads and writes of the page cache on this thread, where they need not wait for the disk. */
import type { Memory } from "../../native/memory.ts";
import { shim } from "../../native/shim.ts";
import { keptTable, putSource } from "../../native/tables.ts";

/** The file system cannot do it: EINVAL, ESPIPE, ENOSYS, EOPNOTSUPP. */
export const errnoUnsupported: ReadonlySet<number> = new Set([22, 29, 38, 95]);

/** Most that is copied at a time. */
const bytesMax = 256 * 1024;
/** Of writes: they end before the next one starts. */
const pieces = { max: 512, table: keptTable(512) };

/** Of one open file, for checked ranges. All answer false when nothing was done. */
export class CachedIo {
  readonly #fd: number;
  #canReadNowait = true;
  #canWriteNowait = true;
  /** Until then nothing is written here. */
  #againMs = 0;

  constructor(fd: number) {
    this.#fd = fd;
  }

  /** @param sizeBytes of all sources. */
  write(offsetBytes: number, sources: readonly Memory[], sizeBytes: number): boolean {
    if (sources.length > pieces.max || sizeBytes > bytesMax || performance.now() < this.#againMs) return false;
    for (let i = 0; i < sources.length; i++) putSource(pieces.table, i, sources[i]!);
    const { address } = pieces.table;
    if (this.#canWriteNowait) {
      const result = shim.writeCached(this.#fd, address, sources.length, offsetBytes, true);
      if (result === 0) return true;
      if (!errnoUnsupported.has(-result)) return false;
      this.#canWriteNowait = false;
    }
    // Such a file system may make this thread wait. Seldom, so it is worth trying: but at most a hundredth of the time.
    const startMs = performance.now();
    const result = shim.writeCached(this.#fd, address, sources.length, offsetBytes, false);
    if (result === 1) {
      const endMs = performance.now();
      this.#againMs = endMs + 100 * (endMs - startMs);
    }
    return result >= 0;
  }

  read(offsetBytes: number, target: Memory): boolean {
    if (!this.#canReadNowait || target.sizeBytes > bytesMax) return false;
    const result = shim.readCached(this.#fd, target.address, target.sizeBytes, offsetBytes);
    if (errnoUnsupported.has(-result)) this.#canReadNowait = false;
    return result === 0;
  }

  /** As {@link DiskFile.readPackHeaders}, as far as they are in memory. */
  readPackHeaders(offsetBytes: number, target: Memory): number {
    return this.#canReadNowait ? shim.readPacksCached(this.#fd, target.address, target.sizeBytes, offsetBytes) : 0;
  }

  /** What the disk has, too, is read from it again. */
  forget(): void {
    shim.forgetCached(this.#fd);
  }
}
