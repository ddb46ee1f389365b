/** @module An open file or block device of a simulated process. */
import { WalbError } from "../../errors.ts";
import type { CompressOption, Compute, Encoded } from "../../native/codec.ts";
import type { Memory } from "../../native/memory.ts";
import type { DecodedWrite, DiskFile, OpenOptions } from "../../platform/disk.ts";
import { checkRange } from "../../units.ts";
import type { DiskOperationKind } from "../api.ts";
import { inlineCompute } from "../compute.ts";
import { leaseSlab } from "../memory.ts";
import type { SimProcess } from "../process.ts";
import type { Storage } from "./storage.ts";
import type { FileNode } from "./tree.ts";

const gatherPiecesMax = 1024;
const fileBytesMax = 2 ** 60;

/** Bytes for a place in the file. */
interface Piece {
  readonly offsetBytes: number;
  readonly bytes: Uint8Array;
}

/** What an open file needs of its process. */
export interface FileOwner {
  readonly process: SimProcess;
  readonly storage: Storage;
  nowMs(): number;
}

export class SimDiskFile implements DiskFile {
  readonly isBlockDevice: boolean;
  readonly isDirect: boolean;
  readonly alignmentBytes: number;
  readonly physicalBlockBytes: number;
  private readonly compute: Compute = inlineCompute();
  private readonly running = new Set<Promise<unknown>>();
  private closing: Promise<void> | undefined;

  constructor(
    private readonly owner: FileOwner,
    private readonly node: FileNode,
    readonly path: string,
    private readonly options: OpenOptions,
  ) {
    this.isBlockDevice = node.kind === "block";
    this.isDirect = options.direct ?? false;
    this.alignmentBytes = this.isDirect ? node.logicalBlockBytes : 1;
    this.physicalBlockBytes = node.physicalBlockBytes;
    owner.storage.addHandle(this, node);
  }

  private get content() {
    return this.node.content;
  }

  size(): Promise<number> {
    return this.operate("query", 0, 0, () => this.content.sizeBytes);
  }

  read(offsetBytes: number, target: Memory): Promise<void> {
    return this.operate("read", offsetBytes, target.sizeBytes, () => this.readNow(offsetBytes, [target]), {
      memories: [target],
    });
  }

  write(offsetBytes: number, source: Memory): Promise<void> {
    return this.writeGather(offsetBytes, [source]);
  }

  writeGather(offsetBytes: number, sources: readonly Memory[]): Promise<void> {
    if (sources.length > gatherPiecesMax) {
      const what = `${sources.length} pieces in one write, but at most ${gatherPiecesMax} are allowed`;
      return Promise.reject(this.error("internal", what, offsetBytes));
    }
    return this.writePieces(() => consecutive(offsetBytes, sources), offsetBytes, totalBytes(sources), sources);
  }

  async writeSynced(offsetBytes: number, sources: readonly Memory[]): Promise<void> {
    await this.writeGather(offsetBytes, sources);
    await this.sync();
  }

  sync(): Promise<void> {
    const mark = this.content.mark;
    const effects = {
      isMutation: true,
      land: () => this.content.sync(mark),
      failPartly: () => this.content.failSync(mark, this.owner.process.chance),
    };
    return this.operate("sync", 0, 0, () => this.content.sync(mark), effects);
  }

  zero(offsetBytes: number, sizeBytes: number): Promise<void> {
    const work = () => {
      this.checkWritable();
      if (this.isBlockDevice) this.checkInside(offsetBytes, sizeBytes);
      const inside = Math.min(sizeBytes, this.content.sizeBytes - offsetBytes);
      if (inside > 0) this.content.zero(offsetBytes, inside);
      this.node.modifiedMs = this.owner.nowMs();
    };
    return this.operate("zero", offsetBytes, sizeBytes, work, { isMutation: true, land: work });
  }

  truncate(sizeBytes: number): Promise<void> {
    const work = () => {
      this.checkWritable();
      if (this.isBlockDevice) throw this.error("io", "a block device cannot be truncated", sizeBytes);
      this.content.truncate(checkRange(sizeBytes, 0, fileBytesMax, "sizeBytes"));
      this.node.modifiedMs = this.owner.nowMs();
    };
    return this.operate("truncate", sizeBytes, 0, work, { isMutation: true, land: work });
  }

