/**
 * @module The side file `base.hashes`: a hash of each MiB of the base image, so that what changed it silently (a failing
 * disk, another program) is found when the image is read the next time.
 *
 * Order: hashes of what will be written forgotten, durably → image written. A hash is learnt only from an image that is
 * durable. So a crash can lose hashes, but no hash outlives what it was made of.
 *
 * Format: a page of 4096 bytes with JSON, zeroes behind it; then pages of 511 hashes of 8 bytes each (MurmurHash3 x64_128
 * with seed 0, the first half; 0 = not known, and a hash that is 0 is kept as 1), a walb checksum of them with the page's
 * number as salt (32 bits, little endian) and 4 zero bytes. A page of zeroes is one of unknown hashes.
 */
import { z } from "zod";
import type { DiffIo } from "../diff/types.ts";
import { WalbError } from "../errors.ts";
import type { Lease } from "../native/memory.ts";
import type { DiskFile } from "../platform/disk.ts";
import { snapshotText } from "../snapshot/text.ts";
import type { ArchiveState } from "../snapshot/types.ts";
import { lbBytes, mib } from "../units.ts";
import type { ArchiveVolume } from "./volume.ts";

/** Name of the file in a volume's directory. */
export const baseHashesName = "base.hashes";
/** Of the image, for each hash; its last group may be shorter. */
export const groupBytes = mib;
const groupLb = groupBytes / lbBytes;
const pageBytes = 4096;
const entryBytes = 8;
/** Hashes in a page. */
const groupsPerPage = pageBytes / entryBytes - 1;
const sumAt = groupsPerPage * entryBytes;

/** What the file belongs to: without it the hashes of another image would count. */
const headerSchema = z.object({
  format: z.literal(1),
  groupBytes: z.literal(groupBytes),
  archiveUuid: z.string().optional(),
  base: z.string(),
  /** State after the apply that runs. */
  next: z.string().optional(),
});
type Header = z.infer<typeof headerSchema>;

/** Blocks that will be written, ascending. */
export interface ChangedBlocks {
  readonly count: number;
  readonly addressLb: ArrayLike<number>;
  readonly blocksLb: ArrayLike<number>;
}

/** The file of one volume while it is open. Its owner closes it. */
export class BaseHashes {
  readonly #volume: ArchiveVolume;
  readonly #io: DiffIo;
  readonly #file: DiskFile;
  readonly #page: Lease;
  #pageNo = -1;
  #isDirty = false;

  private constructor(volume: ArchiveVolume, io: DiffIo, file: DiskFile, page: Lease) {
    this.#volume = volume;
    this.#io = io;
    this.#file = file;
    this.#page = page;
  }

  /** Opens the file; undefined when there is none, or none of the image as it is now. */
  static async open(volume: ArchiveVolume, io: DiffIo): Promise<BaseHashes | undefined> {
    const path = volume.pathOf(baseHashesName);
    if ((await io.disk.info(path)) === undefined) return undefined;
    const hashes = await BaseHashes.#at(volume, io, "write");
    try {
      const header = await hashes.#readHeader();
      if (header !== undefined && isOf(header, volume)) {
        await hashes.#cover();
        return hashes;
      }
      await hashes.close();
      await forgetBaseHashes(volume);
      return undefined;
    } catch (error) {
      await hashes.close();
      throw error;
    }
  }

  /** Opens it, or makes one in which no hash is known. */
  static async openOrMake(volume: ArchiveVolume, io: DiffIo): Promise<BaseHashes> {
    const found = await BaseHashes.open(volume, io);
    if (found !== undefined) return found;
    const hashes = await BaseHashes.#at(volume, io, "createOrOpen");
    try {
      await hashes.#cover();
      await hashes.#writeHeader(headerOf(volume));
      await hashes.#file.sync();
      await io.disk.syncDirectory(volume.directory);
      return hashes;
    } catch (error) {
      await hashes.close();
      await forgetBaseHashes(volume);
      throw error;
    }
  }

  static async #at(volume: ArchiveVolume, io: DiffIo, mode: "write" | "createOrOpen"): Promise<BaseHashes> {
    const file = await io.disk.open(volume.pathOf(baseHashesName), { mode });
    try {
      return new BaseHashes(volume, io, file, await io.memory.lease(pageBytes));
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  /** Bytes of the hash of a group, or undefined when it is not known. Valid until the next call. */
  async get(group: number): Promise<Uint8Array | undefined> {
    await this.#load(Math.floor(group / groupsPerPage));
    const entry = this.#entry(group);
    return entry.every((byte) => byte === 0) ? undefined : entry;
  }

  /** Sets the hash of a group. Not durable before {@link sync}. */
  async put(group: number, hash: Uint8Array): Promise<void> {
    await this.#load(Math.floor(group / groupsPerPage));
    this.#entry(group).set(hash);
    this.#isDirty = true;
  }

  /** Lets go of what was set and could not be written: nothing more is known than before. */
  dropUnwritten(): void {
    this.#isDirty = false;
    this.#pageNo = -1;
  }

  /** Forgets, durably, the hashes of all that will be written. @param next state of the image behind it. */
  async forget(blocks: ChangedBlocks, next: ArchiveState): Promise<void> {
    await this.#writeHeader(headerOf(this.#volume, next));
    let group = 0;
    for (let i = 0; i < blocks.count; i++) {
      const startLb = blocks.addressLb[i]!;
      group = Math.max(group, Math.floor(startLb / groupLb));
      const end = Math.floor((startLb + blocks.blocksLb[i]! - 1) / groupLb) + 1;
      while (group < end) {
        const pageNo = Math.floor(group / groupsPerPage);
        await this.#load(pageNo);
        const stop = Math.min(end, (pageNo + 1) * groupsPerPage);
        const at = (group % groupsPerPage) * entryBytes;
        const entries = this.#page.bytes.subarray(at, at + (stop - group) * entryBytes);
        if (entries.some((byte) => byte !== 0)) {
          entries.fill(0);
          this.#isDirty = true;
        }
        group = stop;
      }
    }
    await this.sync();
  }

  /** The image has the state of the volume's base now. */
  async moveOn(): Promise<void> {
    await this.#writeHeader(headerOf(this.#volume));
    await this.#file.sync();
  }

  async sync(): Promise<void> {
    await this.#flush();
    await this.#file.sync();
  }

  async close(): Promise<void> {
    this.#page.release();
    await this.#file.close();
  }

  #entry(group: number): Uint8Array {
    const at = (group % groupsPerPage) * entryBytes;
    return this.#page.bytes.subarray(at, at + entryBytes);
  }

