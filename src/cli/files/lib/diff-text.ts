/** @module The raw fields of wdiff structures, and the original's text of them; scripts parse these lines. */
import { packRecordsMax } from "../../../diff/format.ts";
import type { DiffStats } from "../../../diff/types.ts";
import type { WalbError } from "../../../errors.ts";
import { codecNames } from "../../../native/codec.ts";
import { hex32 } from "./log-text.ts";

/** The file header. */
export interface RawDiffHeader {
  readonly checksum: number;
  readonly kind: "sorted" | "indexed";
  readonly uuid: string;
}

/** A record as it is stored. */
export interface RawRecord {
  readonly addressLb: bigint;
  readonly blocksLb: number;
  readonly isZero: boolean;
  readonly isDiscard: boolean;
  readonly codec: number;
  /** Sorted: in the data of its pack; indexed: in the file. */
  readonly dataOffset: bigint;
  readonly dataSize: number;
  readonly checksum: number;
  /** Of indexed diffs only. */
  readonly index?: { readonly origLb: number; readonly ioOffsetLb: number; readonly recordChecksum: number };
}

/** What is wrong with a record. */
export interface RecordFault {
  /** As the original tells it behind the record. */
  readonly text: string;
  readonly error: WalbError;
}

/** A pack header that cannot be trusted. */
export interface RawPack {
  readonly checksum: number;
  readonly recordCount: number;
  readonly dataBytes: number;
  readonly isEnd: boolean;
  readonly records: readonly RawRecord[];
}

/** A pack header's fields; its records up to what a header can hold. */
export function rawPack(view: DataView): RawPack {
  const recordCount = view.getUint16(4, true);
  const records: RawRecord[] = [];
  for (let i = 0; i < Math.min(recordCount, packRecordsMax); i++) {
    const at = 16 + 32 * i;
    const flags = view.getUint8(at + 12);
    records.push({
      addressLb: view.getBigUint64(at, true),
      blocksLb: view.getUint32(at + 8, true),
      isZero: (flags & 2) !== 0,
      isDiscard: (flags & 4) !== 0,
      codec: view.getUint8(at + 13),
      dataOffset: BigInt(view.getUint32(at + 16, true)),
      dataSize: view.getUint32(at + 20, true),
      checksum: view.getUint32(at + 24, true),
    });
  }
  const isEnd = (view.getUint8(6) & 1) !== 0;
  return { checksum: view.getUint32(0, true), recordCount, dataBytes: view.getUint32(8, true), isEnd, records };
}

/** An index record's fields, from its twelve words. */
export function rawIndexRecord(words: Uint32Array): RawRecord {
  const flags = words[3]! & 0xff;
  return {
    addressLb: (BigInt(words[1]!) << 32n) + BigInt(words[0]!),
    blocksLb: words[2]!,
    isZero: (flags & 2) !== 0,
    isDiscard: (flags & 4) !== 0,
    codec: (words[3]! >>> 8) & 0xff,
    dataOffset: (BigInt(words[5]!) << 32n) + BigInt(words[4]!),
    dataSize: words[6]!,
    checksum: words[10]!,
    index: { origLb: words[8]!, ioOffsetLb: words[7]!, recordChecksum: words[11]! },
  };
}

/** The original's text of a header. */
export function diffHeaderLines({ checksum, kind, uuid }: RawDiffHeader): string {
  return `wdiff_h:\n  checksum: ${hex32(checksum)}\n  version: 2\n  type: ${kind}\n  uuid: ${uuid}`;
}

/** The original's text of a record. */
export function diffRecordLine(record: RawRecord, fault?: RecordFault): string {
  const { addressLb, blocksLb, codec, dataOffset, dataSize, checksum, index } = record;
  const flags = `${record.isZero ? "Z" : "-"}${record.isDiscard ? "D" : "-"}`;
  const common = [addressLb, blocksLb, codecNames[codec] ?? `unknown(${codec})`, dataOffset, dataSize];
  const cells =
    index === undefined
      ? ["wdiff_sorted_rec:", ...common, hex32(checksum), flags]
      : [
          "wdiff_indexed_rec:",
          ...common,
          index.origLb,
          index.ioOffsetLb,
          hex32(checksum),
          hex32(index.recordChecksum),
          flags,
        ];
  return `${cells.join("\t")}${fault === undefined ? "" : ` ${fault.text}`}`;
}

/** The original's text of a pack that breaks the format. */
export function badPackLines(pack: RawPack): string {
  const records = pack.records.map(
    (record, i) => `record ${i}: ${diffRecordLine(record).replace("wdiff_sorted_rec:", "wdiff_rec:")}`,
  );
  return [
    `invalid pack: checksum: ${hex32(pack.checksum)}`,
    `n_records: ${pack.recordCount}`,
    `total_size: ${pack.dataBytes}`,
    `isEnd: ${pack.isEnd ? 1 : 0}`,
    ...records,
  ].join("\n");
}

/** The original's text of the counts. */
export function diffStatLines(stats: DiffStats): string {
  return [
    `wdiff_stat: wdiffNr ${stats.files}`,
    `wdiff_stat: normalNr ${stats.normalRecords}`,
    `wdiff_stat: allZeroNr ${stats.zeroRecords}`,
    `wdiff_stat: discardNr ${stats.discardRecords}`,
    `wdiff_stat: normalLb ${stats.normalLb}`,
    `wdiff_stat: allZeroLb ${stats.zeroLb}`,
    `wdiff_stat: discardLb ${stats.discardLb}`,
    `wdiff_stat: dataSize ${stats.dataBytes}`,
  ].join("\n");
}