  nextData(offsetBytes: number): Promise<{ startBytes: number; endBytes: number } | undefined> {
    return this.operate("query", offsetBytes, 0, () => {
      if (!this.isBlockDevice) return this.content.nextData(offsetBytes);
      const endBytes = this.content.sizeBytes;
      return offsetBytes < endBytes ? { startBytes: offsetBytes, endBytes } : undefined;
    });
  }

  readEncoded(
    offsetBytes: number,
    sources: readonly Memory[],
    targets: readonly Memory[],
    option: CompressOption & { readonly always: boolean },
  ): Promise<Encoded[]> {
    if (sources.length !== targets.length) {
      return Promise.reject(this.error("internal", "as many targets as sources are needed", offsetBytes));
    }
    const items = sources.map((source, i) => ({ source, target: targets[i]! }));
    const work = () => {
      this.readNow(offsetBytes, sources);
      return option.always ? this.compute.encodeAlways(items, option) : this.compute.encode(items, option);
    };
    return this.operate("read", offsetBytes, totalBytes(sources), work, { memories: sources });
  }

  readHashed(offsetBytes: number, target: Memory, chunkBytes: number, seed: number): Promise<Uint8Array> {
    checkRange(chunkBytes, 1, Number.MAX_SAFE_INTEGER, "chunkBytes");
    const work = () => {
      this.readNow(offsetBytes, [target]);
      const chunks: Memory[] = [];
      for (let at = 0; at < target.sizeBytes; at += chunkBytes) {
        chunks.push(target.slice(at, Math.min(chunkBytes, target.sizeBytes - at)));
      }
      return this.compute.hashes(chunks, seed);
    };
    return this.operate("read", offsetBytes, target.sizeBytes, work, { memories: [target] });
  }

  writeDecoded(items: readonly DecodedWrite[]): Promise<Uint8Array> {
    if (this.closing !== undefined) return Promise.reject(this.error("internal", "use of a closed file", 0));
    return this.track(this.decodeAndWrite(items));
  }

  close(): Promise<void> {
    this.closing ??= this.closeOnce();
    return this.closing;
  }

  private async closeOnce(): Promise<void> {
    const { process, storage } = this.owner;
    await Promise.allSettled(this.running);
    if (!process.isAlive) return process.never();
    await process.later(0.01, `${process.hostName} close ${this.path}`, () => {
      storage.removeHandle(this);
      if (this.options.lock === true) this.node.lock = undefined;
    });
  }

  private async decodeAndWrite(items: readonly DecodedWrite[]): Promise<Uint8Array> {
    const { process } = this.owner;
    const decode = () => this.decodeSlices(items);
    const { verdicts, pieces } = await process.later(0.01, `${process.hostName} decode ${items.length}`, decode);
    const sizeBytes = pieces.reduce((sum, piece) => sum + piece.bytes.length, 0);
    if (pieces.length > 0) await this.writePieces(() => pieces, pieces[0]!.offsetBytes, sizeBytes, [], true);
    return verdicts;
  }

  private async decodeSlices(items: readonly DecodedWrite[]): Promise<{ verdicts: Uint8Array; pieces: Piece[] }> {
    const verdicts = new Uint8Array(items.length);
    const pieces: Piece[] = [];
    for (const [i, item] of items.entries()) {
      checkRange(item.sliceOffsetBytes, 0, item.decodedBytes, "sliceOffsetBytes");
      checkRange(item.sliceBytes, 0, item.decodedBytes - item.sliceOffsetBytes, "sliceBytes");
      if (item.fileOffsetBytes % this.alignmentBytes !== 0 || item.sliceBytes % this.alignmentBytes !== 0) {
        throw this.unaligned(item.fileOffsetBytes);
      }
      const target = leaseSlab(item.decodedBytes);
      const { source, codec, checksum } = item;
      const [verdict] = await this.compute.decode([{ source, codec, checksum, target }]);
      verdicts[i] = verdict ?? 2;
      if (verdict === 0) {
        const bytes = target.bytes.slice(item.sliceOffsetBytes, item.sliceOffsetBytes + item.sliceBytes);
        pieces.push({ offsetBytes: item.fileOffsetBytes, bytes });
      }
      target.release();
    }
    return { verdicts, pieces };
  }

