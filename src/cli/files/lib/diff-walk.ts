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
import { zeroStubError } from "../../../diff/set.ts";
import { countRecord, emptyStats } from "../../../diff/stats.ts";
import { addressLbMax, DiffFileKind, type DiffStats, RecordKind } from "../../../diff/types.ts";
import { asWalbError, WalbError } from "../../../errors.ts";
import { hexOf } from "../../../log/superblock.ts";
import type { Memory } from "../../../native/memory.ts";
import type { DiskFile } from "../../../platform/disk.ts";
import { mib } from "../../../units.ts";
import {
  type RawDiffHeader,
  type RawPack,
  type RawRecord,
  type RecordFault,
  rawIndexRecord,
  rawPack,
} from "./diff-text.ts";
import { hex32 } from "./log-text.ts";
import { renamed } from "./named.ts";
import type { OpenInput } from "./paths.ts";
import { openDiff, type Seekable } from "./spooled.ts";
import type { Tool } from "./tool.ts";

/** What to hear. */
export interface DiffWalkHooks {
  readonly onHeader?: (header: RawDiffHeader) => void;
  readonly onRecord?: (record: RawRecord, fault: RecordFault | undefined) => void;
  /** A sorted diff's pack that breaks the format. */
  readonly onBadPack?: (pack: RawPack) => void;
}

/** How to walk. */
export interface DiffWalkOptions extends DiffWalkHooks {
  /** Compare stored data with its checksums. */
  readonly checkData: boolean;
}

/**
 * Walks a diff, also from a pipe. Goes on behind bad data.
 * @returns the counts as the original's tools count. @throws WalbError the first fault, when all was told.
 */
export async function walkDiff(tool: Tool, path: string, options: DiffWalkOptions): Promise<DiffStats> {
  const opened = await openDiff(tool, path);
  const source = "path" in opened ? await FileSource.open(tool, opened) : new StreamSource(tool, opened);
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
    private readonly seekable: Seekable,
    readonly sizeBytes: number,
  ) {}

  static async open(tool: Tool, seekable: Seekable): Promise<FileSource> {
    try {
      const file = await tool.platform.disk.open(seekable.path, { mode: "read" });
      return new FileSource(file, seekable, await file.size());
    } catch (error) {
      seekable.close();
      throw renamed(error, [seekable]);
    }
  }

  get name(): string {
    return this.seekable.name;
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

  async close(): Promise<void> {
    await this.file.close();
    this.seekable.close();
  }
}

class StreamSource implements Source {
  readonly file = undefined;
  readonly sizeBytes = undefined;
  at = 0;
  constructor(
    private readonly tool: Tool,
    private readonly input: OpenInput,
  ) {}

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
  /** Offset, size and checksum → good, of images that several records share: what they say of one may differ. */
  readonly #checked = new Map<string, boolean>();

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
      if (gotBytes === indexSuperBytes && compute.isZeroNow(header.bytes.subarray(0, gotBytes))) {
        throw zeroStubError(this.#source.name);
      }
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
    if (file === undefined) throw new WalbError("internal", { what: "an indexed diff is walked front to back" });
    const superOffset = sizeBytes - indexSuperBytes;
    const place = { file: name, offsetBytes: superOffset };
    if (superOffset < fileHeaderBytes) {
      throw truncated("the file is shorter than an indexed diff", { file: name, offsetBytes: sizeBytes });
    }
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
    const image = `${record.dataOffset} ${record.dataSize} ${record.checksum}`;
    const known = this.#checked.get(image);
    if (known !== undefined) return known;
    const lease = await this.#tool.platform.memory.lease(record.dataSize);
    try {
      const data = lease.slice(0, record.dataSize);
      await file.read(Number(record.dataOffset), data);
      const [sum] = await this.#tool.platform.compute.checksums([data], 0);
      const isGood = sum === record.checksum;
      if (this.#checked.size >= checkedImagesMax) this.#checked.clear();
      this.#checked.set(image, isGood);
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
