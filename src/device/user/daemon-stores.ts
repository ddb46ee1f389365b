/** @module Making and removing the stores of a volume: data file or device, and a formatted log. */
import { asWalbError, WalbError } from "../../errors.ts";
import { formatLogDevice, readSuperblock } from "../../log/format.ts";
import type { DiskFile } from "../../platform/disk.ts";
import type { Platform } from "../../platform/platform.ts";
import { alignDown, gib, lbBytes } from "../../units.ts";
import type { VolumeConfig } from "./daemon-config.ts";

const pageBytes = 4096;
const logSizeDefaultBytes = gib;

/** What a log is to be for the stores it lies in. */
export interface LogWishes {
  readonly name: string;
  readonly sizeBytes: number | undefined;
  readonly pbsBytes: number | undefined;
  readonly reuseLog: boolean;
}

/** What the stores of a new volume are to be. Paths are absolute. */
export interface StoreWishes extends LogWishes {
  readonly dataPath: string;
  readonly logPath: string;
  /** The paths are the daemon's own choice: nothing is there yet. */
  readonly ownsData: boolean;
  readonly ownsLog: boolean;
  readonly logSizeBytes: number | undefined;
}

/** Makes or takes both stores and formats the log. When it fails, files it made are gone. Returns the volume's size. */
export async function makeStores(platform: Platform, wishes: StoreWishes): Promise<number> {
  const made: string[] = [];
  const files: DiskFile[] = [];
  try {
    const data = await openStore(platform, wishes.dataPath, wishes.sizeBytes, made, false);
    files.push(data);
    const logSizeBytes = wishes.logSizeBytes ?? logSizeDefaultBytes;
    const log = await openStore(platform, wishes.logPath, logSizeBytes, made, true);
    files.push(log);
    return await prepareStores(platform, wishes, data, log);
  } catch (error) {
    for (const file of files.splice(0)) await file.close();
    for (const path of made) await platform.disk.remove(path);
    throw asWalbError(error, { volume: wishes.name });
  } finally {
    for (const file of files) await file.close();
  }
}

/** Removes the stores that the daemon made itself. */
export async function removeOwnStores(
  platform: Platform,
  config: VolumeConfig,
  resolve: (path: string) => string,
): Promise<void> {
  if (config.ownsData) await platform.disk.remove(resolve(config.dataPath));
  if (config.ownsLog) await platform.disk.remove(resolve(config.logPath));
}

async function openStore(
  platform: Platform,
  path: string,
  sizeBytes: number | undefined,
  made: string[],
  isReserved: boolean,
): Promise<DiskFile> {
  const info = await platform.disk.info(path);
  if (info !== undefined) {
    if (info.kind !== "file" && info.kind !== "block") {
      const hint = "name a file or a block device";
      throw new WalbError("bad-parameter", { what: `a ${info.kind} cannot be a store`, where: { file: path }, hint });
    }
    return await platform.disk.open(path, { mode: "write", lock: true });
  }
  if (sizeBytes === undefined) {
    throw new WalbError("bad-parameter", {
      what: "the size of the volume is missing",
      where: { field: "sizeBytes" },
      hint: "give one, e.g. --size 10G",
    });
  }
  const file = await platform.disk.open(path, { mode: "create", lock: true });
  made.push(path);
  try {
    await file.truncate(sizeBytes);
    // A log that finds no space would stop the volume: better said now. Data takes its space as it comes.
    if (isReserved) await file.allocate?.(0, sizeBytes);
    await file.sync();
  } catch (error) {
    await file.close();
    throw error;
  }
  const slash = path.lastIndexOf("/");
  await platform.disk.syncDirectory(slash <= 0 ? "/" : path.slice(0, slash));
  return file;
}

/** Formats the log, or takes the one that is there. Returns the volume's size. */
export async function prepareStores(
  platform: Platform,
  wishes: LogWishes,
  data: DiskFile,
  log: DiskFile,
): Promise<number> {
  const dataBytes = await data.size();
  const existing = await superblockOf(platform, log);
  if (wishes.reuseLog) {
    if (existing === undefined) {
      const hint = "leave out --reuse-log to format it";
      throw new WalbError("bad-format", { what: "there is no log to reuse", where: { file: log.path }, hint });
    }
    const keptBytes = existing.deviceSizeLb * lbBytes;
    checkFits(wishes.sizeBytes ?? keptBytes, keptBytes, log.path, "the log is for a volume");
    checkFits(keptBytes, dataBytes, data.path, "the data store");
    return keptBytes;
  }
  if (existing !== undefined) {
    throw new WalbError("already-exists", {
      what: `there is a log of the volume ${JSON.stringify(existing.name)} in the log store`,
      where: { file: log.path },
      hint: "take it over with --reuse-log, or clear its first 8 KiB to lose it",
    });
  }
  const sizeBytes = wishes.sizeBytes ?? alignDown(dataBytes, lbBytes);
  checkFits(sizeBytes, dataBytes, data.path, "the data store");
  const pbsBytes = wishes.pbsBytes ?? blockBytesFor(data, log);
  const deviceSizeLb = sizeBytes / lbBytes;
  await formatLogDevice(log, { name: wishes.name, pbsBytes, deviceSizeLb }, platform);
  return sizeBytes;
}

/** The block size of a log for these stores: 512 or 4096. */
export function blockBytesFor(data: DiskFile, log: DiskFile): number {
  const blockBytes = Math.max(
    // A page cache reads a page before it changes a part of it.
    log.isBlockDevice ? lbBytes : pageBytes,
    data.physicalBlockBytes,
    log.physicalBlockBytes,
    data.alignmentBytes,
    log.alignmentBytes,
  );
  return blockBytes > lbBytes ? 4096 : lbBytes;
}

async function superblockOf(
  platform: Platform,
  log: DiskFile,
): Promise<{ name: string; deviceSizeLb: number } | undefined> {
  try {
    return await readSuperblock(log, platform.memory);
  } catch (error) {
    // Damaged is not "none": somebody may want to rescue it.
    if (error instanceof WalbError && error.code === "bad-format") return undefined;
    throw error;
  }
}

function checkFits(sizeBytes: number, storeBytes: number, file: string, store: string): void {
  if (sizeBytes > 0 && sizeBytes <= storeBytes) return;
  throw new WalbError("out-of-range", {
    what: `${store} of ${storeBytes} bytes cannot hold a volume of ${sizeBytes} bytes`,
    where: { file, field: "sizeBytes" },
    hint: "give a larger store or a smaller --size",
  });
}
