/** @module Replaying log packs onto an image or data device, with the counts the original prints. */
import { applyDiffs } from "../../../diff/apply.ts";
import { planMerge } from "../../../diff/merge.ts";
import { RecordIndex } from "../../../diff/record-index.ts";
import { addressLbMax } from "../../../diff/types.ts";
import { WalbError } from "../../../errors.ts";
import type { PackBatch, PackPart } from "../../../log/batch.ts";
import type { IntervalIndex } from "../../../log/intervals.ts";
import { wholeLsid } from "../../../log/lsid.ts";
import { type LogPackHeader, type LogRecord, recordDataPb } from "../../../log/pack.ts";
import {
  type LoggedWrite,
  overlayWrites,
  planOverlay,
  runStoreWrites,
  type StoreOperation,
} from "../../../log/storewrites.ts";
import { type WlogInput, WlogReader } from "../../../log/wlogfile.ts";
import type { WlogHeader } from "../../../log/wlogheader.ts";
import type { Memory } from "../../../native/memory.ts";
import type { DiskFile } from "../../../platform/disk.ts";
import { kib, lbBytes, mib } from "../../../units.ts";
import { replayPlainPacks } from "./log-flow.ts";
import { indexRecord, logAsSet, type WlogPlace } from "./log-index.ts";
import type { OpenInput } from "./paths.ts";
import type { Tool } from "./tool.ts";
import { emptyLogError, missingEndError } from "./walk.ts";

/** What becomes of discards: left out, passed on to the device, or written as zeroes (these two read back the same). */
export type DiscardHandling = "ignore" | "passdown" | "zero";

/** A number of IOs and their size. */
export interface IoCount {
  ios: number;
  lb: number;
}

/** What a replay did. */
export interface ApplyCounts {
  beginLsid: bigint;
  endLsid: bigint;
  normalLb: number;
  discardLb: number;
  zeroLb: number;
  ignoredLb: number;
  paddingPb: number;
  /** Writes asked for, zeroes included. */
  normal: IoCount;
  discard: IoCount;
  /** Writes that reached the image. */
  written: IoCount;
  /** Writes left out because a later one replaced all of them. */
  overwritten: IoCount;
  /** Writes cut at the end of the device. */
  clipped: IoCount;
}

/** How to replay. */
export interface LogApplyOptions {
  readonly discard: DiscardHandling;
  /** Take an end without end block for the end. */
  readonly lenient?: boolean;
  /** Writes beyond the end of a device are cut off instead of being an error. */
  readonly clip?: boolean;
  readonly onPack?: (header: LogPackHeader, checksum: number, writes: readonly LoggedWrite[]) => void;
}

/** Log read at once, where memory allows: fewer waits than with the default. Three of them are in memory. */
const chunkBytesMax = 4 * mib;
const zeroBytes = 64 * kib;
const longLogBytes = 64 * mib;
const largeWriteBytes = 32 * kib;

/** No packs yet. */
function emptyApplyCounts(beginLsid: bigint): ApplyCounts {
  const none = (): IoCount => ({ ios: 0, lb: 0 });
  return {
    beginLsid,
    endLsid: beginLsid,
    normalLb: 0,
    discardLb: 0,
    zeroLb: 0,
    ignoredLb: 0,
    paddingPb: 0,
    normal: none(),
    discard: none(),
    written: none(),
    overwritten: none(),
    clipped: none(),
  };
}

/**
 * Replays the wlogs of an input; wlogs behind one another must continue each other. Durable when it returns.
 * @param image opened for writing, buffered. A file grows as needed; a device must be large enough.
 * @throws WalbError `damaged` at the first damage, after what is before it was replayed; `out-of-range`.
 */
