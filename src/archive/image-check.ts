/** @module Reads the base image and compares it with what it was when it was read the last time; learns what is not known. */
import { checkAborted } from "../diff/types.ts";
import { asWalbError, type WalbError } from "../errors.ts";
import type { ByteRange } from "../image/image.ts";
import type { DiskFile } from "../platform/disk.ts";
import { BaseHashes, groupBytes } from "./base-hashes.ts";
import { openBase } from "./base-image.ts";
import type { ArchiveMemory } from "./memory.ts";
import type { ArchiveVolume } from "./volume.ts";

const groupsInFlightMax = 4;
const seed = 0;
const hashBytes = 8;

/** What was read. */
export interface ImageCheck {
  /** Holes not counted. */
  readonly readBytes: number;
  /** Of the range, holes included: what was compared; the rest was not known and is now. */
  readonly comparedBytes: number;
  /** What is not what it was, neighbours joined. */
  readonly changed: readonly ByteRange[];
  /** Why what was learnt is not kept for the next time; undefined when it is. */
  readonly notKept: WalbError | undefined;
}

/** How to check. */
export interface ImageCheckOptions {
  /** Multiples of a group, or the end of the volume. */
  readonly range: ByteRange;
  readonly signal: AbortSignal;
  progress(doneBytes: number): void;
}

/** Checks a range of the base image. The caller keeps everybody from writing to it. */
export async function checkBaseImage(
  volume: ArchiveVolume,
  memory: ArchiveMemory,
  options: ImageCheckOptions,
): Promise<ImageCheck> {
  const image = await openBase(volume, "read");
  try {
    const known = await KnownHashes.open(volume, memory);
    try {
      const found = await compare(volume, memory, image, known, options);
      await known.close();
      return { ...found, notKept: known.notKept };
    } finally {
      await known.close();
    }
  } finally {
    await image.close();
  }
}

/** The hashes of before. Trouble with them costs only that changes are not found: the image is read all the same. */
class KnownHashes {
  readonly #volume: ArchiveVolume;
  #hashes: BaseHashes | undefined;
  #notKept: WalbError | undefined;

  private constructor(volume: ArchiveVolume) {
    this.#volume = volume;
  }

  static async open(volume: ArchiveVolume, { working }: ArchiveMemory): Promise<KnownHashes> {
    const known = new KnownHashes(volume);
    await known.#try(async () => {
      known.#hashes = await BaseHashes.openOrMake(volume, working);
    });
    return known;
  }

  /** Why nothing more is learnt. */
  get notKept(): WalbError | undefined {
    return this.#notKept;
  }

  /** The hash of before, which is `hash` from now on when there was none and the image is durable. */
  async learn(group: number, hash: Uint8Array, isDurable: boolean): Promise<Uint8Array | undefined> {
    return this.#try(async () => {
      const known = await this.#get(group);
      if (known !== undefined) return known.slice();
      if (isDurable && this.#notKept === undefined) await this.#hashes?.put(group, hash);
      return undefined;
    });
  }

  /** Keeps what was learnt, as far as there is room. Idempotent; never throws. */
  async close(): Promise<void> {
    await this.#try(async () => this.#hashes?.sync());
    const hashes = this.#hashes;
    this.#hashes = undefined;
    await hashes?.close();
  }

  /** On a full disk the hashes that are there are compared with all the same. */
  async #get(group: number): Promise<Uint8Array | undefined> {
    try {
      return await this.#hashes?.get(group);
    } catch (error) {
      if (asWalbError(error).code !== "no-space") throw error;
      this.#failed(error);
      this.#hashes?.dropUnwritten();
      return await this.#hashes?.get(group);
    }
  }

  #failed(error: unknown): void {
    this.#volume.log.warn("the hashes of the base image cannot be used", { error });
    this.#notKept ??= asWalbError(error);
  }

  async #try<T>(work: () => Promise<T>): Promise<T | undefined> {
    try {
      return await work();
    } catch (error) {
      this.#failed(error);
      const broken = this.#hashes;
      this.#hashes = undefined;
      await broken?.close();
      return undefined;
    }
  }
}

