/** @module SQLite databases on the real file system. */
import { Database } from "bun:sqlite";
import { existsSync } from "node:fs";
import { asWalbError, WalbError } from "../../errors.ts";
import type { Databases } from "../database.ts";

/** The real {@link Databases}. */
export function createDatabases(): Databases {
  return {
    open: openDatabase,
    exists: (path) => existsSync(path),
    close: closeDatabase,
  };
}

/**
 * Statements that nobody has collected yet keep a closed database open for a while, and with it the log it was written
 * to: so all of it is brought into its own file first. Where that fails (a full disk) the log has it as before.
 */
function closeDatabase(database: Database): void {
  try {
    database.run("PRAGMA wal_checkpoint(TRUNCATE)");
  } catch {
    // Said above; whoever needs the file alone looks at the log's size.
  }
  database.close();
}

function openDatabase(path: string): Database {
  let database: Database | undefined;
  try {
    database = new Database(path, { create: true, strict: true, safeIntegers: true });
    database.run("PRAGMA journal_mode = WAL");
    database.run("PRAGMA synchronous = FULL");
    database.run("PRAGMA foreign_keys = ON");
    database.run("PRAGMA busy_timeout = 5000");
    const verdict = database.query("PRAGMA quick_check(1)").get() as { quick_check: string } | null;
    if (verdict?.quick_check !== "ok") throw new Error(`quick_check says: ${verdict?.quick_check ?? "nothing"}`);
    return database;
  } catch (cause) {
    database?.close();
    const code = asWalbError(cause).code;
    throw new WalbError(isNotDatabase(cause) ? "damaged" : code === "no-space" ? code : "io", {
      what: "cannot open the volume's database",
      where: { file: path },
      hint:
        code === "no-space"
          ? "make room on the file system, then restart the daemon"
          : "move the database aside and start again: what the data files say is taken over from them",
      cause,
    });
  }
}

function isNotDatabase(cause: unknown): boolean {
  const text = cause instanceof Error ? cause.message : String(cause);
  return /not a database|malformed|quick_check/.test(text);
}
