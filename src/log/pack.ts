/**
 * @module Log pack headers: decode with every rule checked, encode, shrink.
 *
 * A pack is one header PB at its lsid, then the data of its records at consecutive lsids. Source: `docs/formats.md`,
 * logpack. Beyond what the original checks, the record count is bounded before a record is touched, and
 * `total_io_size`, `lsid_local` and `n_padding` must equal what the records say.
 */
import { WalbError } from "../errors.ts";
import { lbBytes, u64Max, writeU64 } from "../units.ts";
import { isSealed, sealBlock } from "./checksum.ts";
import { ceilPb, maxDiscardLb, maxPackDataPb, maxRecordLb, maxRecordsPerPack } from "./geometry.ts";
import { isLsid, readLsid, wholeLsid } from "./lsid.ts";

export const sectorTypePack = 3;
const headerBytes = 24;
const recordBytes = 32;
const flagExist = 1;
const flagPadding = 2;
const flagDiscard = 4;

/** What a record stands for. A discard has no data; padding has data space whose content is undefined. */
export type LogRecordKind = "data" | "padding" | "discard";

/** One record of a pack. */
export interface LogRecord {
  readonly kind: LogRecordKind;
  /** walb checksum of the first `sizeLb` · 512 bytes with the log's salt; 0 for padding and discard. */
  readonly checksum: number;
  /** Address on the volume; 0 for padding. */
  readonly offsetLb: number;
  readonly sizeLb: number;
  /** lsid of the data; a discard shares the one of the record behind it. */
  readonly lsid: number;
}

/** A decoded pack header. */
export interface LogPackHeader {
  readonly lsid: number;
  /** Sum of the data PB of all records but discards. */
  readonly totalDataPb: number;
  readonly records: readonly LogRecord[];
}

/** Log PB a record's data takes: 0 for a discard. */
export function recordDataPb(record: LogRecord, pbsBytes: number): number {
  return record.kind === "discard" ? 0 : ceilPb(record.sizeLb, pbsBytes);
}

/** lsid of the pack behind this one. An empty pack does not advance. */
export function nextPackLsid(header: LogPackHeader): number {
  return header.records.length === 0 ? header.lsid : header.lsid + 1 + header.totalDataPb;
}

/** How to decode: PB size, salt, and the lsid the header must have, when it is known. */
export interface DecodePackOptions {
  readonly pbsBytes: number;
  readonly salt: number;
  readonly expectedLsid?: number;
  /** What the lsids are counted from; default 0. */
  readonly lsidBase?: bigint;
}

/** Why a block is not a valid header: a field and a reason. */
export interface PackFault {
  readonly field: string;
  readonly reason: string;
}

/** True for the result of {@link tryDecodePackHeader} that is a fault. */
export function isPackFault(result: LogPackHeader | PackFault): result is PackFault {
  return "reason" in result;
}

/**
 * Decodes one PB as a pack header without throwing, for searching and redo. An end block decodes as a fault: test
 * {@link isEndBlock} first where one may come.
 */
export function tryDecodePackHeader(block: Uint8Array, options: DecodePackOptions): LogPackHeader | PackFault {
  const { pbsBytes, salt, expectedLsid, lsidBase = 0n } = options;
  if (block.byteLength < pbsBytes) return { field: "header", reason: `only ${block.byteLength} bytes are there` };
  const view = new DataView(block.buffer, block.byteOffset, pbsBytes);
  const sectorType = view.getUint16(4, true);
  if (sectorType !== sectorTypePack) return { field: "sector_type", reason: `is ${sectorType}, not ${sectorTypePack}` };
  const lsid = readLsid(view, 8, lsidBase);
  if (lsid === undefined || (expectedLsid !== undefined && lsid !== expectedLsid)) {
    const wanted = expectedLsid === undefined ? "beyond what can be handled" : `not ${lsidBase + BigInt(expectedLsid)}`;
    return { field: "logpack_lsid", reason: `is ${view.getBigUint64(8, true)}, ${wanted}` };
  }
  const recordCount = view.getUint16(16, true);
  const recordCountMax = maxRecordsPerPack(pbsBytes);
  if (recordCount > recordCountMax) return { field: "n_records", reason: `is ${recordCount}, above ${recordCountMax}` };
  if (!isSealed(block.subarray(0, pbsBytes), salt)) return { field: "checksum", reason: "does not match" };
  const header = decodeRecords(view, lsid, recordCount, pbsBytes, lsidBase);
  if (!isPackFault(header) && lsidBase !== 0n && !isLsid(wholeLsid(nextPackLsid(header), lsidBase))) {
    return { field: "total_io_size", reason: `is ${header.totalDataPb}: the pack ends beyond all lsids` };
  }
  return header;
}

