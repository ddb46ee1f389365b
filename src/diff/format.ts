/**
 * @module Headers and records of wdiff files: file header, pack header, index record, index super; encode and check.
 *
 * Source of the layout: `docs/formats.md`, wdiff file. Everything read is hostile until it has passed the checks here.
 */
import { WalbError } from "../errors.ts";
import { Codec, type Compute } from "../native/codec.ts";
import { lbBytes } from "../units.ts";
import type { RecordIndex } from "./record-index.ts";
import { addressLbMax, DiffFileKind, imageLbMax, RecordKind } from "./types.ts";

export const fileHeaderBytes = 32;
export const packHeaderBytes = 4096;
export const packRecordsMax = 127;
/** Most data in a pack. No image is larger, so a single record never needs more. */
export const packDataMax = 32 * 1024 * 1024;
export const indexRecordBytes = 48;
export const indexSuperBytes = 24;
export const uuidBytes = 16;
const formatVersion = 2;
const flagAllZero = 2;
const flagDiscard = 4;
const packFlagEnd = 1;

/** A place in a file or stream, for messages. */
export interface FormatPlace {
  readonly file?: string;
  readonly peer?: string;
  readonly offsetBytes?: number;
}

/** The error for a structure that breaks a rule of the format. */
export function badFormat(what: string, place: FormatPlace, field: string): WalbError {
  return new WalbError("bad-format", {
    what,
    where: { ...place, field },
    hint: "the diff is damaged: replace it from another copy, or make a new backup of the volume",
  });
}

/** The error for a file that ends early. */
export function truncated(what: string, place: FormatPlace, field?: string): WalbError {
  return new WalbError("damaged", {
    what,
    where: field === undefined ? place : { ...place, field },
    hint: "the file was cut off: replace it from another copy, or make a new backup of the volume",
  });
}

/** The file header. @param uuid 16 bytes. */
export function encodeFileHeader(into: Uint8Array, kind: DiffFileKind, uuid: Uint8Array, compute: Compute): void {
  const header = into.subarray(0, fileHeaderBytes);
  header.fill(0);
  const view = new DataView(header.buffer, header.byteOffset, fileHeaderBytes);
  view.setUint16(4, formatVersion, true);
  view.setUint8(6, kind);
  header.set(uuid.subarray(0, uuidBytes), 16);
  view.setUint32(0, compute.checksumNow(header, 0), true);
}

/** Checks a file header. @throws WalbError `bad-format`. */
export function parseFileHeader(
  header: Uint8Array,
  compute: Compute,
  place: FormatPlace,
): { kind: DiffFileKind; uuid: Uint8Array } {
  if (compute.checksumNow(header, 0) !== 0)
    throw badFormat("the checksum of the diff header is wrong", place, "checksum");
  const view = new DataView(header.buffer, header.byteOffset, fileHeaderBytes);
  const version = view.getUint16(4, true);
  if (version !== formatVersion) throw badFormat(`diff version ${version} is not known, only 2 is`, place, "version");
  const kind = view.getUint8(6);
  if (kind !== DiffFileKind.sorted && kind !== DiffFileKind.indexed) {
    throw badFormat(`diff type ${kind} is not known`, place, "type");
  }
  return { kind, uuid: header.slice(16, 32) };
}

/** What a pack header says about the whole pack. */
export interface PackInfo {
  readonly records: number;
  readonly dataBytes: number;
  readonly isEnd: boolean;
  /** End of the last record that has a length, or the end that was given. */
  readonly endLb: number;
}

/**
 * Checks a pack header by every rule, and appends its records to an index.
 * @param header 4096 bytes. @param dataOffset byte offset of the pack's data area in its file or memory.
 * @param fromLb end of the record before: records must not start below it. @param limitLb records must end by it.
 * @throws WalbError `bad-format`.
 */
