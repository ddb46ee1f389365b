/** @module The commands of a proxy. */
import type { Handlers } from "../control/command.ts";
import type { ProxyCommands, ProxyVolume as VolumeReport } from "../control/proxy.ts";
import { WalbError } from "../errors.ts";
import type { Platform } from "../platform/platform.ts";
import type { BrokenVolume } from "../volume/directories.ts";
import { clearStatus, troubleReport } from "../volume/trouble.ts";
import type { Sender } from "./sender.ts";
import type { ArchiveRow } from "./store.ts";
import type { ProxyVolume } from "./volume.ts";
import type { ProxyVolumes } from "./volumes.ts";

/** Makes the handlers of a proxy's commands. */
export function proxyHandlers(platform: Platform, volumes: ProxyVolumes): Handlers<ProxyCommands> {
  return {
    async status({ volume }) {
      const known = volumes.all.filter((one) => volume === undefined || one.name === volume);
      const broken = volumes.broken.filter((one) => volume === undefined || one.volume === volume);
      const isUnknown = volume !== undefined && known.length + broken.length === 0;
      const nowMs = platform.clock.nowMs();
      return {
        volumes: [
          ...known.map((one) => volumeReport(one, volumes.senders(one), nowMs)),
          ...broken.map((one) => brokenReport(one, nowMs)),
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
      if (volume.store.archive(archiveName) === undefined) {
        throw new WalbError("not-found", {
          what: `the volume is not sent to an archive ${archiveName}`,
          where: { volume: name },
          hint: `its archives are: ${volume.store.archives.map((archive) => archive.name).join(", ") || "none"}`,
        });
      }
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

    async kick({ volume, archiveName }) {
      if (volume !== undefined) volumes.get(volume);
      volumes.kick(volume, archiveName);
      return {};
    },
  };
}

function archiveEntry(archive: ArchiveRow) {
  const { name, address, compression, delayS } = archive;
  return { archiveName: name, address, compression, delayS };
}

function volumeReport(volume: ProxyVolume, senders: readonly Sender[], nowMs: number): VolumeReport {
  const { machine, store } = volume;
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
    ...troubleReport(volume.trouble),
    archives: store.archives.map((archive) => {
      const sender = senders.find((candidate) => candidate.archiveName === archive.name);
      const pending = store.pending(archive.name);
      const oldest = pending[0];
      // What is sent next begins at the smallest gid of the log that came first, whatever the order of reception.
      const fromGids = pending.filter(({ uuid }) => uuid === oldest?.uuid).map(({ fromGid }) => fromGid);
      const latest = pending.at(-1);
      return {
        ...archiveEntry(archive),
        pendingCount: pending.length,
        pendingBytes: pending.reduce((sum, diff) => sum + diff.sizeBytes, 0),
        isSending: sender?.isSending ?? false,
        ...(oldest === undefined
          ? {}
          : { lagMs: Math.max(0, nowMs - oldest.receivedMs), oldestGid: fromGids.reduce((a, b) => (b < a ? b : a)) }),
        ...(latest === undefined ? {} : { latestGid: latest.toGid }),
        ...(sender?.lastSentMs === undefined ? {} : { lastSentMs: sender.lastSentMs }),
        ...troubleReport(sender?.trouble),
      };
    }),
  };
}

function brokenReport(broken: BrokenVolume, nowMs: number): VolumeReport {
  return {
    volume: broken.volume,
    state: "Broken",
    stopState: "not-stopping",
    running: [],
    archives: [],
    ...troubleReport({ error: broken.error, atMs: nowMs }),
  };
}