function decodeRecords(
  view: DataView,
  lsid: number,
  recordCount: number,
  pbsBytes: number,
  lsidBase: bigint,
): LogPackHeader | PackFault {
  const records: LogRecord[] = [];
  let dataPb = 0;
  let paddingCount = 0;
  for (let i = 0; i < recordCount; i += 1) {
    const at = headerBytes + i * recordBytes;
    const flags = view.getUint32(at + 4, true);
    const kind = recordKind(flags);
    if (kind === undefined) return { field: `record[${i}].flags`, reason: `is ${flags}` };
    const offsetHigh = view.getUint32(at + 12, true);
    if (offsetHigh >= 0x20_0000) {
      const offset = view.getBigUint64(at + 8, true);
      return { field: `record[${i}].offset`, reason: `is ${offset}, beyond what can be handled` };
    }
    const offsetLb = offsetHigh * 0x1_0000_0000 + view.getUint32(at + 8, true);
    const sizeLb = view.getUint32(at + 16, true);
    if (kind !== "padding" && sizeLb === 0) return { field: `record[${i}].io_size`, reason: "is 0" };
    if (kind === "data" && sizeLb > maxRecordLb) return { field: `record[${i}].io_size`, reason: `is ${sizeLb}` };
    if (kind === "padding") {
      paddingCount += 1;
      if (sizeLb % (pbsBytes / lbBytes) !== 0) return { field: `record[${i}].io_size`, reason: `is ${sizeLb}` };
    }
    const lsidLocal = view.getUint16(at + 20, true);
    if (lsidLocal !== 1 + dataPb) {
      return { field: `record[${i}].lsid_local`, reason: `is ${lsidLocal}, not ${1 + dataPb}` };
    }
    const recordLsid = readLsid(view, at + 24, lsidBase);
    if (recordLsid !== lsid + lsidLocal) {
      const [is, not] = [view.getBigUint64(at + 24, true), wholeLsid(lsid + lsidLocal, lsidBase)];
      return { field: `record[${i}].lsid`, reason: `is ${is}, not ${not}` };
    }
    if (kind !== "discard") dataPb += ceilPb(sizeLb, pbsBytes);
    if (dataPb > maxPackDataPb) return { field: "total_io_size", reason: `of the records is ${dataPb}` };
    records.push({ kind, checksum: view.getUint32(at, true), offsetLb, sizeLb, lsid: recordLsid });
  }
  const totalDataPb = view.getUint16(6, true);
  if (totalDataPb !== dataPb) {
    return { field: "total_io_size", reason: `is ${totalDataPb}, but the records take ${dataPb}` };
  }
  const paddingField = view.getUint16(18, true);
  if (paddingCount > 1 || paddingField !== paddingCount) {
    return { field: "n_padding", reason: `is ${paddingField}, with ${paddingCount} padding records` };
  }
  return { lsid, totalDataPb, records };
}

function recordKind(flags: number): LogRecordKind | undefined {
  if ((flags & flagExist) === 0) return undefined;
  if ((flags & flagPadding) !== 0) return (flags & flagDiscard) === 0 ? "padding" : undefined;
  return (flags & flagDiscard) !== 0 ? "discard" : "data";
}

/**
 * Decodes one PB as a pack header.
 * @throws WalbError `damaged` naming the lsid, the field and, when given, file and offset.
 */
export function decodePackHeader(
  block: Uint8Array,
  options: DecodePackOptions,
  where: { readonly file?: string; readonly offsetBytes?: number } = {},
): LogPackHeader {
  const result = tryDecodePackHeader(block, options);
  if (!isPackFault(result)) return result;
  throw packFaultError(result, options.expectedLsid, where);
}

