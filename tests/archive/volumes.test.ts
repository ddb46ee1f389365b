import { Database } from "bun:sqlite";
import { describe, expect, test } from "bun:test";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { RecordKind } from "../../src/diff/types.ts";
import type { WalbError } from "../../src/errors.ts";
import { codeOf } from "../helpers/errors.ts";
import { expectSame, pointsOf, run, statusOf } from "./harness.ts";
import { History } from "./model.ts";
import { logUuid, sendDiff, sendImage } from "./peers.ts";
import { archived, deliver, expectAllRestorable, platform, reopened, restored, withArchive } from "./real.ts";

describe("a volume", () => {
  test("goes through its states, and is gone without a trace when cleared", async () => {
    await withArchive(async (scene) => {
      const history = new History(500, 1);
      history.step();
      const { control } = scene.role;
      await archived(scene, history);
      await deliver(scene, history, 0, 1);
      expect(await codeOf(run(control, "init", { volume: "vol0" }))).toBe("already-exists");
      expect(await codeOf(run(control, "clear", { volume: "vol0" }))).toBe("state");
      expect(await codeOf(run(control, "start", { volume: "vol0" }))).toBe("state");
      await run(control, "stop", { volume: "vol0", mode: "graceful" });
      expect(await codeOf(run(control, "restore", { volume: "vol0", to: `${scene.directory}/x` }))).toBe("state");
      await run(control, "reset", { volume: "vol0" });
      expect(await statusOf(control)).toMatchObject({ state: "SyncReady", wdiffCount: 0, pointCount: 0 });
      expect(readdirSync(`${scene.data}/vol0`).filter((name) => /wdiff|img/.test(name))).toEqual([]);
      await sendImage(scene.peer, history.at(1), { gidE: 0n, uuid: "a".repeat(32) });
      expectSame(await restored(scene), history.at(1), "after a reset");
      await run(control, "stop", { volume: "vol0", mode: "force" });
      await run(control, "clear", { volume: "vol0" });
      // What is deleted goes behind the answer.
      while (readdirSync(scene.data).length > 2) await platform.clock.sleep(5);
      expect(readdirSync(scene.data).toSorted()).toEqual([".reserved-space", "walb.lock"]);
      expect(await run(control, "volumes")).toEqual({ volumes: [] });
      // As when the disk of an archive was not mounted.
      const missing = await run(control, "start", { volume: "vol0" }).catch((error: WalbError) => error);
      expect(missing).toMatchObject({ what: expect.stringContaining("nor any other") });
      expect(missing).toMatchObject({ hint: expect.stringContaining(`its disk is mounted at ${scene.data}`) });
      await run(control, "init", { volume: "vol0" });
    });
  });

  test("is found after a start as it was, with what a crash left behind cleaned up", async () => {
    await withArchive(async (scene) => {
      const history = new History(900, 2);
      for (let i = 0; i < 4; i++) history.step();
      await archived(scene, history);
      for (let gid = 0; gid < 4; gid++) await deliver(scene, history, gid, gid + 1);
      await scene.role.close("force");
      const directory = `${scene.data}/vol0`;
      writeFileSync(`${directory}/receiving-123.tmp`, "x");
      writeFileSync(`${directory}/merging-123.tmp`, "x");
      mkdirSync(`${scene.data}/.clearing-vol9-1`);
      scene.role = await reopened(scene);
      expect(readdirSync(directory).filter((name) => name.endsWith(".tmp"))).toEqual([]);
      while (readdirSync(scene.data).some((name) => name.startsWith(".clearing-"))) await platform.clock.sleep(5);
      expect(readdirSync(scene.data).toSorted()).toEqual([".reserved-space", "vol0", "walb.lock"]);
      expect(await expectAllRestorable(scene, history)).toEqual([0, 1, 2, 3, 4]);
    });
  });

  test("reports truncated, foreign and missing diffs with the points they cost, and keeps the files", async () => {
    await withArchive(async (scene) => {
      const history = new History(900, 2);
      for (let i = 0; i < 6; i++) history.step();
      await archived(scene, history);
      for (let gid = 0; gid < 6; gid++) await deliver(scene, history, gid, gid + 1);
      await scene.role.close("graceful");
      const directory = `${scene.data}/vol0`;
      const file = (suffix: string) => readdirSync(directory).find((name) => name.endsWith(suffix))!;
      const cut = file("-4-5.wdiff");
      const original = readFileSync(`${directory}/${cut}`);
      writeFileSync(`${directory}/${cut}`, original.subarray(0, original.length - 100));
      writeFileSync(`${directory}/20270115081000-M--6-7.wdiff`, original.subarray(0, 40));
      scene.role = await reopened(scene);
      expect(await expectAllRestorable(scene, history)).toEqual([0, 1, 2, 3, 4]);
      const { trouble, state } = await statusOf(scene.role.control);
      expect(state).toBe("Archived");
      expect(trouble).toMatchObject({ code: "damaged", message: expect.stringMatching(/-4-5.wdiff.*gid 5.*gid 6/) });
      expect(readdirSync(`${directory}/quarantine`).sort()).toEqual([cut, "20270115081000-M--6-7.wdiff"].sort());
      // Put back, it is taken again.
      await scene.role.close("graceful");
      writeFileSync(`${directory}/${cut}`, original);
      scene.role = await reopened(scene);
      expect(await expectAllRestorable(scene, history)).toEqual([0, 1, 2, 3, 4, 5, 6]);
    });
  });

  test("with junk among its diffs is as good as before, and says how to get rid of it until that is done", async () => {
    await withArchive(async (scene) => {
      const history = new History(900, 2);
      for (let i = 0; i < 4; i++) history.step();
      await archived(scene, history);
      const other = { volume: "other", uuid: "a".repeat(32) };
      await run(scene.role.control, "init", { volume: "other" });
      await sendImage(scene.peer, history.at(0), { ...other, gidE: 0n });
      for (let gid = 0; gid < 4; gid++) await deliver(scene, history, gid, gid + 1);
      await deliver(scene, history, 0, 2, other);
      await run(scene.role.control, "init", { volume: "new" });
      await scene.role.close("graceful");
      const directory = `${scene.data}/vol0`;
      const foreign = readdirSync(`${scene.data}/other`).find((name) => name.endsWith("-0-2.wdiff"))!;
      renameSync(`${scene.data}/other/${foreign}`, `${directory}/${foreign}`);
      writeFileSync(`${directory}/junk.wdiff`, "junk");
      writeFileSync(`${directory}/20270115081000-M--06-7.wdiff`, "junk");
      mkdirSync(`${directory}/directory.wdiff`);
      writeFileSync(`${scene.data}/new/junk.wdiff`, "junk");
      for (let i = 0; i < 2; i++) {
        scene.role = await reopened(scene);
        const { trouble, state } = await statusOf(scene.role.control);
        expect(state).toBe("Archived");
        expect(trouble).toMatchObject({
          code: "unsupported",
          message: expect.stringMatching(
            /no diffs of the volume .*-0-2.wdiff, .*-M--06-7.wdiff, directory.wdiff, junk.wdiff$/,
          ),
          hint: expect.stringMatching(/: rm -r \/.*\/vol0\/quarantine\/unknown$/),
        });
        expect(await expectAllRestorable(scene, history)).toEqual([0, 1, 2, 3, 4]);
        expect((await statusOf(scene.role.control, "new")).trouble).toMatchObject({ code: "unsupported" });
        if (i === 0) await scene.role.close("graceful");
      }
      for (const volume of ["vol0", "new"]) {
        const { trouble } = await statusOf(scene.role.control, volume);
        Bun.spawnSync(["sh", "-c", (trouble as { hint: string }).hint.split(": ").at(-1)!]);
        expect((await statusOf(scene.role.control, volume)).trouble).toBeUndefined();
      }
      await sendImage(scene.peer, history.at(0), { volume: "new", uuid: "b".repeat(32), gidE: 0n });
      await scene.role.close("graceful");
      scene.role = await reopened(scene);
      for (const volume of ["vol0", "new"]) {
        expect((await statusOf(scene.role.control, volume)).trouble).toBeUndefined();
      }
    });
  });

  test("whose row of a diff says another size than its file, which is good, believes the file, but not one of another place", async () => {
    await withArchive(async (scene) => {
      const history = new History(900, 2);
      for (let i = 0; i < 4; i++) history.step();
      await archived(scene, history);
      for (let gid = 0; gid < 4; gid++) await deliver(scene, history, gid, gid + 1);
      await scene.role.close("graceful");
      const directory = `${scene.data}/vol0`;
      const files = () =>
        readdirSync(directory)
          .filter((name) => name.endsWith(".wdiff"))
          .sort();
      const sizes = files().map((name) => statSync(`${directory}/${name}`).size);
      const setSizes = () => {
        const database = new Database(`${directory}/volume.db`);
        database.run("UPDATE diff SET size_bytes = size_bytes + 512");
        database.close();
      };
      setSizes();
      scene.role = await reopened(scene);
      expect((await statusOf(scene.role.control)).trouble).toBeUndefined();
      expect(await expectAllRestorable(scene, history)).toEqual([0, 1, 2, 3, 4]);
      expect(await run(scene.role.control, "verify", { volume: "vol0" })).toMatchObject({ damage: [] });
      expect((await statusOf(scene.role.control)).wdiffBytes).toBe(sizes.reduce((sum, size) => sum + size));
      await scene.role.close("graceful");
      // A good file of the same log in a wrong place.
      const [first, , third] = files();
      copyFileSync(`${directory}/${first}`, `${directory}/${third}`);
      scene.role = await reopened(scene);
      expect((await statusOf(scene.role.control)).trouble).toMatchObject({
        code: "damaged",
        message: expect.stringMatching(/instead of .*moved to quarantine.* gid 3 /),
      });
      expect(readdirSync(`${directory}/quarantine`)).toEqual([third!]);
      expect(await expectAllRestorable(scene, history)).toEqual([0, 1, 2]);
    });
  });

  test("does not believe a diff that is another's file, though both write as much", async () => {
    await withArchive(async (scene) => {
      const history = new History(900, 2);
      await archived(scene, history);
      const fillings = [new Uint8Array(4096).fill(7), crypto.getRandomValues(new Uint8Array(4096))];
      for (const [gid, data] of fillings.entries()) {
        const record = { addressLb: 0, blocksLb: 8, kind: RecordKind.normal, data };
        await sendDiff(scene.peer, gid, gid + 1, [record], { sizeLb: history.sizeLb });
      }
      await scene.role.close("graceful");
      const directory = `${scene.data}/vol0`;
      const [first, second] = readdirSync(directory)
        .filter((name) => name.endsWith(".wdiff"))
        .sort();
      copyFileSync(`${directory}/${first}`, `${directory}/${second}`);
      scene.role = await reopened(scene);
      expect((await statusOf(scene.role.control)).trouble).toMatchObject({ code: "damaged" });
      expect(readdirSync(`${directory}/quarantine`)).toEqual([second!]);
      expect(await pointsOf(scene.role.control)).toHaveLength(2);
    });
  });

  test("one of whose diffs is a link to what is not mounted takes it when it is, however often it was started before", async () => {
    await withArchive(async (scene) => {
      const history = new History(900, 2);
      for (let i = 0; i < 4; i++) history.step();
      await archived(scene, history);
      for (let gid = 0; gid < 4; gid++) await deliver(scene, history, gid, gid + 1);
      const directory = `${scene.data}/vol0`;
      const file = readdirSync(directory).find((name) => name.endsWith("-2-3.wdiff"))!;
      mkdirSync(`${scene.directory}/mounted`);
      renameSync(`${directory}/${file}`, `${scene.directory}/mounted/${file}`);
      symlinkSync(`${scene.directory}/mounted/${file}`, `${directory}/${file}`);
      for (const isMounted of [true, false, false, false, true]) {
        await scene.role.close("graceful");
        const [from, to] = isMounted ? ["away", "mounted"] : ["mounted", "away"];
        if (existsSync(`${scene.directory}/${from}`))
          renameSync(`${scene.directory}/${from}`, `${scene.directory}/${to}`);
        scene.role = await reopened(scene);
        const gids = await expectAllRestorable(scene, history);
        expect(gids).toEqual(isMounted ? [0, 1, 2, 3, 4] : [0, 1, 2]);
        const { trouble } = await statusOf(scene.role.control);
        if (isMounted) expect(trouble).toBeUndefined();
        else expect(trouble).toMatchObject({ message: expect.stringContaining(file) });
      }
    });
  });

  test("whose database is lost or damaged is rebuilt from manifest and files", async () => {
    await withArchive(async (scene) => {
      const history = new History(900, 2);
      for (let i = 0; i < 6; i++) history.step();
      await archived(scene, history);
      for (let gid = 0; gid < 6; gid++) await deliver(scene, history, gid, gid + 1);
      await run(scene.role.control, "label-snapshot", { volume: "vol0", gid: 3, label: "kept", protect: true });
      await run(scene.role.control, "apply", { volume: "vol0", gid: 2 });
      const before = await pointsOf(scene.role.control);
      const directory = `${scene.data}/vol0`;
      const remove = () =>
        Bun.spawnSync(["rm", "-f", ...["", "-wal", "-shm"].map((suffix) => `${directory}/volume.db${suffix}`)]);
      const spoil = () => {
        remove();
        writeFileSync(`${directory}/volume.db`, "this is no database at all, but long enough".repeat(100));
      };
      for (const destroy of [remove, spoil]) {
        await scene.role.close("graceful");
        destroy();
        scene.role = await reopened(scene);
        expect(await pointsOf(scene.role.control)).toEqual(before);
        expect((await statusOf(scene.role.control)).trouble).toMatchObject({ code: "damaged" });
        expect(await expectAllRestorable(scene, history)).toEqual([2, 3, 4, 5, 6]);
        // A part says nothing of the rest.
        await run(scene.role.control, "verify", { volume: "vol0", subsetPercent: 50 });
        expect((await statusOf(scene.role.control)).trouble).toMatchObject({
          hint: expect.stringContaining("walb verify vol0"),
        });
        expect(await run(scene.role.control, "verify", { volume: "vol0" })).toMatchObject({ damage: [] });
        expect((await statusOf(scene.role.control)).trouble).toBeUndefined();
      }
      expect(await deliver(scene, history, 6, history.step())).toBe("accept");
    });
  });

  test("that cannot be opened does not keep others from working", async () => {
    await withArchive(async (scene) => {
      const history = new History(900, 2);
      await archived(scene, history);
      await run(scene.role.control, "init", { volume: "other" });
      await sendImage(scene.peer, history.at(0), { volume: "other", gidE: 0n });
      await scene.role.close("graceful");
      Bun.spawnSync(["rm", `${scene.data}/other/volume.db`, `${scene.data}/other/volume.json`]);
      scene.role = await reopened(scene);
      expect(await statusOf(scene.role.control, "other")).toMatchObject({
        state: "Broken",
        trouble: { code: "damaged", message: expect.stringContaining("neither a database nor a manifest") },
      });
      expectSame(await restored(scene), history.at(0), "the other volume");
      history.step();
      expect(await deliver(scene, history, 0, 1, { volume: "other", uuid: logUuid })).toBe("text");
      expect(await deliver(scene, history, 0, 1)).toBe("accept");
    });
  });
});
