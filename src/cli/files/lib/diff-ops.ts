/** @module Merging, applying and dumping wdiffs, and reading the image they make over a base. */
import { type ApplyResult, applyDiffs } from "../../../diff/apply.ts";
import { fileHeaderBytes, packHeaderBytes, parsePackHeader } from "../../../diff/format.ts";
import { planLone, planMerge } from "../../../diff/merge.ts";
import { writeMerged } from "../../../diff/output.ts";
import { RecordIndex } from "../../../diff/record-index.ts";
import { type DiffSet, openDiffSet } from "../../../diff/set.ts";
import { addStats, countRecord, emptyStats } from "../../../diff/stats.ts";
import { readSortedStream } from "../../../diff/stream.ts";
import { addressLbMax, type DiffStats, type DiscardPolicy, RecordKind } from "../../../diff/types.ts";
import { VirtualImage } from "../../../diff/virtual.ts";
import { settleAll } from "../../../diff/window.ts";
import { WalbError } from "../../../errors.ts";
import type { Codec, CompressOption } from "../../../native/codec.ts";
import type { Memory } from "../../../native/memory.ts";
import type { DecodedWrite, DiskFile } from "../../../platform/disk.ts";
import { lbBytes } from "../../../units.ts";
import { copyImage } from "./image-copy.ts";
import { renamed } from "./named.ts";
import type { OpenInput } from "./paths.ts";
import { openDiff, seekable, withSeekableDiffs } from "./spooled.ts";
import { carvedIo, type Tool } from "./tool.ts";

/** How to merge. */
export interface MergeToolOptions {
  /** Largest record, 0 for no limit. */
  readonly maxIoLb: number;
  readonly compress: CompressOption;
  /** Compress what has another codec anew, so that all data has the asked one. */
  readonly recompress: boolean;
  /** 16 bytes; default that of the last input. */
  readonly uuid?: Uint8Array;
  readonly lenient?: boolean;
}

/** Merges diffs, oldest first, into a sorted one. @returns counts of the inputs and of the output. */
export async function mergeDiffs(
  tool: Tool,
  paths: readonly string[],
  output: DiskFile,
  options: MergeToolOptions,
): Promise<{ input: DiffStats; output: DiffStats }> {
  return withDiffs(tool, paths, options.lenient === true, async (set) => {
    const plan = planMerge(set.records, { maxIoLb: options.maxIoLb });
    const isOther = options.recompress && hasOtherCodec(set, options.compress.codec);
    const stats = await writeMerged(tool.platform, set, plan, output, {
      compress: options.compress,
      recompressAll: isOther,
      signal: tool.signal,
      ...(options.uuid === undefined ? {} : { uuid: options.uuid }),
      onProgress: ({ doneLb, totalLb }) => tool.progress(doneLb * lbBytes, totalLb * lbBytes),
    });
    return { input: set.stats, output: stats };
  });
}

/**
 * True when data has to be compressed anew to have the asked codec. Raw data beside data of that codec is raw because
 * it does not become smaller.
 */
function hasOtherCodec({ records }: DiffSet, codec: Codec): boolean {
  let hasRaw = false;
  let hasAsked = false;
  for (let i = 0; i < records.count; i++) {
    if (records.kind[i] !== RecordKind.normal) continue;
    if (records.codec[i] === codec) hasAsked = true;
    else if (records.codec[i] === 0) hasRaw = true;
    else return true;
  }
  return hasRaw && !hasAsked;
}

/** How to apply. */
export interface RedoToolOptions {
  readonly discard: DiscardPolicy;
  readonly lenient?: boolean;
  /** Hears the discards that the policy `ignore` leaves out. */
  readonly onIgnored?: (addressLb: number, blocksLb: number) => void;
}

/** What was applied. */
export interface Redone {
  /** Counts of the records read. */
  readonly input: DiffStats;
  /** Counts of those that were written. */
  readonly output: DiffStats;
}

/**
 * Applies one diff, also from a pipe, to an image, and makes it durable. What is sorted is applied as it comes.
 * @param image opened for writing, buffered. A file grows as needed; a device must be large enough.
 */
export async function redoDiff(tool: Tool, path: string, image: DiskFile, options: RedoToolOptions): Promise<Redone> {
  const opened = await openDiff(tool, path);
  if (!("path" in opened)) return redoStream(tool, opened, image, options);
  try {
    return await redoFile(tool, opened.path, image, options);
  } catch (error) {
    throw renamed(error, [opened]);
  } finally {
    opened.close();
  }
}

