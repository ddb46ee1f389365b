/** @module The commands of a storage. */
import type { Handlers } from "../control/command.ts";
import type { StorageCommands } from "../control/storage.ts";
import { WalbError } from "../errors.ts";
import { addressOf, addressText } from "../platform/net.ts";
import type { Platform } from "../platform/platform.ts";
import { kib, lbBytes } from "../units.ts";
import { clearStatus } from "../volume/trouble.ts";
import type { ArchiveDeltas } from "./archive-delta.ts";
import { dumpLogHeader } from "./dump-header.ts";
import { fullBackup } from "./full-backup.ts";
import { hashBackup } from "./hash-backup.ts";
import type { TransferMemory } from "./memory.ts";
import type { StoragePeers } from "./peers.ts";
import { probeRole } from "./probe.ts";
import type { ProxyList } from "./proxies.ts";
import type { StorageSettings } from "./settings.ts";
import { brokenReport, volumeReport } from "./status.ts";
import type { StorageState, StorageVolume } from "./volume.ts";
import type { StorageVolumes } from "./volumes.ts";

/** What the handlers work on. */
export interface HandlerParts {
  readonly platform: Platform;
  readonly settings: StorageSettings;
  readonly peers: StoragePeers;
  readonly volumes: StorageVolumes;
  readonly proxies: ProxyList;
  readonly deltas: ArchiveDeltas;
  readonly memory: TransferMemory;
}

/** Bulk of backups by default. */
const bulkBytesDefault = 256 * kib;
/** Bulks begin where direct I/O can read. */
const bulkUnitBytes = 4096;

