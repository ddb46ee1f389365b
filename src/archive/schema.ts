/** @module Tables of an archive volume's database. */
import { sqliteTable, text } from "drizzle-orm/sqlite-core";
import { booleanColumn, gidColumn, numberColumn } from "../volume/columns.ts";

/** One row: the volume. The base is NULL until the first full backup is complete. */
export const volumeTable = sqliteTable("volume", {
  id: numberColumn("id").notNull(),
  state: text("state", { enum: ["SyncReady", "Archived", "Stopped"] }).notNull(),
  sizeLb: numberColumn("size_lb").notNull(),
  /** uuid of the log that diffs come from, 32 hex digits. */
  logUuid: text("log_uuid"),
  /** uuid of this line of backups, made at the full backup. */
  archiveUuid: text("archive_uuid"),
  baseFromB: gidColumn("base_from_b"),
  baseFromE: gidColumn("base_from_e"),
  /** Set while diffs are being applied. */
  baseToB: gidColumn("base_to_b"),
  baseToE: gidColumn("base_to_e"),
  baseTimestampS: numberColumn("base_timestamp_s"),
  lastReceivedMs: numberColumn("last_received_ms"),
  lastSyncMs: numberColumn("last_sync_ms"),
  /** A reset was asked for: files of before are being deleted. */
  isResetting: booleanColumn("is_resetting").notNull(),
});

/** Diffs beside the base image. */
export const diffTable = sqliteTable("diff", {
  fileName: text("file_name").notNull(),
  fromB: gidColumn("from_b").notNull(),
  fromE: gidColumn("from_e").notNull(),
  toB: gidColumn("to_b").notNull(),
  toE: gidColumn("to_e").notNull(),
  isMergeable: booleanColumn("is_mergeable").notNull(),
  isCompared: booleanColumn("is_compared").notNull(),
  timestampS: numberColumn("timestamp_s").notNull(),
  sizeBytes: numberColumn("size_bytes").notNull(),
  uuid: text("uuid").notNull(),
  /** LB of its normal records, expanded: what applying it writes. */
  contentLb: numberColumn("content_lb").notNull(),
});

/** What people said about snapshots; also about ones that have not arrived yet. */
export const labelTable = sqliteTable("label", {
  gid: gidColumn("gid").notNull(),
  label: text("label"),
  isProtected: booleanColumn("is_protected").notNull(),
});

/** Diffs that are lost, until they are back or do not matter any more. */
export const lossTable = sqliteTable("loss", {
  fileName: text("file_name").notNull(),
  toB: gidColumn("to_b").notNull(),
  /** What happened to the file, and the points it cost. */
  message: text("message").notNull(),
  atMs: numberColumn("at_ms").notNull(),
});

/** Incomplete files of restores, remembered before they are made, so that none stays when the daemon is killed. */
export const partialTable = sqliteTable("partial", {
  path: text("path").notNull(),
});

/** Points kept as images. A row is made behind its image, and goes before it. */
export const coldTable = sqliteTable("cold", {
  gid: gidColumn("gid").notNull(),
  timestampS: numberColumn("timestamp_s").notNull(),
});

/** When the data of a diff was last read to its end and was good. */
export const verifiedTable = sqliteTable("verified", {
  fileName: text("file_name").notNull(),
  atMs: numberColumn("at_ms").notNull(),
});

/** One row while a full replication is being received: where it goes on when it breaks off. */
export const fullCopyTable = sqliteTable("full_copy", {
  id: numberColumn("id").primaryKey(),
  archiveUuid: text("archive_uuid").notNull(),
  base: text("base").notNull(),
  sizeLb: numberColumn("size_lb").notNull(),
  doneLb: numberColumn("done_lb").notNull(),
});

/** One row while the image is being rewritten by a resync that is decided: the file that holds what to write. */
export const resyncTable = sqliteTable("resync", {
  id: numberColumn("id").primaryKey(),
  fileName: text("file_name").notNull(),
});

/** Logs that were followed before the one that is followed now, 32 hex digits each. */
export const retiredLogTable = sqliteTable("retired_log", {
  uuid: text("uuid").notNull(),
});

/** Logs that diffs came from, here or at archives that replicate to this one, 32 hex digits each. */
export const knownLogTable = sqliteTable("known_log", {
  uuid: text("uuid").notNull(),
});

/** What there is to say about the backups a volume has: nothing is left of it when they are replaced or deleted. */
export const backupTables = [
  diffTable,
  labelTable,
  lossTable,
  coldTable,
  verifiedTable,
  retiredLogTable,
  knownLogTable,
] as const;

/** Migration i takes the schema from version i to i + 1. */
export const migrations: readonly string[] = [
  `CREATE TABLE volume (
     id INTEGER PRIMARY KEY CHECK (id = 1),
     state TEXT NOT NULL,
     size_lb INTEGER NOT NULL,
     log_uuid TEXT,
     archive_uuid TEXT,
     base_from_b INTEGER,
     base_from_e INTEGER,
     base_to_b INTEGER,
     base_to_e INTEGER,
     base_timestamp_s INTEGER,
     last_received_ms INTEGER,
     last_sync_ms INTEGER,
     is_resetting INTEGER NOT NULL
   ) STRICT;
   CREATE TABLE diff (
     file_name TEXT PRIMARY KEY,
     from_b INTEGER NOT NULL,
     from_e INTEGER NOT NULL,
     to_b INTEGER NOT NULL,
     to_e INTEGER NOT NULL,
     is_mergeable INTEGER NOT NULL,
     is_compared INTEGER NOT NULL,
     timestamp_s INTEGER NOT NULL,
     size_bytes INTEGER NOT NULL,
     uuid TEXT NOT NULL,
     content_lb INTEGER NOT NULL,
     UNIQUE (from_b, from_e, to_b, to_e)
   ) STRICT;
   CREATE TABLE label (
     gid INTEGER PRIMARY KEY,
     label TEXT,
     is_protected INTEGER NOT NULL
   ) STRICT;
   CREATE TABLE loss (
     file_name TEXT PRIMARY KEY,
     to_b INTEGER NOT NULL,
     message TEXT NOT NULL,
     at_ms INTEGER NOT NULL
   ) STRICT`,
  "CREATE TABLE partial (path TEXT PRIMARY KEY) STRICT",
  `CREATE TABLE cold (gid INTEGER PRIMARY KEY, timestamp_s INTEGER NOT NULL) STRICT;
   CREATE TABLE verified (file_name TEXT PRIMARY KEY, at_ms INTEGER NOT NULL) STRICT`,
  `CREATE TABLE full_copy (
     id INTEGER PRIMARY KEY CHECK (id = 1),
     archive_uuid TEXT NOT NULL,
     base TEXT NOT NULL,
     size_lb INTEGER NOT NULL,
     done_lb INTEGER NOT NULL
   ) STRICT;
   CREATE TABLE resync (
     id INTEGER PRIMARY KEY CHECK (id = 1),
     file_name TEXT NOT NULL
   ) STRICT`,
  "CREATE TABLE retired_log (uuid TEXT PRIMARY KEY) STRICT",
  `CREATE TABLE known_log (uuid TEXT PRIMARY KEY) STRICT;
   INSERT INTO known_log SELECT uuid FROM diff UNION SELECT uuid FROM retired_log`,
];
