/**
 * @module Redo: brings the data store up to the end of the log after a crash, and makes the log safe to append to.
 *
 * Idempotent: a crash at any point of it and another redo give the same result. Beyond what the kernel driver does,
 * discards are replayed in full, records are checked against the volume, and headers beyond the end that could be
 * taken for packs later ("stale packs") are cleared before anything is appended.
 */
import { asWalbError, WalbError } from "../errors.ts";
import type { Compute } from "../native/codec.ts";
import type { Lease, Memory, MemoryPool } from "../native/memory.ts";
import type { DiskFile } from "../platform/disk.ts";
import { kib, lbBytes, mib } from "../units.ts";
import type { PackBatch } from "./batch.ts";
import { writeSuperblock } from "./format.ts";
import { lsidOffsetBytes, pbToRingEnd, type RingGeometry } from "./geometry.ts";
import { readLsid, wholeLsid } from "./lsid.ts";
import { encodePackHeader, type LogPackHeader, nextPackLsid, shrinkPack } from "./pack.ts";
import { readRing, ringSource } from "./reader.ts";
import { type ScanStop, scanPacks } from "./scan.ts";
import { type LoggedWrite, planStoreWrites, runStoreWrites } from "./storewrites.ts";
import { geometryOf, type Superblock } from "./superblock.ts";

/** What redo works on. Both files are open for writing, and nobody else uses them. */
export interface RedoParts {
  readonly log: DiskFile;
  readonly data: DiskFile;
  readonly superblock: Superblock;
  /** Needs about 5 MiB. */
  readonly pool: MemoryPool;
  readonly compute: Compute;
  /** How far behind the end stale headers are searched; at least what can have been unsynced when it crashed. */
  readonly staleWindowBytes?: number;
}

/** What redo did. */
export interface RedoResult {
  /** As it is on disk now: `writtenLsid` is the end of the log. */
  readonly superblock: Superblock;
  readonly packCount: number;
  /** The last pack was torn and now ends before its first bad record. */
  readonly isShrunk: boolean;
  readonly staleHeaderCount: number;
  /** Of these, packs behind the one that the log ended before: writes that were not flushed when the power failed, or
   * all there was behind a place where the log is damaged. */
  readonly droppedPackCount: number;
  /** Why the log ended where it did. */
  readonly stop: ScanStop;
}

/** Where the log ends, and the header to rewrite when the last pack was torn behind its first record. */
export function planRedoEnd(stop: ScanStop, pbsBytes: number): { endLsid: number; rewrite: LogPackHeader | undefined } {
  if (stop.kind !== "data" || stop.recordIndex === 0) return { endLsid: stop.lsid, rewrite: undefined };
  const rewrite = shrinkPack(stop.header, stop.recordIndex, pbsBytes);
  return { endLsid: nextPackLsid(rewrite), rewrite };
}

/** What a batch asks of the data store. @throws WalbError `damaged` when a record lies outside the volume. */
export function loggedWritesOf(batch: PackBatch, deviceSizeLb: number, lsidBase = 0n): LoggedWrite[] {
  const writes: LoggedWrite[] = [];
  for (const part of batch.parts) {
    part.data.forEach((memory, i) => {
      const record = part.header.records[part.firstRecord + i]!;
      if (record.kind === "padding") return;
      if (record.offsetLb + record.sizeLb > deviceSizeLb) {
        throw new WalbError("damaged", {
          what: `a record at lsid ${wholeLsid(record.lsid, lsidBase)} ends at block ${record.offsetLb + record.sizeLb}, but the volume has ${deviceSizeLb}`,
          where: { field: "offset" },
          hint: "check that log store and data store belong together",
        });
      }
      writes.push({ offsetLb: record.offsetLb, sizeLb: record.sizeLb, memory });
    });
  }
  return writes;
}

const chunkBytes = 2 * mib;
const zeroBytes = 64 * kib;

/** Redoes the log onto the data store; everything is durable when it returns. @throws WalbError `damaged`, `io`. */
export async function redoLog(parts: RedoParts): Promise<RedoResult> {
  const { log, superblock, pool } = parts;
  const ring = geometryOf(superblock);
  const zeroes = await pool.lease(zeroBytes);
  try {
    zeroes.bytes.fill(0);
    // After a kill the log may still be in the page cache only; the data store must not get ahead of what is durable.
    await log.sync();
    const { packCount, stop } = await replay(parts, ring, zeroes);
    const { endLsid, rewrite } = planRedoEnd(stop, ring.pbsBytes);
    const stale = await clearStaleHeaders(parts, ring, endLsid, zeroes);
    if (rewrite !== undefined) await writeHeader(parts, ring, rewrite);
    if (rewrite !== undefined || stale.staleHeaderCount > 0) await log.sync();
    const next: Superblock = { ...superblock, writtenLsid: endLsid };
    if (endLsid !== superblock.writtenLsid) {
      await parts.data.sync();
      await writeSuperblock(log, zeroes, next);
    }
    const isShrunk = rewrite !== undefined;
    return { superblock: next, packCount: packCount + (isShrunk ? 1 : 0), isShrunk, ...stale, stop };
  } finally {
    zeroes.release();
  }
}

