/** @module SQLite databases on the real file system. */
import { Database } from "bun:sqlite";
import { accessSync, constants, existsSync } from "node:fs";
import { dirname } from "node:path";
import { asWalbError, type ErrorCode, isUnwritable, WalbError } from "../../errors.ts";
import type { Databases } from "../database.ts";
import { attempt, statOf } from "./paths.ts";

/** Databases that are written by a log. */
const withLog = new WeakSet<Database>();

/** The real {@link Databases}. */
export function createDatabases(): Databases {
  return {
    open: openDatabase,
    unsynced(database, work) {
      // Without a log the journal must be synced before the database is written, or a power loss could damage it.
      if (!withLog.has(database)) return work();
      database.run("PRAGMA synchronous = NORMAL");
      try {
        return work();
      } finally {
        database.run("PRAGMA synchronous = FULL");
      }
    },
    exists: (path) => existsSync(path),
    close: closeDatabase,
  };
}

/**
 * Statements that nobody has collected yet keep a closed database open for a while, and with it its lock and the log it
 * was written to: so all of it is brought into its own file first, and the lock is let go. Where that fails (a full disk)
 * the log has it as before, and the lock goes with the statements.
 */
function closeDatabase(database: Database): void {
  let isFree = false;
  try {
    database.run("PRAGMA journal_mode = DELETE");
    database.run("PRAGMA locking_mode = NORMAL");
    // The lock is let go by the next access.
    database.run("PRAGMA user_version");
    isFree = true;
  } catch {
    // Said above.
  }
  database.close();
  if (!isFree) Bun.gc(true);
}

function openDatabase(path: string): Database {
  let database: Database | undefined;
  try {
    database = new Database(path, { create: true, strict: true, safeIntegers: true });
    database.run("PRAGMA busy_timeout = 5000");
    // Before the log is first used: its index is then kept in memory, not in a mapped file. On a full disk that copies on
    // write, as btrfs, a write to the mapped file would end the whole process (SIGBUS).
    database.run("PRAGMA locking_mode = EXCLUSIVE");
    if (useLog(database)) withLog.add(database);
    database.run(`PRAGMA synchronous = ${withLog.has(database) ? "FULL" : "EXTRA"}`);
    database.run("PRAGMA foreign_keys = ON");
    const verdict = database.query("PRAGMA quick_check(1)").get() as { quick_check: string } | null;
    if (verdict?.quick_check !== "ok") throw new Error(`quick_check says: ${verdict?.quick_check ?? "nothing"}`);
    return database;
  } catch (cause) {
    database?.close();
    throw openError(path, cause);
  }
}

function openError(path: string, cause: unknown): WalbError {
  const { code } = asWalbError(cause);
  const what =
    code === "locked" ? "another program has the volume's database open" : "cannot open the volume's database";
  const where = { file: path };
  if (code === "damaged" || isNotDatabase(cause)) {
    const hint = "move the database aside and start again: what the data files say is taken over from them";
    return new WalbError("damaged", { what, where, hint, cause });
  }
  const known = hints.get(code);
  if (known !== undefined) return new WalbError(code, { what, where, hint: known, cause });
  // SQLite says of what it may not open or write only that it could not.
  const refusal = accessRefusal(path);
  const hint = refusal?.hint ?? "look at the kernel log: the device below may report errors";
  return new WalbError(refusal?.code === "read-only" ? "read-only" : "io", {
    what,
    where: refusal?.where ?? where,
    hint: `${hint}; then restart the daemon. The database itself need not be damaged: leave it in its place`,
    cause: refusal?.cause ?? cause,
  });
}

/** Why the database, its log or its directory cannot be read and written by this process; undefined when they can. */
function accessRefusal(path: string): WalbError | undefined {
  try {
    for (const file of [dirname(path), path, `${path}-wal`]) {
      if (file === dirname(path) || statOf(file) !== undefined) {
        attempt("reading and writing it", file, () => accessSync(file, constants.R_OK | constants.W_OK));
      }
    }
    if (statOf(path)?.isDirectory() !== true) return undefined;
    const hint = "look at what is in it, and move it away";
    return new WalbError("io", { what: "it is a directory", where: { file: path }, hint, cause: "it is a directory" });
  } catch (error) {
    return asWalbError(error);
  }
}

/**
 * On a full disk there may be no room for the log, nor for what turns it on: then the database can be read all the same, and
 * written as soon as there is room, by a journal of each transaction.
 */
function useLog(database: Database): boolean {
  try {
    const row = database.query("PRAGMA journal_mode = WAL").get() as { journal_mode: string } | null;
    return row?.journal_mode === "wal";
  } catch (error) {
    if (!isUnwritable(error)) throw error;
    return false;
  }
}

const hints: ReadonlyMap<ErrorCode, string> = new Map([
  ["no-space", "make room on the file system, then restart the daemon"],
  ["locked", "end that program (sqlite3, or a backup of this directory), then restart the daemon"],
]);

function isNotDatabase(cause: unknown): boolean {
  const text = cause instanceof Error ? cause.message : String(cause);
  return /not a database|malformed|quick_check/.test(text);
}
