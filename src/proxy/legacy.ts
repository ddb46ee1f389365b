/** @module What a proxy tells controllers of the original: `status` and `get`. */
import type { LegacyRole } from "../control/legacy/command.ts";
import { type Situation, volumeName } from "../control/legacy/refusal.ts";
import { sizeText, socketLines, stopStateText } from "../control/legacy/text.ts";
import type { ToldKeepAlive } from "../control/role.ts";
import { WalbError } from "../errors.ts";
import type { Platform } from "../platform/platform.ts";
import { diffLineText } from "../snapshot/text.ts";
import { timeText } from "../snapshot/time.ts";
import { diffMeta, snapshot } from "../snapshot/types.ts";
import { mib } from "../units.ts";
import type { GetKind, GetRequest, GetValueOf } from "../wire/get.ts";
import { PeerError } from "../wire/words.ts";
import type { Sender } from "./sender.ts";
import type { ProxySettings } from "./settings.ts";
import type { ArchiveRow, DiffRow } from "./store.ts";
import type { ProxyVolume } from "./volume.ts";
import type { ProxyVolumes } from "./volumes.ts";

/** What the texts are made of. */
export interface ProxyLegacyParts {
  readonly platform: Platform;
  readonly settings: ProxySettings;
  readonly volumes: ProxyVolumes;
  readonly keepAlive: ToldKeepAlive | undefined;
}

/** The original gives up sending after so long; ours does not, but a controller is told the number. */
const retryTimeoutS = 1800;

/** The binding's half of a proxy. */
export function proxyLegacyRole(parts: ProxyLegacyParts): LegacyRole {
  const { volumes } = parts;
  const find = (name: string): ProxyVolume | undefined =>
    volumes.all.find((volume) => volume.name === volumeName(name));
  const situation = (name: string): Situation => {
    const machine = find(name)?.machine;
    if (machine !== undefined) return machine;
    const isBroken = volumes.broken.some((broken) => broken.volume === name);
    return { state: isBroken ? "Broken" : "Clear", stopState: "not-stopping", isInTransition: false };
  };
  const known = (name: string, server: string): ProxyVolume => {
    const volume = find(name);
    if (volume === undefined) throw new PeerError(`${server}:bad state:${situation(name).state}`);
    return volume;
  };
  const archiveOf = (volume: ProxyVolume, name: string, server: string): ArchiveRow => {
    const archive = volume.store.archive(name);
    if (archive === undefined) throw new PeerError(`${server}:bad archive name:${volume.name}:${name}`);
    return archive;
  };

  return {
    role: "proxy",
    situation,
    status: async (name) =>
      name === undefined ? allLines(parts) : volumeLines(parts, name, find(name), situation(name).state),
    get: async ({ name, args }: GetRequest): Promise<GetValueOf<GetKind>> => {
      const [vol, archiveName] = args;
      switch (name) {
        case "vol":
          return [...volumes.all.map((volume) => volume.name), ...volumes.broken.map(({ volume }) => volume)].sort();
        case "is-wdiff-send-error": {
          const volume = known(vol!, "isWdiffSendError");
          archiveOf(volume, archiveName!, "isWdiffSendError");
          return isSendError(senderOf(parts, volume, archiveName!)) ? 1 : 0;
        }
        case "latest-snap":
          return (vol === undefined ? volumes.all : [known(vol, "getLatestSnap")]).flatMap(latestLines);
        case "proxy-diff": {
          const volume = known(vol!, "getProxyDiffList");
          // Diffs are registered for all archives at once: there are none that are only received.
          if (archiveName === undefined) return [];
          const archive = archiveOf(volume, archiveName, "getProxyDiffList");
          return volume.store.pending(archive.name).map((row) => diffLineText(metaOf(row)));
        }
        default:
          throw new WalbError("unsupported", { what: `this proxy does not answer get ${name}` });
      }
    },
  };
}

function senderOf({ volumes }: ProxyLegacyParts, volume: ProxyVolume, archiveName: string): Sender | undefined {
  return volumes.senders(volume).find((sender) => sender.archiveName === archiveName);
}

/** The archive does not take the diffs until somebody has done something there. */
function isSendError(sender: Sender | undefined): boolean {
  const refusal = sender?.refusal;
  return refusal?.kind === "word" && (refusal.word === "smaller-lv-size" || refusal.word === "archive-not-found");
}

function metaOf(row: DiffRow) {
  return diffMeta({
    from: snapshot(row.fromGid),
    to: snapshot(row.toGid),
    isMergeable: row.isMergeable,
    timestampS: row.timestampS,
    dataSizeBytes: row.sizeBytes,
  });
}

function latestLines({ name, store }: ProxyVolume): string[] {
  return store.archives.map((archive) => {
    const latest = store
      .pending(archive.name)
      .reduce<DiffRow | undefined>(
        (best, row) => (best === undefined || row.toGid > best.toGid ? row : best),
        undefined,
      );
    const end =
      latest === undefined ? "gid:\ttimestamp:" : `gid:${latest.toGid}\ttimestamp:${timeText(latest.timestampS)}`;
    return `name:${name}\tkind:proxy\tarchive:${archive.name}\t${end}`;
  });
}

