/**
 * @module Proves that a volume can be restored: every diff is read and its checksums are checked, the base image is read
 * and compared with what it was the last time, then the newest image is read where diffs lie over it. Damage does not end it: all is named, with the points it costs.
 */

import { basename } from "node:path";
import type { DiffSet } from "../diff/set.ts";
import { checkAborted } from "../diff/types.ts";
import { verifyDiff } from "../diff/verify.ts";
import { inOrder } from "../diff/window.ts";
import { asWalbError, WalbError } from "../errors.ts";
import { type ByteRange, baseImage } from "../image/image.ts";
import { pointsInTime, type RestorePoint } from "../snapshot/restore.ts";
import { alignDown, alignUp, mib } from "../units.ts";
import { volumeDatabaseName } from "../volume/database.ts";
import { defaultBulkLb } from "../wire/grammar.ts";
import type { JobContext } from "./apply.ts";
import { groupBytes } from "./base-hashes.ts";
import { pointsOfBase } from "./base-image.ts";
import type { StoredDiff } from "./diff-rows.ts";
import { explained, requireSame } from "./diffs.ts";
import { checkBaseImage } from "./image-check.ts";
import type { ArchiveMemory } from "./memory.ts";
import { pointsText } from "./plan.ts";
import { SnapshotImage } from "./scan.ts";
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
  /** Read of the base image, and of what the diffs lay over it; holes not counted. */
  readonly imageBytes: number;
  /** Of the base image, holes included: compared with what it was the last time. */
  readonly comparedBytes: number;
  readonly damage: { file: string; message: string; hint?: string }[];
  readonly lostPointCount: number;
  /** Why what was learnt could not be written down; absent when it is. */
  readonly notKept?: string;
}

/** Diffs to verify: the stale ones, those first that were not read for longest, up to a share of all bytes. */
function planVerify(
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
  let notKept: WalbError | undefined;
  /** What was found is told whatever becomes of what is to be remembered: the disk may be full, or broken. */
  const keep = (write: () => void): void => {
    try {
      write();
    } catch (error) {
      notKept ??= asWalbError(error, { volume: volume.name });
      volume.log.warn("what was verified cannot be noted", { error });
    }
  };
  keep(() => store.verifications.delete([...known.keys()].filter((name) => !names.has(name))));
  const chosen = planVerify(diffs, known, request, platform.clock.nowMs());
  const letGo = volume.pins.hold(chosen.map((diff) => diff.fileName));
  const damage = new Map<string, WalbError>();
  let checkedBytes = 0;
  const totalBytes = chosen.reduce((sum, { meta }) => sum + meta.dataSizeBytes, 0);
  try {
    const good: string[] = [];
    // Known before the first one is through, which may be large and have to wait.
    context.progress({ doneBytes: 0, totalBytes, step: "checking the diffs" });
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
      if ("error" in checked) damage.set(diff.fileName, await explained(volume, checked.error));
      else good.push(diff.fileName);
      checkedBytes += diff.meta.dataSizeBytes;
      context.progress({ doneBytes: checkedBytes, totalBytes, step: "checking the diffs" });
    }
    keep(() => store.verifications.put(good, platform.clock.nowMs()));
    volume.clearDamage(good);
  } finally {
    await letGo();
  }
  const isDiffBad = damage.size > 0;
  const range = chooseRange(volume, request);
  const image = await readBase(volume, memory, range, context, damage);
  notKept ??= image.notKept;
  const overlaidBytes = isDiffBad ? 0 : await readOverlay(volume, memory, range, context, damage);
  const isAllRead = chosen.length === diffs.length && range.endBytes - range.startBytes === volume.sizeBytes;
  // What a lost database was rebuilt from has been looked at.
  if (isAllRead && damage.size === 0) volume.clearDamage([volumeDatabaseName]);
  const points = pointsInTime(set, base);
  const bad = diffs.filter((diff) => damage.has(diff.fileName)).map((diff) => diff.meta);
  const left = new Set(pointsInTime(set.eraseAll(bad), base).map((point) => point.gid));
  for (const { gid } of image.lostPoints) left.delete(gid);
  return {
    diffCount: diffs.length,
    checkedCount: chosen.length,
    checkedBytes,
    imageBytes: image.readBytes + overlaidBytes,
    comparedBytes: image.comparedBytes,
    damage: [...damage].map(([file, { code, what, hint }]) => ({
      file,
      code,
      message: what,
      ...(hint === undefined ? {} : { hint }),
    })),
    lostPointCount: points.filter((point) => !left.has(point.gid)).length,
    ...(notKept === undefined ? {} : { notKept: notKept.message }),
  };
}