function redoFile(tool: Tool, path: string, image: DiskFile, options: RedoToolOptions): Promise<Redone> {
  return withDiffs(tool, [path], options.lenient === true, async (set) => {
    const { records } = set;
    const plan = set.isLoneSorted ? planLone(records, set.stats) : planMerge(records, { maxIoLb: 0 });
    const sizeLb = await limitOf(image);
    await applyDiffs(tool.platform, set, plan, image, {
      sizeLb,
      discard: options.discard,
      signal: tool.signal,
      onProgress: ({ doneLb, totalLb }) => tool.progress(doneLb * lbBytes, totalLb * lbBytes),
    });
    const output: DiffStats = { ...emptyStats(), files: 1, dataBytes: set.stats.dataBytes };
    for (let i = 0; i < records.count; i++) countOut(output, options, records, i);
    return { input: set.stats, output };
  });
}

/** Applies diffs one over the other, merged before anything is written. */
export async function redoDiffs(
  tool: Tool,
  paths: readonly string[],
  image: DiskFile,
  options: RedoToolOptions,
): Promise<{ input: DiffStats; applied: ApplyResult }> {
  return withDiffs(tool, paths, options.lenient === true, async (set) => {
    const plan = set.isLoneSorted
      ? planLone(set.records, set.stats)
      : planMerge(set.records, { maxIoLb: 0, joinSlices: true });
    const applied = await applyDiffs(tool.platform, set, plan, image, {
      sizeLb: await limitOf(image),
      discard: options.discard,
      signal: tool.signal,
      onProgress: ({ doneLb, totalLb }) => tool.progress(doneLb * lbBytes, totalLb * lbBytes),
    });
    return { input: set.stats, applied };
  });
}

async function redoStream(tool: Tool, input: OpenInput, image: DiskFile, options: RedoToolOptions): Promise<Redone> {
  const { platform, signal } = tool;
  try {
    const limitLb = await limitOf(image);
    const streamOptions = { limitLb, signal, lenient: options.lenient === true };
    const { packs } = await readSortedStream(platform, input, streamOptions);
    const output: DiffStats = { ...emptyStats(), files: 1 };
    const records = new RecordIndex(128, 128);
    let doneBytes = fileHeaderBytes;
    for (;;) {
      const step = await packs.next();
      if (step.done === true) return { input: step.value, output };
      const pack = step.value;
      try {
        records.count = 0;
        const header = pack.memory.bytes.subarray(0, packHeaderBytes);
        const place = { file: input.name };
        parsePackHeader(header, platform.compute, records, 0, packHeaderBytes, 0, addressLbMax, place);
        await applyPack(records, pack.memory, image, options, output, input.name);
        doneBytes += pack.memory.sizeBytes;
      } finally {
        pack.release();
      }
      tool.progress(doneBytes);
    }
  } finally {
    await image.sync();
    await input.close();
  }
}

/** Records of a pack do not overlap, so that they are written in any order. */
async function applyPack(
  records: RecordIndex,
  memory: Memory,
  image: DiskFile,
  options: RedoToolOptions,
  output: DiffStats,
  file: string,
): Promise<void> {
  const items: DecodedWrite[] = [];
  const zeroes: Promise<void>[] = [];
  for (let i = 0; i < records.count; i++) {
    const fileOffsetBytes = records.addressLb[i]! * lbBytes;
    const sliceBytes = records.blocksLb[i]! * lbBytes;
    if (!countOut(output, options, records, i)) continue;
    if (records.kind[i] !== RecordKind.normal) {
      zeroes.push(image.zero(fileOffsetBytes, sliceBytes));
      continue;
    }
    items.push({
      source: memory.slice(records.dataOffset[i]!, records.storedBytes[i]!),
      codec: records.codec[i]! as Codec,
      checksum: records.checksum[i]!,
      decodedBytes: sliceBytes,
      sliceOffsetBytes: 0,
      sliceBytes,
      fileOffsetBytes,
    });
  }
  const writing = items.length > 0 ? image.writeDecoded(items) : Promise.resolve(new Uint8Array(0));
  await settleAll([...zeroes, writing]);
  const bad = (await writing).findIndex((result) => result !== 0);
  if (bad < 0) return;
  throw new WalbError("damaged", {
    what: `the data of the record at block ${items[bad]!.fileOffsetBytes / lbBytes} does not expand`,
    where: { file, field: "data" },
    hint: "replace the diff from another copy",
  });
}