/** Makes the handlers of a storage's commands. */
export function storageHandlers(parts: HandlerParts): Handlers<StorageCommands> {
  const { platform, settings, peers, volumes, proxies, deltas, memory } = parts;
  let backupsRunning = 0;
  let { fullScanBytesPerS } = settings;

  return {
    async status({ volume }) {
      const known = volume === undefined ? volumes.all : volumes.all.filter((one) => one.name === volume);
      const broken = volumes.broken.filter((one) => volume === undefined || one.volume === volume);
      const isUnknown = volume !== undefined && known.length + broken.length === 0;
      return {
        archive: addressText(settings.archive),
        told: peers.told,
        proxies: proxies.status().map((proxy) => ({
          address: addressText(proxy.address),
          isAvailable: proxy.isAvailable,
          nextCheckMs: proxy.nextCheckMs,
          ...(proxy.checkedMs === undefined ? {} : { checkedMs: proxy.checkedMs }),
          ...(proxy.sinceMs === undefined ? {} : { sinceMs: proxy.sinceMs }),
          ...(proxy.error === undefined ? {} : { error: proxy.error.message }),
        })),
        ...(deltas.error === undefined ? {} : { archiveError: deltas.error.message }),
        settings: { ...settingsReport(settings), fullScanBytesPerS },
        volumes: [
          ...(await Promise.all(
            known.map((one) => volumeReport(one, volumes.follower(one)?.rest, deltas.of(one.name))),
          )),
          ...broken.map((one) => brokenReport(one, settings.nodeId, platform.clock.nowMs())),
          ...(isUnknown ? [clearStatus(volume)] : []),
        ],
      };
    },

    async volumes() {
      return { volumes: volumes.all.map((volume) => volume.name) };
    },

    async init({ volume, device }) {
      await volumes.create(volume, device);
      return {};
    },

    async clear({ volume: name }) {
      const volume = volumes.get(name);
      volume.machine.requireNotStopping("clear");
      const transition = volume.machine.begin(["SyncReady"], "ClearVol", "clear");
      try {
        await volumes.remove(volume);
      } catch (error) {
        transition.rollback();
        throw error;
      }
      return {};
    },

    async backup({ volume: name, mode, bulkBytes }, context) {
      const volume = volumes.get(name);
      const bulkLb = (bulkBytes ?? bulkBytesDefault) / lbBytes;
      if ((bulkLb * lbBytes) % bulkUnitBytes !== 0) {
        throw new WalbError("bad-parameter", {
          what: `a bulk of ${bulkBytes} bytes is not a multiple of ${bulkUnitBytes}`,
          where: { volume: name, field: "bulkBytes" },
          hint: `for example ${bulkBytesDefault}`,
        });
      }
      if (backupsRunning >= settings.maxForegroundTasks) {
        throw new WalbError("busy", {
          what: `${backupsRunning} backups are running, which is the limit`,
          where: { host: settings.nodeId, volume: name },
          hint: "wait for one of them, or start the storage with a larger --foreground-tasks",
        });
      }
      backupsRunning += 1;
      const startMs = platform.clock.monotonicMs();
      const stopped = new AbortController();
      try {
        volume.machine.require(["SyncReady"], `take a ${mode} backup`);
        volume.cancelBackup = (reason) => stopped.abort(reason);
        const result = await (mode === "full" ? fullBackup : hashBackup)(volume, {
          pool: memory.scanning,
          compute: platform.compute,
          bulkLb,
          rateBytesPerS: () => fullScanBytesPerS,
          signal: AbortSignal.any([context.signal, stopped.signal]),
          progress(report) {
            const { doneBytes, totalBytes } = report;
            volume.backupProgress = totalBytes === undefined ? undefined : { doneBytes, totalBytes };
            context.progress(report);
          },
          accepted: () => context.accepted?.(),
          follow: () => volumes.follow(volume, "target"),
          unfollow: () => volumes.unfollow(volume, "force"),
          kick: () => volumes.kick(name),
        });
        const elapsedMs = Math.round(platform.clock.monotonicMs() - startMs);
        return { mode, ...result, elapsedMs };
      } finally {
        backupsRunning -= 1;
        if (!volume.machine.isInTransition) volume.backupProgress = undefined;
        if (!volume.machine.isInTransition) volume.cancelBackup = undefined;
      }
    },

    async snapshot({ volume: name }) {
      const volume = volumes.get(name);
      volume.machine.requireNotStopping("take a snapshot");
      volume.machine.require(["Target", "Stopped"], "take a snapshot");
      const point = await volume.takeSnapshot(false);
      volumes.kick(name);
      return { gid: point.gid, timeMs: point.timestampS * 1000 };
    },

    async start({ volume: name, mode }) {
      const volume = volumes.get(name);
      volume.machine.requireNotStopping("start");
      await (mode === "target" ? startTarget(volume, volumes) : startStandby(volume, volumes));
      return {};
    },

    async stop({ volume: name, mode }, context) {
      await stopVolume(volumes.get(name), volumes, mode, context.signal);
      return {};
    },

    async reset({ volume: name, gid }) {
      const volume = volumes.get(name);
      volume.machine.requireNotStopping("reset");
      const transition = volume.machine.begin(["Stopped"], "Reset", "reset");
      try {
        await volume.resetLog(gid ?? volume.store.unusedGid);
        transition.commit("SyncReady");
        volume.clearTrouble();
      } catch (error) {
        transition.rollback();
        throw error;
      }
      return {};
    },

    async "set-device"({ volume, device }) {
      await volumes.setDevice(volume, device);
      return {};
    },

    async resize({ volume: name, sizeLb }) {
      const volume = volumes.get(name);
      volume.machine.requireNotStopping("resize");
      volume.machine.require(["SyncReady", "Stopped", "Target", "Standby"], "resize");
      await volume.device.resize(sizeLb);
      return {};
    },

    async kick({ volume }) {
      if (volume !== undefined) volumes.get(volume);
      proxies.kick();
      volumes.kick(volume);
      return {};
    },

    async "set-archive"({ address }) {
      // A backup under way goes on to the archive that it began with.
      // A wrong address would show at the next backup only.
      if (address !== undefined) await probeRole(platform, settings.nodeId, addressOf(address), "archive");
      await peers.setArchive(address);
      deltas.askNow();
      return { archive: addressText(peers.archive) };
    },

    async "set-proxies"({ addresses }) {
      const texts = addresses === undefined ? undefined : [...new Set(addresses)];
      await peers.setProxies(texts);
      proxies.replace(peers.proxies);
      volumes.kick();
      return { proxies: peers.proxies.map(addressText) };
    },

    async "set-scan-rate"({ bytesPerS }) {
      fullScanBytesPerS = bytesPerS ?? fullScanBytesPerS;
      return { bytesPerS: fullScanBytesPerS };
    },

    async "dump-log-header"({ volume, lsid }) {
      const { file, fault } = await dumpLogHeader(volumes.get(volume), lsid, memory.reading);
      return { file, ...(fault === undefined ? {} : { fault }) };
    },
  };
}

