/** @module Keeps a block of a log for people to look at: one that is no valid header, or any that is asked for. */
import { WalbError } from "../errors.ts";
import { isEndBlock, isPackFault, tryDecodePackHeader } from "../log/pack.ts";
import { readRing } from "../log/reader.ts";
import type { MemoryPool } from "../native/memory.ts";
import type { StorageVolume } from "./volume.ts";

/** Name of the file; the original's. */
export const dumpFileName = (lsid: number): string => `logpackheader-${lsid}`;

/** What was written. */
export interface HeaderDump {
  readonly file: string;
  /** What is wrong with it as a header; undefined when nothing is. */
  readonly fault: string | undefined;
}

/** Writes the block at `lsid` of a volume's log, as it is on the device, durably. @throws WalbError `out-of-range`. */
export async function dumpLogHeader(volume: StorageVolume, lsid: number, pool: MemoryPool): Promise<HeaderDump> {
  const { device, platform, directory } = volume;
  const info = await device.info();
  const { lsids } = await device.status();
  if (lsid >= lsids.latest || lsid < lsids.latest - info.ringSizePb) {
    const held = `it holds those from ${Math.max(0, lsids.latest - info.ringSizePb)} to ${lsids.latest - 1}`;
    throw new WalbError("out-of-range", {
      what: `the log has no block ${lsid}: ${lsids.latest === 0 ? "nothing was written since it was reset" : held}`,
      where: { volume: volume.name, field: "lsid" },
      hint: `the oldest that is still needed is ${lsids.oldest}`,
    });
  }
  const file = await device.openLog();
  const lease = await pool.lease(info.pbsBytes);
  try {
    const block = lease.slice(0, info.pbsBytes);
    await readRing(file, info, lsid, block);
    const path = `${directory}/${dumpFileName(lsid)}`;
    await platform.disk.writeSmall(path, block.bytes);
    const { pbsBytes, salt } = info;
    const header = tryDecodePackHeader(block.bytes, { pbsBytes, salt, expectedLsid: lsid });
    if (!isPackFault(header)) return { file: path, fault: undefined };
    const what = isEndBlock(block.bytes) ? "an end block" : `${header.field} ${header.reason}`;
    return { file: path, fault: what };
  } finally {
    lease.release();
    await file.close();
  }
}
