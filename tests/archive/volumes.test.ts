import { describe, expect, test } from "bun:test";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import type { WalbError } from "../../src/errors.ts";
import { codeOf } from "../helpers/errors.ts";
import { expectSame, pointsOf, run, statusOf } from "./harness.ts";
import { History } from "./model.ts";
import { logUuid, sendImage } from "./peers.ts";
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
