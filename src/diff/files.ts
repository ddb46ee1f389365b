/** @module The files of a diff set, opened on demand and never more than a bounded number of them at once. */
import type { Memory } from "../native/memory.ts";
import type { BadTransfer, Disk, DiskFile, PlacedRead, TransferRows } from "../platform/disk.ts";
import { settleAll } from "./window.ts";

/** Largest read that is tried on this thread. */
const cachedBytesMax = 4096;

interface OpenFile {
  readonly file: Promise<DiskFile>;
  users: number;
}

/** Files that stay open until they are released. */
export interface HeldFiles {
  /** By number. */
  readonly files: readonly DiskFile[];
  release(): void;
}

/** Reads from numbered files; idle ones are closed, the longest unused first, when the bound is reached. */
export class SourceFiles {
  readonly #disk: Disk;
  readonly #paths: readonly string[];
  readonly #openMax: number;
  /** In order of last use. */
  readonly #open = new Map<number, OpenFile>();
  /** Open files, those being opened or closed included. */
  #openCount = 0;
  readonly #waiters: (() => void)[] = [];

  constructor(disk: Disk, paths: readonly string[], openMax: number) {
    this.#disk = disk;
    this.#paths = paths;
    this.#openMax = Math.max(1, openMax);
  }

  /** Fills `target` from a file. @throws WalbError `io` on a short read. */
  async read(source: number, offsetBytes: number, target: Memory): Promise<void> {
    const entry = await this.#acquire(source);
    try {
      const file = await entry.file;
      // Headers are read one after the other: a job for each would cost far more than the read.
      if (target.sizeBytes <= cachedBytesMax && file.readCached?.(offsetBytes, target) === true) return;
      await file.read(offsetBytes, target);
    } finally {
      this.#release(source, entry);
    }
  }

  /** Does several reads of one file, as one job where that is possible. @throws WalbError `io` on a short read. */
  async readMany(source: number, reads: readonly PlacedRead[]): Promise<void> {
    const entry = await this.#acquire(source);
    try {
      const file = await entry.file;
      if (file.readMany !== undefined && reads.length > 1) await file.readMany(reads);
      else await settleAll(reads.map(({ offsetBytes, target }) => file.read(offsetBytes, target)));
    } finally {
      this.#release(source, entry);
    }
  }

  /** Reads pack headers of one file as one job; 0 also where that is not possible. See {@link DiskFile.readPackHeaders}. */
  async readPackHeaders(source: number, offsetBytes: number, target: Memory): Promise<number> {
    const entry = await this.#acquire(source);
    try {
      return (await (await entry.file).readPackHeaders?.(offsetBytes, target)) ?? 0;
    } finally {
      this.#release(source, entry);
    }
  }

  /** Checks stored images of one file by a transfer of nothing of them; undefined where that is not possible. */
  async checkStored(
    source: number,
    count: number,
    fill: (rows: TransferRows) => void,
  ): Promise<{ readonly bad: BadTransfer | undefined } | undefined> {
    const entry = await this.#acquire(source);
    try {
      const file = await entry.file;
      if (file.transfer === undefined || file.isDirect) return undefined;
      return { bad: await file.transfer([file], count, fill) };
    } finally {
      this.#release(source, entry);
    }
  }

  /** Size of a file. */
  async size(source: number): Promise<number> {
    const entry = await this.#acquire(source);
    try {
      const file = await entry.file;
      // A diff does not grow.
      return file.openedSizeBytes ?? (await file.size());
    } finally {
      this.#release(source, entry);
    }
  }

  /** True when all files may be open at once. */
  get canHoldAll(): boolean {
    return this.#paths.length <= this.#openMax;
  }

  /** Keeps all files open. Only when {@link canHoldAll}: nobody else is made to wait for them. */
  async holdAll(): Promise<HeldFiles> {
    const held: OpenFile[] = [];
    const release = (): void => {
      held.forEach((entry, source) => {
        this.#release(source, entry);
      });
    };
    try {
      for (let source = 0; source < this.#paths.length; source++) held.push(await this.#acquire(source));
      return { files: await Promise.all(held.map(({ file }) => file)), release };
    } catch (error) {
      release();
      throw error;
    }
  }

  /** Closes everything; no read may be under way. */
  async close(): Promise<void> {
    const entries = [...this.#open.values()];
    this.#open.clear();
    for (const entry of entries) await this.#close(entry);
  }

  async #close(entry: OpenFile): Promise<void> {
    try {
      await (await entry.file).close();
    } finally {
      this.#openCount--;
      this.#wake();
    }
  }

  async #acquire(source: number): Promise<OpenFile> {
    for (;;) {
      const known = this.#open.get(source);
      if (known !== undefined) {
        this.#open.delete(source);
        this.#open.set(source, known);
        known.users++;
        return known;
      }
      if (this.#openCount < this.#openMax) break;
      const idle = [...this.#open].find(([, entry]) => entry.users === 0);
      if (idle !== undefined) {
        this.#open.delete(idle[0]);
        await this.#close(idle[1]);
      } else {
        await new Promise<void>((resolve) => this.#waiters.push(resolve));
      }
    }
    this.#openCount++;
    const entry: OpenFile = { file: this.#disk.open(this.#paths[source]!, { mode: "read" }), users: 1 };
    this.#open.set(source, entry);
    try {
      await entry.file;
    } catch (error) {
      if (this.#open.get(source) === entry) this.#open.delete(source);
      this.#openCount--;
      this.#wake();
      throw error;
    }
    return entry;
  }

  #release(source: number, entry: OpenFile): void {
    entry.users--;
    if (entry.users > 0 || this.#open.get(source) !== entry) return;
    this.#wake();
  }

  /** Every waiter looks again: one may want a file that is open, another needs the room. */
  #wake(): void {
    for (const wake of this.#waiters.splice(0)) wake();
  }
}
