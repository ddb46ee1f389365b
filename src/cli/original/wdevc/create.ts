/** @module `wdevc` commands that make and list devices: format-ldev, create-wdev, list, get-version. */
import { resolve } from "node:path";
import { version } from "../../../control/version.ts";
import { KernelAdmin } from "../../../device/kernel/admin.ts";
import { WalbDriver } from "../../../device/kernel/driver.ts";
import { checkStartParam, type StartParam } from "../../../device/kernel/layout.ts";
import type { VolumeTuning } from "../../../device/user/control/schema.ts";
import { blockBytesFor } from "../../../device/user/daemon-stores.ts";
import { asWalbError, WalbError } from "../../../errors.ts";
import { formatLogDevice, readSuperblock } from "../../../log/format.ts";
import type { DiskFile } from "../../../platform/disk.ts";
import type { Platform } from "../../../platform/platform.ts";
import { RealDiskFile } from "../../../platform/real/file.ts";
import { lbBytes } from "../../../units.ts";
import { superblockLines } from "../../files/lib/log-text.ts";
import type { Io } from "../../verb.ts";
import type { OriginalArgs } from "../options.ts";
import type { OriginalContext } from "../tool.ts";
import { asIoctl } from "./errors.ts";
import { daemonOf, isDaemonNamed } from "./target.ts";
import { tuningAsked, tuningRemarks } from "./tuning.ts";

/** Makes an empty log on LDEV for DDEV, whatever was there. Both may be block devices or files. */
export async function formatLdev({ args, tool, print, io }: OriginalContext): Promise<number> {
  const { platform } = tool;
  await withStores(platform, io, args, async (log, data) => {
    const isBlocks = log.isBlockDevice && data.isBlockDevice;
    if (isBlocks && log.physicalBlockBytes !== data.physicalBlockBytes) {
      throw new WalbError("bad-parameter", {
        what: `physical block size differs:${log.physicalBlockBytes}:${data.physicalBlockBytes}`,
        hint: "use devices of one physical block size, see: lsblk -o NAME,PHY-SEC",
      });
    }
    if (!args.flag("nd")) await discardAll(log);
    const options = {
      name: args.text("n"),
      pbsBytes: isBlocks ? log.physicalBlockBytes : blockBytesFor(data, log),
      deviceSizeLb: Math.floor((await data.size()) / lbBytes),
    };
    print(superblockLines(await formatLogDevice(log, options, platform)));
  });
  return 0;
}

/** Starts a device over a formatted log: with the driver when it is loaded and both are block devices. */
export async function createWdev({ args, tool, print, logError, io }: OriginalContext): Promise<number> {
  const { platform } = tool;
  const param: StartParam = {
    name: args.text("n"),
    maxLogpackKb: args.int("maxl"),
    maxPendingMb: args.int("maxp"),
    minPendingMb: args.int("minp"),
    queueStopTimeoutMs: args.int("qp"),
    logFlushIntervalMb: args.int("fs"),
    logFlushIntervalMs: args.int("fp"),
    packBulk: args.int("bp"),
    ioBulk: args.int("bi"),
  };
  const stores = storePaths(args, io);
  const started: Started = await asIoctl(async () => {
    checkStartParam(param);
    return (await isForDriver(platform, io, stores))
      ? await new KernelAdmin(platform).startOver(stores, param)
      : await createAtDaemon(platform, io, stores, args);
  });
  print(`name ${started.name}`);
  print(`major ${started.major}`);
  print(`minor ${started.minor}`);
  const remarks = started.tuning === undefined ? [] : tuningRemarks(args, started.tuning);
  for (const remark of remarks) logError(`wdevc create-wdev:${remark}`);
  return 0;
}

