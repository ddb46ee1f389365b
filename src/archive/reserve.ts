/**
 * @module Space kept back, so that backups can be given up although the disk is full: what frees space needs a little of it
 * first, for databases, manifests, and the image that diffs are applied to.
 */
import type { Logger } from "../control/logger.ts";
import type { Disk } from "../platform/disk.ts";
import { alignDown, mib } from "../units.ts";

/** Name of the file that takes the space. */
export const reserveName = ".reserved-space";
const reserveBytesMax = 64 * mib;
/** Of what is free, so little is kept back. */
const reserveShare = 1 / 4;
/** With less free space, the reserve is given up for work that frees some. */
const scarceBytes = 16 * mib;

/** The reserve of one archive. */
export class SpaceReserve {
  readonly #disk: Disk;
  readonly #dataDir: string;
  readonly #log: Logger;
  #users = 0;
  #making: Promise<void> | undefined;

  constructor(disk: Disk, dataDir: string, log: Logger) {
    this.#disk = disk;
    this.#dataDir = dataDir;
    this.#log = log;
  }

  /** Makes the reserve where it is missing and there is room. Never throws: without it only less is possible. */
  async keep(): Promise<void> {
    if (this.#users > 0) return;
    this.#making ??= this.#make().finally(() => {
      this.#making = undefined;
    });
    await this.#making;
  }

  /** Does work that ends with more free space; when space is short, the reserve is there for it. */
  async forFreeing<T>(work: () => Promise<T>): Promise<T> {
    await this.#making;
    this.#users++;
    try {
      const { freeBytes } = await this.#disk.freeSpace(this.#dataDir);
      if (freeBytes < scarceBytes) await this.#giveUp();
      return await work();
    } finally {
      this.#users--;
      await this.keep();
    }
  }

  async #giveUp(): Promise<void> {
    const path = `${this.#dataDir}/${reserveName}`;
    if ((await this.#disk.info(path)) === undefined) return;
    await this.#disk.remove(path);
    this.#log.warn("the disk is full: the space kept back is used to free some", { file: path });
  }

  async #make(): Promise<void> {
    const path = `${this.#dataDir}/${reserveName}`;
    try {
      if (((await this.#disk.info(path))?.sizeBytes ?? 0) > 0) return;
      const { freeBytes } = await this.#disk.freeSpace(this.#dataDir);
      const sizeBytes = Math.min(reserveBytesMax, alignDown(Math.floor(freeBytes * reserveShare), mib));
      if (sizeBytes < mib) return;
      const file = await this.#disk.open(path, { mode: "createOrOpen" });
      try {
        await file.allocate?.(0, sizeBytes);
      } finally {
        await file.close();
      }
    } catch (error) {
      this.#log.warn("no space could be kept back", { file: path, error });
    }
  }
}
