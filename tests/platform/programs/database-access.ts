/** @module Opens databases that this process may not read or write; started by database-access.test.ts. Prints JSON. */
import { chmodSync, copyFileSync, mkdirSync, renameSync, rmSync } from "node:fs";
import { asWalbError } from "../../../src/errors.ts";
import { createDatabases } from "../../../src/platform/real/database.ts";

const directory = process.argv[2]!;
const path = `${directory}/volume.db`;
const databases = createDatabases();

/** A database with a row. @param isCrashed with its log, as a process leaves it that was killed. */
function make(isCrashed: boolean): void {
  rmSync(directory, { recursive: true, force: true });
  mkdirSync(directory);
  const database = databases.open(path);
  database.run("CREATE TABLE t (x)");
  database.run("INSERT INTO t VALUES (1)");
  for (const suffix of isCrashed ? ["", "-wal"] : []) copyFileSync(`${path}${suffix}`, `${directory}/kept${suffix}`);
  databases.close(database);
  for (const suffix of isCrashed ? ["", "-wal"] : []) renameSync(`${directory}/kept${suffix}`, `${path}${suffix}`);
}

/** What opening says, and what is read and written where it can be opened. */
function opened(): unknown {
  try {
    const database = databases.open(path);
    const rows = database.query("SELECT * FROM t").all().length;
    try {
      database.run("INSERT INTO t VALUES (2)");
      return { rows };
    } catch (thrown) {
      const { code, hint } = asWalbError(thrown);
      return { rows, code, hint };
    } finally {
      databases.close(database);
    }
  } catch (thrown) {
    const { code, message, hint } = asWalbError(thrown);
    return { code, message, hint };
  }
}

function withMode(file: string, mode: number, isCrashed: boolean): unknown {
  make(isCrashed);
  chmodSync(file, mode);
  const denied = opened();
  chmodSync(file, file === directory ? 0o755 : 0o644);
  return { denied, again: opened() };
}

function aDirectory(): unknown {
  make(false);
  rmSync(path);
  mkdirSync(path);
  return opened();
}

console.log(
  JSON.stringify({
    unreadable: [false, true].map((isCrashed) => withMode(path, 0, isCrashed)),
    unreadableLog: withMode(`${path}-wal`, 0, true),
    unsearchable: withMode(directory, 0, true),
    unwritable: withMode(path, 0o444, false),
    unwritableBehindCrash: withMode(path, 0o444, true),
    aDirectory: aDirectory(),
  }),
);
