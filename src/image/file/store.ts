/** @module Base images as sparse files, one per volume, with reflink clones where the file system has them. */
import { WalbError } from "../../errors.ts";
import type { Disk, DiskFile } from "../../platform/disk.ts";
import { lbBytes } from "../../units.ts";
import type { ImageStore } from "../image.ts";

/** Name of the image in a volume's directory. */
export const baseImageName = "base.img";

/** Images in `<dataDir>/<volume>/base.img`. The volume directory is made by the archive. */
export function createFileImageStore(disk: Disk, dataDir: string): ImageStore {
  const pathOf = (volume: string): string => `${dataDir}/${volume}/${baseImageName}`;

  const sizeBytes = async (volume: string): Promise<number> => {
    const info = await disk.info(pathOf(volume));
    if (info?.kind === "file") return info.sizeBytes;
    throw new WalbError("not-found", {
      what: "the base image is missing",
      where: { volume, file: pathOf(volume) },
      hint: `take a backup first: walb backup ${volume}`,
    });
  };

  const withFile = async (path: string, mode: "write" | "create", work: (file: DiskFile) => Promise<void>) => {
    const file = await disk.open(path, { mode });
    try {
      await work(file);
      await file.sync();
    } finally {
      await file.close();
    }
  };

  return {
    kind: "file",
    exists: async (volume) => (await disk.info(pathOf(volume))) !== undefined,
    sizeBytes,
    async createEmpty(volume, size) {
      await disk.remove(pathOf(volume));
      await withFile(pathOf(volume), "create", (file) => file.truncate(size));
      await disk.syncDirectory(`${dataDir}/${volume}`);
    },
    async grow(volume, size) {
      const current = await sizeBytes(volume);
      if (size === current) return;
      if (size < current) {
        throw new WalbError("out-of-range", {
          what: `cannot shrink the image from ${current} to ${size} bytes`,
          where: { volume, file: pathOf(volume), field: "size" },
          hint: "volumes only grow; reset the volume and back it up again to make it smaller",
        });
      }
      await withFile(pathOf(volume), "write", (file) => file.truncate(size));
    },
    async open(volume, mode) {
      const direct = await disk.open(pathOf(volume), { mode, direct: true });
      if (lbBytes % direct.alignmentBytes === 0) return direct;
      // Blocks of the volume are 512 bytes: on larger ones of the disk, the page cache puts them together.
      await direct.close();
      return disk.open(pathOf(volume), { mode });
    },
    remove: (volume) => disk.remove(pathOf(volume)),
    cloneToFile: (volume, path, options) => disk.cloneFile(pathOf(volume), path, options),
  };
}
