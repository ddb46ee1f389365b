/**
 * @module Files that are written from their begin to their end, past the page cache where that is possible.
 *
 * A diff is written once and read much later, if at all. Through the page cache each of its bytes would cost several
 * times as much CPU, and push out of memory what others read. Memory that lies in its page as its bytes will lie in the
 * file is written from where it is.
 */
import { assert } from "../errors.ts";
import type { Lease, Memory, MemoryPool } from "../native/memory.ts";
import type { Disk, DiskFile } from "../platform/disk.ts";
import { alignDown, alignUp, kib, mib } from "../units.ts";

/** What is needed of a file that is only appended to. A {@link DiskFile} that is not direct is one. */
export type AppendFile = Pick<DiskFile, "path" | "write" | "writeGather" | "sync" | "size" | "close"> & {
  /** Writes what is gathered and does not fill a block, beside what is being written; for the end of a file. */
  writeRest?(): Promise<void>;
  /** See `DiskFile.syncAs`. */
  readonly syncAs?: ((path: string) => Promise<void>) | undefined;
};

/** One write. */
const blockBytes = mib;
/** One is filled while the others are written. */
const blockCount = 2;
/** Files that will be smaller go through the page cache: there is nothing to be won. */
const directBytesMin = mib;
/** Place that appended memory must have for being written as it is: that of its bytes in the file, within such a page. */
const pageBytes = 4096;
/** Smaller appends are gathered, wherever they lie. */
const placedBytesMin = 64 * kib;
/** Appends being written as they are: the next one begins at once when one is done. */
const placedMax = 2;

/**
 * Makes a new file.
 * @param pool lends the blocks in which data is gathered; at most half of it, else the file goes through the page cache.
 * @param expectedBytes about how large it will be.
 */
export async function createAppendFile(
  disk: Disk,
  path: string,
  pool: MemoryPool,
  expectedBytes: number,
): Promise<AppendFile> {
  const blocks = expectedBytes < directBytesMin ? [] : takeBlocks(pool);
  if (blocks.length === 0) return await disk.open(path, { mode: "create" });
  let file: DiskFile | undefined;
  try {
    file = await disk.open(path, { mode: "create", direct: true });
  } finally {
    if (file?.isDirect !== true) for (const block of blocks) block.release();
  }
  return file.isDirect ? new DirectAppendFile(file, pool, blocks) : file;
}

function takeBlocks(pool: MemoryPool): Lease[] {
  if (2 * (pool.leasedBytes + blockCount * blockBytes) > pool.budgetBytes) return [];
  const blocks = Array.from({ length: blockCount }, () => pool.tryLease(blockBytes));
  const taken = blocks.filter((block) => block !== undefined);
  if (taken.length === blockCount) return taken;
  for (const block of taken) block.release();
  return [];
}

/** A block that is being written. `written` never rejects. */
interface Flight {
  readonly block: Lease;
  readonly written: Promise<void>;
}

/**
 * Gathers appends of any size in blocks and writes those with O_DIRECT; large ones that lie right are written from where
 * they are, and resolve when they are in the file. What comes behind the last full block is in the file once {@link sync}
 * has ended. A write that fails is told by the next call, and by every one after it.
 */
class DirectAppendFile implements AppendFile {
  readonly #file: DiskFile;
  readonly #pool: MemoryPool;
  readonly #free: Lease[];
  readonly #flights: Flight[] = [];
  /** Appends that are being written as they are; none rejects. */
  readonly #placed: Promise<void>[] = [];
  /** The block being filled, where it goes, and how far it is filled. */
  #block: Lease | undefined;
  #blockOffset = 0;
  #filledBytes = 0;
  /** Bytes of it that are in the file. */
  #storedBytes = 0;
  /** Where the next append goes. */
  #endOffset = 0;
  /** The file has more than was appended: padding. */
  #isLonger = false;
  #failure: { readonly error: unknown } | undefined;
  /** Appends and syncs, one after the other; never rejects. */
  #turn: Promise<void> = Promise.resolve();

  constructor(file: DiskFile, pool: MemoryPool, blocks: readonly Lease[]) {
    this.#file = file;
    this.#pool = pool;
    this.#free = [...blocks];
  }

  get path(): string {
    return this.#file.path;
  }

  write(offsetBytes: number, source: Memory): Promise<void> {
    return this.writeGather(offsetBytes, [source]);
  }

  writeGather(offsetBytes: number, sources: readonly Memory[]): Promise<void> {
    assert(offsetBytes === this.#endOffset, "appends follow each other");
    for (const { sizeBytes } of sources) this.#endOffset += sizeBytes;
    const placed: Promise<void>[] = [];
    const taken = this.#inTurn(async () => {
      for (const source of sources) {
        const isPlaced = await this.#tryPlace(source);
        if (isPlaced) placed.push(this.#placed.at(-1)!);
        else await this.#append(source);
      }
    });
    return taken.then(async () => {
      if (placed.length === 0) return;
      await Promise.all(placed);
      this.#requireGood();
    });
  }

  writeRest(): Promise<void> {
    return this.#inTurn(() => this.#storeRest());
  }

