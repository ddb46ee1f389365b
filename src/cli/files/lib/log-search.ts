/** @module Looking for packs in a damaged log device: block by block, where no pack says where the next one is. */
import { WalbError } from "../../../errors.ts";
import {
  isPackFault,
  nextPackLsid,
  type PackFault,
  recordDataPb,
  sectorTypePack,
  tryDecodePackHeader,
} from "../../../log/pack.ts";
import { readRing } from "../../../log/reader.ts";
import { geometryOf } from "../../../log/superblock.ts";
import type { Memory } from "../../../native/memory.ts";
import { lbBytes, mib } from "../../../units.ts";
import { type LogDevice, type LsidRange, rangeOf, readerOf, toldLsid } from "./log-range.ts";
import type { Tool } from "./tool.ts";

/** A block that says to be the header of a pack. */
export interface FoundHeader {
  /** Address of the block on the device, in physical blocks. */
  readonly addressPb: number;
  readonly lsid: bigint;
  readonly isValid: boolean;
}

/** Tells every block of the ring that says to be the header of one of the lsids. */
export async function findHeaders(
  tool: Tool,
  device: LogDevice,
  lsids: ReadonlySet<bigint>,
  onFound: (found: FoundHeader) => void,
): Promise<void> {
  const { file, superblock } = device;
  const { pbsBytes, salt } = superblock;
  const ring = geometryOf(superblock);
  const lease = await tool.platform.memory.lease(mib);
  try {
    const stepPb = mib / pbsBytes;
    for (let startPb = 0; startPb < ring.ringSizePb; startPb += stepPb) {
      if (tool.signal.aborted) throw new WalbError("cancelled", { what: "searching the log was cancelled" });
      const chunk = lease.slice(0, Math.min(stepPb, ring.ringSizePb - startPb) * pbsBytes);
      const addressPb = ring.ringOffsetPb + startPb;
      await file.read(addressPb * pbsBytes, chunk);
      for (let at = 0; at < chunk.sizeBytes; at += pbsBytes) {
        if (chunk.view.getUint16(at + 4, true) !== sectorTypePack) continue;
        const lsid = chunk.view.getBigUint64(at + 8, true);
        if (!lsids.has(lsid)) continue;
        const header = tryDecodePackHeader(chunk.bytes.subarray(at, at + pbsBytes), { pbsBytes, salt, lsidBase: lsid });
        onFound({ addressPb: addressPb + at / pbsBytes, lsid, isValid: !isPackFault(header) });
      }
      tool.progress((startPb + stepPb) * pbsBytes, ring.ringSizePb * pbsBytes);
    }
  } finally {
    lease.release();
  }
}

/** Something bad in a log. */
export type LogDamage =
  | {
      readonly kind: "header";
      readonly lsid: bigint;
      /** lsid of the next good pack, or where the range ends. */
      readonly nextLsid: bigint;
      readonly fault: PackFault;
    }
  | { readonly kind: "data"; readonly lsid: bigint; readonly recordIndex: number; readonly recordLsid: bigint };

/** What a search went through. */
export interface LogSearch {
  readonly fromLsid: bigint;
  readonly limitLsid: bigint;
  readonly packs: number;
  readonly damaged: number;
}

/**
 * Goes through a log from `oldest` to `written`, or through a part of it, and on behind everything that is damaged.
 * @param range its begin must be a pack boundary, or a damaged pack is told there.
 */
