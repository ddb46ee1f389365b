import { Database } from "bun:sqlite";
import { afterEach, describe, expect, test } from "bun:test";
import { copyFileSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { sql } from "drizzle-orm";
import { sqliteTable } from "drizzle-orm/sqlite-core";
import { createDatabases } from "../../src/platform/real/database.ts";
import { createSimDatabases } from "../../src/sim/databases.ts";
import { booleanColumn, gidColumn, numberColumn } from "../../src/volume/columns.ts";
import { openVolumeDatabase } from "../../src/volume/database.ts";

const table = sqliteTable("t", { gid: gidColumn("gid"), size: numberColumn("size"), flag: booleanColumn("flag") });
const migrations = ["CREATE TABLE t (gid INTEGER, size INTEGER, flag INTEGER)", "CREATE INDEX i ON t (gid)"];
const directories: string[] = [];
const path = (): string => {
  const directory = mkdtempSync(join(tmpdir(), "walb-db-"));
  directories.push(directory);
  return join(directory, "volume.db");
};
afterEach(() => {
  for (const directory of directories.splice(0)) rmSync(directory, { recursive: true });
});

describe("a volume's database", () => {
  for (const [name, databases] of [
    ["real", createDatabases()],
    ["simulated", createSimDatabases()],
  ] as const) {
    test(`keeps 63-bit gids and 53-bit numbers exactly (${name})`, () => {
      const file = path();
      const database = openVolumeDatabase(databases, file, migrations);
      const row = { gid: 2n ** 63n - 1n, size: Number.MAX_SAFE_INTEGER, flag: true };
      database.orm.insert(table).values(row).run();
      database.orm.insert(table).values({ gid: 0n, size: -5, flag: false }).run();
      database.close();
      const again = openVolumeDatabase(databases, file, migrations);
      expect(again.orm.select().from(table).all()).toEqual([row, { gid: 0n, size: -5, flag: false }]);
      expect(() =>
        again.orm
          .insert(table)
          .values({ gid: 2n ** 63n, size: 0, flag: true })
          .run(),
      ).toThrow();
      expect(() =>
        again.orm
          .insert(table)
          .values({ gid: 0n, size: 2 ** 53, flag: true })
          .run(),
      ).toThrow();
      again.close();
    });

    test(`rolls a transaction back when its work throws (${name})`, () => {
      const database = openVolumeDatabase(databases, path(), migrations);
      expect(() =>
        database.transaction(() => {
          database.orm.insert(table).values({ gid: 1n, size: 1, flag: true }).run();
          throw new Error("no");
        }),
      ).toThrow("no");
      expect(database.orm.select().from(table).all()).toEqual([]);
      database.close();
    });
  }

  test("keeps each whole unsynced transaction of which the disk has the log, in order", () => {
    const file = path();
    const database = openVolumeDatabase(createDatabases(), file, migrations);
    const insert = (gid: bigint): void => {
      database.orm.insert(table).values({ gid, size: 0, flag: true }).run();
    };
    const levels = (): unknown => database.orm.values(sql`PRAGMA synchronous`)[0]?.[0];
    const logBytes = [];
    for (let gid = 1n; gid <= 3n; gid++) {
      if (gid === 1n) database.transaction(() => insert(gid));
      else expect(database.unsyncedTransaction(() => [insert(gid), levels()])[1]).toBe(1n);
      expect(levels()).toBe(2n);
      logBytes.push(statSync(`${file}-wal`).size);
    }
    for (const [i, bytes] of logBytes.entries()) {
      for (const cutBytes of [bytes, bytes + 100, bytes + 5000]) {
        const copy = path();
        copyFileSync(file, copy);
        writeFileSync(`${copy}-wal`, readFileSync(`${file}-wal`).subarray(0, cutBytes));
        const again = openVolumeDatabase(createDatabases(), copy, migrations);
        const count = logBytes.filter((wholeBytes) => wholeBytes <= cutBytes).length;
        expect(again.orm.select().from(table).all()).toHaveLength(count);
        expect(count).toBeGreaterThan(i);
        again.close();
      }
    }
    expect(() =>
      database.unsyncedTransaction(() => {
        insert(4n);
        throw new Error("no");
      }),
    ).toThrow("no");
    expect(levels()).toBe(2n);
    expect(database.orm.select().from(table).all()).toHaveLength(3);
    database.close();
  });

  test("refuses a schema that a newer walb wrote, and a file that is no database", () => {
    const file = path();
    openVolumeDatabase(createDatabases(), file, [...migrations, "CREATE TABLE later (x INTEGER)"]).close();
    expect(() => openVolumeDatabase(createDatabases(), file, migrations)).toThrow("schema version 3");
    const garbage = path();
    writeFileSync(garbage, "this is not a database at all".repeat(100));
    expect(() => openVolumeDatabase(createDatabases(), garbage, migrations)).toThrow("volume's database");
  });

  test("has no mapped file, which a full disk could make deadly, and lets go of its lock when it is closed", () => {
    const file = path();
    // Statements that somebody still holds keep the closed database open.
    const held: unknown[] = [];
    for (let round = 0n; round < 3n; round++) {
      const raw = createDatabases().open(file);
      raw.run("CREATE TABLE IF NOT EXISTS n (x INTEGER)");
      const insert = raw.prepare("INSERT INTO n VALUES (1)");
      insert.run();
      held.push(insert);
      expect(raw.query("SELECT count(*) AS x FROM n").get()).toEqual({ x: round + 1n });
      expect(readdirSync(dirname(file)).filter((name) => name.startsWith(basename(file)))).not.toContain(
        `${basename(file)}-shm`,
      );
      createDatabases().close(raw);
    }
    expect(held.length).toBe(3);
  });

  test("says so when another program has it open", () => {
    const file = path();
    openVolumeDatabase(createDatabases(), file, migrations).close();
    const other = new Database(file);
    other.run("BEGIN IMMEDIATE");
    const opened = (): void => openVolumeDatabase(createDatabases(), file, migrations).close();
    expect(opened).toThrow("another program has the volume's database open");
    other.run("ROLLBACK");
    other.close();
    opened();
  }, 30_000);
});
