/**
 * @module The superblock of a log store: one PB at byte 4096. Source: `docs/formats.md`, superblock.
 */
import { asWalbError, WalbError } from "../errors.ts";
import { lbBytes, readU64, u64Max, writeU64 } from "../units.ts";
import { isSealed, sealBlock } from "./checksum.ts";
import { isUsablePbs, type RingGeometry, ringOffsetPbOf, superblockOffsetBytes } from "./geometry.ts";
import { innerLsid, ringLsidBaseOf, wholeLsid } from "./lsid.ts";

const sectorTypeSuperblock = 1;
const logVersion = 2;
const nameBytesMax = 31;

/** A decoded superblock. */
export interface Superblock {
  readonly pbsBytes: number;
  readonly metadataSizePb: number;
  readonly salt: number;
  /** 32 lower-case hex digits. */
  readonly uuid: string;
  /** At most 31 bytes of UTF-8; may be empty. */
  readonly name: string;
  readonly ringSizePb: number;
  /** Counted from `lsidBase`, as `writtenLsid`. */
  readonly oldestLsid: number;
  readonly writtenLsid: number;
  /** Size of the volume. */
  readonly deviceSizeLb: number;
  /** Not there unless the log begins at 2^52 or beyond; a multiple of the ring. */
  readonly lsidBase?: bigint;
}

/** Ring geometry of a log store. */
export function geometryOf(superblock: Superblock): RingGeometry {
  return {
    pbsBytes: superblock.pbsBytes,
    ringSizePb: superblock.ringSizePb,
    ringOffsetPb: ringOffsetPbOf(superblock.pbsBytes, superblock.metadataSizePb),
    salt: superblock.salt,
    ...(superblock.lsidBase === undefined ? {} : { lsidBase: superblock.lsidBase }),
  };
}

/** Encodes to exactly one PB, sealed. @throws WalbError `bad-parameter` when the name is too long. */
export function encodeSuperblock(superblock: Superblock): Uint8Array {
  const name = new TextEncoder().encode(superblock.name);
  if (name.length > nameBytesMax || name.includes(0)) {
    throw new WalbError("bad-parameter", {
      what: `the device name "${superblock.name}" does not fit into the superblock`,
      hint: `use a name of at most ${nameBytesMax} bytes`,
    });
  }
  const block = new Uint8Array(superblock.pbsBytes);
  const view = new DataView(block.buffer);
  view.setUint16(0, sectorTypeSuperblock, true);
  view.setUint16(2, logVersion, true);
  view.setUint32(8, lbBytes, true);
  view.setUint32(12, superblock.pbsBytes, true);
  view.setUint32(16, superblock.metadataSizePb, true);
  view.setUint32(20, superblock.salt, true);
  block.set(uuidBytes(superblock.uuid), 24);
  block.set(name, 40);
  writeU64(view, 72, superblock.ringSizePb);
  view.setBigUint64(80, wholeLsid(superblock.oldestLsid, superblock.lsidBase), true);
  view.setBigUint64(88, wholeLsid(superblock.writtenLsid, superblock.lsidBase), true);
  writeU64(view, 96, superblock.deviceSizeLb);
  sealBlock(block, 4, 0);
  return block;
}

/**
 * Decodes the block at byte 4096 of a log store; `block` may be longer than the PB (pass 4096 bytes).
 * @throws WalbError `bad-format` when it is no superblock, `damaged` when its checksum or a field is wrong.
 */