  /** The file reaches to the end of the volume. */
  async #cover(): Promise<void> {
    const groups = Math.ceil(this.#volume.sizeBytes / groupBytes);
    const sizeBytes = (1 + Math.ceil(groups / groupsPerPage)) * pageBytes;
    if ((await this.#file.size()) < sizeBytes) await this.#file.truncate(sizeBytes);
  }

  async #load(pageNo: number): Promise<void> {
    if (pageNo === this.#pageNo) return;
    await this.#flush();
    this.#pageNo = -1;
    const page = this.#page.slice(0, pageBytes);
    await this.#file.read((1 + pageNo) * pageBytes, page);
    const isGood = page.view.getUint32(sumAt, true) === this.#sum(pageNo);
    if (!isGood && page.bytes.some((byte) => byte !== 0)) {
      this.#volume.log.warn("hashes of the base image are damaged and are learnt anew", { file: this.#file.path });
      page.bytes.fill(0);
    }
    this.#pageNo = pageNo;
  }

  async #flush(): Promise<void> {
    if (!this.#isDirty) return;
    const page = this.#page.slice(0, pageBytes);
    page.bytes.fill(0, sumAt);
    page.view.setUint32(sumAt, this.#sum(this.#pageNo), true);
    await this.#file.write((1 + this.#pageNo) * pageBytes, page);
    this.#isDirty = false;
  }

  #sum(pageNo: number): number {
    return this.#io.compute.checksumNow(this.#page.bytes.subarray(0, sumAt), pageNo);
  }

  async #readHeader(): Promise<Header | undefined> {
    if ((await this.#file.size()) < pageBytes) return undefined;
    const page = this.#page.slice(0, pageBytes);
    await this.#file.read(0, page);
    const text = new TextDecoder().decode(page.bytes.subarray(0, Math.max(0, page.bytes.indexOf(0))));
    try {
      return headerSchema.safeParse(JSON.parse(text)).data;
    } catch {
      return undefined;
    }
  }

  async #writeHeader(header: Header): Promise<void> {
    await this.#flush();
    this.#pageNo = -1;
    const bytes = new TextEncoder().encode(JSON.stringify(header));
    if (bytes.length >= 512) throw new WalbError("internal", { what: "the header of the hashes is too long" });
    const page = this.#page.slice(0, pageBytes);
    page.bytes.fill(0);
    page.bytes.set(bytes);
    await this.#file.write(0, page);
  }
}

/** Forgets all hashes, durably: before the image is written as a whole, or when it is another one. */
export async function forgetBaseHashes({ platform, directory }: ArchiveVolume): Promise<void> {
  const path = `${directory}/${baseHashesName}`;
  if ((await platform.disk.info(path)) === undefined) return;
  await platform.disk.remove(path);
  await platform.disk.syncDirectory(directory);
}

/**
 * Before an apply writes to the image: forgets what it will change. Where that fails, on a full disk for one, all hashes go.
 * @returns what to do when the base has its new state; it must not fail the apply.
 */
export async function forgetChanged(
  volume: ArchiveVolume,
  io: DiffIo,
  blocks: ChangedBlocks,
  next: ArchiveState,
): Promise<() => Promise<void>> {
  let hashes: BaseHashes | undefined;
  try {
    hashes = await BaseHashes.open(volume, io);
    await hashes?.forget(blocks, next);
  } catch (error) {
    volume.log.warn("the hashes of the base image could not be kept and are learnt anew", { error });
    await forgetBaseHashes(volume);
    return async () => undefined;
  } finally {
    await hashes?.close();
  }
  if (hashes === undefined) return async () => undefined;
  return async () => {
    let moved: BaseHashes | undefined;
    try {
      moved = await BaseHashes.open(volume, io);
      await moved?.moveOn();
    } catch (error) {
      volume.log.warn("the hashes of the base image could not be brought up to date", { error });
    } finally {
      await moved?.close();
    }
  };
}

function headerOf({ store }: ArchiveVolume, next?: ArchiveState): Header {
  const { archiveUuid, base } = store;
  const uuid = archiveUuid === undefined ? {} : { archiveUuid };
  const after = next === undefined ? {} : { next: snapshotText(next.from) };
  return { format: 1, groupBytes, ...uuid, base: base === undefined ? "" : snapshotText(base.from), ...after };
}

/** Whether the hashes are of the image that the volume has: the one they were made of, or that with an apply over it. */
function isOf({ archiveUuid, base, next }: Header, { store }: ArchiveVolume): boolean {
  if (archiveUuid !== store.archiveUuid || store.base === undefined) return false;
  const now = snapshotText(store.base.from);
  return now === base || now === next;
}
