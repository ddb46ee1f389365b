/** @module Tiny doubles of memory, compute, disk and clock for tests of the log and the engine. */
import { WalbError } from "../../src/errors.ts";
import { walbChecksum } from "../../src/log/checksum.ts";
import type { Compute } from "../../src/native/codec.ts";
import type { Lease, Memory, MemoryPool } from "../../src/native/memory.ts";
import type { Clock, Random, Timer } from "../../src/platform/clock.ts";
import type {
  Disk,
  DiskFile,
  FileInfo,
  OpenOptions,
  PlacedSum,
  PlacedWrite,
  RunningSync,
} from "../../src/platform/disk.ts";

class TestMemory implements Memory {
  readonly sizeBytes: number;
  #view: DataView | undefined;

  constructor(
    readonly address: number,
    readonly bytes: Uint8Array,
  ) {
    this.sizeBytes = bytes.length;
  }

  get view(): DataView {
    this.#view ??= new DataView(this.bytes.buffer, this.bytes.byteOffset, this.bytes.byteLength);
    return this.#view;
  }

  slice(offsetBytes: number, sizeBytes: number): Memory {
    if (offsetBytes < 0 || sizeBytes < 0 || offsetBytes + sizeBytes > this.sizeBytes) {
      throw new WalbError("internal", { what: `slice ${offsetBytes}+${sizeBytes} of ${this.sizeBytes}` });
    }
    return new TestMemory(this.address + offsetBytes, this.bytes.subarray(offsetBytes, offsetBytes + sizeBytes));
  }
}

/** Memory outside any pool. */
export function memoryOf(bytes: Uint8Array): Memory {
  return new TestMemory(0x10000, bytes);
}

/** A pool that poisons memory when it is leased and when it is released, so that use after release shows. */
export class TestPool implements MemoryPool {
  leasedBytes = 0;
  #nextAddress = 0x100000;
  #waiters: { sizeBytes: number; resolve: (lease: Lease) => void }[] = [];

  constructor(readonly budgetBytes: number) {}

  tryLease(sizeBytes: number): Lease | undefined {
    if (sizeBytes > 64 * 1024 * 1024) throw new WalbError("internal", { what: `lease of ${sizeBytes}` });
    if (this.leasedBytes + sizeBytes > this.budgetBytes) return undefined;
    this.leasedBytes += sizeBytes;
    const bytes = new Uint8Array(sizeBytes).fill(0xa5);
    const memory = new TestMemory(this.#nextAddress, bytes);
    this.#nextAddress += Math.ceil(sizeBytes / 4096) * 4096;
    let isReleased = false;
    return Object.assign(memory, {
      release: () => {
        if (isReleased) throw new WalbError("internal", { what: "released twice" });
        isReleased = true;
        bytes.fill(0xde);
        this.leasedBytes -= sizeBytes;
        this.#serve();
      },
    });
  }

  lease(sizeBytes: number): Promise<Lease> {
    const lease = this.#waiters.length === 0 ? this.tryLease(sizeBytes) : undefined;
    if (lease !== undefined) return Promise.resolve(lease);
    if (sizeBytes > this.budgetBytes) return Promise.reject(new WalbError("internal", { what: "beyond the budget" }));
    return new Promise((resolve) => this.#waiters.push({ sizeBytes, resolve }));
  }

  carve(budgetBytes: number): MemoryPool {
    return new TestPool(budgetBytes);
  }

  #serve(): void {
    while (this.#waiters.length > 0) {
      const lease = this.tryLease(this.#waiters[0]!.sizeBytes);
      if (lease === undefined) return;
      this.#waiters.shift()!.resolve(lease);
    }
  }
}

function notHere(): never {
  throw new WalbError("unsupported", { what: "not in this double" });
}

export const testCompute: Compute = {
  encode: notHere,
  encodeAlways: notHere,
  decode: notHere,
  expand: notHere,
  frame: notHere,
  verify: (items) =>
    Promise.resolve(
      Uint8Array.from(items, ({ source, salt, checksum }) => (walbChecksum(source.bytes, salt) === checksum ? 1 : 0)),
    ),
  checksums: (items, salt) => Promise.resolve(Uint32Array.from(items, ({ bytes }) => walbChecksum(bytes, salt))),
  hashes: notHere,
  hashZeroes: notHere,
  checksumNow: (bytes, salt) => walbChecksum(bytes, salt),
  isZeroNow: (bytes) => bytes.every((byte) => byte === 0),
  parsePacksNow: notHere,
  chooseRowsNow: notHere,
};

/** Seeded chance (mulberry32). */
export class TestRandom implements Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  u32(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let t = this.#state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return (t ^ (t >>> 14)) >>> 0;
  }

  fraction(): number {
    return this.u32() / 0x1_0000_0000;
  }

  bytes(sizeBytes: number): Uint8Array {
    return Uint8Array.from({ length: sizeBytes }, () => this.u32() & 0xff);
  }

  /** Whole number in [min, max]. */
  between(min: number, max: number): number {
    return min + Math.floor(this.fraction() * (max - min + 1));
  }

  chance(probability: number): boolean {
    return this.fraction() < probability;
  }
}

/**
 * Decides when operations end. Without a fate they end at once (in a microtask); with one they wait until `step`
 * picks them, in any order.
 */
export class Fate {
  readonly #pending: (() => void)[] = [];

