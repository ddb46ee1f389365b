/**
 * @module SQLite databases of a simulated host: files of its tree, so that removing a directory removes them.
 *
 * A commit is durable at once, and the file's name too; those that are not synced may be lost at a power loss, all that
 * came behind the last one that is. Between two processes a database is bytes, so that code of a dead process that still
 * holds a connection cannot change what the next one sees.
 */
import { Database } from "bun:sqlite";
import { WalbError } from "../../errors.ts";
import type { Databases } from "../../platform/database.ts";
import type { SimProcess } from "../process.ts";
import type { Storage } from "./storage.ts";
import { type DatabaseContent, newFile, parentOf, type Tree } from "./tree.ts";

const options = { strict: true, safeIntegers: true };

/** Databases of one process. */
export function createProcessDatabases(process: SimProcess, storage: Storage, nowMs: () => number): Databases {
  const { tree } = storage;
  const contentOf = (database: Database): DatabaseContent | undefined =>
    tree.files().find(({ node }) => node.database?.open === database)?.node.database;
  return {
    open(path) {
      // What a dead process opens is its own, and gone with it.
      if (!process.isAlive) return new Database(":memory:", options);
      let node = tree.find(path);
      if (node === undefined) {
        const database = { open: undefined, bytes: undefined, isDamaged: false, synced: undefined };
        node = { ...newFile(nowMs(), 512), database };
        tree.add(path, node, nowMs());
        tree.syncDirectory(tree.directory(parentOf(path)), tree.mark);
      }
      const content = node.kind === "directory" ? undefined : node.database;
      if (content === undefined || content.isDamaged) {
        throw new WalbError("damaged", { what: "the file is not a SQLite database", where: { file: path } });
      }
      content.open ??=
        content.bytes === undefined ? new Database(":memory:", options) : Database.deserialize(content.bytes, options);
      content.open.run("PRAGMA foreign_keys = ON");
      return content.open;
    },
    unsynced(database, work) {
      const content = contentOf(database);
      if (content === undefined) return work();
      if (!isUnsynced(content)) content.synced = { bytes: database.serialize(), changesBehind: 0n };
      try {
        return work();
      } finally {
        content.synced!.changesBehind = changesOf(database);
      }
    },
    exists(path) {
      const node = tree.find(path);
      return node !== undefined && node.kind !== "directory" && node.database !== undefined;
    },
    close(database) {
      const content = contentOf(database);
      if (content !== undefined) content.synced = undefined;
    },
  };
}

/** The process that had them open is gone: the next one sees what it committed. */
export function putDatabasesDown(tree: Tree): void {
  for (const { node } of tree.files()) {
    const content = node.database;
    if (content?.open === undefined) continue;
    if (content.open.inTransaction) content.open.run("ROLLBACK");
    // Still at risk: the next connection counts from 0.
    content.synced = isUnsynced(content) ? { ...content.synced!, changesBehind: 0n } : undefined;
    content.bytes = content.open.serialize();
    content.open = undefined;
  }
}

/** Power loss, behind {@link putDatabasesDown}. @param isLost whether it takes what is not synced of a database. */
export function losePower(tree: Tree, isLost: () => boolean): void {
  for (const { node } of tree.files()) {
    if (node.database?.synced === undefined) continue;
    if (isLost()) node.database.bytes = node.database.synced.bytes;
    node.database.synced = undefined;
  }
}

/** Whether the last commits were not synced: a later one that is would have made them durable. */
function isUnsynced({ open, synced }: DatabaseContent): boolean {
  return synced !== undefined && (open === undefined || changesOf(open) === synced.changesBehind);
}

/** Rows changed since the database was opened. */
function changesOf(database: Database): bigint {
  return Object.values(database.query("SELECT total_changes()").get() as Record<string, bigint>)[0]!;
}
