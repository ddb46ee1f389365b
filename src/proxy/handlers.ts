/** @module The commands of a proxy. */
import type { Handlers } from "../control/command.ts";
import type { ProxyCommands, ProxyVolume as VolumeReport } from "../control/proxy.ts";
import { brokenWaiting } from "../control/waiting.ts";
import { WalbError } from "../errors.ts";
import type { Platform } from "../platform/platform.ts";
import type { BrokenVolume } from "../volume/directories.ts";
import { clearStatus, troubleReport } from "../volume/trouble.ts";
import { explainDelivery, explainProxy } from "./explain.ts";
import type { Sender } from "./sender.ts";
import type { ProxySettings } from "./settings.ts";
import type { ArchiveRow } from "./store.ts";
import { type ProxyVolume, sendingStates } from "./volume.ts";
import type { ProxyVolumes } from "./volumes.ts";

/** Makes the handlers of a proxy's commands. */
export function proxyHandlers(
  platform: Platform,
  settings: ProxySettings,
  volumes: ProxyVolumes,
): Handlers<ProxyCommands> {
  return {
    async status({ volume }) {
      const known = volumes.all.filter((one) => volume === undefined || one.name === volume);
      const broken = volumes.broken.filter((one) => volume === undefined || one.volume === volume);
      const isUnknown = volume !== undefined && known.length + broken.length === 0;
      const nowMs = platform.clock.nowMs();
      const space = await platform.disk.freeSpace(settings.dataDir).catch(() => undefined);
      if (space !== undefined) for (const one of known) one.noteSpace(space);
      return {
        ...space,
        settings: settingsReport(settings),
        volumes: [
          ...known.map((one) => volumeReport(one, volumes.senders(one), nowMs)),
          ...broken.map((one) => brokenReport(one, settings.nodeId, nowMs)),
          ...(isUnknown ? [{ ...clearStatus(volume), archives: [] }] : []),
        ],
      };
    },

    async volumes() {
      return { volumes: volumes.all.map((volume) => volume.name) };
    },

    async "add-archive"({ volume, archiveName, address, compression, delayS }) {
      await volumes.putArchive(volume, {
        name: archiveName,
        address,
        compression: compression ?? "snappy:0:1",
        delayS: delayS ?? 0,
      });
      return {};
    },

    async "remove-archive"({ volume: name, archiveName }) {
      const volume = volumes.get(name);
      requireArchive(volume, archiveName);
      await volumes.removeArchive(volume, archiveName);
      return {};
    },

    async "list-archives"({ volume }) {
      return { archives: volumes.get(volume).store.archives.map(archiveEntry) };
    },

    async start({ volume }) {
      volumes.start(volumes.get(volume));
      return {};
    },

    async stop({ volume, mode }, context) {
      await volumes.stop(volumes.get(volume), mode, context.signal);
      return {};
    },

    async clear({ volume }) {
      await volumes.clear(volumes.get(volume));
      return {};
    },

    async resize({ volume, sizeLb }) {
      volumes.resize(volumes.get(volume), sizeLb);
      return {};
    },

    async kick({ volume: name, archiveName }) {
      if (name !== undefined) {
        const volume = volumes.get(name);
        volume.machine.require(sendingStates, "kick");
        if (archiveName !== undefined) requireArchive(volume, archiveName);
      }
      volumes.kick(name, archiveName);
      return {};
    },
  };
}

/** @throws WalbError `not-found`. */
function requireArchive({ name, store }: ProxyVolume, archiveName: string): void {
  if (store.archive(archiveName) !== undefined) return;
  throw new WalbError("not-found", {
    what: `the volume is not sent to an archive ${archiveName}`,
    where: { volume: name },
    hint: `its archives are: ${store.archives.map((archive) => archive.name).join(", ") || "none"}`,
  });
}

