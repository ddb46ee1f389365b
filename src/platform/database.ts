/**
 * @module Where SQLite databases live. Commits are durable (WAL, synchronous=FULL) when they return; transactions are
 * synchronous, so a crash falls between two of them. The simulator keeps databases in memory across crashes.
 */
import type { Database } from "bun:sqlite";

export interface Databases {
  /** Opens or makes a database: strict, safe integers (bigint), WAL, synchronous FULL, foreign keys on. The directory
   * exists. @throws WalbError `damaged` when the file is not a database, `io` otherwise. */
  open(path: string): Database;
  /** Whether a database is there. */
  exists(path: string): boolean;
  /** Closes what `open` gave: in the simulator the contents stay. */
  close(database: Database): void;
}
