/** @module Batches of a lone sorted diff: its records are written as they are, without work on this thread for each. */
import type { ByKind } from "../native/columns.ts";
import type { DiskFile } from "../platform/disk.ts";
import { lbBytes, mib } from "../units.ts";
import { type AppliedBatch, type ApplyOptions, applyBatch, type StartBatch, zeroRange } from "./apply-batch.ts";
import type { MergePlan } from "./merge.ts";
import type { RecordIndex } from "./record-index.ts";
import type { DiffSet } from "./set.ts";
import { imageBytesMax, transferRecords } from "./transfer.ts";
import { checkAborted, type DiffIo, type DiscardPolicy, RecordKind } from "./types.ts";
import { settleAll } from "./window.ts";

/** Of one job: few enough that the threads end together. */
const recordLimits = { rowsMax: 8192, bytesMax: 32 * mib, imageBytesMax };

/**
 * Batches of a plan whose pieces are all of its records: the shim chooses them and puts them into its table, so that
 * there is no work on this thread for each.
 */
export function recordBatches(
  io: DiffIo,
  set: DiffSet,
  files: readonly DiskFile[],
  plan: MergePlan,
  image: DiskFile,
  discard: DiscardPolicy,
  options: ApplyOptions,
): StartBatch {
  const { records } = plan;
  let next = 0;
  return () => {
    if (next >= records.count) return undefined;
    checkAborted(options.signal, "applying diffs");
    const from = next;
    const { to, rows, blocksLb } = io.compute.chooseRowsNow(records, from, records.count, recordLimits);
    if (to === from) {
      // A large image takes memory that is accounted for.
      next = from + 1;
      return applyBatch(io, set, files, records, plan.pieces, from, next, image, discard, options);
    }
    next = to;
    return applyRecords(set, files, records, from, to, rows, blocksLb, image, discard, options);
  };
}

async function applyRecords(
  set: DiffSet,
  files: readonly DiskFile[],
  records: RecordIndex,
  from: number,
  to: number,
  rows: number,
  [writtenLb, zeroLb, discardLb]: ByKind,
  image: DiskFile,
  discard: DiscardPolicy,
  options: ApplyOptions,
): Promise<AppliedBatch> {
  await options.throttle?.(writtenLb * lbBytes);
  const ignoredLb = discard === "ignore" ? discardLb : 0;
  const zeroedLb = zeroLb + discardLb - ignoredLb;
  const jobs = zeroedLb > 0 ? zeroRecords(records, from, to, image, discard, options.signal) : [];
  jobs.push(transferRecords(set, files, records, from, to, rows, image, options));
  await settleAll(jobs);
  const last = to - 1;
  const endLb = records.addressLb[last]! + records.blocksLb[last]!;
  return { startLb: records.addressLb[from]!, endLb, writtenLb, zeroedLb, ignoredLb };
}

/** Zeroes the records [from, to) without data, neighbours together. */
function zeroRecords(
  records: RecordIndex,
  from: number,
  to: number,
  image: DiskFile,
  discard: DiscardPolicy,
  signal: AbortSignal | undefined,
): Promise<void>[] {
  const jobs: Promise<void>[] = [];
  let startLb = 0;
  let endLb = 0;
  const flush = (): void => {
    if (endLb > startLb) jobs.push(zeroRange(image, startLb, endLb - startLb, signal));
  };
  for (let i = from; i < to; i++) {
    const kind = records.kind[i];
    if (kind === RecordKind.normal || (kind === RecordKind.discard && discard === "ignore")) continue;
    const addressLb = records.addressLb[i]!;
    if (addressLb !== endLb) {
      flush();
      startLb = addressLb;
    }
    endLb = addressLb + records.blocksLb[i]!;
  }
  flush();
  return jobs;
}