/** Counts a record unless the policy leaves it out. */
function countOut(output: DiffStats, options: RedoToolOptions, records: RecordIndex, i: number): boolean {
  const kind = records.kind[i]!;
  if (kind === RecordKind.discard && options.discard === "ignore") {
    options.onIgnored?.(records.addressLb[i]!, records.blocksLb[i]!);
    return false;
  }
  countRecord(output, kind, records.blocksLb[i]!);
  return true;
}

async function limitOf(image: DiskFile): Promise<number> {
  return image.isBlockDevice ? Math.floor((await image.size()) / lbBytes) : addressLbMax;
}

/** Copies the blocks of a range out of a diff; what it does not hold is zero. @returns blocks that it holds. */
export async function dumpDiff(
  tool: Tool,
  path: string,
  range: { readonly addressLb: number; readonly sizeLb: number },
  output: DiskFile,
): Promise<number> {
  const endLb = range.addressLb + range.sizeLb;
  return withDiffs(tool, [path], false, async (set) => {
    const plan = planMerge(set.records, { maxIoLb: 0 });
    const sizeLb = Math.max(plan.endLb, endLb);
    const image = await VirtualImage.open(carvedIo(tool.platform), set, plan, emptyBase, { sizeLb });
    await copyImage(tool, image, range.addressLb * lbBytes, endLb * lbBytes, output);
    let heldLb = 0;
    for (let at = range.addressLb; at < endLb; ) {
      const covered = image.nextCovered(at);
      if (covered === undefined || covered.startLb >= endLb) break;
      heldLb += Math.min(covered.endLb, endLb) - covered.startLb;
      at = covered.endLb;
    }
    return heldLb;
  });
}

/**
 * Writes what a base image with diffs over it reads as. @param sizeLb default the size of the base.
 * @returns counts of the diffs and the bytes written.
 */
export async function catImage(
  tool: Tool,
  basePath: string | undefined,
  paths: readonly string[],
  output: DiskFile,
  options: { readonly sizeLb?: number; readonly bulkBytes?: number; readonly lenient?: boolean },
): Promise<{ stats: DiffStats; sizeBytes: number }> {
  const input = basePath === undefined ? undefined : await seekable(tool, basePath);
  let base = emptyBase;
  try {
    if (input !== undefined) base = await tool.platform.disk.open(input.path, { mode: "read" });
    return await withDiffs(tool, paths, options.lenient === true, async (set) => {
      const plan = planMerge(set.records, { maxIoLb: 0, joinSlices: true });
      const baseLb = Math.floor((await base.size()) / lbBytes);
      const sizeLb = options.sizeLb ?? (basePath === undefined ? plan.endLb : baseLb);
      const image = await VirtualImage.open(carvedIo(tool.platform), set, plan, base, { sizeLb });
      await copyImage(tool, image, 0, image.sizeBytes, output, options.bulkBytes);
      const stats = emptyStats();
      addStats(stats, set.stats);
      return { stats, sizeBytes: image.sizeBytes };
    });
  } catch (error) {
    throw input === undefined ? error : renamed(error, [input]);
  } finally {
    if (base !== emptyBase) await base.close();
    input?.close();
  }
}

/** Opens diffs for `work`, and closes them. */
export async function withDiffs<R>(
  tool: Tool,
  paths: readonly string[],
  lenient: boolean,
  work: (set: DiffSet) => Promise<R>,
): Promise<R> {
  return withSeekableDiffs(tool, paths, async (seekablePaths) => {
    const set = await openDiffSet(tool.platform, seekablePaths, { lenient, signal: tool.signal });
    try {
      return await work(set);
    } finally {
      await set.close();
    }
  });
}

/** A base without a single block: everything that no diff holds reads as zeroes. */
const emptyBase: DiskFile = {
  path: "(empty)",
  isBlockDevice: false,
  isDirect: false,
  alignmentBytes: 1,
  physicalBlockBytes: lbBytes,
  size: () => Promise.resolve(0),
  read: () => refused(),
  write: () => refused(),
  writeGather: () => refused(),
  sync: () => refused(),
  zero: () => refused(),
  truncate: () => refused(),
  nextData: () => Promise.resolve(undefined),
  readEncoded: () => refused(),
  readHashed: () => refused(),
  writeDecoded: () => refused(),
  close: () => Promise.resolve(),
};

function refused(): Promise<never> {
  return Promise.reject(new WalbError("internal", { what: "an empty base image cannot be read or written" }));
}
