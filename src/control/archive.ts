/** @module The commands of the archive role. */
import { z } from "zod";
import {
  archiveStatusSchema,
  diffSchema,
  ratesSchema,
  replicateParams,
  replicateResult,
  restorablePointSchema,
  restoredImageSchema,
  restoreParams,
  restoreResult,
} from "./archive-schemas.ts";
import { defineCommand, defineJob } from "./command.ts";
import {
  countSchema,
  doneSchema,
  gidSchema,
  noParams,
  statusParams,
  timeMsSchema,
  volumeParams,
  volumeSchema,
  volumesResult,
} from "./schemas.ts";

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
      damage: z.array(
        z.object({ file: z.string(), code: z.string().optional(), message: z.string(), hint: z.string().optional() }),
      ),
      /** Points that are restorable only if damaged files come back. */
      lostPointCount: countSchema,
      /** Why what was learnt could not be written down, on a full disk for one: the next verify begins where this one did. */
      notKept: z.string().optional(),
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
