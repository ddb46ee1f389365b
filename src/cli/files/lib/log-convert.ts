/** @module A wlog as a diff. */

import { closeSync } from "node:fs";
import { dirname } from "node:path";
import { IndexedDiffWriter, SortedDiffConverter } from "../../../diff/convert.ts";
import { planMerge } from "../../../diff/merge.ts";
import { writeMerged } from "../../../diff/output.ts";
import { RecordIndex } from "../../../diff/record-index.ts";
import { SortedDiffWriter } from "../../../diff/sorted.ts";
import { addressLbMax, type DiffStats, type LogIo } from "../../../diff/types.ts";
import { settleAll } from "../../../diff/window.ts";
import { WalbError } from "../../../errors.ts";
import type { PackBatch } from "../../../log/batch.ts";
import { wholeLsid } from "../../../log/lsid.ts";
import { recordDataPb } from "../../../log/pack.ts";
import { uuidBytes } from "../../../log/superblock.ts";
import { type WlogInput, WlogReader } from "../../../log/wlogfile.ts";
import type { WlogHeader } from "../../../log/wlogheader.ts";
import type { CompressOption } from "../../../native/codec.ts";
import type { DiskFile } from "../../../platform/disk.ts";
import { lbBytes } from "../../../units.ts";
import { checkContinues } from "./log-apply.ts";
import { indexRecord, logAsSet, type WlogPlace } from "./log-index.ts";
import { renamed } from "./named.ts";
import type { OpenInput } from "./paths.ts";
import { openNameless, spoolDirectory } from "./spooled.ts";
import { carvedIo, type Tool } from "./tool.ts";
import { emptyLogError, missingEndError } from "./walk.ts";

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
  readonly beginLsid: bigint;
  readonly endLsid: bigint;
  readonly stats: DiffStats;
}

/** A log as a tool gets it. */
export type LogInput = WlogInput & Pick<Partial<OpenInput>, "sizeBytes" | "again">;

/** IOs that wait to be compressed: batches whose memory is not given back yet. */
const batchesMax = 3;

/** IOs between two collections of garbage: each takes about 10 ms. */
const collectStepIos = 8192;

/** Converts concatenated wlogs that continue each other. The output is not synced. @throws WalbError */
export async function convertWlog(
  tool: Tool,
  input: LogInput,
  output: DiskFile,
  options: LogConvertOptions,
): Promise<LogConverted> {
  const { memory, compute } = tool.platform;
  const io = carvedIo(tool.platform);
  const reader = new WlogReader(input, memory, compute);
  const first = await reader.nextHeader();
  if (first === undefined) {
    if (options.allowEmpty === true) return convertNothing(tool, output, options.kind);
    throw emptyLogError(input.name);
  }
  const beginLsid = wholeLsid(first.beginLsid, first.lsidBase);
  const { maxIoLb, compress } = options;
  const convert = { uuid: uuidBytes(first.uuid), maxIoLb, compress };
  const feed = (writer: IndexedDiffWriter | SortedDiffConverter): Promise<bigint> =>
    feedAll(tool, reader, first, input, options, (batch) => writer.add(iosOf(batch)));
  if (options.kind === "indexed") {
    const writer = await IndexedDiffWriter.create(io, output, convert);
    const endLsid = await abandonOnError(writer, () => feed(writer));
    // What reading has left of itself would else be there beside what planning needs.
    Bun.gc(true);
    return { uuid: first.uuid, beginLsid, endLsid, stats: await writer.finish() };
  }
  const { again } = input;
  if (again !== undefined) {
    // What is replaced within the log is never compressed, and nothing is written twice.
    const records = new RecordIndex(4096);
    const endLsid = await feedAll(tool, reader, first, input, options, (batch, place) => {
      indexBatch(records, { ...place, startBytes: again.offsetBytes + place.startBytes }, batch);
      return Promise.resolve();
    });
    const set = logAsSet(tool.platform.disk, again.path, first.uuid, records);
    try {
      const stats = await writeMerged(tool.platform, set, planMerge(records, { maxIoLb }), output, {
        compress,
        recompressAll: true,
        isVerified: true,
        signal: tool.signal,
        onProgress: ({ doneLb, totalLb }) => tool.progress(doneLb * lbBytes, totalLb * lbBytes),
      });
      return { uuid: first.uuid, beginLsid, endLsid, stats };
    } finally {
      await set.close();
    }
  }
  return withSpool(tool, output, async (spool) => {
    const writer = new SortedDiffConverter(io, spool, convert);
    const endLsid = await abandonOnError(writer, () => feed(writer));
    return { uuid: first.uuid, beginLsid, endLsid, stats: await writer.finish(output) };
  });
}

