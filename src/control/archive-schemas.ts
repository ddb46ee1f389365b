/** @module What the commands of the archive role take and answer. */
import { z } from "zod";
import { mib } from "../units.ts";
import {
  addressTextSchema,
  compressionSchema,
  countSchema,
  gidSchema,
  pathSchema,
  timeMsSchema,
  troubleSchema,
  volumeSchema,
  volumeStatusFields,
  waitingSchema,
} from "./schemas.ts";

/** A point a volume can be restored at. */
export const restorablePointSchema = z.object({
  gid: gidSchema,
  timeMs: timeMsSchema,
  /** Taken by somebody, not by the clock. */
  isExplicit: z.boolean(),
  isProtected: z.boolean(),
  label: z.string().optional(),
  /** Data to be written over a clone of the base image; an estimate, without decompressing. */
  bytesToRestore: countSchema,
  sizeLb: countSchema,
  /** Why it is kept, in English, where a policy decides. */
  keptBecause: z.string().optional(),
});
export type RestorablePoint = z.output<typeof restorablePointSchema>;

/** Most data per second of each kind of work, 0 for no limit. */
export const ratesSchema = z.object({
  applyBytesPerS: countSchema,
  restoreBytesPerS: countSchema,
  mergeBytesPerS: countSchema,
  scanBytesPerS: countSchema,
});
export type Rates = z.output<typeof ratesSchema>;

const pointSchema = z.object({ gid: gidSchema, timeMs: timeMsSchema });

/** Another archive that the volume is replicated to. */
const replicaSchema = z.object({
  to: addressTextSchema,
  isRunning: z.boolean(),
  /** What it had when it was last brought up to date, and when that was. */
  gid: gidSchema.optional(),
  atMs: timeMsSchema.optional(),
  trouble: troubleSchema.optional(),
});

const archiveVolumeSchema = z.object({
  ...volumeStatusFields,
  /** Of the base image; missing before the first backup. */
  imageBytes: countSchema.optional(),
  uuid: z.string().optional(),
  archiveUuid: z.string().optional(),
  /** Text of the base's state, e.g. `<|5|>` or `<|5|-->|7|>` while applying. */
  base: z.string().optional(),
  /** Text of the latest snapshot, e.g. `|5|` or `|5,7|`. */
  latest: z.string().optional(),
  oldestPoint: pointSchema.optional(),
  newestPoint: pointSchema.optional(),
  pointCount: countSchema.optional(),
  explicitPointCount: countSchema.optional(),
  wdiffCount: countSchema.optional(),
  wdiffBytes: countSchema.optional(),
  restoredCount: countSchema.optional(),
  coldCount: countSchema.optional(),
  lastReceivedMs: timeMsSchema.optional(),
  lastSyncMs: timeMsSchema.optional(),
  /** Why an apply that was begun does not move, and how it goes on. */
  waiting: waitingSchema.optional(),
  /** Archives it was replicated to since the daemon started. */
  replicas: z.array(replicaSchema).optional(),
});
export type ArchiveVolume = z.output<typeof archiveVolumeSchema>;

export const archiveStatusSchema = z.object({
  /** Kind of the images: `file`, `lvm:VG`, `lvm:VG/POOL`. */
  images: z.string(),
  freeBytes: countSchema.optional(),
  totalBytes: countSchema.optional(),
  /** Of the volume group or thin pool, where images are there. */
  imagesFreeBytes: countSchema.optional(),
  imagesTotalBytes: countSchema.optional(),
  rates: ratesSchema.optional(),
  volumes: z.array(archiveVolumeSchema),
});
export type ArchiveStatus = z.output<typeof archiveStatusSchema>;

/** At most one of `gid` and `atMs`; neither means the newest point. */
export const restoreParams = z
  .strictObject({
    volume: volumeSchema,
    gid: gidSchema.optional(),
    atMs: timeMsSchema.optional(),
    /** File to be made, or block device to be written; without it the archive keeps the image, see `restored`. */
    to: pathSchema.optional(),
    /** Replace an existing file, write over a device. */
    overwrite: z.boolean().optional(),
    dryRun: z.boolean().optional(),
  })
  .refine((params) => params.gid === undefined || params.atMs === undefined, "give a gid or a time, not both");

export const restoreResult = z.object({
  gid: gidSchema,
  timeMs: timeMsSchema,
  sizeBytes: countSchema,
  /** Written (or, dry, to be written) from diffs and from the base image. */
  bytes: countSchema,
  elapsedMs: countSchema,
  /** Where the image is. */
  path: z.string().optional(),
  /** How the base image got there. */
  method: z.enum(["reflink", "copy", "snapshot", "device"]).optional(),
  /** In a dry run: how long it is going to take. */
  estimateMs: countSchema.optional(),
  /** Every checksum of the diffs' data was right; false in a dry run, which reads only their indexes. */
  isVerified: z.boolean().optional(),
});

/** An image that the archive restored and keeps. */
export const restoredImageSchema = z.object({
  gid: gidSchema,
  path: z.string(),
  sizeBytes: countSchema,
  /** Missing when the point itself is gone. */
  timeMs: timeMsSchema.optional(),
});

/** At most one of `untilGid` and `remainingMib`; neither means everything. */
export const replicateParams = z
  .strictObject({
    volume: volumeSchema,
    /** The other archive. */
    to: addressTextSchema,
    /** Until it has reached this gid: no diff that begins there or later is sent. */
    untilGid: gidSchema.optional(),
    /** Until no more than so many MiB of diffs are missing there; 0, the default, is until nothing is. */
    remainingMib: countSchema.optional(),
    /** Replace everything it has of the volume, if need be. */
    resync: z.boolean().optional(),
    /** Send the diffs one by one, so that each point arrives; else they are merged, and labelled points and ones that
     * somebody took arrive. */
    keepAllPoints: z.boolean().optional(),
    compression: compressionSchema.optional(),
    /** Of the diffs that are merged on their way; default 1 GiB. */
    mergeBytesMax: z.int().positive().optional(),
    /** Of copies and comparisons; default 256 KiB. */
    bulkBytes: z
      .int()
      .min(512)
      .max(4 * mib)
      .optional(),
    /** Goes on with each new diff until it is cancelled, over failures too. */
    follow: z.boolean().optional(),
  })
  .refine(
    (params) => params.untilGid === undefined || params.remainingMib === undefined,
    "give untilGid or remainingMib, not both",
  )
  .refine(
    (params) => params.follow !== true || (params.untilGid === undefined && params.remainingMib === undefined),
    "follow has no end: give neither untilGid nor remainingMib",
  );

export const replicateResult = z.object({
  /** What the other archive has now. */
  gid: gidSchema,
  isFull: z.boolean(),
  isResync: z.boolean(),
  /** Comparisons of images, and diffs, that were sent. */
  hashCount: countSchema,
  diffCount: countSchema,
  sentBytes: countSchema,
  elapsedMs: countSchema,
});

/** A diff; `from` and `to` as `|5|` or, dirty, `|5,7|`. */
export const diffSchema = z.object({
  from: z.string(),
  to: z.string(),
  isMergeable: z.boolean(),
  /** Made by comparing two images. */
  isCompared: z.boolean(),
  timeMs: timeMsSchema,
  sizeBytes: countSchema,
});
