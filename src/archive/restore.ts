/**
 * @module Restores a volume as it was: a clone of the base image (or a copy on a device) with the diffs laid over it.
 *
 * A file appears under its name only when it is complete and durable. Every checksum is verified on the way.
 */
import { dirname } from "node:path";
import type { z } from "zod";
import type { restoreResult } from "../control/archive-schemas.ts";
import { applyDiffs } from "../diff/apply.ts";
import { type MergePlan, planMerge } from "../diff/merge.ts";
import { checkAborted, type DiffIo } from "../diff/types.ts";
import { writtenRanges } from "../diff/written.ts";
import { asWalbError, WalbError } from "../errors.ts";
import { copyImage } from "../image/copy.ts";
import { baseImage, type CloneMethod, type CopyOptions, type ImageId, snapshotImage } from "../image/image.ts";
import type { DiskFile } from "../platform/disk.ts";
import type { DiffSet } from "../snapshot/diffset.ts";
import { pointAt, pointOfGid, type RestorePoint, restoreRound } from "../snapshot/restore.ts";
import type { ArchiveState, DiffMeta } from "../snapshot/types.ts";
import { lbBytes, mib } from "../units.ts";
import type { JobContext } from "./apply.ts";
import { keepCold, removeColds } from "./cold.ts";
import type { Cold } from "./colds.ts";
import type { StoredDiff } from "./diff-rows.ts";
import { explained, openRound, type Round } from "./diffs.ts";
import type { Loss } from "./losses.ts";
import { removePartial } from "./partials.ts";
import { advanced, planStart } from "./plan.ts";
import { alreadyThere, checkTarget, openDevice, type RestoreTarget } from "./target.ts";
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
  volume: string,
  losses: readonly Loss[] = [],
): RestorePoint {
  const newest = points.at(-1);
  if (newest !== undefined) {
    try {
      if (request.gid !== undefined) return pointOfGid(points, request.gid);
      return request.atMs === undefined ? newest : pointAt(points, Math.floor(request.atMs / 1000));
    } catch (error) {
      const { code, what } = asWalbError(error);
      const hint = `choose one of these points, or see all: walb snapshots ${volume} --all`;
      const lost = losses[0] === undefined ? {} : { cause: lossText(losses) };
      throw new WalbError(code, { what, where: { volume }, hint, ...lost });
    }
  }
  throw new WalbError("not-restorable", {
    what: "the volume cannot be restored to any point yet",
    where: { volume },
    hint: `take a backup, or wait until the diffs of the running one have arrived: walb status ${volume}`,
  });
}

