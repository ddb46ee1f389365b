/** @module The commands of the proxy role. */
import { z } from "zod";
import { defineCommand } from "./command.ts";
import {
  addressTextSchema,
  compressionSchema,
  countSchema,
  doneSchema,
  gidSchema,
  noParams,
  statusParams,
  timeMsSchema,
  troubleSchema,
  volumeParams,
  volumeSchema,
  volumeStatusFields,
  volumesResult,
  waitingSchema,
} from "./schemas.ts";

/** Name of an archive in the proxy: a directory name. */
const archiveNameSchema = z.string().regex(/^[0-9A-Za-z-]{1,64}$/, "1 to 64 letters, digits or dashes, e.g. a0");

/** An archive that a volume's diffs go to. */
const archiveEntrySchema = z.object({
  archiveName: archiveNameSchema,
  address: addressTextSchema,
  compression: compressionSchema,
  delayS: countSchema,
});
export type ArchiveEntry = z.output<typeof archiveEntrySchema>;

const proxyVolumeSchema = z.object({
  ...volumeStatusFields,
  lastReceivedMs: timeMsSchema.optional(),
  archives: z.array(
    archiveEntrySchema.extend({
      pendingCount: countSchema,
      pendingBytes: countSchema,
      /** Age of the oldest diff that waits. */
      lagMs: countSchema.optional(),
      oldestGid: gidSchema.optional(),
      latestGid: gidSchema.optional(),
      isSending: z.boolean(),
      lastSentMs: timeMsSchema.optional(),
      trouble: troubleSchema.optional(),
      /** Missing while something is being sent. */
      waiting: waitingSchema.optional(),
    }),
  ),
  /** Missing while a log is being received. */
  waiting: waitingSchema.optional(),
});
export type ProxyVolume = z.output<typeof proxyVolumeSchema>;

export const proxyStatusSchema = z.object({
  volumes: z.array(proxyVolumeSchema),
  /** Space on the file system of the data directory. */
  freeBytes: countSchema.optional(),
  totalBytes: countSchema.optional(),
  settings: z
    .object({
      dataDir: z.string(),
      wdiffSendBytesMax: countSchema,
      wdiffSendCountMax: countSchema,
      retryDelayMs: countSchema,
      retryDelayMsMax: countSchema,
      socketTimeoutMs: countSchema,
      maxConnections: countSchema,
      maxForegroundTasks: countSchema,
      maxBackgroundTasks: countSchema,
    })
    .optional(),
});
export type ProxyStatus = z.output<typeof proxyStatusSchema>;

export const proxyCommands = {
  status: defineCommand({
    summary: "State of the volumes and what waits for which archive",
    params: statusParams,
    result: proxyStatusSchema,
    isReadOnly: true,
  }),
  volumes: defineCommand({
    summary: "Names of the volumes",
    params: noParams,
    result: volumesResult,
    isReadOnly: true,
  }),
  "add-archive": defineCommand({
    summary: "Sends the diffs of a volume to an archive; again for a known name changes it",
    params: z.strictObject({
      volume: volumeSchema,
      archiveName: archiveNameSchema,
      address: addressTextSchema,
      compression: compressionSchema.optional(),
      delayS: z.int().min(0).max(31_536_000).optional(),
    }),
    result: doneSchema,
    requires: ["Clear", "Stopped"],
  }),
  "remove-archive": defineCommand({
    summary: "Sends nothing more to an archive; diffs that wait for it are deleted",
    params: z.strictObject({ volume: volumeSchema, archiveName: archiveNameSchema }),
    result: doneSchema,
    requires: ["Stopped"],
  }),
  "list-archives": defineCommand({
    summary: "Archives of a volume",
    params: volumeParams,
    result: z.object({ archives: z.array(archiveEntrySchema) }),
    isReadOnly: true,
  }),
  start: defineCommand({
    summary: "Receives and sends again; takes a stop back that waits until everything is sent",
    params: volumeParams,
    result: doneSchema,
    requires: ["Stopped", "WaitForEmpty"],
  }),
  stop: defineCommand({
    summary: "Stops; with empty, after everything has been sent",
    params: z.strictObject({ volume: volumeSchema, mode: z.enum(["graceful", "force", "empty"]) }),
    result: doneSchema,
    requires: ["Started"],
  }),
  clear: defineCommand({
    summary: "Forgets a volume, with the diffs that were not sent",
    params: volumeParams,
    result: doneSchema,
    requires: ["Stopped"],
  }),
  resize: defineCommand({
    summary: "Sets the size of the volume that archives are told; it grows by itself with the logs that come",
    params: z.strictObject({ volume: volumeSchema, sizeLb: z.int().positive() }),
    result: doneSchema,
    requires: ["Stopped"],
  }),
  kick: defineCommand({
    summary: "Sends everything that waits now",
    params: z.strictObject({ volume: volumeSchema.optional(), archiveName: archiveNameSchema.optional() }),
    result: doneSchema,
    requires: ["Started", "WlogRecv", "WaitForEmpty"],
  }),
} as const;
export type ProxyCommands = typeof proxyCommands;