export async function redoWlog(
  tool: Tool,
  input: WlogInput & Pick<Partial<OpenInput>, "sizeBytes" | "again">,
  image: DiskFile,
  options: LogApplyOptions,
): Promise<ApplyCounts> {
  const { memory, compute } = tool.platform;
  const { again } = input;
  // What the log replaces itself need not be written, where the rest can be read again. `onPack` wants the data at once.
  const mayStretch = again !== undefined && options.onPack === undefined;
  let stretch: LogStretch | undefined;
  let isDecided = false;
  const chunkBytes = Math.min(chunkBytesMax, Math.max(mib, Math.floor(memory.budgetBytes / 8)));
  const reader = new WlogReader(input, memory, compute, chunkBytes);
  const limitLb = image.isBlockDevice ? Math.floor((await image.size()) / lbBytes) : Number.MAX_SAFE_INTEGER;
  const zeroes = await memory.lease(zeroBytes);
  let counts: ApplyCounts | undefined;
  let uuid = "";
  let doneBytes = 0;
  // Of the batch before: it is written while the next one is read and checked.
  let writing: Promise<void> | undefined;
  try {
    zeroes.bytes.fill(0);
    for (let header = await reader.nextHeader(); header !== undefined; header = await reader.nextHeader()) {
      const beginLsid = wholeLsid(header.beginLsid, header.lsidBase);
      if (counts !== undefined) checkContinues(input.name, counts.endLsid, uuid, beginLsid, header.uuid);
      counts ??= emptyApplyCounts(beginLsid);
      ({ uuid } = header);
      const place = { ...header, startBytes: reader.offsetBytes };
      if (mayStretch && stretch === undefined && input.skip !== undefined) {
        await writing;
        const beforeBytes = doneBytes;
        const replayed = counts;
        const endLsid = await replayLarge(tool, input, again, header, place.startBytes, image, limitLb, (pack) => {
          doneBytes += countReplayed(pack, header.pbsBytes, image, limitLb, replayed, options);
          tool.progress(doneBytes, input.sizeBytes);
        });
        if (doneBytes > beforeBytes) {
          reader.skipTo(endLsid);
          counts.endLsid = wholeLsid(endLsid, header.lsidBase);
        }
      }
      const packs = reader.packs(tool.signal);
      for (;;) {
        const step = await packs.next();
        if (step.done === true) {
          if (!step.value.hasEndBlock && options.lenient !== true) {
            throw missingEndError(input.name, wholeLsid(step.value.endLsid, header.lsidBase), doneBytes);
          }
          break;
        }
        const batch = step.value;
        counts.endLsid = wholeLsid(batch.endLsid, header.lsidBase);
        if (!isDecided && mayStretch && !isOfLargeWrites(batch, input.sizeBytes)) {
          stretch = new LogStretch(tool, again, image, options);
        }
        isDecided = true;
        let isHeld = false;
        try {
          if (stretch === undefined) {
            const { sizeBytes, operations } = planBatch(batch, header.pbsBytes, image, limitLb, counts, options);
            doneBytes += sizeBytes;
            // Before this one begins, so that overlapping writes keep the order of the log.
            await writing;
            isHeld = true;
            writing = runStoreWrites(image, operations, zeroes).finally(() => batch.release());
            // Heard of where it is waited for.
            writing.catch(() => {});
          } else {
            doneBytes += stretch.add(batch, place, limitLb, counts);
            if (stretch.isFull) await stretch.write(uuid, counts);
          }
        } finally {
          if (!isHeld) batch.release();
        }
        tool.progress(doneBytes, input.sizeBytes);
      }
    }
    await writing;
    if (counts !== undefined) await stretch?.write(uuid, counts);
  } catch (error) {
    // What is before the damage is replayed; that this failed would be worse news.
    await writing;
    if (counts !== undefined && !tool.signal.aborted) await stretch?.write(uuid, counts);
    throw error;
  } finally {
    await writing?.catch(() => {});
    zeroes.release();
    await image.sync();
  }
  if (counts === undefined) {
    throw emptyLogError(input.name);
  }
  return counts;
}

