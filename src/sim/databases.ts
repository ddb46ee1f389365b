/** @module SQLite databases of the simulator: in memory, kept across crashes, since every commit is durable. */
import { Database } from "bun:sqlite";
import type { Databases } from "../platform/database.ts";

/** Databases of one simulated host. */
export function createSimDatabases(): Databases & { removeBelow(path: string): void } {
  const byPath = new Map<string, Database>();
  return {
    open(path) {
      const known = byPath.get(path);
      if (known !== undefined) return known;
      const database = new Database(":memory:", { strict: true, safeIntegers: true });
      database.run("PRAGMA foreign_keys = ON");
      byPath.set(path, database);
      return database;
    },
    unsynced: (_database, work) => work(),
    exists: (path) => byPath.has(path),
    close() {},
    /** Called when a directory tree is removed on the host's disk. */
    removeBelow(path) {
      for (const known of byPath.keys()) if (known.startsWith(`${path}/`)) byPath.delete(known);
    },
  };
}