export function parsePackHeader(
  header: Uint8Array,
  compute: Compute,
  records: RecordIndex,
  source: number,
  dataOffset: number,
  fromLb: number,
  limitLb: number,
  place: FormatPlace,
): PackInfo {
  if (compute.checksumNow(header, 0) !== 0)
    throw badFormat("the checksum of a pack header is wrong", place, "checksum");
  const view = new DataView(header.buffer, header.byteOffset, packHeaderBytes);
  const recordCount = view.getUint16(4, true);
  const isEnd = (view.getUint8(6) & packFlagEnd) !== 0;
  const dataBytes = view.getUint32(8, true);
  if (recordCount > packRecordsMax) throw badFormat(`a pack of ${recordCount} records, above 127`, place, "n_records");
  if (isEnd && (recordCount !== 0 || dataBytes !== 0)) throw badFormat("an end pack with records", place, "flags");
  if (dataBytes > packDataMax) throw badFormat(`a pack of ${dataBytes} bytes of data`, place, "total_size");
  let offset = 0;
  let endLb = fromLb;
  for (let i = 0; i < recordCount; i++) {
    const at = 16 + 32 * i;
    const addressHigh = view.getUint32(at + 4, true);
    const addressLb = addressHigh * 0x1_0000_0000 + view.getUint32(at, true);
    const blocksLb = view.getUint32(at + 8, true);
    const kind = recordKind(view.getUint8(at + 12), place);
    const codec = kind === RecordKind.normal ? view.getUint8(at + 13) : Codec.none;
    const storedBytes = view.getUint32(at + 20, true);
    if (view.getUint32(at + 16, true) !== offset)
      throw badFormat("a record's data offset is wrong", place, "data_offset");
    if (addressHigh >= 0x1000 || addressLb + blocksLb > limitLb) {
      throw beyond(view.getBigUint64(at, true), blocksLb, limitLb, place);
    }
    if (addressLb < endLb)
      throw badFormat(`the record at ${addressLb} starts before the end of the one before`, place, "io_address");
    if (kind === RecordKind.normal) {
      checkImage(codec, blocksLb, storedBytes, place);
    } else if (storedBytes !== 0) {
      throw badFormat("a record without data has a data size", place, "data_size");
    }
    // A record without data may have no length; it says nothing and is left out.
    if (blocksLb > 0) {
      const imageLb = kind === RecordKind.normal ? blocksLb : 0;
      const checksum = view.getUint32(at + 24, true);
      records.push(addressLb, blocksLb, kind, codec, source, dataOffset + offset, storedBytes, imageLb, 0, checksum);
      endLb = addressLb + blocksLb;
    }
    offset += storedBytes;
  }
  if (offset !== dataBytes) throw badFormat("a pack's total size is not the sum of its records", place, "total_size");
  return { records: recordCount, dataBytes, isEnd, endLb };
}

/** Starts a pack header: 4096 zero bytes; records follow with {@link encodePackRecord}, then {@link sealPackHeader}. */
export function clearPackHeader(header: Uint8Array): void {
  header.fill(0, 0, packHeaderBytes);
}

/** Writes record `index` of a pack header. */
export function encodePackRecord(
  view: DataView,
  index: number,
  addressLb: number,
  blocksLb: number,
  kind: RecordKind,
  codec: Codec,
  dataOffset: number,
  storedBytes: number,
  checksum: number,
): void {
  const at = 16 + 32 * index;
  view.setUint32(at, addressLb % 0x1_0000_0000, true);
  view.setUint32(at + 4, Math.floor(addressLb / 0x1_0000_0000), true);
  view.setUint32(at + 8, blocksLb, true);
  view.setUint8(at + 12, kind === RecordKind.allZero ? flagAllZero : kind === RecordKind.discard ? flagDiscard : 0);
  view.setUint8(at + 13, codec);
  view.setUint32(at + 16, dataOffset, true);
  view.setUint32(at + 20, storedBytes, true);
  view.setUint32(at + 24, checksum, true);
}

