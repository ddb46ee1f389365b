/** @module The base image of a volume, looked at before anything relies on it: one that is too short reads as zeroes behind its end. */
import { asWalbError, WalbError } from "../errors.ts";
import { baseImage, snapshotImage } from "../image/image.ts";
import { isOutOfFiles } from "../native/errno.ts";
import type { DiskFile } from "../platform/disk.ts";
import type { RestorePoint } from "../snapshot/restore.ts";
import { beginAnew } from "./diffs.ts";
import { planStart, pointsText } from "./plan.ts";
import type { ArchiveVolume } from "./volume.ts";
import { directoryFault } from "./volume-directory.ts";

/** Opens the base image. @throws WalbError `damaged` when it is missing or too short, `unreadable`. */
export async function openBase(volume: ArchiveVolume, use: "read" | "write" | "overlay"): Promise<DiskFile> {
  const file = await opened(volume, use);
  try {
    const fault = await sizeFault(volume, await file.size());
    if (fault !== undefined) throw fault;
    return file;
  } catch (error) {
    await file.close();
    throw error;
  }
}

async function opened(volume: ArchiveVolume, use: "read" | "write" | "overlay"): Promise<DiskFile> {
  try {
    return await volume.images.open(baseImage(volume.name), use);
  } catch (thrown) {
    const error = asWalbError(thrown, { volume: volume.name });
    if (error.code === "not-found") throw (await directoryFault(volume)) ?? (await missing(volume));
    throw use === "read" && error.code === "io" ? unreadable(volume, error) : error;
  }
}

/** As {@link openBase}, for those who do not open it themselves. */
export async function requireBaseImage(volume: ArchiveVolume): Promise<void> {
  await (await openBase(volume, "read")).close();
}

/** Why the base image cannot be used as it stands; undefined when it can, as far as that shows without reading it. */
export async function baseFault(volume: ArchiveVolume): Promise<WalbError | undefined> {
  const { images, name } = volume;
  const image = baseImage(name);
  if (!(await images.exists(image))) return await missing(volume);
  try {
    await images.probe?.(image);
  } catch (error) {
    return unreadable(volume, asWalbError(error, { volume: name }));
  }
  return await sizeFault(volume, await images.sizeBytes(image));
}

/** Points whose restore begins at the base image. */
export function pointsOfBase(volume: ArchiveVolume): RestorePoint[] {
  const { set, colds } = volume.store;
  const base = volume.requireBase();
  const points = volume.points().map(({ point }) => point);
  return points.filter(({ gid }) => planStart(set, base, colds.all, gid).cold === undefined);
}

async function missing(volume: ArchiveVolume): Promise<WalbError> {
  const { name, at, images, promoting: gid } = volume;
  const kept = gid === undefined ? undefined : snapshotImage(name, "promoting", gid);
  if (kept === undefined || !(await images.exists(kept))) return await lost(volume, "the base image is missing");
  const trouble = await images.trouble?.(name);
  const first = trouble?.hint === undefined ? "" : `${trouble.what}; ${trouble.hint}; then `;
  return new WalbError("state", {
    what: `an apply is not finished: ${images.pathOf(kept)}, the point gid ${gid}, is yet to become the base image`,
    where: { volume: name, file: images.pathOf(baseImage(name)) },
    hint: `nothing is lost: ${first}start the archive again, or: walb apply ${at} --before ${gid}`,
  });
}

async function sizeFault(volume: ArchiveVolume, imageBytes: number): Promise<WalbError | undefined> {
  const { sizeBytes } = volume;
  if (imageBytes >= sizeBytes) return undefined;
  return await lost(volume, `the base image has ${imageBytes} bytes, but the volume ${sizeBytes}`);
}

/** It can come back only from a copy, or from a point that is kept as an image. */
async function lost(volume: ArchiveVolume, what: string): Promise<WalbError> {
  const { name, at, images } = volume;
  const kept = await keptGid(volume);
  const promote =
    kept === undefined
      ? ""
      : `; or let a point that is kept as an image take its place, which gives up those before it: walb apply ${at} --before ${kept} --yes`;
  return new WalbError("damaged", {
    what: `${what}; without it these points are lost: ${pointsText(pointsOfBase(volume))}`,
    where: { volume: name, file: images.pathOf(baseImage(name)) },
    hint:
      `put it back from a copy, and prove that it is the right one: walb verify ${at}${promote}; ` +
      `or begin anew, which deletes all points; ${beginAnew(volume)}`,
  });
}

/** The oldest point whose image can take the place of the base, by an apply. */
async function keptGid(volume: ArchiveVolume): Promise<bigint | undefined> {
  const { images, name, store } = volume;
  const { from, to } = volume.requireBase();
  const cold = store.colds.all.find(({ gid }) => gid > from.gidB && gid >= (to?.gidB ?? 0n));
  const isThere = cold !== undefined && (await images.exists(snapshotImage(name, "cold", cold.gid)));
  return isThere ? cold.gid : undefined;
}

function unreadable(volume: ArchiveVolume, error: WalbError): WalbError {
  if (isOutOfFiles(error)) return error;
  const { name, images } = volume;
  const why = error.cause instanceof Error ? error.cause.message : error.what;
  return new WalbError("unreadable", {
    what: `the base image cannot be read: ${why}; until it can these points cannot be restored: ${pointsText(pointsOfBase(volume))}`,
    where: { volume: name, file: images.pathOf(baseImage(name)) },
    ...(error.hint === undefined ? {} : { hint: error.hint }),
  });
}