const timeOf = (timeMs: number | undefined): string => timeText(Math.floor((timeMs ?? 0) / 1000));

const bytesOf = (rows: readonly DiffRow[]): number => rows.reduce((sum, row) => sum + row.sizeBytes, 0);

function allLines(parts: ProxyLegacyParts): string[] {
  const { settings, volumes, platform } = parts;
  const nowMs = platform.clock.nowMs();
  return [
    "-----ProxyGlobal-----",
    `nodeId ${settings.nodeId}`,
    `baseDir ${settings.dataDir}`,
    `maxWdiffSendMb ${Math.floor(settings.wdiffSendBytesMax / mib)}`,
    `minDelaySecForRetry ${Math.floor(settings.retryDelayMs / 1000)}`,
    `maxDelaySecForRetry ${Math.floor(settings.retryDelayMsMax / 1000)}`,
    `retryTimeout ${retryTimeoutS}`,
    `maxConnections ${settings.maxConnections}`,
    `maxForegroundTasks ${settings.maxForegroundTasks}`,
    `maxBackgroundTasks ${settings.maxBackgroundTasks}`,
    ...socketLines(settings.socketTimeoutMs, parts.keepAlive),
    "-----TaskQueue 0-----",
    ...volumes.all.flatMap((volume) =>
      volumes.senders(volume).flatMap(({ archiveName, trouble }) => {
        if (trouble?.retryAtMs === undefined) return [];
        return [`volume ${volume.name} archive ${archiveName} timeDiffMs ${trouble.retryAtMs - nowMs}`];
      }),
    ),
    "-----Volume-----",
    ...volumes.all.flatMap((volume) => [
      `volume ${volume.name} state ${volume.machine.state} numDiff 0 totalSize 0 timestamp ${timeOf(volume.store.lastReceivedMs)}`,
      ...volume.store.archives.map(({ name }) => archiveLine(parts, volume, name)),
    ]),
    ...volumes.broken.map(({ volume }) => `volume ${volume} state Broken`),
  ];
}

function archiveLine(parts: ProxyLegacyParts, volume: ProxyVolume, archiveName: string): string {
  const rows = volume.store.pending(archiveName);
  const sender = senderOf(parts, volume, archiveName);
  const gids = rows.flatMap((row) => [row.fromGid, row.toGid]);
  const minGid = gids.reduce((a, b) => (b < a ? b : a), gids[0] ?? 0n);
  const maxGid = gids.reduce((a, b) => (b > a ? b : a), 0n);
  return (
    `  archive ${archiveName} action ${sender?.isSending === true ? "WdiffSend" : "None"} numDiff ${rows.length}` +
    ` totalSize ${bytesOf(rows)} minGid ${minGid} maxGid ${maxGid} ${timeOf(sender?.lastSentMs)}`
  );
}

function volumeLines(parts: ProxyLegacyParts, name: string, volume: ProxyVolume | undefined, state: string): string[] {
  const head = ["hostType proxy", `volume ${name}`, `state ${state}`];
  if (volume === undefined) {
    const broken = parts.volumes.broken.find((one) => one.volume === name);
    return broken === undefined ? head : [...head, `error ${broken.error.message}`];
  }
  const { store, machine } = volume;
  const stopping = machine.stopState === "not-stopping" ? [] : [`stopState ${stopStateText(machine.stopState)}`];
  return [
    ...head,
    ...stopping,
    `sizeLb ${store.sizeLb}`,
    `size ${sizeText(store.sizeLb)}`,
    "numDiff 0",
    "totalSize 0",
    `lastWlogReceivedTime ${timeOf(store.lastReceivedMs)}`,
    `totalNumAction ${machine.running()}`,
    "-----Archive-----",
    ...store.archives.flatMap((archive) => archiveLines(parts, volume, archive)),
  ];
}

function archiveLines(parts: ProxyLegacyParts, volume: ProxyVolume, archive: ArchiveRow): string[] {
  const sender = senderOf(parts, volume, archive.name);
  const rows = volume.store.pending(archive.name);
  const nowS = Math.floor(parts.platform.clock.nowMs() / 1000);
  const oldestS = rows.reduce((least, row) => Math.min(least, row.timestampS), nowS);
  return [
    `archive ${archive.name}`,
    `host ${archive.address}`,
    `compression ${archive.compression}`,
    `wdiffSendDelay ${archive.delayS}`,
    `action ${sender?.isSending === true ? "WdiffSend" : "None"}`,
    `numDiff ${rows.length}`,
    `lastWdiffSentTime ${timeOf(sender?.lastSentMs)}`,
    `isWdiffSendError ${isSendError(sender) ? 1 : 0}`,
    `wdiffTotalSize ${bytesOf(rows)}`,
    `wdiffSendDelayMeasured ${nowS - oldestS}`,
  ].map((line) => `  ${line}`);
}