/** Replays what is plain of a long log with large writes. @returns the lsid that the rest begins at. */
async function replayLarge(
  tool: Tool,
  input: { readonly sizeBytes?: number | undefined },
  again: NonNullable<OpenInput["again"]>,
  header: WlogHeader,
  startBytes: number,
  image: DiskFile,
  limitLb: number,
  onPack: (pack: LogPackHeader) => void,
): Promise<number> {
  const { sizeBytes = 0 } = input;
  if (sizeBytes - startBytes < longLogBytes) return header.beginLsid;
  const log = await tool.platform.disk.open(again.path, { mode: "read" });
  try {
    const inFile = { startBytes: again.offsetBytes + startBytes, sizeBytes: again.offsetBytes + sizeBytes };
    return await replayPlainPacks(tool, { log, header, ...inFile, limitLb, onPack }, image);
  } finally {
    await log.close();
  }
}

/** Counts a pack all of which was written. @returns its size in the log. */
function countReplayed(
  header: LogPackHeader,
  pbsBytes: number,
  image: DiskFile,
  limitLb: number,
  counts: ApplyCounts,
  options: LogApplyOptions,
): number {
  const data = header.records.map(() => undefined);
  let sizeBytes = pbsBytes;
  sizeBytes += visitPart(
    { header, headerMemory: undefined, firstRecord: 0, data, isLast: true },
    pbsBytes,
    image,
    limitLb,
    counts,
    options,
    (_record, sizeLb) => {
      counts.written.ios += 1;
      counts.written.lb += sizeLb;
    },
  );
  return sizeBytes;
}

/** @throws WalbError `damaged` when a wlog does not follow the one before. */
export function checkContinues(file: string, endLsid: bigint, uuid: string, nextLsid: bigint, nextUuid: string): void {
  const hint = "give the wlogs of one device in the order of their lsids, without gaps";
  if (uuid !== nextUuid) {
    const what = `a wlog of device ${nextUuid} follows one of ${uuid}`;
    throw new WalbError("different-uuid", { what, where: { file, field: "uuid" }, hint });
  }
  if (endLsid !== nextLsid) {
    const what = `a wlog that begins at lsid ${nextLsid} follows one that ends at ${endLsid}`;
    throw new WalbError("damaged", { what, where: { file, field: "begin_lsid" }, hint });
  }
}

/** A long log whose writes are large: reading it a second time would cost more than what it replaces itself. */
function isOfLargeWrites(batch: PackBatch, sizeBytes: number | undefined): boolean {
  let writes = 0;
  let writtenLb = 0;
  for (const part of batch.parts) {
    for (const { kind, sizeLb } of part.header.records) {
      if (kind !== "data") continue;
      writes += 1;
      writtenLb += sizeLb;
    }
  }
  return sizeBytes !== undefined && sizeBytes >= longLogBytes && writtenLb * lbBytes >= writes * largeWriteBytes;
}

/** Hears each record of a batch that has something to write, cut at the end of the device, and its data. */
type RecordVisitor = (record: LogRecord, sizeLb: number, memory: Memory | undefined) => void;

/** Counts the records of a part. @returns its size in the log. */
function visitPart(
  part: PackPart,
  pbsBytes: number,
  image: DiskFile,
  limitLb: number,
  counts: ApplyCounts,
  options: LogApplyOptions,
  visit: RecordVisitor,
): number {
  let sizePb = part.headerMemory === undefined ? 0 : 1;
  for (let i = 0; i < part.data.length; i += 1) {
    const record = part.header.records[part.firstRecord + i]!;
    const dataPb = recordDataPb(record, pbsBytes);
    sizePb += dataPb;
    if (record.kind === "padding") {
      counts.paddingPb += dataPb;
      continue;
    }
    const sizeLb = clippedLb(record.offsetLb, record.sizeLb, limitLb, image, counts, options);
    if (record.kind === "data") count(counts, "normalLb", counts.normal, record.sizeLb);
    else if (options.discard === "zero") count(counts, "zeroLb", counts.normal, record.sizeLb);
    else if (options.discard === "passdown") count(counts, "discardLb", counts.discard, record.sizeLb);
    else counts.ignoredLb += record.sizeLb;
    const isWanted = record.kind === "data" || options.discard !== "ignore";
    if (isWanted && sizeLb !== undefined) visit(record, sizeLb, part.data[i]);
  }
  return sizePb * pbsBytes;
}

