/** @module Reading log devices: their packs shown, checked, and extracted as a wlog. */

import { WalbError } from "../../../errors.ts";
import type { PackBatch, PackPart } from "../../../log/batch.ts";
import { readSuperblock } from "../../../log/format.ts";
import { lsidOffsetBytes } from "../../../log/geometry.ts";
import { innerLsid } from "../../../log/lsid.ts";
import {
  encodePackHeader,
  isPackFault,
  type LogPackHeader,
  nextPackLsid,
  type PackFault,
  tryDecodePackHeader,
} from "../../../log/pack.ts";
import { LogDeviceReader, readRing, ringSource } from "../../../log/reader.ts";
import { planRedoEnd } from "../../../log/redo.ts";
import { type ScanStop, scanPacks, scanStopError } from "../../../log/scan.ts";
import { geometryOf, type Superblock } from "../../../log/superblock.ts";
import { type WlogOutput, WlogWriter } from "../../../log/wlogfile.ts";
import type { Memory } from "../../../native/memory.ts";
import type { DiskFile } from "../../../platform/disk.ts";
import { u64Max } from "../../../units.ts";
import { countPack, emptyLogCounts, type LogCounts } from "./log-text.ts";
import type { Tool } from "./tool.ts";

const chunkBytes = 1024 * 1024;

/** An opened log device. */
export interface LogDevice {
  readonly file: DiskFile;
  readonly superblock: Superblock;
}

/** Reads the superblock. @throws WalbError `bad-format`, `damaged`. */
export async function openLogDevice(tool: Tool, file: DiskFile): Promise<LogDevice> {
  return { file, superblock: await readSuperblock(file, tool.platform.memory) };
}

/** A range of lsids; what is missing is the log's own: from `oldest`, to its end. */
export interface LsidRange {
  readonly fromLsid?: bigint;
  readonly toLsid?: bigint;
}

/** Where to begin and where to stop at the latest. @throws WalbError `usage` for an impossible range. */
export function rangeOf(device: LogDevice, range: LsidRange): { fromLsid: number; limitLsid: number } {
  const { oldestLsid, ringSizePb } = device.superblock;
  const fromLsid = Math.max(innerLsid(range.fromLsid ?? 0n), oldestLsid);
  const limitLsid = Math.min(innerLsid(range.toLsid ?? u64Max), oldestLsid + ringSizePb);
  if (fromLsid > limitLsid) {
    const what = `there is no log from lsid ${fromLsid} to ${limitLsid}`;
    throw new WalbError("usage", { what, where: { file: device.file.path, field: "lsid" } });
  }
  return { fromLsid, limitLsid };
}

/**
 * Tells the packs of a log device, without their data, up to the first block that is no pack.
 * @returns counts, and why it ended; below `written` that is damage, which the caller may throw.
 */
export async function showLogDevice(
  tool: Tool,
  device: LogDevice,
  range: LsidRange,
  onPack: (header: LogPackHeader, checksum: number) => void,
): Promise<{ counts: LogCounts; fault: PackFault | undefined }> {
  const { file, superblock } = device;
  const { pbsBytes, salt } = superblock;
  const ring = geometryOf(superblock);
  const { fromLsid, limitLsid } = rangeOf(device, range);
  const counts = emptyLogCounts(BigInt(fromLsid), range.toLsid);
  const lease = await tool.platform.memory.lease(pbsBytes);
  try {
    for (let lsid = fromLsid; lsid < limitLsid; ) {
      if (tool.signal.aborted) throw new WalbError("cancelled", { what: "reading the log was cancelled" });
      const block = lease.slice(0, pbsBytes);
      await readRing(file, ring, lsid, block);
      const header = tryDecodePackHeader(block.bytes, { pbsBytes, salt, expectedLsid: lsid });
      if (isPackFault(header)) return { counts, fault: header };
      if (header.records.length === 0) return { counts, fault: { field: "n_records", reason: "is 0" } };
      countPack(counts, header, pbsBytes);
      onPack(header, block.view.getUint32(0, true));
      lsid = nextPackLsid(header);
      tool.progress((lsid - fromLsid) * pbsBytes);
    }
    return { counts, fault: undefined };
  } finally {
    lease.release();
  }
}

/** What a check of a log device found, when it found no damage. */
export interface LogCheck {
  readonly oldestLsid: number;
  readonly writtenLsid: number;
  /** End of the last whole pack. */
  readonly endLsid: number;
  readonly packs: number;
  /** The last pack was not written whole: normal after a crash, redo cuts it. */
  readonly isTorn: boolean;
  /** A pack that lies behind the end: what a crash may leave; redo clears it. */
  readonly strayLsid: number | undefined;
}

/**
 * Reads all packs with their data. Below `written` all must be good; behind it the log may end anywhere.
 * @throws WalbError `damaged` naming lsid, file, offset and field.
 */
export async function checkLogDevice(
  tool: Tool,
  device: LogDevice,
  onPack?: (header: LogPackHeader) => void,
): Promise<LogCheck> {
  const { superblock, file } = device;
  const { oldestLsid, writtenLsid, ringSizePb } = superblock;
  let packs = 0;
  const stop = await scan(tool, device, oldestLsid, oldestLsid + ringSizePb, (batch) => {
    for (const part of batch.parts) {
      if (!part.isLast) continue;
      packs += 1;
      onPack?.(part.header);
    }
    tool.progress((batch.endLsid - oldestLsid) * superblock.pbsBytes);
    return Promise.resolve();
  });
  if (stop.lsid < writtenLsid) throw scanStopError(stop, ringSource(file, geometryOf(superblock)));
  const { memory, compute } = tool.platform;
  const reader = new LogDeviceReader({ file, ring: geometryOf(superblock), pool: memory, compute });
  const limitLsid = Math.min(stop.lsid + 65536, oldestLsid + ringSizePb);
  const stray = stop.lsid + 1 < limitLsid ? await reader.search(stop.lsid + 1, limitLsid) : undefined;
  return {
    oldestLsid,
    writtenLsid,
    endLsid: stop.lsid,
    packs,
    isTorn: stop.kind === "data",
    strayLsid: stray?.lsid,
  };
}

