/** @module Chooses where an archive keeps its images. */
import type { Logger } from "../control/logger.ts";
import { WalbError } from "../errors.ts";
import { createFileImageStore } from "../image/file/store.ts";
import type { ImageStore } from "../image/image.ts";
import { Lvm, parseLvmPlace } from "../image/lvm/lvm.ts";
import { awaitPredecessor, commandLockName } from "../image/lvm/predecessor.ts";
import { openLvmImageStore } from "../image/lvm/store.ts";
import type { MemoryPool } from "../native/memory.ts";
import type { Platform } from "../platform/platform.ts";

/**
 * Opens the images.
 * The caller has the lock of the data directory.
 * @param kind `file`, `lvm:VG` or `lvm:VG/POOL`.
 * @throws WalbError `bad-parameter`, `not-found` for a missing volume group or pool, or when LVM is not installed;
 * `locked` while a command of LVM does not end that a daemon before this one has begun.
 */
export async function openImages(
  kind: string,
  parts: {
    readonly platform: Platform;
    readonly dataDir: string;
    readonly memory: MemoryPool;
    readonly log?: Pick<Logger, "warn">;
  },
): Promise<ImageStore> {
  const { platform, dataDir, memory, log } = parts;
  if (kind === "file") return createFileImageStore(platform.disk, memory, dataDir);
  const [scheme, place] = [kind.slice(0, kind.indexOf(":")), kind.slice(kind.indexOf(":") + 1)];
  if (scheme !== "lvm" || platform.commands === undefined) {
    throw new WalbError("bad-parameter", {
      what: `there are no images of the kind ${JSON.stringify(kind.slice(0, 80))}`,
      where: { field: "images" },
      hint: "say --images file, lvm:VG or lvm:VG/POOL",
    });
  }
  const lockPath = `${dataDir}/${commandLockName}`;
  const lvm = new Lvm(parseLvmPlace(place), platform.commands, platform.clock, lockPath);
  await awaitPredecessor(platform.disk, platform.clock, lockPath, () => {
    log?.warn("waiting for a command of LVM that was begun before this start", { file: lockPath });
  });
  return openLvmImageStore({ disk: platform.disk, memory, lvm });
}
