/** @module Chooses where an archive keeps its images. */
import { WalbError } from "../errors.ts";
import { createFileImageStore } from "../image/file/store.ts";
import type { ImageStore } from "../image/image.ts";
import { Lvm, parseLvmPlace } from "../image/lvm/lvm.ts";
import { openLvmImageStore } from "../image/lvm/store.ts";
import type { MemoryPool } from "../native/memory.ts";
import type { Platform } from "../platform/platform.ts";

/**
 * Opens the images.
 * @param kind `file`, `lvm:VG` or `lvm:VG/POOL`.
 * @throws WalbError `bad-parameter`, `not-found` for a missing volume group or pool, or when LVM is not installed.
 */
export async function openImages(
  kind: string,
  parts: { readonly platform: Platform; readonly dataDir: string; readonly memory: MemoryPool },
): Promise<ImageStore> {
  const { platform, dataDir, memory } = parts;
  if (kind === "file") return createFileImageStore(platform.disk, memory, dataDir);
  const [scheme, place] = [kind.slice(0, kind.indexOf(":")), kind.slice(kind.indexOf(":") + 1)];
  if (scheme !== "lvm" || platform.commands === undefined) {
    throw new WalbError("bad-parameter", {
      what: `there are no images of the kind ${JSON.stringify(kind.slice(0, 80))}`,
      where: { field: "images" },
      hint: "say --images file, lvm:VG or lvm:VG/POOL",
    });
  }
  const lvm = new Lvm(parseLvmPlace(place), platform.commands, platform.clock);
  return openLvmImageStore({ disk: platform.disk, memory, lvm });
}
