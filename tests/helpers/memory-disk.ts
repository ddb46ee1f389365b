/** @module A disk in memory without time or faults, for tests that need thousands of files a second. */
import { WalbError } from "../../src/errors.ts";
import type { Compute, DecodeItem, Encoded } from "../../src/native/codec.ts";
import { Codec } from "../../src/native/codec.ts";
import { createInlineCompute, createMemoryPool } from "../../src/native/index.ts";
import type { Lease, Memory, MemoryPool } from "../../src/native/memory.ts";
import type { DecodedWrite, Disk, DiskFile, FileInfo, OpenOptions } from "../../src/platform/disk.ts";

/** A pool that remembers the most that was ever leased. */
export class CountingPool implements MemoryPool {
  readonly #inner: MemoryPool;
  leasedMaxBytes = 0;

  constructor(inner: MemoryPool) {
    this.#inner = inner;
  }

  get budgetBytes(): number {
    return this.#inner.budgetBytes;
  }

  get leasedBytes(): number {
    return this.#inner.leasedBytes;
  }

  tryLease(sizeBytes: number): Lease | undefined {
    const lease = this.#inner.tryLease(sizeBytes);
    this.#count();
    return lease;
  }

  async lease(sizeBytes: number): Promise<Lease> {
    const lease = await this.#inner.lease(sizeBytes);
    this.#count();
    return lease;
  }

  carve(budgetBytes: number): MemoryPool {
    return this.#inner.carve(budgetBytes);
  }

  #count(): void {
    this.leasedMaxBytes = Math.max(this.leasedMaxBytes, this.#inner.leasedBytes);
  }
}

class MemoryFile implements DiskFile {
  readonly isBlockDevice = false;
  readonly isDirect = false;
  readonly alignmentBytes = 1;
  readonly physicalBlockBytes = 512;
  readonly path: string;
  readonly #disk: MemoryDisk;

  constructor(disk: MemoryDisk, path: string) {
    this.#disk = disk;
    this.path = path;
  }

