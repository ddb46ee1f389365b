/**
 * @module The header of a wlog file: 4096 bytes before the packs. Source: `docs/formats.md`, wlog file.
 */
import { WalbError } from "../errors.ts";
import { lbBytes, u64Max } from "../units.ts";
import { isSealed, sealBlock } from "./checksum.ts";
import { isUsablePbs } from "./geometry.ts";
import { innerLsid, lsidBaseOf, wholeLsid } from "./lsid.ts";
import { hexOf, uuidBytes } from "./superblock.ts";

/** Size of the file header, whatever the PB is. */
export const wlogHeaderBytes = 4096;
const sectorTypeWlog = 4;
const logVersion = 2;

/** A decoded wlog file header. */
export interface WlogHeader {
  readonly pbsBytes: number;
  readonly salt: number;
  /** uuid of the log, 32 lower-case hex digits. */
  readonly uuid: string;
  /** Counted from `lsidBase`, as all lsids of the packs. */
  readonly beginLsid: number;
  /** The whole lsid. May be beyond the real end; undefined when it was not known (2^64 − 1 in the file). */
  readonly endLsid: bigint | undefined;
  /** 0 unless the log begins at 2^52 or beyond; default 0. */
  readonly lsidBase?: bigint;
}

/** Encodes to 4096 bytes. */
export function encodeWlogHeader(header: WlogHeader): Uint8Array {
  const block = new Uint8Array(wlogHeaderBytes);
  const view = new DataView(block.buffer);
  view.setUint16(0, sectorTypeWlog, true);
  view.setUint16(2, logVersion, true);
  view.setUint16(4, wlogHeaderBytes, true);
  view.setUint32(12, header.salt, true);
  view.setUint32(16, lbBytes, true);
  view.setUint32(20, header.pbsBytes, true);
  block.set(uuidBytes(header.uuid), 24);
  view.setBigUint64(40, wholeLsid(header.beginLsid, header.lsidBase), true);
  view.setBigUint64(48, header.endLsid ?? u64Max, true);
  sealBlock(block, 8, 0);
  return block;
}

/** Decodes 4096 bytes. @throws WalbError `bad-format` when it is no wlog, `damaged` when checksum or fields are wrong. */
export function decodeWlogHeader(block: Uint8Array, file: string, offsetBytes = 0): WlogHeader {
  const where = { file, offsetBytes };
  const view = new DataView(block.buffer, block.byteOffset, block.byteLength);
  if (block.byteLength < wlogHeaderBytes || view.getUint16(0, true) !== sectorTypeWlog) {
    throw new WalbError("bad-format", { what: "there is no wlog file header", where });
  }
  if (view.getUint16(2, true) !== logVersion) {
    const what = `the wlog version is ${view.getUint16(2, true)}, only ${logVersion} is known`;
    throw new WalbError("bad-format", { what, where: { ...where, field: "version" } });
  }
  const bad = (field: string, what: string): WalbError =>
    new WalbError("damaged", { what, where: { ...where, field } });
  if (!isSealed(block.subarray(0, wlogHeaderBytes), 0)) throw bad("checksum", "the header's checksum does not match");
  const pbsBytes = view.getUint32(20, true);
  if (!isUsablePbs(pbsBytes)) throw bad("physical_bs", `the physical block size is ${pbsBytes}`);
  if (view.getUint32(16, true) !== lbBytes) throw bad("logical_bs", `the logical block is ${view.getUint32(16, true)}`);
  const begin = view.getBigUint64(40, true);
  const end = view.getBigUint64(48, true);
  if (end <= begin) throw bad("end_lsid", `${end} is not above ${begin}`);
  const lsidBase = lsidBaseOf(begin);
  const beginLsid = innerLsid(begin, lsidBase);
  const endLsid = end === u64Max ? undefined : end;
  return {
    pbsBytes,
    salt: view.getUint32(12, true),
    uuid: hexOf(block.subarray(24, 40)),
    beginLsid,
    endLsid,
    lsidBase,
  };
}
