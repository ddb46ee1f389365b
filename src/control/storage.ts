/** @module The commands of the storage role. */
import { z } from "zod";
import { defineCommand, defineJob } from "./command.ts";
import {
  addressTextSchema,
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
  waitingSchema,
} from "./schemas.ts";

/** Which walb device a volume is made of. */
export const deviceReferenceSchema = z.discriminatedUnion("kind", [
  /** A volume of `walb device`; `socket` is the daemon's control socket, by default the one of the storage's options. */
  z.strictObject({ kind: z.literal("user"), name: z.string().min(1).max(25), socket: pathSchema.optional() }),
  /** A device of the kernel driver on the storage's host: /dev/walb/NAME. */
  z.strictObject({ kind: z.literal("kernel"), name: z.string().regex(/^[^/\0]{1,25}$/) }),
]);
export type DeviceReference = z.infer<typeof deviceReferenceSchema>;

/** A snapshot as a place in the log; `timestampS` in seconds since 1970 UTC. */
const logPointSchema = z.object({
  lsid: countSchema,
  gid: gidSchema,
  isMergeable: z.boolean(),
  timestampS: countSchema,
});

/** How far the primary archive is behind, as it said when it was last asked. */
const archiveDeltaSchema = z.object({
  /** Node id of the archive. */
  archive: z.string(),
  checkedMs: timeMsSchema,
  /** Newest snapshot here when it was asked. */
  gid: gidSchema,
  timestampS: countSchema,
  /** Newest snapshot there; missing when it does not know the volume. */
  archiveGid: gidSchema.optional(),
  archiveTimestampS: countSchema.optional(),
  /** Seconds between the two, negative when the clocks say so. */
  deltaS: z.int().optional(),
});
export type ArchiveDelta = z.output<typeof archiveDeltaSchema>;

/** A volume in the storage's status; optional parts are missing when it is Clear or the device does not answer. */
const storageVolumeSchema = z.object({
  ...volumeStatusFields,
  device: deviceReferenceSchema.optional(),
  uuid: z.string().optional(),
  salt: countSchema.optional(),
  pbsBytes: countSchema.optional(),
  isOverflow: z.boolean().optional(),
  logUsagePb: countSchema.optional(),
  logCapacityPb: countSchema.optional(),
  oldestLsid: countSchema.optional(),
  permanentLsid: countSchema.optional(),
  latestLsid: countSchema.optional(),
  /** Delivered up to here. */
  doneLsid: countSchema.optional(),
  doneGid: gidSchema.optional(),
  oldestGid: gidSchema.optional(),
  latestGid: gidSchema.optional(),
  /** Log that no proxy has acknowledged, and at most how long ago the oldest of it was written. */
  lagBytes: countSchema.optional(),
  lagMs: countSchema.optional(),
  lastSentMs: timeMsSchema.optional(),
  /** Snapshots that are not delivered yet, oldest first; the first hundred of them. */
  queue: z.array(logPointSchema).optional(),
  done: logPointSchema.optional(),
  /** True while its log is followed. */
  isFollowed: z.boolean().optional(),
  archiveDelta: archiveDeltaSchema.optional(),
  /** Missing while something moves. */
  waiting: waitingSchema.optional(),
});
export type StorageVolume = z.output<typeof storageVolumeSchema>;

export const storageStatusSchema = z.object({
  archive: addressTextSchema,
  /** Which of these were set by command, and count more than the options of the daemon. */
  told: z.object({ archive: z.boolean(), proxies: z.boolean() }).optional(),
  /** In order of preference. */
  proxies: z.array(
    z.object({
      address: addressTextSchema,
      isAvailable: z.boolean(),
      checkedMs: timeMsSchema.optional(),
      /** When it is probed next. */
      nextCheckMs: timeMsSchema.optional(),
      /** Since when it does not answer, and why. */
      sinceMs: timeMsSchema.optional(),
      error: z.string().optional(),
    }),
  ),
  /** Why the primary archive could not be asked for its newest snapshots. */
  archiveError: z.string().optional(),
  settings: z
    .object({
      dataDir: z.string(),
      wlogSendBytesMax: countSchema,
      snapshotIntervalMs: countSchema,
      retryDelayMs: countSchema,
      retryDelayMsMax: countSchema,
      socketTimeoutMs: countSchema,
      maxConnections: countSchema,
      maxForegroundTasks: countSchema,
      maxBackgroundTasks: countSchema,
      /** 0 for no limit. */
      fullScanBytesPerS: countSchema,
      archiveDeltaIntervalMs: countSchema,
    })
    .optional(),
  volumes: z.array(storageVolumeSchema),
});
export type StorageStatus = z.output<typeof storageStatusSchema>;