/** The error for a fault. */
export function packFaultError(
  fault: PackFault,
  lsid: number | bigint | undefined,
  where: { readonly file?: string; readonly offsetBytes?: number } = {},
): WalbError {
  return new WalbError("damaged", {
    what: `the log pack header${lsid === undefined ? "" : ` at lsid ${lsid}`} is damaged: ${fault.field} ${fault.reason}`,
    where: { ...where, field: fault.field },
    hint: "the log cannot be followed past this point: take a hash backup of the volume, or reset it",
  });
}

/** Encodes a header into one PB, sealed with the salt. `target` defaults to new memory. */
export function encodePackHeader(
  header: LogPackHeader,
  pbsBytes: number,
  salt: number,
  target: Uint8Array = new Uint8Array(pbsBytes),
  lsidBase = 0n,
): Uint8Array {
  if (header.records.length > maxRecordsPerPack(pbsBytes) || header.totalDataPb > maxPackDataPb) {
    throw new WalbError("internal", { what: `a log pack with ${header.records.length} records does not fit` });
  }
  target.fill(0);
  const view = new DataView(target.buffer, target.byteOffset, pbsBytes);
  view.setUint16(4, sectorTypePack, true);
  view.setUint16(6, header.totalDataPb, true);
  view.setBigUint64(8, wholeLsid(header.lsid, lsidBase), true);
  view.setUint16(16, header.records.length, true);
  let paddingCount = 0;
  header.records.forEach((record, i) => {
    if (record.kind === "padding") paddingCount += 1;
    writeRecord(view, i, record.kind, record.checksum, record.offsetLb, record.sizeLb, header.lsid, record.lsid);
    if (lsidBase !== 0n) view.setBigUint64(recordAt(i) + 24, wholeLsid(record.lsid, lsidBase), true);
  });
  view.setUint16(18, paddingCount, true);
  sealBlock(target.subarray(0, pbsBytes), 0, salt);
  return target;
}

const flagsOf = { data: flagExist, padding: flagExist | flagPadding, discard: flagExist | flagDiscard } as const;

function recordAt(index: number): number {
  return headerBytes + index * recordBytes;
}

/** Writes record `index` of a header; the caller seals the block. */
export function writeRecord(
  view: DataView,
  index: number,
  kind: LogRecordKind,
  checksum: number,
  offsetLb: number,
  sizeLb: number,
  packLsid: number,
  lsid: number,
): void {
  if (sizeLb > maxDiscardLb) throw new WalbError("internal", { what: `a log record of ${sizeLb} blocks` });
  const at = recordAt(index);
  view.setUint32(at, checksum, true);
  view.setUint32(at + 4, flagsOf[kind], true);
  writeU64(view, at + 8, offsetLb);
  view.setUint32(at + 16, sizeLb, true);
  view.setUint16(at + 20, lsid - packLsid, true);
  view.setUint16(at + 22, 0, true);
  writeU64(view, at + 24, lsid);
}

/** The pack with its first `recordCount` records only. */
export function shrinkPack(header: LogPackHeader, recordCount: number, pbsBytes: number): LogPackHeader {
  const records = header.records.slice(0, recordCount);
  const totalDataPb = records.reduce((sum, record) => sum + recordDataPb(record, pbsBytes), 0);
  return { lsid: header.lsid, totalDataPb, records };
}

/** True for the end block of a wlog file: type 3, no records, lsid 2^64 − 1. */
export function isEndBlock(block: Uint8Array): boolean {
  if (block.byteLength < headerBytes) return false;
  const view = new DataView(block.buffer, block.byteOffset, headerBytes);
  return (
    view.getUint16(4, true) === sectorTypePack &&
    view.getUint16(16, true) === 0 &&
    view.getBigUint64(8, true) === u64Max
  );
}

/** The end block of a wlog file. */
export function encodeEndBlock(pbsBytes: number, salt: number): Uint8Array {
  const block = new Uint8Array(pbsBytes);
  const view = new DataView(block.buffer);
  view.setUint16(4, sectorTypePack, true);
  view.setBigUint64(8, u64Max, true);
  sealBlock(block, 0, salt);
  return block;
}
