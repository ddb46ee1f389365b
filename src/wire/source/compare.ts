/**
 * @module Compares a device or image with the hashes of an older image: reads and hashes it ahead in the pool, several jobs at once,
 * and compresses what differs beside that. Order is kept; holes cost nothing.
 *
 * All memory is taken at the start and used in turn, so that no comparison can wait for memory while it holds some.
 */
import { packHeaderBytes } from "../../diff/format.ts";
import { assert, WalbError } from "../../errors.ts";
import type { CompressOption, Compute, Encoded } from "../../native/codec.ts";
import type { Lease, Memory, MemoryPool } from "../../native/memory.ts";
import { alignUp, lbBytes, mib } from "../../units.ts";
import { type HashComparer, hashBytes } from "../hash-stream.ts";
import type { OutgoingPack } from "../pack-stream.ts";
import { type HashedImage, jobBytesOf, ScanCursor, type ScanRange } from "./cursor.ts";
import { type BulkPlace, DiffPacks } from "./packs.ts";

/** Memory of a comparison, and of one in a small pool. */
const usualBytes = 16 * mib;
const smallBytes = 8 * mib;
/** Pieces that wait for their place in a pack; those of holes have no memory that would bound them. */
const pendingMax = 64;

/** What a comparison needs. */
export interface CompareOptions extends ScanRange {
  readonly file: HashedImage;
  readonly pool: MemoryPool;
  readonly compute: Compute;
  readonly compress: CompressOption;
  /** Of the hashes. */
  readonly seed: number;
  /** LB compared so far. */
  readonly progress: (doneLb: number) => void;
}

/** Memory of one job: what is read, and as much for its compressed form. */
interface Slot {
  readonly source: Memory;
  readonly target: Memory;
}

interface HolePiece {
  readonly kind: "hole";
  readonly bulks: number;
  doneBulks: number;
}

interface DataPiece {
  readonly kind: "data";
  readonly slot: Slot;
  readonly sizeBytes: number;
  readonly bulks: number;
  readonly hashes: Promise<Uint8Array>;
  doneBulks: number;
  /** Numbers in the piece of the bulks that differ. */
  readonly differing: number[];
}

/** Differing bulks on their way into packs. */
interface Pending {
  readonly places: readonly BulkPlace[];
  readonly sources: readonly Memory[];
  readonly targets: readonly Memory[];
  /** Undefined for holes. */
  readonly encoded: Promise<Encoded[]> | undefined;
  readonly slot: Slot | undefined;
  isReady: boolean;
}

/** The new image's side of a hash comparison. */
export class ImageComparer implements HashComparer {
  readonly #options: CompareOptions;
  readonly #bulkBytes: number;
  readonly #endBytes: number;
  readonly #lease: Lease;
  readonly #free: Slot[];
  readonly #cursor: ScanCursor;
  readonly #packs: DiffPacks;
  readonly #pieces: (HolePiece | DataPiece)[] = [];
  readonly #pending: Pending[] = [];
  readonly #jobs = new Set<Promise<unknown>>();
  #zeroHash = new Uint8Array(0);
  #zeroTailHash = new Uint8Array(0);
  #bulksDone = 0;

  private constructor(options: CompareOptions, lease: Lease, slots: Slot[], packs: Memory) {
    this.#options = options;
    this.#bulkBytes = options.bulkLb * lbBytes;
    this.#endBytes = options.sizeLb * lbBytes;
    this.#lease = lease;
    this.#free = slots;
    this.#cursor = new ScanCursor(options);
    this.#packs = new DiffPacks(packs, options.compute);
  }

