/**
 * @module Where things are in a log store: superblocks, ring, and the place of an lsid.
 *
 * Source: `docs/formats.md`, log device map. PB = physical block (512 or 4096 bytes), LB = 512 bytes.
 */
import { WalbError } from "../errors.ts";
import { lbBytes } from "../units.ts";

/** Byte offset of superblock 0, whatever the PB is. */
export const superblockOffsetBytes = 4096;
/** Largest `total_io_size` of a pack. */
export const maxPackDataPb = 65535;
/** Largest I/O of a normal record. */
export const maxRecordLb = 65535;
/** Largest discard record. */
export const maxDiscardLb = 0xffff_ffff;

/** What is needed to find and check packs in a ring. */
export interface RingGeometry {
  readonly pbsBytes: number;
  /** Capacity of the ring, PB. */
  readonly ringSizePb: number;
  /** First PB of the ring in the log store. */
  readonly ringOffsetPb: number;
  /** Salt of pack and data checksums. */
  readonly salt: number;
  /** What the lsids are counted from, a multiple of the ring; default 0. */
  readonly lsidBase?: bigint;
}

/** Records that fit into one header: 15 for PB 512, 127 for PB 4096. */
export function maxRecordsPerPack(pbsBytes: number): number {
  return Math.floor((pbsBytes - 24) / 32);
}

/** PB that hold `sizeLb` logical blocks. */
export function ceilPb(sizeLb: number, pbsBytes: number): number {
  const lbPerPb = pbsBytes / lbBytes;
  return Math.floor((sizeLb + lbPerPb - 1) / lbPerPb);
}

/** First PB of the ring. */
export function ringOffsetPbOf(pbsBytes: number, metadataSizePb: number): number {
  return superblockOffsetBytes / pbsBytes + 2 + metadataSizePb;
}

/** Byte offset of superblock 1 (written at format, never read). */
export function superblock1OffsetBytes(pbsBytes: number, metadataSizePb: number): number {
  return superblockOffsetBytes + (1 + metadataSizePb) * pbsBytes;
}

/** Ring capacity of a log store. @throws WalbError `bad-parameter` when the store is too small to hold a ring. */
export function ringSizePbOf(logStoreBytes: number, pbsBytes: number): number {
  const ringSizePb = Math.floor(logStoreBytes / pbsBytes) - ringOffsetPbOf(pbsBytes, 0);
  if (ringSizePb < 16) {
    throw new WalbError("bad-parameter", {
      what: `a log store of ${logStoreBytes} bytes is too small for a log with ${pbsBytes}-byte blocks`,
      hint: "use a log store of at least 64 MiB",
    });
  }
  return ringSizePb;
}

/** Byte offset in the log store of an lsid. */
export function lsidOffsetBytes(ring: RingGeometry, lsid: number): number {
  return (ring.ringOffsetPb + (lsid % ring.ringSizePb)) * ring.pbsBytes;
}

/** PB from an lsid to the ring end. */
export function pbToRingEnd(ring: RingGeometry, lsid: number): number {
  return ring.ringSizePb - (lsid % ring.ringSizePb);
}

/** True for the PB sizes this program handles: superblock and ring must start on a block. */
export function isUsablePbs(pbsBytes: number): boolean {
  return pbsBytes === 512 || pbsBytes === 1024 || pbsBytes === 2048 || pbsBytes === 4096;
}
