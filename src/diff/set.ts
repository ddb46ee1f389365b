/**
 * @module A set of diff files opened for reading: all their records in one index, and access to their data.
 *
 * Every rule of the format is checked while the index is read. Unlike the original, a sorted file without its end pack
 * is damage, because a file cut at a pack boundary would otherwise pass for a shorter diff.
 */
import { asWalbError, WalbError } from "../errors.ts";
import { allRows, type PackPlace } from "../native/columns.ts";
import type { Memory } from "../native/memory.ts";
import type { BadTransfer, PlacedRead } from "../platform/disk.ts";
import { lbBytes } from "../units.ts";
import { type HeldFiles, SourceFiles } from "./files.ts";
import {
  badFormat,
  fileHeaderBytes,
  indexRecordBytes,
  indexSuperBytes,
  type PackInfo,
  packHeaderBytes,
  packRecordsMax,
  parseFileHeader,
  parseIndexRecords,
  parseIndexSuper,
  parsePackHeader,
  truncated,
  uuidBytes,
} from "./format.ts";
import { RecordIndex, recordsMaxDefault, sourcesMax } from "./record-index.ts";
import { addStats, emptyStats } from "./stats.ts";
import { addressLbMax, checkAborted, DiffFileKind, type DiffIo, type DiffSource, type DiffStats } from "./types.ts";

/** Index records read at once: 768 KiB, the one piece of memory that opening needs. */
const windowRecords = 16384;

/** How to open diffs. */
export interface DiffSetOptions {
  /** Take a sorted file that ends without its end pack for complete, as the original does. Default false. */
  readonly lenient?: boolean;
  /** Files open at once; default 64. */
  readonly openFilesMax?: number;
  /** Records held at most; default 16 Mi. */
  readonly recordsMax?: number;
  readonly signal?: AbortSignal;
}

/** Diffs opened oldest first, with one record index for all. Must be closed. */
export class DiffSet {
  readonly sources: readonly DiffSource[];
  readonly records: RecordIndex;
  /** Sums over the files, as `docs/formats.md` counts for readers. */
  readonly stats: DiffStats;
  /** uuid of the last file: what a merge of the set carries. 16 zero bytes without files. */
  readonly uuid: Uint8Array;
  readonly #files: SourceFiles;

  constructor(sources: readonly DiffSource[], records: RecordIndex, stats: DiffStats, files: SourceFiles) {
    this.sources = sources;
    this.records = records;
    this.stats = stats;
    this.uuid = sources[sources.length - 1]?.uuid ?? new Uint8Array(uuidBytes);
    this.#files = files;
  }

  /** Fills `target` from a source's file. */
  read(source: number, offsetBytes: number, target: Memory): Promise<void> {
    return this.#files.read(source, offsetBytes, target);
  }

  /** Does several reads of a source's file. */
  readMany(source: number, reads: readonly PlacedRead[]): Promise<void> {
    return this.#files.readMany(source, reads);
  }

  /**
   * Looks at the checksums of the stored images of some records of one source, and expands them, as one job.
   * @returns the first bad one, its row that in `rows`; undefined where that is not possible.
   */
  checkStored(rows: readonly number[]): Promise<{ readonly bad: BadTransfer | undefined } | undefined> {
    const { records } = this;
    return this.#files.checkStored(records.source[rows[0]!]!, rows.length, (table) => {
      for (const record of rows) {
        // Expanded, but nothing of it is wanted.
        table.put(
          0,
          records.dataOffset[record]!,
          records.storedBytes[record]!,
          records.codec[record]!,
          records.checksum[record]!,
          records.imageLb[record]! * lbBytes,
          0,
          0,
          0,
        );
      }
    });
  }

  /** The files of all sources, to be released; undefined when they are too many to be open at once. */
  async holdFiles(): Promise<HeldFiles | undefined> {
    return this.#files.canHoldAll ? await this.#files.holdAll() : undefined;
  }

  /** True when it is one sorted diff, whose records ascend without overlap. */
  get isLoneSorted(): boolean {
    return this.sources.length === 1 && this.sources[0]?.kind === DiffFileKind.sorted;
  }

  /** Path of a source, for messages. */
  pathOf(source: number): string {
    return this.sources[source]?.path ?? "";
  }

  /** Closes the files; nothing may be reading. */
  close(): Promise<void> {
    return this.#files.close();
  }
}

