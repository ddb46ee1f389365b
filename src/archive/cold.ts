/**
 * @module Points kept as images, where clones are cheap: made by restores, so that later ones have less to write, and
 * put in the place of the base by applies.
 *
 * Order of a promotion: manifest → cold → promoting → base image removed → row, manifest → promoting becomes the base → row of the
 * cold image, diffs, older cold images removed. Up to the removal a start takes it back, from then on it finishes it; where
 * nothing can be written, restores begin at the promoting image meanwhile.
 */
import { isUnwritable, WalbError } from "../errors.ts";
import { baseImage, type ImageId, snapshotImage } from "../image/image.ts";
import { garbageBefore } from "../snapshot/collect.ts";
import { forgetBaseHashes } from "./base-hashes.ts";
import type { Cold } from "./colds.ts";
import { coldState } from "./plan.ts";
import type { ArchiveVolume } from "./volume.ts";

/** Keeps an image that has just been restored as a point to start from. Whatever fails costs only that. */
export async function keepCold(volume: ArchiveVolume, restored: ImageId, cold: Cold): Promise<void> {
  const { images, store, name } = volume;
  if (store.colds.find(cold.gid) !== undefined || !(await images.hasCheapClones(name))) return;
  const image = snapshotImage(name, "cold", cold.gid);
  try {
    // One without a row: what a crash left.
    await images.remove(image);
    await images.clone(restored, image, { sizeBytes: volume.sizeBytes, isReadOnly: true });
    store.colds.put(cold);
    await volume.saveManifest();
  } catch (error) {
    volume.log.warn("the restored point could not be kept for later restores", { gid: cold.gid, error });
    if (store.colds.find(cold.gid) === undefined) await images.remove(image).catch(() => undefined);
  }
}

/** Deletes cold images. @throws what keeps one of them, e.g. that it is mounted; then it stays. */
export async function removeColds(volume: ArchiveVolume, colds: readonly Cold[]): Promise<void> {
  const { images, store, name } = volume;
  if (colds.length === 0) return;
  for (const { gid } of colds) store.colds.delete(gid);
  await volume.saveManifest();
  for (const cold of colds) {
    try {
      await images.remove(snapshotImage(name, "cold", cold.gid));
    } catch (error) {
      store.colds.put(cold);
      await volume.saveManifest();
      throw error;
    }
  }
}

/** An image that somebody has removed is no point to start from: base and diffs lead there, too. Never throws. */
export async function forgetLostColds(volume: ArchiveVolume): Promise<void> {
  const { images, store, name, log, platform } = volume;
  try {
    const before = store.colds.all;
    for (const { gid } of before) {
      if (gid === volume.promoting) continue;
      const image = snapshotImage(name, "cold", gid);
      // Where there is a device LVM is not asked: it may not answer.
      if ((await platform.disk.info(images.pathOf(image))) !== undefined || (await images.exists(image))) continue;
      store.colds.delete(gid);
      log.warn("the image of a point is not there any more", { gid });
    }
    if (store.colds.all !== before) await volume.saveManifest();
  } catch (error) {
    log.warn("it cannot be seen which points are kept as images", { error });
  }
}

/** Deletes those that the base image has reached or passed. What stays is tried again by the next apply or start. */
export async function removeOldColds(volume: ArchiveVolume): Promise<void> {
  const base = volume.requireBase();
  const old = volume.store.colds.all.filter((cold) => cold.gid <= base.from.gidB);
  await removeColds(volume, old).catch((error: unknown) => {
    volume.log.warn("an image of a point that is not needed any more could not be removed", { error });
  });
}

/**
 * Puts a cold image in the place of the base. When the base cannot be removed, e.g. since somebody has it open, all is as it
 * was: then the diffs are to be applied to the base.
 */
export async function promoteCold(volume: ArchiveVolume, cold: Cold): Promise<void> {
  const { images, name, log } = volume;
  const { gid } = cold;
  volume.promoting = gid;
  try {
    // A start tells by the kept points of the manifest why the database is ahead of it. It may lack this one: a full disk.
    await volume.saveManifest();
    await images.rename(snapshotImage(name, "cold", gid), snapshotImage(name, "promoting", gid));
    await images.grow(snapshotImage(name, "promoting", gid), volume.sizeBytes);
    await forgetBaseHashes(volume);
    await images.remove(baseImage(name));
    await finishPromotion(volume, cold);
    volume.promoting = undefined;
    log.info("a point that was kept as an image is the base now", { gid });
  } catch (error) {
    log.warn("a point that is kept as an image could not become the base", { gid, error });
    await endPromotion(volume);
  }
}