/** Fills in the counts and the checksum of a pack header. */
export function sealPackHeader(
  header: Uint8Array,
  view: DataView,
  recordCount: number,
  dataBytes: number,
  isEnd: boolean,
  compute: Compute,
): void {
  view.setUint32(0, 0, true);
  view.setUint16(4, recordCount, true);
  view.setUint8(6, isEnd ? packFlagEnd : 0);
  view.setUint32(8, dataBytes, true);
  view.setUint32(0, compute.checksumNow(header, 0), true);
}

/** Checks the index super at the end of an indexed file. @returns where the index starts and how many records it has. */
export function parseIndexSuper(
  bytes: Uint8Array,
  fileBytes: number,
  compute: Compute,
  place: FormatPlace,
): { indexOffset: number; recordCount: number } {
  if (compute.checksumNow(bytes, 0) !== 0)
    throw badFormat("the checksum of the index super is wrong", place, "checksum");
  const view = new DataView(bytes.buffer, bytes.byteOffset, indexSuperBytes);
  const indexOffset = view.getUint32(4, true) * 0x1_0000_0000 + view.getUint32(0, true);
  const recordCount = view.getUint32(8, true);
  const indexBytes = fileBytes - indexSuperBytes - indexOffset;
  if (indexOffset < fileHeaderBytes || indexBytes < 0 || indexBytes !== recordCount * indexRecordBytes) {
    throw badFormat(
      `an index of ${recordCount} records at ${indexOffset} does not fit the file`,
      place,
      "index_offset",
    );
  }
  return { indexOffset, recordCount };
}

/** Writes the index super. */
export function encodeIndexSuper(
  bytes: Uint8Array,
  indexOffset: number,
  recordCount: number,
  ioCount: number,
  compute: Compute,
): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, indexSuperBytes);
  bytes.fill(0, 0, indexSuperBytes);
  view.setUint32(0, indexOffset % 0x1_0000_0000, true);
  view.setUint32(4, Math.floor(indexOffset / 0x1_0000_0000), true);
  view.setUint32(8, recordCount, true);
  view.setUint32(12, ioCount % 0x1_0000_0000, true);
  view.setUint32(20, compute.checksumNow(bytes.subarray(0, indexSuperBytes), 0), true);
}

/**
 * Checks `count` index records and appends them.
 * @param words the records as 32-bit words. @param fromLb end of the record before. @param dataEnd images end by it.
 * @returns the end of the last record. @throws WalbError `bad-format`.
 */
export function parseIndexRecords(
  words: Uint32Array,
  count: number,
  records: RecordIndex,
  source: number,
  fromLb: number,
  dataEnd: number,
  place: FormatPlace & { readonly offsetBytes: number },
): number {
  let endLb = fromLb;
  for (let i = 0; i < count; i++) {
    const w = i * 12;
    let sum = 0;
    for (let j = 0; j < 12; j++) sum = (sum + words[w + j]!) | 0;
    const here = (): FormatPlace => ({ ...place, offsetBytes: place.offsetBytes + i * indexRecordBytes });
    if (sum !== 0) throw badFormat("the checksum of an index record is wrong", here(), "rec_checksum");
    const addressHigh = words[w + 1]!;
    const addressLb = addressHigh * 0x1_0000_0000 + words[w]!;
    const blocksLb = words[w + 2]!;
    const kind = recordKind(words[w + 3]! & 0xff, here());
    if (addressHigh >= 0x1000 || addressLb + blocksLb > addressLbMax) {
      throw beyond((BigInt(addressHigh) << 32n) | BigInt(words[w]!), blocksLb, addressLbMax, here());
    }
    if (addressLb < endLb) {
      throw badFormat(`the record at ${addressLb} starts before the end of the one before`, here(), "io_address");
    }
    if (kind !== RecordKind.normal) {
      if (words[w + 6]! !== 0) throw badFormat("a record without data has a data size", here(), "data_size");
      if (blocksLb > 0) records.push(addressLb, blocksLb, kind, Codec.none, source, 0, 0, 0, 0, 0);
      endLb = addressLb + blocksLb;
      continue;
    }
    const codec = (words[w + 3]! >>> 8) & 0xff;
    const dataOffset = words[w + 5]! * 0x1_0000_0000 + words[w + 4]!;
    const storedBytes = words[w + 6]!;
    const sliceLb = words[w + 7]!;
    const imageLb = words[w + 8]!;
    checkImage(codec, imageLb, storedBytes, here());
    if (blocksLb === 0) throw badFormat("a record with data has no length", here(), "io_blocks");
    if (sliceLb + blocksLb > imageLb) throw badFormat("a slice is not inside its image", here(), "io_offset");
    if (dataOffset < fileHeaderBytes || dataOffset + storedBytes > dataEnd) {
      throw badFormat("an image is not inside the file's data", here(), "data_offset");
    }
    const checksum = words[w + 10]!;
    records.push(addressLb, blocksLb, kind, codec, source, dataOffset, storedBytes, imageLb, sliceLb, checksum);
    endLb = addressLb + blocksLb;
  }
  return endLb;
}

