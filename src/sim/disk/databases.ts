/**
 * @module SQLite databases of a simulated host: files of its tree, so that removing a directory removes them.
 *
 * Every commit is durable at once, and the file's name too. Between two processes a database is bytes, so that code of
 * a dead process that still holds a connection cannot change what the next one sees.
 */
import { Database } from "bun:sqlite";
import { WalbError } from "../../errors.ts";
import type { Databases } from "../../platform/database.ts";
import type { SimProcess } from "../process.ts";
import type { Storage } from "./storage.ts";
import { newFile, parentOf, type Tree } from "./tree.ts";

const options = { strict: true, safeIntegers: true };

/** Databases of one process. */
export function createProcessDatabases(process: SimProcess, storage: Storage, nowMs: () => number): Databases {
  const { tree } = storage;
  return {
    open(path) {
      // What a dead process opens is its own, and gone with it.
      if (!process.isAlive) return new Database(":memory:", options);
      let node = tree.find(path);
      if (node === undefined) {
        node = { ...newFile(nowMs(), 512), database: { open: undefined, bytes: undefined, isDamaged: false } };
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
    exists(path) {
      const node = tree.find(path);
      return node !== undefined && node.kind !== "directory" && node.database !== undefined;
    },
    close() {},
  };
}

/** The process that had them open is gone: keeps what it committed. */
export function putDatabasesDown(tree: Tree): void {
  for (const { node } of tree.files()) {
    if (node.database?.open === undefined) continue;
    if (node.database.open.inTransaction) node.database.open.run("ROLLBACK");
    node.database.bytes = node.database.open.serialize();
    node.database.open = undefined;
  }
}