/** A promotion that failed is taken back, or finished when the base is gone. @throws why neither is possible now. */
export async function endPromotion(volume: ArchiveVolume): Promise<void> {
  const { images, name, promoting: gid } = volume;
  if (gid === undefined) return;
  if (await images.exists(snapshotImage(name, "promoting", gid))) await reconcilePromotion(volume, gid);
  volume.promoting = undefined;
}

/** As {@link endPromotion}, for those who can do without its end where nothing can be written: the image is where it was. */
export async function tryEndPromotion(volume: ArchiveVolume): Promise<void> {
  try {
    await endPromotion(volume);
  } catch (error) {
    if (!isUnwritable(error)) throw error;
    volume.log.warn("a point that is kept as an image cannot become the base yet", { gid: volume.promoting, error });
  }
}

/** The image that has the point of a cold one, or of the base; while a promotion cannot be ended it has a name of its own. */
export function imageToStartFrom(volume: ArchiveVolume, cold: Cold | undefined): ImageId {
  const { name, promoting } = volume;
  const gid = cold?.gid ?? volume.requireBase().from.gidB;
  if (gid === promoting) return snapshotImage(name, "promoting", gid);
  return cold === undefined ? baseImage(name) : snapshotImage(name, "cold", gid);
}

async function finishPromotion(volume: ArchiveVolume, cold: Cold): Promise<void> {
  const { images, store, name } = volume;
  const promoting = snapshotImage(name, "promoting", cold.gid);
  await images.grow(promoting, volume.sizeBytes);
  const gone = garbageBefore(store.set, cold.gid).map((meta) => store.diff(meta));
  if (volume.requireBase().from.gidB < cold.gid) store.setBase(coldState(cold), gone);
  await volume.saveManifest();
  await images.rename(promoting, baseImage(name));
  await volume.removeDiffFiles(gone);
  await removeOldColds(volume);
}

/** At start: finishes promotions or takes them back, and brings rows and images of points together. */
export async function reconcileImages(volume: ArchiveVolume): Promise<void> {
  const { images, store, name, log } = volume;
  await images.cleanUp(name);
  for (const image of await images.list(name)) {
    if (image.kind === "promoting") {
      volume.promoting = image.gid;
      await tryEndPromotion(volume);
    } else if (image.kind === "restoring") {
      log.warn("a restore was lost when the daemon ended; it must be repeated", { gid: image.gid });
      await images.remove(image);
    } else if (image.kind === "cold" && store.colds.find(image.gid) === undefined) await images.remove(image);
  }
  try {
    await reconcileColds(volume);
  } catch (error) {
    if (!isUnwritable(error)) throw error;
    log.warn("the rows of points that are kept as images cannot be put in order yet", { error });
  }
}

async function reconcileColds({ images, store, name, log, promoting }: ArchiveVolume): Promise<void> {
  const baseGid = store.base?.from.gidB ?? 0n;
  for (const { gid } of store.colds.all) {
    if (gid === promoting) continue;
    const image = snapshotImage(name, "cold", gid);
    const isOld = gid <= baseGid;
    if (!isOld && (await images.exists(image))) continue;
    store.colds.delete(gid);
    await images.remove(image);
    if (isOld) continue;
    // Nothing is lost: the point is restored from base and diffs again.
    log.warn("the image of a point is not there any more", { gid });
  }
}

async function reconcilePromotion(volume: ArchiveVolume, gid: bigint): Promise<void> {
  const { images, store, name, log } = volume;
  const promoting = snapshotImage(name, "promoting", gid);
  const base = store.base;
  if (base === undefined) {
    await images.remove(promoting);
  } else if (!(await images.exists(baseImage(name)))) {
    const point = volume.points().find((one) => one.point.gid === gid)?.point;
    const timestampS = store.colds.find(gid)?.timestampS ?? point?.timestampS ?? base.timestampS;
    if (base.from.gidB > gid || base.to !== undefined) {
      throw new WalbError("damaged", {
        what: `the base image is missing, and the image of gid ${gid} is older than what the base held`,
        where: { volume: name, file: images.pathOf(promoting) },
      });
    }
    log.info("an apply that broke off is finished: a point kept as an image becomes the base", { gid });
    await finishPromotion(volume, { gid, timestampS });
  } else if (base.from.gidB >= gid) {
    await images.remove(promoting);
  } else {
    await images.rename(promoting, snapshotImage(name, "cold", gid));
  }
}
