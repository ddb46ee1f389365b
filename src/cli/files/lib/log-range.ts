/** @module An opened log device, ranges of its lsids, and where packs lie that no other leads to. */
import { WalbError } from "../../../errors.ts";
import { readAnySuperblock } from "../../../log/format.ts";
import { lsidOffsetBytes, maxPackDataPb } from "../../../log/geometry.ts";
import { innerLsid, wholeLsid } from "../../../log/lsid.ts";
import { isPackFault, nextPackLsid, packFaultError } from "../../../log/pack.ts";
import { LogDeviceReader } from "../../../log/reader.ts";
import { geometryOf, type Superblock } from "../../../log/superblock.ts";
import type { DiskFile } from "../../../platform/disk.ts";
import { u64Max } from "../../../units.ts";
import type { Tool } from "./tool.ts";

/** An opened log device. */
export interface LogDevice {
  readonly file: DiskFile;
  readonly superblock: Superblock;
}

/** Reads the superblock. @throws WalbError `bad-format`, `damaged`. */
export async function openLogDevice(tool: Tool, file: DiskFile): Promise<LogDevice> {
  return { file, superblock: await readAnySuperblock(file, tool.platform.memory) };
}

/** A range of lsids; what is missing is the log's own: from `oldest`, to its end. */
export interface LsidRange {
  readonly fromLsid?: bigint;
  readonly toLsid?: bigint;
}

/** The lsid as it is told: whole. */
export function toldLsid(device: LogDevice, lsid: number): bigint {
  return wholeLsid(lsid, device.superblock.lsidBase);
}

/** Where to begin and where to stop at the latest. @throws WalbError `usage` for an impossible range. */
export function rangeOf(device: LogDevice, range: LsidRange): { fromLsid: number; limitLsid: number } {
  const { oldestLsid, ringSizePb, lsidBase } = device.superblock;
  const fromLsid = Math.max(innerLsid(range.fromLsid ?? 0n, lsidBase), oldestLsid);
  const limitLsid = Math.min(innerLsid(range.toLsid ?? u64Max, lsidBase), oldestLsid + ringSizePb);
  if (fromLsid > limitLsid) {
    const what = `there is no log from lsid ${toldLsid(device, fromLsid)} to ${toldLsid(device, limitLsid)}`;
    throw new WalbError("usage", { what, where: { file: device.file.path, field: "lsid" } });
  }
  return { fromLsid, limitLsid };
}

/** Byte offset of an lsid, for messages. */
export function placeOf(device: LogDevice, lsid: number): { file: string; offsetBytes: number } {
  return { file: device.file.path, offsetBytes: lsidOffsetBytes(geometryOf(device.superblock), lsid) };
}

/** Reads its packs. */
export function readerOf(tool: Tool, { file, superblock }: LogDevice): LogDeviceReader {
  const { memory: pool, compute } = tool.platform;
  return new LogDeviceReader({ file, ring: geometryOf(superblock), pool, compute });
}

/** A pack reaches no further. */
export const packReachPb = 1 + maxPackDataPb;

/**
 * The next good pack behind the end of a log, where one pack may have lain between: a crash leaves some, but a damaged
 * block cuts them off, too.
 */
export async function strayBehind(tool: Tool, device: LogDevice, endLsid: number): Promise<bigint | undefined> {
  const { oldestLsid, ringSizePb } = device.superblock;
  const limitLsid = Math.min(endLsid + packReachPb + 1, oldestLsid + ringSizePb);
  if (endLsid + 1 >= limitLsid) return undefined;
  const stray = await readerOf(tool, device).search(endLsid + 1, limitLsid);
  return stray === undefined ? undefined : toldLsid(device, stray.lsid);
}

/** What is to be said of a good pack behind the end of a log. */
export function strayRemark(path: string, endLsid: bigint, strayLsid: bigint): string {
  return (
    `the log ends at lsid ${endLsid}, but behind it is a good pack at ${strayLsid}: a crash leaves such packs, and so` +
    ` does damage at ${endLsid} (walb log-device search ${path} --from ${endLsid} --to ${strayLsid + 1n} tells which block)`
  );
}

/**
 * Checks that a log can be read from an lsid on: that it is the begin of a pack, or the end of the log.
 * @throws WalbError `usage` naming the packs around it; `damaged` when those before it cannot be followed.
 */
export async function checkBoundary(tool: Tool, device: LogDevice, fromLsid: number): Promise<void> {
  const { oldestLsid, writtenLsid, ringSizePb } = device.superblock;
  if (fromLsid === oldestLsid || fromLsid === writtenLsid) return;
  const reader = readerOf(tool, device);
  if (!isPackFault(await reader.headerAt(fromLsid))) return;
  let lastLsid: number | undefined;
  let lsid = oldestLsid;
  for (;;) {
    if (tool.signal.aborted) throw new WalbError("cancelled", { what: "reading the log was cancelled" });
    const header = lsid < oldestLsid + ringSizePb ? await reader.headerAt(lsid) : undefined;
    if (header === undefined || isPackFault(header) || header.records.length === 0) {
      if (header !== undefined && lsid < writtenLsid) {
        const fault = isPackFault(header) ? header : { field: "n_records", reason: "is 0" };
        throw packFaultError(fault, toldLsid(device, lsid), placeOf(device, lsid));
      }
      if (lsid === fromLsid) return;
      break;
    }
    const nextLsid = nextPackLsid(header);
    if (nextLsid > fromLsid) {
      // What is at `fromLsid` was looked at already: a pack that begins there is damaged, and told so by who reads it.
      if (lsid === fromLsid) return;
      throw noBoundary(
        device,
        fromLsid,
        `it lies in the pack from ${toldLsid(device, lsid)} to ${toldLsid(device, nextLsid)}`,
        [lsid, nextLsid],
      );
    }
    lastLsid = lsid;
    lsid = nextLsid;
  }
  const near = lastLsid === undefined ? [lsid] : [lastLsid, lsid];
  throw noBoundary(device, fromLsid, `the log ends at ${toldLsid(device, lsid)}`, near);
}

function noBoundary(device: LogDevice, lsid: number, why: string, near: readonly number[]): WalbError {
  return new WalbError("usage", {
    what: `no pack begins at lsid ${toldLsid(device, lsid)}: ${why}`,
    where: { file: device.file.path, field: "lsid" },
    hint: `begin at ${near.map((one) => toldLsid(device, one)).join(" or at ")}`,
  });
}