  async sync(): Promise<void> {
    await this.#inTurn(async () => {
      await this.#storeRest();
      if (this.#isLonger) await this.#guarded(this.#file.truncate(this.#writtenOffset));
      this.#requireGood();
      this.#isLonger = false;
    });
    await this.#file.sync();
  }

  get syncAs(): ((path: string) => Promise<void>) | undefined {
    if (this.#file.syncAs === undefined) return undefined;
    return async (path) => {
      await this.writeRest();
      await this.#file.syncAs!(path, this.#isLonger ? this.#endOffset : undefined);
    };
  }

  async size(): Promise<number> {
    return this.#endOffset;
  }

  async close(): Promise<void> {
    await this.#turn;
    await this.#landed();
    if (this.#block !== undefined) this.#free.push(this.#block);
    this.#block = undefined;
    for (const block of this.#free.splice(0)) block.release();
    await this.#file.close();
  }

  #inTurn(work: () => Promise<void>): Promise<void> {
    const result = this.#turn.then(work);
    this.#turn = result.catch(() => undefined);
    return result;
  }

  async #append({ bytes, sizeBytes }: Memory): Promise<void> {
    for (let at = 0; at < sizeBytes; ) {
      this.#block ??= await this.#takeBlock();
      this.#requireGood();
      const part = Math.min(blockBytes - this.#filledBytes, sizeBytes - at);
      this.#block.bytes.set(part === sizeBytes ? bytes : bytes.subarray(at, at + part), this.#filledBytes);
      this.#filledBytes += part;
      at += part;
      if (this.#filledBytes === blockBytes) this.#writeBlock(this.#block);
    }
  }

  /**
   * Writes memory from where it is, with what is waiting in front of it: the two share a page. What does not fill its
   * last page waits for the next append. False when it is too small or does not lie right.
   */
  async #tryPlace(source: Memory): Promise<boolean> {
    const { address, bytes, sizeBytes } = source;
    const startOffset = this.#blockOffset + this.#filledBytes;
    if (sizeBytes < placedBytesMin || (address - startOffset) % pageBytes !== 0) return false;
    while (this.#placed.length >= placedMax) await this.#placed.shift();
    this.#requireGood();
    const headBytes = alignUp(startOffset, pageBytes) - startOffset;
    const middleBytes = alignDown(sizeBytes - headBytes, pageBytes);
    const page = this.#pool.tryLease(pageBytes);
    if (page === undefined) return false;
    this.#block ??= await this.#takeBlock();
    const block = this.#block;
    block.bytes.set(bytes.subarray(0, headBytes), this.#filledBytes);
    const frontBytes = this.#filledBytes + headBytes;
    const pieces: Memory[] = [];
    if (frontBytes <= pageBytes) page.bytes.set(block.bytes.subarray(0, frontBytes));
    if (frontBytes > 0) pieces.push(frontBytes <= pageBytes ? page.slice(0, frontBytes) : block.slice(0, frontBytes));
    pieces.push(source.slice(headBytes, middleBytes));
    const written = this.#guarded(this.#file.writeGather(this.#blockOffset, pieces)).finally(() => page.release());
    this.#placed.push(written);
    let rest = block;
    if (frontBytes > pageBytes) {
      this.#flights.push({ block, written });
      this.#block = undefined;
      rest = await this.#takeBlock();
      this.#block = rest;
    }
    const tail = bytes.subarray(headBytes + middleBytes);
    rest.bytes.set(tail);
    this.#blockOffset += frontBytes + middleBytes;
    this.#filledBytes = tail.length;
    this.#storedBytes = 0;
    return true;
  }

  #requireGood(): void {
    if (this.#failure !== undefined) throw this.#failure.error;
  }

  async #takeBlock(): Promise<Lease> {
    const block = this.#free.pop();
    if (block !== undefined) return block;
    const first = this.#flights.shift()!;
    await first.written;
    return first.block;
  }

  #writeBlock(block: Lease): void {
    const written = this.#guarded(this.#file.write(this.#blockOffset, block));
    this.#flights.push({ block, written });
    this.#block = undefined;
    this.#blockOffset += blockBytes;
    this.#filledBytes = 0;
    this.#storedBytes = 0;
  }

  /** Writes what does not fill a block; when more comes it is written once more, with that. */
  async #storeRest(): Promise<void> {
    this.#requireGood();
    const block = this.#block;
    const isRest = block !== undefined && this.#storedBytes < this.#filledBytes;
    const rest = isRest ? this.#writeRestOf(block) : undefined;
    await this.#landed();
    await rest;
    this.#requireGood();
    if (rest !== undefined) this.#storedBytes = this.#filledBytes;
  }

  /** Up to where everything has been taken from the appends. */
  get #writtenOffset(): number {
    return this.#blockOffset + this.#filledBytes;
  }

  #writeRestOf(block: Lease): Promise<void> {
    const paddedBytes = alignUp(this.#filledBytes, this.#file.alignmentBytes);
    block.bytes.fill(0, this.#filledBytes, paddedBytes);
    if (paddedBytes > this.#filledBytes) this.#isLonger = true;
    return this.#guarded(this.#file.write(this.#blockOffset, block.slice(0, paddedBytes)));
  }

  /** Never rejects: a failure is kept. */
  #guarded(work: Promise<void>): Promise<void> {
    return work.catch((error: unknown) => {
      this.#failure ??= { error };
    });
  }

  /** Waits until nothing is being written. */
  async #landed(): Promise<void> {
    await Promise.all(this.#placed.splice(0));
    for (const { block, written } of this.#flights.splice(0)) {
      await written;
      this.#free.push(block);
    }
  }
}
