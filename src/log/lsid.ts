/**
 * @module Lsids beyond what a number holds exactly. A log that begins there is counted from its begin, or from where its
 * ring began anew: lsids inside are checked safe integers, to which the base is added wherever they are read, written or
 * told.
 */
import { u64Max } from "../units.ts";

/** A log that begins below this is counted from 0; what it can hold stays far below 2^53. */
const plainLsidMax = 2n ** 52n;

/** What is added to the lsids of a log that begins at `beginLsid`: 0 for all logs of real devices. */
export function lsidBaseOf(beginLsid: bigint): bigint {
  return beginLsid < plainLsidMax ? 0n : beginLsid;
}

/**
 * What is added to the lsids of a log device whose log begins at `oldestLsid`: 0 for all real ones. A multiple of the
 * ring, so that the place of an lsid is found from its inner number.
 */
export function ringLsidBaseOf(oldestLsid: bigint, ringSizePb: number): bigint {
  return oldestLsid < plainLsidMax ? 0n : oldestLsid - (oldestLsid % BigInt(ringSizePb));
}

/** The whole lsid. */
export function wholeLsid(lsid: number, base = 0n): bigint {
  return base + BigInt(lsid);
}

/** A whole lsid counted from a base; what lies outside of the safe integers becomes the nearest of them. */
export function innerLsid(lsid: bigint, base = 0n): number {
  const inner = lsid - base;
  const max = BigInt(Number.MAX_SAFE_INTEGER);
  return Number(inner > max ? max : inner < -max ? -max : inner);
}

/** The lsid in a field of 64 bits counted from a base; undefined when it is none of a log with that base. */
export function readLsid(view: DataView, offset: number, base: bigint): number | undefined {
  const high = view.getUint32(offset + 4, true);
  const low = view.getUint32(offset, true);
  if (base === 0n) return high >= 0x20_0000 ? undefined : high * 0x1_0000_0000 + low;
  const inner = view.getBigUint64(offset, true) - base;
  return inner < 0n || inner > BigInt(Number.MAX_SAFE_INTEGER) ? undefined : Number(inner);
}

/** True when lsids up to `lsid` have a place in 64 bits: 2^64 − 1 stands for none. */
export function isLsid(lsid: bigint): boolean {
  return lsid >= 0n && lsid < u64Max;
}
