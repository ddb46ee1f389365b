/**
 * @module Base images at the archive: what every back end (files, LVM) offers.
 *
 * An image may be larger than its volume (LVM rounds up to extents): the volume's size is metadata of the archive.
 */
import type { DiskFile } from "../platform/disk.ts";

/** Progress of a copy, bytes. */
export interface CopyOptions {
  readonly signal?: AbortSignal;
  readonly onProgress?: (copiedBytes: number, totalBytes: number) => void;
}

/** The base images of one archive. `volume` is a checked volume id. */
export interface ImageStore {
  /** For status: `file`, `lvm:VG`, `lvm:VG/POOL`. */
  readonly kind: string;
  exists(volume: string): Promise<boolean>;
  /** Size in bytes. @throws WalbError `not-found`. */
  sizeBytes(volume: string): Promise<number>;
  /** Makes the image, or empties and grows it: reads back as zeroes, at least `sizeBytes` large. */
  createEmpty(volume: string, sizeBytes: number): Promise<void>;
  /** @throws WalbError `out-of-range` on shrink. The added range reads as zeroes. */
  grow(volume: string, sizeBytes: number): Promise<void>;
  /** Opens for reading and writing, or reading only. The caller closes. */
  open(volume: string, mode: "read" | "write"): Promise<DiskFile>;
  remove(volume: string): Promise<void>;
  /** Copies the image to a new file (reflink where there is one, else sparse). @throws `already-exists`. */
  cloneToFile(volume: string, path: string, options: CopyOptions): Promise<"reflink" | "copy">;
}
