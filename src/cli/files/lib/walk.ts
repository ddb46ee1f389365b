/** @module Walking a wlog pack by pack without needing its data: for showing, counting, and finding every fault. */
import type { DiffInput } from "../../../diff/stream.ts";
import { WalbError } from "../../../errors.ts";
import { isSealed } from "../../../log/checksum.ts";
import { wholeLsid } from "../../../log/lsid.ts";
import {
  isEndBlock,
  isPackFault,
  type LogPackHeader,
  nextPackLsid,
  packFaultError,
  recordDataPb,
  tryDecodePackHeader,
} from "../../../log/pack.ts";
import { decodeWlogHeader, type WlogHeader, wlogHeaderBytes } from "../../../log/wlogheader.ts";
import type { Lease } from "../../../native/memory.ts";
import type { Platform } from "../../../platform/platform.ts";
import { lbBytes, mib } from "../../../units.ts";

/** A record whose data does not match its checksum. */
export interface BadData {
  readonly recordIndex: number;
  /** What the data gives. */
  readonly checksum: number;
  readonly offsetBytes: number;
}

/** A pack as it was met. */
export interface WalkedPack {
  readonly header: LogPackHeader;
  /** What its lsids are counted from. */
  readonly lsidBase: bigint;
  /** The checksum field. */
  readonly checksum: number;
  /** Of the header, in the input. */
  readonly offsetBytes: number;
  /** Filled only when data is checked. */
  readonly badData: readonly BadData[];
}

/** How a walked wlog ended. */
export interface WalkEnd {
  readonly endLsid: bigint;
  readonly hasEndBlock: boolean;
}

/** What can be walked; data that nobody looks at is passed over where that goes. */
export interface WalkInput extends DiffInput {
  readonly sizeBytes?: number | undefined;
  skip?(sizeBytes: number): number;
}

/** Walks concatenated wlogs: `nextHeader`, all of `packs`, and again. Must be released. */
export class WlogWalker {
  readonly #platform: Platform;
  readonly #input: WalkInput;
  #lease: Lease | undefined;
  #header: WlogHeader | undefined;
  #offsetBytes = 0;

  constructor(platform: Platform, input: WalkInput) {
    this.#platform = platform;
    this.#input = input;
  }

  /** Bytes read so far. */
  get offsetBytes(): number {
    return this.#offsetBytes;
  }

  /** The next header; undefined at the end of the input. @throws WalbError `bad-format`, `damaged`. */
  async nextHeader(): Promise<WlogHeader | undefined> {
    const startBytes = this.#offsetBytes;
    const block = await this.#read(wlogHeaderBytes);
    if (block.length === 0) return undefined;
    if (block.length < wlogHeaderBytes) throw this.#cut("inside a wlog header", startBytes);
    this.#header = decodeWlogHeader(block, this.#input.name, startBytes);
    return this.#header;
  }

