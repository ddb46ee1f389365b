/** @module Counts of diff records, as tools and status show them. */
import type { RecordIndex } from "./record-index.ts";
import type { DiffStats } from "./types.ts";
import { RecordKind } from "./types.ts";

/** All counts zero. */
export function emptyStats(): DiffStats {
  return {
    files: 0,
    normalRecords: 0,
    zeroRecords: 0,
    discardRecords: 0,
    normalLb: 0,
    zeroLb: 0,
    discardLb: 0,
    dataBytes: 0,
  };
}

/** Adds the counts of `from` to `into`. */
export function addStats(into: DiffStats, from: DiffStats): void {
  into.files += from.files;
  into.normalRecords += from.normalRecords;
  into.zeroRecords += from.zeroRecords;
  into.discardRecords += from.discardRecords;
  into.normalLb += from.normalLb;
  into.zeroLb += from.zeroLb;
  into.discardLb += from.discardLb;
  into.dataBytes += from.dataBytes;
}

/** Counts one record; its stored bytes are added by the caller, who knows whether images are shared. */
export function countRecord(stats: DiffStats, kind: number, blocksLb: number): void {
  if (kind === RecordKind.normal) {
    stats.normalRecords++;
    stats.normalLb += blocksLb;
  } else if (kind === RecordKind.allZero) {
    stats.zeroRecords++;
    stats.zeroLb += blocksLb;
  } else {
    stats.discardRecords++;
    stats.discardLb += blocksLb;
  }
}

/** Counts the records [from, to) of an index, without data bytes. */
export function countRecords(records: RecordIndex, from: number, to: number): DiffStats {
  const stats = emptyStats();
  for (let i = from; i < to; i++) countRecord(stats, records.kind[i]!, records.blocksLb[i]!);
  return stats;
}

/** The one-line form of the original's tools. */
export function formatStats(stats: DiffStats): string {
  const { files, normalRecords, zeroRecords, discardRecords, normalLb, zeroLb, discardLb, dataBytes } = stats;
  return (
    `wdiffNr ${files}  nrN ${normalRecords} nrZ ${zeroRecords} nrD ${discardRecords}` +
    `  lbN ${normalLb} lbZ ${zeroLb} lbD ${discardLb}  dataSize ${dataBytes}`
  );
}