/** How to extract a log. */
export interface ExportOptions extends LsidRange {
  /** Leave out a last pack that was not written whole, instead of cutting it before its first bad record. */
  readonly noShrink?: boolean;
}

/**
 * Writes the log of a device as a wlog. @returns what it holds.
 * @throws WalbError `damaged` when a pack below `written` is bad.
 */
export async function exportLog(
  tool: Tool,
  device: LogDevice,
  output: WlogOutput,
  options: ExportOptions,
): Promise<{ beginLsid: number; endLsid: number; packs: number; isShrunk: boolean }> {
  const { superblock, file } = device;
  const { pbsBytes, salt, uuid, writtenLsid } = superblock;
  const { fromLsid, limitLsid } = rangeOf(device, options);
  // Only behind `written` may a pack be torn: where the log ends is found first, so that the copy needs no way back.
  const probeLsid = Math.max(fromLsid, Math.min(writtenLsid, limitLsid));
  const whole = await scanToEnd(tool, device, probeLsid, limitLsid);
  const shrunk = options.noShrink === true ? undefined : planRedoEnd(whole, pbsBytes).rewrite;
  const header = { pbsBytes, salt, uuid, beginLsid: fromLsid, endLsid: options.toLsid };
  const ring = geometryOf(superblock);
  const writer = new WlogWriter(output, header, tool.platform.memory, (lsid, target) =>
    readRing(file, ring, lsid, target),
  );
  let packs = 0;
  try {
    await writer.begin();
    const stop = await scan(tool, device, fromLsid, whole.lsid, async (batch) => {
      await writer.write(batch);
      packs += batch.parts.filter((part) => part.isLast).length;
      tool.progress((batch.endLsid - fromLsid) * pbsBytes, (whole.lsid - fromLsid) * pbsBytes);
    });
    if (stop.lsid < whole.lsid) throw scanStopError(stop, ringSource(file, geometryOf(superblock)));
    if (shrunk !== undefined) {
      await writeShrunk(tool, device, shrunk, writer);
      packs += 1;
    }
    await writer.finish();
    return { beginLsid: fromLsid, endLsid: writer.endLsid, packs, isShrunk: shrunk !== undefined };
  } finally {
    writer.release();
  }
}

/** Where the log ends, from a pack boundary on. A pack that would cross the limit is not part of it. */
function scanToEnd(tool: Tool, device: LogDevice, fromLsid: number, limitLsid: number): Promise<ScanStop> {
  if (fromLsid >= limitLsid) return Promise.resolve({ kind: "limit", lsid: limitLsid });
  return scan(tool, device, fromLsid, limitLsid, () => Promise.resolve());
}

/** Copies the good records of a torn pack under a header that tells of no more. */
async function writeShrunk(tool: Tool, device: LogDevice, shrunk: LogPackHeader, writer: WlogWriter): Promise<void> {
  const { pbsBytes, salt, oldestLsid, ringSizePb } = device.superblock;
  const lease = await tool.platform.memory.lease(pbsBytes);
  try {
    const block = lease.slice(0, pbsBytes);
    encodePackHeader(shrunk, pbsBytes, salt, block.bytes);
    const limitLsid = oldestLsid + ringSizePb;
    await scan(tool, device, shrunk.lsid, limitLsid, async (batch) => {
      const parts = batch.parts
        .filter((part) => part.header.lsid === shrunk.lsid)
        .map((part) => cutPart(part, shrunk, block));
      await writer.write({ ...batch, parts, release: () => undefined });
    });
  } finally {
    lease.release();
  }
}

function cutPart(part: PackPart, shrunk: LogPackHeader, block: Memory): PackPart {
  return {
    header: shrunk,
    headerMemory: part.headerMemory === undefined ? undefined : block,
    firstRecord: part.firstRecord,
    data: part.data,
    isLast: part.firstRecord + part.data.length >= shrunk.records.length,
  };
}

/** Runs `work` over the batches of a range; each is released after it. */
async function scan(
  tool: Tool,
  device: LogDevice,
  fromLsid: number,
  limitLsid: number,
  work: (batch: PackBatch) => Promise<void>,
): Promise<ScanStop> {
  const { memory, compute } = tool.platform;
  const source = ringSource(device.file, geometryOf(device.superblock));
  const { signal } = tool;
  const packs = scanPacks({ source, pool: memory, compute, fromLsid, limitLsid, chunkBytes, signal });
  try {
    for (;;) {
      const step = await packs.next();
      if (step.done === true) return step.value;
      try {
        await work(step.value);
      } finally {
        step.value.release();
      }
    }
  } finally {
    await packs.return({ kind: "limit", lsid: fromLsid });
  }
}

/** Byte offset of an lsid, for messages. */
export function placeOf(device: LogDevice, lsid: number): { file: string; offsetBytes: number } {
  return { file: device.file.path, offsetBytes: lsidOffsetBytes(geometryOf(device.superblock), lsid) };
}
