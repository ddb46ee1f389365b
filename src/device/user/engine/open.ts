/** @module Opening an engine: locks, superblock, redo, then service. */
import { asWalbError, WalbError } from "../../../errors.ts";
import { readSuperblock, writeSuperblock } from "../../../log/format.ts";
import { isPackFault } from "../../../log/pack.ts";
import { LogDeviceReader } from "../../../log/reader.ts";
import { redoLog } from "../../../log/redo.ts";
import { geometryOf, type Superblock } from "../../../log/superblock.ts";
import type { Lease } from "../../../native/memory.ts";
import type { DiskFile } from "../../../platform/disk.ts";
import { kib, lbBytes, mib } from "../../../units.ts";
import { EngineCore, type EngineMemory } from "./core.ts";
import { Engine } from "./impl.ts";
import { batchPacksMax, type EngineOptions, type EngineParts, type EngineSettings, settingsOf } from "./options.ts";
import type { WriteAheadEngine } from "./volume.ts";

/**
 * Locks both stores, redoes the log onto the data store, clears stale headers, and starts serving.
 * @throws WalbError `locked`, `not-found`, `bad-format`, `damaged` (superblock or a record that does not fit the
 * volume), `out-of-range` (data store smaller than the volume), `io`.
 */
export async function openEngine(parts: EngineParts, options: EngineOptions): Promise<WriteAheadEngine> {
  const settings = settingsOf(options);
  const place = { volume: settings.name };
  let log: DiskFile | undefined;
  let data: DiskFile | undefined;
  let lease: Lease | undefined;
  try {
    const { direct } = settings;
    log = await openStore(parts, settings.logPath, direct === true, (store) => logAlignment(parts, store));
    // A sync of the log may have failed: what is redone, and shipped later, must be what the disk has.
    log.forgetCached?.();
    // Writes to the data store come in any multiple of 512 bytes, whatever the PB is.
    const isDataDirect = direct === "auto" ? await isBlockDevice(parts, settings.dataPath) : direct;
    data = await openStore(parts, settings.dataPath, isDataDirect, async () => lbBytes);
    const superblock = await readSuperblock(log, parts.memory);
    await settings.claim(superblock.uuid);
    await checkSizes(data, superblock);
    const redone = await redoLog({
      log,
      data,
      superblock,
      pool: parts.memory,
      compute: parts.compute,
      // Twice what this program leaves unsynced: the log may come from a driver with other limits.
      staleWindowBytes: 2 * settings.unsyncedWindowBytes,
    });
    settings.onRedone(redone);
    const taken = await takeMemory(parts, superblock.pbsBytes);
    lease = taken.lease;
    const current = await nameStore(log, redone.superblock, settings, taken.memory);
    const isOverflow = await hasOverflowed(parts, log, current, settings.unsyncedWindowBytes);
    const core = new EngineCore(parts, settings, { log, data, memory: taken.memory, superblock: current, isOverflow });
    return new Engine(core, taken.lease);
  } catch (error) {
    lease?.release();
    await data?.close();
    await log?.close();
    const known = asWalbError(error, place);
    throw known.code === "not-found" ? await missingStore(parts, settings, known) : known;
  }
}

/** Names the store that is missing, and what to do: that something is not found would leave an administrator guessing. */
async function missingStore(parts: EngineParts, settings: EngineSettings, cause: WalbError): Promise<WalbError> {
  const { name, logPath, dataPath } = settings;
  const [isLog, isData] = [await isMissing(parts, logPath), await isMissing(parts, dataPath)];
  if (!isLog && !isData) return cause;
  const both = `neither its log store ${logPath} nor its data store ${dataPath} is there`;
  const lost = isLog
    ? `if the log is gone for good, so is what was not on the data store yet: walb device delete ${name}, then restore a backup`
    : `if it is gone for good: walb device delete ${name}, then restore a backup`;
  return new WalbError("not-found", {
    what: isLog && isData ? both : `its ${isLog ? "log" : "data"} store is not there`,
    where: { volume: name, file: isLog ? logPath : dataPath },
    hint: `attach its disk, activate its logical volume or mount its file system, then: walb device start ${name}; ${lost}`,
    cause,
  });
}

async function isMissing(parts: EngineParts, path: string): Promise<boolean> {
  return (await parts.disk.info(path)) === undefined;
}