/** Hands all batches to `take`, which settles when it does not need their memory any more. @returns where the log ends. */
async function feedAll(
  tool: Tool,
  reader: WlogReader,
  first: WlogHeader,
  input: LogInput,
  options: LogConvertOptions,
  take: (batch: PackBatch, place: WlogPlace) => Promise<void>,
): Promise<bigint> {
  const adding: Promise<void>[] = [];
  let header: WlogHeader | undefined = first;
  let endLsid = wholeLsid(first.beginLsid, first.lsidBase);
  let doneBytes = 0;
  let uncollectedIos = 0;
  const takeChecked = async (batch: PackBatch, place: WlogPlace): Promise<void> => {
    checkAddresses(batch, place, input.name);
    await take(batch, place);
  };
  try {
    while (header !== undefined) {
      const { pbsBytes, beginLsid, lsidBase } = header;
      const place = { beginLsid, pbsBytes, startBytes: reader.offsetBytes };
      const packs = reader.packs(tool.signal);
      for (let step = await packs.next(); ; step = await packs.next()) {
        if (step.done === true) {
          endLsid = wholeLsid(step.value.endLsid, lsidBase);
          if (!step.value.hasEndBlock && options.lenient !== true) {
            throw missingEndError(input.name, endLsid, doneBytes);
          }
          break;
        }
        const batch = step.value;
        doneBytes += sizeOf(batch, pbsBytes);
        const added = takeChecked(batch, place).finally(() => batch.release());
        added.catch(() => undefined);
        adding.push(added);
        // The runtime would let the leftovers of 100 000 small IOs pile up before it looks for them.
        for (const { data } of batch.parts) uncollectedIos += data.length;
        if (uncollectedIos >= collectStepIos) {
          Bun.gc(true);
          uncollectedIos = 0;
        }
        if (adding.length >= batchesMax) await adding.shift();
        tool.progress(doneBytes, input.sizeBytes);
      }
      header = await reader.nextHeader();
      if (header === undefined) break;
      checkContinues(input.name, endLsid, first.uuid, wholeLsid(header.beginLsid, header.lsidBase), header.uuid);
    }
  } finally {
    // Whatever happened, the batches' memory is given back before the pool goes.
    await settleAll(adding);
  }
  return endLsid;
}

/** A log may tell of addresses that no reader of diffs takes. @throws WalbError `out-of-range` */
function checkAddresses(batch: PackBatch, place: WlogPlace, file: string): void {
  for (const { header, firstRecord, data } of batch.parts) {
    for (let i = firstRecord; i < firstRecord + data.length; i += 1) {
      const { kind, offsetLb, sizeLb, lsid } = header.records[i]!;
      if (kind === "padding" || offsetLb + sizeLb <= addressLbMax) continue;
      const offsetBytes = place.startBytes + (header.lsid - place.beginLsid) * place.pbsBytes;
      throw new WalbError("out-of-range", {
        what: `record ${i} at lsid ${lsid} writes ${sizeLb} blocks at ${offsetLb}, beyond the ${addressLbMax} blocks of a diff`,
        where: { file, offsetBytes, field: `record[${i}].offset` },
        hint: "no volume is that large: look at what wrote the log",
      });
    }
  }
}

/** Enters a batch into an index of what its file holds. */
function indexBatch(records: RecordIndex, place: WlogPlace, batch: PackBatch): void {
  for (const part of batch.parts) {
    const { records: logged } = part.header;
    const end = part.firstRecord + part.data.length;
    for (let i = part.firstRecord; i < end; i += 1) {
      if (logged[i]!.kind !== "padding") indexRecord(records, place, logged[i]!);
    }
  }
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

/**
 * A file for images on the way, next to the output, or in the directory for temporary files. It has no name while it is
 * in use, so that nothing is left of it whatever becomes of the process.
 */
async function withSpool<R>(tool: Tool, output: DiskFile, work: (spool: DiskFile) => Promise<R>): Promise<R> {
  const { disk } = tool.platform;
  const isFile = (await disk.info(output.path))?.kind === "file";
  const directory = isFile ? dirname(output.path) : spoolDirectory();
  const fd = openNameless(tool, directory);
  const path = `/proc/self/fd/${fd}`;
  try {
    const spool = await disk.open(path, { mode: "write" });
    try {
      return await work(spool);
    } finally {
      await spool.close();
    }
  } catch (error) {
    throw renamed(error, [{ path, name: `${directory} (temporary file)` }]);
  } finally {
    closeSync(fd);
  }
}

/** A diff without records. The original makes 24 zero bytes of an indexed one, which nothing reads. */
async function convertNothing(tool: Tool, output: DiskFile, kind: "sorted" | "indexed"): Promise<LogConverted> {
  const { platform } = tool;
  const uuid = new Uint8Array(16);
  const writer =
    kind === "sorted"
      ? await SortedDiffWriter.create(platform, output, uuid)
      : await IndexedDiffWriter.create(platform, output, { uuid });
  return { uuid: undefined, beginLsid: 0n, endLsid: 0n, stats: await writer.finish() };
}
