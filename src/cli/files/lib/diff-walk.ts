/** @module Walking a wdiff record by record, with its fields as they are stored: for showing it and finding every fault. */
import {
  fileHeaderBytes,
  indexRecordBytes,
  indexSuperBytes,
  packHeaderBytes,
  packRecordsMax,
  parseFileHeader,
  parseIndexRecords,
  parseIndexSuper,
  parsePackHeader,
  truncated,
} from "../../../diff/format.ts";
import { RecordIndex } from "../../../diff/record-index.ts";
import { countRecord, emptyStats } from "../../../diff/stats.ts";
import { addressLbMax, DiffFileKind, type DiffStats, RecordKind } from "../../../diff/types.ts";
import { asWalbError, WalbError } from "../../../errors.ts";
import { hexOf } from "../../../log/superblock.ts";
import { codecNames } from "../../../native/codec.ts";
import type { Memory } from "../../../native/memory.ts";
import type { DiskFile } from "../../../platform/disk.ts";
import { mib } from "../../../units.ts";
import { hex32 } from "./log-text.ts";
import { openInput, seekableStandardInput } from "./paths.ts";
import type { Tool } from "./tool.ts";

/** The file header. */
export interface RawDiffHeader {
  readonly checksum: number;
  readonly kind: "sorted" | "indexed";
  readonly uuid: string;
}

/** A record as it is stored. */
export interface RawRecord {
  readonly addressLb: bigint;
  readonly blocksLb: number;
  readonly isZero: boolean;
  readonly isDiscard: boolean;
  readonly codec: number;
  /** Sorted: in the data of its pack; indexed: in the file. */
  readonly dataOffset: bigint;
  readonly dataSize: number;
  readonly checksum: number;
  /** Of indexed diffs only. */
  readonly index?: { readonly origLb: number; readonly ioOffsetLb: number; readonly recordChecksum: number };
}

/** What is wrong with a record. */
export interface RecordFault {
  /** As the original tells it behind the record. */
  readonly text: string;
  readonly error: WalbError;
}

/** What to hear. */
export interface DiffWalkHooks {
  readonly onHeader?: (header: RawDiffHeader) => void;
  readonly onRecord?: (record: RawRecord, fault: RecordFault | undefined) => void;
  /** A sorted diff's pack that breaks the format. */
  readonly onBadPack?: (pack: RawPack) => void;
}

/** A pack header that cannot be trusted. */
export interface RawPack {
  readonly checksum: number;
  readonly recordCount: number;
  readonly dataBytes: number;
  readonly isEnd: boolean;
  readonly records: readonly RawRecord[];
}

/** How to walk. */
export interface DiffWalkOptions extends DiffWalkHooks {
  /** Compare stored data with its checksums. */
  readonly checkData: boolean;
}

/**
 * Walks a diff, from a file or `-`; an indexed one needs a file. Goes on behind bad data.
 * @returns the counts as the original's tools count. @throws WalbError the first fault, when all was told.
 */
export async function walkDiff(tool: Tool, path: string, options: DiffWalkOptions): Promise<DiffStats> {
  const { disk } = tool.platform;
  const filePath = path === "-" ? seekableStandardInput() : path;
  const isFile = filePath !== undefined && (await disk.info(filePath))?.kind !== "other";
  const source = isFile ? await FileSource.open(tool, filePath, path) : await StreamSource.open(tool, path);
  try {
    const walk = new DiffWalk(tool, source, options);
    const stats = await walk.run();
    if (walk.firstFault !== undefined) throw walk.firstFault;
    return stats;
  } catch (error) {
    throw asWalbError(error, { file: source.name });
  } finally {
    await source.close();
  }
}

/** Bytes from front to back. */
interface Source {
  readonly name: string;
  readonly file: DiskFile | undefined;
  readonly sizeBytes: number | undefined;
  at: number;
  /** Fills the target; fewer bytes only at the end. */
  take(target: Memory): Promise<number>;
  /** Passes over bytes; false when there are fewer. */
  skip(sizeBytes: number): Promise<boolean>;
  close(): Promise<void>;
}

class FileSource implements Source {
  at = 0;
  private constructor(
    readonly file: DiskFile,
    readonly name: string,
    readonly sizeBytes: number,
  ) {}

  static async open(tool: Tool, path: string, name: string): Promise<FileSource> {
    const file = await tool.platform.disk.open(path, { mode: "read" });
    return new FileSource(file, name === "-" ? "standard input" : name, await file.size());
  }

