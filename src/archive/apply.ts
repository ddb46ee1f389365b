/**
 * @module Moves the base image forward: applies diffs to it, in rounds.
 *
 * Order of a round: diffs checked → hashes of what will be written forgotten → row `applying`, manifest → writes → fdatasync → row `applied` without the diffs,
 * manifest → files removed, those of the last round behind the answer. A round that was cut off is repeated by the next apply.
 */
import type { ProgressReport } from "../control/job.ts";
import { applyDiffs } from "../diff/apply.ts";
import { planMerge } from "../diff/merge.ts";
import { checkAborted, type DiffIo } from "../diff/types.ts";
import { WalbError } from "../errors.ts";
import { garbageBefore } from "../snapshot/collect.ts";
import { applyRound } from "../snapshot/restore.ts";
import { beginState, endState } from "../snapshot/state.ts";
import { stateText } from "../snapshot/text.ts";
import type { ArchiveState } from "../snapshot/types.ts";
import { lbBytes } from "../units.ts";
import { forgetChanged } from "./base-hashes.ts";
import { openBase, requireBaseImage } from "./base-image.ts";
import { endPromotion, promoteCold, removeOldColds } from "./cold.ts";
import type { StoredDiff } from "./diff-rows.ts";
import { explained, type Round, verifyPlan } from "./diffs.ts";
import { openFittingRound } from "./fitting.ts";
import { readManifest } from "./manifest.ts";
import { appliedSnapshot, coldState, planPromotion, requireUnprotected } from "./plan.ts";
import type { ArchiveVolume } from "./volume.ts";
import { requireDirectory } from "./volume-directory.ts";

/** What a job gets. */
export interface JobContext {
  readonly signal: AbortSignal;
  progress(report: ProgressReport): void;
  /** See `CommandContext.accepted`. */
  accepted?(): void;
}

/** Applies diffs up to `gid`. The caller has checked states and counts the action. */
export async function applyToBase(
  volume: ArchiveVolume,
  io: DiffIo,
  gid: bigint,
  context: JobContext,
  isDry = false,
): Promise<{ readonly gid: bigint; readonly bytes: number; readonly lostPointCount: number }> {
  const { store } = volume;
  await endPromotion(volume);
  const base = volume.requireBase();
  if (applyRound(store.set, base, gid).length === 0) {
    throw new WalbError("state", {
      what: `there is nothing to apply up to gid ${gid}: the image is at ${stateText(base)}`,
      where: { volume: volume.name, field: "gid" },
      hint: `choose a later point of: walb snapshots ${volume.at} --all`,
    });
  }
  const cold = planPromotion(store.set, base, store.colds.all, gid);
  const start = cold === undefined ? base : coldState(cold);
  const newBaseGid = appliedSnapshot(store.set, start, gid).gidB;
  const points = volume.points().map(({ point }) => point);
  requireUnprotected(points, store.labels, newBaseGid, volume);
  const lostPointCount = points.filter((point) => point.gid < newBaseGid).length;
  if (isDry) {
    const metas = applyRound(store.set, start, gid);
    const bytes = metas.reduce((sum, meta) => sum + store.diff(meta).contentLb * lbBytes, 0);
    return { gid: newBaseGid, bytes, lostPointCount };
  }
  await volume.images.checkWritable?.(volume.name);
  context.accepted?.();
  if (cold !== undefined) await promoteCold(volume, cold);
  await requireDirectory(volume);
  await requireBaseImage(volume);
  let bytes = 0;
  const choose = (countMax: number) =>
    applyRound(store.set, volume.requireBase(), gid, countMax).map((meta) => store.diff(meta));
  while (choose(1).length > 0) {
    checkAborted(context.signal, "applying diffs");
    // Space that a round before gives back may be what this one needs.
    await volume.removals();
    const round = await openFittingRound(volume, io, choose, context.signal);
    if (round === undefined) break;
    let gone: readonly StoredDiff[] = [];
    try {
      const applied = await applyOneRound(volume, io, round, context);
      bytes += applied.bytes;
      gone = applied.gone;
    } finally {
      await round.close();
    }
    await volume.removeDiffFilesLater(gone);
  }
  await removeOldColds(volume);
  volume.log.info("diffs applied", { gid: volume.requireBase().from.gidB, bytes });
  return { gid: volume.requireBase().from.gidB, bytes, lostPointCount };
}

