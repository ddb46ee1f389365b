/** @module What an archive tells about its volumes. */
import type { ArchiveVolume as VolumeReport } from "../control/archive-schemas.ts";
import { asWalbError, WalbError } from "../errors.ts";
import { baseImage } from "../image/image.ts";
import type { Clock } from "../platform/clock.ts";
import { snapshotText, stateText } from "../snapshot/text.ts";
import type { BrokenVolume } from "../volume/directories.ts";
import { type Trouble, troubleReport } from "../volume/trouble.ts";
import { allActions } from "./action.ts";
import { baseFault } from "./base-image.ts";
import { beginAnew } from "./diffs.ts";
import { unknownFiles } from "./quarantine.ts";
import type { ReplicaState } from "./replication/replicas.ts";
import { restoredGids } from "./restored.ts";
import { applyTrouble, applyWaiting } from "./unfinished.ts";
import type { ArchiveVolume, ArchiveVolumeState } from "./volume.ts";
import { directoryFault } from "./volume-directory.ts";

/** How long a status waits for those who know about images. */
const imagesMs = 5_000;
/** In these the base image is made or removed. */
const imageStates: readonly ArchiveVolumeState[] = ["FullSync", "Resync", "ResetVol", "ClearVol"];
/** Losses named in a status; the log has all. */
const lossesNamedMax = 4;

/** The status of one volume. */
export async function volumeReport(volume: ArchiveVolume): Promise<VolumeReport> {
  const { machine, store } = volume;
  const points = volume.points().map(({ point }) => point);
  const [oldest, newest] = [points[0], points.at(-1)];
  const { base } = store;
  const away = await directoryFault(volume);
  const images = await imageFacts(volume);
  const waiting = applyWaiting(volume);
  await forgetReadable(volume);
  const unknown = await unknownTrouble(volume);
  const isLasting = ["damaged", "unreadable"].includes(images.trouble?.error.code ?? "");
  return {
    volume: volume.name,
    state: machine.state,
    stopState: machine.stopState,
    sinceMs: machine.sinceMs,
    ...(store.sizeLb === 0 ? {} : { sizeLb: store.sizeLb }),
    running: [...runningState(volume), ...runningActions(volume)],
    ...(images.imageBytes === undefined ? {} : { imageBytes: images.imageBytes }),
    ...(store.logUuid === undefined ? {} : { uuid: store.logUuid }),
    ...(store.archiveUuid === undefined ? {} : { archiveUuid: store.archiveUuid }),
    ...(base === undefined ? {} : { base: stateText(base), latest: snapshotText(volume.latest().from) }),
    ...(oldest === undefined ? {} : { oldestPoint: { gid: oldest.gid, timeMs: oldest.timestampS * 1000 } }),
    ...(newest === undefined ? {} : { newestPoint: { gid: newest.gid, timeMs: newest.timestampS * 1000 } }),
    pointCount: points.length,
    explicitPointCount: points.filter((point) => point.isExplicit).length,
    wdiffCount: store.set.count,
    wdiffBytes: store.set.sizeBytes,
    ...(images.restoredCount === undefined ? {} : { restoredCount: images.restoredCount }),
    coldCount: store.colds.all.length,
    ...(store.lastReceivedMs === undefined ? {} : { lastReceivedMs: store.lastReceivedMs }),
    ...(store.lastSyncMs === undefined ? {} : { lastSyncMs: store.lastSyncMs }),
    ...(volume.replicas.all.length === 0 ? {} : { replicas: volume.replicas.all.map(replicaReport) }),
    ...(waiting === undefined ? {} : { waiting }),
    ...troubleReport(
      (away === undefined ? undefined : { error: away, atMs: machine.sinceMs }) ??
        lossTrouble(volume) ??
        volume.strayTrouble ??
        gapTrouble(volume) ??
        volume.damage ??
        (isLasting ? images.trouble : undefined) ??
        volume.trouble ??
        volume.replicas.trouble ??
        applyTrouble(volume) ??
        images.trouble ??
        unknown,
    ),
  };
}