async function replay(
  parts: RedoParts,
  ring: RingGeometry,
  zeroes: Memory,
): Promise<{ packCount: number; stop: ScanStop }> {
  const { log, data, superblock, pool, compute } = parts;
  const fromLsid = superblock.writtenLsid;
  const scan = scanPacks({
    source: ringSource(log, ring),
    pool,
    compute,
    fromLsid,
    limitLsid: fromLsid + ring.ringSizePb,
    chunkBytes,
  });
  let packCount = 0;
  try {
    while (true) {
      const step = await scan.next();
      if (step.done) return { packCount, stop: step.value };
      const batch = step.value;
      try {
        // A batch is done before the next begins, so overlapping writes keep the order of the log.
        await runStoreWrites(
          data,
          planStoreWrites(loggedWritesOf(batch, superblock.deviceSizeLb, ring.lsidBase)),
          zeroes,
        );
        packCount += batch.parts.filter((part) => part.isLast).length;
      } catch (error) {
        throw asWalbError(error, { file: log.path });
      } finally {
        batch.release();
      }
    }
  } finally {
    // Ends the read-ahead when a write failed; after the end of the scan it does nothing.
    await scan.return({ kind: "limit", lsid: fromLsid });
  }
}

async function writeHeader(parts: RedoParts, ring: RingGeometry, header: LogPackHeader): Promise<void> {
  const lease = await parts.pool.lease(ring.pbsBytes);
  try {
    const block = lease.slice(0, ring.pbsBytes);
    encodePackHeader(header, ring.pbsBytes, ring.salt, block.bytes, ring.lsidBase);
    await parts.log.write(lsidOffsetBytes(ring, header.lsid), block);
  } finally {
    lease.release();
  }
}

/** Blocks from an lsid on, up to the ring end, that were never written: most of a new log, which costs no reading. */
async function emptyPbAt(log: DiskFile, ring: RingGeometry, lsid: number): Promise<number> {
  const offsetBytes = lsidOffsetBytes(ring, lsid);
  const toEndPb = pbToRingEnd(ring, lsid);
  const data = await log.nextData(offsetBytes);
  if (data === undefined) return toEndPb;
  return Math.min(toEndPb, Math.floor((data.startBytes - offsetBytes) / ring.pbsBytes));
}

/**
 * Clears every block from `endLsid` on that says to be the header of its lsid. Without this, packs appended later could
 * end exactly where a leftover begins, and the next redo would run on into old data. Damaged headers go, too: a block
 * of several sectors may be torn, and a torn write over it could bring just the sectors that it lacks. For the same
 * reason only the first sector is written, which makes it no header whatever the others hold.
 */
async function clearStaleHeaders(
  parts: RedoParts,
  ring: RingGeometry,
  endLsid: number,
  zeroes: Memory,
): Promise<Pick<RedoResult, "staleHeaderCount" | "droppedPackCount">> {
  const { log, superblock, pool } = parts;
  const { pbsBytes } = ring;
  const sectorBytes = Math.max(lbBytes, log.alignmentBytes);
  const windowPb = Math.floor((parts.staleWindowBytes ?? 256 * mib) / pbsBytes);
  const limitLsid = Math.min(endLsid + windowPb, superblock.writtenLsid + ring.ringSizePb);
  let staleHeaderCount = 0;
  let droppedPackCount = 0;
  if (limitLsid <= endLsid) return { staleHeaderCount, droppedPackCount };
  const chunkPb = Math.min(chunkBytes / pbsBytes, limitLsid - endLsid);
  const lease: Lease = await pool.lease(chunkPb * pbsBytes);
  try {
    for (let lsid = endLsid; lsid < limitLsid; ) {
      const emptyPb = await emptyPbAt(log, ring, lsid);
      if (emptyPb > 0) {
        lsid += emptyPb;
        continue;
      }
      const sizePb = Math.min(chunkPb, limitLsid - lsid);
      await readRing(log, ring, lsid, lease.slice(0, sizePb * pbsBytes));
      for (let i = 0; i < sizePb; i += 1) {
        const atBytes = i * pbsBytes;
        // Sector type 3 first: nearly every block fails here.
        if (lease.bytes[atBytes + 4] !== 3 || lease.bytes[atBytes + 5] !== 0) continue;
        if (readLsid(lease.view, atBytes + 8, ring.lsidBase ?? 0n) !== lsid + i) continue;
        await log.write(lsidOffsetBytes(ring, lsid + i), zeroes.slice(0, sectorBytes));
        staleHeaderCount += 1;
        if (lsid + i > endLsid) droppedPackCount += 1;
      }
      lsid += sizePb;
    }
  } finally {
    lease.release();
  }
  return { staleHeaderCount, droppedPackCount };
}
