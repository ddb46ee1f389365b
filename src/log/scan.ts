/**
 * @module Scanning consecutive packs from a source that is linear in lsids: a ring, or a wlog stream.
 *
 * One chunk is read, parsed, and its data verified as one job; the next chunk is read meanwhile when the pool has room.
 * What is cut off at the end of a chunk is carried over into the next one.
 */
import { WalbError } from "../errors.ts";
import type { Compute, VerifyItem } from "../native/codec.ts";
import type { Lease, Memory, MemoryPool } from "../native/memory.ts";
import { lbBytes, mib } from "../units.ts";
import type { PackBatch, PackPart } from "./batch.ts";
import { isSealed } from "./checksum.ts";
import { wholeLsid } from "./lsid.ts";
import {
  isEndBlock,
  isPackFault,
  type LogPackHeader,
  nextPackLsid,
  type PackFault,
  packFaultError,
  recordDataPb,
  tryDecodePackHeader,
} from "./pack.ts";

/** Where the bytes of an lsid come from. */
export interface PackSource {
  readonly pbsBytes: number;
  readonly salt: number;
  /** What the lsids are counted from; default 0. */
  readonly lsidBase?: bigint;
  /** Fills `target` (whole PB) from `lsid` on; the answer is the bytes there are, less only at the end of the input.
   * The scan asks for ascending lsids, one read at a time. */
  read(lsid: number, target: Memory): Promise<number>;
  /** For messages. */
  place(lsid: number): { readonly file: string; readonly offsetBytes: number };
  /** PB that one I/O may take from `lsid` on: up to the ring end. */
  contiguousPb(lsid: number): number;
}

/** Why a scan ended. `lsid` is the lsid of the pack it ended at: all before it is good. */
export type ScanStop =
  | { readonly kind: "limit"; readonly lsid: number }
  /** The end block of a wlog; `rest` is what was read behind it. */
  | { readonly kind: "end-block"; readonly lsid: number; readonly rest: Uint8Array }
  | { readonly kind: "end-of-input"; readonly lsid: number; readonly isMidPack: boolean }
  | { readonly kind: "header"; readonly lsid: number; readonly fault: PackFault }
  /** Data of record `recordIndex` does not match its checksum; the records before it were delivered. */
  | { readonly kind: "data"; readonly lsid: number; readonly header: LogPackHeader; readonly recordIndex: number };

/** What to scan. */
export interface ScanOptions {
  readonly source: PackSource;
  readonly pool: MemoryPool;
  readonly compute: Compute;
  readonly fromLsid: number;
  /** Stop here; a pack that crosses it is a fault. */
  readonly limitLsid: number;
  readonly chunkBytes?: number;
  readonly signal?: AbortSignal | undefined;
}

/** A chunk in memory: `filledPb` PB from `lsid` on. */
interface Chunk {
  readonly lease: Lease;
  readonly lsid: number;
  filledPb: number;
  filledBytes: number;
  readonly wantedBytes: number;
}

/** Parser position, between packs or inside one. */
interface Cursor {
  lsid: number;
  header: LogPackHeader | undefined;
  nextRecord: number;
  /** Next pack boundary whose predecessors are complete. */
  packLsid: number;
}

interface MutablePart {
  header: LogPackHeader;
  headerMemory: Memory | undefined;
  firstRecord: number;
  data: (Memory | undefined)[];
  isLast: boolean;
}

interface Parsed {
  readonly parts: MutablePart[];
  readonly items: VerifyItem[];
  /** items[i] is record itemRecord[i] of part itemPart[i]. */
  readonly itemPart: number[];
  readonly itemRecord: number[];
  stop: ScanStop | undefined;
}

const defaultChunkBytes = mib;

