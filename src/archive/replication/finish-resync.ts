/**
 * @module Carries out a resync that is decided: the base image becomes that of the other archive, its diffs take the place
 * of the old ones. May be repeated from any point; a start that finds the row does.
 *
 * Order: file written over the image → fdatasync → files of the old diffs and kept images removed → staged directory
 * renamed → diffs moved out of it → row removed → file removed.
 */
import { applyDiffs } from "../../diff/apply.ts";
import { type MergePlan, planMerge } from "../../diff/merge.ts";
import { type DiffSet as OpenDiffs, openDiffSet } from "../../diff/set.ts";
import type { DiffIo } from "../../diff/types.ts";
import { asWalbError, WalbError } from "../../errors.ts";
import { baseImage } from "../../image/image.ts";
import { diffFileSuffix } from "../../snapshot/filename.ts";
import { lbBytes } from "../../units.ts";
import type { Transition } from "../../volume/machine.ts";
import { forgetBaseHashes } from "../base-hashes.ts";
import type { ArchiveVolume, ArchiveVolumeState } from "../volume.ts";

/** Holds what a resync writes to the image. */
export const resyncFileName = "resync.pending";
/** Directory of the diffs behind it, before and after the old ones are gone. */
export const stagedName = "resync.staged";
const movingName = "resync.moving";

/** Carries it out. @throws WalbError `damaged` when the file is gone. */
async function finishResync(volume: ArchiveVolume, io: DiffIo, signal?: AbortSignal): Promise<void> {
  const { store } = volume;
  const { disk } = volume.platform;
  if (store.resyncFile === undefined) return;
  if ((await disk.info(volume.pathOf(movingName))) === undefined) {
    await writeImage(volume, io, signal);
    await removeOld(volume);
    if ((await disk.info(volume.pathOf(stagedName))) !== undefined) {
      await disk.rename(volume.pathOf(stagedName), volume.pathOf(movingName));
      await disk.syncDirectory(volume.directory);
    }
  }
  await moveDiffs(volume);
  store.endResync();
  await volume.saveManifest();
  await removeStaged(volume);
}

async function writeImage(volume: ArchiveVolume, io: DiffIo, signal: AbortSignal | undefined): Promise<void> {
  const { images, name, sizeBytes, store } = volume;
  if ((await volume.platform.disk.info(volume.pathOf(resyncFileName))) === undefined) {
    throw new WalbError("damaged", {
      what: "the file of a resync is missing, and the base image may be written in part",
      where: { volume: name, file: volume.pathOf(resyncFileName) },
      hint:
        "put the file back from a copy of the volume's directory; or move the directory aside, start this archive again, and " +
        `on the other one: walb replicate ${name} --to ${volume.settings.nodeId}`,
    });
  }
  const id = baseImage(name);
  await forgetBaseHashes(volume);
  if ((await images.sizeBytes(id)) < sizeBytes) await images.grow(id, sizeBytes);
  const image = await images.open(id, "overlay");
  try {
    await withPending(volume, io, async (open, plan) => {
      await applyDiffs(io, open, plan, image, {
        sizeLb: store.sizeLb,
        discard: "zero",
        ...(signal === undefined ? {} : { signal }),
        onProgress: ({ doneLb, totalLb }) => {
          volume.syncProgress = { doneBytes: doneLb * lbBytes, totalBytes: totalLb * lbBytes };
        },
      });
    });
    // A volume that grows later reads zeroes there.
    const imageBytes = await image.size();
    if (imageBytes > sizeBytes) await image.zero(sizeBytes, imageBytes - sizeBytes);
    await image.sync();
  } finally {
    volume.syncProgress = undefined;
    await image.close();
  }
}

async function removeOld(volume: ArchiveVolume): Promise<void> {
  const { disk } = volume.platform;
  // Later, files may have these names anew.
  await volume.removals();
  // Points that were kept as images are those of the old backups; restored images are their owner's.
  for (const id of await volume.images.list(volume.name)) {
    if (id.kind === "cold" || id.kind === "promoting") await volume.images.remove(id);
  }
  for (const fileName of await disk.list(volume.directory)) {
    if (fileName.endsWith(diffFileSuffix)) await disk.remove(volume.pathOf(fileName));
  }
  await disk.syncDirectory(volume.directory);
}

async function moveDiffs(volume: ArchiveVolume): Promise<void> {
  const { disk } = volume.platform;
  const moving = volume.pathOf(movingName);
  if ((await disk.info(moving)) === undefined) return;
  for (const fileName of await disk.list(moving)) {
    await disk.rename(`${moving}/${fileName}`, volume.pathOf(fileName));
    volume.pins.keep(fileName);
  }
  await disk.syncDirectory(volume.directory);
  await disk.syncDirectory(moving);
}

/** Carries out a decided resync beside everything else, then goes on with `ready`. @param transition into Resync. */
export function finishInBackground(
  volume: ArchiveVolume,
  io: DiffIo,
  transition: Transition<ArchiveVolumeState>,
  ready: () => Promise<void>,
): void {
  volume.inBackground(async (signal) => {
    try {
      await finishResync(volume, io, signal);
      await ready();
      transition.commit("Archived");
      volume.log.info("resync done", { gid: volume.latest().from.gidB });
    } catch (error) {
      const failure = asWalbError(error, { step: "finishing a resync" });
      volume.setTrouble(
        new WalbError(failure.code, {
          what: failure.what,
          where: failure.where,
          hint: failure.hint ?? "the next start of the archive tries again",
        }),
      );
      volume.log.error("a resync cannot be finished; the next start tries again", { error: failure });
    }
  });
}

/** At start: goes on with a resync that is decided. */
export function resumeResync(volume: ArchiveVolume, io: DiffIo, ready: () => Promise<void>): void {
  const { machine, log } = volume;
  log.info("a resync goes on where it broke off");
  const transition = machine.begin([machine.state], "Resync", "finish a resync");
  finishInBackground(volume, io, transition, ready);
}

/** Removes what a resync that was not decided, or is done, leaves. Never throws. */
export async function removeStaged(volume: ArchiveVolume): Promise<void> {
  const { disk } = volume.platform;
  try {
    await disk.remove(volume.pathOf(resyncFileName));
    await disk.removeTree(volume.pathOf(stagedName));
    await disk.removeTree(volume.pathOf(movingName));
  } catch (error) {
    volume.log.warn("what a resync left could not be removed", { error: asWalbError(error) });
  }
}

/** Opens the file of a resync. */
export async function withPending(
  volume: ArchiveVolume,
  io: DiffIo,
  work: (open: OpenDiffs, plan: MergePlan) => Promise<void>,
): Promise<void> {
  const open = await openDiffSet(io, [volume.pathOf(resyncFileName)]);
  try {
    await work(open, planMerge(open.records));
  } finally {
    await open.close();
  }
}
