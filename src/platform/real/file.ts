/** @module An open file or block device: every operation is a job of the shim's pool. */

import { WalbError } from "../../errors.ts";
import { JobAnswer } from "../../native/answer.ts";
import type { CompressOption, Encoded } from "../../native/codec.ts";
import { checkCompressOption, putEncode, takeCodes, takeEncoded } from "../../native/compute.ts";
import { errnoError } from "../../native/errno.ts";
import { endOfFile, ItemF64, ItemU32, itemF64, itemU32, JobFlag, Op } from "../../native/layout.ts";
import type { Memory } from "../../native/memory.ts";
import type { Job, JobRunner } from "../../native/pool.ts";
import { putSource, putTarget, type Table, withItems, withTable } from "../../native/tables.ts";
import { checkRange, mib } from "../../units.ts";
import type {
  BadTransfer,
  DecodedWrite,
  DiskFile,
  PlacedRead,
  PlacedSum,
  PlacedWrite,
  TransferFlow,
  TransferRows,
} from "../disk.ts";
import { AlignedFile } from "./aligned-file.ts";
import { CachedIo, errnoUnsupported } from "./cached-io.ts";
import { commitFile } from "./commit.ts";
import { RealFlow } from "./flow.ts";
import { RealSync } from "./sync.ts";
import { ItemRows, manyFailure, readFailure, writeFailure } from "./transfer-rows.ts";

/** What opening found out. */
export interface OpenedFile {
  readonly fd: number;
  readonly path: string;
  readonly isBlockDevice: boolean;
  readonly isDirect: boolean;
  readonly alignmentBytes: number;
  readonly physicalBlockBytes: number;
  readonly sizeBytes: number;
  /** It was opened for reading on a local file system: closing it waits for nothing. */
  readonly closesAtOnce: boolean;
}

const piecesMax = 1024;
/** Of files up to this size pack headers are read on this thread. */
const headersHereBytes = mib;

/** The real {@link DiskFile}. */
export class RealDiskFile extends AlignedFile implements DiskFile {
  readonly isBlockDevice: boolean;
  readonly isDirect: boolean;
  readonly physicalBlockBytes: number;
  readonly openedSizeBytes: number;
  readonly #cached: CachedIo;

  constructor(runner: JobRunner, opened: OpenedFile) {
    super(runner, opened);
    this.#cached = new CachedIo(opened.fd);
    this.isBlockDevice = opened.isBlockDevice;
    this.isDirect = opened.isDirect;
    this.physicalBlockBytes = opened.physicalBlockBytes;
    this.openedSizeBytes = opened.sizeBytes;
  }

  get ownPath(): string {
    return `/proc/self/fd/${this.fd}`;
  }