  async take(target: Memory): Promise<number> {
    const takeBytes = Math.max(0, Math.min(target.sizeBytes, this.sizeBytes - this.at));
    if (takeBytes > 0) await this.file.read(this.at, target.slice(0, takeBytes));
    this.at += takeBytes;
    return takeBytes;
  }

  skip(sizeBytes: number): Promise<boolean> {
    this.at += sizeBytes;
    return Promise.resolve(this.at <= this.sizeBytes);
  }

  close(): Promise<void> {
    return this.file.close();
  }
}

class StreamSource implements Source {
  readonly file = undefined;
  readonly sizeBytes = undefined;
  at = 0;
  private constructor(
    private readonly tool: Tool,
    private readonly input: Awaited<ReturnType<typeof openInput>>,
  ) {}

  static async open(tool: Tool, path: string): Promise<StreamSource> {
    return new StreamSource(tool, await openInput(tool.platform.disk, path));
  }

  get name(): string {
    return this.input.name;
  }

  async take(target: Memory): Promise<number> {
    const gotBytes = await this.input.read(target);
    this.at += gotBytes;
    return gotBytes;
  }

  async skip(sizeBytes: number): Promise<boolean> {
    const lease = await this.tool.platform.memory.lease(mib);
    try {
      for (let rest = sizeBytes; rest > 0; ) {
        const part = lease.slice(0, Math.min(rest, mib));
        if ((await this.take(part)) < part.sizeBytes) return false;
        rest -= part.sizeBytes;
      }
      return true;
    } finally {
      lease.release();
    }
  }

  close(): Promise<void> {
    return this.input.close();
  }
}

const windowRecords = 4096;
const checkedImagesMax = 100_000;

class DiffWalk {
  firstFault: WalbError | undefined;
  readonly #tool: Tool;
  readonly #source: Source;
  readonly #options: DiffWalkOptions;
  readonly #stats = emptyStats();
  /** data offset → good, of images that several records share. */
  readonly #checked = new Map<bigint, boolean>();

  constructor(tool: Tool, source: Source, options: DiffWalkOptions) {
    this.#tool = tool;
    this.#source = source;
    this.#options = options;
  }

  async run(): Promise<DiffStats> {
    const { memory, compute } = this.#tool.platform;
    const lease = await memory.lease(windowRecords * indexRecordBytes);
    try {
      const header = lease.slice(0, fileHeaderBytes);
      const gotBytes = await this.#source.take(header);
      const place = { file: this.#source.name, offsetBytes: 0 };
      // The original leaves 24 zero bytes when an indexed file never got an IO.
      if (gotBytes === indexSuperBytes && compute.isZeroNow(header.bytes.subarray(0, gotBytes))) return this.#stats;
      if (gotBytes < fileHeaderBytes) throw truncated("the file is shorter than a diff header", place);
      const { kind, uuid } = parseFileHeader(header.bytes, compute, place);
      const told: RawDiffHeader = {
        checksum: header.view.getUint32(0, true),
        kind: kind === DiffFileKind.sorted ? "sorted" : "indexed",
        uuid: hexOf(uuid),
      };
      if (told.kind === "sorted") {
        this.#options.onHeader?.(told);
        await this.#sorted(lease);
      } else {
        await this.#indexed(lease, told);
      }
      return this.#stats;
    } finally {
      lease.release();
    }
  }

  async #sorted(lease: Memory): Promise<void> {
    const { compute } = this.#tool.platform;
    const source = this.#source;
    const block = lease.slice(0, packHeaderBytes);
    const scratch = new RecordIndex(packRecordsMax + 1, packRecordsMax + 1);
    let endLb = 0;
    for (;;) {
      this.#check();
      const place = { file: source.name, offsetBytes: source.at };
      if ((await source.take(block)) < packHeaderBytes) throw truncated("the diff ends without its end pack", place);
      scratch.count = 0;
      let info: ReturnType<typeof parsePackHeader>;
      try {
        info = parsePackHeader(block.bytes, compute, scratch, 0, 0, endLb, addressLbMax, place);
      } catch (error) {
        this.#options.onBadPack?.(rawPack(block.view));
        throw error;
      }
      if (info.isEnd) return;
      ({ endLb } = info);
      const { records } = rawPack(block.view);
      await this.#packData(records, info.dataBytes, place);
      this.#stats.dataBytes += info.dataBytes;
      this.#tool.progress(source.at, source.sizeBytes);
    }
  }

