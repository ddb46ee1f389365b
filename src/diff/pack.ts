/** @module Packs of the sorted kind: building one, and checking one that came over the wire or from a file. */
import { WalbError } from "../errors.ts";
import type { Codec, Compute, VerifyItem } from "../native/codec.ts";
import type { Memory } from "../native/memory.ts";
import {
  badFormat,
  clearPackHeader,
  encodePackRecord,
  packDataMax,
  packHeaderBytes,
  packRecordsMax,
  parsePackHeader,
  sealPackHeader,
} from "./format.ts";
import { RecordIndex } from "./record-index.ts";
import { countRecords } from "./stats.ts";
import { addressLbMax, type DiffIo, type DiffStats, type RecordKind } from "./types.ts";

/** Largest pack, header included. */
export const packBytesMax = packHeaderBytes + packDataMax;

/** Builds the header of one pack in memory the caller gives; the data stays where it is and is listed in order. */
export class PackBuilder {
  readonly #header: Memory;
  readonly #parts: Memory[] = [];
  #records = 0;
  #dataBytes = 0;

  /** @param header 4096 bytes. */
  constructor(header: Memory) {
    this.#header = header;
    clearPackHeader(header.bytes);
  }

  get records(): number {
    return this.#records;
  }

  /** Bytes of data behind the header. */
  get dataBytes(): number {
    return this.#dataBytes;
  }

  /** Stored data of the records, in order. */
  get parts(): readonly Memory[] {
    return this.#parts;
  }

  /**
   * Adds a record; records must come in ascending order. `stored` is there only for normal data.
   * @returns false, without adding, when the pack is full: 127 records or 32 MiB.
   */
  add(
    addressLb: number,
    blocksLb: number,
    kind: RecordKind,
    codec: Codec,
    checksum: number,
    stored: Memory | undefined,
  ): boolean {
    const storedBytes = stored?.sizeBytes ?? 0;
    if (this.#records >= packRecordsMax || this.#dataBytes + storedBytes > packDataMax) return false;
    encodePackRecord(
      this.#header.view,
      this.#records,
      addressLb,
      blocksLb,
      kind,
      codec,
      this.#dataBytes,
      storedBytes,
      checksum,
    );
    if (stored !== undefined) this.#parts.push(stored);
    this.#records++;
    this.#dataBytes += storedBytes;
    return true;
  }

  /** Completes the header: counts and checksum. */
  seal(compute: Compute): void {
    sealPackHeader(this.#header.bytes, this.#header.view, this.#records, this.#dataBytes, false, compute);
  }
}

/** A pack that has passed every check. */
export interface CheckedPack {
  readonly memory: Memory;
  /** Start of the first record; the end when there is none. */
  readonly startLb: number;
  readonly endLb: number;
  readonly stats: DiffStats;
}

/** What a pack is checked against. */
export interface PackLimits {
  /** End of the last record before this pack; default 0. */
  readonly fromLb?: number;
  /** Size of the volume: records must end by it. */
  readonly limitLb?: number;
  /** For messages. */
  readonly file?: string;
  readonly peer?: string;
  readonly offsetBytes?: number;
}

/**
 * Checks a whole pack: header, size, order, ranges, data checksums.
 * @param memory the 4096-byte header and the data behind it, nothing else.
 * @throws WalbError `bad-format`, `out-of-range` or `damaged`.
 */
export async function checkPack(io: DiffIo, memory: Memory, limits: PackLimits = {}): Promise<CheckedPack> {
  const place = {
    ...(limits.file === undefined ? {} : { file: limits.file }),
    ...(limits.peer === undefined ? {} : { peer: limits.peer }),
    ...(limits.offsetBytes === undefined ? {} : { offsetBytes: limits.offsetBytes }),
  };
  if (memory.sizeBytes < packHeaderBytes || memory.sizeBytes > packBytesMax) {
    throw badFormat(`a pack of ${memory.sizeBytes} bytes`, place, "pack size");
  }
  const records = new RecordIndex(packRecordsMax, packRecordsMax);
  const header = memory.bytes.subarray(0, packHeaderBytes);
  const fromLb = limits.fromLb ?? 0;
  const limitLb = limits.limitLb ?? addressLbMax;
  const info = parsePackHeader(header, io.compute, records, 0, packHeaderBytes, fromLb, limitLb, place);
  if (info.isEnd) throw badFormat("an end pack where a pack with records was expected", place, "flags");
  if (packHeaderBytes + info.dataBytes !== memory.sizeBytes) {
    throw badFormat(`a pack of ${memory.sizeBytes} bytes says it has ${info.dataBytes} of data`, place, "total_size");
  }
  const items: VerifyItem[] = [];
  const itemRecords: number[] = [];
  for (let i = 0; i < records.count; i++) {
    const storedBytes = records.storedBytes[i]!;
    if (storedBytes === 0) continue;
    const source = memory.slice(records.dataOffset[i]!, storedBytes);
    items.push({ source, salt: 0, checksum: records.checksum[i]! });
    itemRecords.push(i);
  }
  const results = items.length > 0 ? await io.compute.verify(items) : new Uint8Array(0);
  itemRecords.forEach((record, i) => {
    if (results[i] === 1) return;
    throw new WalbError("damaged", {
      what: `the data of the record at block ${records.addressLb[record]} has a wrong checksum`,
      where: place,
      hint: "the sender's copy or the connection is damaged: the sender will retry, check its diff if it fails again",
    });
  });
  const stats = countRecords(records, 0, records.count);
  stats.dataBytes = info.dataBytes;
  const startLb = records.count > 0 ? records.addressLb[0]! : info.endLb;
  return { memory, startLb, endLb: info.endLb, stats };
}
