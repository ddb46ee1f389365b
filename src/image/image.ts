/**
 * @module Images at the archive: what every back end (files, LVM) offers.
 *
 * An image may be larger than its volume (LVM rounds up to extents): the volume's size is metadata of the archive.
 */
import type { WalbError } from "../errors.ts";
import type { MemoryPool } from "../native/memory.ts";
import type { DiskFile, FileCopyOptions } from "../platform/disk.ts";

/** What a copy reads. */
export type CopySource = Pick<DiskFile, "size" | "nextData" | "read">;

/** What is copied in place of an image, and memory for what is read of it. */
export interface CopyContent extends CopySource {
  readonly memory: MemoryPool;
}

/** How to copy. */
export interface CopyOptions extends FileCopyOptions {
  /**
   * What to copy in place of the image, for example the image with diffs laid over it, so that each byte is written once.
   * It is asked, once, by those that copy data and can; elsewhere the copy is of the image itself.
   */
  readonly content?: (image: DiskFile) => Promise<CopyContent>;
  /** Called before data is copied; waits to keep a rate. */
  readonly throttle?: (bytes: number) => Promise<void>;
}

/**
 * What an image is for: `base` diffs are applied to; `restored` was restored for people to use; `cold` is a point kept
 * read-only, to start restores from; `restoring` is becoming a restored one; `promoting` was a cold one and is becoming
 * the base.
 */
export type SnapshotImageKind = "restored" | "restoring" | "cold" | "promoting";

/** Names an image of a point. `volume` is a checked volume id. */
export interface SnapshotImageId {
  readonly volume: string;
  readonly kind: SnapshotImageKind;
  readonly gid: bigint;
}

/** Names an image. */
export type ImageId = { readonly volume: string; readonly kind: "base" } | SnapshotImageId;

/** The base image of a volume. */
export function baseImage(volume: string): ImageId {
  return { volume, kind: "base" };
}

/** The image of a volume at a point. */
export function snapshotImage(volume: string, kind: SnapshotImageKind, gid: bigint): SnapshotImageId {
  return { volume, kind, gid };
}

/** A range of an image; its end is not part of it. */
export interface ByteRange {
  readonly startBytes: number;
  readonly endBytes: number;
}

/** How a clone was made: sharing blocks of a file, copying, or as a snapshot of a logical volume. */
export type CloneMethod = "reflink" | "copy" | "snapshot";

/** How to clone an image. */
export interface CloneOptions extends CopyOptions {
  /** The clone has at least this size; what the original does not have reads as zeroes. */
  readonly sizeBytes: number;
  /** Keep people from writing to it, where the back end can. */
  readonly isReadOnly?: boolean;
}

/**
 * What an image reads as before it is written: zeroes, or, up to the size that was asked for, anything; then whoever fills
 * it must write its zeroes too.
 */
export type EmptyContent = "zeroes" | "anything";

/** The images of one archive. Every change is durable when its promise resolves. */
export interface ImageStore {
  /** For status: `file`, `lvm:VG`, `lvm:VG/POOL`. */
  readonly kind: string;
  /** Where people and other programs find the image. */
  pathOf(image: ImageId): string;
  /** Whether images of a new volume can have their names. @throws WalbError `bad-parameter`, `already-exists`. */
  checkNew(volume: string): Promise<void>;
  /** Whether all images of a volume can be removed now. @throws WalbError `state` naming what stands against it. */
  checkRemovable(volume: string): Promise<void>;
  exists(image: ImageId): Promise<boolean>;
  /** Opens an image for reading and closes it again, where that disturbs nobody; absent elsewhere. @throws why it cannot. */
  probe?(image: ImageId): Promise<void>;
  /** All images of a volume, in no order. */
  list(volume: string): Promise<ImageId[]>;
  /** Size in bytes, of one that has lost its content, too. @throws WalbError `not-found`. */
  sizeBytes(image: ImageId): Promise<number>;
  /** Makes the base image, at least `sizeBytes` large, to be written as a whole, or empties and grows it. */
  createEmpty(volume: string, sizeBytes: number): Promise<EmptyContent>;
  /** Nothing to do when it is as large or larger. The added range reads as zeroes. */
  grow(image: ImageId, sizeBytes: number): Promise<void>;
  /**
   * Opens for reading and writing, or reading only; `overlay` is for writes here and there, which a file takes through the
   * page cache. The caller closes.
   */
  open(image: ImageId, mode: "read" | "write" | "overlay"): Promise<DiskFile>;
  /** Fine when it is not there. Its name is gone when this resolves; its space may come back a little later. */
  remove(image: ImageId): Promise<void>;
  /** Bytes still to be allocated before these ranges (ascending) can be written; 0 where that cannot be told. */
  missingBytes(image: ImageId, ranges: Iterable<ByteRange>): Promise<number>;
  /** Gives an image another name, which must be free; a read-only one that becomes `promoting` can be written to. */
  rename(from: ImageId, to: ImageId): Promise<void>;
  /** Makes an image like another one, that changes on its own. @throws `already-exists`. */
  clone(from: ImageId, to: ImageId, options: CloneOptions): Promise<CloneMethod>;
  /** Whether clones cost neither time nor space to begin with, so that cold images are worth keeping. */
  hasCheapClones(volume: string): Promise<boolean>;
  /** Copies the image to a new file (reflink where there is one, else sparse). @throws `already-exists`. */
  cloneToFile(image: ImageId, path: string, options: CopyOptions): Promise<"reflink" | "copy">;
  /** At start: ends removals that a crash cut off, and lets images be used that are kept for people. */
  cleanUp(volume: string): Promise<void>;
  /** Waits until the space of what was removed is free. */
  settle(): Promise<void>;
  /** What somebody must look at before images of the volume are lost; absent where nothing can be. */
  trouble?(volume: string): Promise<WalbError | undefined>;
  /** Checks that an image has not lost its content; absent where none can. @throws WalbError `damaged`, `not-found`. */
  checkContent?(image: ImageId): Promise<void>;
  /** Checks that images can be written to, before an apply begins to change them. @throws WalbError `state`. */
  checkWritable?(volume: string): Promise<void>;
  /** Space for images; absent when it is that of the data directory. */
  space?(): Promise<{ readonly freeBytes: number; readonly totalBytes: number }>;
}
