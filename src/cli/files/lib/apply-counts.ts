/** @module What a replay of log packs counts, and how records are counted on their way to the image. */
import { WalbError } from "../../../errors.ts";
import type { PackPart } from "../../../log/batch.ts";
import type { IntervalIndex } from "../../../log/intervals.ts";
import { type LogPackHeader, type LogRecord, recordDataPb } from "../../../log/pack.ts";
import type { LoggedWrite } from "../../../log/storewrites.ts";
import type { Memory } from "../../../native/memory.ts";
import type { DiskFile } from "../../../platform/disk.ts";

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

/** No packs yet. */
export function emptyApplyCounts(beginLsid: bigint): ApplyCounts {
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

/** Hears each record of a batch that has something to write, cut at the end of the device, and its data. */
export type RecordVisitor = (record: LogRecord, sizeLb: number, memory: Memory | undefined) => void;

/** Counts the records of a part. @returns its size in the log. */
export function visitPart(
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

/** Counts a pack all of which was written. @returns its size in the log. */
export function countReplayed(
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
      what: `the log writes ${sizeLb} blocks at ${offsetLb}, beyond the ${limitLb} blocks of ${image.isBlockDevice ? "the device" : "any file"}`,
      where: { file: image.path, field: "offset" },
      hint: "give the device the log belongs to, or one at least as large",
    });
  }
  counts.clipped.ios += 1;
  counts.clipped.lb += sizeLb;
  return offsetLb >= limitLb ? undefined : limitLb - offsetLb;
}

/** Counts the writes of a batch that reach the image, and those that others of it replace. */
export function countWritten(
  writes: readonly LoggedWrite[],
  overlay: IntervalIndex<LoggedWrite>,
  counts: ApplyCounts,
): void {
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
