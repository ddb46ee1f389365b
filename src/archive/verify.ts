/**
 * @module Proves that a volume can be restored: every diff is read and its checksums are checked, then the newest image
 * is read through base and diffs. Damage does not end it: all is named, with the points it costs.
 */

import type { DiffSet } from "../diff/set.ts";
import { checkAborted } from "../diff/types.ts";
import { verifyDiff } from "../diff/verify.ts";
import { inOrder } from "../diff/window.ts";
import type { WalbError } from "../errors.ts";
import { pointsInTime } from "../snapshot/restore.ts";
import { alignDown, alignUp, mib } from "../units.ts";
import { defaultBulkLb } from "../wire/grammar.ts";
import type { JobContext } from "./apply.ts";
import { explained, requireSame } from "./diffs.ts";
import type { ArchiveMemory } from "./memory.ts";
import { SnapshotImage } from "./scan.ts";
import type { StoredDiff } from "./store.ts";
import type { ArchiveVolume } from "./volume.ts";

/** Small diffs are read side by side. */
const diffsAtOnce = 4;

/** What to verify; all without. */
export interface VerifyRequest {
  readonly subsetPercent?: number | undefined;
  readonly staleMs?: number | undefined;
}

/** What was found. */
export interface Verified {
  readonly diffCount: number;
  readonly checkedCount: number;
  readonly checkedBytes: number;
  readonly imageBytes: number;
  readonly damage: { file: string; message: string; hint?: string }[];
  readonly lostPointCount: number;
}

/** Diffs to verify: the stale ones, those first that were not read for longest, up to a share of all bytes. */
export function planVerify(
  diffs: readonly StoredDiff[],
  verifiedMs: ReadonlyMap<string, number>,
  request: VerifyRequest,
  nowMs: number,
): StoredDiff[] {
  const ageOf = ({ fileName }: StoredDiff): number => nowMs - (verifiedMs.get(fileName) ?? 0);
  const stale = diffs.filter((diff) => request.staleMs === undefined || ageOf(diff) >= request.staleMs);
  const oldestFirst = stale.toSorted((a, b) => ageOf(b) - ageOf(a));
  if (request.subsetPercent === undefined) return oldestFirst;
  const totalBytes = diffs.reduce((sum, { meta }) => sum + meta.dataSizeBytes, 0);
  let leftBytes = (totalBytes * request.subsetPercent) / 100;
  const chosen: StoredDiff[] = [];
  for (const diff of oldestFirst) {
    if (leftBytes <= 0) break;
    chosen.push(diff);
    leftBytes -= diff.meta.dataSizeBytes;
  }
  return chosen;
}

/** Verifies a volume. The caller counts the action: no apply changes the image meanwhile. */
export async function verifyVolume(
  volume: ArchiveVolume,
  memory: ArchiveMemory,
  request: VerifyRequest,
  context: JobContext,
): Promise<Verified> {
  const { store, platform } = volume;
  const base = volume.requireBase();
  const { set, diffs } = store;
  const known = store.verifications.all;
  const names = new Set(diffs.map((diff) => diff.fileName));
  store.verifications.delete([...known.keys()].filter((name) => !names.has(name)));
  const chosen = planVerify(diffs, known, request, platform.clock.nowMs());
  const letGo = volume.pins.hold(chosen.map((diff) => diff.fileName));
  const damage = new Map<string, WalbError>();
  let checkedBytes = 0;
  const totalBytes = chosen.reduce((sum, { meta }) => sum + meta.dataSizeBytes, 0);
  try {
    const good: string[] = [];
    const check = async (diff: StoredDiff) => {
      await volume.rates.scan.take(diff.meta.dataSizeBytes, context.signal);
      try {
        const identify = (set: DiffSet): void => requireSame(volume, diff, set);
        const path = volume.pathOf(diff.fileName);
        await verifyDiff(memory.working, path, { signal: context.signal, inFlightMax: 2, identify });
        return { diff };
      } catch (error) {
        return { diff, error };
      }
    };
    let next = 0;
    const start = (): ReturnType<typeof check> | undefined => {
      checkAborted(context.signal, "verifying");
      const diff = chosen[next++];
      return diff === undefined ? undefined : check(diff);
    };
    for await (const checked of inOrder<{ readonly diff: StoredDiff; readonly error?: unknown }>(
      start,
      diffsAtOnce,
      () => undefined,
    )) {
      checkAborted(context.signal, "verifying");
      const { diff } = checked;
      if ("error" in checked) damage.set(diff.fileName, explained(volume, checked.error));
      else good.push(diff.fileName);
      checkedBytes += diff.meta.dataSizeBytes;
      context.progress({ doneBytes: checkedBytes, totalBytes, step: "checking the diffs" });
    }
    store.verifications.put(good, platform.clock.nowMs());
    volume.clearDamage(good);
  } finally {
    await letGo();
  }
  const isDiffBad = damage.size > 0;
  const imageBytes = isDiffBad ? 0 : await readImage(volume, memory, request, context, damage);
  const points = pointsInTime(set, base);
  const bad = diffs.filter((diff) => damage.has(diff.fileName)).map((diff) => diff.meta);
  const left = new Set(pointsInTime(set.eraseAll(bad), base).map((point) => point.gid));
  return {
    diffCount: diffs.length,
    checkedCount: chosen.length,
    checkedBytes,
    imageBytes,
    damage: [...damage].map(([file, { what, hint }]) => ({
      file,
      message: what,
      ...(hint === undefined ? {} : { hint }),
    })),
    lostPointCount: points.filter((point) => !left.has(point.gid)).length,
  };
}

/** Reads the newest image, or a share of it that begins anywhere. */
async function readImage(
  volume: ArchiveVolume,
  memory: ArchiveMemory,
  { subsetPercent }: VerifyRequest,
  context: JobContext,
  damage: Map<string, WalbError>,
): Promise<number> {
  const { sizeBytes, platform, store } = volume;
  const partBytes = Math.min(sizeBytes, alignUp(Math.ceil((sizeBytes * (subsetPercent ?? 100)) / 100), mib));
  const fromBytes = alignDown(Math.floor((sizeBytes - partBytes) * platform.random.fraction()), mib);
  const range = { sizeLb: store.sizeLb, bulkLb: defaultBulkLb };
  try {
    const image = await SnapshotImage.open(volume, memory, range, context.signal);
    try {
      const progress = (doneBytes: number): void =>
        context.progress({ doneBytes, totalBytes: partBytes, step: "reading the image" });
      return await image.readThrough(fromBytes, fromBytes + partBytes, { signal: context.signal, progress });
    } finally {
      await image.close();
    }
  } catch (error) {
    checkAborted(context.signal, "verifying");
    const failure = explained(volume, error);
    damage.set(failure.where.file?.split("/").at(-1) ?? "base.img", failure);
    return 0;
  }
}
