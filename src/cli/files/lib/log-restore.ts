/** @module Writing a wlog back into a log device, for tests and for redo by another program. */
import { WalbError } from "../../../errors.ts";
import type { PackPart } from "../../../log/batch.ts";
import { writeSuperblock } from "../../../log/format.ts";
import { lsidOffsetBytes, maxPackDataPb, pbToRingEnd, type RingGeometry } from "../../../log/geometry.ts";
import { innerLsid, isLsid, ringLsidBaseOf, wholeLsid } from "../../../log/lsid.ts";
import { encodePackHeader, type LogPackHeader, nextPackLsid, recordDataPb } from "../../../log/pack.ts";
import { geometryOf, type Superblock } from "../../../log/superblock.ts";
import { WlogReader } from "../../../log/wlogfile.ts";
import type { WlogHeader } from "../../../log/wlogheader.ts";
import type { Memory } from "../../../native/memory.ts";
import type { DiskFile } from "../../../platform/disk.ts";
import { lbBytes, mib, u64Max } from "../../../units.ts";
import { checkLogDevice } from "./log-device.ts";
import type { LogDevice } from "./log-range.ts";
import type { OpenInput } from "./paths.ts";
import type { Tool } from "./tool.ts";
import { emptyLogError, missingEndError } from "./walk.ts";

/** What to restore, and where to. */
export interface RestoreOptions {
  /** Only packs in [fromLsid, toLsid) of the wlog. */
  readonly fromLsid?: bigint;
  readonly toLsid?: bigint;
  /** Added to the lsids of the wlog; may be negative. */
  readonly shiftLsid?: bigint;
  /** This lsid of the wlog gets a block that is no pack, so that redo stops there. */
  readonly invalidLsid?: bigint;
  /** Size of the volume to write into the superblock; a record beyond it is an error. */
  readonly deviceSizeLb?: number;
  /** Read everything back. */
  readonly verify?: boolean;
  readonly lenient?: boolean;
  readonly onPack?: (header: LogPackHeader, lsidBase: bigint) => void;
}

/** What was restored. */
export interface Restored {
  readonly superblock: Superblock;
  /** In the wlog. */
  readonly wlogBeginLsid: bigint;
  readonly wlogEndLsid: bigint;
  /** In the log device. */
  readonly beginLsid: bigint;
  readonly endLsid: bigint;
  /** Lsids moved by this much at the start and at the end: padding at the ring end adds up. */
  readonly shiftStart: bigint;
  readonly shiftEnd: bigint;
}

/**
 * Restores a wlog into a formatted log device, which takes over its uuid and salt; its log is then the wlog's, nothing
 * of it counts as applied. A pack that does not fit before the ring end is preceded by one that holds only padding.
 * @throws WalbError `out-of-range` when the ring is too small, `bad-format` when block sizes differ, `damaged`.
 */
