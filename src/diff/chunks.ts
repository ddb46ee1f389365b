/** @module Reading an input in chunks that are worked on ahead, several at once, with results in order. */

import type { Lease, Memory } from "../native/memory.ts";
import type { DiffInput } from "./stream.ts";
import { checkAborted, type DiffIo } from "./types.ts";

/** What long reads of images have in common. */
export interface ImageReadOptions {
  readonly signal?: AbortSignal;
  /** Hears the bytes read so far. */
  readonly onProgress?: (doneBytes: number) => void;
}

const inFlightMax = 4;

/**
 * Reads `input` to its end in chunks of `chunkBytes` (the last may be shorter) and hands each to `work`; results come in
 * order. Reads are one after the other; up to 4 works run at once.
 * @param step name of the work, for messages.
 */
export async function* inChunks<T>(
  io: Pick<DiffIo, "memory">,
  input: DiffInput,
  chunkBytes: number,
  step: string,
  work: (chunk: Memory, startBytes: number) => Promise<T>,
  options: ImageReadOptions = {},
): AsyncGenerator<T, void, undefined> {
  const running: { readonly lease: Lease; readonly result: Promise<T> }[] = [];
  const finishFirst = async (): Promise<T> => {
    const { lease, result } = running.shift()!;
    try {
      return await result;
    } finally {
      lease.release();
    }
  };
  try {
    for (let startBytes = 0; ; ) {
      checkAborted(options.signal, step);
      if (running.length >= inFlightMax) yield await finishFirst();
      const lease = await leaseOr(io, chunkBytes, running.length > 0);
      if (lease === undefined) {
        yield await finishFirst();
        continue;
      }
      let gotBytes = 0;
      try {
        gotBytes = await input.read(lease);
      } catch (error) {
        lease.release();
        throw error;
      }
      if (gotBytes === 0) {
        lease.release();
        break;
      }
      // In a function of its own, so that what is thrown at once is a failure of the work too.
      const result = (async () => work(lease.slice(0, gotBytes), startBytes))();
      // A failure is met when its turn comes.
      result.catch(() => undefined);
      running.push({ lease, result });
      startBytes += gotBytes;
      options.onProgress?.(startBytes);
      if (gotBytes < chunkBytes) break;
    }
    while (running.length > 0) yield await finishFirst();
  } finally {
    while (running.length > 0) await finishFirst().catch(() => undefined);
  }
}

/** Waits for a lease only when nothing of ours would free one. */
async function leaseOr(io: Pick<DiffIo, "memory">, sizeBytes: number, hasOthers: boolean): Promise<Lease | undefined> {
  return hasOthers ? io.memory.tryLease(sizeBytes) : await io.memory.lease(sizeBytes);
}
