/** @module A wlog as a diff. */

import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { IndexedDiffWriter, SortedDiffConverter } from "../../../diff/convert.ts";
import { SortedDiffWriter } from "../../../diff/sorted.ts";
import { emptyStats } from "../../../diff/stats.ts";
import type { DiffStats, LogIo } from "../../../diff/types.ts";
import { settleAll } from "../../../diff/window.ts";
import { WalbError } from "../../../errors.ts";
import type { PackBatch } from "../../../log/batch.ts";
import { recordDataPb } from "../../../log/pack.ts";
import { uuidBytes } from "../../../log/superblock.ts";
import { type WlogInput, WlogReader } from "../../../log/wlogfile.ts";
import type { CompressOption } from "../../../native/codec.ts";
import type { DiskFile } from "../../../platform/disk.ts";
import { checkContinues } from "./log-apply.ts";
import { carvedIo, type Tool } from "./tool.ts";
import { missingEndError } from "./walk.ts";

/** How to convert. */
export interface LogConvertOptions {
  readonly kind: "sorted" | "indexed";
  /** Largest record, 0 for no limit. */
  readonly maxIoLb: number;
  readonly compress: CompressOption;
  /** Take an end without end block for the end. */
  readonly lenient?: boolean;
  /** Make an empty diff of an empty input, as the original does, instead of failing. */
  readonly allowEmpty?: boolean;
}

/** What was converted. */
export interface LogConverted {
  /** 32 hex digits; undefined for an empty input. */
  readonly uuid: string | undefined;
  readonly beginLsid: number;
  readonly endLsid: number;
  readonly stats: DiffStats;
}

/** IOs that wait to be compressed: batches whose memory is not given back yet. */
const batchesMax = 3;

/** Converts concatenated wlogs that continue each other. The output is not synced. @throws WalbError */
export async function convertWlog(
  tool: Tool,
  input: WlogInput & { readonly sizeBytes?: number | undefined },
  output: DiskFile,
  options: LogConvertOptions,
): Promise<LogConverted> {
  const { memory, compute } = tool.platform;
  const io = carvedIo(tool.platform);
  const reader = new WlogReader(input, memory, compute);
  const first = await reader.nextHeader();
  if (first === undefined) {
    if (options.allowEmpty === true) return convertNothing(tool, output, options.kind);
    throw new WalbError("bad-format", { what: "the input is empty: there is no wlog", where: { file: input.name } });
  }
  const { maxIoLb, compress } = options;
  const convert = { uuid: uuidBytes(first.uuid), maxIoLb, compress };
  const feed = (writer: IndexedDiffWriter | SortedDiffConverter): Promise<number> =>
    feedAll(tool, reader, first, writer, input, options);
  if (options.kind === "indexed") {
    const writer = await IndexedDiffWriter.create(io, output, convert);
    const endLsid = await abandonOnError(writer, () => feed(writer));
    return { uuid: first.uuid, beginLsid: first.beginLsid, endLsid, stats: await writer.finish() };
  }
  return withSpool(tool, output, async (spool) => {
    const writer = new SortedDiffConverter(io, spool, convert);
    const endLsid = await abandonOnError(writer, () => feed(writer));
    return { uuid: first.uuid, beginLsid: first.beginLsid, endLsid, stats: await writer.finish(output) };
  });
}

async function feedAll(
  tool: Tool,
  reader: WlogReader,
  first: { readonly beginLsid: number; readonly uuid: string; readonly pbsBytes: number },
  writer: IndexedDiffWriter | SortedDiffConverter,
  input: WlogInput & { readonly sizeBytes?: number | undefined },
  options: LogConvertOptions,
): Promise<number> {
  const adding: Promise<void>[] = [];
  let header: typeof first | undefined = first;
  let endLsid = first.beginLsid;
  let doneBytes = 0;
  try {
    while (header !== undefined) {
      const { pbsBytes } = header;
      const packs = reader.packs(tool.signal);
      for (let step = await packs.next(); ; step = await packs.next()) {
        if (step.done === true) {
          ({ endLsid } = step.value);
          if (!step.value.hasEndBlock && options.lenient !== true) {
            throw missingEndError(input.name, endLsid, doneBytes);
          }
          break;
        }
        const batch = step.value;
        doneBytes += sizeOf(batch, pbsBytes);
        const added = writer.add(iosOf(batch)).finally(() => batch.release());
        added.catch(() => undefined);
        adding.push(added);
        if (adding.length >= batchesMax) await adding.shift();
        tool.progress(doneBytes, input.sizeBytes);
      }
      header = await reader.nextHeader();
      const next = header as (typeof first & { uuid: string }) | undefined;
      if (next !== undefined) checkContinues(input.name, endLsid, first.uuid, next.beginLsid, next.uuid);
    }
  } finally {
    // Whatever happened, the batches' memory is given back before the pool goes.
    await settleAll(adding);
  }
  return endLsid;
}

/** The IOs of a batch. */
export function iosOf(batch: PackBatch): LogIo[] {
  const ios: LogIo[] = [];
  for (const part of batch.parts) {
    part.data.forEach((data, i) => {
      const { kind, offsetLb, sizeLb } = part.header.records[part.firstRecord + i]!;
      ios.push({ kind, offsetLb, sizeLb, data });
    });
  }
  return ios;
}

function sizeOf(batch: PackBatch, pbsBytes: number): number {
  let sizePb = 0;
  for (const part of batch.parts) {
    if (part.headerMemory !== undefined) sizePb += 1;
    part.data.forEach((_, i) => {
      sizePb += recordDataPb(part.header.records[part.firstRecord + i]!, pbsBytes);
    });
  }
  return sizePb * pbsBytes;
}

async function abandonOnError<R>(writer: { abandon(): Promise<void> }, work: () => Promise<R>): Promise<R> {
  try {
    return await work();
  } catch (error) {
    await writer.abandon();
    throw error;
  }
}

/** A file for images on the way, next to the output, or in the directory for temporary files. */
async function withSpool<R>(tool: Tool, output: DiskFile, work: (spool: DiskFile) => Promise<R>): Promise<R> {
  const { disk, random } = tool.platform;
  const directory = (await disk.info(output.path))?.kind === "file" ? dirname(output.path) : tmpdir();
  const path = join(directory, `.walb-spool.${random.u32().toString(16)}.tmp`);
  const spool = await disk.open(path, { mode: "create" });
  try {
    return await work(spool);
  } finally {
    await spool.close();
    await disk.remove(path);
  }
}

/** What the original makes of an empty input: a sorted diff without records, or 24 zero bytes. */
async function convertNothing(tool: Tool, output: DiskFile, kind: "sorted" | "indexed"): Promise<LogConverted> {
  const { platform } = tool;
  if (kind === "sorted") {
    const writer = await SortedDiffWriter.create(platform, output, new Uint8Array(16));
    return { uuid: undefined, beginLsid: 0, endLsid: 0, stats: await writer.finish() };
  }
  const lease = await platform.memory.lease(24);
  try {
    const zeroes = lease.slice(0, 24);
    zeroes.bytes.fill(0);
    await output.write(0, zeroes);
  } finally {
    lease.release();
  }
  return { uuid: undefined, beginLsid: 0, endLsid: 0, stats: emptyStats() };
}
