import { Database } from "bun:sqlite";
import { expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { createDatabases } from "../../src/platform/real/database.ts";
import { codeOf } from "../helpers/errors.ts";
import { withTemporaryDirectory } from "../helpers/temporary.ts";
import { overrideLack, withoutOverride } from "../helpers/without-override.ts";

const databases = createDatabases();
const modeOf = (database: Database): unknown =>
  Number(Object.values(database.query("PRAGMA synchronous").get() as object)[0]);

test.skipIf(overrideLack !== undefined)(
  "a database that may not be read or written is told with who may, never as one to be moved aside, and opens when it may",
  async () => {
    await withTemporaryDirectory(async (directory) => {
      const found = await withoutOverride(`${import.meta.dir}/programs/database-access.ts`, `${directory}/vol0`);
      const who = (file: string) => ({
        code: "io",
        message: expect.stringContaining("Permission denied (EACCES)"),
        hint: expect.stringMatching(
          new RegExp(`^walb runs as uid \\d+, .*namei -l ${directory}/${file}; then restart .* leave it in its place$`),
        ),
      });
      const told = (file: string) => ({ denied: who(file), again: { rows: 1 } });
      const isReadOnly = { rows: 1, code: "read-only", hint: expect.stringContaining("owner and mode") };
      expect(found).toEqual({
        unreadable: [told("vol0/volume.db"), told("vol0/volume.db")],
        unreadableLog: told("vol0/volume.db-wal"),
        unsearchable: told("vol0"),
        // What needs no repair can be read all the same.
        unwritable: { denied: isReadOnly, again: { rows: 1 } },
        unwritableBehindCrash: told("vol0/volume.db"),
        aDirectory: {
          code: "io",
          message: expect.stringContaining("it is a directory"),
          hint: expect.stringMatching(/^look at what is in it, and move it away; then restart/),
        },
      });
    });
  },
);

const canMount = spawnSync("unshare", ["-rm", "sh", "-c", "mount -t tmpfs walb /mnt"]).status === 0;
test.skipIf(!canMount)("a database on a file system that is mounted read-only is told as such", async () => {
  await withTemporaryDirectory(async (directory) => {
    const program = `${directory}/open.ts`;
    const module = `${import.meta.dir}/../../src/platform/real/database.ts`;
    writeFileSync(
      program,
      `import { createDatabases } from ${JSON.stringify(module)};
      try {
        const database = createDatabases().open(process.argv[2]);
        console.log(JSON.stringify({ rows: database.query("SELECT * FROM t").all().length }));
      } catch ({ code, message, hint }) {
        console.log(JSON.stringify({ code, message, hint }));
      }`,
    );
    const mounted = `${directory}/mounted`;
    // As after a kill: what is in the log can be read only by somebody who may write.
    const script = `set -e; mkdir ${mounted}; mount -t tmpfs walb ${mounted}
      ${process.execPath} -e 'const { Database } = require("bun:sqlite"); const d = new Database("${mounted}/volume.db");
        d.run("PRAGMA journal_mode = WAL"); d.run("CREATE TABLE t (x)"); process.kill(process.pid, "SIGKILL")' || true
      mount -o remount,ro ${mounted}; ${process.execPath} ${program} ${mounted}/volume.db`;
    const { stdout, stderr } = spawnSync("unshare", ["-rm", "sh", "-c", script], { encoding: "utf8" });
    expect([stdout === "" ? stderr : JSON.parse(stdout)]).toEqual([
      {
        code: "read-only",
        message: expect.stringContaining("Read-only file system (EROFS)"),
        hint: expect.stringMatching(/mounted read-only.*remount,rw.*restart the daemon/),
      },
    ]);
  });
});

test("what is no database is told as damaged, to be moved aside", async () => {
  await withTemporaryDirectory(async (directory) => {
    writeFileSync(`${directory}/volume.db`, "no database at all, but long enough to look at");
    const work = (async () => databases.open(`${directory}/volume.db`))();
    expect(await codeOf(work)).toBe("damaged");
    await expect(work).rejects.toMatchObject({ hint: expect.stringContaining("move the database aside") });
  });
});

test("work that is not synced waits for the disk less only where the database has a log, and it is safe again behind it", async () => {
  await withTemporaryDirectory(async (directory) => {
    const withLog = databases.open(`${directory}/log.db`);
    expect(databases.unsynced(withLog, () => modeOf(withLog))).toBe(1);
    expect(modeOf(withLog)).toBe(2);
    databases.close(withLog);
    // As one is opened where the log cannot be turned on.
    const withJournal = new Database(`${directory}/journal.db`, { create: true });
    withJournal.run("PRAGMA synchronous = EXTRA");
    expect(databases.unsynced(withJournal, () => modeOf(withJournal))).toBe(3);
    expect(modeOf(withJournal)).toBe(3);
    withJournal.close();
  });
});
