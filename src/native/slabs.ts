/**
 * @module The memory pool: shim slabs of powers of two, leased within a budget.
 *
 * Slabs are never unmapped, so that a stale view can read garbage but not crash the process; unused ones beyond what
 * was in use at once give their pages back to the system.
 */
import { WalbError } from "../errors.ts";
import type { Lease, Memory, MemoryPool } from "./memory.ts";
import { mapMemory, shim } from "./shim.ts";

const smallestLog2 = 12;
const largestLog2 = 26;
/** Small slabs are cut from chunks of this size. */
const chunkLog2 = 20;

/**
 * Used and unused slabs with pages together, as a multiple of the most that was in use at once: without a bound each size
 * would keep its own peak. Some more than that, so that sizes in turns do not give and take pages all the time.
 */
const keptFactor = 1.25;

interface Slab {
  readonly log2: number;
  readonly address: number;
  readonly buffer: ArrayBuffer;
  readonly offsetBytes: number;
}

/** All slabs of the process; pools share them. */
class SlabStore {
  readonly #warm: Slab[][] = Array.from({ length: largestLog2 + 1 }, () => []);
  readonly #cold: Slab[][] = Array.from({ length: largestLog2 + 1 }, () => []);
  #warmBytes = 0;
  #takenBytes = 0;
  #takenBytesMax = 0;

  take(log2: number): Slab {
    this.#takenBytes += 2 ** log2;
    this.#takenBytesMax = Math.max(this.#takenBytesMax, this.#takenBytes);
    const warm = this.#warm[log2]?.pop();
    if (warm !== undefined) {
      this.#warmBytes -= 2 ** log2;
      return warm;
    }
    this.#coolDown();
    const cold = this.#cold[log2]?.pop();
    if (cold !== undefined) return cold;
    return this.#make(log2);
  }

  give(slab: Slab): void {
    this.#takenBytes -= 2 ** slab.log2;
    this.#warmBytes += 2 ** slab.log2;
    this.#warm[slab.log2]?.push(slab);
  }

  #coolDown(): void {
    const keptBytes = keptFactor * this.#takenBytesMax;
    for (let log2 = largestLog2; log2 >= smallestLog2; log2--) {
      while (this.#takenBytes + this.#warmBytes > keptBytes) {
        const slab = this.#warm[log2]?.pop();
        if (slab === undefined) break;
        this.#warmBytes -= 2 ** log2;
        shim.cool(slab.address, 2 ** log2);
        this.#cold[log2]?.push(slab);
      }
    }
  }

  #make(log2: number): Slab {
    const sizeBytes = 2 ** log2;
    const chunkBytes = Math.max(sizeBytes, 2 ** chunkLog2);
    const { address, buffer } = mapMemory(chunkBytes);
    for (let offsetBytes = sizeBytes; offsetBytes < chunkBytes; offsetBytes += sizeBytes) {
      this.#cold[log2]?.push({ log2, address: address + offsetBytes, buffer, offsetBytes });
    }
    return { log2, address, buffer, offsetBytes: 0 };
  }
}

const store = new SlabStore();

class SlabMemory implements Memory {
  readonly address: number;
  readonly sizeBytes: number;
  readonly #buffer: ArrayBuffer;
  readonly #offsetBytes: number;
  #bytes: Uint8Array | undefined;
  #view: DataView | undefined;

  constructor(buffer: ArrayBuffer, offsetBytes: number, address: number, sizeBytes: number) {
    this.#buffer = buffer;
    this.#offsetBytes = offsetBytes;
    this.address = address;
    this.sizeBytes = sizeBytes;
  }

  get bytes(): Uint8Array {
    this.#bytes ??= new Uint8Array(this.#buffer, this.#offsetBytes, this.sizeBytes);
    return this.#bytes;
  }

  get view(): DataView {
    this.#view ??= new DataView(this.#buffer, this.#offsetBytes, this.sizeBytes);
    return this.#view;
  }

  slice(offsetBytes: number, sizeBytes: number): Memory {
    if (!(offsetBytes >= 0 && sizeBytes >= 0 && offsetBytes + sizeBytes <= this.sizeBytes) || offsetBytes % 1 !== 0) {
      throw new WalbError("internal", {
        what: `slice of ${sizeBytes} bytes at ${offsetBytes} is outside of memory of ${this.sizeBytes} bytes`,
      });
    }
    return new SlabMemory(this.#buffer, this.#offsetBytes + offsetBytes, this.address + offsetBytes, sizeBytes);
  }
}

class SlabLease extends SlabMemory implements Lease {
  readonly #slab: Slab;
  readonly #returned: (slab: Slab) => void;
  #isReleased = false;

  constructor(slab: Slab, sizeBytes: number, returned: (slab: Slab) => void) {
    super(slab.buffer, slab.offsetBytes, slab.address, sizeBytes);
    this.#slab = slab;
    this.#returned = returned;
  }