/** What a batch asks of the image, counted; and its size in the log. */
function planBatch(
  batch: PackBatch,
  pbsBytes: number,
  image: DiskFile,
  limitLb: number,
  counts: ApplyCounts,
  options: LogApplyOptions,
): { sizeBytes: number; operations: StoreOperation[] } {
  const writes: LoggedWrite[] = [];
  let sizeBytes = 0;
  for (const part of batch.parts) {
    const firstWrite = writes.length;
    sizeBytes += visitPart(part, pbsBytes, image, limitLb, counts, options, ({ offsetLb }, sizeLb, memory) =>
      writes.push({ offsetLb, sizeLb, memory }),
    );
    if (part.headerMemory !== undefined) {
      options.onPack?.(part.header, part.headerMemory.view.getUint32(0, true), writes.slice(firstWrite));
    }
  }
  const overlay = overlayWrites(writes);
  countWritten(writes, overlay, counts);
  return { sizeBytes, operations: planOverlay(overlay) };
}

/** Records of one stretch: about 100 MiB of index and plan. */
const stretchRecordsMax = 2 ** 20;

/**
 * A stretch of a log in a file: indexed first, then written in the order of the volume, without what the stretch itself
 * replaces. It is read twice, so it is not longer than what the page cache can be expected to keep.
 */
class LogStretch {
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

function count(counts: ApplyCounts, kindLb: "normalLb" | "zeroLb" | "discardLb", kind: IoCount, sizeLb: number): void {
  counts[kindLb] += sizeLb;
  kind.ios += 1;
  kind.lb += sizeLb;
}

/** Blocks that fit on the device; undefined when none do. @throws WalbError `out-of-range` unless they may be cut. */
function clippedLb(
  offsetLb: number,
  sizeLb: number,
  limitLb: number,
  image: DiskFile,
  counts: ApplyCounts,
  options: LogApplyOptions,
): number | undefined {
  if (offsetLb + sizeLb <= limitLb) return sizeLb;
  if (options.clip !== true) {
    throw new WalbError("out-of-range", {
      what: `the log writes ${sizeLb} blocks at ${offsetLb}, beyond the ${limitLb} blocks of the device`,
      where: { file: image.path, field: "offset" },
      hint: "give the device the log belongs to, or one at least as large",
    });
  }
  counts.clipped.ios += 1;
  counts.clipped.lb += sizeLb;
  return offsetLb >= limitLb ? undefined : limitLb - offsetLb;
}

function countWritten(writes: readonly LoggedWrite[], overlay: IntervalIndex<LoggedWrite>, counts: ApplyCounts): void {
  const surviving = new Set<LoggedWrite>();
  overlay.visit(0, Number.MAX_SAFE_INTEGER, (_start, _end, write) => surviving.add(write));
  for (const write of writes) {
    const into = surviving.has(write) ? counts.written : counts.overwritten;
    into.ios += 1;
    into.lb += write.sizeLb;
  }
}

/** The original's text of the counts. */
export function applyCountLines(counts: ApplyCounts): string {
  const size = (name: string, value: number, unit: string): string =>
    `${`${name}:`.padEnd(9)}${String(value).padStart(10)} ${unit}`;
  const ios = (name: string, { ios, lb }: IoCount): string =>
    `${`${name}:`.padEnd(12)}${String(ios).padStart(11)} (${String(lb).padStart(11)} LB)`;
  return [
    `Applied lsid range [${counts.beginLsid}, ${counts.endLsid})`,
    size("normal", counts.normalLb, "LB"),
    size("discard", counts.discardLb, "LB"),
    size("allZero", counts.zeroLb, "LB"),
    size("ignored", counts.ignoredLb, "LB"),
    size("padding", counts.paddingPb, "PB"),
    ios("normal", counts.normal),
    ios("discard", counts.discard),
    ios("written", counts.written),
    ios("overwritten", counts.overwritten),
    ios("clipped", counts.clipped),
  ].join("\n");
}
