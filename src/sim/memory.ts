/**
 * @module Memory of a simulated process: real shim slabs under a budget of its own, given back when it dies.
 *
 * Released memory is overwritten, so that whoever still uses it meets rubbish in a test and not in production.
 */
import { WalbError } from "../errors.ts";
import { createMemoryPool } from "../native/index.ts";
import type { Lease, Memory, MemoryPool } from "../native/memory.ts";
import type { Platform } from "../platform/platform.ts";
import { kib, mib } from "../units.ts";
import type { SimProcess } from "./process.ts";

/** Slabs of all worlds of this test run: kept for reuse, allocated as needed. */
let slabs: MemoryPool | undefined;
const allWorldsBytes = 2048 * mib;
const largestSlabBytes = 64 * mib;
const rubbish = 0xdb;

interface Waiter {
  readonly sizeBytes: number;
  readonly resolve: (lease: Lease) => void;
}

/** The budget of a process or of a part of it. */
export class SimMemoryPool implements MemoryPool {
  private usedBytes = 0;
  private carvedBytes = 0;
  private readonly waiters: Waiter[] = [];

  constructor(
    private readonly process: SimProcess,
    private readonly totalBytes: number,
  ) {}

  get budgetBytes(): number {
    return this.totalBytes - this.carvedBytes;
  }

  get leasedBytes(): number {
    return this.usedBytes;
  }

  tryLease(sizeBytes: number): Lease | undefined {
    const slab = slabBytes(sizeBytes);
    if (this.waiters.length > 0 || this.usedBytes + slab > this.budgetBytes) return undefined;
    return this.take(sizeBytes, slab);
  }

  lease(sizeBytes: number): Promise<Lease> {
    const slab = slabBytes(sizeBytes);
    if (slab > this.budgetBytes) {
      const what = `a lease of ${sizeBytes} bytes can never fit in a budget of ${this.budgetBytes}`;
      return Promise.reject(new WalbError("internal", { what }));
    }
    const lease = this.tryLease(sizeBytes);
    if (lease !== undefined) return Promise.resolve(lease);
    return new Promise((resolve) => this.waiters.push({ sizeBytes, resolve }));
  }

  carve(budgetBytes: number): MemoryPool {
    if (this.usedBytes + budgetBytes > this.budgetBytes) {
      const what = `cannot carve ${budgetBytes} bytes out of a memory budget of ${this.budgetBytes}`;
      throw new WalbError("internal", { what });
    }
    this.carvedBytes += budgetBytes;
    return new SimMemoryPool(this.process, budgetBytes);
  }

  private take(sizeBytes: number, slab: number): Lease {
    const inner = leaseSlab(sizeBytes);
    this.usedBytes += slab;
    const lease: SimLease = new SimLease(inner, () => {
      this.process.holdings.delete(lease);
      this.usedBytes -= slab;
      this.serveWaiters();
    });
    this.process.holdings.add(lease);
    return lease;
  }

  private serveWaiters(): void {
    if (!this.process.isAlive) return;
    for (;;) {
      const next = this.waiters[0];
      if (next === undefined) return;
      const slab = slabBytes(next.sizeBytes);
      if (this.usedBytes + slab > this.budgetBytes) return;
      this.waiters.shift();
      next.resolve(this.take(next.sizeBytes, slab));
    }
  }
}

/** A slab outside every budget, for the simulator's own use within one event. */
export function leaseSlab(sizeBytes: number): Lease {
  slabs ??= createMemoryPool(allWorldsBytes);
  const lease = slabs.tryLease(sizeBytes);
  if (lease !== undefined) return lease;
  const what = `all simulated hosts together lease more than ${allWorldsBytes} bytes`;
  throw new WalbError("internal", { what, hint: "close the worlds that are done: world.close()" });
}

class SimLease implements Lease {
  private isReclaimed = false;
  private isReleased = false;

  constructor(
    private readonly inner: Lease,
    private readonly afterRelease: () => void,
  ) {}

  get address(): number {
    return this.inner.address;
  }

  get sizeBytes(): number {
    return this.inner.sizeBytes;
  }

  get bytes(): Uint8Array {
    return this.inner.bytes;
  }

  get view(): DataView {
    return this.inner.view;
  }

  slice(offsetBytes: number, sizeBytes: number): Memory {
    return this.inner.slice(offsetBytes, sizeBytes);
  }

  release(): void {
    if (this.isReclaimed) return;
    if (this.isReleased) throw new WalbError("internal", { what: "a memory lease is released twice" });
    this.isReleased = true;
    this.inner.bytes.subarray(0, 64 * kib).fill(rubbish);
    this.inner.release();
    this.afterRelease();
  }

  /** Takes back what a dead process held. */
  reclaim(): void {
    if (this.isReleased || this.isReclaimed) return;
    this.isReclaimed = true;
    this.inner.release();
  }
}

function slabBytes(sizeBytes: number): number {
  if (!Number.isSafeInteger(sizeBytes) || sizeBytes < 1 || sizeBytes > largestSlabBytes) {
    const what = `a memory lease of ${sizeBytes} bytes, but must be from 1 to ${largestSlabBytes}`;
    throw new WalbError("internal", { what });
  }
  let slab = 4096;
  while (slab < sizeBytes) slab *= 2;
  return slab;
}

/** A platform that remembers the pools carved out of its memory, so that one sees what was not given back. */
export function watchedMemory(platform: Platform, pools: MemoryPool[]): Platform {
  const { memory } = platform;
  return {
    ...platform,
    memory: {
      get budgetBytes() {
        return memory.budgetBytes;
      },
      get leasedBytes() {
        return memory.leasedBytes;
      },
      tryLease: (sizeBytes) => memory.tryLease(sizeBytes),
      lease: (sizeBytes) => memory.lease(sizeBytes),
      carve(sizeBytes) {
        const pool = memory.carve(sizeBytes);
        pools.push(pool);
        return pool;
      },
    },
  };
}