/**
 * Opens diffs, of any mix of kinds, oldest first, and reads their indexes.
 * @throws WalbError `bad-format` or `damaged` naming file, offset and field; `out-of-range` for too many records.
 */
export async function openDiffSet(
  io: DiffIo,
  paths: readonly string[],
  options: DiffSetOptions = {},
): Promise<DiffSet> {
  if (paths.length > sourcesMax) {
    throw new WalbError("out-of-range", {
      what: `${paths.length} diffs are more than the ${sourcesMax} that can be merged at once`,
      hint: "merge fewer diffs at a time",
    });
  }
  const files = new SourceFiles(io.disk, paths, options.openFilesMax ?? 64);
  const records = new RecordIndex(Math.min(4096, 256 * paths.length), options.recordsMax ?? recordsMaxDefault);
  const sources: DiffSource[] = [];
  const stats = emptyStats();
  try {
    const window = await io.memory.lease(windowRecords * indexRecordBytes);
    try {
      for (let i = 0; i < paths.length; i++) {
        const path = paths[i]!;
        try {
          sources.push(await readIndex(io, files, i, path, records, stats, window, options));
        } catch (error) {
          throw asWalbError(error, { file: path });
        }
      }
    } finally {
      window.release();
    }
    return new DiffSet(sources, records, stats, files);
  } catch (error) {
    await files.close();
    throw error;
  }
}

async function readIndex(
  io: DiffIo,
  files: SourceFiles,
  source: number,
  path: string,
  records: RecordIndex,
  stats: DiffStats,
  window: Memory,
  options: DiffSetOptions,
): Promise<DiffSource> {
  const fileBytes = await files.size(source);
  const firstRecord = records.count;
  if (fileBytes === indexSuperBytes && (await isZeroStub(io, files, source, window))) {
    if (options.lenient !== true) throw zeroStubError(path);
    stats.files++;
    const uuid = new Uint8Array(uuidBytes);
    return { path, kind: DiffFileKind.indexed, uuid, fileBytes, firstRecord, endRecord: firstRecord };
  }
  if (fileBytes < fileHeaderBytes)
    throw truncated("the file is shorter than a diff header", { file: path, offsetBytes: fileBytes });
  const header = window.slice(0, fileHeaderBytes);
  await files.read(source, 0, header);
  const { kind, uuid } = parseFileHeader(header.bytes, io.compute, { file: path, offsetBytes: 0 });
  const read = kind === DiffFileKind.sorted ? readSortedIndex : readIndexedIndex;
  const dataBytes = await read(io, files, source, path, fileBytes, records, window, options);
  const { blocksLb, records: counts } = io.compute.chooseRowsNow(records, firstRecord, records.count, allRows);
  const [normalRecords, zeroRecords, discardRecords] = counts;
  const [normalLb, zeroLb, discardLb] = blocksLb;
  addStats(stats, { files: 1, normalRecords, zeroRecords, discardRecords, normalLb, zeroLb, discardLb, dataBytes });
  return { path, kind, uuid, fileBytes, firstRecord, endRecord: records.count };
}

/** True for 24 zero bytes: the original leaves them of an indexed diff that never got an IO, and cannot read them. */
async function isZeroStub(io: DiffIo, files: SourceFiles, source: number, window: Memory): Promise<boolean> {
  const all = window.slice(0, indexSuperBytes);
  await files.read(source, 0, all);
  return io.compute.isZeroNow(all.bytes);
}

/** The error for them. */
export function zeroStubError(path: string): WalbError {
  return new WalbError("bad-format", {
    what: "there are only 24 zero bytes, not a diff",
    where: { file: path, offsetBytes: 0, field: "checksum" },
    hint: "wlog-to-wdiff 1.0.19 leaves this of a log without IO: if so, leave the file out, or add --lenient",
  });
}