  release(): void {
    if (this.#isReleased) throw new WalbError("internal", { what: "a memory lease was released twice" });
    this.#isReleased = true;
    this.#returned(this.#slab);
  }
}

interface Waiter {
  readonly sizeBytes: number;
  readonly resolve: (lease: Lease) => void;
  readonly reject: (error: unknown) => void;
}

class SlabPool implements MemoryPool {
  #budgetBytes: number;
  #leasedBytes = 0;
  #waiters: Waiter[] = [];
  readonly #giveBack = (slab: Slab): void => {
    store.give(slab);
    this.#leasedBytes -= 2 ** slab.log2;
    this.#serve();
  };

  constructor(budgetBytes: number) {
    this.#budgetBytes = budgetBytes;
  }

  get budgetBytes(): number {
    return this.#budgetBytes;
  }

  get leasedBytes(): number {
    return this.#leasedBytes;
  }

  tryLease(sizeBytes: number): Lease | undefined {
    const log2 = slabLog2(sizeBytes);
    // Waiters come first, or a stream of small leases would starve a large one for ever.
    return this.#waiters.length > 0 ? undefined : this.#take(log2, sizeBytes);
  }

  lease(sizeBytes: number): Promise<Lease> {
    try {
      const log2 = slabLog2(sizeBytes);
      if (2 ** log2 > this.#budgetBytes) throw this.#tooLarge(sizeBytes);
      const lease = this.#waiters.length > 0 ? undefined : this.#take(log2, sizeBytes);
      if (lease !== undefined) return Promise.resolve(lease);
    } catch (error) {
      return Promise.reject(error);
    }
    return new Promise((resolve, reject) => {
      this.#waiters.push({ sizeBytes, resolve, reject });
    });
  }

  carve(budgetBytes: number): MemoryPool {
    if (!Number.isSafeInteger(budgetBytes) || budgetBytes <= 0 || this.#leasedBytes + budgetBytes > this.#budgetBytes) {
      throw new WalbError("internal", {
        what: `a memory pool of ${this.#budgetBytes} bytes, ${this.#leasedBytes} leased, cannot give away ${budgetBytes}`,
        hint: "raise the memory budget of the daemon",
      });
    }
    this.#budgetBytes -= budgetBytes;
    const isHopeless = (waiter: Waiter): boolean => 2 ** slabLog2(waiter.sizeBytes) > this.#budgetBytes;
    for (const waiter of this.#waiters.filter(isHopeless)) waiter.reject(this.#tooLarge(waiter.sizeBytes));
    this.#waiters = this.#waiters.filter((waiter) => !isHopeless(waiter));
    this.#serve();
    return new SlabPool(budgetBytes);
  }

  #take(log2: number, sizeBytes: number): Lease | undefined {
    if (this.#leasedBytes + 2 ** log2 > this.#budgetBytes) return undefined;
    const slab = store.take(log2);
    this.#leasedBytes += 2 ** log2;
    return new SlabLease(slab, sizeBytes, this.#giveBack);
  }

  #serve(): void {
    for (;;) {
      const waiter = this.#waiters[0];
      if (waiter === undefined) return;
      const lease = this.#take(slabLog2(waiter.sizeBytes), waiter.sizeBytes);
      if (lease === undefined) return;
      this.#waiters.shift();
      waiter.resolve(lease);
    }
  }

  #tooLarge(sizeBytes: number): WalbError {
    return new WalbError("out-of-range", {
      what: `a lease of ${sizeBytes} bytes can never fit the memory budget of ${this.#budgetBytes} bytes`,
      hint: "raise the memory budget of the daemon",
    });
  }
}

function slabLog2(sizeBytes: number): number {
  if (!Number.isSafeInteger(sizeBytes) || sizeBytes < 0 || sizeBytes > 2 ** largestLog2) {
    throw new WalbError("out-of-range", {
      what: `a memory lease of ${sizeBytes} bytes was asked, at most ${2 ** largestLog2} are possible`,
    });
  }
  return Math.max(smallestLog2, sizeBytes <= 1 ? 0 : 32 - Math.clz32(sizeBytes - 1));
}

/**
 * A memory pool. `Lease.sizeBytes` is exactly the size asked for (so that a lease can be read into or written whole);
 * the budget is charged with the slab, the next power of two from 4 KiB. Contents of a fresh lease are undefined.
 */
export function createMemoryPool(budgetBytes: number): MemoryPool {
  if (!Number.isSafeInteger(budgetBytes) || budgetBytes < 2 ** smallestLog2) {
    throw new WalbError("bad-parameter", { what: `a memory budget of ${budgetBytes} bytes is too small` });
  }
  return new SlabPool(budgetBytes);
}
