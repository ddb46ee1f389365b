/** @module What is checked before a volume of the device daemon is made, started again, stopped or deleted. */
import { WalbError } from "../../errors.ts";
import type { Disk } from "../../platform/disk.ts";
import type { StopOptions } from "./control/admin.ts";
import { maxVolumes } from "./control/schema.ts";
import type { Volume } from "./daemon-report.ts";
import type { StoreWishes } from "./daemon-stores.ts";
import type { WriteAheadEngine } from "./engine.ts";

/** Absolute paths of the stores of each volume. */
export type TakenStores = ReadonlyMap<string, readonly string[]>;

/** What the volumes have. @param resolve makes paths absolute. */
export function takenStores(volumes: Iterable<Volume>, resolve: (path: string) => string): TakenStores {
  const taken = new Map<string, readonly string[]>();
  for (const { name, config } of volumes) {
    if (config !== undefined) taken.set(name, [resolve(config.dataPath), resolve(config.logPath)]);
  }
  return taken;
}

/** @throws WalbError `already-exists`, `state`. */
export function checkNew(name: string, volumes: ReadonlyMap<string, unknown>): void {
  if (volumes.has(name)) {
    throw new WalbError("already-exists", {
      what: "there is a volume of this name",
      where: { volume: name },
      hint: "choose another name, or delete it first",
    });
  }
  if (volumes.size < maxVolumes) return;
  const hint = "run a second device daemon with another --data directory";
  throw new WalbError("state", { what: `there are ${maxVolumes} volumes already`, hint });
}

/** @param watchers consumers of its log that it must not be taken from. @throws WalbError `busy`. */
export function checkUnused(name: string, connections: number, watchers: number, options: StopOptions): void {
  if (options.force === true || connections + watchers === 0) return;
  throw new WalbError("busy", {
    what: `the volume is in use: ${connections} NBD connections, ${watchers} consumers of its log`,
    where: { volume: name },
    hint: "disconnect them first, or force it with --force",
  });
}

/** @throws WalbError `bad-parameter`. */
export function checkAbsolute(path: string | undefined, dataDir: string): void {
  if (path === undefined || path.startsWith("/")) return;
  throw new WalbError("bad-parameter", {
    what: `the path ${JSON.stringify(path)} is not absolute`,
    hint: `give the whole path, e.g. ${dataDir}/${path}`,
  });
}

/**
 * Before anything is written: what is there already must survive a crash in the middle of a create.
 * @throws WalbError `already-exists`, `busy`, `bad-parameter`.
 */
export async function checkFree(disk: Disk, stores: StoreWishes, taken: TakenStores): Promise<void> {
  for (const [isOwn, path, flag] of [
    [stores.ownsData, stores.dataPath, "--data"],
    [stores.ownsLog, stores.logPath, "--log"],
  ] as const) {
    if (!isOwn || (await disk.info(path)) === undefined) continue;
    throw new WalbError("already-exists", {
      what: "there is a file already where the store would be made",
      where: { volume: stores.name, file: path },
      hint: `move it away, or take it with ${flag} PATH`,
    });
  }
  for (const [other, paths] of taken) {
    const path = [stores.dataPath, stores.logPath].find((candidate) => paths.includes(candidate));
    if (path === undefined) continue;
    throw new WalbError("busy", {
      what: `the store belongs to the volume ${other}`,
      where: { volume: stores.name, file: path },
      hint: "use another file or device",
    });
  }
  if (stores.dataPath !== stores.logPath) return;
  throw new WalbError("bad-parameter", {
    what: "data and log cannot share a store",
    where: { file: stores.dataPath },
  });
}

/**
 * A volume that takes no more writes can still be read: it is not closed for a redo that would find no space.
 * @throws WalbError `no-space`.
 */
export async function checkSpaceForRedo(disk: Disk, engine: WriteAheadEngine): Promise<void> {
  if (engine.failure?.code !== "no-space") return;
  const { dataPath, pbsBytes } = engine.deviceInfo();
  const info = await disk.info(dataPath);
  if (info?.kind !== "file") return;
  const { lsids } = engine.deviceStatus();
  // At most so much is redone; a store that has all its space needs none.
  const logBytes = (lsids.completed - lsids.prevWritten) * pbsBytes;
  const neededBytes = Math.min(logBytes, Math.max(0, info.sizeBytes - info.allocatedBytes));
  const { freeBytes } = await disk.freeSpace(dataPath);
  if (freeBytes >= neededBytes) return;
  throw new WalbError("no-space", {
    what: `the file system has ${freeBytes} bytes free, and what is only in the log may need ${neededBytes}`,
    where: { volume: engine.name, file: dataPath },
    hint: `make room on it, then: walb device start ${engine.name}; until then the volume can be read`,
  });
}
