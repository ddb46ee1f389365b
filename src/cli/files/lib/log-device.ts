/** @module Reading log devices: their packs shown, checked, and extracted as a wlog. */
import { WalbError } from "../../../errors.ts";
import type { PackBatch, PackPart } from "../../../log/batch.ts";
import { superblockOffsetBytes } from "../../../log/geometry.ts";
import {
  encodePackHeader,
  isPackFault,
  type LogPackHeader,
  nextPackLsid,
  type PackFault,
  packFaultError,
  tryDecodePackHeader,
} from "../../../log/pack.ts";
import { readRing, ringSource } from "../../../log/reader.ts";
import { planRedoEnd } from "../../../log/redo.ts";
import { type ScanStop, scanPacks, scanStopError } from "../../../log/scan.ts";
import { geometryOf } from "../../../log/superblock.ts";
import { type WlogOutput, WlogWriter } from "../../../log/wlogfile.ts";
import type { Memory } from "../../../native/memory.ts";
import {
  checkBoundary,
  type LogDevice,
  type LsidRange,
  packReachPb,
  placeOf,
  rangeOf,
  readerOf,
  strayBehind,
  toldLsid,
} from "./log-range.ts";
import { countPack, emptyLogCounts, type LogCounts } from "./log-text.ts";
import type { Tool } from "./tool.ts";

const chunkBytes = 1024 * 1024;

/** What was shown of a log device. */
export interface ShownLog {
  readonly counts: LogCounts;
  /** There is a pack below `written` that is bad. */
  readonly damage: WalbError | undefined;
  /** A good pack behind the end of the log, see {@link strayBehind}. */
  readonly strayLsid: bigint | undefined;
}

/**
 * Tells the packs of a log device, without their data, up to the first block that is no pack.
 * @throws WalbError `usage` when the range does not begin at a pack.
 */
export async function showLogDevice(
  tool: Tool,
  device: LogDevice,
  range: LsidRange,
  onPack: (header: LogPackHeader, checksum: number) => void,
): Promise<ShownLog> {
  const { superblock } = device;
  const { fromLsid, limitLsid } = rangeOf(device, range);
  await checkBoundary(tool, device, fromLsid);
  const counts = emptyLogCounts(toldLsid(device, fromLsid), range.toLsid);
  const end = await tellPacks(tool, device, fromLsid, limitLsid, counts, onPack);
  const told = { counts, damage: undefined, strayLsid: undefined };
  if (end.fault === undefined) return told;
  if (end.lsid < superblock.writtenLsid) {
    const error = packFaultError(end.fault, toldLsid(device, end.lsid), placeOf(device, end.lsid));
    return { ...told, damage: error };
  }
  return { ...told, strayLsid: await leftBehind(tool, device, end.lsid) };
}

/** Tells the packs of a range up to its end, or up to a block that is no pack, and why it is none. */
async function tellPacks(
  tool: Tool,
  device: LogDevice,
  fromLsid: number,
  limitLsid: number,
  counts: LogCounts,
  onPack: (header: LogPackHeader, checksum: number) => void,
): Promise<{ lsid: number; fault: PackFault | undefined }> {
  const { file, superblock } = device;
  const { pbsBytes, salt, lsidBase = 0n } = superblock;
  const ring = geometryOf(superblock);
  const lease = await tool.platform.memory.lease(pbsBytes);
  try {
    let lsid = fromLsid;
    while (lsid < limitLsid) {
      if (tool.signal.aborted) throw new WalbError("cancelled", { what: "reading the log was cancelled" });
      const block = lease.slice(0, pbsBytes);
      await readRing(file, ring, lsid, block);
      const header = tryDecodePackHeader(block.bytes, { pbsBytes, salt, expectedLsid: lsid, lsidBase });
      if (isPackFault(header)) return { lsid, fault: header };
      if (header.records.length === 0) return { lsid, fault: { field: "n_records", reason: "is 0" } };
      countPack(counts, header, pbsBytes, lsidBase);
      onPack(header, block.view.getUint32(0, true));
      lsid = nextPackLsid(header);
      tool.progress((lsid - fromLsid) * pbsBytes);
    }
    return { lsid, fault: undefined };
  } finally {
    lease.release();
  }
}

/** What a check of a log device found, when it found no damage. */
export interface LogCheck {
  readonly oldestLsid: bigint;
  readonly writtenLsid: bigint;
  /** End of the last whole pack. */
  readonly endLsid: bigint;
  readonly packs: number;
  /** The last pack was not written whole: normal after a crash, redo cuts it. */
  readonly isTorn: boolean;
  /** A pack that lies behind the end: what a crash may leave; redo clears it. */
  readonly strayLsid: bigint | undefined;
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
      if (part.header.lsid < writtenLsid && nextPackLsid(part.header) > writtenLsid) {
        throw insidePack(device, part.header.lsid);
      }
      packs += 1;
      onPack?.(part.header);
    }
    tool.progress((batch.endLsid - oldestLsid) * superblock.pbsBytes);
    return Promise.resolve();
  });
  if (stop.lsid < writtenLsid) throw scanStopError(stop, ringSource(file, geometryOf(superblock)));
  return {
    oldestLsid: toldLsid(device, oldestLsid),
    writtenLsid: toldLsid(device, writtenLsid),
    endLsid: toldLsid(device, stop.lsid),
    packs,
    isTorn: stop.kind === "data",
    strayLsid: await leftBehind(tool, device, stop.lsid),
  };
}