/** Scans packs; yields batches and returns why it ended. I/O errors throw. */
export async function* scanPacks(options: ScanOptions): AsyncGenerator<PackBatch, ScanStop, undefined> {
  const { source, pool, compute, limitLsid, signal } = options;
  const cursor: Cursor = {
    lsid: options.fromLsid,
    header: undefined,
    nextRecord: 0,
    packLsid: options.fromLsid,
  };
  let ahead: Promise<Chunk> | undefined;
  let aheadLease: Lease | undefined;
  try {
    while (true) {
      if (signal?.aborted) throw new WalbError("cancelled", { what: "reading the log was cancelled" });
      if (cursor.header === undefined && cursor.lsid >= limitLsid) return { kind: "limit", lsid: cursor.lsid };
      let chunk: Chunk;
      if (ahead !== undefined) {
        chunk = await ahead;
        ahead = undefined;
        aheadLease = undefined;
      } else {
        const lease = await pool.lease(chunkSizeBytes(options, cursor));
        chunk = await fillOrRelease(source, lease, options, cursor, undefined);
      }
      let handedOver = false;
      try {
        const parsed = parseChunk(options, chunk, cursor);
        if (parsed.stop === undefined && (cursor.header !== undefined || cursor.lsid < limitLsid)) {
          const lease = pool.tryLease(chunkSizeBytes(options, cursor));
          if (lease !== undefined) {
            aheadLease = lease;
            ahead = fill(source, lease, options, cursor, carryOf(chunk, cursor, source.pbsBytes));
            ahead.catch(() => {});
          }
        }
        const good = parsed.items.length === 0 ? new Uint8Array(0) : await compute.verify(parsed.items);
        const bad = good.indexOf(0);
        const stop = bad < 0 ? parsed.stop : cutAt(parsed, bad);
        // Without room to read ahead, the cut-off tail must be taken before the consumer releases the chunk.
        const tail = ahead === undefined && stop === undefined ? carryOf(chunk, cursor, source.pbsBytes) : undefined;
        const tailCopy = tail === undefined ? undefined : tail.bytes.slice();
        if (parsed.parts.length > 0) {
          handedOver = true;
          const endLsid = stop === undefined ? cursor.packLsid : stop.lsid;
          yield { parts: parsed.parts as readonly PackPart[], endLsid, release: () => chunk.lease.release() };
        }
        if (stop !== undefined) return stop;
        if (!handedOver) {
          chunk.lease.release();
          handedOver = true;
        }
        if (ahead === undefined && (cursor.header !== undefined || cursor.lsid < limitLsid)) {
          const lease = await pool.lease(chunkSizeBytes(options, cursor));
          aheadLease = lease;
          ahead = fill(source, lease, options, cursor, tailCopy === undefined ? undefined : { bytes: tailCopy });
          ahead.catch(() => {});
        }
      } finally {
        if (!handedOver) chunk.lease.release();
      }
    }
  } finally {
    if (ahead !== undefined) await ahead.catch(() => {});
    aheadLease?.release();
  }
}

/** The error for a scan that ended where it should not have. */
export function scanStopError(stop: ScanStop, source: PackSource): WalbError {
  const hint = "the log cannot be followed past this point: take a hash backup of the volume, or reset it";
  const { lsidBase } = source;
  const stopLsid = wholeLsid(stop.lsid, lsidBase);
  if (stop.kind === "header") return packFaultError(stop.fault, stopLsid, source.place(stop.lsid));
  if (stop.kind === "data") {
    const record = stop.header.records[stop.recordIndex]!;
    const what = `the data of record ${stop.recordIndex} at lsid ${wholeLsid(record.lsid, lsidBase)} (log pack ${stopLsid}) is damaged: its checksum does not match`;
    return new WalbError("damaged", { what, where: { ...source.place(record.lsid), field: "checksum" }, hint });
  }
  const what = `the log ends at lsid ${stopLsid}${stop.kind === "end-of-input" && stop.isMidPack ? ", inside a pack" : ""}, before it should`;
  return new WalbError("damaged", { what, where: source.place(stop.lsid), hint });
}

function chunkSizeBytes(options: ScanOptions, cursor: Cursor): number {
  const { pbsBytes } = options.source;
  const chunkPb = Math.max(1, Math.floor((options.chunkBytes ?? defaultChunkBytes) / pbsBytes));
  const record = cursor.header?.records[cursor.nextRecord];
  const needPb = record === undefined ? 1 : recordDataPb(record, pbsBytes);
  const restPb = options.limitLsid - cursor.lsid;
  return Math.max(needPb, Math.min(chunkPb, restPb)) * pbsBytes;
}

function carryOf(chunk: Chunk, cursor: Cursor, pbsBytes: number): Memory | undefined {
  const consumedPb = cursor.lsid - chunk.lsid;
  if (consumedPb >= chunk.filledPb) return undefined;
  return chunk.lease.slice(consumedPb * pbsBytes, (chunk.filledPb - consumedPb) * pbsBytes);
}

async function fillOrRelease(
  source: PackSource,
  lease: Lease,
  options: ScanOptions,
  cursor: Cursor,
  carry: { readonly bytes: Uint8Array } | undefined,
): Promise<Chunk> {
  try {
    return await fill(source, lease, options, cursor, carry);
  } catch (error) {
    lease.release();
    throw error;
  }
}

function fill(
  source: PackSource,
  lease: Lease,
  options: ScanOptions,
  cursor: Cursor,
  carry: { readonly bytes: Uint8Array } | undefined,
): Promise<Chunk> {
  const { pbsBytes } = source;
  const wantedBytes = chunkSizeBytes(options, cursor);
  const lsid = cursor.lsid;
  const carryBytes = Math.min(carry?.bytes.length ?? 0, wantedBytes);
  if (carry !== undefined) lease.bytes.set(carry.bytes.subarray(0, carryBytes), 0);
  return readRest();

  async function readRest(): Promise<Chunk> {
    const restBytes = wantedBytes - carryBytes;
    const gotBytes =
      restBytes === 0 ? 0 : await source.read(lsid + carryBytes / pbsBytes, lease.slice(carryBytes, restBytes));
    const filledBytes = carryBytes + gotBytes;
    return { lease, lsid, filledPb: Math.floor(filledBytes / pbsBytes), filledBytes, wantedBytes };
  }
}