/** Diffs that could not be opened and can be again need nothing more; what a read has met shows only when it is read. */
async function forgetReadable(volume: ArchiveVolume): Promise<void> {
  const { disk, clock } = volume.platform;
  for (const fileName of volume.unopened) {
    try {
      const opening = disk.open(volume.pathOf(fileName), { mode: "read" });
      await answeredInTime(
        clock,
        opening.then((file) => file.close()),
      );
      volume.clearDamage([fileName]);
    } catch {
      // It is told as before.
      return;
    }
  }
}

async function unknownTrouble(volume: ArchiveVolume): Promise<Trouble | undefined> {
  const error = await unknownFiles(volume).catch((failure: unknown) => asWalbError(failure, { volume: volume.name }));
  return error === undefined ? undefined : { error, atMs: volume.machine.sinceMs };
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
    hint: `put the missing files back and restart the archive; or give these diffs up with a new backup; ${beginAnew(volume)}`,
  });
  return { error, atMs: machine.sinceMs };
}

/** What the images say; of a volume whose images cannot be asked, only why. */
interface ImageFacts {
  readonly imageBytes?: number;
  readonly restoredCount?: number;
  readonly trouble?: Trouble;
}

/** Where other programs are asked: a status tells of what else there is, whatever they do. */
async function imageFacts(volume: ArchiveVolume): Promise<ImageFacts> {
  const { name, images, machine, settings, platform } = volume;
  const facts = async (): Promise<ImageFacts> => {
    const image = baseImage(name);
    const hasBase = volume.store.base !== undefined;
    const hasImage = hasBase && (await images.exists(image));
    const error = (hasBase ? await faultOfBase(volume) : undefined) ?? (await images.trouble?.(name));
    return {
      ...(hasImage && error === undefined ? { imageBytes: await images.sizeBytes(image) } : {}),
      restoredCount: (await restoredGids(volume)).length,
      ...(error === undefined ? {} : { trouble: { error, atMs: machine.sinceMs } }),
    };
  };
  try {
    return await answeredInTime(platform.clock, facts());
  } catch (error) {
    return { trouble: { error: asWalbError(error, { host: settings.nodeId, volume: name }), atMs: machine.sinceMs } };
  }
}

/** Between the two steps of a promotion there is none. */
async function faultOfBase(volume: ArchiveVolume): Promise<WalbError | undefined> {
  const { machine } = volume;
  const isChanging = machine.running("Apply") > 0 || imageStates.includes(machine.state);
  return isChanging ? undefined : await baseFault(volume);
}

/** The answer of other programs, unless they take too long. @throws WalbError `timed-out`. */
export async function answeredInTime<Answer>(clock: Clock, answer: Promise<Answer>): Promise<Answer> {
  const over = new AbortController();
  answer.catch(() => undefined);
  const timeout = clock.sleep(imagesMs, over.signal).then(() => {
    throw new WalbError("timed-out", {
      what: `LVM has not answered for ${imagesMs / 1000} s`,
      hint: "look at what holds it up on the archive's host: ps -eo pid,stat,etime,args; dmsetup info",
    });
  });
  try {
    return await Promise.race([answer, timeout]);
  } finally {
    over.abort();
    timeout.catch(() => undefined);
  }
}

/** Lost diffs matter until a new backup: they come before anything else. */
function lossTrouble(volume: ArchiveVolume): Trouble | undefined {
  const { name, store } = volume;
  const { losses } = store;
  const last = losses.at(-1);
  if (last === undefined) return undefined;
  const named = losses.slice(0, lossesNamedMax).map((loss) => loss.message);
  const more = losses.length > named.length ? `; and ${losses.length - named.length} more` : "";
  const error = new WalbError("damaged", {
    what: `${named.join("; ")}${more}`,
    where: { volume: name },
    hint: `put the files back and restart the archive, or begin anew, which deletes all its points; ${beginAnew(volume)}`,
  });
  return { error, atMs: last.atMs };
}