/** Opens and locks a store, with O_DIRECT when it is wanted and `alignmentMax` allows what the device asks for. */
async function openStore(
  parts: EngineParts,
  path: string,
  direct: boolean,
  alignmentMax: (store: DiskFile) => Promise<number>,
): Promise<DiskFile> {
  const store = await parts.disk.open(path, { mode: "write", lock: true, direct });
  try {
    if (!store.isDirect || store.alignmentBytes <= (await alignmentMax(store))) return store;
  } catch (error) {
    await store.close();
    throw error;
  }
  await store.close();
  return parts.disk.open(path, { mode: "write", lock: true, direct: false });
}

async function isBlockDevice(parts: EngineParts, path: string): Promise<boolean> {
  return (await parts.disk.info(path))?.kind === "block";
}

/** Log I/O comes in whole PB. */
async function logAlignment(parts: EngineParts, store: DiskFile): Promise<number> {
  if (store.alignmentBytes <= lbBytes || store.alignmentBytes > 4 * kib) return lbBytes;
  return (await readSuperblock(store, parts.memory)).pbsBytes;
}

async function checkSizes(data: DiskFile, superblock: Superblock): Promise<void> {
  const sizeBytes = await data.size();
  const needBytes = superblock.deviceSizeLb * lbBytes;
  if (sizeBytes >= needBytes) return;
  throw new WalbError("out-of-range", {
    what: `the data store has ${sizeBytes} bytes, but the volume has ${needBytes}`,
    where: { file: data.path },
    hint: "check that log store and data store belong together, or enlarge the data store",
  });
}

const zeroBytes = mib;
const bounceBytes = 256 * kib;
const batchesInFlight = 2;

async function takeMemory(parts: EngineParts, pbsBytes: number): Promise<{ lease: Lease; memory: EngineMemory }> {
  const slotBytes = batchPacksMax * pbsBytes;
  const lease = await parts.memory.lease(zeroBytes + bounceBytes + 4 * kib + batchesInFlight * slotBytes);
  const zeroes = lease.slice(0, zeroBytes);
  zeroes.bytes.fill(0);
  let atBytes = zeroBytes;
  const take = (sizeBytes: number) => {
    const memory = lease.slice(atBytes, sizeBytes);
    atBytes += sizeBytes;
    return memory;
  };
  const slots = Array.from({ length: batchesInFlight }, () => take(slotBytes));
  return { lease, memory: { zeroes, slots, bounce: take(bounceBytes), superblock: take(4 * kib) } };
}

/** The superblock carries the name the volume is served under, as with the kernel driver. */
async function nameStore(
  log: DiskFile,
  superblock: Superblock,
  settings: EngineSettings,
  memory: EngineMemory,
): Promise<Superblock> {
  if (superblock.name === settings.name) return superblock;
  const named: Superblock = { ...superblock, name: settings.name };
  await writeSuperblock(log, memory.superblock, named);
  return named;
}

/**
 * Un-shipped log was overwritten when more is in use than the ring holds. Log that was appended behind the end found by
 * redo, and lost in the crash, may have overwritten some, too: whatever it can have reached is read and checked.
 */
async function hasOverflowed(
  parts: EngineParts,
  log: DiskFile,
  superblock: Superblock,
  unsyncedWindowBytes: number,
): Promise<boolean> {
  const { oldestLsid, writtenLsid, ringSizePb, pbsBytes } = superblock;
  if (writtenLsid === oldestLsid) return false;
  if (writtenLsid - oldestLsid > ringSizePb) return true;
  const reader = new LogDeviceReader({
    file: log,
    ring: geometryOf(superblock),
    pool: parts.memory,
    compute: parts.compute,
  });
  if (isPackFault(await reader.headerAt(oldestLsid))) return true;
  const reachedLsid = writtenLsid + Math.floor((2 * unsyncedWindowBytes) / pbsBytes) - ringSizePb;
  if (reachedLsid <= oldestLsid) return false;
  try {
    for await (const batch of reader.packs(oldestLsid, writtenLsid)) {
      batch.release();
      if (batch.endLsid >= reachedLsid) break;
    }
    return false;
  } catch (error) {
    if (error instanceof WalbError && error.code === "damaged") return true;
    throw error;
  }
}