function parseChunk(options: ScanOptions, chunk: Chunk, cursor: Cursor): Parsed {
  const { source, limitLsid } = options;
  const { pbsBytes, salt } = source;
  const endLsid = chunk.lsid + chunk.filledPb;
  const parsed: Parsed = { parts: [], items: [], itemPart: [], itemRecord: [], stop: undefined };
  while (parsed.stop === undefined) {
    if (cursor.header === undefined) {
      if (cursor.lsid >= limitLsid || cursor.lsid >= endLsid) break;
      const atBytes = (cursor.lsid - chunk.lsid) * pbsBytes;
      const memory = chunk.lease.slice(atBytes, pbsBytes);
      const header = headerAt(memory.bytes, options, cursor.lsid);
      if (isPackFault(header)) {
        // The original does not look at the checksum of an end block, so that damage could pass for the end.
        parsed.stop =
          isEndBlock(memory.bytes) && isSealed(memory.bytes, salt)
            ? {
                kind: "end-block",
                lsid: cursor.lsid,
                rest: chunk.lease.bytes.slice(atBytes + pbsBytes, chunk.filledBytes),
              }
            : { kind: "header", lsid: cursor.lsid, fault: header };
        break;
      }
      cursor.header = header;
      cursor.nextRecord = 0;
      cursor.lsid += 1;
      parsed.parts.push({ header, headerMemory: memory, firstRecord: 0, data: [], isLast: false });
    } else if (parsed.parts.length === 0) {
      const firstRecord = cursor.nextRecord;
      parsed.parts.push({ header: cursor.header, headerMemory: undefined, firstRecord, data: [], isLast: false });
    }
    const part = parsed.parts.at(-1)!;
    takeRecords(part, parsed, chunk, cursor, endLsid, pbsBytes, salt);
    if (!part.isLast) break;
    cursor.packLsid = nextPackLsid(part.header);
    cursor.lsid = cursor.packLsid;
    cursor.header = undefined;
  }
  dropEmptyTail(parsed);
  const isShort = chunk.filledBytes < chunk.wantedBytes;
  if (parsed.stop === undefined && isShort && (cursor.header !== undefined || cursor.lsid < limitLsid)) {
    const isMidPack = cursor.header !== undefined || chunk.filledBytes % pbsBytes !== 0;
    parsed.stop = { kind: "end-of-input", lsid: cursor.packLsid, isMidPack };
  }
  return parsed;
}

/** Adds to a part the records whose data lies wholly in the chunk. */
function takeRecords(
  part: MutablePart,
  parsed: Parsed,
  chunk: Chunk,
  cursor: Cursor,
  endLsid: number,
  pbsBytes: number,
  salt: number,
): void {
  const { records } = part.header;
  while (cursor.nextRecord < records.length) {
    const record = records[cursor.nextRecord]!;
    const dataPb = recordDataPb(record, pbsBytes);
    if (record.kind === "data") {
      if (record.lsid + dataPb > endLsid) return;
      const memory = chunk.lease.slice((record.lsid - chunk.lsid) * pbsBytes, dataPb * pbsBytes);
      part.data.push(memory);
      parsed.items.push({ source: memory.slice(0, record.sizeLb * lbBytes), salt, checksum: record.checksum });
      parsed.itemPart.push(parsed.parts.length - 1);
      parsed.itemRecord.push(cursor.nextRecord);
    } else {
      part.data.push(undefined);
    }
    cursor.nextRecord += 1;
    cursor.lsid = record.lsid + dataPb;
  }
  part.isLast = true;
}

/** A continued part without any record says nothing; a first part always brings its header. */
function dropEmptyTail(parsed: Parsed): void {
  const last = parsed.parts.at(-1);
  if (last !== undefined && last.headerMemory === undefined && last.data.length === 0) parsed.parts.pop();
}

function headerAt(block: Uint8Array, options: ScanOptions, lsid: number): LogPackHeader | PackFault {
  const { source, limitLsid } = options;
  const { lsidBase = 0n } = source;
  const header = tryDecodePackHeader(block, {
    pbsBytes: source.pbsBytes,
    salt: source.salt,
    expectedLsid: lsid,
    lsidBase,
  });
  if (isPackFault(header)) return header;
  if (header.records.length === 0) return { field: "n_records", reason: "is 0" };
  if (nextPackLsid(header) > limitLsid) {
    return { field: "total_io_size", reason: `is ${header.totalDataPb}: the pack crosses lsid ${limitLsid}` };
  }
  for (const [i, record] of header.records.entries()) {
    if (record.kind === "data" && recordDataPb(record, source.pbsBytes) > source.contiguousPb(record.lsid)) {
      return { field: `record[${i}].io_size`, reason: `is ${record.sizeLb}: the data would cross the ring end` };
    }
  }
  return header;
}

/** Cuts what was parsed before a bad item. */
function cutAt(parsed: Parsed, item: number): ScanStop {
  const part = parsed.parts[parsed.itemPart[item]!]!;
  const recordIndex = parsed.itemRecord[item]!;
  parsed.parts.length = parsed.itemPart[item]! + 1;
  part.data.length = recordIndex - part.firstRecord;
  part.isLast = false;
  const header = part.header;
  if (part.data.length === 0) parsed.parts.pop();
  return { kind: "data", lsid: header.lsid, header, recordIndex };
}
