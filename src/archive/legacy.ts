/** @module What an archive tells controllers of the original: `status` and `get`. */
import type { LegacyRole } from "../control/legacy/command.ts";
import { type Situation, volumeName } from "../control/legacy/refusal.ts";
import { sizeText, socketLines, stopStateText, uuidOrZero } from "../control/legacy/text.ts";
import type { ToldKeepAlive } from "../control/role.ts";
import { baseImage } from "../image/image.ts";
import { restorable } from "../snapshot/restore.ts";
import { snapshotText, stateText } from "../snapshot/text.ts";
import { timeText } from "../snapshot/time.ts";
import { lbBytes } from "../units.ts";
import { archiveValue, namedActions } from "./get.ts";
import { situationOf } from "./refusals.ts";
import { restoredGids } from "./restored.ts";
import type { ArchiveSettings } from "./settings.ts";
import { answeredInTime } from "./status.ts";
import type { ArchiveVolume } from "./volume.ts";
import type { ArchiveVolumes } from "./volumes.ts";

/** What the texts are made of. */
export interface ArchiveLegacyParts {
  readonly settings: ArchiveSettings;
  readonly volumes: ArchiveVolumes;
  readonly keepAlive: ToldKeepAlive | undefined;
}

/** The binding's half of an archive. */
export function archiveLegacyRole(parts: ArchiveLegacyParts): LegacyRole {
  const { volumes } = parts;
  const situation = (name: string): Situation => situationOf(volumes, volumeName(name));
  return {
    role: "archive",
    situation,
    status: (name) => (name === undefined ? allLines(parts) : volumeLines(parts, name, situation(name).state)),
    get: (request) => archiveValue(volumes, request),
  };
}

const timeOf = (timeMs: number | undefined): string => timeText(Math.floor((timeMs ?? 0) / 1000));

/** Actions beside the state, and a transition that is work. */
const actionCount = ({ machine }: ArchiveVolume): number => machine.running() + (machine.isInTransition ? 1 : 0);

async function allLines(parts: ArchiveLegacyParts): Promise<string[]> {
  const { settings, volumes } = parts;
  const { group, pool } = volumes.imagesPlace;
  return [
    "-----ArchiveGlobal-----",
    `nodeId ${settings.nodeId}`,
    `baseDir ${settings.dataDir}`,
    `volumeGroup ${group}`,
    ...(pool === "" ? [] : [`thinpool ${pool}`]),
    `maxConnections ${settings.maxConnections}`,
    `maxForegroundTasks ${settings.maxForegroundTasks}`,
    ...socketLines(settings.socketTimeoutMs, parts.keepAlive),
    `doAutoResize ${settings.isAutoResize ? 1 : 0}`,
    `keepOneColdSnapshot ${settings.isOneColdKept ? 1 : 0}`,
    "-----Volume-----",
    ...(await Promise.all(volumes.all.map(volumeLine))),
    ...volumes.broken.map(({ volume }) => `volume ${volume} state Broken`),
  ];
}

async function hasImage(volume: ArchiveVolume): Promise<boolean> {
  if (volume.store.base === undefined) return false;
  const { images, name, platform } = volume;
  return answeredInTime(platform.clock, images.exists(baseImage(name))).catch(() => false);
}

async function volumeLine(volume: ArchiveVolume): Promise<string> {
  const { name, machine, store } = volume;
  const head =
    `volume ${name} state ${machine.state} totalNumAction ${actionCount(volume)} stopState ${stopStateText(machine.stopState)}` +
    ` lastSyncTime ${timeOf(store.lastSyncMs)} lastWdiffReceivedTime ${timeOf(store.lastReceivedMs)} numDiff ${store.set.count}`;
  if (!(await hasImage(volume))) return `${head} baseLv NOT FOUND`;
  return `${head} latestSnapshot ${snapshotText(volume.latest().from)} size ${sizeText(store.sizeLb)}`;
}

async function volumeLines({ volumes }: ArchiveLegacyParts, name: string, state: string): Promise<string[]> {
  const head = ["hostType archive", `volume ${name}`, `state ${state}`];
  const volume = volumes.find(name);
  if (volume === undefined) {
    const broken = volumes.broken.find((one) => one.volume === name);
    return broken === undefined ? head : [...head, `error ${broken.error.message}`];
  }
  const { machine, store, syncProgress } = volume;
  const lines = [
    ...head,
    `action ${namedActions.map((action) => `${action} ${machine.running(action)}`).join(" ")}`,
    `stopState ${stopStateText(machine.stopState)}`,
    `lastSyncTime ${timeOf(store.lastSyncMs)}`,
    `lastWdiffReceivedTime ${timeOf(store.lastReceivedMs)}`,
    `progressLb ${Math.floor((syncProgress?.doneBytes ?? 0) / lbBytes)}`,
  ];
  const { base } = store;
  if (base === undefined || !(await hasImage(volume))) return [...lines, "baseLv NOT FOUND"];
  return [
    ...lines,
    `sizeLb ${store.sizeLb}`,
    `size ${sizeText(store.sizeLb)}`,
    `uuid ${uuidOrZero(store.logUuid)}`,
    `archiveUuid ${uuidOrZero(store.archiveUuid)}`,
    `base ${stateText(base)}`,
    `latest ${snapshotText(volume.latest().from)}`,
    `numCold ${store.colds.all.length}`,
    `numRestored ${(await restoredGids(volume)).length}`,
    `numRestorable ${restorable(store.set, base).length}`,
    `numRestorableAll ${restorable(store.set, base, true).length}`,
    `numDiff ${store.set.count}`,
    `wdiffTotalSize ${store.set.sizeBytes}`,
    "fullReplState None",
  ];
}