interface Hashed {
  readonly group: number;
  readonly sizeBytes: number;
  readonly readBytes: number;
  readonly hash: Uint8Array;
}

async function compare(
  volume: ArchiveVolume,
  memory: ArchiveMemory,
  image: DiskFile,
  hashes: KnownHashes,
  { range, signal, progress }: ImageCheckOptions,
): Promise<Omit<ImageCheck, "notKept">> {
  // In the middle of an apply that broke off the image may not be durable: nothing is learnt of it.
  const isSteady = volume.requireBase().to === undefined;
  const zeroHash = await hashOfZeroes(memory);
  const changed: { startBytes: number; endBytes: number }[] = [];
  let [readBytes, comparedBytes] = [0, 0];
  const take = async ({ group, sizeBytes, hash, ...read }: Hashed): Promise<void> => {
    readBytes += read.readBytes;
    const known = await hashes.learn(group, hash, isSteady);
    if (known === undefined) return;
    comparedBytes += sizeBytes;
    if (Buffer.compare(known, hash) === 0) return;
    const startBytes = group * groupBytes;
    const last = changed.at(-1);
    if (last?.endBytes === startBytes) last.endBytes = startBytes + sizeBytes;
    else changed.push({ startBytes, endBytes: startBytes + sizeBytes });
  };
  const imageBytes = await image.size();
  let data: ByteRange = { startBytes: 0, endBytes: 0 };
  const jobs: Promise<Hashed>[] = [];
  try {
    for (let at = range.startBytes; at < range.endBytes || jobs.length > 0; ) {
      checkAborted(signal, "reading the image");
      while (at < range.endBytes && jobs.length < groupsInFlightMax) {
        const startBytes = at;
        const sizeBytes = Math.min(groupBytes, range.endBytes - startBytes);
        at += sizeBytes;
        if (startBytes >= data.endBytes && startBytes < imageBytes) {
          const nowhere = { startBytes: Number.POSITIVE_INFINITY, endBytes: Number.POSITIVE_INFINITY };
          data = (await image.nextData(startBytes)) ?? nowhere;
        }
        const isHole = data.startBytes >= startBytes + sizeBytes && sizeBytes === groupBytes;
        const group = startBytes / groupBytes;
        if (!isHole) await volume.rates.scan.take(sizeBytes, signal);
        const job = isHole
          ? Promise.resolve({ group, sizeBytes, readBytes: 0, hash: zeroHash })
          : hashGroup(memory, image, group, sizeBytes);
        // The failure is met when the job's turn comes; until then it must not count as unhandled.
        job.catch(() => undefined);
        jobs.push(job);
      }
      const hashed = await jobs.shift()!;
      await take(hashed);
      progress(hashed.group * groupBytes + hashed.sizeBytes - range.startBytes);
    }
  } finally {
    await Promise.allSettled(jobs);
  }
  return { readBytes, comparedBytes, changed };
}

async function hashGroup(memory: ArchiveMemory, image: DiskFile, group: number, sizeBytes: number): Promise<Hashed> {
  const lease = await memory.bulks.lease(sizeBytes);
  try {
    const target = lease.slice(0, sizeBytes);
    const hash = await image.readHashed(group * groupBytes, target, groupBytes, seed);
    return { group, sizeBytes, readBytes: sizeBytes, hash: shortened(hash) };
  } finally {
    lease.release();
  }
}

async function hashOfZeroes({ working, bulks }: ArchiveMemory): Promise<Uint8Array> {
  const lease = await bulks.lease(groupBytes);
  try {
    const zeroes = lease.slice(0, groupBytes);
    zeroes.bytes.fill(0);
    return shortened(await working.compute.hashes([zeroes], seed));
  } finally {
    lease.release();
  }
}

/** As it is kept: zero means that it is not known. */
function shortened(hash: Uint8Array): Uint8Array {
  const short = hash.slice(0, hashBytes);
  if (short.every((byte) => byte === 0)) short[0] = 1;
  return short;
}
