/**
 * @module The original's text of log structures: superblock, wlog header, packs, records, counts.
 *
 * Source: its show tools; scripts parse these lines, so every blank counts.
 */
import { ringOffsetPbOf } from "../../../log/geometry.ts";
import { wholeLsid } from "../../../log/lsid.ts";
import { type LogPackHeader, type LogRecord, recordDataPb } from "../../../log/pack.ts";
import { encodeSuperblock, type Superblock } from "../../../log/superblock.ts";
import { u64Max } from "../../../units.ts";

/** What is open-ended is shown as 2^64 − 1. */
export function lsidText(lsid: bigint | undefined): string {
  return lsid === undefined ? String(u64Max) : String(lsid);
}

/** Eight hex digits. */
export function hex32(value: number): string {
  return value.toString(16).padStart(8, "0");
}

/** `wlog_h:` line, of a wlog or of a range of a log device. */
export function wlogHeaderLine(header: {
  readonly pbsBytes: number;
  readonly salt: number;
  readonly uuid: string;
  readonly beginLsid: number;
  readonly endLsid: bigint | undefined;
  readonly lsidBase?: bigint;
}): string {
  const { pbsBytes, salt, uuid, endLsid } = header;
  const beginLsid = wholeLsid(header.beginLsid, header.lsidBase);
  const pbs = String(pbsBytes).padStart(4);
  return `wlog_h: ver   2 pbs ${pbs} salt ${hex32(salt)} uuid ${uuid} lsid ${beginLsid} ${lsidText(endLsid)}`;
}

/** `wlog_p:` line. @param checksum the header's checksum field. */
export function packLine(header: LogPackHeader, checksum: number, lsidBase = 0n): string {
  const padding = header.records.filter((record) => record.kind === "padding").length;
  return (
    `wlog_p: lsid ${String(wholeLsid(header.lsid, lsidBase)).padStart(10)} total ${String(header.totalDataPb).padStart(4)}` +
    ` n_rec ${String(header.records.length).padStart(2)} n_pad ${String(padding).padStart(2)} csum ${hex32(checksum)}`
  );
}

/** `wlog_r:` line. */
export function recordLine(header: LogPackHeader, record: LogRecord, lsidBase = 0n): string {
  const flags = `E${record.kind === "padding" ? "P" : "-"}${record.kind === "discard" ? "D" : "-"}`;
  return (
    `wlog_r: lsid ${String(wholeLsid(record.lsid, lsidBase)).padStart(10)} ${String(record.lsid - header.lsid).padStart(4)}` +
    ` io ${String(record.offsetLb).padStart(10)} ${String(record.sizeLb).padStart(4)} flags ${flags}` +
    ` csum ${hex32(record.checksum)}`
  );
}

/** The pack's line and those of its records. */
export function packLines(header: LogPackHeader, checksum: number, lsidBase = 0n): string {
  const records = header.records.map((record) => recordLine(header, record, lsidBase));
  return [packLine(header, checksum, lsidBase), ...records].join("\n");
}

/** A pack with whole lsids, for JSON. */
export function packValue(header: LogPackHeader, lsidBase: bigint): object {
  if (lsidBase === 0n) return header;
  const records = header.records.map((record) => ({ ...record, lsid: wholeLsid(record.lsid, lsidBase) }));
  return { ...header, lsid: wholeLsid(header.lsid, lsidBase), records };
}

/** Counts of a log. */
export interface LogCounts {
  beginLsid: bigint;
  /** As asked for, or as the header says; undefined: open. */
  endLsid: bigint | undefined;
  reallyEndLsid: bigint;
  packs: number;
  records: number;
  normalLb: number;
  discardLb: number;
  paddingPb: number;
}

/** No packs yet. */
export function emptyLogCounts(beginLsid: bigint, endLsid: bigint | undefined): LogCounts {
  const none = { packs: 0, records: 0, normalLb: 0, discardLb: 0, paddingPb: 0 };
  return { beginLsid, endLsid, reallyEndLsid: beginLsid, ...none };
}

/** Counts one pack. */
export function countPack(counts: LogCounts, header: LogPackHeader, pbsBytes: number, lsidBase = 0n): void {
  counts.packs += 1;
  counts.records += header.records.length;
  counts.reallyEndLsid = wholeLsid(header.lsid + 1 + header.totalDataPb, lsidBase);
  for (const record of header.records) {
    if (record.kind === "data") counts.normalLb += record.sizeLb;
    else if (record.kind === "discard") counts.discardLb += record.sizeLb;
    else counts.paddingPb += recordDataPb(record, pbsBytes);
  }
}

/** The seven lines of counts. */
export function logCountLines(counts: LogCounts): string {
  return [
    `bgnLsid ${counts.beginLsid}`,
    `endLsid ${lsidText(counts.endLsid)}`,
    `reallyEndLsid ${counts.reallyEndLsid}`,
    `nrPacks ${counts.packs}`,
    `normalLb ${counts.normalLb}`,
    `discardLb ${counts.discardLb}`,
    `paddingPb ${counts.paddingPb}`,
  ].join("\n");
}

/** The fields of a superblock, by the original's names, in its order. */
export function superblockFields(superblock: Superblock): Record<string, string | number | bigint> {
  // A superblock that was read has passed its checksum, so encoding it again gives the one on disk.
  const block = encodeSuperblock(superblock);
  const checksum = new DataView(block.buffer, block.byteOffset, block.byteLength).getUint32(4, true);
  return {
    sectorType: 1,
    version: 2,
    checksum,
    lbs: 512,
    pbs: superblock.pbsBytes,
    metadataSize: superblock.metadataSizePb,
    salt: superblock.salt,
    name: superblock.name,
    ringBufferSize: superblock.ringSizePb,
    oldestLsid: wholeLsid(superblock.oldestLsid, superblock.lsidBase),
    writtenLsid: wholeLsid(superblock.writtenLsid, superblock.lsidBase),
    deviceSize: superblock.deviceSizeLb,
    ringBufferOffset: ringOffsetPbOf(superblock.pbsBytes, superblock.metadataSizePb),
    uuid: superblock.uuid,
  };
}

/** One `key: value` line a field. */
export function superblockLines(superblock: Superblock): string {
  return Object.entries(superblockFields(superblock))
    .map(([key, value]) => `${key}: ${value}`)
    .join("\n");
}