/** What people see of the settings. */
function settingsReport(settings: ProxySettings) {
  return {
    dataDir: settings.dataDir,
    wdiffSendBytesMax: settings.wdiffSendBytesMax,
    wdiffSendCountMax: settings.wdiffSendCountMax,
    retryDelayMs: settings.retryDelayMs,
    retryDelayMsMax: settings.retryDelayMsMax,
    socketTimeoutMs: settings.socketTimeoutMs,
    maxConnections: settings.maxConnections,
    maxForegroundTasks: settings.maxForegroundTasks,
    maxBackgroundTasks: settings.maxBackgroundTasks,
  };
}

function archiveEntry(archive: ArchiveRow) {
  const { name, address, compression, delayS } = archive;
  return { archiveName: name, address, compression, delayS };
}

function volumeReport(volume: ProxyVolume, senders: readonly Sender[], nowMs: number): VolumeReport {
  const { machine, store, trouble, obstacle } = volume;
  const archives = store.archives.map((archive) => archiveReport(volume, archive, senders, nowMs));
  const waiting = explainProxy({
    volume: volume.name,
    nodeId: volume.settings.nodeId,
    state: machine.state,
    sinceMs: machine.sinceMs,
    isStopping: machine.stopState !== "not-stopping",
    trouble: obstacle,
    lastReceivedMs: store.lastReceivedMs,
    waitsFor: archives.filter(({ pendingCount }) => pendingCount > 0).map(({ archiveName }) => archiveName),
  });
  const sending = machine.running("WdiffSend");
  const beganMs = machine.lastBeganMs("WdiffSend");
  return {
    volume: volume.name,
    state: machine.state,
    stopState: machine.stopState,
    sinceMs: machine.sinceMs,
    sizeLb: store.sizeLb,
    running:
      sending === 0 ? [] : [{ action: "WdiffSend", count: sending, ...(beganMs === undefined ? {} : { beganMs }) }],
    ...(store.lastReceivedMs === undefined ? {} : { lastReceivedMs: store.lastReceivedMs }),
    ...troubleReport(trouble),
    ...(waiting === undefined ? {} : { waiting }),
    archives,
  };
}

function archiveReport(volume: ProxyVolume, archive: ArchiveRow, senders: readonly Sender[], nowMs: number) {
  const { machine, store } = volume;
  const sender = senders.find((candidate) => candidate.archiveName === archive.name);
  const pending = store.pending(archive.name);
  const [oldest, latest] = [pending[0], pending.at(-1)];
  // What is sent next begins at the smallest gid of the log that came first, whatever the order of reception.
  const fromGids = pending.filter(({ uuid }) => uuid === oldest?.uuid).map(({ fromGid }) => fromGid);
  const isSending = sender?.isSending ?? false;
  const waiting = explainDelivery({
    volume: volume.name,
    nodeId: volume.settings.nodeId,
    archiveName: archive.name,
    address: archive.address,
    state: machine.state,
    sinceMs: machine.sinceMs,
    isSending,
    askingSinceMs: sender?.askingSinceMs,
    pendingCount: pending.length,
    oldestReceivedMs: oldest?.receivedMs,
    lastSentMs: sender?.lastSentMs,
    trouble: sender?.trouble,
    placeSinceMs: sender?.placeSinceMs,
    delayS: archive.delayS,
  });
  return {
    ...archiveEntry(archive),
    pendingCount: pending.length,
    pendingBytes: pending.reduce((sum, diff) => sum + diff.sizeBytes, 0),
    isSending,
    ...(oldest === undefined
      ? {}
      : { lagMs: Math.max(0, nowMs - oldest.receivedMs), oldestGid: fromGids.reduce((a, b) => (b < a ? b : a)) }),
    ...(latest === undefined ? {} : { latestGid: latest.toGid }),
    ...(sender?.lastSentMs === undefined ? {} : { lastSentMs: sender.lastSentMs }),
    ...troubleReport(sender?.trouble),
    ...(waiting === undefined ? {} : { waiting }),
  };
}

function brokenReport(broken: BrokenVolume, nodeId: string, nowMs: number): VolumeReport {
  return {
    volume: broken.volume,
    state: "Broken",
    stopState: "not-stopping",
    running: [],
    archives: [],
    waiting: brokenWaiting(broken, nodeId),
    ...troubleReport({ error: broken.error, atMs: nowMs }),
  };
}