export async function restoreWlog(
  tool: Tool,
  input: Pick<OpenInput, "name" | "read" | "sizeBytes" | "again">,
  device: LogDevice,
  options: RestoreOptions,
): Promise<Restored> {
  const { memory, compute } = tool.platform;
  const { pbsBytes } = device.superblock;
  const reader = new WlogReader(input, memory, compute);
  const header = await reader.nextHeader();
  if (header === undefined) {
    throw emptyLogError(input.name);
  }
  if (header.pbsBytes !== pbsBytes) {
    throw new WalbError("bad-format", {
      what: `the wlog has blocks of ${header.pbsBytes} bytes, the log device of ${pbsBytes}`,
      where: { file: input.name, field: "physical_bs" },
      hint: "format the log device with the block size of the wlog",
    });
  }
  const { shiftLsid: shiftStart = 0n } = options;
  const { lsidBase = 0n } = header;
  const fromLsid = innerLsid(options.fromLsid ?? 0n, lsidBase);
  const toLsid = innerLsid(options.toLsid ?? u64Max, lsidBase);
  const invalidLsid = options.invalidLsid === undefined ? undefined : innerLsid(options.invalidLsid, lsidBase);
  const ring: RingGeometry = { ...geometryOf(device.superblock), salt: header.salt };
  const target = new RingTarget(device, ring, options.deviceSizeLb);
  const lease = await memory.lease(pbsBytes);
  const { again } = input;
  const startBytes = (again?.offsetBytes ?? 0) + reader.offsetBytes;
  const padding = again === undefined ? undefined : await tool.platform.disk.open(again.path, { mode: "read" });
  let wlogBegin: number | undefined;
  let wlogEnd = header.beginLsid;
  const packs = reader.packs(tool.signal);
  try {
    const block = lease.slice(0, pbsBytes);
    for (;;) {
      const step = await packs.next();
      if (step.done === true) {
        if (!step.value.hasEndBlock && options.lenient !== true)
          throw missingEndError(input.name, wholeLsid(step.value.endLsid, lsidBase), 0);
        break;
      }
      try {
        for (const part of step.value.parts) {
          const pack = part.header;
          if (pack.lsid < fromLsid || nextPackLsid(pack) > toLsid) continue;
          if (part.headerMemory !== undefined) {
            if (wlogBegin === undefined) {
              wlogBegin = pack.lsid;
              target.start(wholeLsid(pack.lsid, lsidBase) + shiftStart);
            }
            await target.begin(pack, block, pack.lsid === invalidLsid);
            options.onPack?.(pack, lsidBase);
          }
          await target.data(part);
          if (padding !== undefined) await copyPadding(padding, part, header, startBytes, target, tool);
          wlogEnd = nextPackLsid(pack);
        }
      } finally {
        step.value.release();
      }
      tool.progress((wlogEnd - header.beginLsid) * pbsBytes, input.sizeBytes);
    }
    if (target.beginLsid === undefined) target.start(wholeLsid(header.beginLsid, lsidBase) + shiftStart);
    const innerBegin = target.beginLsid ?? 0;
    await target.end(block, target.lsid);
    const { lsidBase: _, ...kept } = device.superblock;
    const superblock: Superblock = {
      ...kept,
      salt: header.salt,
      uuid: header.uuid,
      oldestLsid: innerBegin,
      writtenLsid: innerBegin,
      ...(target.lsidBase === 0n ? {} : { lsidBase: target.lsidBase }),
      ...(options.deviceSizeLb === undefined ? {} : { deviceSizeLb: options.deviceSizeLb }),
    };
    await device.file.sync();
    await writeSuperblock(device.file, lease, superblock);
    const beginLsid = wholeLsid(innerBegin, target.lsidBase);
    const endLsid = wholeLsid(target.lsid, target.lsidBase);
    if (options.verify === true && options.invalidLsid === undefined) {
      await verifyRestored(tool, { file: device.file, superblock }, endLsid);
    }
    const wlogBeginLsid = wholeLsid(wlogBegin ?? header.beginLsid, lsidBase);
    const wlogEndLsid = wholeLsid(wlogEnd, lsidBase);
    const shiftEnd = endLsid - wlogEndLsid;
    return { superblock, wlogBeginLsid, wlogEndLsid, beginLsid, endLsid, shiftStart, shiftEnd };
  } finally {
    await packs.return({ endLsid: 0, hasEndBlock: true });
    await padding?.close();
    lease.release();
  }
}

/** Copies what padding records of a part hold: nothing checks it, but the original keeps it. */
async function copyPadding(
  source: DiskFile,
  part: PackPart,
  wlog: WlogHeader,
  startBytes: number,
  target: RingTarget,
  tool: Tool,
): Promise<void> {
  for (let i = part.firstRecord; i < part.firstRecord + part.data.length; i += 1) {
    const record = part.header.records[i]!;
    if (record.kind !== "padding" || record.sizeLb === 0) continue;
    const sizeBytes = recordDataPb(record, wlog.pbsBytes) * wlog.pbsBytes;
    const lease = await tool.platform.memory.lease(Math.min(mib, sizeBytes));
    try {
      for (let done = 0; done < sizeBytes; done += mib) {
        const data = lease.slice(0, Math.min(mib, sizeBytes - done));
        const lsid = record.lsid + done / wlog.pbsBytes;
        await source.read(startBytes + (lsid - wlog.beginLsid) * wlog.pbsBytes, data);
        await target.write(lsid, data);
      }
    } finally {
      lease.release();
    }
  }
}

async function verifyRestored(tool: Tool, device: LogDevice, endLsid: bigint): Promise<void> {
  const check = await checkLogDevice(tool, device);
  if (check.endLsid === endLsid) return;
  throw new WalbError("damaged", {
    what: `what was restored reads back up to lsid ${check.endLsid} only, not ${endLsid}`,
    where: { file: device.file.path, field: "logpack_lsid" },
    hint: "the device does not keep what is written to it",
  });
}

/** Packs written into the ring one behind the other. */
class RingTarget {
  /** Counted from `lsidBase`, as `lsid`. */
  beginLsid: number | undefined;
  /** Behind the last pack. */
  lsid = 0;
  lsidBase = 0n;
  readonly #device: LogDevice;
  readonly #ring: RingGeometry;
  readonly #limitLb: number;
  #shift = 0;

  constructor(device: LogDevice, ring: RingGeometry, deviceSizeLb: number | undefined) {
    this.#device = device;
    this.#ring = ring;
    this.#limitLb = deviceSizeLb ?? Number.MAX_SAFE_INTEGER;
  }

