/** @module A bounded window of jobs under way, whose results come out in the order they were started. */

/**
 * Starts jobs ahead and yields their results in order. When the consumer stops or a job fails, what is under way is
 * awaited and disposed of, so that no lease is lost.
 * @param start starts the next job, or says there is none.
 */
export async function* inOrder<T>(
  start: () => Promise<T> | undefined,
  inFlightMax: number,
  dispose: (result: T) => void,
): AsyncGenerator<T, void> {
  const queue: Promise<T>[] = [];
  let more = true;
  try {
    for (;;) {
      while (more && queue.length < Math.max(1, inFlightMax)) {
        const job = start();
        if (job === undefined) {
          more = false;
          break;
        }
        // The failure is met when the job's turn comes; until then it must not count as unhandled.
        job.catch(() => undefined);
        queue.push(job);
      }
      const first = queue.shift();
      if (first === undefined) return;
      yield await first;
    }
  } finally {
    for (const job of queue) {
      const settled = await job.then(
        (result) => ({ result }),
        () => undefined,
      );
      if (settled !== undefined) dispose(settled.result);
    }
  }
}

/** Waits for all jobs, then throws the first failure: nothing is left running into memory that is given back. */
export async function settleAll(jobs: readonly Promise<unknown>[]): Promise<void> {
  const settled = await Promise.allSettled(jobs);
  for (const result of settled) if (result.status === "rejected") throw result.reason;
}