/** Walks the pack headers of a sorted file. @returns the stored data bytes. */
async function readSortedIndex(
  io: DiffIo,
  files: SourceFiles,
  source: number,
  path: string,
  fileBytes: number,
  records: RecordIndex,
  window: Memory,
  options: DiffSetOptions,
): Promise<number> {
  const header = window.slice(0, packHeaderBytes);
  const headersMax = Math.floor(window.sizeBytes / packHeaderBytes);
  const headers = window.slice(0, headersMax * packHeaderBytes);
  let offset = fileHeaderBytes;
  let endLb = 0;
  let dataBytes = 0;
  for (;;) {
    checkAborted(options.signal, "reading a diff index");
    // Many at once, as far as they are good; what is wrong with the next one is told below.
    const packs = await files.readPackHeaders(source, offset, headers);
    records.ensureRoom(packs * packRecordsMax, offset / fileBytes);
    const place: PackPlace = {
      count: records.count,
      source,
      fileBytes,
      offsetBytes: offset,
      fromLb: endLb,
      limitLb: addressLbMax,
    };
    const parsed = io.compute.parsePacksNow(headers.bytes, packs, records, place);
    records.count = parsed.count;
    dataBytes += parsed.dataBytes;
    ({ endLb, offsetBytes: offset } = parsed);
    if (parsed.isEnd) return dataBytes;
    if (parsed.packs > 0) continue;
    const info = await readPack(files, source, path, fileBytes, records, header, offset, endLb, io, options.lenient);
    if (info === undefined || info.isEnd) return dataBytes;
    ({ endLb } = info);
    dataBytes += info.dataBytes;
    offset += packHeaderBytes + info.dataBytes;
  }
}

/** Reads and checks one pack header. @returns undefined for a file that ends here and may do so. */
async function readPack(
  files: SourceFiles,
  source: number,
  path: string,
  fileBytes: number,
  records: RecordIndex,
  header: Memory,
  offset: number,
  endLb: number,
  io: DiffIo,
  isLenient: boolean | undefined,
): Promise<PackInfo | undefined> {
  const place = { file: path, offsetBytes: offset };
  if (offset + packHeaderBytes > fileBytes) {
    if (isLenient === true) return undefined;
    throw truncated("the diff ends without its end pack", place);
  }
  await files.read(source, offset, header);
  const dataOffset = offset + packHeaderBytes;
  const pack = parsePackHeader(header.bytes, io.compute, records, source, dataOffset, endLb, addressLbMax, place);
  // Writers never make an empty pack; the original takes one directly behind the file header.
  if (!pack.isEnd && pack.records === 0 && offset !== fileHeaderBytes) {
    throw badFormat("a pack has no records", place, "n_records");
  }
  if (dataOffset + pack.dataBytes > fileBytes) {
    throw truncated("the diff ends inside the data of a pack", place, "total_size");
  }
  return pack;
}

/** Reads the index of an indexed file. @returns the bytes before the index, as the original counts data. */
async function readIndexedIndex(
  io: DiffIo,
  files: SourceFiles,
  source: number,
  path: string,
  fileBytes: number,
  records: RecordIndex,
  window: Memory,
  options: DiffSetOptions,
): Promise<number> {
  const superOffset = fileBytes - indexSuperBytes;
  if (superOffset < fileHeaderBytes) {
    throw truncated("the file is shorter than an indexed diff", { file: path, offsetBytes: fileBytes });
  }
  const superBlock = window.slice(0, indexSuperBytes);
  await files.read(source, superOffset, superBlock);
  const place = { file: path, offsetBytes: superOffset };
  const { indexOffset, recordCount } = parseIndexSuper(superBlock.bytes, fileBytes, io.compute, place);
  records.reserve(recordCount);
  let endLb = 0;
  for (let done = 0; done < recordCount; ) {
    checkAborted(options.signal, "reading a diff index");
    const count = Math.min(windowRecords, recordCount - done);
    const offsetBytes = indexOffset + done * indexRecordBytes;
    const part = window.slice(0, count * indexRecordBytes);
    await files.read(source, offsetBytes, part);
    const words = new Uint32Array(part.bytes.buffer, part.bytes.byteOffset, count * 12);
    endLb = parseIndexRecords(words, count, records, source, endLb, indexOffset, { file: path, offsetBytes });
    done += count;
  }
  return indexOffset - fileHeaderBytes;
}
