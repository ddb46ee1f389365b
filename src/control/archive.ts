/** @module The commands of the archive role. */
import { z } from "zod";
import { mib } from "../units.ts";
import { defineCommand, defineJob } from "./command.ts";
import {
  addressTextSchema,
  compressionSchema,
  countSchema,
  doneSchema,
  gidSchema,
  noParams,
  pathSchema,
  statusParams,
  timeMsSchema,
  troubleSchema,
  volumeParams,
  volumeSchema,
  volumeStatusFields,
  volumesResult,
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

export const archiveVolumeSchema = z.object({
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
const restoreParams = z
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

const activeStates = ["Archived", "HashSync", "WdiffRecv", "ReplSyncAsServer"] as const;
const activeOrStopped = [...activeStates, "Stopped"] as const;
const gidParams = z.strictObject({ volume: volumeSchema, gid: gidSchema });
const gidsParams = z.strictObject({ volume: volumeSchema, gids: z.array(gidSchema).min(1).max(10_000) });

export const archiveCommands = {
  status: defineCommand({
    summary: "State of the volumes, what they can be restored to, what is running",
    params: statusParams,
    result: archiveStatusSchema,
    isReadOnly: true,
  }),
  volumes: defineCommand({
    summary: "Names of the volumes",
    params: noParams,
    result: volumesResult,
    isReadOnly: true,
  }),
  init: defineCommand({
    summary: "Makes a place for the backups of a volume",
    params: volumeParams,
    result: doneSchema,
    requires: ["Clear"],
  }),
  snapshots: defineCommand({
    summary: "Points a volume can be restored at, oldest first; without all, only those somebody took",
    params: z.strictObject({ volume: volumeSchema, all: z.boolean().optional() }),
    result: z.object({ snapshots: z.array(restorablePointSchema) }),
    isReadOnly: true,
  }),
  diffs: defineCommand({
    summary: "State of the base image, and the diffs that lead from it to the newest point, in order",
    params: volumeParams,
    result: z.object({
      base: z.object({
        gid: gidSchema,
        /** End of an apply that has not ended. */
        applyingGid: gidSchema.optional(),
      }),
      diffs: z.array(diffSchema),
    }),
    isReadOnly: true,
    requires: activeStates,
  }),
  "label-snapshot": defineCommand({
    summary: "Sets or (with an empty label) removes the label of a snapshot, protects it or not",
    params: z.strictObject({
      volume: volumeSchema,
      gid: gidSchema,
      label: z.string().max(200).optional(),
      protect: z.boolean().optional(),
    }),
    result: doneSchema,
    requires: activeStates,
  }),
  "disable-snapshot": defineCommand({
    summary: "Lets merges take snapshots away that somebody took",
    params: gidsParams,
    result: doneSchema,
    requires: activeStates,
  }),
  "enable-snapshot": defineCommand({
    summary: "Keeps merges from taking snapshots away",
    params: gidsParams,
    result: doneSchema,
    requires: activeStates,
  }),
  restore: defineJob({
    summary: "Writes the volume as it was to a file or block device of the archive's host",
    params: restoreParams,
    result: restoreResult,
    requires: activeStates,
  }),
  restored: defineCommand({
    summary: "Images that the archive restored and keeps, oldest first",
    params: volumeParams,
    result: z.object({ restored: z.array(restoredImageSchema) }),
    isReadOnly: true,
  }),
  "del-restored": defineCommand({
    summary: "Deletes a restored image",
    params: gidParams,
    result: doneSchema,
    requires: activeOrStopped,
  }),
  cold: defineCommand({
    summary: "Points that are kept as images, so that restores begin there, oldest first",
    params: volumeParams,
    result: z.object({ cold: z.array(z.object({ gid: gidSchema, timeMs: timeMsSchema, path: z.string() })) }),
    isReadOnly: true,
  }),
  "del-cold": defineCommand({
    summary: "Deletes the image of a point; the point stays",
    params: gidParams,
    result: doneSchema,
    requires: activeOrStopped,
  }),
  apply: defineJob({
    summary: "Moves the base image forward to a snapshot; points before it are gone",
    params: z.strictObject({ volume: volumeSchema, gid: gidSchema, dryRun: z.boolean().optional() }),
    result: z.object({
      gid: gidSchema,
      /** Written, or, dry, at most to be written. */
      bytes: countSchema,
      elapsedMs: countSchema,
      /** Points that are gone, or, dry, would be. */
      lostPointCount: countSchema,
    }),
    requires: activeStates,
  }),
  merge: defineJob({
    summary: "Makes one diff of several; points between them that nobody took are gone",
    params: z
      .strictObject({
        volume: volumeSchema,
        fromGid: gidSchema,
        toGid: gidSchema.optional(),
        maxBytes: z.int().positive().optional(),
        dryRun: z.boolean().optional(),
      })
      .refine(
        (params) => params.toGid === undefined || params.maxBytes === undefined,
        "give toGid or maxBytes, not both",
      ),
    result: z.object({ mergedCount: countSchema, bytes: countSchema, elapsedMs: countSchema }),
    requires: activeStates,
  }),
  replicate: defineJob({
    summary: "Brings another archive up to date with this one",
    params: replicateParams,
    result: replicateResult,
    requires: activeStates,
  }),
  clear: defineCommand({
    summary: "Forgets a volume with all its backups",
    params: volumeParams,
    result: doneSchema,
    requires: ["SyncReady", "Stopped"],
  }),
  reset: defineCommand({
    summary: "Deletes all backups of a volume; a new full backup is needed",
    params: volumeParams,
    result: doneSchema,
    requires: ["SyncReady", "Stopped"],
  }),
  bhash: defineJob({
    summary: "Hash of the content of a volume at a snapshot, the newest when none is named",
    params: z.strictObject({
      volume: volumeSchema,
      gid: gidSchema.optional(),
      /** Default 512 (256 KiB); the hash depends on it. */
      bulkLb: z.int().min(1).max(65_536).optional(),
      /** Default all. */
      sizeLb: z.int().positive().optional(),
    }),
    result: z.object({
      gid: gidSchema.optional(),
      /** 32 hex digits. */
      hash: z.string(),
      sizeLb: countSchema,
      bulkLb: countSchema,
      elapsedMs: countSchema,
    }),
    requires: activeStates,
  }),
  verify: defineJob({
    summary: "Reads diffs and image to their end and checks every checksum; names the points that damage costs",
    params: z.strictObject({
      volume: volumeSchema,
      /** Only so much of diffs and image, those first that were not verified for longest. */
      subsetPercent: z.number().positive().max(100).optional(),
      /** Only diffs that were not verified for so long. */
      staleMs: countSchema.optional(),
    }),
    result: z.object({
      diffCount: countSchema,
      /** Of them read now, and their bytes. */
      checkedCount: countSchema,
      checkedBytes: countSchema,
      /** Of the base image and what the diffs lay over it, holes not counted. */
      imageBytes: countSchema,
      /** Of the base image, holes included: compared with what it was the last time; the rest was read for the first time. */
      comparedBytes: countSchema.optional(),
      damage: z.array(z.object({ file: z.string(), message: z.string(), hint: z.string().optional() })),
      /** Points that are restorable only if damaged files come back. */
      lostPointCount: countSchema,
      elapsedMs: countSchema,
    }),
    requires: activeStates,
  }),
  changes: defineJob({
    summary: "What was written between two points: ranges in order, those that touch joined",
    params: z.strictObject({
      volume: volumeSchema,
      fromGid: gidSchema,
      toGid: gidSchema,
      /** Most ranges to name; default 1,000. */
      rangesMax: z.int().nonnegative().max(100_000).optional(),
    }),
    result: z.object({
      fromGid: gidSchema,
      toGid: gidSchema,
      /** Of all ranges, and of those that read as zeroes now. */
      changedBytes: countSchema,
      zeroBytes: countSchema,
      /** All; `ranges` has the first ones. */
      rangeCount: countSchema,
      ranges: z.array(z.object({ offsetBytes: countSchema, sizeBytes: countSchema, isZero: z.boolean() })),
    }),
    requires: activeStates,
  }),
  "gc-diff": defineCommand({
    summary: "Deletes diffs that no point needs, and moves those that cannot be reached aside",
    params: volumeParams,
    result: z.object({ removedCount: countSchema, quarantinedCount: countSchema }),
    requires: activeOrStopped,
  }),
  "set-rates": defineCommand({
    summary: "Limits the rates of applies, restores, merges and scans, also of those that run; 0 for no limit",
    params: ratesSchema.partial().strict(),
    result: ratesSchema,
  }),
  resize: defineCommand({
    summary: "Grows the base image",
    params: z.strictObject({
      volume: volumeSchema,
      sizeLb: z.int().positive(),
      /** What is new reads as zeroes whether asked for or not. */
      zeroClear: z.boolean().optional(),
    }),
    result: doneSchema,
    requires: [...activeStates, "Stopped", "SyncReady"],
  }),
  start: defineCommand({
    summary: "Takes diffs again",
    params: volumeParams,
    result: doneSchema,
    requires: ["Stopped"],
  }),
  stop: defineCommand({
    summary: "Takes no more diffs; answers when it has stopped",
    params: z.strictObject({ volume: volumeSchema, mode: z.enum(["graceful", "force"]) }),
    result: doneSchema,
    requires: ["Archived"],
  }),
  "dbg-reload-metadata": defineCommand({
    summary: "Opens a volume anew from its files, also one that could not be opened",
    params: volumeParams,
    result: doneSchema,
  }),
  "dbg-set-uuid": defineCommand({
    summary: "Says which log diffs are taken from; for repair only",
    params: z.strictObject({ volume: volumeSchema, uuid: z.string().regex(/^[0-9a-f]{32}$/, "32 hex digits") }),
    result: doneSchema,
    requires: ["Stopped"],
  }),
  "dbg-set-state": defineCommand({
    summary: "Says what state a volume is in; for repair only",
    params: z.strictObject({ volume: volumeSchema, state: z.enum(["SyncReady", "Archived", "Stopped"]) }),
    result: doneSchema,
    requires: ["SyncReady", "Stopped"],
  }),
  "dbg-set-base": defineCommand({
    summary: "Says what the base image holds, e.g. <|5|>-20261121032642; for repair only",
    params: z.strictObject({ volume: volumeSchema, base: z.string().max(200) }),
    result: doneSchema,
    requires: ["Stopped"],
  }),
} as const;
export type ArchiveCommands = typeof archiveCommands;
