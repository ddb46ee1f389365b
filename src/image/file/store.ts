/** @module Images as sparse files in the volumes' directories, with reflink clones where the file system has them. */
import { WalbError } from "../../errors.ts";
import type { Disk, DiskFile } from "../../platform/disk.ts";
import { lbBytes } from "../../units.ts";
import { baseImage, type CloneMethod, type ImageId, type ImageStore } from "../image.ts";
import { imageFileName, parseImageFileName } from "./names.ts";
import { Trash } from "./trash.ts";

/** Images in `<dataDir>/<volume>/`, see {@link imageFileName}. The volume directory is made by the archive. */
export function createFileImageStore(disk: Disk, dataDir: string): ImageStore {
  const directoryOf = (volume: string): string => `${dataDir}/${volume}`;
  const pathOf = (image: ImageId): string => `${directoryOf(image.volume)}/${imageFileName(image)}`;
  const trash = new Trash(disk);
  let hasReflink: boolean | undefined;

  const sizeBytes = async (image: ImageId): Promise<number> => {
    const info = await disk.info(pathOf(image));
    if (info?.kind === "file") return info.sizeBytes;
    const where = { volume: image.volume, file: pathOf(image) };
    if (image.kind !== "base") throw new WalbError("not-found", { what: `the ${image.kind} image is missing`, where });
    throw new WalbError("not-found", {
      what: "the base image is missing",
      where,
      hint: `take a backup first: walb backup ${image.volume}`,
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

  const grow = async (image: ImageId, size: number): Promise<void> => {
    if (size <= (await sizeBytes(image))) return;
    await withFile(pathOf(image), "write", (file) => file.truncate(size));
  };

  return {
    kind: "file",
    pathOf,
    sizeBytes,
    grow,
    exists: async (image) => (await disk.info(pathOf(image))) !== undefined,
    async list(volume) {
      if ((await disk.info(directoryOf(volume))) === undefined) return [];
      const names = await disk.list(directoryOf(volume));
      return names.flatMap((name) => parseImageFileName(volume, name) ?? []);
    },
    async createEmpty(volume, size) {
      const path = pathOf(baseImage(volume));
      await trash.take(path);
      await withFile(path, "create", (file) => file.truncate(size));
      await disk.syncDirectory(directoryOf(volume));
    },
    async open(image, mode) {
      const path = pathOf(image);
      const direct = await disk.open(path, { mode, direct: true });
      if (lbBytes % direct.alignmentBytes === 0) return direct;
      // Blocks of the volume are 512 bytes: on larger ones of the disk, the page cache puts them together.
      await direct.close();
      return disk.open(path, { mode });
    },
    remove: (image) => trash.take(pathOf(image)),
    async rename(from, to) {
      await disk.rename(pathOf(from), pathOf(to));
      await disk.syncDirectory(directoryOf(to.volume));
    },
    async clone(from, to, options): Promise<CloneMethod> {
      const method = await disk.cloneFile(pathOf(from), pathOf(to), options);
      hasReflink = method === "reflink";
      await grow(to, options.sizeBytes);
      return method;
    },
    async hasCheapClones() {
      hasReflink ??= await canReflink(disk, dataDir);
      return hasReflink;
    },
    cloneToFile: (image, path, options) => disk.cloneFile(pathOf(image), path, options),
    cleanUp: (volume) => trash.takeLeftovers(directoryOf(volume)),
    settle: () => trash.settle(),
  };
}

/** Tries it with a small file. */
async function canReflink(disk: Disk, directory: string): Promise<boolean> {
  const [from, to] = [`${directory}/.reflink-from`, `${directory}/.reflink-to`];
  try {
    await disk.remove(to);
    await disk.writeSmall(from, new Uint8Array(4096).fill(1));
    return (await disk.cloneFile(from, to)) === "reflink";
  } finally {
    await disk.remove(from);
    await disk.remove(to);
  }
}
