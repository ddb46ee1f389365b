/** @module Images as sparse files in the volumes' directories, with reflink clones where the file system has them. */
import { WalbError } from "../../errors.ts";
import type { MemoryPool } from "../../native/memory.ts";
import type { Disk, DiskFile } from "../../platform/disk.ts";
import { copyToFile } from "../copy.ts";
import {
  type ByteRange,
  baseImage,
  type CloneMethod,
  type CopyOptions,
  type ImageId,
  type ImageStore,
} from "../image.ts";
import { openForBlocks } from "../open.ts";
import { imageFileName, parseImageFileName } from "./names.ts";
import { Trash } from "./trash.ts";

/** Images in `<dataDir>/<volume>/`, see {@link imageFileName}. The volume directory is made by the archive. */
export function createFileImageStore(disk: Disk, memory: MemoryPool, dataDir: string): ImageStore {
  const directoryOf = (volume: string): string => `${dataDir}/${volume}`;
  const pathOf = (image: ImageId): string => `${directoryOf(image.volume)}/${imageFileName(image)}`;
  const trash = new Trash(disk);
  /** A volume's directory may be a file system of its own. */
  const reflinks = new Map<string, Promise<boolean>>();

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

  const hasCheapClones = (volume: string): Promise<boolean> => {
    const known = reflinks.get(volume);
    if (known !== undefined) return known;
    const probe = canReflink(disk, directoryOf(volume)).catch(() => {
      // On a full disk: nothing is known.
      reflinks.delete(volume);
      return false;
    });
    reflinks.set(volume, probe);
    return probe;
  };

  const cloneTo = async (image: ImageId, path: string, options: CopyOptions): Promise<"reflink" | "copy"> => {
    if (await hasCheapClones(image.volume)) return disk.cloneFile(pathOf(image), path, options);
    await copyToFile(disk, memory, pathOf(image), path, options);
    return "copy";
  };

  return {
    kind: "file",
    pathOf,
    sizeBytes,
    grow,
    exists: async (image) => (await disk.info(pathOf(image))) !== undefined,
    async probe(image) {
      await (await disk.open(pathOf(image), { mode: "read" })).close();
    },
    checkNew: async () => undefined,
    checkRemovable: async () => undefined,
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
      return "zeroes";
    },
    open: (image, mode) =>
      mode === "overlay" ? disk.open(pathOf(image), { mode: "write" }) : openForBlocks(disk, pathOf(image), mode),
    async missingBytes(image, ranges) {
      const file = await disk.open(pathOf(image), { mode: "read" });
      try {
        return await missingIn(file, ranges);
      } finally {
        await file.close();
      }
    },
    remove: (image) => trash.take(pathOf(image)),
    async rename(from, to) {
      await disk.rename(pathOf(from), pathOf(to));
      await disk.syncDirectory(directoryOf(to.volume));
    },
    async clone(from, to, options): Promise<CloneMethod> {
      const method = await cloneTo(from, pathOf(to), options);
      await grow(to, options.sizeBytes);
      return method;
    },
    hasCheapClones,
    cloneToFile: cloneTo,
    async cleanUp(volume) {
      for (const name of probeNames) await disk.remove(`${directoryOf(volume)}/${name}`);
      await trash.takeLeftovers(directoryOf(volume));
    },
    settle: () => trash.settle(),
  };
}

/** How much of the ranges is holes. */
async function missingIn(file: DiskFile, ranges: Iterable<ByteRange>): Promise<number> {
  let missingBytes = 0;
  let data: ByteRange = { startBytes: 0, endBytes: 0 };
  for (const { startBytes, endBytes } of ranges) {
    let at = startBytes;
    while (at < endBytes) {
      if (at >= data.endBytes) {
        const nowhere = { startBytes: Number.POSITIVE_INFINITY, endBytes: Number.POSITIVE_INFINITY };
        data = (await file.nextData(at)) ?? nowhere;
      }
      const holeEnd = Math.min(endBytes, Math.max(at, data.startBytes));
      missingBytes += holeEnd - at;
      at = Math.max(holeEnd, Math.min(endBytes, data.endBytes));
    }
  }
  return missingBytes;
}

/** Files of the try, and the one before the first is renamed. */
const probeNames = [".reflink-from", ".reflink-to", ".reflink-from.tmp"] as const;

/** Tries it with a small file. */
async function canReflink(disk: Disk, directory: string): Promise<boolean> {
  const [from, to] = [`${directory}/${probeNames[0]}`, `${directory}/${probeNames[1]}`];
  try {
    await disk.remove(to);
    await disk.writeSmall(from, new Uint8Array(4096).fill(1));
    return (await disk.cloneFile(from, to)) === "reflink";
  } finally {
    await disk.remove(from);
    await disk.remove(to);
  }
}
