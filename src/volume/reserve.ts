/**
 * @module Space kept back, so that space can be freed although the disk is full: what frees it needs a little first, an
 * archive for databases, manifests, and the image that diffs are applied to, a proxy for noting what was delivered.
 */
import { asWalbError } from "../errors.ts";
import type { Disk } from "../platform/disk.ts";
import { alignDown, kib, mib } from "../units.ts";

/** Name of the file that takes the space. */
export const reserveName = ".reserved-space";
/** Of what is free, so little is kept back. */
const reserveShare = 1 / 4;
/** Smallest step of its size. */
const unitBytes = 256 * kib;
/** With less free space, the reserve is given up for work that frees some. */
const scarceBytes = 16 * mib;

/** Where messages go. */
interface Warner {
  info(message: string, fields: Readonly<Record<string, unknown>>): void;
  warn(message: string, fields: Readonly<Record<string, unknown>>): void;
}

/** The reserve of one data directory. */
export class SpaceReserve {
  readonly #disk: Disk;
  readonly #dataDir: string;
  readonly #log: Warner;
  readonly #bytesMax: number;
  /** Size of the reserve that was given up: as much is kept back again as soon as it is free. */
  #givenUpBytes = 0;
  #users = 0;
  #making: Promise<void> | undefined;

  constructor(disk: Disk, dataDir: string, log: Warner, bytesMax: number = 64 * mib) {
    this.#disk = disk;
    this.#dataDir = dataDir;
    this.#log = log;
    this.#bytesMax = bytesMax;
  }

  /** Makes the reserve where it is missing and there is room. Never throws: without it only less is possible. */
  async keep(): Promise<void> {
    if (this.#users > 0) return;
    this.#making ??= this.#make().finally(() => {
      this.#making = undefined;
    });
    await this.#making;
  }

  /**
   * Does work that ends with more free space; when space is short, the reserve is there for it. What a write finds no space
   * for although there seemed to be enough (quotas, the metadata of btrfs) is begun once more, with the reserve.
   */
  async forFreeing<T>(work: () => Promise<T>): Promise<T> {
    await this.#making;
    this.#users++;
    try {
      const { freeBytes } = await this.#disk.freeSpace(this.#dataDir);
      if (freeBytes < scarceBytes) await this.#giveUp();
      try {
        return await work();
      } catch (error) {
        if (!isFailedWrite(error, this.#dataDir) || !(await this.#giveUp())) throw error;
      }
      return await work();
    } finally {
      this.#users--;
      await this.keep();
    }
  }

  /** Does small work that leads to more free space. Only when it fails for want of space the reserve is there for it. */
  async whenFull<T>(work: () => T): Promise<T> {
    try {
      return work();
    } catch (error) {
      if (asWalbError(error).code !== "no-space") throw error;
    }
    await this.#making;
    this.#users++;
    try {
      await this.#giveUp();
      return work();
    } finally {
      this.#users--;
      await this.keep();
    }
  }

  /** @returns whether there was anything to give up. */
  async #giveUp(): Promise<boolean> {
    const path = `${this.#dataDir}/${reserveName}`;
    const info = await this.#disk.info(path);
    if (info === undefined || info.sizeBytes === 0) return false;
    await this.#disk.remove(path);
    this.#givenUpBytes = info.sizeBytes;
    // btrfs gives what was removed free with its next transaction: up to half a minute later, unless it is asked.
    const { freeBytes } = await this.#disk.freeSpace(this.#dataDir);
    if (freeBytes < info.sizeBytes / 2) await this.#disk.syncFileSystem?.(this.#dataDir);
    this.#log.warn("the disk is full: the space kept back is used to free some", { file: path });
    return true;
  }

  async #make(): Promise<void> {
    const path = `${this.#dataDir}/${reserveName}`;
    try {
      if (((await this.#disk.info(path))?.sizeBytes ?? 0) > 0) return;
      const { freeBytes } = await this.#disk.freeSpace(this.#dataDir);
      const shareBytes = alignDown(Math.floor(freeBytes * reserveShare), mib);
      // What it was used for took a little of it: the rest is kept, or little by little nothing would be left.
      const restBytes = alignDown(Math.max(0, Math.min(this.#givenUpBytes, freeBytes) - unitBytes), unitBytes);
      let sizeBytes = Math.min(this.#bytesMax, Math.max(shareBytes, restBytes));
      for (; sizeBytes >= unitBytes; sizeBytes = alignDown((sizeBytes * 3) / 4, unitBytes)) {
        if (await this.#tryMake(path, sizeBytes)) return;
      }
    } catch (error) {
      this.#log.warn("no space could be kept back", { file: path, error });
    }
  }

  /** False when there is no room for so much, whatever the file system says of its free space. */
  async #tryMake(path: string, sizeBytes: number): Promise<boolean> {
    try {
      if (await this.#allocate(path, sizeBytes)) return true;
      // Without fallocate (NFS before 4.2, some FUSE file systems) only what is written takes space.
      await this.#disk.writeSmall(path, incompressible(sizeBytes));
      this.#log.info("the file system cannot set space aside: the space kept back was written", {
        file: path,
        sizeBytes,
      });
      return true;
    } catch (error) {
      if (asWalbError(error).code !== "no-space") throw error;
      await this.#disk.remove(path);
      return false;
    }
  }

  /** False where the file system cannot; then nothing is left behind. */
  async #allocate(path: string, sizeBytes: number): Promise<boolean> {
    const file = await this.#disk.open(path, { mode: "createOrOpen" });
    try {
      if (file.allocate === undefined || (await file.allocate(0, sizeBytes))) return true;
    } finally {
      await file.close();
    }
    await this.#disk.remove(path);
    return false;
  }
}

/**
 * Not what was refused beforehand because it needs more than is free: a little more does not change that; nor does it help
 * images that are in a volume group.
 */
function isFailedWrite(error: unknown, dataDir: string): boolean {
  const { code, cause, where } = asWalbError(error);
  const isElsewhere = where.file !== undefined && !where.file.startsWith(`${dataDir}/`);
  return code === "no-space" && cause !== undefined && !isElsewhere;
}

/** Bytes that also take their space on a file system that compresses. */
function incompressible(sizeBytes: number): Uint8Array {
  const words = new Uint32Array(sizeBytes / 4);
  let state = 0x9e37_79b9;
  for (let i = 0; i < words.length; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    words[i] = state;
  }
  return new Uint8Array(words.buffer);
}
