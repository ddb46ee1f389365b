/** @module A stretch of a log that is written in the order of the volume, without what it replaces itself. */
import { applyDiffs } from "../../../diff/apply.ts";
import { planMerge } from "../../../diff/merge.ts";
import { RecordIndex } from "../../../diff/record-index.ts";
import { addressLbMax } from "../../../diff/types.ts";
import type { PackBatch } from "../../../log/batch.ts";
import type { DiskFile } from "../../../platform/disk.ts";
import { type ApplyCounts, type LogApplyOptions, visitPart } from "./apply-counts.ts";
import { indexRecord, logAsSet, type WlogPlace } from "./log-index.ts";
import type { OpenInput } from "./paths.ts";
import type { Tool } from "./tool.ts";

/** Records of one stretch: about 100 MiB of index and plan. */
const stretchRecordsMax = 2 ** 20;

/**
 * A stretch of a log in a file: indexed first, then written in the order of the volume, without what the stretch itself
 * replaces. It is read twice, so it is not longer than what the page cache can be expected to keep.
 */
export class LogStretch {
  readonly #tool: Tool;
  readonly #again: { readonly path: string; readonly offsetBytes: number };
  readonly #image: DiskFile;
  readonly #options: LogApplyOptions;
  readonly #records = new RecordIndex(4096);
  #sizeBytes = 0;

  constructor(tool: Tool, again: NonNullable<OpenInput["again"]>, image: DiskFile, options: LogApplyOptions) {
    this.#tool = tool;
    this.#again = again;
    this.#image = image;
    this.#options = options;
  }

  /** True when it should be written before more is added. */
  get isFull(): boolean {
    return this.#records.count >= stretchRecordsMax || this.#sizeBytes >= this.#tool.platform.memory.budgetBytes;
  }

  /** Enters a batch. @returns its size in the log. */
  add(batch: PackBatch, place: WlogPlace, limitLb: number, counts: ApplyCounts): number {
    const inFile = { ...place, startBytes: this.#again.offsetBytes + place.startBytes };
    let sizeBytes = 0;
    for (const part of batch.parts) {
      sizeBytes += visitPart(part, place.pbsBytes, this.#image, limitLb, counts, this.#options, (record, sizeLb) =>
        indexRecord(this.#records, inFile, record, sizeLb),
      );
    }
    this.#sizeBytes += sizeBytes;
    return sizeBytes;
  }

  /** Writes what was entered, and forgets it. */
  async write(uuid: string, counts: ApplyCounts): Promise<void> {
    const records = this.#records;
    if (records.count === 0) return;
    const { platform, signal } = this.#tool;
    const plan = planMerge(records, { maxIoLb: 0 });
    const surviving = new Uint8Array(records.count);
    for (let i = 0; i < plan.pieces.count; i += 1) surviving[plan.pieces.record[i]!] = 1;
    for (let i = 0; i < records.count; i += 1) {
      const into = surviving[i] === 1 ? counts.written : counts.overwritten;
      into.ios += 1;
      into.lb += records.blocksLb[i]!;
    }
    const set = logAsSet(platform.disk, this.#again.path, uuid, records);
    try {
      const { discard } = this.#options;
      const how = { sizeLb: addressLbMax, discard, isVerified: true, isSyncedLater: true, signal } as const;
      await applyDiffs(platform, set, plan, this.#image, how);
    } finally {
      records.count = 0;
      this.#sizeBytes = 0;
      await set.close();
    }
  }
}
