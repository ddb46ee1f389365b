/**
 * @module Restores a volume as it was: the base image with the diffs laid over it, or, where blocks are shared, a clone of the
 * base image with the diffs written to it.
 *
 * A file appears under its name only when it is complete and durable. Every checksum is verified on the way.
 */
import { dirname } from "node:path";
import type { z } from "zod";
import type { restoreResult } from "../control/archive-schemas.ts";
import { checkAborted } from "../diff/types.ts";
import { asWalbError, WalbError } from "../errors.ts";
import { type ImageId, snapshotImage } from "../image/image.ts";
import { pointAt, pointOfGid, type RestorePoint } from "../snapshot/restore.ts";
import { mib } from "../units.ts";
import type { JobContext } from "./apply.ts";
import { openBase } from "./base-image.ts";
import { forgetLostColds, removeColds, tryEndPromotion } from "./cold.ts";
import { explained } from "./diffs.ts";
import type { Loss } from "./losses.ts";
import { type RestoreMemory, RestoreRun, type Target } from "./restore-run.ts";
import { checkTarget } from "./target.ts";
import type { ArchiveVolume } from "./volume.ts";

/** What to restore. */
export interface RestoreRequest {
  readonly gid?: bigint | undefined;
  readonly atMs?: number | undefined;
  /** Without it the archive keeps the image. */
  readonly to?: string | undefined;
  readonly overwrite?: boolean | undefined;
  readonly dryRun?: boolean | undefined;
}

/** See `restoreResult` of the commands. */
export type RestoreResult = z.input<typeof restoreResult>;

/** Rate that estimates begin with, and the least work a rate is learnt from. */
const firstBytesPerMs = 100_000;
const learnBytesMin = 16 * mib;

/** What restores of this process have taught about its disks, and the files they are writing. */
export class RestoreExperience {
  #bytesPerMs = firstBytesPerMs;
  readonly #isReflink = new Map<string, boolean>();
  readonly #targets = new Set<string>();