export function decodeSuperblock(block: Uint8Array, file: string): Superblock {
  const where = { file, offsetBytes: superblockOffsetBytes };
  const hint = "check that this is the log store of a walb device; a new one is made by formatting it";
  const bad = (field: string, what: string): WalbError =>
    new WalbError("damaged", { what, where: { ...where, field } });
  const view = new DataView(block.buffer, block.byteOffset, block.byteLength);
  if (block.byteLength < 512 || view.getUint16(0, true) !== sectorTypeSuperblock) {
    throw new WalbError("bad-format", { what: "there is no walb superblock", where, hint });
  }
  if (view.getUint16(2, true) !== logVersion) {
    const what = `the log format version is ${view.getUint16(2, true)}, only ${logVersion} is known`;
    throw new WalbError("bad-format", { what, where: { ...where, field: "version" }, hint });
  }
  const pbsBytes = view.getUint32(12, true);
  if (!isUsablePbs(pbsBytes) || pbsBytes > block.byteLength) {
    throw bad("physical_bs", `the physical block size is ${pbsBytes}`);
  }
  if (!isSealed(block.subarray(0, pbsBytes), 0)) throw bad("checksum", "the superblock's checksum does not match");
  if (view.getUint32(8, true) !== lbBytes) throw bad("logical_bs", `the logical block is ${view.getUint32(8, true)}`);
  const nameEnd = block.subarray(40, 72).indexOf(0);
  if (nameEnd < 0) throw bad("name", "the device name has no end");
  const name = new TextDecoder().decode(block.subarray(40, 40 + nameEnd));
  // It is written again by redo, and must then be what it was.
  if (new TextEncoder().encode(name).length !== nameEnd) throw bad("name", "the device name is no UTF-8 text");
  const metadataSizePb = view.getUint32(16, true);
  const ringSizePb = u64Field(72, "ring_buffer_size");
  if (ringSizePb < 16) throw bad("ring_buffer_size", `the ring has ${ringSizePb} blocks`);
  const endPb = ringOffsetPbOf(pbsBytes, metadataSizePb) + ringSizePb;
  if (!Number.isSafeInteger(endPb * pbsBytes)) throw bad("ring_buffer_size", "the ring is beyond what can be handled");
  const deviceSizeLb = u64Field(96, "device_size");
  if (!Number.isSafeInteger(deviceSizeLb * lbBytes)) {
    throw bad("device_size", `the device size is ${deviceSizeLb} blocks`);
  }
  const oldest = lsidField(80, "oldest_lsid");
  const written = lsidField(88, "written_lsid");
  if (oldest > written) throw bad("oldest_lsid", `oldest ${oldest} is above written ${written}`);
  const lsidBase = ringLsidBaseOf(oldest, ringSizePb);
  // All of the ring must have inner lsids, whatever redo finds in it.
  if (written - lsidBase > BigInt(Number.MAX_SAFE_INTEGER - ringSizePb)) {
    throw bad("written_lsid", `written ${written} is too far beyond oldest ${oldest}`);
  }
  return {
    pbsBytes,
    metadataSizePb,
    salt: view.getUint32(20, true),
    uuid: hexOf(block.subarray(24, 40)),
    name,
    ringSizePb,
    oldestLsid: innerLsid(oldest, lsidBase),
    writtenLsid: innerLsid(written, lsidBase),
    deviceSizeLb,
    ...(lsidBase === 0n ? {} : { lsidBase }),
  };

  function u64Field(offset: number, field: string): number {
    try {
      return readU64(view, offset, field);
    } catch (error) {
      throw asWalbError(error, where);
    }
  }

  function lsidField(offset: number, field: string): bigint {
    const lsid = view.getBigUint64(offset, true);
    if (lsid === u64Max) throw bad(field, `${field} is invalid`);
    return lsid;
  }
}

/** Bytes as lower-case hex digits: a uuid as 32 of them. */
export function hexOf(bytes: Uint8Array): string {
  return bytes.toHex();
}

/** 32 hex digits as 16 bytes. @throws WalbError `bad-parameter`. */
export function uuidBytes(uuid: string): Uint8Array {
  if (!/^[0-9a-fA-F]{32}$/.test(uuid)) {
    throw new WalbError("bad-parameter", {
      what: `"${uuid}" is not a uuid of 32 hex digits`,
      where: { field: "uuid" },
    });
  }
  return Uint8Array.fromHex(uuid);
}
