/** @module Doubles for the NBD tests: a volume in memory, and a pool that counts its leases. */

import type { AllocationExtent, BlockVolume, Done } from "../../../src/device/user/block.ts";
import { WalbError } from "../../../src/errors.ts";
import type { Lease, Memory, MemoryPool } from "../../../src/native/memory.ts";

class PlainMemory implements Memory {
  readonly address = 0;
  constructor(readonly bytes: Uint8Array) {}
  get sizeBytes(): number {
    return this.bytes.length;
  }
  get view(): DataView {
    return new DataView(this.bytes.buffer, this.bytes.byteOffset, this.bytes.length);
  }
  slice(offsetBytes: number, sizeBytes: number): Memory {
    if (offsetBytes + sizeBytes > this.bytes.length) throw new Error("slice outside");
    return new PlainMemory(this.bytes.subarray(offsetBytes, offsetBytes + sizeBytes));
  }
}

/** A pool of JavaScript memory with the budget rules of the real one. */
export class PlainPool implements MemoryPool {
  leasedBytes = 0;
  highestBytes = 0;
  private readonly waiters: { sizeBytes: number; resolve: (lease: Lease) => void }[] = [];
  constructor(readonly budgetBytes: number) {}

  tryLease(sizeBytes: number): Lease | undefined {
    if (this.waiters.length > 0 || this.leasedBytes + sizeBytes > this.budgetBytes) return undefined;
    return this.make(sizeBytes);
  }

  lease(sizeBytes: number): Promise<Lease> {
    const lease = this.tryLease(sizeBytes);
    if (lease !== undefined) return Promise.resolve(lease);
    return new Promise((resolve) => this.waiters.push({ sizeBytes, resolve }));
  }

  carve(budgetBytes: number): MemoryPool {
    return new PlainPool(budgetBytes);
  }

  private make(sizeBytes: number): Lease {
    this.leasedBytes += sizeBytes;
    this.highestBytes = Math.max(this.highestBytes, this.leasedBytes);
    // Old content, as slabs have it: a reply must never show it.
    const memory = new PlainMemory(new Uint8Array(sizeBytes).fill(0xee));
    let isReleased = false;
    return Object.assign(memory, {
      release: () => {
        if (isReleased) throw new Error("released twice");
        isReleased = true;
        memory.bytes.fill(0xdd);
        this.leasedBytes -= sizeBytes;
        const waiter = this.waiters[0];
        if (waiter !== undefined && this.leasedBytes + waiter.sizeBytes <= this.budgetBytes) {
          this.waiters.shift();
          waiter.resolve(this.make(waiter.sizeBytes));
        }
      },
    });
  }
}

/** A volume that keeps sparse 4 KiB blocks in memory and finishes requests in random order, a little later. */
export class MemoryVolume implements BlockVolume {
  readonly preferredBlockBytes: number = 4096;
  readOnlyReason: string | undefined;
  roomBytes = 8 * 1024 * 1024;
  /** Names of operations with their FUA flag, in order of arrival. */
  readonly calls: string[] = [];
  /** When set, requests are held until `release()`. */
  isHeld = false;
  failWith: WalbError | undefined;
  pending = 0;
  private readonly blocks = new Map<number, Uint8Array>();
  private readonly held: (() => void)[] = [];
  private roomCallbacks: (() => void)[] = [];

  constructor(
    readonly name: string,
    public sizeBytes: number,
  ) {}

  read(offsetBytes: number, target: Memory, done: Done): void {
    this.check(offsetBytes, target.sizeBytes);
    this.calls.push("read");
    this.later(() => {
      for (let at = 0; at < target.sizeBytes; at += 512) {
        const position = offsetBytes + at;
        const block = this.blocks.get(Math.floor(position / 4096));
        const from = position % 4096;
        if (block === undefined) target.bytes.fill(0, at, at + 512);
        else target.bytes.set(block.subarray(from, from + 512), at);
      }
      done(this.failWith);
    });
  }

