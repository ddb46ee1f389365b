/** @module Images that the archive restored and keeps: listed, deleted. */
import { WalbError } from "../errors.ts";
import { type SnapshotImageId, snapshotImage } from "../image/image.ts";
import { removeColds } from "./cold.ts";
import type { ArchiveVolume } from "./volume.ts";

/** A restored image. */
export interface RestoredImage {
  readonly gid: bigint;
  readonly path: string;
  readonly sizeBytes: number;
  /** Undefined when the point itself is gone. */
  readonly timestampS: number | undefined;
}

/** Gids of the restored images, ascending. */
export async function restoredGids(volume: ArchiveVolume): Promise<bigint[]> {
  const images = await volume.images.list(volume.name);
  const gids = images.flatMap((image) => (image.kind === "restored" ? [image.gid] : []));
  return gids.sort((a, b) => (a < b ? -1 : 1));
}

/** The restored images, oldest first. */
export async function listRestored(volume: ArchiveVolume): Promise<RestoredImage[]> {
  const times = new Map(volume.points().map(({ point }) => [point.gid, point.timestampS]));
  const list: RestoredImage[] = [];
  for (const gid of await restoredGids(volume)) {
    const image = snapshotImage(volume.name, "restored", gid);
    const path = volume.images.pathOf(image);
    list.push({ gid, path, sizeBytes: await volume.images.sizeBytes(image), timestampS: times.get(gid) });
  }
  return list;
}

/** Deletes a restored image. @throws WalbError `not-found`, `state`. */
export async function deleteRestored(volume: ArchiveVolume, gid: bigint): Promise<void> {
  requireDeletable(volume);
  const image = snapshotImage(volume.name, "restored", gid);
  if (!(await volume.images.exists(image))) throw missing(volume, image);
  await volume.images.remove(image);
  volume.log.info("a restored image is deleted", { gid });
}

/** Deletes a cold image. @throws WalbError `not-found`, `state`. */
export async function deleteCold(volume: ArchiveVolume, gid: bigint): Promise<void> {
  requireDeletable(volume);
  const cold = volume.store.colds.find(gid);
  if (cold === undefined) throw missing(volume, snapshotImage(volume.name, "cold", gid));
  await removeColds(volume, [cold]);
}

function requireDeletable({ machine }: ArchiveVolume): void {
  machine.require(["Archived", "HashSync", "WdiffRecv", "ReplSyncAsServer", "Stopped"], "delete an image");
  machine.requireNotStopping("delete an image");
  machine.requireIdle(["Apply", "Restore", "Resize"], "delete an image");
}

function missing(volume: ArchiveVolume, image: SnapshotImageId): WalbError {
  return new WalbError("not-found", {
    what: `there is no ${image.kind} image of gid ${image.gid}`,
    where: { volume: volume.name, field: "gid" },
    hint: `see which there are: walb images ${volume.at}`,
  });
}