  /** One write operation. Bytes are taken when it happens, not when it is asked for. */
  private writePieces(
    pieces: () => Piece[],
    offsetBytes: number,
    sizeBytes: number,
    memories: readonly Memory[],
    isBegun = false,
  ): Promise<void> {
    const put = (count: number) => {
      for (const piece of pieces().slice(0, count))
        if (piece.bytes.length > 0) this.content.write(piece.offsetBytes, piece.bytes);
      this.node.modifiedMs = this.owner.nowMs();
    };
    const check = () => {
      this.checkWritable();
      for (const piece of pieces()) this.checkRoom(piece.offsetBytes, piece.bytes.length);
    };
    const work = () => {
      check();
      put(Number.MAX_SAFE_INTEGER);
    };
    const failPartly = () => {
      check();
      put(this.owner.process.chance.between(0, pieces().length));
    };
    return this.operate("write", offsetBytes, sizeBytes, work, {
      isMutation: true,
      land: work,
      failPartly,
      memories,
      isBegun,
    });
  }

  private readNow(offsetBytes: number, targets: readonly Memory[]): void {
    let at = offsetBytes;
    for (const target of targets) {
      if (at + target.sizeBytes > this.content.sizeBytes) {
        const what = `short read: ${target.sizeBytes} bytes asked for, but the file ends at ${this.content.sizeBytes}`;
        throw this.error("io", what, at);
      }
      this.content.read(at, target.bytes);
      at += target.sizeBytes;
    }
  }

  private operate<T>(
    kind: DiskOperationKind,
    offsetBytes: number,
    sizeBytes: number,
    work: () => T | Promise<T>,
    more: {
      readonly isMutation?: boolean;
      readonly land?: () => void;
      readonly failPartly?: () => void;
      readonly memories?: readonly Memory[];
      /** A further step of a job that began before the file was closed. */
      readonly isBegun?: boolean;
    } = {},
  ): Promise<T> {
    const { process, storage } = this.owner;
    if (!process.isAlive) return process.never();
    if (this.closing !== undefined && more.isBegun !== true) {
      return Promise.reject(this.error("internal", "use of a closed file", offsetBytes));
    }
    try {
      checkRange(offsetBytes, 0, fileBytesMax, "offsetBytes");
      checkRange(sizeBytes, 0, fileBytesMax, "sizeBytes");
      this.checkAligned(offsetBytes, more.memories ?? []);
    } catch (error) {
      return Promise.reject(error);
    }
    const request = { kind, path: this.path, offsetBytes, sizeBytes, mutates: more.isMutation ?? false };
    return this.track(storage.operate(process, request, work, more));
  }

  /** Keeps the file open until the job is done. */
  private track<T>(promise: Promise<T>): Promise<T> {
    this.running.add(promise);
    const forget = () => this.running.delete(promise);
    promise.then(forget, forget);
    return promise;
  }

  private checkAligned(offsetBytes: number, memories: readonly Memory[]): void {
    const unit = this.alignmentBytes;
    if (unit === 1 || memories.length === 0) return;
    const isAligned =
      offsetBytes % unit === 0 &&
      memories.every((memory) => memory.sizeBytes % unit === 0 && memory.address % unit === 0);
    if (!isAligned) throw this.unaligned(offsetBytes);
  }

  private unaligned(offsetBytes: number): WalbError {
    return this.error("internal", `direct I/O is not aligned to ${this.alignmentBytes} bytes`, offsetBytes);
  }

  private checkWritable(): void {
    if (this.options.mode === "read") throw this.error("io", "the file is open for reading only (EBADF)", 0);
  }

  private checkInside(offsetBytes: number, sizeBytes: number): void {
    if (offsetBytes + sizeBytes <= this.content.sizeBytes) return;
    throw this.error("no-space", `beyond the end of the device at ${this.content.sizeBytes} (ENOSPC)`, offsetBytes);
  }

  private checkRoom(offsetBytes: number, sizeBytes: number): void {
    if (this.isBlockDevice) this.checkInside(offsetBytes, sizeBytes);
    else this.owner.storage.reserve(this.node, this.path, offsetBytes, sizeBytes);
  }

  private error(code: "io" | "no-space" | "internal", what: string, offsetBytes: number): WalbError {
    return new WalbError(code, { what, where: { file: this.path, offsetBytes } });
  }
}

function consecutive(offsetBytes: number, sources: readonly Memory[]): Piece[] {
  let at = offsetBytes;
  return sources.map((source) => {
    const piece = { offsetBytes: at, bytes: source.bytes };
    at += source.sizeBytes;
    return piece;
  });
}

function totalBytes(memories: readonly Memory[]): number {
  return memories.reduce((sum, memory) => sum + memory.sizeBytes, 0);
}