/** One line a device: `major minor name`; those of the daemon are no block devices and have 0 for both. */
export async function listWdevs({ tool, print, logError, io }: OriginalContext): Promise<number> {
  const { platform } = tool;
  const ofDriver = await driverDevices(platform);
  for (const { major, minor, diskName } of ofDriver ?? []) {
    print(`${major} ${minor} ${diskName.replace(/^walb\//, "")}`);
  }
  try {
    const client = await daemonOf(platform, io);
    try {
      for (const { name } of await client.list()) print(`0 0 ${name}`);
    } finally {
      await client.close();
    }
  } catch (error) {
    // On a host with the driver alone there is no daemon.
    if (ofDriver === undefined) throw error;
    if (isDaemonNamed(io)) logError(`wdevc list:${asWalbError(error).message}`);
  }
  return 0;
}

/** Version of the driver; without it ours, which makes the devices then. */
export async function printVersion({ tool, print }: OriginalContext): Promise<number> {
  const { kernel } = tool.platform;
  try {
    if (kernel === undefined) print(version);
    else print(await new WalbDriver(kernel).version());
  } catch (error) {
    if (asWalbError(error).code !== "unsupported") throw error;
    print(version);
  }
  return 0;
}

interface Started {
  readonly name: string;
  readonly major: number;
  readonly minor: number;
  /** In force; only of a device of the daemon. */
  readonly tuning?: VolumeTuning;
}

interface Stores {
  readonly logPath: string;
  readonly dataPath: string;
}

function storePaths(args: OriginalArgs, io: Io): Stores {
  return { logPath: resolve(io.cwd, args.param(0)), dataPath: resolve(io.cwd, args.param(1)) };
}

async function withStores(
  platform: Platform,
  io: Io,
  args: OriginalArgs,
  work: (log: DiskFile, data: DiskFile) => Promise<void>,
): Promise<void> {
  const { logPath, dataPath } = storePaths(args, io);
  // Exclusively: a log under a running device must not be written over.
  const log = await platform.disk.open(logPath, { mode: "write", lock: true });
  try {
    const data = await platform.disk.open(dataPath, { mode: "write", lock: true });
    try {
      await work(log, data);
    } finally {
      await data.close();
    }
  } finally {
    await log.close();
  }
}

/** What cannot discard stays as it is: the new salt makes everything in it invalid. */
async function discardAll(log: DiskFile): Promise<void> {
  if (!(log instanceof RealDiskFile)) return;
  await log.discard(0, await log.size()).catch(() => undefined);
}

async function isForDriver(platform: Platform, io: Io, { logPath, dataPath }: Stores): Promise<boolean> {
  const { kernel } = platform;
  if (kernel === undefined || isDaemonNamed(io) || (await driverDevices(platform)) === undefined) return false;
  return (await kernel.deviceNumber(logPath)) !== undefined && (await kernel.deviceNumber(dataPath)) !== undefined;
}

/** undefined when the driver is not loaded. */
async function driverDevices(platform: Platform) {
  if (platform.kernel === undefined) return undefined;
  try {
    return await new WalbDriver(platform.kernel).list();
  } catch (error) {
    if (asWalbError(error).code === "unsupported") return undefined;
    throw error;
  }
}

/** The daemon names a device as the driver does: as asked, as its superblock says, or the first free number. */
async function createAtDaemon(platform: Platform, io: Io, { logPath, dataPath }: Stores, args: OriginalArgs) {
  const client = await daemonOf(platform, io);
  try {
    const asked = args.text("n");
    const name = asked !== "" ? asked : await storedName(platform, logPath);
    const wanted = name !== "" ? name : firstFree((await client.list()).map((report) => report.name));
    const tuning = tuningAsked(args);
    const isTuned = Object.keys(tuning).length > 0;
    const volume = { name: wanted, logPath, dataPath, reuseLog: true };
    const report = await client.create(isTuned ? { ...volume, tuning } : volume);
    return { name: report.name, major: 0, minor: 0, tuning: report.tuning ?? {} };
  } finally {
    await client.close();
  }
}

async function storedName(platform: Platform, logPath: string): Promise<string> {
  const log = await platform.disk.open(logPath, { mode: "read" });
  try {
    return (await readSuperblock(log, platform.memory)).name;
  } finally {
    await log.close();
  }
}

function firstFree(names: readonly string[]): string {
  let number = 0;
  while (names.includes(String(number))) number += 1;
  return String(number);
}