  constructor(readonly random: TestRandom) {}

  get pendingCount(): number {
    return this.#pending.length;
  }

  wait(): Promise<void> {
    return new Promise((resolve) => this.#pending.push(resolve));
  }

  /** Ends one operation. False when none is waiting. */
  step(): boolean {
    if (this.#pending.length === 0) return false;
    const at = this.random.between(0, this.#pending.length - 1);
    this.#pending.splice(at, 1)[0]!();
    return true;
  }
}

/** A timer queue under the test's control. */
export class TestClock implements Clock {
  #nowMs = 0;
  #timers: { atMs: number; callback: () => void }[] = [];

  nowMs(): number {
    return 1_700_000_000_000 + this.#nowMs;
  }

  monotonicMs(): number {
    return this.#nowMs;
  }

  timer(delayMs: number, callback: () => void): Timer {
    const entry = { atMs: this.#nowMs + delayMs, callback };
    this.#timers.push(entry);
    const cancel = (): void => {
      this.#timers = this.#timers.filter((other) => other !== entry);
    };
    return { cancel };
  }

  sleep(delayMs: number): Promise<void> {
    return new Promise((resolve) => this.timer(delayMs, resolve));
  }

  get timerCount(): number {
    return this.#timers.length;
  }

  /** Lets time pass. */
  advance(byMs: number): void {
    const untilMs = this.#nowMs + byMs;
    while (true) {
      const due = this.#timers.filter((timer) => timer.atMs <= untilMs).sort((a, b) => a.atMs - b.atMs)[0];
      if (due === undefined) break;
      this.#timers = this.#timers.filter((timer) => timer !== due);
      this.#nowMs = Math.max(this.#nowMs, due.atMs);
      due.callback();
    }
    this.#nowMs = untilMs;
  }
}

/** What happened to the stores, in order. A write is there when it began; it is durable when a sync that began after
 * its end has ended. */
export type JournalEvent =
  | {
      readonly kind: "write";
      readonly id: number;
      readonly path: string;
      readonly offsetBytes: number;
      readonly bytes: Uint8Array;
    }
  | { readonly kind: "written"; readonly id: number; readonly path: string }
  /** Done at once; durable as a write is. */
  | { readonly kind: "resized"; readonly id: number; readonly path: string; readonly sizeBytes: number }
  | { readonly kind: "sync"; readonly id: number; readonly path: string }
  | { readonly kind: "synced"; readonly id: number; readonly path: string }
  | { readonly kind: "note"; readonly note: string; readonly value: number };

/** Shared by the files of a disk. */
export class Journal {
  readonly events: JournalEvent[] = [];
  nextId = 0;

  note(note: string, value: number): void {
    this.events.push({ kind: "note", note, value });
  }
}

/** Hooks of a {@link TestDisk}. */
export interface DiskHooks {
  fate?: Fate | undefined;
  journal?: Journal | undefined;
  /** Throws to make an operation fail. */
  fault?:
    | ((operation: "read" | "write" | "sync" | "zero" | "writeBack", path: string, offsetBytes: number) => void)
    | undefined;
  alignmentBytes?: number | undefined;
  /** Told of each job of many writes. */
  many?: ((writeCount: number, isGentle: boolean) => void) | undefined;
  /** There is a page cache, which takes an access at once when this says so. */
  cached?: (() => boolean) | undefined;
  /** True for what is to be done as if it worked, without doing it: how a careless program looks to its disk. */
  forgets?: ((operation: "write" | "sync", path: string, bytes: Uint8Array) => boolean) | undefined;
}

const noBytes = new Uint8Array(0);

/** A sync that tells whom answers were left to it, before the engine hears of its end. */
export class TestSync implements RunningSync {
  readonly ended: Promise<void>;
  readonly answers: (() => void)[] = [];

  constructor(synced: Promise<void>) {
    this.ended = synced.then(() => {
      for (const answer of this.answers) answer();
    });
  }
}

class TestFile implements DiskFile {
  readonly isBlockDevice = false;
  readonly physicalBlockBytes = 512;
  readonly isDirect: boolean;
  readonly alignmentBytes: number;
  #isClosed = false;

  constructor(
    readonly disk: TestDisk,
    readonly path: string,
    readonly options: OpenOptions,
  ) {
    this.isDirect = options.direct === true && disk.hooks.alignmentBytes !== undefined;
    this.alignmentBytes = this.isDirect ? (disk.hooks.alignmentBytes ?? 1) : 1;
  }

  get #content(): Uint8Array {
    if (this.#isClosed) throw new WalbError("internal", { what: "the file is closed" });
    return this.disk.files.get(this.path)!;
  }

  size(): Promise<number> {
    return Promise.resolve(this.#content.length);
  }

  #check(offsetBytes: number, memory: Memory): void {
    const a = this.alignmentBytes;
    if (offsetBytes % a !== 0 || memory.sizeBytes % a !== 0 || memory.address % a !== 0) {
      throw new WalbError("io", { what: `unaligned direct I/O at ${offsetBytes}`, where: { file: this.path } });
    }
  }

  async read(offsetBytes: number, target: Memory): Promise<void> {
    this.#check(offsetBytes, target);
    this.disk.hooks.fault?.("read", this.path, offsetBytes);
    await this.disk.hooks.fate?.wait();
    if (offsetBytes < 0 || offsetBytes + target.sizeBytes > this.#content.length) {
      throw new WalbError("io", { what: "short read", where: { file: this.path, offsetBytes } });
    }
    target.bytes.set(this.#content.subarray(offsetBytes, offsetBytes + target.sizeBytes));
  }

  write(offsetBytes: number, source: Memory): Promise<void> {
    return this.writeGather(offsetBytes, [source]);
  }

  async writeGather(offsetBytes: number, sources: readonly Memory[]): Promise<void> {
    if (sources.length > 1024) throw new WalbError("internal", { what: "too many pieces" });
    this.disk.hooks.fault?.("write", this.path, offsetBytes);
    let at = offsetBytes;
    const ends: (() => void)[] = [];
    for (const source of sources) {
      this.#check(at, source);
      ends.push(this.#begin(at, source.bytes));
      at += source.sizeBytes;
    }
    await this.disk.hooks.fate?.wait();
    for (const end of ends) end();
  }

  async writeSynced(offsetBytes: number, sources: readonly Memory[]): Promise<void> {
    await this.writeGather(offsetBytes, sources);
    await this.sync();
  }

  async writeSummed(
    offsetBytes: number,
    sources: readonly Memory[],
    sums: readonly PlacedSum[],
    { salt, isSynced }: { readonly salt: number; readonly isSynced: boolean },
  ): Promise<void> {
    for (const { block, offsetBytes: atBytes, data } of sums) {
      if (data === block) block.view.setUint32(atBytes, 0, true);
      block.view.setUint32(atBytes, walbChecksum(data.bytes, salt), true);
    }
    await (isSynced ? this.writeSynced(offsetBytes, sources) : this.writeGather(offsetBytes, sources));
  }

  /** The bytes arrive when the write ends; a crash in between may keep any part of them. */
  #begin(offsetBytes: number, source: Uint8Array): () => void {
    const { journal, forgets } = this.disk.hooks;
    if (forgets?.("write", this.path, source) === true) return () => {};
    const id = journal === undefined ? 0 : journal.nextId++;
    journal?.events.push({ kind: "write", id, path: this.path, offsetBytes, bytes: source.slice() });
    return () => {
      if (offsetBytes < 0 || offsetBytes + source.length > this.#content.length) {
        throw new WalbError("io", { what: "write beyond the end", where: { file: this.path, offsetBytes } });
      }
      // What is written is what the memory holds at the end: reuse before that would be a defect and shows.
      this.#content.set(source, offsetBytes);
      journal?.events.push({ kind: "written", id, path: this.path });
    };
  }

  writeCached(offsetBytes: number, sources: readonly Memory[]): boolean {
    const { cached, fault } = this.disk.hooks;
    if (cached === undefined || this.isDirect) return false;
    try {
      fault?.("write", this.path, offsetBytes);
    } catch {
      return false;
    }
    let at = offsetBytes;
    // What it refuses in the middle stays written up to there.
    for (const source of sources) {
      if (!cached()) return false;
      this.#begin(at, source.bytes)();
      at += source.sizeBytes;
    }
    return true;
  }

  readCached(offsetBytes: number, target: Memory): boolean {
    if (this.disk.hooks.cached?.() !== true || this.isDirect) return false;
    target.bytes.set(this.#content.subarray(offsetBytes, offsetBytes + target.sizeBytes));
    return true;
  }

  async writeMany(writes: readonly PlacedWrite[], options: { readonly isGentle?: boolean } = {}): Promise<void> {
    this.disk.hooks.many?.(writes.length, options.isGentle === true);
    const ends: (() => void)[] = [];
    for (const { offsetBytes, source } of writes) {
      this.disk.hooks.fault?.("write", this.path, offsetBytes);
      this.#check(offsetBytes, source);
      ends.push(this.#begin(offsetBytes, source.bytes));
    }
    await this.disk.hooks.fate?.wait();
    for (const end of ends) end();
  }

  async sync(): Promise<void> {
    this.disk.hooks.fault?.("sync", this.path, 0);
    const { journal, forgets } = this.disk.hooks;
    if (forgets?.("sync", this.path, noBytes) === true) return;
    const id = journal === undefined ? 0 : journal.nextId++;
    journal?.events.push({ kind: "sync", id, path: this.path });
    await this.disk.hooks.fate?.wait();
    journal?.events.push({ kind: "synced", id, path: this.path });
  }

  beginSync(): TestSync {
    return new TestSync(this.sync());
  }

  /** It may keep anything and makes nothing durable, as the time before a crash does. */
  async writeBack(offsetBytes: number): Promise<void> {
    this.disk.hooks.fault?.("writeBack", this.path, offsetBytes);
    await this.disk.hooks.fate?.wait();
  }

  async zero(offsetBytes: number, sizeBytes: number): Promise<void> {
    this.disk.hooks.fault?.("zero", this.path, offsetBytes);
    const end = this.#begin(offsetBytes, new Uint8Array(sizeBytes));
    await this.disk.hooks.fate?.wait();
    end();
  }

  truncate(sizeBytes: number): Promise<void> {
    const next = new Uint8Array(sizeBytes);
    next.set(this.#content.subarray(0, sizeBytes));
    this.disk.files.set(this.path, next);
    const { journal } = this.disk.hooks;
    journal?.events.push({ kind: "resized", id: journal.nextId++, path: this.path, sizeBytes });
    return Promise.resolve();
  }

  nextData(offsetBytes: number): Promise<{ startBytes: number; endBytes: number } | undefined> {
    const content = this.#content;
    const isHole = (at: number): boolean => content.subarray(at, at + 4096).every((byte) => byte === 0);
    let startBytes = offsetBytes - (offsetBytes % 4096);
    while (startBytes < content.length && isHole(startBytes)) startBytes += 4096;
    if (startBytes >= content.length) return Promise.resolve(undefined);
    let endBytes = startBytes;
    while (endBytes < content.length && !isHole(endBytes)) endBytes += 4096;
    return Promise.resolve({
      startBytes: Math.max(startBytes, offsetBytes),
      endBytes: Math.min(endBytes, content.length),
    });
  }

  readEncoded = notHere;
  readHashed = notHere;
  writeDecoded = notHere;

  close(): Promise<void> {
    if (!this.#isClosed && this.options.lock === true) this.disk.locks.delete(this.path);
    this.#isClosed = true;
    return Promise.resolve();
  }
}

/** Files in memory. */
export class TestDisk implements Disk {
  readonly files = new Map<string, Uint8Array>();
  readonly locks = new Set<string>();

  constructor(readonly hooks: DiskHooks = {}) {}

  open(path: string, options: OpenOptions): Promise<DiskFile> {
    if (!this.files.has(path)) {
      if (options.mode !== "create" && options.mode !== "createOrOpen") {
        return Promise.reject(new WalbError("not-found", { what: "no such file", where: { file: path } }));
      }
      this.files.set(path, new Uint8Array(0));
    }
    if (options.lock === true) {
      if (this.locks.has(path))
        return Promise.reject(new WalbError("locked", { what: "in use", where: { file: path } }));
      this.locks.add(path);
    }
    return Promise.resolve(new TestFile(this, path, options));
  }

  info(path: string): Promise<FileInfo | undefined> {
    const sizeBytes = this.files.get(path)?.length;
    if (sizeBytes === undefined) return Promise.resolve(undefined);
    return Promise.resolve({ kind: "file", sizeBytes, allocatedBytes: sizeBytes, modifiedMs: 0 });
  }

  realPath = notHere;
  list = notHere;
  makeDirectory = notHere;
  readSmall = notHere;
  writeSmall = notHere;
  rename = notHere;
  link = notHere;
  remove = notHere;
  removeTree = notHere;
  syncDirectory = notHere;
  cloneFile = notHere;
  freeSpace = notHere;
}
