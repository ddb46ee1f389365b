/** @module Growing a volume: its image first, then its size. */
import { WalbError } from "../errors.ts";
import { baseImage } from "../image/image.ts";
import { gib, lbBytes } from "../units.ts";
import { volumeLbMax } from "../wire/bulk-stream.ts";
import { forgetBaseHashes } from "./base-hashes.ts";
import { requireBaseImage } from "./base-image.ts";
import { type ArchiveVolume, activeStates } from "./volume.ts";

/** Longest range zeroed by one call. */
const zeroBytesMax = gib;

/** Grows the image, then the size; what is new reads as zeroes. An image that is large enough already stays. */
export async function resizeVolume(volume: ArchiveVolume, sizeLb: number): Promise<void> {
  const { machine, store, images, name } = volume;
  machine.require([...activeStates, "Stopped", "SyncReady"], "resize");
  machine.requireNotStopping("resize");
  machine.requireIdle(["Restore", "ReplSyncAsClient", "Apply", "Resize", "Scan"], "resize");
  volume.requireBase();
  if (sizeLb > volumeLbMax) {
    throw new WalbError("out-of-range", {
      what: `a volume of ${sizeLb} LB is beyond the largest, ${volumeLbMax}`,
      where: { volume: name, field: "sizeLb" },
    });
  }
  if (sizeLb < store.sizeLb) {
    throw new WalbError("out-of-range", {
      what: `the volume has ${store.sizeLb} LB and cannot shrink to ${sizeLb}`,
      where: { volume: name, field: "sizeLb" },
      hint: "volumes only grow; reset the volume and back it up again to make it smaller",
    });
  }
  if (sizeLb === store.sizeLb) return;
  const end = machine.beginAction("Resize");
  try {
    await requireBaseImage(volume);
    // What is new changes the last group.
    await forgetBaseHashes(volume);
    const sizeBytes = sizeLb * lbBytes;
    const image = baseImage(name);
    const imageBytes = await images.sizeBytes(image);
    if (imageBytes > volume.sizeBytes) await zeroRange(volume, volume.sizeBytes, Math.min(imageBytes, sizeBytes));
    await images.grow(image, sizeBytes);
    store.setSize(sizeLb);
    await volume.saveManifest();
    volume.log.info("resized", { sizeLb });
  } finally {
    end();
  }
}

/** An image larger than its volume may hold anything behind its end. */
async function zeroRange(volume: ArchiveVolume, fromBytes: number, toBytes: number): Promise<void> {
  const file = await volume.images.open(baseImage(volume.name), "write");
  try {
    for (let at = fromBytes; at < toBytes; at += zeroBytesMax) {
      await file.zero(at, Math.min(zeroBytesMax, toBytes - at));
    }
    await file.sync();
  } finally {
    await file.close();
  }
}