  start(lsid: bigint): void {
    if (!isLsid(lsid)) throw this.#beyond(`begin at lsid ${lsid}`);
    this.lsidBase = ringLsidBaseOf(lsid, this.#ring.ringSizePb);
    this.beginLsid = innerLsid(lsid, this.lsidBase);
    this.lsid = this.beginLsid;
  }

  /** Writes the header of a pack at its new lsid; before it, where the ring ends, one that is all padding. */
  async begin(pack: LogPackHeader, block: Memory, isInvalid: boolean): Promise<void> {
    for (const record of pack.records) {
      if (record.kind === "padding" || record.offsetLb + record.sizeLb <= this.#limitLb) continue;
      throw new WalbError("out-of-range", {
        what: `the wlog writes up to block ${record.offsetLb + record.sizeLb}, beyond ${this.#limitLb}`,
        where: { field: "offset" },
      });
    }
    const sizePb = 1 + pack.totalDataPb;
    let roomPb = pbToRingEnd(this.#ring, this.lsid);
    while (roomPb < sizePb && roomPb < this.#ring.ringSizePb) {
      const dataPb = Math.min(roomPb - 1, maxPackDataPb);
      await this.#writePadding(dataPb, block);
      this.lsid += 1 + dataPb;
      roomPb -= 1 + dataPb;
      if (roomPb === 0) break;
    }
    if (this.lsid + sizePb - (this.beginLsid ?? 0) > this.#ring.ringSizePb) {
      throw new WalbError("out-of-range", {
        what: `the log does not fit into the ring of ${this.#ring.ringSizePb} blocks`,
        where: { file: this.#device.file.path, field: "ring_buffer_size" },
        hint: "restore a part of it with --from and --to, or use a larger log device",
      });
    }
    const endLsid = wholeLsid(this.lsid + sizePb, this.lsidBase);
    if (!isLsid(endLsid)) throw this.#beyond(`end at lsid ${endLsid}`);
    this.#shift = this.lsid - pack.lsid;
    if (isInvalid) block.bytes.fill(0);
    else {
      const { pbsBytes, salt } = this.#ring;
      encodePackHeader(shifted(pack, this.#shift), pbsBytes, salt, block.bytes, this.lsidBase);
    }
    await this.#device.file.write(lsidOffsetBytes(this.#ring, this.lsid), block);
    this.lsid += sizePb;
  }

  /** Writes what lies at an lsid of the wlog, in the pack that was begun. */
  async write(wlogLsid: number, data: Memory): Promise<void> {
    await this.#device.file.write(lsidOffsetBytes(this.#ring, wlogLsid + this.#shift), data);
  }

  /** Writes the data of a part of the pack that was begun. */
  async data(part: PackPart): Promise<void> {
    const { pbsBytes } = this.#ring;
    for (const [i, memory] of part.data.entries()) {
      const record = part.header.records[part.firstRecord + i]!;
      if (memory !== undefined)
        await this.write(record.lsid, memory.slice(0, recordDataPb(record, pbsBytes) * pbsBytes));
    }
  }

  /** Makes sure that nothing old follows. */
  async end(block: Memory, lsid: number): Promise<void> {
    block.bytes.fill(0);
    if (lsid - (this.beginLsid ?? lsid) >= this.#ring.ringSizePb) return;
    await this.#device.file.write(lsidOffsetBytes(this.#ring, lsid), block);
  }

  #beyond(does: string): WalbError {
    const what = `the log would ${does}, which is none`;
    const hint = "shift the lsids, so that the log of the device begins at 0 or soon after it";
    return new WalbError("out-of-range", { what, where: { file: this.#device.file.path, field: "lsid" }, hint });
  }

  async #writePadding(dataPb: number, block: Memory): Promise<void> {
    const { pbsBytes, salt } = this.#ring;
    const sizeLb = (dataPb * pbsBytes) / lbBytes;
    const record = { kind: "padding", checksum: 0, offsetLb: 0, sizeLb, lsid: this.lsid + 1 } as const;
    const header = { lsid: this.lsid, totalDataPb: dataPb, records: [record] };
    encodePackHeader(header, pbsBytes, salt, block.bytes, this.lsidBase);
    await this.#device.file.write(lsidOffsetBytes(this.#ring, this.lsid), block);
  }
}

function shifted(pack: LogPackHeader, by: number): LogPackHeader {
  return {
    lsid: pack.lsid + by,
    totalDataPb: pack.totalDataPb,
    records: pack.records.map((record) => ({ ...record, lsid: record.lsid + by })),
  };
}