  write(offsetBytes: number, sizeBytes: number, source: Lease, fua: boolean, done: Done): void {
    this.check(offsetBytes, sizeBytes);
    if (source.sizeBytes < Math.ceil(sizeBytes / 4096) * 4096) throw new Error("no room for padding");
    this.calls.push(fua ? "write fua" : "write");
    this.roomBytes -= sizeBytes;
    // Applied in order of arrival, as the log does.
    if (this.failWith === undefined) this.apply(offsetBytes, source.bytes.subarray(0, sizeBytes));
    this.later(() => {
      source.release();
      this.roomBytes += sizeBytes;
      const callbacks = this.roomCallbacks;
      this.roomCallbacks = [];
      done(this.failWith);
      for (const callback of callbacks) callback();
    });
  }

  writeZeroes(offsetBytes: number, sizeBytes: number, fua: boolean, done: Done): void {
    this.check(offsetBytes, sizeBytes);
    this.calls.push(fua ? "zero fua" : "zero");
    if (this.failWith === undefined) this.clear(offsetBytes, sizeBytes);
    this.later(() => done(this.failWith));
  }

  discard(offsetBytes: number, sizeBytes: number, fua: boolean, done: Done): void {
    this.check(offsetBytes, sizeBytes);
    this.calls.push(fua ? "discard fua" : "discard");
    if (this.failWith === undefined) this.clear(offsetBytes, sizeBytes);
    this.later(() => done(this.failWith));
  }

  flush(done: Done): void {
    this.calls.push("flush");
    this.later(() => done(this.failWith));
  }

  allocation(offsetBytes: number, sizeBytes: number): Promise<AllocationExtent[]> {
    this.check(offsetBytes, sizeBytes);
    const extents: AllocationExtent[] = [];
    for (let at = offsetBytes; at < offsetBytes + sizeBytes; ) {
      const next = Math.min(offsetBytes + sizeBytes, (Math.floor(at / 4096) + 1) * 4096);
      const isHole = !this.blocks.has(Math.floor(at / 4096));
      const last = extents.at(-1);
      if (last?.isHole === isHole) extents[extents.length - 1] = { isHole, sizeBytes: last.sizeBytes + next - at };
      else extents.push({ isHole, sizeBytes: next - at });
      at = next;
    }
    return Promise.resolve(extents);
  }

  onRoom(callback: () => void): void {
    this.roomCallbacks.push(callback);
  }

  /** Takes no more writes, as after a failed log: who waits for room is refused instead. */
  fail(reason: string): void {
    this.readOnlyReason = reason;
    this.failWith = new WalbError("read-only", { what: reason });
    for (const callback of this.roomCallbacks.splice(0)) callback();
  }

  /** Lets held requests finish. */
  release(): void {
    this.isHeld = false;
    for (const run of this.held.splice(0)) run();
  }

  private later(run: () => void): void {
    this.pending++;
    const finish = (): void => {
      this.pending--;
      run();
    };
    if (this.isHeld) this.held.push(finish);
    else if (Math.random() < 0.5) setImmediate(finish);
    else queueMicrotask(finish);
  }

  private check(offsetBytes: number, sizeBytes: number): void {
    if (
      offsetBytes % 512 !== 0 ||
      sizeBytes % 512 !== 0 ||
      sizeBytes <= 0 ||
      offsetBytes + sizeBytes > this.sizeBytes
    ) {
      throw new Error(`the front end let ${offsetBytes}+${sizeBytes} through`);
    }
  }

  private apply(offsetBytes: number, bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length; at += 512) {
      const position = offsetBytes + at;
      const index = Math.floor(position / 4096);
      let block = this.blocks.get(index);
      if (block === undefined) {
        block = new Uint8Array(4096);
        this.blocks.set(index, block);
      }
      block.set(bytes.subarray(at, at + 512), position % 4096);
    }
  }

  private clear(offsetBytes: number, sizeBytes: number): void {
    for (let at = offsetBytes; at < offsetBytes + sizeBytes; ) {
      const index = Math.floor(at / 4096);
      const next = Math.min(offsetBytes + sizeBytes, (index + 1) * 4096);
      if (next - at === 4096) this.blocks.delete(index);
      else this.blocks.get(index)?.fill(0, at % 4096, next - index * 4096);
      at = next;
    }
  }
}