/** What people see of the settings. */
function settingsReport(settings: StorageSettings) {
  return {
    dataDir: settings.dataDir,
    wlogSendBytesMax: settings.wlogSendBytesMax,
    snapshotIntervalMs: settings.snapshotIntervalMs,
    retryDelayMs: settings.retryDelayMs,
    retryDelayMsMax: settings.retryDelayMsMax,
    socketTimeoutMs: settings.socketTimeoutMs,
    maxConnections: settings.maxConnections,
    maxForegroundTasks: settings.maxForegroundTasks,
    maxBackgroundTasks: settings.maxBackgroundTasks,
    archiveDeltaIntervalMs: settings.archiveDeltaIntervalMs,
  };
}

async function startTarget(volume: StorageVolume, volumes: StorageVolumes): Promise<void> {
  const transition = volume.machine.begin(["Stopped"], "StartTarget", "start as target");
  try {
    if ((await volume.deviceStatus()).isOverflow) throw volume.overflowError();
    volume.store.setState("Target");
    transition.commit("Target");
    volume.clearTrouble();
  } catch (error) {
    transition.rollback();
    throw error;
  }
  volumes.follow(volume, "target");
}

async function startStandby(volume: StorageVolume, volumes: StorageVolumes): Promise<void> {
  const transition = volume.machine.begin(["SyncReady"], "StartStandby", "start as standby");
  try {
    if ((await volume.device.status()).isOverflow) await volume.resetLog(volume.store.unusedGid);
    volume.store.setState("Standby");
    transition.commit("Standby");
  } catch (error) {
    transition.rollback();
    throw error;
  }
  volumes.follow(volume, "standby");
}

/**
 * Stops following. Graceful waits for a backup and a transfer under way; force gives them up, also when a graceful stop
 * waits for them already. A backup that is given up leaves the volume as before it: SyncReady.
 */
async function stopVolume(
  volume: StorageVolume,
  volumes: StorageVolumes,
  mode: "graceful" | "force",
  signal: AbortSignal,
): Promise<void> {
  const { machine } = volume;
  const hurry = (): void => {
    volume.cancelBackup?.(
      new WalbError("cancelled", { what: "the volume was stopped", where: { volume: volume.name } }),
    );
    void volumes.unfollow(volume, "force");
  };
  if (mode === "force" && machine.stopState === "stopping") {
    machine.setStopState("force-stopping");
    hurry();
    await machine.until(() => machine.stopState === "not-stopping", signal);
    machine.require(["Stopped", "SyncReady"], "stop");
    return;
  }
  machine.requireNotStopping("stop");
  const startState: StorageState = machine.state;
  const isBackup = startState === "FullSync" || startState === "HashSync";
  if (!machine.isInTransition) machine.require(["Target", "Standby"], "stop");
  machine.setStopState(mode === "force" ? "force-stopping" : "stopping");
  try {
    if (mode === "force" && isBackup) hurry();
    await machine.until(() => !machine.isInTransition, signal);
    if (isBackup && machine.state === "SyncReady") return;
    const isTarget = machine.state === "Target";
    const transition = machine.begin(["Target", "Standby"], isTarget ? "StopTarget" : "StopStandby", "stop");
    try {
      await volumes.unfollow(volume, mode);
      const to = isTarget ? "Stopped" : "SyncReady";
      volume.store.setState(to);
      transition.commit(to);
      volume.clearPassingTrouble();
    } catch (error) {
      transition.rollback();
      volumes.follow(volume, isTarget ? "target" : "standby");
      throw error;
    }
  } finally {
    machine.setStopState("not-stopping");
  }
}
