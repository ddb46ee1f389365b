/** @module The job pool: threads of the shim that do all blocking I/O and CPU work. */

/** A pool of shim threads. */
export interface JobPool {
  /** Waits for jobs in flight and ends the threads. */
  close(): Promise<void>;
}
/** @param threads default max(2, min(8, 2 · cores)). */
export function createJobPool(options: { readonly threads?: number } = {}): JobPool {
  throw new Error(`being written ${options.threads}`);
}
