/** @module Batches of a merge that become packs in one job: read, checked, cut, compressed and laid one behind another. */
import { Codec } from "../native/codec.ts";
import { Recode } from "../native/layout.ts";
import type { Lease, Memory } from "../native/memory.ts";
import type { DiskFile, RecodeOptions, RecodeRows } from "../platform/disk.ts";
import { lbBytes } from "../units.ts";
import { clearPackHeader, encodePackRecord, packHeaderBytes, packRecordsMax, sealPackHeader } from "./format.ts";
import { isWholeImage } from "./images.ts";
import { damagedImage, leaseBatch } from "./load.ts";
import type { MergePlan } from "./merge.ts";
import type { DiffSet } from "./set.ts";
import { countRecord, emptyStats } from "./stats.ts";
import { putPiece } from "./transfer.ts";
import { type DiffIo, type DiffStats, RecordKind } from "./types.ts";

/** One pack in the memory of its batch. */
export interface PackedPack {
  readonly offsetBytes: number;
  readonly sizeBytes: number;
  readonly records: number;
  readonly stats: DiffStats;
  readonly endLb: number;
}

/** The packs of one batch, one behind the other from the start of its memory. */
export interface PackedBatch {
  readonly lease: Lease;
  readonly packs: readonly PackedPack[];
}

/** How the pieces become records. */
export interface PackOptions extends Omit<RecodeOptions, "packRecords"> {
  /** Nothing is kept as it is stored. */
  readonly recompressAll: boolean;
}

/**
 * Makes packs of the pieces [from, to), which must be small in all (a batch) and transferable.
 * @throws WalbError `damaged` naming the file of a bad image.
 */
export async function packPieces(
  io: DiffIo,
  set: DiffSet,
  files: readonly DiskFile[],
  plan: MergePlan,
  from: number,
  to: number,
  options: PackOptions,
): Promise<PackedBatch> {
  const { records, pieces } = plan;
  const isKept = (piece: number): boolean => !options.recompressAll && isWholeImage(records, pieces, piece);
  let roomBytes = Math.ceil((to - from) / packRecordsMax) * packHeaderBytes;
  for (let i = from; i < to; i++) {
    const record = pieces.record[i]!;
    if (records.kind[record] !== RecordKind.normal) continue;
    roomBytes += isKept(i) ? records.storedBytes[record]! : pieces.blocksLb[i]! * lbBytes;
  }
  const lease = await leaseBatch(io, roomBytes);
  try {
    const fill = (rows: RecodeRows): void => {
      for (let i = from; i < to; i++) {
        if (records.kind[pieces.record[i]!] !== RecordKind.normal) rows.putEmpty();
        else putPiece(rows, records, pieces, i, isKept(i) ? Recode.keep : Recode.anew);
      }
    };
    const packs: PackedPack[] = [];
    let headerAt = 0;
    let header: Memory = lease;
    let dataBytes = 0;
    let stats = emptyStats();
    const how = { ...options, packRecords: packRecordsMax };
    const bad = await io.disk.recode?.(files, to - from, fill, lease, how, (row, bytes, codec, checksum, isZero) => {
      const index = row % packRecordsMax;
      if (index === 0) {
        header = lease.slice(headerAt, packHeaderBytes);
        clearPackHeader(header.bytes);
        dataBytes = 0;
        stats = emptyStats();
      }
      const piece = from + row;
      const addressLb = pieces.addressLb[piece]!;
      const blocksLb = pieces.blocksLb[piece]!;
      // The part that is left may be all zero though the whole was not.
      const kind = isZero ? RecordKind.allZero : (records.kind[pieces.record[piece]!]! as RecordKind);
      const isData = kind === RecordKind.normal;
      const used = isData ? codec : Codec.none;
      encodePackRecord(header.view, index, addressLb, blocksLb, kind, used, dataBytes, bytes, isData ? checksum : 0);
      dataBytes += bytes;
      countRecord(stats, kind, blocksLb);
      if (index < packRecordsMax - 1 && piece < to - 1) return;
      stats.dataBytes = dataBytes;
      sealPackHeader(header.bytes, header.view, index + 1, dataBytes, false, io.compute);
      const sizeBytes = packHeaderBytes + dataBytes;
      packs.push({ offsetBytes: headerAt, sizeBytes, records: index + 1, stats, endLb: addressLb + blocksLb });
      headerAt += sizeBytes;
    });
    if (bad !== undefined) throw damagedImage(set, pieces.record[from + bad.row]!, bad.code);
    return { lease, packs };
  } catch (error) {
    lease.release();
    throw error;
  }
}
