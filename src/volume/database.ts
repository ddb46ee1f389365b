/** @module Opens a volume's database and brings its schema up to date. */
import type { Database } from "bun:sqlite";
import { type BunSQLiteDatabase, drizzle } from "drizzle-orm/bun-sqlite";
import { asWalbError, WalbError } from "../errors.ts";
import type { Databases } from "../platform/database.ts";

/** Name of the database in a volume's directory. */
export const volumeDatabaseName = "volume.db";

/** A volume's database. Transactions are synchronous: never await inside. */
export interface VolumeDatabase {
  readonly orm: BunSQLiteDatabase;
  /** Runs `work` in one durable transaction (BEGIN IMMEDIATE); a throw rolls back. */
  transaction<T>(work: () => T): T;
  /**
   * As `transaction`, but not synced: a power loss may take it, until a later one is durable. For what the next start finds
   * out by itself.
   */
  unsyncedTransaction<T>(work: () => T): T;
  /**
   * What `make` has prepared, once: making a statement anew takes longer than running it. Nobody else may keep it, or the
   * closed database would stay open, and locked, where its log cannot be brought into it.
   */
  kept<T>(make: (orm: BunSQLiteDatabase) => T): T;
  close(): void;
}

/** The same error with another next step. */
function rehinted(error: WalbError, hint: string): WalbError {
  const { code, what, where, cause } = error;
  return new WalbError(code, { what, where, hint, ...(cause === undefined ? {} : { cause }) });
}

/**
 * Opens the database at `path` and runs the migrations it has not seen: migration i takes it from version i to i + 1.
 * @param damageHint what to do when it is damaged; what helps depends on the role.
 * @throws WalbError `unsupported` when a newer walb wrote it.
 */
export function openVolumeDatabase(
  databases: Databases,
  path: string,
  migrations: readonly string[],
  damageHint?: string,
): VolumeDatabase {
  let raw: Database;
  try {
    raw = databases.open(path);
  } catch (thrown) {
    const error = asWalbError(thrown);
    throw error.code === "damaged" && damageHint !== undefined ? rehinted(error, damageHint) : error;
  }
  try {
    migrate(raw, path, migrations);
  } catch (error) {
    databases.close(raw);
    throw error;
  }
  const transaction = <T>(work: () => T): T => inTransaction(raw, work);
  const orm = drizzle(raw);
  const statements = new Map<unknown, unknown>();
  return {
    orm,
    transaction,
    unsyncedTransaction: (work) => databases.unsynced(raw, () => transaction(work)),
    kept<T>(make: (orm: BunSQLiteDatabase) => T): T {
      if (!statements.has(make)) statements.set(make, make(orm));
      return statements.get(make) as T;
    },
    close() {
      statements.clear();
      databases.close(raw);
    },
  };
}

function inTransaction<T>(raw: Database, work: () => T): T {
  raw.run("BEGIN IMMEDIATE");
  try {
    const result = work();
    raw.run("COMMIT");
    return result;
  } catch (error) {
    if (raw.inTransaction) raw.run("ROLLBACK");
    throw error;
  }
}

function migrate(raw: Database, path: string, migrations: readonly string[]): void {
  const row = raw.query("PRAGMA user_version").get() as { user_version: bigint };
  const version = Number(row.user_version);
  if (version > migrations.length) {
    throw new WalbError("unsupported", {
      what: `the database has schema version ${version}, this walb knows up to ${migrations.length}`,
      where: { file: path, field: "user_version" },
      hint: "run the newer walb again, or restore the volume's directory from before the upgrade",
    });
  }
  if (version === 0 && raw.query("SELECT name FROM sqlite_master LIMIT 1").get() !== null) {
    throw new WalbError("damaged", {
      what: "the database has tables, but says that it has none yet",
      where: { file: path, field: "user_version" },
      hint: "put the database back from a copy of the volume's directory",
    });
  }
  for (let next = version; next < migrations.length; next += 1) {
    raw.run("BEGIN IMMEDIATE");
    try {
      for (const statement of migrations[next]!.split(";")) if (statement.trim() !== "") raw.run(statement);
      raw.run(`PRAGMA user_version = ${next + 1}`);
      raw.run("COMMIT");
    } catch (error) {
      if (raw.inTransaction) raw.run("ROLLBACK");
      throw error;
    }
  }
}