/** @returns the bytes written, and the diffs whose rows are gone and whose files are not needed any more. */
async function applyOneRound(
  volume: ArchiveVolume,
  io: DiffIo,
  round: Round,
  context: JobContext,
): Promise<{ readonly bytes: number; readonly gone: readonly StoredDiff[] }> {
  const { store, settings } = volume;
  const plan = planMerge(round.open.records);
  const totalBytes = plan.totalLb * lbBytes;
  const report = (step: string) => (doneLb: number) =>
    context.progress({ doneBytes: doneLb * lbBytes, totalBytes, step });
  await verifyPlan(volume, io, round, plan, context.signal, report("checking the diffs"));
  const image = await openBase(volume, "overlay");
  let result: Awaited<ReturnType<typeof applyDiffs>>;
  let moveOn: () => Promise<void>;
  try {
    moveOn = await forgetChanged(volume, io, plan.pieces, endState(volume.requireBase(), round.metas));
    await beginApplying(volume, beginState(volume.requireBase(), round.metas));
    const onProgress = report("applying the diffs");
    result = await applyDiffs(io, round.open, plan, image, {
      sizeLb: store.sizeLb,
      discard: settings.discard,
      signal: context.signal,
      onProgress: ({ doneLb }) => onProgress(doneLb),
      throttle: throttle(volume, context.signal),
    });
  } catch (error) {
    throw await explained(volume, error);
  } finally {
    await image.close();
  }
  const base = endState(volume.requireBase(), round.metas);
  const gone = garbageBefore(store.set, base.from.gidB).map((meta) => store.diff(meta));
  store.setBase(base, gone);
  await moveOn();
  await volume.saveManifest();
  return { bytes: (result.writtenLb + result.zeroedLb) * lbBytes, gone };
}

/** Notes that the image is going to change. When not even that can be written, nothing has begun. */
async function beginApplying(volume: ArchiveVolume, begun: ArchiveState): Promise<void> {
  const { store } = volume;
  const before = volume.requireBase();
  store.setBase(begun);
  try {
    await volume.saveManifest();
  } catch (error) {
    // It may have been written all the same, and must not be ahead of the row: then the apply counts as begun.
    const back = volume.saveManifest({ ...store.manifest(), base: before });
    const isBack = await back.then(
      () => true,
      () => manifestSays(volume, before),
    );
    if (isBack) store.setBase(before);
    throw error;
  }
}

/** Whether the manifest that is there, durable or not, has this base. */
async function manifestSays({ platform, directory, name }: ArchiveVolume, base: ArchiveState): Promise<boolean> {
  try {
    const found = (await readManifest(platform.disk, directory, name))?.base;
    return found !== undefined && stateText(found) === stateText(base);
  } catch {
    return false;
  }
}

/** Keeps the rate, and sleeps its share of the time between batches. */
function throttle(volume: ArchiveVolume, signal: AbortSignal): (bytes: number) => Promise<void> {
  const { clock } = volume.platform;
  const percent = volume.settings.applySleepPercent;
  let busySinceMs = clock.monotonicMs();
  return async (bytes) => {
    await volume.rates.apply.take(bytes, signal);
    if (percent === 0) return;
    const busyMs = clock.monotonicMs() - busySinceMs;
    await clock.sleep((busyMs * percent) / (100 - percent), signal);
    busySinceMs = clock.monotonicMs();
  };
}
