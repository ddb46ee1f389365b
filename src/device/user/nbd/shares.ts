/** @module Memory of the clients, by volume: what hangs at one of them, client or store, must not stop the others. */
import type { Lease, Memory, MemoryPool } from "../../../native/memory.ts";

/** A lease that counts for a client while the client holds it up. */
export interface ClientLease extends Lease {
  /** From now on it is the volume that keeps it. */
  handOver(): void;
}

/** What a connection needs of a pool. */
export interface ClientMemory {
  tryLease(sizeBytes: number): ClientLease | undefined;
  lease(sizeBytes: number): Promise<ClientLease>;
  /** Other clients of the volume get no memory at all. */
  readonly isWanted: boolean;
}

/** Of a slab: a pool rounds up to a power of two from this on. */
const leastSlabBytes = 4096;

interface Waiter {
  readonly client: Client;
  readonly sizeBytes: number;
  readonly resolve: (lease: ClientLease) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Shares a pool out: half of it in equal parts that the volumes are owed, the rest to whoever needs more. Of the rest a
 * volume takes no more than it leaves to the others, so that each that hangs leaves less, but always some. Only the first
 * lease of a volume may be larger: the longest request is never hopeless. The clients of a volume share its part in the same
 * way: each leaves to the others as much as it has, but for its first lease.
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

  /** The memory of one more client of a volume. */
  of(name: string): ClientMemory {
    const names = new Set([...this.#names(), name]);
    for (const [known, share] of this.#shares) {
      if (names.has(known)) continue;
      // What it still holds counts for it until it is given back.
      share.leastBytes = 0;
      if (share.leasedBytes === 0 && !share.isWaiting) this.#shares.delete(known);
    }
    const leastBytes = Math.floor(this.#pool.budgetBytes / 2 / names.size);
    for (const known of names) {
      const share = this.#shares.get(known) ?? new Share();
      share.leastBytes = leastBytes;
      this.#shares.set(known, share);
    }
    this.#owedBytes = 0;
    for (const share of this.#shares.values()) this.#owedBytes += share.owedBytes;
    return new Client(this, this.#shares.get(name)!);
  }

  tryTake(client: Client, sizeBytes: number): ClientLease | undefined {
    const costBytes = costOf(sizeBytes);
    if (!this.#isFair(client, costBytes) || !this.#admits(client.share, costBytes)) return undefined;
    const lease = this.#pool.tryLease(sizeBytes);
    if (lease === undefined) return undefined;
    client.leasedBytes += costBytes;
    this.#note(client.share, costBytes);
    return new SharedLease(lease, this, client, costBytes);
  }

  take(waiter: Waiter): void {
    const { client } = waiter;
    const { share } = client;
    const costBytes = costOf(waiter.sizeBytes);
    const isFair = this.#isFair(client, costBytes);
    if (!isFair || share.queue.length > 0 || !this.#admits(share, costBytes)) {
      // Who waits for leases of its own stands in nobody's way.
      (isFair ? share.queue : share.capped).push(waiter);
      this.#waiting.add(share);
      return;
    }
    client.leasedBytes += costBytes;
    this.#note(share, costBytes);
    this.#pool.lease(waiter.sizeBytes).then(
      (lease) => waiter.resolve(new SharedLease(lease, this, client, costBytes)),
      (error: unknown) => {
        client.leasedBytes -= costBytes;
        this.giveBack(share, costBytes);
        waiter.reject(error);
      },
    );
  }

  giveBack(share: Share, costBytes: number): void {
    this.#note(share, -costBytes);
    if (this.#waiting.size === 0) return;
    for (const waiting of [...this.#waiting]) {
      const { queue, capped } = waiting;
      this.#waiting.delete(waiting);
      waiting.queue = [];
      waiting.capped = [];
      // Those that find no room wait again, in their order.
      for (const waiter of queue) this.take(waiter);
      for (const waiter of capped) this.take(waiter);
    }
  }

  /** Whether a client leaves as much to the others of its volume as it has. */
  #isFair(client: Client, costBytes: number): boolean {
    const { leasedBytes, share } = client;
    if (leasedBytes === 0) return true;
    const restBytes = this.#pool.budgetBytes - this.#leasedBytes - this.#owedBytes - share.extraBytes;
    const roomBytes = share.owedBytes + Math.max(0, restBytes / 2);
    return leasedBytes + 2 * costBytes <= roomBytes;
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
class Share {
  leastBytes = 0;
  leasedBytes = 0;
  /** Clients that wait for memory of the volume, in their order. */
  queue: Waiter[] = [];
  /** Clients that have so much that they wait for their own. */
  capped: Waiter[] = [];

  get isWaiting(): boolean {
    return this.queue.length + this.capped.length > 0;
  }

  get owedBytes(): number {
    return Math.max(0, this.leastBytes - this.leasedBytes);
  }

  get extraBytes(): number {
    return Math.max(0, this.leasedBytes - this.leastBytes);
  }
}

/** What one client has of the share of its volume. */
class Client implements ClientMemory {
  /** What was handed over is not counted. */
  leasedBytes = 0;
  readonly share: Share;
  readonly #shares: MemoryShares;

  constructor(shares: MemoryShares, share: Share) {
    this.#shares = shares;
    this.share = share;
  }

  get isWanted(): boolean {
    return this.share.queue.some(({ client }) => client !== this);
  }

  tryLease(sizeBytes: number): ClientLease | undefined {
    return this.share.queue.length > 0 ? undefined : this.#shares.tryTake(this, sizeBytes);
  }

  lease(sizeBytes: number): Promise<ClientLease> {
    return new Promise((resolve, reject) => this.#shares.take({ client: this, sizeBytes, resolve, reject }));
  }
}

/** A lease that is given back to its share, too. */
class SharedLease implements ClientLease {
  readonly address: number;
  readonly sizeBytes: number;
  readonly #lease: Lease;
  readonly #shares: MemoryShares;
  readonly #client: Client;
  readonly #costBytes: number;
  #isHandedOver = false;

  constructor(lease: Lease, shares: MemoryShares, client: Client, costBytes: number) {
    this.address = lease.address;
    this.sizeBytes = lease.sizeBytes;
    this.#lease = lease;
    this.#shares = shares;
    this.#client = client;
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

  handOver(): void {
    if (this.#isHandedOver) return;
    this.#isHandedOver = true;
    this.#client.leasedBytes -= this.#costBytes;
  }

  release(): void {
    this.handOver();
    this.#lease.release();
    this.#shares.giveBack(this.#client.share, this.#costBytes);
  }
}

function costOf(sizeBytes: number): number {
  let costBytes = leastSlabBytes;
  while (costBytes < sizeBytes) costBytes *= 2;
  return costBytes;
}
