/** @module File names of images in a volume's directory. */
import type { ImageId, SnapshotImageKind } from "../image.ts";

/** Name of the base image. */
export const baseImageName = "base.img";

const kinds: readonly SnapshotImageKind[] = ["restored", "restoring", "cold", "promoting"];

/** `base.img`, `restored-GID.img` and so on. */
export function imageFileName(image: ImageId): string {
  return image.kind === "base" ? baseImageName : `${image.kind}-${image.gid}.img`;
}

/** The image a file name names, if any. */
export function parseImageFileName(volume: string, fileName: string): ImageId | undefined {
  if (fileName === baseImageName) return { volume, kind: "base" };
  const [, word, gid] = /^([a-z]+)-(0|[1-9][0-9]{0,18})\.img$/.exec(fileName) ?? [];
  const kind = kinds.find((known) => known === word);
  return kind === undefined || gid === undefined ? undefined : { volume, kind, gid: BigInt(gid) };
}