/** Result of a backup. */
const backupResult = z.object({
  mode: z.enum(["full", "hash"]),
  /** First clean snapshot that the backup makes restorable, once the proxy's diff has arrived. */
  gid: gidSchema,
  scannedBytes: countSchema,
  sentBytes: countSchema,
  elapsedMs: countSchema,
});

export const storageCommands = {
  status: defineCommand({
    summary: "State, log usage and lag of the volumes",
    params: statusParams,
    result: storageStatusSchema,
    isReadOnly: true,
  }),
  volumes: defineCommand({
    summary: "Names of the volumes",
    params: noParams,
    result: volumesResult,
    isReadOnly: true,
  }),
  init: defineCommand({
    summary: "Puts a walb device under backup as a volume",
    params: z.strictObject({ volume: volumeSchema, device: deviceReferenceSchema }),
    result: doneSchema,
    requires: ["Clear"],
  }),
  "set-device": defineCommand({
    summary: "Goes on with another device that has the volume's log and data, after they were moved",
    params: z.strictObject({ volume: volumeSchema, device: deviceReferenceSchema }),
    result: doneSchema,
    requires: ["SyncReady", "Stopped"],
  }),
  clear: defineCommand({
    summary: "Forgets a volume",
    params: volumeParams,
    result: doneSchema,
    requires: ["SyncReady"],
  }),
  backup: defineJob({
    summary: "Sends the whole volume (full) or what differs (hash) to the archive, then follows its log",
    params: z.strictObject({
      volume: volumeSchema,
      mode: z.enum(["full", "hash"]),
      bulkBytes: z.int().min(4096).max(4194304).optional(),
    }),
    result: backupResult,
    requires: ["SyncReady"],
  }),
  snapshot: defineCommand({
    summary: "Takes a snapshot: the volume at this instant stays restorable",
    params: volumeParams,
    result: z.object({ gid: gidSchema, timeMs: timeMsSchema }),
    requires: ["Target", "Stopped"],
  }),
  start: defineCommand({
    summary: "Follows the log again (target), or only frees it (standby)",
    params: z.strictObject({ volume: volumeSchema, mode: z.enum(["target", "standby"]) }),
    result: doneSchema,
    requires: ["Stopped", "SyncReady"],
  }),
  stop: defineCommand({
    summary: "Stops following the log; answers when it has stopped",
    params: z.strictObject({ volume: volumeSchema, mode: z.enum(["graceful", "force"]) }),
    result: doneSchema,
    requires: ["Target", "Standby"],
  }),
  reset: defineCommand({
    summary: "Empties the log of a volume; a new backup is needed",
    params: z.strictObject({ volume: volumeSchema, gid: gidSchema.optional() }),
    result: doneSchema,
    requires: ["Stopped"],
  }),
  resize: defineCommand({
    summary: "Grows the volume to the size its device was given",
    params: z.strictObject({ volume: volumeSchema, sizeLb: z.int().positive() }),
    result: doneSchema,
    requires: ["SyncReady", "Stopped", "Target", "Standby"],
  }),
  kick: defineCommand({
    summary: "Tries everything that waits now: proxies, transfers",
    params: statusParams,
    result: doneSchema,
  }),
  "set-archive": defineCommand({
    summary: "Takes backups to another archive from now on, also after a restart; without address as --archive says",
    params: z.strictObject({ address: addressTextSchema.optional() }),
    result: z.object({ archive: addressTextSchema }),
  }),
  "set-proxies": defineCommand({
    summary: "Ships logs to other proxies from now on, also after a restart; without addresses as --proxy says",
    params: z.strictObject({ addresses: z.array(addressTextSchema).min(1).max(64).optional() }),
    result: z.object({ proxies: z.array(addressTextSchema) }),
  }),
  "set-scan-rate": defineCommand({
    summary: "Limits the reads of full and hash backups, also of those that run; until the daemon ends",
    /** 0 for no limit; missing to change nothing. */
    params: z.strictObject({ bytesPerS: countSchema.optional() }),
    result: z.object({ bytesPerS: countSchema }),
  }),
  "dump-log-header": defineCommand({
    summary: "Writes a block of the log as it is to a file logpackheader-LSID beside the volume's state",
    params: z.strictObject({ volume: volumeSchema, lsid: countSchema }),
    result: z.object({
      file: z.string(),
      /** What is wrong with it as the header of a log pack; missing when nothing is. */
      fault: z.string().optional(),
    }),
    requires: ["SyncReady", "Stopped", "Target", "Standby"],
  }),
} as const;
export type StorageCommands = typeof storageCommands;
