/**
 * @module Opens and closes regular files on this thread, where that waits for nothing: small diffs are opened by the
 * thousand, and the jobs of one would cost several times as much as all that is read of it.
 */
import { dirname } from "node:path";
import { shim } from "../../native/shim.ts";
import { keptTable } from "../../native/tables.ts";

/** The kernel, or who confines this process, does not have it: EPERM, EINVAL, ENOSYS. */
const errnoNever: ReadonlySet<number> = new Set([1, 22, 38]);
/** Most directories that are remembered. */
const directoriesMax = 4096;
/** So often in a row; the next one is a job, so that others have their turn. */
const inRowMax = 32;
/** For a path and the answer before it. */
const table = keptTable(128);
const pathOffset = 64;

/** A file that was opened for reading. */
export interface CachedOpen {
  readonly fd: number;
  readonly sizeBytes: number;
}

/** Of one disk. */
export class CachedFiles {
  #isPossible = true;
  #inRow = 0;
  /** Directories whose files are opened without asking another host. */
  readonly #local = new Set<string>();

  /** A job found out that the file system of this file is local. */
  learn(path: string): void {
    if (this.#local.size >= directoriesMax) this.#local.clear();
    this.#local.add(dirname(path));
  }

  /** Opens a regular file for reading; undefined when a job must, for whatever reason. */
  open(path: string): CachedOpen | undefined {
    if (!this.#isPossible || !this.#local.has(dirname(path))) return undefined;
    this.#inRow = (this.#inRow + 1) % (inRowMax + 1);
    if (this.#inRow === 0) return undefined;
    const room = table.bytes.subarray(pathOffset);
    const { read, written } = new TextEncoder().encodeInto(path, room);
    if (read !== path.length || written >= room.length || path.includes("\0")) return undefined;
    room[written] = 0;
    const fd = shim.openCached(table.address + pathOffset, table.address);
    if (fd >= 0) return { fd, sizeBytes: table.f64[0]! };
    if (errnoNever.has(-fd)) this.#isPossible = false;
    return undefined;
  }
}