/** Writes an index record at word `w`; the checksum included. */
export function encodeIndexRecord(
  words: Uint32Array,
  w: number,
  addressLb: number,
  blocksLb: number,
  kind: RecordKind,
  codec: Codec,
  dataOffset: number,
  storedBytes: number,
  sliceLb: number,
  imageLb: number,
  checksum: number,
): void {
  const flags = kind === RecordKind.allZero ? flagAllZero : kind === RecordKind.discard ? flagDiscard : 0;
  words[w] = addressLb % 0x1_0000_0000;
  words[w + 1] = Math.floor(addressLb / 0x1_0000_0000);
  words[w + 2] = blocksLb;
  words[w + 3] = flags | (codec << 8);
  words[w + 4] = dataOffset % 0x1_0000_0000;
  words[w + 5] = Math.floor(dataOffset / 0x1_0000_0000);
  words[w + 6] = storedBytes;
  words[w + 7] = sliceLb;
  words[w + 8] = imageLb;
  words[w + 9] = 0;
  words[w + 10] = checksum;
  let sum = 0;
  for (let j = 0; j < 11; j++) sum = (sum + words[w + j]!) | 0;
  words[w + 11] = -sum;
}

function recordKind(flags: number, place: FormatPlace): RecordKind {
  const allZero = (flags & flagAllZero) !== 0;
  const discard = (flags & flagDiscard) !== 0;
  if (allZero && discard) throw badFormat("a record is all-zero and discard at once", place, "flags");
  return allZero ? RecordKind.allZero : discard ? RecordKind.discard : RecordKind.normal;
}

/** A stored image is never larger than what it expands to: writers keep data raw when it does not become smaller. */
function checkImage(codec: number, imageLb: number, storedBytes: number, place: FormatPlace): void {
  if (codec > Codec.zstd) throw badFormat(`compression type ${codec} is not known`, place, "compression_type");
  if (imageLb === 0) throw badFormat("a record with data has no length", place, "io_blocks");
  if (imageLb > imageLbMax) {
    throw badFormat(`an image of ${imageLb} blocks is above the limit of ${imageLbMax}`, place, "io_blocks");
  }
  const rawBytes = imageLb * lbBytes;
  if (storedBytes === 0 || storedBytes > rawBytes || (codec === Codec.none && storedBytes !== rawBytes)) {
    throw badFormat(`${storedBytes} stored bytes cannot be an image of ${imageLb} blocks`, place, "data_size");
  }
}

function beyond(addressLb: bigint, blocksLb: number, limitLb: number, place: FormatPlace): WalbError {
  return new WalbError("out-of-range", {
    what: `the record at ${addressLb} with ${blocksLb} blocks ends beyond ${limitLb}`,
    where: { ...place, field: "io_address" },
    hint: "the diff does not belong to this volume, or the volume has to be grown first",
  });
}
