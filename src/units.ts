/**
 * @module Sizes and 64-bit numbers: logical blocks, safe integers, bigint edges.
 *
 * u64 values are bigint at the edges (disk, wire) and checked safe integers inside; nothing is ever rounded.
 */
import { WalbError } from "./errors.ts";

/** Bytes of a logical block (LB), the unit of addresses in logs and diffs. */
export const lbBytes = 512;
export const kib = 1024;
export const mib = 1024 * 1024;
export const gib = 1024 * 1024 * 1024;
/** 2^64 − 1: "unset" or "invalid" for gids and lsids on disk and on the wire. */
export const u64Max = 0xffff_ffff_ffff_ffffn;

/** A u64 as a safe integer. @throws WalbError `out-of-range` above 2^53 − 1, naming `field`. */
export function safeNumber(value: bigint, field: string): number {
  if (value < 0n || value > BigInt(Number.MAX_SAFE_INTEGER)) {
    throw new WalbError("out-of-range", { what: `${field} is ${value}, beyond what can be handled`, where: { field } });
  }
  return Number(value);
}

/** Checks that a number is a whole number in [min, max]. @throws WalbError `out-of-range` naming `field`. */
export function checkRange(value: number, min: number, max: number, field: string): number {
  if (!Number.isSafeInteger(value) || value < min || value > max) {
    throw new WalbError("out-of-range", {
      what: `${field} is ${value}, but must be a whole number from ${min} to ${max}`,
      where: { field },
    });
  }
  return value;
}

/** Reads a little-endian u64 as a safe integer. @throws WalbError `out-of-range` naming `field`. */
export function readU64(view: DataView, offset: number, field: string): number {
  const high = view.getUint32(offset + 4, true);
  if (high >= 0x20_0000) {
    throw new WalbError("out-of-range", {
      what: `${field} is ${view.getBigUint64(offset, true)}, beyond what can be handled`,
      where: { field },
    });
  }
  return high * 0x1_0000_0000 + view.getUint32(offset, true);
}

/** Writes a safe integer as a little-endian u64. */
export function writeU64(view: DataView, offset: number, value: number): void {
  checkRange(value, 0, Number.MAX_SAFE_INTEGER, "u64");
  view.setUint32(offset, value % 0x1_0000_0000, true);
  view.setUint32(offset + 4, Math.floor(value / 0x1_0000_0000), true);
}

/** Smallest multiple of `unit` that is ≥ `value`; exact for all safe integers. */
export function alignUp(value: number, unit: number): number {
  const rest = value % unit;
  return rest === 0 ? value : value + (unit - rest);
}

/** Largest multiple of `unit` that is ≤ `value`. */
export function alignDown(value: number, unit: number): number {
  return value - (value % unit);
}