  async size(): Promise<number> {
    const { result } = await this.run("asking for the size", { op: Op.size, flags: this.#kindFlag, isSlow: true });
    return result;
  }

  async read(offsetBytes: number, target: Memory): Promise<void> {
    this.check("read", offsetBytes, target.sizeBytes, target.address);
    await this.run("read", { op: Op.pread, ...place(offsetBytes, target) });
  }

  async write(offsetBytes: number, source: Memory): Promise<void> {
    this.check("write", offsetBytes, source.sizeBytes, source.address);
    await this.run("write", { op: Op.pwrite, ...place(offsetBytes, source) });
  }

  writeGather(offsetBytes: number, sources: readonly Memory[]): Promise<void> {
    return this.#writePieces(offsetBytes, sources, {});
  }

  writeSynced(offsetBytes: number, sources: readonly Memory[]): Promise<void> {
    return this.#writePieces(offsetBytes, sources, { flags: JobFlag.sync, isSlow: true });
  }

  async writeSummed(
    offsetBytes: number,
    sources: readonly Memory[],
    sums: readonly PlacedSum[],
    { salt, isSynced }: { readonly salt: number; readonly isSynced: boolean },
  ): Promise<void> {
    checkRange(sources.length, 1, piecesMax, "pieces of a gathered write");
    const size = this.checkPieces("write", offsetBytes, sources);
    const count = sources.length;
    await withItems(count + sums.length, async (table) => {
      for (let i = 0; i < count; i++) putSource(table, i, sources[i]!);
      for (let i = 0; i < sums.length; i++) putSum(table, count + i, sums[i]!, salt);
      const flags = JobFlag.summed | (isSynced ? JobFlag.sync : 0);
      const job = { op: Op.pwritev, count, table: table.address, offset: offsetBytes, size, extra: sums.length };
      await this.run(isSynced ? "write and sync" : "write", { ...job, flags, isSlow: isSynced });
    });
  }

  async #writePieces(
    offsetBytes: number,
    sources: readonly Memory[],
    options: Pick<Job, "flags" | "isSlow">,
  ): Promise<void> {
    checkRange(sources.length, 0, piecesMax, "pieces of a gathered write");
    const size = this.checkPieces("write", offsetBytes, sources);
    if (size === 0) return;
    await withItems(sources.length, async (table) => {
      sources.forEach((source, i) => {
        putSource(table, i, source);
      });
      const job = { op: Op.pwritev, count: sources.length, table: table.address, offset: offsetBytes, size };
      await this.run(options.flags === undefined ? "write" : "write and sync", { ...job, ...options });
    });
  }

  writeCached(offsetBytes: number, sources: readonly Memory[]): boolean {
    if (this.isDirect || this.isClosed) return false;
    return this.#cached.write(offsetBytes, sources, this.checkPieces("write", offsetBytes, sources));
  }

  readCached(offsetBytes: number, target: Memory): boolean {
    if (this.isDirect || this.isClosed) return false;
    this.check("read", offsetBytes, target.sizeBytes, target.address);
    return this.#cached.read(offsetBytes, target);
  }

  async writeMany(
    writes: readonly PlacedWrite[],
    { isGentle = false }: { readonly isGentle?: boolean } = {},
  ): Promise<void> {
    if (writes.length === 0) return;
    for (const { offsetBytes, source } of writes) this.check("write", offsetBytes, source.sizeBytes, source.address);
    await withItems(writes.length, async (table) => {
      for (let i = 0; i < writes.length; i++) {
        const { offsetBytes, source } = writes[i]!;
        putSource(table, i, source);
        table.f64[i * itemF64 + ItemF64.fileOffset] = offsetBytes;
      }
      const flags = isGentle ? JobFlag.gentle : 0;
      const done = await this.raw({ op: Op.writeMany, flags, count: writes.length, table: table.address });
      if (done.result < 0) {
        const pieces = writes.map(({ offsetBytes, source }) => ({ offsetBytes, sizeBytes: source.sizeBytes }));
        throw manyFailure("write", this.path, pieces, done);
      }
    });
  }

  async readMany(reads: readonly PlacedRead[]): Promise<void> {
    if (reads.length === 0) return;
    for (const { offsetBytes, target } of reads) this.check("read", offsetBytes, target.sizeBytes, target.address);
    await withItems(reads.length, async (table) => {
      for (let i = 0; i < reads.length; i++) {
        const { offsetBytes, target } = reads[i]!;
        putTarget(table, i, target.address, target.sizeBytes);
        table.f64[i * itemF64 + ItemF64.fileOffset] = offsetBytes;
      }
      const done = await this.raw({ op: Op.readMany, count: reads.length, table: table.address });
      if (done.result < 0) {
        const pieces = reads.map(({ offsetBytes, target }) => ({ offsetBytes, sizeBytes: target.sizeBytes }));
        throw manyFailure("read", this.path, pieces, done);
      }
    });
  }

  async readPackHeaders(offsetBytes: number, target: Memory): Promise<number> {
    this.check("read", offsetBytes, target.sizeBytes, target.address);
    if (!this.isDirect && this.openedSizeBytes <= headersHereBytes) {
      const count = this.#cached.readPackHeaders(offsetBytes, target);
      if (count > 0) return count;
    }
    const { result } = await this.raw({ op: Op.readPacks, ...place(offsetBytes, target) });
    if (result >= 0) return result;
    if (result === endOfFile) return 0;
    throw errnoError("read of pack headers", -result, this.place(offsetBytes));
  }

  async readLogHeaders(offsetBytes: number, pbsBytes: number, target: Memory): Promise<number> {
    this.check("read", offsetBytes, target.sizeBytes, target.address);
    const { result } = await this.raw({ op: Op.readLogPacks, count: pbsBytes, ...place(offsetBytes, target) });
    if (result >= 0) return result;
    if (result === endOfFile) return 0;
    throw errnoError("read of pack headers", -result, this.place(offsetBytes));
  }

  async allocate(offsetBytes: number, sizeBytes: number): Promise<boolean> {
    checkRange(offsetBytes + sizeBytes, 0, Number.MAX_SAFE_INTEGER, "end of the range");
    if (this.isBlockDevice || sizeBytes === 0) return true;
    const { result } = await this.raw({ op: Op.allocate, isSlow: true, offset: offsetBytes, size: sizeBytes });
    if (result >= 0) return true;
    if (errnoUnsupported.has(-result)) return false;
    throw errnoError(`reserving ${sizeBytes} bytes`, -result, this.place(offsetBytes));
  }

  async startWriteback(offsetBytes: number, sizeBytes: number): Promise<void> {
    checkRange(offsetBytes + sizeBytes, 0, Number.MAX_SAFE_INTEGER, "end of the range");
    if (this.isDirect || sizeBytes === 0) return;
    await this.run("starting to write back", {
      op: Op.startWriteback,
      isSlow: true,
      offset: offsetBytes,
      size: sizeBytes,
    });
  }

  async writeBack(offsetBytes: number, sizeBytes: number): Promise<void> {
    checkRange(offsetBytes + sizeBytes, 0, Number.MAX_SAFE_INTEGER, "end of the range");
    if (this.isDirect || sizeBytes === 0) return;
    const job = { op: Op.writeBack, isSlow: true, offset: offsetBytes, size: sizeBytes };
    const { result } = await this.raw(job);
    if (result < 0 && !errnoUnsupported.has(-result))
      throw errnoError("writing back", -result, this.place(offsetBytes));
  }

  forgetCached(): void {
    if (!this.isDirect) this.#cached.forget();
  }

  async sync(): Promise<void> {
    await this.run("fdatasync", { op: Op.fdatasync, isSlow: true });
  }

  readonly syncAs = (path: string, sizeBytes?: number): Promise<void> => commitFile(this, path, sizeBytes);

  beginSync(): RealSync {
    const answer = new JobAnswer();
    return new RealSync(this.#sync(answer), answer);
  }

  async #sync(answer: JobAnswer): Promise<void> {
    await this.run("fdatasync", { op: Op.fdatasync, isSlow: true, answer });
  }

  async zero(offsetBytes: number, sizeBytes: number): Promise<void> {
    this.check("zeroing", offsetBytes, sizeBytes, 0);
    await this.run("zeroing", {
      op: Op.zero,
      isSlow: true,
      flags: this.#kindFlag,
      offset: offsetBytes,
      size: sizeBytes,
    });
  }

  /** Tells the device or file system that a range is not needed: its contents are undefined afterwards. */
  async discard(offsetBytes: number, sizeBytes: number): Promise<void> {
    this.check("discard", offsetBytes, sizeBytes, 0);
    const job = { op: Op.discard, isSlow: true, flags: this.#kindFlag, offset: offsetBytes, size: sizeBytes };
    await this.run("discard", job);
  }

  async truncate(sizeBytes: number): Promise<void> {
    checkRange(sizeBytes, 0, Number.MAX_SAFE_INTEGER, "size of the file");
    await this.run("truncate", { op: Op.truncate, isSlow: true, size: sizeBytes });
  }

  async nextData(offsetBytes: number): Promise<{ startBytes: number; endBytes: number } | undefined> {
    checkRange(offsetBytes, 0, Number.MAX_SAFE_INTEGER, "offset");
    if (!this.isBlockDevice) {
      const { result, result2 } = await this.raw({ op: Op.nextData, offset: offsetBytes, isSlow: true });
      if (result === endOfFile) return undefined;
      if (result >= 0) return { startBytes: result, endBytes: result2 };
      if (!errnoUnsupported.has(-result)) throw errnoError("search for data", -result, this.place(offsetBytes));
    }
    const endBytes = await this.size();
    return offsetBytes < endBytes ? { startBytes: offsetBytes, endBytes } : undefined;
  }

  async readEncoded(
    offsetBytes: number,
    sources: readonly Memory[],
    targets: readonly Memory[],
    option: CompressOption & { readonly always: boolean },
  ): Promise<Encoded[]> {
    checkCompressOption(option);
    const size = this.checkPieces("read", offsetBytes, sources);
    return await withItems(sources.length, async (table) => {
      sources.forEach((source, i) => {
        putEncode(table, i, source, targets[i], option, option.always);
      });
      const flags = option.always ? JobFlag.always : 0;
      const count = sources.length;
      await this.run("read", { op: Op.readEncode, flags, count, table: table.address, offset: offsetBytes, size });
      return takeEncoded(table, count);
    });
  }

  async readHashed(offsetBytes: number, target: Memory, chunkBytes: number, seed: number): Promise<Uint8Array> {
    this.check("read", offsetBytes, target.sizeBytes, target.address);
    checkRange(chunkBytes, 1, 2 ** 30, "chunkBytes");
    checkRange(seed, 0, 0xffff_ffff, "seed");
    const hashBytes = 16 * Math.ceil(target.sizeBytes / chunkBytes);
    return await withTable(hashBytes, async (table) => {
      await this.run("read", {
        op: Op.readHash,
        ...place(offsetBytes, target),
        table: table.address,
        count: chunkBytes,
        extra: seed,
      });
      return table.bytes.slice(0, hashBytes);
    });
  }

  async writeDecoded(items: readonly DecodedWrite[]): Promise<Uint8Array> {
    for (const item of items) this.#checkDecodedWrite(item);
    return await withItems(items.length, async (table) => {
      items.forEach((item, i) => {
        putSource(table, i, item.source);
        putTarget(table, i, 0, item.decodedBytes);
        table.u32[i * itemU32 + ItemU32.code] = item.codec;
        table.u32[i * itemU32 + ItemU32.word] = item.checksum;
        table.f64[i * itemF64 + ItemF64.sliceOffset] = item.sliceOffsetBytes;
        table.f64[i * itemF64 + ItemF64.sliceSize] = item.sliceBytes;
        table.f64[i * itemF64 + ItemF64.fileOffset] = item.fileOffsetBytes;
      });
      const extra = this.alignmentBytes;
      const done = await this.raw({ op: Op.writeDecoded, count: items.length, table: table.address, extra });
      if (done.result < 0) throw writeFailure(this.path, table, done);
      return takeCodes(table, items.length);
    });
  }

  async transfer(
    sources: readonly DiskFile[],
    count: number,
    fill: (rows: TransferRows) => void,
    options: { readonly isVerified?: boolean; readonly flow?: TransferFlow | undefined } = {},
  ): Promise<BadTransfer | undefined> {
    if (count === 0) return undefined;
    return await withItems(count, async (table) => {
      const rows = new ItemRows(table, sources.map(descriptorOf), count);
      fill(rows);
      rows.checkFull();
      const flags = options.isVerified === true ? JobFlag.verified : 0;
      const job = { op: Op.transfer, count, flags, table: table.address };
      const done = await (options.flow instanceof RealFlow
        ? options.flow.run((turn) => this.raw({ ...job, ...turn }))
        : this.raw(job));
      if (done.result >= 0) return rows.firstBad();
      const row = done.result2 - 1;
      if (row < 0) throw writeFailure(this.path, table, done);
      throw readFailure((sources[rows.sourceOf(row)] ?? this).path, rows, row, done.result);
    });
  }

  startFlow(options: { readonly isStrict?: boolean } = {}): TransferFlow {
    return new RealFlow(options.isStrict === true);
  }

  get #kindFlag(): number {
    return this.isBlockDevice ? JobFlag.blockDevice : 0;
  }

  #checkDecodedWrite(item: DecodedWrite): void {
    checkRange(item.decodedBytes, 0, 2 ** 40, "decodedBytes");
    checkRange(item.sliceOffsetBytes, 0, item.decodedBytes, "sliceOffsetBytes");
    checkRange(item.sliceBytes, 0, item.decodedBytes - item.sliceOffsetBytes, "sliceBytes");
    this.check("write", item.fileOffsetBytes, item.sliceBytes, 0);
  }
}

/** Descriptor of a source of a transfer. @throws WalbError `internal` for a file of another kind. */
export function descriptorOf(file: DiskFile): number {
  if (file instanceof RealDiskFile && !file.isDirect) return file.fd;
  throw new WalbError("internal", {
    what: "a transfer from a file that is not a buffered one",
    where: { file: file.path },
  });
}

function putSum(table: Table, index: number, { block, offsetBytes, data }: PlacedSum, salt: number): void {
  checkRange(offsetBytes, 0, block.sizeBytes - 4, "place of a checksum");
  putSource(table, index, data);
  putTarget(table, index, block.address + offsetBytes, 4);
  table.u32[index * itemU32 + ItemU32.code] = data === block ? 1 : 0;
  table.u32[index * itemU32 + ItemU32.word] = salt;
}

function place(offsetBytes: number, memory: Memory): { offset: number; size: number; address: number } {
  return { offset: offsetBytes, size: memory.sizeBytes, address: memory.address };
}
