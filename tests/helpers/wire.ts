/** @module Helpers of the wire tests: streams over a pair, memory pools that must come back empty, small payloads. */
import { expect } from "bun:test";
import { clearPackHeader, encodePackRecord, packHeaderBytes, sealPackHeader } from "../../src/diff/format.ts";
import { RecordKind } from "../../src/diff/types.ts";
import type { PackBatch, PackPart } from "../../src/log/batch.ts";
import { walbChecksum } from "../../src/log/checksum.ts";
import { ceilPb } from "../../src/log/geometry.ts";
import { encodePackHeader, type LogPackHeader, type LogRecord } from "../../src/log/pack.ts";
import { Codec, type Compute } from "../../src/native/codec.ts";
import { createInlineCompute, createMemoryPool } from "../../src/native/index.ts";
import type { Lease, Memory, MemoryPool } from "../../src/native/memory.ts";
import { WireStream } from "../../src/wire/stream.ts";
import { connectionPair, ManualClock, type PairEnd, type PairOptions, settle } from "./connection-pair.ts";

export const compute: Compute = createInlineCompute();
const root: MemoryPool = createMemoryPool(512 * 1024 * 1024);

/** A pool of its own for a test; `expectEmpty` shows leaked leases. */
export function testPool(): MemoryPool & { expectEmpty(): void } {
  const startBytes = root.leasedBytes;
  return {
    budgetBytes: root.budgetBytes,
    get leasedBytes() {
      return root.leasedBytes - startBytes;
    },
    tryLease: (sizeBytes) => root.tryLease(sizeBytes),
    lease: (sizeBytes) => root.lease(sizeBytes),
    carve: (sizeBytes) => root.carve(sizeBytes),
    expectEmpty: () => expect(root.leasedBytes).toBe(startBytes),
  };
}

export interface StreamPair {
  readonly client: WireStream;
  readonly server: WireStream;
  readonly clientEnd: PairEnd;
  readonly serverEnd: PairEnd;
  readonly clock: ManualClock;
}

/** Two streams over one connection. */
export function streamPair(options: PairOptions = {}): StreamPair {
  const ends = connectionPair(options);
  const clock = new ManualClock();
  return {
    client: new WireStream(ends.client, { clock }),
    server: new WireStream(ends.server, { clock }),
    clientEnd: ends.client,
    serverEnd: ends.server,
    clock,
  };
}

/** Runs both ends; each closes its stream when it ends, as the server and the roles do. */
export async function converse<C, S>(
  pair: StreamPair,
  client: (stream: WireStream) => Promise<C>,
  server: (stream: WireStream) => Promise<S>,
): Promise<[PromiseSettledResult<C>, PromiseSettledResult<S>]> {
  const run = async <T>(
    stream: WireStream,
    work: (stream: WireStream) => Promise<T>,
    isServer: boolean,
  ): Promise<T> => {
    try {
      const value = await work(stream);
      if (isServer) await stream.finish();
      return value;
    } catch (error) {
      if (isServer && stream.isWriteEnded) await stream.finish();
      throw error;
    } finally {
      stream.close();
    }
  };
  const results = await Promise.allSettled([run(pair.client, client, false), run(pair.server, server, true)]);
  await settle(2);
  return results;
}

/** The value of a conversation's end, or its error thrown. */
export function resultOf<T>(result: PromiseSettledResult<T>): T {
  if (result.status === "rejected") throw result.reason;
  return result.value;
}

/** A lease with these bytes. */
export function leaseOf(pool: MemoryPool, bytes: Uint8Array): { lease: Lease; memory: Memory } {
  const lease = pool.tryLease(Math.max(bytes.length, 1));
  if (lease === undefined) throw new Error("the test pool is full");
  const memory = lease.slice(0, bytes.length);
  memory.bytes.set(bytes);
  return { lease, memory };
}

/** Bytes that compress for even seeds and do not for odd ones. */
export function payload(sizeBytes: number, seed: number): Uint8Array {
  const bytes = new Uint8Array(sizeBytes);
  let state = (seed * 2654435761 + 12345) >>> 0;
  for (let i = 0; i < sizeBytes; i++) {
    if (seed % 2 === 1 || i % 64 === 0) state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    bytes[i] = state >>> 24;
  }
  return bytes;
}

