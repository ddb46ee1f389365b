/** @module Changing the header of a wlog file in its place. */
import { WalbError } from "../../../errors.ts";
import { innerLsid, lsidBaseOf, wholeLsid } from "../../../log/lsid.ts";
import { decodeWlogHeader, encodeWlogHeader, type WlogHeader, wlogHeaderBytes } from "../../../log/wlogheader.ts";
import type { DiskFile } from "../../../platform/disk.ts";
import { u64Max } from "../../../units.ts";
import type { Tool } from "./tool.ts";

/** What to change; what is missing stays. */
export interface WlogChanges {
  readonly beginLsid?: bigint;
  /** 2^64 − 1: not known. */
  readonly endLsid?: bigint;
  readonly salt?: number;
  /** 32 hex digits. */
  readonly uuid?: string;
}

/** Changes the header and makes it durable. @returns the new one. @throws WalbError `bad-parameter` for an empty range. */
export async function updateWlog(tool: Tool, file: DiskFile, changes: WlogChanges): Promise<WlogHeader> {
  const lease = await tool.platform.memory.lease(wlogHeaderBytes);
  try {
    if ((await file.size()) < wlogHeaderBytes) {
      throw new WalbError("bad-format", { what: "it is shorter than a wlog header", where: { file: file.path } });
    }
    await file.read(0, lease);
    const old = decodeWlogHeader(lease.bytes.subarray(0, wlogHeaderBytes), file.path);
    const begin = changes.beginLsid ?? wholeLsid(old.beginLsid, old.lsidBase);
    const end = changes.endLsid ?? old.endLsid ?? u64Max;
    if (end <= begin) {
      const what = `a wlog from lsid ${begin} to ${end} would hold nothing`;
      throw new WalbError("bad-parameter", { what, where: { file: file.path, field: "end_lsid" } });
    }
    const lsidBase = lsidBaseOf(begin);
    const header: WlogHeader = {
      ...old,
      salt: changes.salt ?? old.salt,
      uuid: changes.uuid ?? old.uuid,
      beginLsid: innerLsid(begin, lsidBase),
      lsidBase,
      endLsid: end === u64Max ? undefined : end,
    };
    lease.bytes.set(encodeWlogHeader(header));
    await file.write(0, lease.slice(0, wlogHeaderBytes));
    await file.sync();
    return header;
  } finally {
    lease.release();
  }
}
