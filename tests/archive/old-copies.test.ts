import { Database } from "bun:sqlite";
import { describe, expect, test } from "bun:test";
import { cpSync, existsSync, readdirSync, renameSync, rmSync } from "node:fs";
import { type BaseClaims, contradiction } from "../../src/archive/plausible.ts";
import { parseState } from "../../src/snapshot/text.ts";
import { pointsOf, run, statusOf } from "./harness.ts";
import { History } from "./model.ts";
import { sendImage } from "./peers.ts";
import { archived, deliver, expectAllRestorable, reopened, type Scene, withArchive } from "./real.ts";

/** What database and manifest claim, in the text form of states. */
function claims(database: string | undefined, manifest: string | undefined, more: object = {}): BaseClaims {
  const base = (text: string | undefined) => (text === undefined ? undefined : parseState(text, 0, "base"));
  return {
    store: { base: base(database), isResetting: false, resyncFile: undefined, sizeLb: 9, archiveUuid: "a" },
    manifest: {
      base: base(manifest),
      resyncFile: undefined,
      colds: [{ gid: 8n, timestampS: 0 }],
      sizeLb: 9,
      archiveUuid: "a",
    },
    hasDiffs: true,
    ...more,
  };
}

describe("database and manifest of a volume", () => {
  test("may be one step apart, as a crash leaves them", () => {
    for (const [database, manifest] of [
      [undefined, undefined],
      ["<|3|>", "<|3|>"],
      ["<|3|-->|5|>", "<|3|>"],
      ["<|5|>", "<|3|-->|5|>"],
      ["<|0,1|-->|5|>", "<|0,1|>"],
      ["<|3|-->|7|>", "<|3|-->|5|>"],
      ["<|8|>", "<|3|>"],
      ["<|8|>", "<|3|-->|9|>"],
    ] as const) {
      expect(contradiction(claims(database, manifest))).toBeUndefined();
    }
    expect(contradiction(claims(undefined, "<|0,1|>", { hasDiffs: false }))).toBeUndefined();
  });

  test("cannot belong together when either of them is older than that", () => {
    for (const [database, manifest] of [
      [undefined, "<|3|>"],
      ["<|3|>", undefined],
      ["<|3|>", "<|5|>"],
      ["<|3|>", "<|3|-->|5|>"],
      ["<|3|-->|5|>", "<|3|-->|7|>"],
      ["<|6|>", "<|3|>"],
      ["<|6|>", "<|3|-->|5|>"],
    ] as const) {
      expect(contradiction(claims(database, manifest))).toContain("of the base image the database says");
    }
  });
});

/** Puts what the database of a closed volume was back over what it is now, and opens the archive again. */
async function withOldDatabase(
  scene: Scene,
  directory: string,
  since: () => Promise<void>,
): Promise<Record<string, unknown>> {
  cpSync(`${directory}/volume.db`, `${scene.directory}/old.db`);
  scene.role = await reopened(scene);
  await since();
  await scene.role.close("graceful");
  cpSync(`${scene.directory}/old.db`, `${directory}/volume.db`);
  scene.role = await reopened(scene);
  return statusOf(scene.role.control);
}

/** An archive with a volume of some points, closed. */
async function withClosed(use: (scene: Scene, history: History, directory: string) => Promise<void>): Promise<void> {
  await withArchive(async (scene) => {
    const history = new History(900, 2);
    for (let i = 0; i < 6; i++) history.step();
    await archived(scene, history);
    for (let gid = 0; gid < 6; gid++) await deliver(scene, history, gid, gid + 1);
    await scene.role.close("graceful");
    await use(scene, history, `${scene.data}/vol0`);
  });
}

