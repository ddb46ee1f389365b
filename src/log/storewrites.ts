/**
 * @module Bringing logged writes onto a data store: what must be written (pure), and writing it.
 */
import type { Memory } from "../native/memory.ts";
import type { DiskFile, PlacedWrite } from "../platform/disk.ts";
import { kib, lbBytes, mib } from "../units.ts";
import { IntervalIndex } from "./intervals.ts";

/** One logged write in log order. `memory` holds at least `sizeLb` · 512 bytes; undefined means zeroes. */
export interface LoggedWrite {
  readonly offsetLb: number;
  readonly sizeLb: number;
  readonly memory: Memory | undefined;
}

/** One operation on the data store. */
export type StoreOperation =
  | { readonly kind: "write"; readonly offsetLb: number; readonly sizeLb: number; readonly pieces: readonly Memory[] }
  | { readonly kind: "zero"; readonly offsetLb: number; readonly sizeLb: number };

const gatherBytesMax = mib;
const gatherPiecesMax = 256;

/** Which write of a list each range has in the end. */
export function overlayWrites(writes: readonly LoggedWrite[]): IntervalIndex<LoggedWrite> {
  const overlay = new IntervalIndex<LoggedWrite>();
  for (const write of writes) overlay.set(write.offsetLb, write.offsetLb + write.sizeLb, write);
  return overlay;
}

/**
 * The operations that leave a data store as if the writes had been done one by one: disjoint, sorted by position, what
 * a later write of the list covers left out, neighbours gathered.
 */
export function planStoreWrites(writes: readonly LoggedWrite[]): StoreOperation[] {
  return planOverlay(overlayWrites(writes));
}

/** {@link planStoreWrites} of writes that were laid over one another already. */
export function planOverlay(overlay: IntervalIndex<LoggedWrite>): StoreOperation[] {
  const operations: StoreOperation[] = [];
  let open: { kind: "write"; offsetLb: number; sizeLb: number; pieces: Memory[] } | undefined;
  let openZero: { kind: "zero"; offsetLb: number; sizeLb: number } | undefined;
  overlay.visit(0, Number.MAX_SAFE_INTEGER, (startLb, endLb, { offsetLb, memory }) => {
    const sizeLb = endLb - startLb;
    if (memory === undefined) {
      if (openZero !== undefined && openZero.offsetLb + openZero.sizeLb === startLb) {
        openZero.sizeLb += sizeLb;
        return;
      }
      openZero = { kind: "zero", offsetLb: startLb, sizeLb };
      operations.push(openZero);
      return;
    }
    const isWhole = startLb === offsetLb && memory.sizeBytes === sizeLb * lbBytes;
    const piece = isWhole ? memory : memory.slice((startLb - offsetLb) * lbBytes, sizeLb * lbBytes);
    const isNext = open !== undefined && open.offsetLb + open.sizeLb === startLb;
    if (open !== undefined && isNext && open.pieces.length < gatherPiecesMax) {
      if ((open.sizeLb + sizeLb) * lbBytes <= gatherBytesMax) {
        open.sizeLb += sizeLb;
        open.pieces.push(piece);
        return;
      }
    }
    open = { kind: "write", offsetLb: startLb, sizeLb, pieces: [piece] };
    operations.push(open);
  });
  return operations;
}

/** Below this, zeroes are written rather than punched: cheaper, and it does not fragment the store. */
const punchBytesMin = 64 * kib;

/** Writes of one job. */
const jobWritesMax = 256;
const jobBytesMax = mib;

/**
 * Does the operations, at most `parallel` jobs at a time, and waits for all that were started even when one fails.
 * `zeroes` is a block of zero bytes of at least 64 KiB. Gentle: other threads have their turn after each small write.
 * @throws the first failure.
 */
export async function runStoreWrites(
  file: DiskFile,
  operations: readonly StoreOperation[],
  zeroes: Memory,
  { parallel = 8, isGentle = false }: { readonly parallel?: number; readonly isGentle?: boolean } = {},
): Promise<void> {
  const jobWrites = Math.min(jobWritesMax, Math.ceil(operations.length / parallel));
  const jobs = planJobs(file, operations, zeroes, jobWrites, isGentle);
  let next = 0;
  let failure: { readonly error: unknown } | undefined;
  const worker = async (): Promise<void> => {
    while (next < jobs.length && failure === undefined) {
      const job = jobs[next]!;
      next += 1;
      try {
        await job();
      } catch (error) {
        failure ??= { error };
      }
    }
  };
  const workers: Promise<void>[] = [];
  for (let i = 0; i < Math.min(parallel, jobs.length); i += 1) workers.push(worker());
  await Promise.all(workers);
  if (failure !== undefined) throw failure.error;
}

/** Jobs for the operations: where the file can, many writes become one, since a job costs more than a small write. */
function planJobs(
  file: DiskFile,
  operations: readonly StoreOperation[],
  zeroes: Memory,
  jobWrites: number,
  isGentle: boolean,
): (() => Promise<void>)[] {
  const jobs: (() => Promise<void>)[] = [];
  const writeMany = file.writeMany?.bind(file);
  let open: { readonly writes: PlacedWrite[]; operationCount: number; sizeBytes: number } | undefined;
  for (const operation of operations) {
    const offsetBytes = operation.offsetLb * lbBytes;
    const sizeBytes = operation.sizeLb * lbBytes;
    if (operation.kind === "zero" && sizeBytes >= punchBytesMin) {
      jobs.push(() => file.zero(offsetBytes, sizeBytes));
      continue;
    }
    const pieces = operation.kind === "zero" ? [zeroes.slice(0, sizeBytes)] : operation.pieces;
    if (writeMany === undefined) {
      jobs.push(() =>
        pieces.length === 1 ? file.write(offsetBytes, pieces[0]!) : file.writeGather(offsetBytes, pieces),
      );
      continue;
    }
    if (open === undefined || open.operationCount >= jobWrites || open.sizeBytes + sizeBytes > jobBytesMax) {
      const writes: PlacedWrite[] = [];
      open = { writes, operationCount: 0, sizeBytes: 0 };
      jobs.push(() => writeMany(writes, { isGentle }));
    }
    let atBytes = offsetBytes;
    for (const source of pieces) {
      open.writes.push({ offsetBytes: atBytes, source });
      atBytes += source.sizeBytes;
    }
    open.operationCount += 1;
    open.sizeBytes += sizeBytes;
  }
  return jobs;
}
