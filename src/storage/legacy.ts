/** @module What a storage tells controllers of the original: `status` and `get`. */
import type { z } from "zod";
import type { LegacyRole } from "../control/legacy/command.ts";
import { type Situation, volumeName } from "../control/legacy/refusal.ts";
import { sizeText, socketLines, stopStateText, uuidOrZero } from "../control/legacy/text.ts";
import type { ToldKeepAlive } from "../control/role.ts";
import type { storageStatusSchema } from "../control/storage.ts";
import { asWalbError, WalbError } from "../errors.ts";
import { type Address, addressText } from "../platform/net.ts";
import type { Platform } from "../platform/platform.ts";
import { type LsidGid, lsidGidText } from "../snapshot/text.ts";
import { timeText } from "../snapshot/time.ts";
import { lbBytes, mib, u64Max } from "../units.ts";
import type { GetKind, GetRequest, GetValueOf } from "../wire/get.ts";
import { PeerError } from "../wire/words.ts";
import type { StorageSettings } from "./settings.ts";
import type { StorageVolume } from "./volume.ts";
import type { StorageVolumes } from "./volumes.ts";

type StatusReport = z.input<typeof storageStatusSchema>;
type VolumeReport = StatusReport["volumes"][number];

/** What the texts are made of. */
export interface StorageLegacyParts {
  readonly platform: Platform;
  readonly settings: StorageSettings;
  readonly volumes: StorageVolumes;
  /** What `status` of our own answers. */
  readonly report: (volume?: string) => Promise<StatusReport>;
  readonly keepAlive: ToldKeepAlive | undefined;
}

/** Path of a device in the original's terms. */
const devicePath = (volume: StorageVolume): string => `/dev/walb/${volume.store.device.name}`;

/** The binding's half of a storage. */
export function storageLegacyRole(parts: StorageLegacyParts): LegacyRole {
  const { volumes } = parts;
  const find = (name: string): StorageVolume | undefined =>
    volumes.all.find((volume) => volume.name === volumeName(name));
  const situation = (name: string): Situation => {
    const machine = find(name)?.machine;
    if (machine !== undefined) return machine;
    const isBroken = volumes.broken.some((broken) => broken.volume === name);
    return { state: isBroken ? "Broken" : "Clear", stopState: "not-stopping", isInTransition: false };
  };
  const known = (name: string, server: string, withName = false): StorageVolume => {
    const volume = find(name);
    if (volume !== undefined) return volume;
    const { state } = situation(name);
    const error = asWalbError(thrownBy(() => volumes.get(name)));
    throw new PeerError(`${server}:bad state:${withName ? `${name}:` : ""}${state}`, error);
  };

  return {
    role: "storage",
    situation,
    devicePath(name) {
      const volume = find(name);
      return volume === undefined ? undefined : devicePath(volume);
    },
    status: async (name) =>
      name === undefined ? allLines(parts) : volumeLines(parts, name, find(name), situation(name)),
    get: async ({ name, args }: GetRequest): Promise<GetValueOf<GetKind>> => {
      const [vol] = args;
      switch (name) {
        case "vol":
          return [...volumes.all.map((volume) => volume.name), ...volumes.broken.map(({ volume }) => volume)].sort();
        case "is-overflow":
          return (await known(vol!, "isOverflow").device.status()).isOverflow ? 1 : 0;
        case "uuid":
          return uuidOrZero(known(vol!, "getUuid").store.logUuid);
        case "log-usage": {
          const some = vol === undefined ? volumes.all : [known(vol, "getLogUsageForVolume", true)];
          return Promise.all(some.map(logUsageLine));
        }
        case "latest-snap":
          return latestLines(vol === undefined ? volumes.all : [find(vol)], vol);
        case "ts-delta":
          return (await parts.report()).volumes.flatMap(deltaLine);
        default:
          throw new WalbError("unsupported", { what: `this storage does not answer get ${name}` });
      }
    },
  };
}

function thrownBy(work: () => unknown): unknown {
  try {
    work();
  } catch (error) {
    return error;
  }
  return new WalbError("state", { what: "the volume is not in a state for it" });
}

async function allLines({ report, settings, platform, volumes, keepAlive }: StorageLegacyParts): Promise<string[]> {
  const { proxies, volumes: reports, settings: now } = await report();
  const nowMs = platform.clock.nowMs();
  return [
    "-----StorageGlobal-----",
    `nodeId ${settings.nodeId}`,
    `baseDir ${settings.dataDir}`,
    `maxWlogSendMb ${Math.floor(settings.wlogSendBytesMax / mib)}`,
    `minDelaySecForRetry ${Math.floor(settings.retryDelayMs / 1000)}`,
    `maxDelaySecForRetry ${Math.floor(settings.retryDelayMsMax / 1000)}`,
    `maxConnections ${settings.maxConnections}`,
    `maxForegroundTasks ${settings.maxForegroundTasks}`,
    `maxBackgroundTasks ${settings.maxBackgroundTasks}`,
    ...socketLines(settings.socketTimeoutMs, keepAlive),
    `fullScanLbPerSec ${Math.floor((now?.fullScanBytesPerS ?? settings.fullScanBytesPerS) / lbBytes)}`,
    "-----Archive-----",
    hostLine(settings.archive),
    "-----Proxy-----",
    ...proxies.map(({ isAvailable, nextCheckMs }, i) => {
      const nextS = Math.max(0, Math.ceil(((nextCheckMs ?? nowMs) - nowMs) / 1000));
      return `${hostLine(settings.proxies[i])} isAvailable ${isAvailable ? 1 : 0} timeToNextCheck ${nextS}`;
    }),
    "-----TaskQueue-----",
    ...volumes.all.flatMap(({ name, trouble }) =>
      trouble?.retryAtMs === undefined ? [] : [`volume ${name} timeDiffMs ${trouble.retryAtMs - nowMs}`],
    ),
    "-----Volume-----",
    ...reports.map(volumeLine),
  ];
}

