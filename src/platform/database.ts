/**
 * @module Where SQLite databases live. Commits are durable (WAL, synchronous=FULL) when they return, but for those that
 * are told not to be; transactions are synchronous, so a crash falls between two of them. The simulator keeps databases in
 * memory across crashes.
 */
import type { Database } from "bun:sqlite";

export interface Databases {
  /** Opens or makes a database: strict, safe integers (bigint), WAL, synchronous FULL, foreign keys on. The directory
   * exists. @throws WalbError `damaged` when the file is not a database, `io` otherwise. */
  open(path: string): Database;
  /**
   * Runs work whose commits outlive the process, but are not synced: a power loss may take them, the last ones first, until
   * a later commit is durable. `work` must be synchronous and begin outside of a transaction.
   */
  unsynced<T>(database: Database, work: () => T): T;
  /** Whether a database is there. */
  exists(path: string): boolean;
  /** Closes what `open` gave: in the simulator the contents stay. */
  close(database: Database): void;
}
