/** @module Memory of the clients, by volume: what hangs at one of them, client or store, must not stop the others. */
import type { Lease, Memory, MemoryPool } from "../../../native/memory.ts";

/** What a connection needs of a pool. */
export type ClientMemory = Pick<MemoryPool, "tryLease" | "lease">;

/** Of a slab: a pool rounds up to a power of two from this on. */
const leastSlabBytes = 4096;

interface Waiter {
  readonly sizeBytes: number;
  readonly resolve: (lease: Lease) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Shares a pool out: half of it in equal parts that the volumes are owed, the rest to whoever needs more. Of the rest a
 * volume takes no more than it leaves to the others, so that each that hangs leaves less, but always some. Only the first
 * lease of a volume may be larger: the longest request is never hopeless.
 */
export class MemoryShares {
  readonly #pool: MemoryPool;
  readonly #names: () => readonly string[];
  readonly #shares = new Map<string, Share>();
  /** Those who wait, those served longest ago first. */
  readonly #waiting = new Set<Share>();
  #leasedBytes = 0;
  /** What the volumes have not taken of what they are owed. */
  #owedBytes = 0;

  /** Nobody else uses the pool; `names` are the volumes that there are. */
  constructor(pool: MemoryPool, names: () => readonly string[]) {
    this.#pool = pool;
    this.#names = names;
  }

  /** The share of a volume. */
  of(name: string): ClientMemory {
    const names = new Set([...this.#names(), name]);
    for (const [known, share] of this.#shares) {
      if (names.has(known)) continue;
      // What it still holds counts for it until it is given back.
      share.leastBytes = 0;
      if (share.leasedBytes === 0 && share.waiters.length === 0) this.#shares.delete(known);
    }
    const leastBytes = Math.floor(this.#pool.budgetBytes / 2 / names.size);
    for (const known of names) {
      const share = this.#shares.get(known) ?? new Share(this);
      share.leastBytes = leastBytes;
      this.#shares.set(known, share);
    }
    this.#owedBytes = 0;
    for (const share of this.#shares.values()) this.#owedBytes += share.owedBytes;
    return this.#shares.get(name)!;
  }

  tryTake(share: Share, sizeBytes: number): Lease | undefined {
    const costBytes = costOf(sizeBytes);
    if (!this.#admits(share, costBytes)) return undefined;
    const lease = this.#pool.tryLease(sizeBytes);
    if (lease === undefined) return undefined;
    this.#note(share, costBytes);
    return new SharedLease(lease, this, share, costBytes);
  }

  take(share: Share, waiter: Waiter): void {
    const costBytes = costOf(waiter.sizeBytes);
    if (share.waiters.length > 0 || !this.#admits(share, costBytes)) {
      share.waiters.push(waiter);
      this.#waiting.add(share);
      return;
    }
    this.#note(share, costBytes);
    this.#pool.lease(waiter.sizeBytes).then(
      (lease) => waiter.resolve(new SharedLease(lease, this, share, costBytes)),
      (error: unknown) => {
        this.giveBack(share, costBytes);
        waiter.reject(error);
      },
    );
  }

  giveBack(share: Share, costBytes: number): void {
    this.#note(share, -costBytes);
    if (this.#waiting.size === 0) return;
    for (const waiting of [...this.#waiting]) {
      const { waiters } = waiting;
      this.#waiting.delete(waiting);
      waiting.waiters = [];
      // Those that find no room wait again, in their order.
      for (const waiter of waiters) this.take(waiting, waiter);
    }
  }

  #admits(share: Share, costBytes: number): boolean {
    const { budgetBytes } = this.#pool;
    if (costBytes <= share.owedBytes) return this.#leasedBytes + costBytes <= budgetBytes;
    const wantedBytes = costBytes - share.owedBytes;
    const leftBytes = budgetBytes - this.#leasedBytes - this.#owedBytes - wantedBytes;
    const isFirst = share.leasedBytes === 0;
    return leftBytes >= (isFirst ? 0 : share.extraBytes + wantedBytes);
  }

  #note(share: Share, costBytes: number): void {
    const { owedBytes } = share;
    share.leasedBytes += costBytes;
    this.#leasedBytes += costBytes;
    this.#owedBytes += share.owedBytes - owedBytes;
  }
}

/** The share of one volume. */
class Share implements ClientMemory {
  leastBytes = 0;
  leasedBytes = 0;
  waiters: Waiter[] = [];
  readonly #shares: MemoryShares;

  constructor(shares: MemoryShares) {
    this.#shares = shares;
  }

  get owedBytes(): number {
    return Math.max(0, this.leastBytes - this.leasedBytes);
  }

  get extraBytes(): number {
    return Math.max(0, this.leasedBytes - this.leastBytes);
  }

  tryLease(sizeBytes: number): Lease | undefined {
    return this.waiters.length > 0 ? undefined : this.#shares.tryTake(this, sizeBytes);
  }

  lease(sizeBytes: number): Promise<Lease> {
    return new Promise((resolve, reject) => this.#shares.take(this, { sizeBytes, resolve, reject }));
  }
}

/** A lease that is given back to its share, too. */
class SharedLease implements Lease {
  readonly address: number;
  readonly sizeBytes: number;
  readonly #lease: Lease;
  readonly #shares: MemoryShares;
  readonly #share: Share;
  readonly #costBytes: number;

  constructor(lease: Lease, shares: MemoryShares, share: Share, costBytes: number) {
    this.address = lease.address;
    this.sizeBytes = lease.sizeBytes;
    this.#lease = lease;
    this.#shares = shares;
    this.#share = share;
    this.#costBytes = costBytes;
  }

  get bytes(): Uint8Array {
    return this.#lease.bytes;
  }

  get view(): DataView {
    return this.#lease.view;
  }

  slice(offsetBytes: number, sizeBytes: number): Memory {
    return this.#lease.slice(offsetBytes, sizeBytes);
  }

  release(): void {
    this.#lease.release();
    this.#shares.giveBack(this.#share, this.#costBytes);
  }
}

function costOf(sizeBytes: number): number {
  let costBytes = leastSlabBytes;
  while (costBytes < sizeBytes) costBytes *= 2;
  return costBytes;
}