export async function searchDamage(
  tool: Tool,
  device: LogDevice,
  range: LsidRange,
  onDamage: (damage: LogDamage) => void,
): Promise<LogSearch> {
  const { memory: pool, compute } = tool.platform;
  const { writtenLsid } = device.superblock;
  const { fromLsid, limitLsid } = rangeOf(device, { toLsid: toldLsid(device, writtenLsid), ...range });
  const ring = geometryOf(device.superblock);
  const reader = readerOf(tool, device);
  let packs = 0;
  let damaged = 0;
  const tell = (damage: LogDamage): void => {
    damaged += 1;
    onDamage(damage);
  };
  for (let lsid = fromLsid; lsid < limitLsid; ) {
    if (tool.signal.aborted) throw new WalbError("cancelled", { what: "searching the log was cancelled" });
    tool.progress((lsid - fromLsid) * ring.pbsBytes, (limitLsid - fromLsid) * ring.pbsBytes);
    const header = await reader.headerAt(lsid);
    if (isPackFault(header) || header.records.length === 0 || nextPackLsid(header) > limitLsid) {
      const fault = isPackFault(header) ? header : faultOf(header.records.length);
      const nextLsid = (await reader.search(lsid + 1, limitLsid))?.lsid ?? limitLsid;
      tell({ kind: "header", lsid: toldLsid(device, lsid), nextLsid: toldLsid(device, nextLsid), fault });
      lsid = nextLsid;
      continue;
    }
    packs += 1;
    for (const [recordIndex, record] of header.records.entries()) {
      if (record.kind !== "data") continue;
      const sizeBytes = recordDataPb(record, ring.pbsBytes) * ring.pbsBytes;
      const lease = await pool.lease(sizeBytes);
      try {
        const data = lease.slice(0, sizeBytes);
        await readRing(device.file, ring, record.lsid, data);
        const [isGood] = await compute.verify([
          { source: data.slice(0, record.sizeLb * lbBytes), salt: ring.salt, checksum: record.checksum },
        ]);
        if (isGood === 0) {
          const recordLsid = toldLsid(device, record.lsid);
          tell({ kind: "data", lsid: toldLsid(device, lsid), recordIndex, recordLsid });
        }
      } finally {
        lease.release();
      }
    }
    lsid = nextPackLsid(header);
  }
  return { fromLsid: toldLsid(device, fromLsid), limitLsid: toldLsid(device, limitLsid), packs, damaged };
}

function faultOf(recordCount: number): PackFault {
  return recordCount === 0
    ? { field: "n_records", reason: "is 0" }
    : { field: "total_io_size", reason: "reaches beyond the end of the log" };
}

/** One line about damage. */
export function damageText(damage: LogDamage): string {
  if (damage.kind === "data") {
    return `lsid ${damage.lsid}: the data of record ${damage.recordIndex} at lsid ${damage.recordLsid} is damaged`;
  }
  const { lsid, nextLsid, fault } = damage;
  return `lsid ${lsid}: no pack: ${fault.field} ${fault.reason}; the next good one is at ${nextLsid}`;
}

/** Writes the raw blocks of a range of lsids. @returns bytes written. */
export async function dumpLog(
  tool: Tool,
  device: LogDevice,
  range: { readonly fromLsid: bigint; readonly toLsid: bigint },
  write: (blocks: Memory) => Promise<void>,
): Promise<number> {
  const { ringSizePb, pbsBytes } = device.superblock;
  const count = range.toLsid - range.fromLsid;
  if (count <= 0n || count > BigInt(ringSizePb)) {
    const what = `lsid ${range.fromLsid} to ${range.toLsid} is no part of a ring of ${ringSizePb} blocks`;
    throw new WalbError("usage", { what, where: { file: device.file.path, field: "lsid" } });
  }
  const ring = geometryOf(device.superblock);
  // Places repeat with the ring.
  const from = Number(range.fromLsid % BigInt(ringSizePb));
  const to = from + Number(count);
  const lease = await tool.platform.memory.lease(mib);
  try {
    for (let lsid = from; lsid < to; lsid += mib / pbsBytes) {
      if (tool.signal.aborted) throw new WalbError("cancelled", { what: "reading the log was cancelled" });
      const chunk = lease.slice(0, Math.min(mib, (to - lsid) * pbsBytes));
      await readRing(device.file, ring, lsid, chunk);
      await write(chunk);
      tool.progress((lsid - from) * pbsBytes, (to - from) * pbsBytes);
    }
  } finally {
    lease.release();
  }
  return (to - from) * pbsBytes;
}
