/** @module Tables of a storage volume's database. */
import { sqliteTable, text } from "drizzle-orm/sqlite-core";
import { booleanColumn, gidColumn, numberColumn } from "../volume/columns.ts";

/** One row: the volume. `done` is NULL until the first log reset, as after `init`. */
export const volumeTable = sqliteTable("volume", {
  id: numberColumn("id").notNull(),
  state: text("state", { enum: ["SyncReady", "Stopped", "Target", "Standby"] }).notNull(),
  /** JSON of the device reference the volume was made with. */
  device: text("device").notNull(),
  /** uuid of the log since the last reset, 32 hex digits. */
  logUuid: text("log_uuid"),
  doneLsid: numberColumn("done_lsid"),
  doneGid: gidColumn("done_gid"),
  doneIsMergeable: booleanColumn("done_is_mergeable"),
  doneTimestampS: numberColumn("done_timestamp_s"),
  /** Largest gid ever given out, over all resets: a reset never starts below it by mistake. */
  gidMax: gidColumn("gid_max").notNull(),
  /** Limit in PB at which the range behind `done` was last cut; NULL when no cut was tried since `done` moved. */
  cutPb: numberColumn("cut_pb"),
});

/** Snapshots that have not been delivered yet, oldest first by `position`. */
export const queueTable = sqliteTable("queue", {
  position: numberColumn("position").notNull(),
  lsid: numberColumn("lsid").notNull(),
  gid: gidColumn("gid").notNull(),
  isMergeable: booleanColumn("is_mergeable").notNull(),
  timestampS: numberColumn("timestamp_s").notNull(),
});

/** Migration i takes the schema from version i to i + 1. */
export const migrations: readonly string[] = [
  `CREATE TABLE volume (
     id INTEGER PRIMARY KEY CHECK (id = 1),
     state TEXT NOT NULL,
     device TEXT NOT NULL,
     log_uuid TEXT,
     done_lsid INTEGER,
     done_gid INTEGER,
     done_is_mergeable INTEGER,
     done_timestamp_s INTEGER,
     gid_max INTEGER NOT NULL
   ) STRICT;
   CREATE TABLE queue (
     position INTEGER PRIMARY KEY,
     lsid INTEGER NOT NULL,
     gid INTEGER NOT NULL,
     is_mergeable INTEGER NOT NULL,
     timestamp_s INTEGER NOT NULL
   ) STRICT`,
  "ALTER TABLE volume ADD COLUMN cut_pb INTEGER",
];