/** The whole image, or a share of it that begins anywhere; in whole groups of the base's hashes. */
function chooseRange({ sizeBytes, platform }: ArchiveVolume, { subsetPercent }: VerifyRequest): ByteRange {
  const partBytes = Math.min(sizeBytes, alignUp(Math.ceil((sizeBytes * (subsetPercent ?? 100)) / 100), groupBytes));
  const lastBytes = alignUp(sizeBytes - partBytes, groupBytes);
  const startBytes = alignDown(Math.floor((lastBytes + groupBytes) * platform.random.fraction()), groupBytes);
  const begin = Math.min(startBytes, lastBytes);
  return { startBytes: begin, endBytes: Math.min(sizeBytes, begin + partBytes) };
}

/** What the base image says of itself. */
interface BaseRead {
  readonly readBytes: number;
  readonly comparedBytes: number;
  /** What cannot be restored as it was any more. */
  readonly lostPoints: readonly RestorePoint[];
  readonly notKept: WalbError | undefined;
}

/** Reads a range of the base image, and finds what has changed it since the last time. */
async function readBase(
  volume: ArchiveVolume,
  memory: ArchiveMemory,
  range: ByteRange,
  context: JobContext,
  damage: Map<string, WalbError>,
): Promise<BaseRead> {
  const { signal } = context;
  const file = basename(volume.images.pathOf(baseImage(volume.name)));
  const totalBytes = range.endBytes - range.startBytes;
  const progress = (doneBytes: number): void =>
    context.progress({ doneBytes, totalBytes, step: "reading the base image" });
  try {
    const { changed, ...read } = await checkBaseImage(volume, memory, { range, signal, progress });
    if (changed.length === 0) {
      if (totalBytes === volume.sizeBytes) volume.clearDamage([file]);
      return { ...read, lostPoints: [] };
    }
    const lostPoints = pointsOfBase(volume);
    const error = changedError(volume, changed, lostPoints);
    volume.setDamage(file, error);
    volume.log.error("the base image has changed", { error });
    damage.set(file, error);
    return { ...read, lostPoints };
  } catch (error) {
    checkAborted(signal, "verifying");
    const failure = await explained(volume, error);
    damage.set(failure.where.file?.split("/").at(-1) ?? file, failure);
    return { readBytes: 0, comparedBytes: 0, lostPoints: [], notKept: undefined };
  }
}

const rangesNamedMax = 8;

function changedError(
  volume: ArchiveVolume,
  changed: readonly ByteRange[],
  lostPoints: readonly RestorePoint[],
): WalbError {
  const { name } = volume;
  const bytes = changed.reduce((sum, { startBytes, endBytes }) => sum + endBytes - startBytes, 0);
  const named = changed.slice(0, rangesNamedMax).map(({ startBytes, endBytes }) => `${startBytes} to ${endBytes - 1}`);
  const more = changed.length > named.length ? `, and ${changed.length - named.length} more ranges` : "";
  return new WalbError("damaged", {
    what:
      `the base image is not what it was when it was read before: its disk or another program has changed something in ` +
      `bytes ${named.join(", ")}${more} (${Math.ceil(bytes / mib)} MiB in all: hashes are kept by the MiB); points that may be wrong there: ${pointsText(lostPoints)}`,
    where: { volume: name, file: volume.images.pathOf(baseImage(name)) },
    hint:
      `check the disk; put the image back from a copy, or let a backup compare everything with the volume, which makes ` +
      `the points behind it right: walb backup ${name}`,
  });
}

/** Reads what the diffs lay over a range of the base. */
async function readOverlay(
  volume: ArchiveVolume,
  memory: ArchiveMemory,
  { startBytes, endBytes }: ByteRange,
  context: JobContext,
  damage: Map<string, WalbError>,
): Promise<number> {
  const scanned = { sizeLb: volume.store.sizeLb, bulkLb: defaultBulkLb };
  const totalBytes = endBytes - startBytes;
  try {
    const image = await SnapshotImage.open(volume, memory, scanned, context.signal);
    try {
      const progress = (doneBytes: number): void =>
        context.progress({ doneBytes, totalBytes, step: "reading the image through the diffs" });
      return await image.readThrough(startBytes, endBytes, { signal: context.signal, progress });
    } finally {
      await image.close();
    }
  } catch (error) {
    checkAborted(context.signal, "verifying");
    const failure = await explained(volume, error);
    damage.set(failure.where.file?.split("/").at(-1) ?? "base.img", failure);
    return 0;
  }
}