  /** How long writing so much takes. */
  estimateMs(bytes: number): number {
    return Math.ceil(bytes / this.#bytesPerMs);
  }

  /** Whether a clone into a directory shared blocks the last time; undefined when none was made. */
  isReflink(directory: string): boolean | undefined {
    return this.#isReflink.get(directory);
  }

  learnRate(bytes: number, elapsedMs: number): void {
    if (bytes >= learnBytesMin && elapsedMs > 0) this.#bytesPerMs = bytes / elapsedMs;
  }

  learnClone(directory: string, isReflink: boolean): void {
    this.#isReflink.set(directory, isReflink);
  }

  /** Keeps other restores away from a target. @throws WalbError `busy`. */
  claim(path: string): () => void {
    if (this.#targets.has(path)) {
      throw new WalbError("busy", { what: "another restore writes to this path", where: { file: path, field: "to" } });
    }
    this.#targets.add(path);
    return () => this.#targets.delete(path);
  }
}

/** Why points may be missing. */
function lossText(losses: readonly Loss[]): string {
  const more = losses.length > 1 ? `; and ${losses.length - 1} more` : "";
  return `points were lost with diffs: ${losses[0]?.message ?? "none"}${more}`;
}

/** The point a request means: the newest without gid and time. @throws WalbError `not-restorable` naming near points. */
export function choosePoint(
  points: readonly RestorePoint[],
  request: RestoreRequest,
  { name, at, platform, store: { losses } }: ArchiveVolume,
): RestorePoint {
  const newest = points.at(-1);
  if (newest !== undefined) {
    try {
      if (request.gid !== undefined) return pointOfGid(points, request.gid);
      if (request.atMs === undefined) return newest;
      const [atS, nowS] = [request.atMs, platform.clock.nowMs()].map((ms) => Math.floor(ms / 1000)) as [number, number];
      return pointAt(points, atS, nowS);
    } catch (error) {
      const { code, what } = asWalbError(error);
      const hint = `choose one of these points, or see all: walb snapshots ${at} --all`;
      const lost = losses[0] === undefined ? {} : { cause: lossText(losses) };
      throw new WalbError(code, { what, where: { volume: name }, hint, ...lost });
    }
  }
  throw new WalbError("not-restorable", {
    what: "the volume cannot be restored to any point yet",
    where: { volume: name },
    hint: `take a backup, or wait until the diffs of the running one have arrived: walb status ${name}`,
  });
}

/** Restores, or says what it would take. The caller has checked states and counts the action. */
export async function restoreVolume(
  volume: ArchiveVolume,
  memory: RestoreMemory,
  experience: RestoreExperience,
  request: RestoreRequest,
  context: JobContext,
): Promise<RestoreResult> {
  const { clock } = volume.platform;
  await tryEndPromotion(volume);
  await forgetLostColds(volume);
  const startMs = clock.monotonicMs();
  const elapsedMs = (): number => Math.round(clock.monotonicMs() - startMs);
  const points = volume.points().map(({ point }) => point);
  const { gid, timestampS } = choosePoint(points, request, volume);
  const { sizeBytes } = volume;
  const overwrite = request.overwrite === true;
  const rules = { dataDir: volume.settings.dataDir, sizeBytes, overwrite };
  const target =
    request.to === undefined
      ? await checkRestored(volume, gid, overwrite)
      : await checkTarget(volume.platform.disk, request.to, rules);
  const point = { gid, timeMs: timestampS * 1000, sizeBytes, path: target.path };
  const giveBack = experience.claim(target.path);
  const run = new RestoreRun(volume, memory, gid, context);
  context.accepted?.();
  try {
    if (request.dryRun === true) {
      const bytes = (await run.countDiffBytes()) + (await imageCopyBytes(volume, run.source, target, experience));
      const method = target.kind === "device" ? ({ method: "device" } as const) : {};
      const estimateMs = experience.estimateMs(bytes);
      return { ...point, bytes, elapsedMs: elapsedMs(), estimateMs, isVerified: false, ...method };
    }
    if (target.kind !== "device") await requireRoom(volume, run.source, target, experience);
    const done = await run.to(target, { gid, timestampS }, overwrite);
    if (target.kind === "file") experience.learnClone(dirname(target.path), done.method === "reflink");
    experience.learnRate(done.bytes, elapsedMs());
    run.allGood();
    if (target.kind === "image" && volume.settings.isOneColdKept) await removeOtherColds(volume);
    volume.log.info("restored", { gid, to: target.path, ...done });
    return { ...point, ...done, elapsedMs: elapsedMs(), isVerified: true };
  } catch (error) {
    checkAborted(context.signal, "the restore");
    throw await explained(volume, error);
  } finally {
    await run.end();
    giveBack();
  }
}

/** A place for an image that the archive keeps. @throws WalbError `already-exists` without `overwrite`. */
async function checkRestored(volume: ArchiveVolume, gid: bigint, overwrite: boolean): Promise<Target> {
  const image = snapshotImage(volume.name, "restored", gid);
  const path = volume.images.pathOf(image);
  if (!overwrite && (await volume.images.exists(image))) {
    await volume.images.checkContent?.(image);
    throw new WalbError("already-exists", {
      what: `gid ${gid} is restored already`,
      where: { volume: volume.name, file: path },
      hint: `use it, delete it with: walb delete-image ${volume.at} ${gid}, or say --overwrite`,
    });
  }
  return { kind: "image", path, image };
}

/** Keeps only the newest; not while another restore may be about to begin at one of them. */
async function removeOtherColds(volume: ArchiveVolume): Promise<void> {
  if (volume.machine.running("Restore") > 1) return;
  await removeColds(volume, volume.store.colds.all.slice(0, -1));
}

/** Refuses what cannot succeed before hours of copying. @throws WalbError `no-space`. */
async function requireRoom(
  volume: ArchiveVolume,
  source: ImageId,
  target: Target,
  experience: RestoreExperience,
): Promise<void> {
  const { disk } = volume.platform;
  // LVM refuses at once itself, and how much of a volume a file would take only reading it could tell.
  if (volume.images.space !== undefined) return;
  const isShared = await volume.images.hasCheapClones(volume.name);
  // A file elsewhere on the same file system may be a reflink, too: only a try could tell.
  if (isShared && (target.kind === "image" || experience.isReflink(dirname(target.path)) !== false)) return;
  const neededBytes = await imageCopyBytes(volume, source, target, experience);
  const { freeBytes } = await disk.freeSpace(dirname(target.path));
  if (neededBytes <= freeBytes) return;
  throw new WalbError("no-space", {
    what: `a copy of the base image has ${Math.ceil(neededBytes / mib)} MiB, but only ${Math.floor(freeBytes / mib)} MiB are free`,
    where: { volume: volume.name, file: target.path, field: "to" },
    hint: "restore to another file system, or make room",
  });
}

/** Bytes of the base image that a restore to a target copies, as far as it can be known. */
async function imageCopyBytes(
  volume: ArchiveVolume,
  source: ImageId,
  target: Target,
  experience: RestoreExperience,
): Promise<number> {
  if (target.kind === "image" && (await volume.images.hasCheapClones(volume.name))) return 0;
  if (target.kind === "file" && experience.isReflink(dirname(target.path)) === true) return 0;
  const image = source.kind === "base" ? await openBase(volume, "read") : await volume.images.open(source, "read");
  try {
    return (await volume.platform.disk.info(image.path))?.allocatedBytes ?? volume.sizeBytes;
  } finally {
    await image.close();
  }
}
