/** @module The commands of the archive role. */
import { z } from "zod";
import { defineCommand, defineJob } from "./command.ts";
import {
  countSchema,
  doneSchema,
  gidSchema,
  noParams,
  pathSchema,
  statusParams,
  timeMsSchema,
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

const pointSchema = z.object({ gid: gidSchema, timeMs: timeMsSchema });

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
  lastReceivedMs: timeMsSchema.optional(),
  lastSyncMs: timeMsSchema.optional(),
});
export type ArchiveVolume = z.output<typeof archiveVolumeSchema>;

export const archiveStatusSchema = z.object({
  /** Kind of the images: `file`, `lvm:VG`, `lvm:VG/POOL`. */
  images: z.string(),
  freeBytes: countSchema.optional(),
  totalBytes: countSchema.optional(),
  volumes: z.array(archiveVolumeSchema),
});
export type ArchiveStatus = z.output<typeof archiveStatusSchema>;

/** At most one of `gid` and `atMs`; neither means the newest point. */
const restoreParams = z
  .strictObject({
    volume: volumeSchema,
    gid: gidSchema.optional(),
    atMs: timeMsSchema.optional(),
    /** File to be made, or block device to be written. */
    to: pathSchema,
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
  /** How the base image got there. */
  method: z.enum(["reflink", "copy", "device"]).optional(),
  /** In a dry run: how long it is going to take. */
  estimateMs: countSchema.optional(),
  /** Every checksum of the diffs' data was right; false in a dry run, which reads only their indexes. */
  isVerified: z.boolean().optional(),
});

const activeStates = ["Archived", "HashSync", "WdiffRecv", "ReplSyncAsServer"] as const;

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
  restore: defineJob({
    summary: "Writes the volume as it was to a file or block device of the archive's host",
    params: restoreParams,
    result: restoreResult,
    requires: activeStates,
  }),
  apply: defineJob({
    summary: "Moves the base image forward to a snapshot; points before it are gone",
    params: z.strictObject({ volume: volumeSchema, gid: gidSchema }),
    result: z.object({ gid: gidSchema, bytes: countSchema, elapsedMs: countSchema }),
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
      })
      .refine(
        (params) => params.toGid === undefined || params.maxBytes === undefined,
        "give toGid or maxBytes, not both",
      ),
    result: z.object({ mergedCount: countSchema, bytes: countSchema, elapsedMs: countSchema }),
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
  resize: defineCommand({
    summary: "Grows the base image",
    params: z.strictObject({ volume: volumeSchema, sizeLb: z.int().positive() }),
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
} as const;
export type ArchiveCommands = typeof archiveCommands;
