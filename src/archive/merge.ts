/**
 * @module Makes one diff of several. Order: merged file durable → one transaction puts its row in the place of the
 * others → files removed. A crash before the transaction leaves one diff more, which the next start adopts.
 */
import { commitDiffFile } from "../diff/commit.ts";
import { planMerge } from "../diff/merge.ts";
import { writeMerged } from "../diff/output.ts";
import type { DiffIo } from "../diff/types.ts";
import { WalbError } from "../errors.ts";
import { contains, mergeAll } from "../snapshot/algebra.ts";
import { diffFileName } from "../snapshot/filename.ts";
import { pointsInTime } from "../snapshot/restore.ts";
import { stateText } from "../snapshot/text.ts";
import { type DiffMeta, isSameDiff } from "../snapshot/types.ts";
import { lbBytes } from "../units.ts";
import type { JobContext } from "./apply.ts";
import { explained, openDiffs } from "./diffs.ts";
import { type MergeRequest, planMergeList, pointsText } from "./plan.ts";
import { discardFile, registerFile } from "./receive.ts";
import type { ArchiveVolume } from "./volume.ts";
import { requireDirectory } from "./volume-directory.ts";

/** Temporary files of merges; removed at start. */
export const mergingPrefix = "merging-";

/** Merges diffs. The caller has checked states and counts the action. */
export async function mergeDiffs(
  volume: ArchiveVolume,
  io: DiffIo,
  request: MergeRequest,
  context: JobContext,
): Promise<{ readonly mergedCount: number; readonly bytes: number }> {
  const { store, platform } = volume;
  const base = volume.requireBase();
  if (base.to !== undefined) {
    throw new WalbError("state", {
      what: `cannot merge: an apply was interrupted, the image is at ${stateText(base)}`,
      where: { volume: volume.name },
      hint: `finish it first: walb apply ${volume.at} --before ${base.to.gidB}`,
    });
  }
  const metas = planMergeList(store.set, request, store.labels, volume);
  requirePointsKept(volume, mergeAll(metas));
  if (request.dryRun === true) {
    return { mergedCount: metas.length, bytes: metas.reduce((sum, meta) => sum + meta.dataSizeBytes, 0) };
  }
  context.accepted?.();
  await requireDirectory(volume);
  const diffs = metas.map((meta) => store.diff(meta));
  const round = await openDiffs(volume, io, diffs, { signal: context.signal });
  try {
    const file = await platform.disk.open(volume.temporaryPath(mergingPrefix), { mode: "create" });
    try {
      const stats = await writeMerged(io, round.open, planMerge(round.open.records), file, {
        signal: context.signal,
        throttle: (size) => volume.rates.merge.take(size, context.signal),
        onProgress: ({ doneLb, totalLb }) =>
          context.progress({ doneBytes: doneLb * lbBytes, totalBytes: totalLb * lbBytes, step: "merging" }),
      });
      const bytes = await file.size();
      const meta = { ...mergeAll(metas), dataSizeBytes: bytes };
      const fileName = diffFileName(meta);
      await commitDiffFile(platform.disk, file, volume.pathOf(fileName));
      const uuid = Buffer.from(round.open.uuid).toString("hex");
      const gone = store.diffs.filter((diff) => contains(meta, diff.meta));
      const merged = { fileName, meta, uuid, contentLb: stats.normalLb };
      await registerFile(volume, fileName, () => store.replaceDiffs(merged, gone));
      await volume.removeDiffFiles(gone.filter((diff) => !isSameDiff(diff.meta, meta) || diff.fileName !== fileName));
      volume.log.info("diffs merged", { count: metas.length, file: fileName, bytes });
      return { mergedCount: metas.length, bytes };
    } catch (error) {
      await discardFile(volume, file);
      throw error;
    }
  } catch (error) {
    throw await explained(volume, error);
  } finally {
    await round.close();
  }
}

/** Diffs that overlap could make a merge cost points that people asked for: then it is refused. */
function requirePointsKept(volume: ArchiveVolume, merged: DiffMeta): void {
  const { set, labels } = volume.store;
  const inside = set.getAll().filter((meta) => contains(merged, meta));
  const left = new Set(pointsInTime(set.eraseAll(inside).add(merged), volume.requireBase()).map((point) => point.gid));
  const lost = volume
    .points()
    .map(({ point }) => point)
    .filter((point) => (point.isExplicit || labels.has(point.gid)) && !left.has(point.gid));
  if (lost.length === 0) return;
  throw new WalbError("state", {
    what: `merging the diffs up to gid ${merged.to.gidB} would cost points that somebody asked for: ${pointsText(lost)}`,
    where: { volume: volume.name, field: "toGid" },
    hint: "merge a range that ends before them",
  });
}
