/**
 * @module Applying a merge to an image: sorted writes, many in flight, expanded where they are written.
 *
 * Applying is idempotent: a run that was cut off is repeated as a whole and ends in the same image.
 */
import { WalbError } from "../errors.ts";
import type { DiskFile } from "../platform/disk.ts";
import { checkRange, lbBytes, mib } from "../units.ts";
import { type ApplyOptions, type ApplyResult, pieceBatches } from "./apply-batch.ts";
import { recordBatches } from "./apply-records.ts";
import type { MergePlan } from "./merge.ts";
import type { DiffSet } from "./set.ts";
import type { DiffIo } from "./types.ts";
import { inOrder } from "./window.ts";

export type { ApplyOptions, ApplyResult } from "./apply-batch.ts";

/** The disk begins with what was written whenever so much has come together: it works while the next is expanded. */
const writebackBytes = 16 * mib;

/**
 * Applies a merge to an image and makes it durable.
 * @param image opened for writing; its alignment must be at most 512 bytes (open it buffered on 4096-byte disks).
 * @throws WalbError `out-of-range` before any write when a record ends beyond the volume; `damaged` naming the diff file.
 */
export async function applyDiffs(
  io: DiffIo,
  set: DiffSet,
  plan: MergePlan,
  image: DiskFile,
  options: ApplyOptions,
): Promise<ApplyResult> {
  checkTarget(plan, image, options.sizeLb);
  const canTransfer = image.transfer !== undefined && !image.isDirect;
  if (!canTransfer) return applyFrom(io, set, undefined, plan, image, options);
  const held = await set.holdFiles();
  const flow = held === undefined ? undefined : image.startFlow?.();
  try {
    return await applyFrom(io, set, held?.files, plan, image, { ...options, flow });
  } finally {
    flow?.end();
    held?.release();
  }
}

/** @param files of the set, to be written from directly; undefined when that is not possible. */
async function applyFrom(
  io: DiffIo,
  set: DiffSet,
  files: readonly DiskFile[] | undefined,
  plan: MergePlan,
  image: DiskFile,
  options: ApplyOptions,
): Promise<ApplyResult> {
  const discard = options.discard ?? "zero";
  const isLone = plan.isWhole && files !== undefined;
  const start = isLone
    ? recordBatches(io, set, files, plan, image, discard, options)
    : pieceBatches(io, set, files, plan, image, discard, options);
  const result = { writtenLb: 0, zeroedLb: 0, ignoredLb: 0 };
  let doneLb = 0;
  const writeback = new Writeback(image);
  for await (const batch of inOrder(start, options.inFlightMax ?? 3, () => undefined)) {
    writeback.wrote(batch.startLb * lbBytes, batch.endLb * lbBytes);
    result.writtenLb += batch.writtenLb;
    result.zeroedLb += batch.zeroedLb;
    result.ignoredLb += batch.ignoredLb;
    doneLb += batch.writtenLb + batch.zeroedLb + batch.ignoredLb;
    options.onProgress?.({ doneLb, totalLb: plan.totalLb });
  }
  await writeback.end();
  if (options.isSyncedLater !== true) await image.sync();
  return result;
}

/** Keeps the disk busy with what is in the page cache, so that the sync in the end is short. Ranges are ascending. */
class Writeback {
  readonly #image: DiskFile;
  #fromBytes: number | undefined;
  #last: Promise<void> = Promise.resolve();

  constructor(image: DiskFile) {
    this.#image = image;
  }

  wrote(fromBytes: number, toBytes: number): void {
    this.#fromBytes ??= fromBytes;
    const startBytes = this.#fromBytes;
    if (this.#image.startWriteback === undefined || toBytes - startBytes < writebackBytes) return;
    this.#fromBytes = undefined;
    // One after the other: a full queue of the disk must not take all threads for slow work.
    this.#last = this.#last.then(() => this.#image.startWriteback?.(startBytes, toBytes - startBytes));
    this.#last.catch(() => undefined);
  }

  /** Nothing of it runs any more. */
  async end(): Promise<void> {
    await this.#last.catch(() => undefined);
  }
}

function checkTarget(plan: MergePlan, image: DiskFile, sizeLb: number): void {
  checkRange(sizeLb, 0, 2 ** 44, "sizeLb");
  if (plan.endLb > sizeLb) {
    throw new WalbError("out-of-range", {
      what: `the diffs reach block ${plan.endLb}, beyond the ${sizeLb} blocks of the volume`,
      where: { file: image.path, field: "io_address" },
      hint: "grow the image to the size of the volume first, or check that the diffs belong to it",
    });
  }
  if (lbBytes % image.alignmentBytes !== 0) {
    throw new WalbError("bad-parameter", {
      what: `the image can only be written in multiples of ${image.alignmentBytes} bytes, diffs have blocks of 512`,
      where: { file: image.path },
      hint: "open the image without direct I/O",
    });
  }
}