/** Restores, or says what it would take. The caller has checked states and counts the action. */
export async function restoreVolume(
  volume: ArchiveVolume,
  io: DiffIo,
  experience: RestoreExperience,
  request: RestoreRequest,
  context: JobContext,
): Promise<RestoreResult> {
  const { clock } = volume.platform;
  const startMs = clock.monotonicMs();
  const elapsedMs = (): number => Math.round(clock.monotonicMs() - startMs);
  const points = volume.points().map(({ point }) => point);
  const { gid, timestampS } = choosePoint(points, request, volume.name, volume.store.losses);
  const { sizeBytes } = volume;
  const overwrite = request.overwrite === true;
  const rules = { dataDir: volume.settings.dataDir, sizeBytes, overwrite };
  const target =
    request.to === undefined
      ? await checkRestored(volume, gid, overwrite)
      : await checkTarget(io.disk, request.to, rules);
  const point = { gid, timeMs: timestampS * 1000, sizeBytes, path: target.path };
  const giveBack = experience.claim(target.path);
  const run = new RestoreRun(volume, io, gid, context);
  context.accepted?.();
  try {
    if (request.dryRun === true) {
      const bytes = (await run.countDiffBytes()) + (await imageCopyBytes(volume, target, experience));
      const method = target.kind === "device" ? ({ method: "device" } as const) : {};
      const estimateMs = experience.estimateMs(bytes);
      return { ...point, bytes, elapsedMs: elapsedMs(), estimateMs, isVerified: false, ...method };
    }
    if (target.kind !== "device") await requireRoom(volume, target, experience);
    const done = await run.to(target, { gid, timestampS }, overwrite);
    if (target.kind === "file") experience.learnClone(dirname(target.path), done.method === "reflink");
    experience.learnRate(done.bytes, elapsedMs());
    run.allGood();
    if (target.kind === "image" && volume.settings.isOneColdKept) await removeOtherColds(volume);
    volume.log.info("restored", { gid, to: target.path, ...done });
    return { ...point, ...done, elapsedMs: elapsedMs(), isVerified: true };
  } catch (error) {
    checkAborted(context.signal, "the restore");
    throw explained(volume, error);
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
    throw new WalbError("already-exists", {
      what: `gid ${gid} is restored already`,
      where: { volume: volume.name, file: path },
      hint: `use it, delete it with: walb delete-restored ${volume.name} ${gid}, or say --overwrite`,
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
async function requireRoom(volume: ArchiveVolume, target: Target, experience: RestoreExperience): Promise<void> {
  const { disk } = volume.platform;
  // LVM refuses at once itself, and how much of a volume a file would take only reading it could tell.
  if (volume.images.space !== undefined) return;
  const isShared = await volume.images.hasCheapClones(volume.name);
  // A file elsewhere on the same file system may be a reflink, too: only a try could tell.
  if (isShared && (target.kind === "image" || experience.isReflink(dirname(target.path)) !== false)) return;
  const neededBytes = await imageCopyBytes(volume, target, experience);
  const { freeBytes } = await disk.freeSpace(dirname(target.path));
  if (neededBytes <= freeBytes) return;
  throw new WalbError("no-space", {
    what: `a copy of the base image has ${Math.ceil(neededBytes / mib)} MiB, but only ${Math.floor(freeBytes / mib)} MiB are free`,
    where: { volume: volume.name, file: target.path, field: "to" },
    hint: "restore to another file system, or make room",
  });
}

/** Bytes of the base image that a restore to a target copies, as far as it can be known. */
async function imageCopyBytes(volume: ArchiveVolume, target: Target, experience: RestoreExperience): Promise<number> {
  if (target.kind === "image" && (await volume.images.hasCheapClones(volume.name))) return 0;
  if (target.kind === "file" && experience.isReflink(dirname(target.path)) === true) return 0;
  const image = await volume.images.open(baseImage(volume.name), "read");
  try {
    return (await volume.platform.disk.info(image.path))?.allocatedBytes ?? volume.sizeBytes;
  } finally {
    await image.close();
  }
}

/** Where to: a file, a device, or an image the archive keeps. */
type Target = RestoreTarget | { readonly kind: "image"; readonly path: string; readonly image: ImageId };

/** What a restore did. */
interface Done {
  readonly bytes: number;
  readonly method: CloneMethod | "device";
}

/** One restore. The base image does not change while it runs: no apply runs beside it. */
class RestoreRun {
  readonly #volume: ArchiveVolume;
  readonly #io: DiffIo;
  readonly #gid: bigint;
  readonly #context: JobContext;
  /** The image it begins with, and its state. */
  readonly #source: ImageId;
  readonly #base: ArchiveState;
  readonly #set: DiffSet;
  /** Files of the diffs as they are now; a merge beside the restore does not take them away. */
  readonly #diffs = new Map<DiffMeta, StoredDiff>();
  readonly #letGo: () => Promise<void>;
  /** All diffs, open, when they are one round. */
  #onlyRound: { readonly round: Round; readonly plan: MergePlan } | undefined;

  constructor(volume: ArchiveVolume, io: DiffIo, gid: bigint, context: JobContext) {
    const { store } = volume;
    this.#volume = volume;
    this.#io = io;
    this.#gid = gid;
    this.#context = context;
    const { cold, state } = planStart(store.set, volume.requireBase(), store.colds.all, gid);
    this.#base = state;
    this.#source = cold === undefined ? baseImage(volume.name) : snapshotImage(volume.name, "cold", cold.gid);
    this.#set = store.set;
    for (const meta of restoreRound(store.set, this.#base, gid)) this.#diffs.set(meta, store.diff(meta));
    this.#letGo = volume.pins.hold([...this.#diffs.values()].map((diff) => diff.fileName));
  }

  /** Lets go of the files. */
  async end(): Promise<void> {
    const kept = this.#onlyRound;
    this.#onlyRound = undefined;
    await kept?.round.close();
    await this.#letGo();
  }

  /** What the diffs write, from their indexes alone; finds damaged ones too. */
  async countDiffBytes(): Promise<number> {
    let bytes = 0;
    await this.#rounds(async (plan) => {
      bytes += plan.stats.normalLb * lbBytes;
      return undefined;
    });
    return bytes;
  }

  async to(target: Target, point: Cold, overwrite: boolean): Promise<Done> {
    // Indexes are read first: a damaged diff shows before hours of copying.
    await this.countDiffBytes();
    if (target.kind === "image") return this.#toImage(target.image, point);
    return target.kind === "file" ? this.#toFile(target, overwrite) : this.#toDevice(target);
  }

  /** An image appears under its name only when it is complete, too. */
  async #toImage(target: ImageId, point: Cold): Promise<Done> {
    const { images, name, sizeBytes } = this.#volume;
    const { signal } = this.#context;
    const restoring = snapshotImage(name, "restoring", point.gid);
    await images.remove(restoring);
    let copiedBytes = 0;
    try {
      const onProgress = (doneBytes: number, totalBytes: number): void => {
        copiedBytes = doneBytes;
        this.#context.progress({ doneBytes, totalBytes, step: "copying the base image" });
      };
      const options = { sizeBytes, signal, onProgress, ...this.#leftOut() };
      const method = await images.clone(this.#source, restoring, options);
      const file = await images.open(restoring, "overlay");
      let diffBytes: number;
      try {
        diffBytes = await this.#applyTo(file);
        await file.sync();
      } finally {
        await file.close();
      }
      if (point.gid > this.#volume.requireBase().from.gidB) await keepCold(this.#volume, restoring, point);
      checkAborted(signal, "the restore");
      await images.remove(target);
      await images.rename(restoring, target);
      return { bytes: diffBytes + (method === "copy" ? copiedBytes : 0), method };
    } catch (error) {
      await images.remove(restoring).catch((failure: unknown) => {
        this.#volume.log.warn("an incomplete restore could not be removed", { gid: point.gid, error: failure });
      });
      throw error;
    }
  }

  async #toFile(target: Extract<RestoreTarget, { kind: "file" }>, overwrite: boolean): Promise<Done> {
    const { images, sizeBytes } = this.#volume;
    const { disk } = this.#io;
    const { signal } = this.#context;
    // Nobody else writes under this name.
    await disk.remove(target.partialPath);
    this.#volume.store.partials.tryAdd(target.partialPath);
    let copiedBytes = 0;
    try {
      const onProgress = (doneBytes: number, totalBytes: number): void => {
        copiedBytes = doneBytes;
        this.#context.progress({ doneBytes, totalBytes, step: "copying the base image" });
      };
      const options = { signal, onProgress, ...this.#leftOut() };
      const method = await images.cloneToFile(this.#source, target.partialPath, options);
      const allocated = (await disk.info(target.partialPath))?.allocatedBytes ?? copiedBytes;
      // Through the page cache: many small writes into holes of a new file are several times as fast.
      const file = await disk.open(target.partialPath, { mode: "write" });
      let diffBytes: number;
      try {
        if ((await file.size()) !== sizeBytes) await file.truncate(sizeBytes);
        diffBytes = await this.#applyTo(file);
        await file.sync();
      } finally {
        await file.close();
      }
      checkAborted(signal, "the restore");
      if (!overwrite && (await disk.info(target.path)) !== undefined) throw alreadyThere(target.path);
      await disk.rename(target.partialPath, target.path);
      await disk.syncDirectory(dirname(target.path));
      this.#volume.store.partials.tryDelete(target.partialPath);
      return { bytes: diffBytes + (method === "copy" ? Math.min(allocated, copiedBytes) : 0), method };
    } catch (error) {
      await removePartial(this.#volume, target.partialPath);
      throw error;
    }
  }

  async #toDevice(target: Extract<RestoreTarget, { kind: "device" }>): Promise<Done> {
    const { images, sizeBytes } = this.#volume;
    const device = await openDevice(this.#io.disk, target.path);
    try {
      const image = await images.open(this.#source, "read");
      let copiedBytes: number;
      try {
        copiedBytes = await copyImage({
          from: image,
          to: device,
          sizeBytes,
          memory: this.#io.memory,
          signal: this.#context.signal,
          ...this.#leftOut(),
          onProgress: (doneBytes) =>
            this.#context.progress({ doneBytes, totalBytes: sizeBytes, step: "copying the base image" }),
        });
      } finally {
        await image.close();
      }
      const diffBytes = await this.#applyTo(device);
      await device.sync();
      return { bytes: copiedBytes + diffBytes, method: "device" };
    } finally {
      await device.close();
    }
  }

  /** What the diffs will write need not be copied. In rounds nobody knows yet what the later ones write. */
  #leftOut(): Pick<CopyOptions, "nextWritten"> {
    const plan = this.#onlyRound?.plan;
    return plan === undefined ? {} : { nextWritten: writtenRanges(plan, this.#volume.settings.discard) };
  }

  /** Writes the diffs over a copy of the base image. @returns bytes written. */
  async #applyTo(file: DiskFile): Promise<number> {
    let bytes = 0;
    await this.#rounds(async (plan, open) => {
      const totalBytes = plan.totalLb * lbBytes;
      const result = await applyDiffs(this.#io, open, plan, file, {
        sizeLb: this.#volume.store.sizeLb,
        discard: this.#volume.settings.discard,
        signal: this.#context.signal,
        throttle: (size) => this.#volume.rates.restore.take(size, this.#context.signal),
        onProgress: ({ doneLb }) =>
          this.#context.progress({ doneBytes: doneLb * lbBytes, totalBytes, step: "applying the diffs" }),
      });
      bytes += result.writtenLb * lbBytes;
    });
    return bytes;
  }

  /**
   * Goes through the diffs to the point, a round after the other. Nearly always there is but one: it stays open, so that
   * the indexes of thousands of diffs are read once.
   */
  async #rounds(work: (plan: MergePlan, open: Round["open"]) => Promise<void>): Promise<void> {
    const kept = this.#onlyRound;
    if (kept !== undefined) return work(kept.plan, kept.round.open);
    let state = this.#base;
    for (;;) {
      const isFirst = state === this.#base;
      const round = await this.#openRound(state);
      if (round === undefined) return;
      let isKept = false;
      try {
        const plan = planMerge(round.open.records);
        await work(plan, round.open);
        state = advanced(state, round.metas);
        isKept = isFirst && round.metas.length === this.#diffs.size;
        if (isKept) this.#onlyRound = { round, plan };
      } finally {
        if (!isKept) await round.close();
      }
      if (isKept) return;
    }
  }

  #openRound(state: ArchiveState): Promise<Round | undefined> {
    const choose = (countMax: number) =>
      restoreRound(this.#set, state, this.#gid, countMax).map((meta) => this.#diffs.get(meta)!);
    return openRound(this.#volume, this.#io, choose, this.#context.signal);
  }

  /** Every checksum was right. */
  allGood(): void {
    this.#volume.clearDamage([...this.#diffs.values()].map((diff) => diff.fileName));
  }
}
