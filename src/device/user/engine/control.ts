/** @module What changes the superblock on request: erasing log, growing the volume, starting the log afresh. */
import { WalbError } from "../../../errors.ts";
import { formatFresh } from "../../../log/format.ts";
import { isPackFault } from "../../../log/pack.ts";
import { LogDeviceReader } from "../../../log/reader.ts";
import { geometryOf } from "../../../log/superblock.ts";
import { checkRange, lbBytes } from "../../../units.ts";
import type { DeviceInfo } from "../../device.ts";
import type { Checkpointer } from "./checkpointer.ts";
import type { EngineCore } from "./core.ts";

/** What the device says of itself. */
export function infoOf(core: EngineCore): DeviceInfo {
  const { superblock, ring, log, data, settings } = core;
  return {
    name: settings.name,
    sizeLb: superblock.deviceSizeLb,
    pbsBytes: ring.pbsBytes,
    uuid: superblock.uuid,
    salt: superblock.salt,
    ringSizePb: ring.ringSizePb,
    ringOffsetPb: ring.ringOffsetPb,
    logPath: log.path,
    dataPath: data.path,
  };
}

/** Moves `oldest`; inside `exclusive`. @throws WalbError `state` unless a pack at or below prevWritten begins there. */
export async function eraseLog(core: EngineCore, checkpointer: Checkpointer, lsid: number): Promise<void> {
  const { oldest, prevWritten } = core.lsids;
  const refuse = (why: string): WalbError =>
    new WalbError("state", {
      what: `the log cannot be erased up to lsid ${lsid}: ${why}`,
      where: { volume: core.settings.name },
      hint: "take an lsid at the end of a log pack that was shipped",
    });
  if (!Number.isSafeInteger(lsid) || lsid < oldest || lsid > prevWritten) {
    throw refuse(`it is not between oldest ${oldest} and prevWritten ${prevWritten}`);
  }
  if (lsid === oldest) return;
  if (lsid < core.lsids.permanent) {
    const { compute, memory } = core.parts;
    const reader = new LogDeviceReader({ file: core.log, ring: core.ring, pool: memory, compute, chunkBytes: 4096 });
    const found = await reader.headerAt(lsid);
    // When the ring went round meanwhile, the header is gone, and its log with it.
    if (isPackFault(found)) throw refuse(`no log pack begins there (${found.field} ${found.reason})`);
  }
  await checkpointer.save({ oldestLsid: lsid });
}

/** Grows volume and file store; inside `exclusive`. @throws WalbError `out-of-range` on shrink or a small device. */
export async function growVolume(core: EngineCore, checkpointer: Checkpointer, sizeLb: number): Promise<void> {
  const where = { volume: core.settings.name };
  const oldLb = core.superblock.deviceSizeLb;
  checkRange(sizeLb, 1, Math.floor(Number.MAX_SAFE_INTEGER / lbBytes), "sizeLb");
  if (sizeLb < oldLb) {
    const what = `the volume has ${oldLb} blocks and cannot shrink to ${sizeLb}`;
    throw new WalbError("out-of-range", { what, where, hint: "make a new volume and copy" });
  }
  if (sizeLb === oldLb) return;
  const storeBytes = await core.data.size();
  if (storeBytes < sizeLb * lbBytes) {
    if (core.data.isBlockDevice) {
      const what = `the data store has ${storeBytes} bytes, too few for ${sizeLb * lbBytes}`;
      const hint = "enlarge the block device first";
      throw new WalbError("out-of-range", { what, where: { ...where, file: core.data.path }, hint });
    }
    await core.data.truncate(sizeLb * lbBytes);
    await core.data.sync();
  }
  await checkpointer.save({ deviceSizeLb: sizeLb });
}

/** Resets log and lsids when all that was logged is on the data store. @throws the failure; then read-only. */
export async function startLogAfresh(core: EngineCore): Promise<void> {
  try {
    await core.data.sync();
    core.superblock = await formatFresh(core.log, core.superblock, core.memory.superblock, core.parts.random);
  } catch (error) {
    core.fail(error, "resetting the log");
    throw core.refusal();
  }
  core.ring = geometryOf(core.superblock);
  for (const name of ["oldest", "prevWritten", "written", "permanent", "flush", "completed", "latest"] as const) {
    core.lsids[name] = 0;
  }
  core.isOverflow = false;
  core.changed();
}
