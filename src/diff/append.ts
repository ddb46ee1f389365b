/**
 * @module Files that are written from their begin to their end, past the page cache where that is possible.
 *
 * A diff is written once and read much later, if at all. Through the page cache each of its bytes would cost several
 * times as much CPU, and push out of memory what others read.
 */
import { assert } from "../errors.ts";
import type { Lease, Memory, MemoryPool } from "../native/memory.ts";
import type { Disk, DiskFile } from "../platform/disk.ts";
import { alignUp, mib } from "../units.ts";

/** What is needed of a file that is only appended to. A {@link DiskFile} that is not direct is one. */
export type AppendFile = Pick<DiskFile, "path" | "write" | "writeGather" | "sync" | "size" | "close">;

/** One write. */
const blockBytes = mib;
/** One is filled while the others are written. */
const blockCount = 2;
/** Files that will be smaller go through the page cache: there is nothing to be won. */
const directBytesMin = mib;

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
  return file.isDirect ? new DirectAppendFile(file, blocks) : file;
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
 * Gathers appends of any size in blocks and writes those with O_DIRECT. What comes behind the last full block is in the
 * file once {@link sync} has ended. A write that fails is told by the next call, and by every one after it.
 */
class DirectAppendFile implements AppendFile {
  readonly #file: DiskFile;
  readonly #free: Lease[];
  readonly #flights: Flight[] = [];
  /** The block being filled, where it goes, and how far it is filled. */
  #block: Lease | undefined;
  #blockOffset = 0;
  #filledBytes = 0;
  /** Bytes of it that are in the file. */
  #storedBytes = 0;
  /** Where the next append goes. */
  #endOffset = 0;
  #failure: { readonly error: unknown } | undefined;
  /** Appends and syncs, one after the other; never rejects. */
  #turn: Promise<void> = Promise.resolve();

  constructor(file: DiskFile, blocks: readonly Lease[]) {
    this.#file = file;
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
    return this.#inTurn(async () => {
      for (const source of sources) await this.#append(source);
    });
  }

  async sync(): Promise<void> {
    await this.#inTurn(() => this.#storeRest());
    await this.#file.sync();
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
      if (this.#failure !== undefined) throw this.#failure.error;
      const part = Math.min(blockBytes - this.#filledBytes, sizeBytes - at);
      this.#block.bytes.set(part === sizeBytes ? bytes : bytes.subarray(at, at + part), this.#filledBytes);
      this.#filledBytes += part;
      at += part;
      if (this.#filledBytes === blockBytes) this.#writeBlock(this.#block);
    }
  }

  async #takeBlock(): Promise<Lease> {
    const block = this.#free.pop();
    if (block !== undefined) return block;
    const first = this.#flights.shift()!;
    await first.written;
    return first.block;
  }

  #writeBlock(block: Lease): void {
    const written = this.#file.write(this.#blockOffset, block).catch((error: unknown) => {
      this.#failure ??= { error };
    });
    this.#flights.push({ block, written });
    this.#block = undefined;
    this.#blockOffset += blockBytes;
    this.#filledBytes = 0;
    this.#storedBytes = 0;
  }

  /** Writes what does not fill a block; when more comes it is written once more, with that. */
  async #storeRest(): Promise<void> {
    await this.#landed();
    if (this.#failure !== undefined) throw this.#failure.error;
    const block = this.#block;
    if (block === undefined || this.#storedBytes === this.#filledBytes) return;
    const paddedBytes = alignUp(this.#filledBytes, this.#file.alignmentBytes);
    block.bytes.fill(0, this.#filledBytes, paddedBytes);
    try {
      await this.#file.write(this.#blockOffset, block.slice(0, paddedBytes));
      if (paddedBytes > this.#filledBytes) await this.#file.truncate(this.#blockOffset + this.#filledBytes);
    } catch (error) {
      this.#failure ??= { error };
      throw error;
    }
    this.#storedBytes = this.#filledBytes;
  }

  /** Waits until no block is being written. */
  async #landed(): Promise<void> {
    for (const { block, written } of this.#flights.splice(0)) {
      await written;
      this.#free.push(block);
    }
  }
}