describe("a volume at the start of the archive", () => {
  test("whose database is an old copy is not opened: its image is not at the point that the copy names", async () => {
    await withClosed(async (scene, history, directory) => {
      cpSync(`${directory}/volume.db`, `${scene.directory}/old.db`);
      scene.role = await reopened(scene);
      await run(scene.role.control, "apply", { volume: "vol0", gid: 4 });
      await scene.role.close("graceful");
      cpSync(`${scene.directory}/old.db`, `${directory}/volume.db`);
      scene.role = await reopened(scene);
      expect(await statusOf(scene.role.control)).toMatchObject({
        state: "Broken",
        trouble: {
          code: "damaged",
          message: expect.stringContaining("of the base image the database says <|0|>, the manifest <|4|>"),
          hint: expect.stringContaining("volume.json"),
        },
      });
      expect(existsSync(`${directory}/quarantine`)).toBe(false);
      // What the message says to do.
      await scene.role.close("graceful");
      renameSync(`${directory}/volume.db`, `${scene.directory}/aside.db`);
      scene.role = await reopened(scene);
      expect(await expectAllRestorable(scene, history)).toEqual([4, 5, 6]);
    });
  });

  test("whose database is one of before it grew is not opened: its points would be restored without their end", async () => {
    await withClosed(async (scene, _history, directory) => {
      const status = await withOldDatabase(scene, directory, async () => {
        await run(scene.role.control, "resize", { volume: "vol0", sizeLb: 1000 });
      });
      expect(status).toMatchObject({
        state: "Broken",
        trouble: { message: expect.stringContaining("has 900 LB, the manifest 1000") },
      });
    });
  });

  test("whose database is that of backups that were reset is not opened, though both begin at the same gid", async () => {
    await withClosed(async (scene, history, directory) => {
      const status = await withOldDatabase(scene, directory, async () => {
        await run(scene.role.control, "stop", { volume: "vol0", mode: "graceful" });
        await run(scene.role.control, "reset", { volume: "vol0" });
        await sendImage(scene.peer, history.at(3), { gidE: 0n });
      });
      expect(status).toMatchObject({
        state: "Broken",
        trouble: { message: expect.stringContaining("are those of archive uuid") },
      });
    });
  });

  for (const [what, sql] of [
    ["the time of a point", "update diff set timestamp_s = timestamp_s + 3600 where to_b = 3"],
    ["the flags of a diff", "update diff set is_mergeable = 1 - is_mergeable where to_b = 3"],
    ["a gid", "update diff set from_b = -7 where to_b = 3"],
    ["the name of a file", "update diff set file_name = '../other/x.wdiff' where to_b = 3"],
    ["the log of a diff", "update diff set uuid = 'zz' where to_b = 3"],
    ["the state", "update volume set state = 'Foo'"],
    ["that there is a base", "update volume set base_from_b = null, base_from_e = null"],
    ["that it is archived", "update volume set state = 'SyncReady'"],
    ["its version", "pragma user_version = 0"],
  ] as const) {
    test(`whose database is wrong in ${what} is rebuilt from the files`, async () => {
      await withClosed(async (scene, history, directory) => {
        const database = new Database(`${directory}/volume.db`);
        database.run(sql);
        database.close();
        scene.role = await reopened(scene);
        expect(await statusOf(scene.role.control)).toMatchObject({
          state: "Archived",
          trouble: { code: "damaged", message: expect.stringContaining("was rebuilt from the manifest and 6 diffs") },
        });
        const points = await pointsOf(scene.role.control);
        expect(points.map(({ timeMs }) => timeMs)).toEqual(
          points.map(({ gid }) => 1_800_000_000_000 + Number(gid) * 1000),
        );
        expect(await expectAllRestorable(scene, history)).toEqual([0, 1, 2, 3, 4, 5, 6]);
        expect(readdirSync(`${directory}/quarantine`).length).toBe(1);
      });
    });
  }

  test("that has neither database nor manifest is shown as broken, not left out", async () => {
    await withClosed(async (scene, _history, directory) => {
      rmSync(`${directory}/volume.db`);
      rmSync(`${directory}/volume.json`);
      scene.role = await reopened(scene);
      expect(await statusOf(scene.role.control)).toMatchObject({
        state: "Broken",
        trouble: { code: "damaged", message: expect.stringContaining("neither a database nor a manifest") },
      });
      expect(readdirSync(directory).filter((name) => name.endsWith(".wdiff")).length).toBe(6);
    });
  });

  test("with a damaged database and no manifest is told what helps", async () => {
    await withClosed(async (scene, _history, directory) => {
      await Bun.write(`${directory}/volume.db`, "this is no database at all, but long enough".repeat(100));
      rmSync(`${directory}/volume.json`);
      scene.role = await reopened(scene);
      expect(await statusOf(scene.role.control)).toMatchObject({
        state: "Broken",
        trouble: { code: "damaged", hint: expect.stringContaining("put volume.db or volume.json back from a copy") },
      });
    });
  });
});
