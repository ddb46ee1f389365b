/** @module What a storage tells of its volumes. */
import type { ArchiveDelta, StorageVolume as VolumeReport } from "../control/storage.ts";
import { brokenWaiting } from "../control/waiting.ts";
import { asWalbError, WalbError } from "../errors.ts";
import type { Timer } from "../platform/clock.ts";
import type { BrokenVolume } from "../volume/directories.ts";
import { type Trouble, troubleReport } from "../volume/trouble.ts";
import { explainStorage, type FollowRest } from "./explain.ts";
import type { StorageAction, StorageVolume } from "./volume.ts";

const deviceWaitMs = 3_000;
/** Snapshots of the queue that are told. */
const queueTold = 100;
const actions: readonly StorageAction[] = ["WlogSend", "WlogRemove"];

/** The status of one volume; a device that does not answer is said, not thrown. */
export async function volumeReport(
  volume: StorageVolume,
  rest: FollowRest | undefined,
  delta: ArchiveDelta | undefined,
): Promise<VolumeReport> {
  const { report, trouble } = await reportWithDevice(volume);
  const waiting = explainStorage({
    volume: volume.name,
    nodeId: volume.settings.nodeId,
    state: volume.machine.state,
    sinceMs: volume.machine.sinceMs,
    isRunning: report.running.length > 0,
    asking: volume.machine.state === "Target" ? volume.asking : undefined,
    isStopping: volume.machine.stopState !== "not-stopping",
    hasBackup: volume.store.done !== undefined,
    trouble,
    rest,
  });
  return {
    ...report,
    ...troubleReport(trouble),
    isFollowed: rest !== undefined || report.running.length > 0,
    ...(delta === undefined ? {} : { archiveDelta: delta }),
    ...(waiting === undefined ? {} : { waiting }),
  };
}

/** What is known without its device, and of that; and what is wrong with the volume, or with the device. */
async function reportWithDevice(
  volume: StorageVolume,
): Promise<{ report: VolumeReport; trouble: Trouble | undefined }> {
  const { machine, store } = volume;
  const done = store.done;
  const latest = store.queue.at(-1) ?? done;
  const report: VolumeReport = {
    volume: volume.name,
    state: machine.state,
    stopState: machine.stopState,
    sinceMs: machine.sinceMs,
    running: [...runningBackup(volume), ...runningActions(volume)],
    device: store.device,
    ...(store.logUuid === undefined ? {} : { uuid: store.logUuid }),
    ...(done === undefined ? {} : { doneLsid: done.lsid, doneGid: done.gid, oldestGid: done.gid, done }),
    queue: store.queue.slice(0, queueTold),
    ...(latest === undefined ? {} : { latestGid: latest.gid }),
    ...(volume.lastSentMs === undefined ? {} : { lastSentMs: volume.lastSentMs }),
  };
  const told = (device: object, error: WalbError | undefined) => {
    const atMs = volume.platform.clock.nowMs();
    volume.deviceTroubleSinceMs = error && (volume.deviceTroubleSinceMs ?? atMs);
    const known = volume.trouble ?? (error && { error, atMs, sinceMs: volume.deviceTroubleSinceMs });
    return { report: { ...report, ...device }, trouble: known };
  };
  try {
    const { device, error } = await inTime(volume, deviceReport(volume));
    return told(device, error);
  } catch (error) {
    return told({}, asWalbError(error, { volume: volume.name }));
  }
}

function runningBackup({ machine, backupProgress }: StorageVolume): VolumeReport["running"] {
  if (machine.state !== "FullSync" && machine.state !== "HashSync") return [];
  return [{ action: machine.state, count: 1, beganMs: machine.sinceMs, ...backupProgress }];
}

function runningActions({ machine }: StorageVolume): VolumeReport["running"] {
  return actions.flatMap((action) => {
    const count = machine.running(action);
    const beganMs = machine.lastBeganMs(action);
    return count === 0 ? [] : [{ action, count, ...(beganMs === undefined ? {} : { beganMs }) }];
  });
}

/** The status of a volume that could not be opened. */
export function brokenReport(broken: BrokenVolume, nodeId: string, nowMs: number): VolumeReport {
  return {
    waiting: brokenWaiting(broken, nodeId),
    volume: broken.volume,
    state: "Broken",
    stopState: "not-stopping",
    running: [],
    ...troubleReport({ error: broken.error, atMs: nowMs }),
  };
}

/** A device that hangs must not hold up the status of all volumes. */
async function inTime<T>(volume: StorageVolume, work: Promise<T>): Promise<T> {
  let timer: Timer | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = volume.platform.clock.timer(deviceWaitMs, () => {
      const what = `the device ${volume.device.name} does not answer within ${deviceWaitMs} ms`;
      reject(new WalbError("timed-out", { what, where: { volume: volume.name }, hint: "look at walb device" }));
    });
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    timer?.cancel();
  }
}

/** What the device tells; and what is wrong with it, if so. */
async function deviceReport(volume: StorageVolume) {
  const info = await volume.device.info();
  const status = await volume.device.status();
  const { lsids, isOverflow } = status;
  volume.noteLatest(lsids.latest);
  const { done, queue } = volume.store;
  const lag =
    done === undefined
      ? {}
      : {
          lagBytes: Math.max(0, lsids.latest - done.lsid) * info.pbsBytes,
          lagMs:
            lsids.latest <= done.lsid && queue.length === 0
              ? 0
              : Math.max(0, volume.platform.clock.nowMs() - Math.max(done.timestampS * 1000, volume.caughtUpMs)),
        };
  const device = {
    sizeLb: info.sizeLb,
    salt: info.salt,
    pbsBytes: info.pbsBytes,
    isOverflow,
    logUsagePb: lsids.latest - lsids.oldest,
    logCapacityPb: info.ringSizePb,
    oldestLsid: lsids.oldest,
    permanentLsid: lsids.permanent,
    latestLsid: lsids.latest,
    ...lag,
  };
  return { device, error: volume.deviceError(status) };
}