function insidePack(device: LogDevice, packLsid: number): WalbError {
  const { file, superblock } = device;
  return new WalbError("damaged", {
    what: `written_lsid ${toldLsid(device, superblock.writtenLsid)} lies inside the pack at ${toldLsid(device, packLsid)}`,
    where: { file: file.path, offsetBytes: superblockOffsetBytes, field: "written_lsid" },
    hint: "redo finds nothing there: restore the log device from a copy, or make a new backup of the volume",
  });
}

/** A good pack behind the end of a log; of a log that is being written the end may have moved meanwhile. */
async function leftBehind(tool: Tool, device: LogDevice, endLsid: number): Promise<bigint | undefined> {
  const strayLsid = await strayBehind(tool, device, endLsid);
  if (strayLsid === undefined) return undefined;
  const { oldestLsid, ringSizePb } = device.superblock;
  const limitLsid = Math.min(endLsid + packReachPb, oldestLsid + ringSizePb);
  const again = await scan(tool, device, endLsid, limitLsid, () => Promise.resolve());
  return again.lsid === endLsid ? strayLsid : undefined;
}

/** How to extract a log. */
export interface ExportOptions extends LsidRange {
  /** Leave out a last pack that was not written whole, instead of cutting it before its first bad record. */
  readonly noShrink?: boolean;
}

/** What was extracted. */
export interface ExportedLog {
  readonly beginLsid: bigint;
  readonly endLsid: bigint;
  readonly packs: number;
  readonly isShrunk: boolean;
  /** A good pack behind the end of the log, see {@link strayRemark}. */
  readonly strayLsid: bigint | undefined;
}

/**
 * Writes the log of a device as a wlog. @returns what it holds.
 * @throws WalbError `damaged` when a pack below `written` is bad; `usage` when the range does not begin at a pack.
 */
export async function exportLog(
  tool: Tool,
  device: LogDevice,
  output: WlogOutput,
  options: ExportOptions,
): Promise<ExportedLog> {
  const { superblock, file } = device;
  const { pbsBytes, salt, uuid, writtenLsid, lsidBase = 0n } = superblock;
  const { fromLsid, limitLsid } = rangeOf(device, options);
  await checkBoundary(tool, device, fromLsid);
  // Only behind `written` may a pack be torn: where the log ends is found first, so that the copy needs no way back.
  const probeLsid = Math.max(fromLsid, Math.min(writtenLsid, limitLsid));
  const whole = await scanToEnd(tool, device, probeLsid, limitLsid);
  const shrunk = options.noShrink === true ? undefined : planRedoEnd(whole, pbsBytes).rewrite;
  const strayLsid = (await isEndOfLog(tool, device, whole)) ? await leftBehind(tool, device, whole.lsid) : undefined;
  const header = { pbsBytes, salt, uuid, beginLsid: fromLsid, endLsid: options.toLsid, lsidBase };
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
    return {
      beginLsid: toldLsid(device, fromLsid),
      endLsid: toldLsid(device, writer.endLsid),
      packs,
      isShrunk: shrunk !== undefined,
      strayLsid,
    };
  } finally {
    writer.release();
  }
}

/** Where the log ends, from a pack boundary on. A pack that would cross the limit is not part of it. */
function scanToEnd(tool: Tool, device: LogDevice, fromLsid: number, limitLsid: number): Promise<ScanStop> {
  if (fromLsid >= limitLsid) return Promise.resolve({ kind: "limit", lsid: limitLsid });
  return scan(tool, device, fromLsid, limitLsid, () => Promise.resolve());
}

/** False where only the range ended. */
async function isEndOfLog(tool: Tool, device: LogDevice, stop: ScanStop): Promise<boolean> {
  if (stop.kind !== "header") return stop.kind !== "limit";
  return isPackFault(await readerOf(tool, device).headerAt(stop.lsid));
}

/** Copies the good records of a torn pack under a header that tells of no more. */
async function writeShrunk(tool: Tool, device: LogDevice, shrunk: LogPackHeader, writer: WlogWriter): Promise<void> {
  const { pbsBytes, salt, oldestLsid, ringSizePb, lsidBase } = device.superblock;
  const lease = await tool.platform.memory.lease(pbsBytes);
  try {
    const block = lease.slice(0, pbsBytes);
    encodePackHeader(shrunk, pbsBytes, salt, block.bytes, lsidBase);
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