  /**
   * The packs of the current wlog. @param checkData also compares data with its checksums; what differs is told in
   * `badData` and the walk goes on. @throws WalbError `damaged` at a bad header or an end inside a pack.
   */
  async *packs(checkData: boolean, signal?: AbortSignal): AsyncGenerator<WalkedPack, WalkEnd, undefined> {
    const wlog = this.#header;
    if (wlog === undefined) throw new WalbError("internal", { what: "a wlog is walked before its header" });
    this.#header = undefined;
    const { pbsBytes, salt, lsidBase = 0n } = wlog;
    let lsid = wlog.beginLsid;
    for (;;) {
      if (signal?.aborted === true) throw new WalbError("cancelled", { what: "reading the log was cancelled" });
      const offsetBytes = this.#offsetBytes;
      const block = await this.#read(pbsBytes);
      if (block.length === 0) return { endLsid: wholeLsid(lsid, lsidBase), hasEndBlock: false };
      if (block.length < pbsBytes) throw this.#cut("inside a log pack header", offsetBytes);
      // The original does not look at the checksum of an end block, so that damage could pass for the end.
      if (isEndBlock(block) && isSealed(block, salt)) return { endLsid: wholeLsid(lsid, lsidBase), hasEndBlock: true };
      const header = tryDecodePackHeader(block, { pbsBytes, salt, expectedLsid: lsid, lsidBase });
      const where = { file: this.#input.name, offsetBytes };
      const whole = wholeLsid(lsid, lsidBase);
      if (isPackFault(header)) throw packFaultError(header, whole, where);
      if (header.records.length === 0) throw packFaultError({ field: "n_records", reason: "is 0" }, whole, where);
      const checksum = new DataView(block.buffer, block.byteOffset).getUint32(0, true);
      const badData = await this.#passData(header, pbsBytes, salt, checkData);
      yield { header, lsidBase, checksum, offsetBytes, badData };
      lsid = nextPackLsid(header);
    }
  }

  release(): void {
    this.#lease?.release();
    this.#lease = undefined;
  }

  async #passData(header: LogPackHeader, pbsBytes: number, salt: number, checkData: boolean): Promise<BadData[]> {
    const bad: BadData[] = [];
    for (const [recordIndex, record] of header.records.entries()) {
      const sizeBytes = recordDataPb(record, pbsBytes) * pbsBytes;
      const meantBytes = checkData && record.kind === "data" ? record.sizeLb * lbBytes : 0;
      const offsetBytes = this.#offsetBytes;
      if (meantBytes === 0 && this.#input.skip !== undefined) {
        const skippedBytes = this.#input.skip(sizeBytes);
        this.#offsetBytes += skippedBytes;
        if (skippedBytes < sizeBytes) throw this.#cut("inside the data of a pack", offsetBytes);
        continue;
      }
      let running = salt;
      let checksum = 0;
      for (let done = 0; done < sizeBytes; ) {
        const part = await this.#read(Math.min(mib, sizeBytes - done));
        if (part.length < Math.min(mib, sizeBytes - done)) throw this.#cut("inside the data of a pack", offsetBytes);
        if (done < meantBytes) {
          checksum = this.#platform.compute.checksumNow(part.subarray(0, meantBytes - done), running);
          // The checksum is the negated sum, so that the next part goes on from there.
          running = -checksum >>> 0;
        }
        done += part.length;
      }
      if (meantBytes > 0 && checksum !== record.checksum) bad.push({ recordIndex, checksum, offsetBytes });
    }
    return bad;
  }

  /** The next bytes, at most 1 MiB, valid until the next call; fewer at the end of the input. */
  async #read(sizeBytes: number): Promise<Uint8Array> {
    this.#lease ??= await this.#platform.memory.lease(mib);
    const gotBytes = await this.#input.read(this.#lease.slice(0, sizeBytes));
    this.#offsetBytes += gotBytes;
    return this.#lease.bytes.subarray(0, gotBytes);
  }

  #cut(where: string, offsetBytes: number): WalbError {
    return new WalbError("damaged", {
      what: `the input ends ${where}`,
      where: { file: this.#input.name, offsetBytes },
      hint: "the file was cut off: replace it from another copy",
    });
  }
}

/** The error for an input without a single byte. */
export function emptyLogError(file: string): WalbError {
  const hint = "look at what was to write it: even a log without writes has a header and an end block";
  return new WalbError("bad-format", {
    what: "the input is empty: there is no wlog",
    where: { file, offsetBytes: 0 },
    hint,
  });
}

/** The error for a wlog that stops between two packs, without its end block. */
export function missingEndError(file: string, endLsid: bigint, offsetBytes: number): WalbError {
  return new WalbError("damaged", {
    what: `the wlog stops at lsid ${endLsid} without its end block`,
    where: { file, offsetBytes, field: "end" },
    hint: "it was cut off: replace it from another copy, or add --lenient to take what is there",
  });
}

/** The error for a record's data. */
export function badDataError(file: string, pack: WalkedPack, bad: BadData): WalbError {
  const record = pack.header.records[bad.recordIndex]!;
  const lsid = wholeLsid(record.lsid, pack.lsidBase);
  const packLsid = wholeLsid(pack.header.lsid, pack.lsidBase);
  return new WalbError("damaged", {
    what:
      `the data of record ${bad.recordIndex} at lsid ${lsid} (log pack ${packLsid}) is damaged:` +
      " its checksum does not match",
    where: { file, offsetBytes: bad.offsetBytes, field: "checksum" },
    hint: "replace the file from another copy",
  });
}