  get #bytes(): Uint8Array {
    return this.#disk.get(this.path);
  }

  size(): Promise<number> {
    return Promise.resolve(this.#bytes.length);
  }

  read(offsetBytes: number, target: Memory): Promise<void> {
    const bytes = this.#bytes;
    if (offsetBytes < 0 || offsetBytes + target.sizeBytes > bytes.length) {
      const what = `a read of ${target.sizeBytes} bytes at ${offsetBytes} met the end at ${bytes.length}`;
      return Promise.reject(new WalbError("io", { what, where: { file: this.path, offsetBytes } }));
    }
    target.bytes.set(bytes.subarray(offsetBytes, offsetBytes + target.sizeBytes));
    return Promise.resolve();
  }

  write(offsetBytes: number, source: Memory): Promise<void> {
    this.#room(offsetBytes + source.sizeBytes).set(source.bytes, offsetBytes);
    return Promise.resolve();
  }

  writeGather(offsetBytes: number, sources: readonly Memory[]): Promise<void> {
    let at = offsetBytes;
    for (const { sizeBytes } of sources) at += sizeBytes;
    const bytes = this.#room(at);
    at = offsetBytes;
    for (const source of sources) {
      bytes.set(source.bytes, at);
      at += source.sizeBytes;
    }
    return Promise.resolve();
  }

  sync(): Promise<void> {
    return Promise.resolve();
  }

  zero(offsetBytes: number, sizeBytes: number): Promise<void> {
    this.#room(offsetBytes + sizeBytes).fill(0, offsetBytes, offsetBytes + sizeBytes);
    return Promise.resolve();
  }

  truncate(sizeBytes: number): Promise<void> {
    const bytes = new Uint8Array(sizeBytes);
    bytes.set(this.#bytes.subarray(0, sizeBytes));
    this.#disk.put(this.path, bytes);
    return Promise.resolve();
  }

  nextData(offsetBytes: number): Promise<{ startBytes: number; endBytes: number } | undefined> {
    const endBytes = this.#bytes.length;
    return Promise.resolve(offsetBytes < endBytes ? { startBytes: offsetBytes, endBytes } : undefined);
  }

  readEncoded(): Promise<Encoded[]> {
    throw new Error("not needed here");
  }

  readHashed(): Promise<Uint8Array> {
    throw new Error("not needed here");
  }

  async writeDecoded(items: readonly DecodedWrite[]): Promise<Uint8Array> {
    const total = items.reduce((sum, { decodedBytes }) => sum + decodedBytes, 0);
    const lease = await this.#disk.memory.lease(total);
    try {
      let at = 0;
      const jobs = items.map(({ source, codec, checksum, decodedBytes }): DecodeItem => {
        const target = lease.slice(at, decodedBytes);
        at += decodedBytes;
        return { source, codec, checksum, target };
      });
      const results = await this.#disk.compute.decode(jobs);
      items.forEach(({ sliceOffsetBytes, sliceBytes, fileOffsetBytes }, i) => {
        if (results[i] !== 0) return;
        const slice = jobs[i]!.target.bytes.subarray(sliceOffsetBytes, sliceOffsetBytes + sliceBytes);
        this.#room(fileOffsetBytes + sliceBytes).set(slice, fileOffsetBytes);
      });
      return results;
    } finally {
      lease.release();
    }
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  #room(endBytes: number): Uint8Array {
    return this.#disk.room(this.path, endBytes);
  }
}

/** Files in memory. Directories exist as far as files are in them. */
class MemoryDisk implements Disk {
  readonly #files = new Map<string, { buffer: Uint8Array; size: number }>();
  readonly memory: MemoryPool;
  readonly compute: Compute;

  constructor(memory: MemoryPool, compute: Compute) {
    this.memory = memory;
    this.compute = compute;
  }

  get(path: string): Uint8Array {
    const file = this.#files.get(path);
    if (file === undefined) throw new WalbError("not-found", { what: "there is no such file", where: { file: path } });
    return file.buffer.subarray(0, file.size);
  }

  put(path: string, bytes: Uint8Array): void {
    this.#files.set(path, { buffer: bytes, size: bytes.length });
  }

  room(path: string, sizeBytes: number): Uint8Array {
    const file = this.#files.get(path);
    if (file === undefined) throw new Error(`${path} was removed`);
    if (sizeBytes > file.buffer.length) {
      const buffer = new Uint8Array(Math.max(sizeBytes, 2 * file.buffer.length));
      buffer.set(file.buffer.subarray(0, file.size));
      file.buffer = buffer;
    }
    file.size = Math.max(file.size, sizeBytes);
    return file.buffer;
  }

  open(path: string, options: OpenOptions): Promise<DiskFile> {
    const exists = this.#files.has(path);
    if (options.mode === "create" && exists) {
      return Promise.reject(new WalbError("already-exists", { what: "the file exists", where: { file: path } }));
    }
    if ((options.mode === "read" || options.mode === "write") && !exists) {
      return Promise.reject(new WalbError("not-found", { what: "there is no such file", where: { file: path } }));
    }
    if (!exists) this.put(path, new Uint8Array(0));
    return Promise.resolve(new MemoryFile(this, path));
  }

  realPath(path: string): Promise<string> {
    return Promise.resolve(path);
  }

  info(path: string): Promise<FileInfo | undefined> {
    const file = this.#files.get(path);
    const times = { modifiedMs: 0 };
    if (file !== undefined) {
      return Promise.resolve({ kind: "file", sizeBytes: file.size, allocatedBytes: file.size, ...times });
    }
    const isDirectory = [...this.#files.keys()].some((name) => name.startsWith(`${path}/`));
    return Promise.resolve(isDirectory ? { kind: "directory", sizeBytes: 0, allocatedBytes: 0, ...times } : undefined);
  }

  list(path: string): Promise<string[]> {
    const names = new Set<string>();
    for (const name of this.#files.keys()) {
      if (name.startsWith(`${path}/`)) names.add(name.slice(path.length + 1).split("/")[0]!);
    }
    return Promise.resolve([...names].sort());
  }

  makeDirectory(): Promise<void> {
    return Promise.resolve();
  }

  readSmall(path: string, maxBytes: number): Promise<Uint8Array> {
    try {
      const bytes = this.get(path);
      if (bytes.length <= maxBytes) return Promise.resolve(bytes.slice());
      const what = `the file has ${bytes.length} bytes`;
      return Promise.reject(new WalbError("bad-format", { what, where: { file: path, field: "size" } }));
    } catch (error) {
      return Promise.reject(error);
    }
  }

  writeSmall(path: string, bytes: Uint8Array): Promise<void> {
    this.put(path, bytes.slice());
    return Promise.resolve();
  }

  rename(from: string, to: string): Promise<void> {
    this.put(to, this.get(from));
    return this.remove(from);
  }

  link(from: string, to: string): Promise<void> {
    this.put(to, this.get(from));
    return Promise.resolve();
  }

  remove(path: string): Promise<void> {
    this.#files.delete(path);
    return Promise.resolve();
  }

  removeTree(path: string): Promise<void> {
    for (const name of [...this.#files.keys()]) if (name.startsWith(`${path}/`)) this.#files.delete(name);
    return this.remove(path);
  }

  syncDirectory(): Promise<void> {
    return Promise.resolve();
  }

  cloneFile(from: string, to: string): Promise<"reflink" | "copy"> {
    this.put(to, this.get(from).slice());
    return Promise.resolve("copy");
  }

  freeSpace(): Promise<{ freeBytes: number; totalBytes: number }> {
    return Promise.resolve({ freeBytes: 2 ** 50, totalBytes: 2 ** 50 });
  }
}

/** Everything that diffs and logs need, in memory. */
export interface MemoryIo {
  readonly disk: MemoryDisk;
  readonly memory: CountingPool;
  /** A second pool, for what is read while `memory` is written from. */
  readonly readPool: CountingPool;
  readonly compute: Compute;
}

export function createMemoryIo(budgetBytes = 256 * 1024 * 1024): MemoryIo {
  const compute = createInlineCompute();
  const disk = new MemoryDisk(createMemoryPool(64 * 1024 * 1024), compute);
  const memory = new CountingPool(createMemoryPool(budgetBytes));
  const readPool = new CountingPool(createMemoryPool(budgetBytes));
  return { disk, memory, readPool, compute };
}

/** The default codec of the original's tools. */
export const snappy = { codec: Codec.snappy, level: 0 } as const;
