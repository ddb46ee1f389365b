/**
 * @module Wlogs in a file as an index over it: what each record writes and where its data lies in the file. The data is
 * left there, so that only what no later record replaces is read again, in the order of the volume.
 */
import { SourceFiles } from "../../../diff/files.ts";
import type { RecordIndex } from "../../../diff/record-index.ts";
import { DiffSet } from "../../../diff/set.ts";
import { emptyStats } from "../../../diff/stats.ts";
import { DiffFileKind, RecordKind } from "../../../diff/types.ts";
import type { LogRecord } from "../../../log/pack.ts";
import { uuidBytes } from "../../../log/superblock.ts";
import { Codec } from "../../../native/codec.ts";
import type { Disk } from "../../../platform/disk.ts";
import { lbBytes } from "../../../units.ts";

/** Where a wlog lies in its file. */
export interface WlogPlace {
  readonly beginLsid: number;
  /** File offset of the pack at `beginLsid`. */
  readonly startBytes: number;
  readonly pbsBytes: number;
}

/** Appends the first `sizeLb` blocks of a verified record that is not padding. */
export function indexRecord(records: RecordIndex, place: WlogPlace, record: LogRecord, sizeLb = record.sizeLb): void {
  const { offsetLb, kind, lsid } = record;
  if (sizeLb === 0) return;
  if (kind !== "data") {
    records.push(offsetLb, sizeLb, RecordKind.discard, Codec.none, 0, 0, 0, 0, 0, 0);
    return;
  }
  const dataOffset = place.startBytes + (lsid - place.beginLsid) * place.pbsBytes;
  records.push(offsetLb, sizeLb, RecordKind.normal, Codec.none, 0, dataOffset, sizeLb * lbBytes, sizeLb, 0, 0);
}

/**
 * The file as the only source of a diff set, its images raw and without checksums of their own: what works on it must
 * be told that the data is verified. Must be closed.
 */
export function logAsSet(disk: Disk, path: string, uuid: string, records: RecordIndex): DiffSet {
  const source = {
    path,
    kind: DiffFileKind.indexed,
    uuid: uuidBytes(uuid),
    fileBytes: Number.MAX_SAFE_INTEGER,
    firstRecord: 0,
    endRecord: records.count,
  };
  return new DiffSet([source], records, emptyStats(), new SourceFiles(disk, [path], 1));
}