  /** Takes the memory; waits for it when other backups have it. */
  static async open(options: CompareOptions): Promise<ImageComparer> {
    const { pool, bulkLb, signal } = options;
    const jobBytes = jobBytesOf(bulkLb);
    const wantBytes = pool.budgetBytes >= 2 * usualBytes ? usualBytes : smallBytes;
    const packBytes = Math.max(wantBytes / 4, packHeaderBytes + alignUp(bulkLb * lbBytes, 4096));
    const slotCount = Math.max(1, Math.floor((wantBytes - packBytes) / (2 * jobBytes)));
    const lease = await leaseUnlessAborted(pool, packBytes + slotCount * 2 * jobBytes, signal);
    const slots = Array.from({ length: slotCount }, (_, i): Slot => {
      const at = packBytes + i * 2 * jobBytes;
      return { source: lease.slice(at, jobBytes), target: lease.slice(at + jobBytes, jobBytes) };
    });
    const comparer = new ImageComparer(options, lease, slots, lease.slice(0, packBytes));
    try {
      await comparer.#hashZeroes(slots[0]!.source);
      return comparer;
    } catch (error) {
      await comparer.close();
      throw error;
    }
  }

  async *compare(firstBulk: number, hashes: Uint8Array): AsyncGenerator<OutgoingPack, void> {
    assert(firstBulk === this.#bulksDone, "hashes are compared in order");
    for (let at = 0; at < hashes.length; ) {
      yield* this.#untilPiece();
      const piece = this.#pieces[0]!;
      const bulks = Math.min(piece.bulks - piece.doneBulks, (hashes.length - at) / hashBytes);
      const old = hashes.subarray(at, at + bulks * hashBytes);
      if (piece.kind === "hole") this.#compareHole(old);
      else await this.#compareData(piece, old);
      piece.doneBulks += bulks;
      this.#bulksDone += bulks;
      at += bulks * hashBytes;
      if (piece.doneBulks < piece.bulks) continue;
      this.#pieces.shift();
      if (piece.kind === "data") this.#encode(piece);
    }
    while (this.#pending[0]?.isReady === true || this.#pending.length > pendingMax) yield* this.#packOldest();
    this.#options.progress(Math.min(this.#bulksDone * this.#options.bulkLb, this.#options.sizeLb));
  }

  async *finish(): AsyncGenerator<OutgoingPack, void> {
    while (this.#pending.length > 0) yield* this.#packOldest();
    yield* this.#packs.finish();
  }

  /** Waits for what is under way, then gives the memory back. */
  async close(): Promise<void> {
    await Promise.allSettled(this.#jobs);
    this.#lease.release();
  }

  async #hashZeroes(memory: Memory): Promise<void> {
    const { compute, seed } = this.#options;
    const zeroes = memory.slice(0, this.#bulkBytes);
    zeroes.bytes.fill(0);
    const tailBytes = this.#endBytes % this.#bulkBytes || this.#bulkBytes;
    const hashes = await this.#watch(compute.hashes([zeroes, zeroes.slice(0, tailBytes)], seed));
    this.#zeroHash = hashes.slice(0, hashBytes);
    this.#zeroTailHash = hashes.slice(hashBytes, 2 * hashBytes);
  }

  /** Makes sure that there is a piece to compare; makes room by packs when all slots wait for theirs. */
  async *#untilPiece(): AsyncGenerator<OutgoingPack, void> {
    for (;;) {
      await this.#readAhead();
      if (this.#pieces.length > 0) return;
      assert(this.#pending.length > 0, "there is a bulk for each hash");
      yield* this.#packOldest();
    }
  }

  async #readAhead(): Promise<void> {
    const { file, seed } = this.#options;
    while (this.#free.length > 0) {
      const step = await this.#cursor.next(this.#pieces.length > 0);
      if (step === undefined) return;
      if (step.kind === "hole") {
        this.#pieces.push({ kind: "hole", bulks: step.bulks, doneBulks: 0 });
        continue;
      }
      const { offsetBytes, readBytes } = step;
      const slot = this.#free.pop()!;
      const hashes = this.#watch(file.readHashed(offsetBytes, slot.source.slice(0, readBytes), this.#bulkBytes, seed));
      this.#cursor.taken(readBytes);
      const bulks = Math.ceil(readBytes / this.#bulkBytes);
      this.#pieces.push({ kind: "data", slot, sizeBytes: readBytes, bulks, hashes, doneBulks: 0, differing: [] });
    }
  }

  #compareHole(old: Uint8Array): void {
    const places: BulkPlace[] = [];
    for (let at = 0; at < old.length; at += hashBytes) {
      const place = this.#place(this.#bulksDone + at / hashBytes);
      const isTail = place.blocksLb < this.#options.bulkLb;
      if (!isSameHash(isTail ? this.#zeroTailHash : this.#zeroHash, 0, old, at)) places.push(place);
    }
    if (places.length === 0) return;
    const none = { sources: [], targets: [], encoded: undefined, slot: undefined };
    this.#pending.push({ places, ...none, isReady: true });
  }

  async #compareData(piece: DataPiece, old: Uint8Array): Promise<void> {
    const hashes = await piece.hashes;
    for (let at = 0; at < old.length; at += hashBytes) {
      const bulk = piece.doneBulks + at / hashBytes;
      if (!isSameHash(hashes, bulk * hashBytes, old, at)) piece.differing.push(bulk);
    }
  }

  /** Compresses what differs in a piece; the slot is free when it is in its pack. */
  #encode(piece: DataPiece): void {
    const { slot, differing } = piece;
    if (differing.length === 0) {
      this.#free.push(slot);
      return;
    }
    const firstBulk = this.#bulksDone - piece.bulks;
    const sources = differing.map((bulk) => {
      const at = bulk * this.#bulkBytes;
      return slot.source.slice(at, Math.min(this.#bulkBytes, piece.sizeBytes - at));
    });
    const targets = differing.map((bulk, i) => slot.target.slice(bulk * this.#bulkBytes, sources[i]!.sizeBytes));
    const items = sources.map((source, i) => ({ source, target: targets[i]! }));
    const encoded = this.#watch(this.#options.compute.encode(items, this.#options.compress));
    const places = differing.map((bulk) => this.#place(firstBulk + bulk));
    const pending: Pending = { places, sources, targets, encoded, slot, isReady: false };
    const ready = (): void => {
      pending.isReady = true;
    };
    encoded.then(ready, ready);
    this.#pending.push(pending);
  }

  async *#packOldest(): AsyncGenerator<OutgoingPack, void> {
    const { places, sources, targets, encoded, slot } = this.#pending[0]!;
    const results = await encoded;
    for (const [i, place] of places.entries()) {
      yield* this.#packs.add(place, results?.[i], sources[i], targets[i]);
    }
    this.#pending.shift();
    if (slot !== undefined) this.#free.push(slot);
  }

  #place(bulk: number): BulkPlace {
    const { bulkLb, sizeLb } = this.#options;
    const addressLb = bulk * bulkLb;
    return { addressLb, blocksLb: Math.min(bulkLb, sizeLb - addressLb) };
  }

  /** A job that uses the memory; its failure is met where its result is taken. */
  #watch<T>(work: Promise<T>): Promise<T> {
    this.#jobs.add(work);
    const over = (): void => {
      this.#jobs.delete(work);
    };
    work.then(over, over);
    return work;
  }
}

function isSameHash(a: Uint8Array, aAt: number, b: Uint8Array, bAt: number): boolean {
  for (let i = 0; i < hashBytes; i++) if (a[aAt + i] !== b[bAt + i]) return false;
  return true;
}

/** A lease that is given back when nobody wants it any more. */
async function leaseUnlessAborted(pool: MemoryPool, sizeBytes: number, signal: AbortSignal): Promise<Lease> {
  signal.throwIfAborted();
  const waiting = pool.lease(sizeBytes);
  return await new Promise<Lease>((resolve, reject) => {
    const abort = (): void => {
      reject(signal.reason instanceof Error ? signal.reason : new WalbError("cancelled", { what: "cancelled" }));
      void waiting.then((lease) => lease.release());
    };
    signal.addEventListener("abort", abort, { once: true });
    waiting.then((lease) => {
      signal.removeEventListener("abort", abort);
      resolve(lease);
    }, reject);
  });
}
