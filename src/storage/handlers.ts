/** @module The commands of a storage. */
import type { Handlers } from "../control/command.ts";
import type { StorageCommands } from "../control/storage.ts";
import { WalbError } from "../errors.ts";
import { addressText } from "../platform/net.ts";
import type { Platform } from "../platform/platform.ts";
import { clearStatus } from "../volume/trouble.ts";
import { fullBackup } from "./full-backup.ts";
import type { TransferMemory } from "./memory.ts";
import type { ProxyList } from "./proxies.ts";
import type { StorageSettings } from "./settings.ts";
import { brokenReport, volumeReport } from "./status.ts";
import type { StorageVolume } from "./volume.ts";
import type { StorageVolumes } from "./volumes.ts";

/** What the handlers work on. */
export interface HandlerParts {
  readonly platform: Platform;
  readonly settings: StorageSettings;
  readonly volumes: StorageVolumes;
  readonly proxies: ProxyList;
  readonly memory: TransferMemory;
}

/** Bulk of full backups: 256 KiB. */
const bulkLb = 512;

/** Makes the handlers of a storage's commands. */
export function storageHandlers(parts: HandlerParts): Handlers<StorageCommands> {
  const { platform, settings, volumes, proxies, memory } = parts;
  let backupsRunning = 0;

  return {
    async status({ volume }) {
      const known = volume === undefined ? volumes.all : volumes.all.filter((one) => one.name === volume);
      const broken = volumes.broken.filter((one) => volume === undefined || one.volume === volume);
      const isUnknown = volume !== undefined && known.length + broken.length === 0;
      return {
        archive: addressText(settings.archive),
        proxies: proxies.status().map((proxy) => ({
          address: addressText(proxy.address),
          isAvailable: proxy.isAvailable,
          ...(proxy.checkedMs === undefined ? {} : { checkedMs: proxy.checkedMs }),
        })),
        volumes: [
          ...(await Promise.all(known.map(volumeReport))),
          ...broken.map((one) => brokenReport(one, platform.clock.nowMs())),
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

    async backup({ volume: name, mode }, context) {
      const volume = volumes.get(name);
      if (mode === "hash") {
        throw new WalbError("unsupported", {
          what: "hash backups are not built yet",
          where: { volume: name },
          hint: `take a full backup: walb backup ${name} --full`,
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
      try {
        const result = await fullBackup(volume, {
          pool: memory.scanning,
          bulkLb,
          rateBytesPerS: () => settings.fullScanBytesPerS,
          signal: context.signal,
          progress: context.progress,
          follow: () => volumes.follow(volume),
          unfollow: () => volumes.unfollow(volume),
        });
        const elapsedMs = Math.round(platform.clock.monotonicMs() - startMs);
        return { mode: "full" as const, ...result, elapsedMs };
      } finally {
        backupsRunning -= 1;
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
      const volume = volumes.get(name);
      volume.machine.requireNotStopping("stop");
      volume.machine.setStopState(mode === "force" ? "force-stopping" : "stopping");
      try {
        if (mode === "graceful") await volume.machine.until(() => !volume.machine.isInTransition, context.signal);
        const isTarget = volume.machine.state === "Target";
        const transition = volume.machine.begin(["Target", "Standby"], isTarget ? "StopTarget" : "StopStandby", "stop");
        const to = isTarget ? "Stopped" : "SyncReady";
        await volumes.unfollow(volume);
        volume.store.setState(to);
        transition.commit(to);
      } finally {
        volume.machine.setStopState("not-stopping");
      }
      return {};
    },

    async reset({ volume: name, gid }) {
      const volume = volumes.get(name);
      volume.machine.requireNotStopping("reset");
      const transition = volume.machine.begin(["Stopped"], "Reset", "reset");
      try {
        await resetLog(volume, gid ?? 0n);
        transition.commit("SyncReady");
        volume.clearTrouble();
      } catch (error) {
        transition.rollback();
        throw error;
      }
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
  };
}

async function startTarget(volume: StorageVolume, volumes: StorageVolumes): Promise<void> {
  const transition = volume.machine.begin(["Stopped"], "StartTarget", "start as target");
  try {
    if ((await volume.deviceStatus()).isOverflow) throw volume.overflowError();
    volume.store.setState("Target");
    transition.commit("Target");
  } catch (error) {
    transition.rollback();
    throw error;
  }
  volumes.follow(volume);
}

async function startStandby(volume: StorageVolume, volumes: StorageVolumes): Promise<void> {
  const transition = volume.machine.begin(["SyncReady"], "StartStandby", "start as standby");
  try {
    if ((await volume.device.status()).isOverflow) await resetLog(volume, 0n);
    volume.store.setState("Standby");
    transition.commit("Standby");
  } catch (error) {
    transition.rollback();
    throw error;
  }
  volumes.follow(volume);
}

async function resetLog(volume: StorageVolume, gid: bigint): Promise<void> {
  const fresh = await volume.device.resetLog();
  volume.store.reset(fresh.uuid, gid, Math.floor(volume.platform.clock.nowMs() / 1000));
}
