/** @module Making a log store: superblocks, an empty ring. */
import { WalbError } from "../errors.ts";
import type { Memory, MemoryPool } from "../native/memory.ts";
import type { Random } from "../platform/clock.ts";
import type { DiskFile } from "../platform/disk.ts";
import { checkRange, lbBytes } from "../units.ts";
import {
  isUsablePbs,
  lsidOffsetBytes,
  ringSizePbOf,
  superblock1OffsetBytes,
  superblockOffsetBytes,
} from "./geometry.ts";
import { wholeLsid } from "./lsid.ts";
import { decodeSuperblock, encodeSuperblock, geometryOf, hexOf, type Superblock } from "./superblock.ts";

/** What a new log is like. */
export interface FormatOptions {
  readonly name: string;
  readonly pbsBytes: number;
  /** Size of the volume the log is for. */
  readonly deviceSizeLb: number;
  /** Also make the whole ring read back as zeroes, e.g. on a thin store. Default false. */
  readonly discard?: boolean;
}

/**
 * Writes superblock 0 and 1, clears the block of lsid 0, and syncs. The salt is new, so that nothing that was in the
 * ring before can pass for a pack. The caller has checked that the store may be overwritten.
 * @throws WalbError `bad-parameter` when the store is too small.
 */
export async function formatLogDevice(
  file: DiskFile,
  options: FormatOptions,
  parts: { readonly memory: MemoryPool; readonly random: Random },
): Promise<Superblock> {
  const { pbsBytes } = options;
  if (!isUsablePbs(pbsBytes)) {
    throw new WalbError("bad-parameter", {
      what: `a physical block size of ${pbsBytes} bytes is not supported`,
      where: { file: file.path },
      hint: "use 512 or 4096",
    });
  }
  checkRange(options.deviceSizeLb, 1, Math.floor(Number.MAX_SAFE_INTEGER / lbBytes), "deviceSizeLb");
  const superblock: Superblock = {
    pbsBytes,
    metadataSizePb: 0,
    salt: parts.random.u32() >>> 0,
    uuid: hexOf(parts.random.bytes(16)),
    name: options.name,
    ringSizePb: ringSizePbOf(await file.size(), pbsBytes),
    oldestLsid: 0,
    writtenLsid: 0,
    deviceSizeLb: options.deviceSizeLb,
  };
  const ring = geometryOf(superblock);
  if (options.discard === true) await file.zero(ring.ringOffsetPb * pbsBytes, ring.ringSizePb * pbsBytes);
  const lease = await parts.memory.lease(pbsBytes);
  try {
    const block = lease.slice(0, pbsBytes);
    block.bytes.fill(0);
    await file.write(lsidOffsetBytes(ring, 0), block);
    block.bytes.set(encodeSuperblock(superblock));
    await file.write(superblock1OffsetBytes(pbsBytes, 0), block);
    // The ring must be clean before a superblock says that it may be read.
    await file.sync();
    await file.write(superblockOffsetBytes, block);
    await file.sync();
  } finally {
    lease.release();
  }
  return superblock;
}

/**
 * Starts a log afresh: all lsids 0, a new uuid, a salt that makes everything in the ring invalid, the ring as large as
 * the store allows (never smaller than it was). `memory` is at least one PB. Data must be durable on the data store.
 */
export async function formatFresh(
  file: DiskFile,
  superblock: Superblock,
  memory: Memory,
  random: Random,
): Promise<Superblock> {
  const { pbsBytes } = superblock;
  const block = memory.slice(0, pbsBytes);
  let salt = random.u32() >>> 0;
  if (salt === superblock.salt) salt = (salt + 1) >>> 0;
  const metadataBytes = superblock.metadataSizePb * pbsBytes;
  const fresh: Superblock = {
    ...superblock,
    salt,
    uuid: hexOf(random.bytes(16)),
    ringSizePb: Math.max(superblock.ringSizePb, ringSizePbOf((await file.size()) - metadataBytes, pbsBytes)),
    oldestLsid: 0,
    writtenLsid: 0,
  };
  await writeSuperblock(file, block, fresh);
  block.bytes.fill(0);
  await file.write(lsidOffsetBytes(geometryOf(fresh), 0), block);
  await file.sync();
  return fresh;
}

/**
 * Writes superblock 0 and syncs. What it says of the data store must be durable there before. `memory` is at least one
 * PB, whose content is lost.
 */
export async function writeSuperblock(log: DiskFile, memory: Memory, superblock: Superblock): Promise<void> {
  const block = memory.slice(0, superblock.pbsBytes);
  block.bytes.set(encodeSuperblock(superblock));
  await log.write(superblockOffsetBytes, block);
  await log.sync();
}

/**
 * Reads and checks the superblock of a log store whose lsids are plain numbers, as devices need it.
 * @throws WalbError `bad-format`, `damaged`, `io`; `out-of-range` for a log that begins at 2^52 or beyond.
 */
export async function readSuperblock(file: DiskFile, pool: MemoryPool): Promise<Superblock> {
  const superblock = await readAnySuperblock(file, pool);
  const { lsidBase, oldestLsid } = superblock;
  if (lsidBase === undefined) return superblock;
  throw new WalbError("out-of-range", {
    what: `oldest_lsid is ${wholeLsid(oldestLsid, lsidBase)}: a device cannot go on with a log from 2^52 on`,
    where: { file: file.path, offsetBytes: superblockOffsetBytes, field: "oldest_lsid" },
    hint: "replay it (walb log-device redo LOG DATA), then make a new log (walb log-device format LOG --overwrite)",
  });
}

/** Reads and checks the superblock of any log store. @throws WalbError `bad-format`, `damaged`, `io`. */
export async function readAnySuperblock(file: DiskFile, pool: MemoryPool): Promise<Superblock> {
  const sizeBytes = await file.size();
  if (sizeBytes < 2 * superblockOffsetBytes) {
    const what = `the file has only ${sizeBytes} bytes, too few for a log store`;
    throw new WalbError("bad-format", { what, where: { file: file.path, field: "size" } });
  }
  const lease = await pool.lease(superblockOffsetBytes);
  try {
    const block = lease.slice(0, superblockOffsetBytes);
    await file.read(superblockOffsetBytes, block);
    const superblock = decodeSuperblock(block.bytes, file.path);
    const ring = geometryOf(superblock);
    const endBytes = (ring.ringOffsetPb + ring.ringSizePb) * ring.pbsBytes;
    if (endBytes > sizeBytes) {
      throw new WalbError("damaged", {
        what: `the ring ends at byte ${endBytes}, but the log store has only ${sizeBytes} bytes`,
        where: { file: file.path, field: "ring_buffer_size" },
        hint: "restore the log store to its full size",
      });
    }
    return superblock;
  } finally {
    lease.release();
  }
}