/** A record of a test pack. */
export interface TestRecord {
  readonly addressLb: number;
  readonly blocksLb: number;
  /** undefined is all zero. */
  readonly data: Uint8Array | undefined;
}

/** A sorted pack of uncompressed records. */
export function diffPack(records: readonly TestRecord[]): Uint8Array {
  let dataBytes = 0;
  for (const record of records) dataBytes += record.data?.length ?? 0;
  const bytes = new Uint8Array(packHeaderBytes + dataBytes);
  const header = bytes.subarray(0, packHeaderBytes);
  const view = new DataView(bytes.buffer, 0, packHeaderBytes);
  clearPackHeader(header);
  let at = 0;
  records.forEach((record, i) => {
    const sizeBytes = record.data?.length ?? 0;
    if (record.data !== undefined) bytes.set(record.data, packHeaderBytes + at);
    const kind = record.data === undefined ? RecordKind.allZero : RecordKind.normal;
    const checksum = record.data === undefined ? 0 : walbChecksum(record.data, 0);
    encodePackRecord(view, i, record.addressLb, record.blocksLb, kind, Codec.none, at, sizeBytes, checksum);
    at += sizeBytes;
  });
  sealPackHeader(header, view, records.length, dataBytes, false, compute);
  return bytes;
}

/** A write to put into a test log. */
export interface TestIo {
  readonly kind: "data" | "discard" | "padding";
  readonly offsetLb: number;
  readonly sizeLb: number;
  readonly data?: Uint8Array;
}

/** A pack of a test log with its raw bytes as they travel: header, then whole PB of data. */
export interface TestPack {
  readonly header: LogPackHeader;
  readonly headerBytes: Uint8Array;
  readonly data: readonly (Uint8Array | undefined)[];
}

/** A pack at an lsid. */
export function logPack(lsid: number, ios: readonly TestIo[], pbsBytes: number, salt: number): TestPack {
  const records: LogRecord[] = [];
  const data: (Uint8Array | undefined)[] = [];
  let totalDataPb = 0;
  for (const io of ios) {
    const bytes = io.data ?? new Uint8Array(0);
    const checksum = io.kind === "data" ? walbChecksum(bytes, salt) : 0;
    const recordLsid = lsid + 1 + totalDataPb;
    records.push({ kind: io.kind, checksum, offsetLb: io.offsetLb, sizeLb: io.sizeLb, lsid: recordLsid });
    const sizePb = io.kind === "discard" ? 0 : ceilPb(io.sizeLb, pbsBytes);
    if (io.kind === "data") {
      const whole = new Uint8Array(sizePb * pbsBytes);
      whole.set(bytes);
      data.push(whole);
    } else {
      data.push(undefined);
    }
    totalDataPb += sizePb;
  }
  const header: LogPackHeader = { lsid, totalDataPb, records };
  return { header, headerBytes: encodePackHeader(header, pbsBytes, salt), data };
}

/** Packs as a batch of a reader, in leased memory. */
export function packBatch(pool: MemoryPool, packs: readonly TestPack[]): PackBatch {
  const leases: Lease[] = [];
  const hold = (bytes: Uint8Array): Memory => {
    const { lease, memory } = leaseOf(pool, bytes);
    leases.push(lease);
    return memory;
  };
  const parts = packs.map(
    (pack): PackPart => ({
      header: pack.header,
      headerMemory: hold(pack.headerBytes),
      firstRecord: 0,
      data: pack.data.map((bytes) => (bytes === undefined ? undefined : hold(bytes))),
      isLast: true,
    }),
  );
  const last = packs.at(-1)!.header;
  return {
    parts,
    endLsid: last.lsid + 1 + last.totalDataPb,
    release: () => {
      for (const lease of leases) lease.release();
    },
  };
}

/** An async iterable of values. */
export async function* each<T>(values: Iterable<T>): AsyncGenerator<T> {
  yield* values;
}
