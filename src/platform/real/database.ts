/** @module SQLite databases on the real file system. */
import { Database } from "bun:sqlite";
import { existsSync } from "node:fs";
import { asWalbError, type ErrorCode, isUnwritable, WalbError } from "../../errors.ts";
import type { Databases } from "../database.ts";

/** The real {@link Databases}. */
export function createDatabases(): Databases {
  return {
    open: openDatabase,
    unsynced(database, work) {
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
    database.run(`PRAGMA synchronous = ${useLog(database) ? "FULL" : "EXTRA"}`);
    database.run("PRAGMA foreign_keys = ON");
    const verdict = database.query("PRAGMA quick_check(1)").get() as { quick_check: string } | null;
    if (verdict?.quick_check !== "ok") throw new Error(`quick_check says: ${verdict?.quick_check ?? "nothing"}`);
    return database;
  } catch (cause) {
    database?.close();
    const code = asWalbError(cause).code;
    const isKnown = code === "no-space" || code === "locked";
    throw new WalbError(isNotDatabase(cause) ? "damaged" : isKnown ? code : "io", {
      what: code === "locked" ? "another program has the volume's database open" : "cannot open the volume's database",
      where: { file: path },
      hint:
        hints.get(code) ?? "move the database aside and start again: what the data files say is taken over from them",
      cause,
    });
  }
}

/**
 * On a full disk there may be no room for the log, nor for what turns it on: then the database can be read all the same, and
 * written as soon as there is room, by a journal of each transaction.
 */
function useLog(database: Database): boolean {
  try {
    database.run("PRAGMA journal_mode = WAL");
    return true;
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