  /** Tells a pack's records, and checks its data when asked. */
  async #packData(
    records: readonly RawRecord[],
    dataBytes: number,
    place: { readonly file: string; readonly offsetBytes: number },
  ): Promise<void> {
    const cut = (): WalbError => truncated("the diff ends inside the data of a pack", place);
    if (!this.#options.checkData || dataBytes === 0) {
      for (const record of records) this.#tell(record, undefined);
      if (!(await this.#source.skip(dataBytes))) throw cut();
      return;
    }
    const lease = await this.#tool.platform.memory.lease(dataBytes);
    try {
      if ((await this.#source.take(lease.slice(0, dataBytes))) < dataBytes) throw cut();
      const withData = records.filter((record) => record.dataSize > 0);
      const parts = withData.map((record) => lease.slice(Number(record.dataOffset), record.dataSize));
      const sums = await this.#tool.platform.compute.checksums(parts, 0);
      for (const record of records) {
        const sum = sums[withData.indexOf(record)];
        const isBad = sum !== undefined && sum !== record.checksum;
        const at = place.offsetBytes + packHeaderBytes + Number(record.dataOffset);
        this.#tell(record, isBad ? dataFault(place.file, at, record, `: ${hex32(sum)}`) : undefined);
      }
    } finally {
      lease.release();
    }
  }

  async #indexed(lease: Memory, header: RawDiffHeader): Promise<void> {
    const { compute } = this.#tool.platform;
    const { file, name } = this.#source;
    const sizeBytes = this.#source.sizeBytes ?? 0;
    if (file === undefined) {
      throw new WalbError("unsupported", {
        what: "an indexed diff cannot be read front to back",
        where: { file: name },
        hint: "give it as a file, where a sorted diff may come from a pipe",
      });
    }
    const superOffset = sizeBytes - indexSuperBytes;
    const place = { file: name, offsetBytes: superOffset };
    if (superOffset < fileHeaderBytes) throw truncated("the file is shorter than an indexed diff", { file: name });
    const superBlock = lease.slice(0, indexSuperBytes);
    await file.read(superOffset, superBlock);
    const { indexOffset, recordCount } = parseIndexSuper(superBlock.bytes, sizeBytes, compute, place);
    this.#options.onHeader?.(header);
    this.#stats.files = 1;
    this.#stats.dataBytes = indexOffset - fileHeaderBytes;
    const scratch = new RecordIndex(1, 16);
    let endLb = 0;
    for (let done = 0; done < recordCount; ) {
      this.#check();
      const count = Math.min(windowRecords, recordCount - done);
      const window = lease.slice(0, count * indexRecordBytes);
      await file.read(indexOffset + done * indexRecordBytes, window);
      const words = new Uint32Array(window.bytes.buffer, window.bytes.byteOffset, count * 12);
      for (let i = 0; i < count; i++) {
        const offsetBytes = indexOffset + (done + i) * indexRecordBytes;
        const record = rawIndexRecord(words.subarray(i * 12, i * 12 + 12));
        scratch.count = 0;
        try {
          const one = words.subarray(i * 12, i * 12 + 12);
          endLb = parseIndexRecords(one, 1, scratch, 0, endLb, indexOffset, { file: name, offsetBytes });
        } catch (error) {
          this.#tell(record, { text: "invalid record", error: asWalbError(error) });
          continue;
        }
        const isBad = this.#options.checkData && record.dataSize > 0 && !(await this.#isImageGood(file, record));
        this.#tell(record, isBad ? dataFault(name, Number(record.dataOffset), record, "") : undefined);
      }
      done += count;
      this.#tool.progress(done * indexRecordBytes, recordCount * indexRecordBytes);
    }
  }

  async #isImageGood(file: DiskFile, record: RawRecord): Promise<boolean> {
    const known = this.#checked.get(record.dataOffset);
    if (known !== undefined) return known;
    const lease = await this.#tool.platform.memory.lease(record.dataSize);
    try {
      const data = lease.slice(0, record.dataSize);
      await file.read(Number(record.dataOffset), data);
      const [sum] = await this.#tool.platform.compute.checksums([data], 0);
      const isGood = sum === record.checksum;
      if (this.#checked.size >= checkedImagesMax) this.#checked.clear();
      this.#checked.set(record.dataOffset, isGood);
      return isGood;
    } finally {
      lease.release();
    }
  }

  #tell(record: RawRecord, fault: RecordFault | undefined): void {
    if (fault === undefined || fault.text !== "invalid record") {
      const kind = record.isZero ? RecordKind.allZero : record.isDiscard ? RecordKind.discard : RecordKind.normal;
      countRecord(this.#stats, kind, record.blocksLb);
    }
    this.firstFault ??= fault?.error;
    this.#options.onRecord?.(record, fault);
  }

  #check(): void {
    if (this.#tool.signal.aborted) throw new WalbError("cancelled", { what: "reading the diff was cancelled" });
  }
}

function dataFault(file: string, offsetBytes: number, record: RawRecord, sumText: string): RecordFault {
  const error = new WalbError("damaged", {
    what: `the data of the record at block ${record.addressLb} is damaged: its checksum does not match`,
    where: { file, offsetBytes, field: "checksum" },
    hint: "replace the diff from another copy, or make a new backup of the volume",
  });
  return { text: `invalid data checksum${sumText}`, error };
}

/** A pack header's fields; its records up to what a header can hold. */
function rawPack(view: DataView): RawPack {
  const recordCount = view.getUint16(4, true);
  const records: RawRecord[] = [];
  for (let i = 0; i < Math.min(recordCount, packRecordsMax); i++) {
    const at = 16 + 32 * i;
    const flags = view.getUint8(at + 12);
    records.push({
      addressLb: view.getBigUint64(at, true),
      blocksLb: view.getUint32(at + 8, true),
      isZero: (flags & 2) !== 0,
      isDiscard: (flags & 4) !== 0,
      codec: view.getUint8(at + 13),
      dataOffset: BigInt(view.getUint32(at + 16, true)),
      dataSize: view.getUint32(at + 20, true),
      checksum: view.getUint32(at + 24, true),
    });
  }
  const isEnd = (view.getUint8(6) & 1) !== 0;
  return { checksum: view.getUint32(0, true), recordCount, dataBytes: view.getUint32(8, true), isEnd, records };
}

function rawIndexRecord(words: Uint32Array): RawRecord {
  const flags = words[3]! & 0xff;
  return {
    addressLb: (BigInt(words[1]!) << 32n) + BigInt(words[0]!),
    blocksLb: words[2]!,
    isZero: (flags & 2) !== 0,
    isDiscard: (flags & 4) !== 0,
    codec: (words[3]! >>> 8) & 0xff,
    dataOffset: (BigInt(words[5]!) << 32n) + BigInt(words[4]!),
    dataSize: words[6]!,
    checksum: words[10]!,
    index: { origLb: words[8]!, ioOffsetLb: words[7]!, recordChecksum: words[11]! },
  };
}

/** The original's text of a header. */
export function diffHeaderLines({ checksum, kind, uuid }: RawDiffHeader): string {
  return `wdiff_h:\n  checksum: ${hex32(checksum)}\n  version: 2\n  type: ${kind}\n  uuid: ${uuid}`;
}

/** The original's text of a record. */
export function diffRecordLine(record: RawRecord, fault?: RecordFault): string {
  const { addressLb, blocksLb, codec, dataOffset, dataSize, checksum, index } = record;
  const flags = `${record.isZero ? "Z" : "-"}${record.isDiscard ? "D" : "-"}`;
  const common = [addressLb, blocksLb, codecNames[codec] ?? `unknown(${codec})`, dataOffset, dataSize];
  const cells =
    index === undefined
      ? ["wdiff_sorted_rec:", ...common, hex32(checksum), flags]
      : [
          "wdiff_indexed_rec:",
          ...common,
          index.origLb,
          index.ioOffsetLb,
          hex32(checksum),
          hex32(index.recordChecksum),
          flags,
        ];
  return `${cells.join("\t")}${fault === undefined ? "" : ` ${fault.text}`}`;
}

/** The original's text of a pack that breaks the format. */
export function badPackLines(pack: RawPack): string {
  const records = pack.records.map(
    (record, i) => `record ${i}: ${diffRecordLine(record).replace("wdiff_sorted_rec:", "wdiff_rec:")}`,
  );
  return [
    `invalid pack: checksum: ${hex32(pack.checksum)}`,
    `n_records: ${pack.recordCount}`,
    `total_size: ${pack.dataBytes}`,
    `isEnd: ${pack.isEnd ? 1 : 0}`,
    ...records,
  ].join("\n");
}

/** The original's text of the counts. */
export function diffStatLines(stats: DiffStats): string {
  return [
    `wdiff_stat: wdiffNr ${stats.files}`,
    `wdiff_stat: normalNr ${stats.normalRecords}`,
    `wdiff_stat: allZeroNr ${stats.zeroRecords}`,
    `wdiff_stat: discardNr ${stats.discardRecords}`,
    `wdiff_stat: normalLb ${stats.normalLb}`,
    `wdiff_stat: allZeroLb ${stats.zeroLb}`,
    `wdiff_stat: discardLb ${stats.discardLb}`,
    `wdiff_stat: dataSize ${stats.dataBytes}`,
  ].join("\n");
}
