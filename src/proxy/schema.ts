/** @module Tables of a proxy volume's database. */
import { sqliteTable, text } from "drizzle-orm/sqlite-core";
import { booleanColumn, gidColumn, numberColumn } from "../volume/columns.ts";

/** One row: the volume. */
export const volumeTable = sqliteTable("volume", {
  id: numberColumn("id").notNull(),
  state: text("state", { enum: ["Stopped", "Started"] }).notNull(),
  /** Largest size a storage announced; 0 before the first log. */
  sizeLb: numberColumn("size_lb").notNull(),
  lastReceivedMs: numberColumn("last_received_ms"),
});

/** Archives the diffs go to. */
export const archiveTable = sqliteTable("archive", {
  name: text("name").notNull(),
  address: text("address").notNull(),
  /** `codec:level:threads`. */
  compression: text("compression").notNull(),
  delayS: numberColumn("delay_s").notNull(),
});

/** Diffs that some archive still needs; the file is `diffs/<uuid>/<fileName>`. */
export const diffTable = sqliteTable("diff", {
  id: numberColumn("id").notNull(),
  fileName: text("file_name").notNull(),
  /** uuid of the log it came from, 32 hex digits. */
  uuid: text("uuid").notNull(),
  fromGid: gidColumn("from_gid").notNull(),
  toGid: gidColumn("to_gid").notNull(),
  isMergeable: booleanColumn("is_mergeable").notNull(),
  timestampS: numberColumn("timestamp_s").notNull(),
  sizeBytes: numberColumn("size_bytes").notNull(),
  receivedMs: numberColumn("received_ms").notNull(),
});

/** A diff that an archive has not acknowledged yet. */
export const deliveryTable = sqliteTable("delivery", {
  diffId: numberColumn("diff_id").notNull(),
  archiveName: text("archive_name").notNull(),
});

/** Migration i takes the schema from version i to i + 1. */
export const migrations: readonly string[] = [
  `CREATE TABLE volume (
     id INTEGER PRIMARY KEY CHECK (id = 1),
     state TEXT NOT NULL,
     size_lb INTEGER NOT NULL,
     last_received_ms INTEGER
   ) STRICT;
   CREATE TABLE archive (
     name TEXT PRIMARY KEY,
     address TEXT NOT NULL,
     compression TEXT NOT NULL,
     delay_s INTEGER NOT NULL
   ) STRICT;
   CREATE TABLE diff (
     id INTEGER PRIMARY KEY AUTOINCREMENT,
     file_name TEXT NOT NULL,
     uuid TEXT NOT NULL,
     from_gid INTEGER NOT NULL,
     to_gid INTEGER NOT NULL,
     is_mergeable INTEGER NOT NULL,
     timestamp_s INTEGER NOT NULL,
     size_bytes INTEGER NOT NULL,
     received_ms INTEGER NOT NULL,
     UNIQUE (uuid, from_gid, to_gid)
   ) STRICT;
   CREATE TABLE delivery (
     diff_id INTEGER NOT NULL REFERENCES diff (id) ON DELETE CASCADE,
     archive_name TEXT NOT NULL REFERENCES archive (name) ON DELETE CASCADE,
     PRIMARY KEY (archive_name, diff_id)
   ) STRICT, WITHOUT ROWID`,
];
