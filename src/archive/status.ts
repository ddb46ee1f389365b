/** @module What an archive tells about its volumes. */
import type { ArchiveVolume as VolumeReport } from "../control/archive-schemas.ts";
import { WalbError } from "../errors.ts";
import { baseImage } from "../image/image.ts";
import { snapshotText, stateText } from "../snapshot/text.ts";
import type { BrokenVolume } from "../volume/directories.ts";
import { type Trouble, troubleReport } from "../volume/trouble.ts";
import { allActions } from "./action.ts";
import { beginAnew } from "./diffs.ts";
import type { ReplicaState } from "./replication/replicas.ts";
import { restoredGids } from "./restored.ts";
import { applyTrouble, applyWaiting } from "./unfinished.ts";
import type { ArchiveVolume } from "./volume.ts";

/** Losses named in a status; the log has all. */
const lossesNamedMax = 4;

/** The status of one volume. */
export async function volumeReport(volume: ArchiveVolume): Promise<VolumeReport> {
  const { machine, store } = volume;
  const points = volume.points().map(({ point }) => point);
  const [oldest, newest] = [points[0], points.at(-1)];
  const { base } = store;
  const image = baseImage(volume.name);
  const hasImage = base !== undefined && (await volume.images.exists(image));
  const waiting = applyWaiting(volume);
  return {
    volume: volume.name,
    state: machine.state,
    stopState: machine.stopState,
    sinceMs: machine.sinceMs,
    ...(store.sizeLb === 0 ? {} : { sizeLb: store.sizeLb }),
    running: [...runningState(volume), ...runningActions(volume)],
    ...(hasImage ? { imageBytes: await volume.images.sizeBytes(image) } : {}),
    ...(store.logUuid === undefined ? {} : { uuid: store.logUuid }),
    ...(store.archiveUuid === undefined ? {} : { archiveUuid: store.archiveUuid }),
    ...(base === undefined ? {} : { base: stateText(base), latest: snapshotText(volume.latest().from) }),
    ...(oldest === undefined ? {} : { oldestPoint: { gid: oldest.gid, timeMs: oldest.timestampS * 1000 } }),
    ...(newest === undefined ? {} : { newestPoint: { gid: newest.gid, timeMs: newest.timestampS * 1000 } }),
    pointCount: points.length,
    explicitPointCount: points.filter((point) => point.isExplicit).length,
    wdiffCount: store.set.count,
    wdiffBytes: store.set.sizeBytes,
    restoredCount: (await restoredGids(volume)).length,
    coldCount: store.colds.all.length,
    ...(store.lastReceivedMs === undefined ? {} : { lastReceivedMs: store.lastReceivedMs }),
    ...(store.lastSyncMs === undefined ? {} : { lastSyncMs: store.lastSyncMs }),
    ...(volume.replicas.all.length === 0 ? {} : { replicas: volume.replicas.all.map(replicaReport) }),
    ...(waiting === undefined ? {} : { waiting }),
    ...troubleReport(
      lossTrouble(volume) ??
        gapTrouble(volume) ??
        volume.damage ??
        volume.trouble ??
        volume.replicas.trouble ??
        applyTrouble(volume) ??
        (await imageTrouble(volume)),
    ),
  };
}

/** The status of a volume that could not be opened. */
export function brokenReport(broken: BrokenVolume, nowMs: number): VolumeReport {
  return {
    volume: broken.volume,
    state: "Broken",
    stopState: "not-stopping",
    running: [],
    ...troubleReport({ error: broken.error, atMs: nowMs }),
  };
}

function replicaReport({ to, isRunning, gid, atMs, trouble }: ReplicaState) {
  return {
    to,
    isRunning,
    ...(gid === undefined ? {} : { gid }),
    ...(atMs === undefined ? {} : { atMs }),
    ...troubleReport(trouble),
  };
}

/** A transition that is work, with how far it is. */
function runningState({ machine, syncProgress }: ArchiveVolume): VolumeReport["running"] {
  if (!machine.isInTransition) return [];
  return [{ action: machine.state, count: 1, beganMs: machine.sinceMs, ...syncProgress }];
}

function runningActions({ machine }: ArchiveVolume): VolumeReport["running"] {
  return allActions.flatMap((action) => {
    const count = machine.running(action);
    const beganMs = machine.lastBeganMs(action);
    return count === 0 ? [] : [{ action, count, ...(beganMs === undefined ? {} : { beganMs }) }];
  });
}

/** Diffs that nothing leads to: something is missing of which not even a row is left. */
function gapTrouble(volume: ArchiveVolume): Trouble | undefined {
  const { name, store, machine } = volume;
  if (store.base === undefined) return undefined;
  const { gidB } = volume.latest().from;
  const [first, ...more] = store.set.getAll(gidB + 1n);
  if (first === undefined) return undefined;
  const error = new WalbError("damaged", {
    what:
      `${more.length + 1} diffs cannot be reached, the first is ${store.diff(first).fileName}: ` +
      `what leads from gid ${gidB} to gid ${first.from.gidB} is missing`,
    where: { volume: name },
    hint: `put the missing files back and restart the archive; or give these diffs up with a new backup: ${beginAnew(name)}`,
  });
  return { error, atMs: machine.sinceMs };
}

/** Images that are about to be lost, or are. */
async function imageTrouble({ name, images, machine, log }: ArchiveVolume): Promise<Trouble | undefined> {
  try {
    const error = await images.trouble?.(name);
    return error === undefined ? undefined : { error, atMs: machine.sinceMs };
  } catch (error) {
    log.warn("the images could not be looked at", { error });
    return undefined;
  }
}

/** Lost diffs matter until a new backup: they come before anything else. */
function lossTrouble({ name, store }: ArchiveVolume): Trouble | undefined {
  const { losses } = store;
  const last = losses.at(-1);
  if (last === undefined) return undefined;
  const named = losses.slice(0, lossesNamedMax).map((loss) => loss.message);
  const more = losses.length > named.length ? `; and ${losses.length - named.length} more` : "";
  const error = new WalbError("damaged", {
    what: `${named.join("; ")}${more}`,
    where: { volume: name },
    hint: `put the files back and restart the archive, or begin anew, which deletes all its points: ${beginAnew(name)}`,
  });
  return { error, atMs: last.atMs };
}
