/**
 * @module Deleting large files: their names are gone at once, their space comes back behind it, because the file system
 * may take minutes to free terabytes.
 */
import { dirname } from "node:path";
import type { Disk } from "../../platform/disk.ts";

const trashPrefix = ".trash-";

/** What is being deleted. */
export class Trash {
  readonly #disk: Disk;
  readonly #deleting = new Set<Promise<void>>();
  #count = 0;

  constructor(disk: Disk) {
    this.#disk = disk;
  }

  /** Takes a file, durably; fine when it is not there. */
  async take(path: string): Promise<void> {
    if ((await this.#disk.info(path)) === undefined) return;
    const directory = dirname(path);
    let to: string;
    do to = `${directory}/${trashPrefix}${this.#count++}`;
    while ((await this.#disk.info(to)) !== undefined);
    await this.#disk.rename(path, to);
    await this.#disk.syncDirectory(directory);
    this.#delete(to);
  }

  /** Deletes what earlier runs left in a directory. */
  async takeLeftovers(directory: string): Promise<void> {
    for (const name of await this.#disk.list(directory)) {
      if (name.startsWith(trashPrefix)) this.#delete(`${directory}/${name}`);
    }
  }

  /** Waits until all is deleted. */
  async settle(): Promise<void> {
    while (this.#deleting.size > 0) await Promise.all(this.#deleting);
  }

  /** A failure costs only space until the next start, which tries again. */
  #delete(path: string): void {
    const work: Promise<void> = this.#disk
      .remove(path)
      .catch(() => undefined)
      .finally(() => this.#deleting.delete(work));
    this.#deleting.add(work);
  }
}
