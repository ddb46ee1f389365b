/** @module Records of a merge's batch put together as packs: listed for gathered writing, or one behind the other. */
import type { Codec } from "../native/codec.ts";
import type { Lease, Memory } from "../native/memory.ts";
import { packHeaderBytes } from "./format.ts";
import { PackBuilder } from "./pack.ts";
import type { PackedBatch } from "./packed.ts";
import { countRecord, emptyStats } from "./stats.ts";
import type { DiffIo, DiffStats, RecordKind } from "./types.ts";

/** One record as it is written. */
export interface OutRecord {
  readonly addressLb: number;
  readonly blocksLb: number;
  readonly kind: RecordKind;
  readonly codec: Codec;
  readonly checksum: number;
  readonly stored: Memory | undefined;
}

/** The records of one batch, with their memory. */
export interface OutBatch {
  readonly lease: Lease;
  readonly records: readonly OutRecord[];
  /** Where the headers of the packs may be put. */
  readonly headersAt: number;
  /** Where packs may be put together; −1 when a lone record lies so that it only needs a header before it. */
  readonly packsAt: number;
}

/** Adds a part, joined with the one before when they lie one behind the other. */
export function pushJoined(parts: Memory[], part: Memory, lease: Memory): void {
  const last = parts[parts.length - 1];
  if (last !== undefined && last.address + last.sizeBytes === part.address) {
    parts[parts.length - 1] = lease.slice(last.address - lease.address, last.sizeBytes + part.sizeBytes);
  } else {
    parts.push(part);
  }
}

/** Puts the packs of a batch together in its lease, one behind the other. */
export function assemblePacks(
  io: DiffIo,
  batch: OutBatch | PackedBatch,
): { memory: Memory; records: number; stats: DiffStats }[] {
  if ("packs" in batch) {
    return batch.packs.map(({ offsetBytes, sizeBytes, records, stats }) => ({
      memory: batch.lease.slice(offsetBytes, sizeBytes),
      records,
      stats,
    }));
  }
  const made: { memory: Memory; records: number; stats: DiffStats }[] = [];
  const { lease } = batch;
  let at = batch.packsAt < 0 ? 0 : batch.packsAt;
  for (const pack of buildPacks(io, batch)) {
    let dataAt = at + packHeaderBytes;
    if (pack.header.address !== lease.address + at) lease.bytes.set(pack.header.bytes, at);
    for (const part of pack.parts) {
      // A lone record's data may overlap its place: set() copies as memmove does.
      if (part.address !== lease.address + dataAt) lease.bytes.set(part.bytes, dataAt);
      dataAt += part.sizeBytes;
    }
    made.push({ memory: lease.slice(at, dataAt - at), records: pack.records, stats: pack.stats });
    at = dataAt;
  }
  return made;
}

interface BuiltPack {
  readonly header: Memory;
  readonly parts: readonly Memory[];
  readonly records: number;
  readonly stats: DiffStats;
  readonly endLb: number;
}

/** Groups the records of a batch into packs with sealed headers. */
export function buildPacks(io: DiffIo, batch: OutBatch): BuiltPack[] {
  const packs: BuiltPack[] = [];
  let headerAt = batch.headersAt;
  const newBuilder = (): PackBuilder => {
    const builder = new PackBuilder(batch.lease.slice(headerAt, packHeaderBytes));
    headerAt += packHeaderBytes;
    return builder;
  };
  let header = batch.lease.slice(headerAt, packHeaderBytes);
  let builder = newBuilder();
  let stats = emptyStats();
  let endLb = 0;
  const finish = (): void => {
    builder.seal(io.compute);
    stats.dataBytes = builder.dataBytes;
    packs.push({ header, parts: builder.parts, records: builder.records, stats, endLb });
  };
  for (const { addressLb, blocksLb, kind, codec, checksum, stored } of batch.records) {
    if (!builder.add(addressLb, blocksLb, kind, codec, checksum, stored)) {
      finish();
      header = batch.lease.slice(headerAt, packHeaderBytes);
      builder = newBuilder();
      stats = emptyStats();
      builder.add(addressLb, blocksLb, kind, codec, checksum, stored);
    }
    countRecord(stats, kind, blocksLb);
    endLb = addressLb + blocksLb;
  }
  finish();
  return packs;
}
