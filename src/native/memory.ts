/**
 * @module Memory that may be handed to the job pool: allocated by the shim, 4096-aligned, wrapped once.
 *
 * Nothing else may cross an `await` as an address: the garbage collector does not know about raw pointers.
 */

/** A range of shim memory. Cheap to make: it is a view, the owner is the {@link Lease} or slab it was cut from. */
export interface Memory {
  /** Address in this process, a safe integer. Valid until the owning lease is released. */
  readonly address: number;
  readonly sizeBytes: number;
  /** All of the range as bytes, aliasing the memory. */
  readonly bytes: Uint8Array;
  /** All of the range as a DataView, made on first use. */
  readonly view: DataView;
  /** A part of this range. @throws WalbError `internal` when it does not lie inside. */
  slice(offsetBytes: number, sizeBytes: number): Memory;
}

/** Memory that belongs to the caller until released. Released exactly once; a second release is an `internal` error. */
export interface Lease extends Memory {
  release(): void;
}

/**
 * A bounded pool of slabs. Sizes are rounded up to a power of two from 4 KiB to 64 MiB and slabs are kept for reuse;
 * the sum of what is leased never exceeds the budget, so a pipeline that leases before it reads has back-pressure.
 */
export interface MemoryPool {
  readonly budgetBytes: number;
  readonly leasedBytes: number;
  /** A lease at once, or undefined when the budget does not allow it now. @throws when the size is above 64 MiB. */
  tryLease(sizeBytes: number): Lease | undefined;
  /** A lease when there is room; waiters are served in order. A stage must not hold one lease while it waits for
   * another of the same pool unless `available()` was checked: lease all it needs in one size. */
  lease(sizeBytes: number): Promise<Lease>;
  /** A child pool that takes its budget out of this one for good: gives each pipeline its own bound. */
  carve(budgetBytes: number): MemoryPool;
}