/** The port stands there twice in the original. */
function hostLine(address: Address | undefined): string {
  return address?.kind === "tcp" ? `host ${addressText(address)}:${address.port}` : "host -";
}

function volumeLine(report: VolumeReport): string {
  return (
    `volume ${report.volume} state ${report.state} logUsagePb ${report.logUsagePb ?? 0}` +
    ` logCapacityPb ${report.logCapacityPb ?? 0} oldestGid ${report.oldestGid ?? u64Max}` +
    ` latestGid ${report.latestGid ?? u64Max} oldestLsid ${report.oldestLsid ?? 0}` +
    ` permanentLsid ${report.permanentLsid ?? 0}`
  );
}

async function volumeLines(
  { report: reportOf, volumes }: StorageLegacyParts,
  name: string,
  volume: StorageVolume | undefined,
  { state }: Situation,
): Promise<string[]> {
  const head = ["hostType storage", `volId ${name}`, `state ${state}`];
  if (volume === undefined) {
    const broken = volumes.broken.find((one) => one.volume === name);
    return broken === undefined ? head : [...head, `error ${broken.error.message}`];
  }
  const { machine, store } = volume;
  const [report] = (await reportOf(name)).volumes;
  const device =
    report?.sizeLb === undefined
      ? [`error ${report?.trouble?.message ?? "the device does not answer"}`]
      : [
          `sizeLb ${report.sizeLb}`,
          `size ${sizeText(report.sizeLb)}`,
          `isOverflow ${report.isOverflow === true ? 1 : 0}`,
          `logUsagePb ${report.logUsagePb}`,
          `logCapacityPb ${report.logCapacityPb}`,
          `uuid ${uuidOrZero(store.logUuid)}`,
          `pbs ${report.pbsBytes}`,
          `salt ${report.salt?.toString(16)}`,
        ];
  return [
    ...head,
    `action WlogSend ${machine.running("WlogSend")} WlogRemove ${machine.running("WlogRemove")}`,
    `stopState ${stopStateText(machine.stopState)}`,
    `isUnderMonitoring ${volumes.follower(volume)?.isEnded === false ? 1 : 0}`,
    `wdevPath ${devicePath(volume)}`,
    ...device,
    "-----DoneFile-----",
    lsidGidText(store.done ?? noPoint),
    "-----QueueFile-----",
    ...store.queue.toReversed().map(lsidGidText),
  ];
}

/** What stands where nothing was ever delivered. */
const noPoint: LsidGid = { lsid: undefined, gid: u64Max, isMergeable: false, timestampS: 0 };

async function logUsageLine(volume: StorageVolume): Promise<string> {
  const info = await volume.device.info();
  const { lsids } = await volume.device.status();
  const usagePb = lsids.latest - lsids.oldest;
  return `name:${volume.name}\tusage_pb:${usagePb}\tcapacity_pb:${info.ringSizePb}\tpbs:${info.pbsBytes}`;
}

function latestLines(volumes: readonly (StorageVolume | undefined)[], asked: string | undefined): string[] {
  const lines = volumes.flatMap((volume) => {
    if (volume?.machine.state !== "Target") return [];
    const point = volume.store.queue.at(-1) ?? volume.store.done;
    if (point === undefined) return [];
    const { gid, lsid, timestampS } = point;
    return [`name:${volume.name}\tkind:storage\tgid:${gid}\tlsid:${lsid}\ttimestamp:${timeText(timestampS)}`];
  });
  if (asked !== undefined && lines.length === 0) {
    throw new PeerError(`getLatestSnap:could not get latest snapshot for volume:${asked}`);
  }
  return lines;
}

/** How far the archive is behind, as asked last. */
function deltaLine({ volume, archiveDelta }: VolumeReport): string[] {
  if (archiveDelta === undefined) return [];
  const { archive, gid, timestampS, archiveGid, archiveTimestampS, deltaS } = archiveDelta;
  const there =
    archiveGid === undefined
      ? "dest_ts:\tdest_gid:\tts_delta:"
      : `dest_gid:${archiveGid}\tdest_ts:${timeText(archiveTimestampS ?? 0)}\tts_delta:${deltaS ?? 0}`;
  const here = `name:${volume}\tdest:${archive}\tkind:storage\tdest_kind:archive\tgid:${gid}\tts:${timeText(timestampS)}`;
  return [`${here}\t${there}`];
}
