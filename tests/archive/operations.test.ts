import { describe, expect, test } from "bun:test";
import { copyFileSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { RecordKind } from "../../src/diff/types.ts";
import { codeOf } from "../helpers/errors.ts";
import { expectSame, gidsOf, run, statusOf } from "./harness.ts";
import { History } from "./model.ts";
import { sendDiff } from "./peers.ts";
import { archived, deliver, expectAllRestorable, reopened, type restored, withArchive } from "./real.ts";

type Scene = Parameters<typeof restored>[0];
const volume = "vol0";

/** A volume with diffs 0→1 … 5→6, all snapshots explicit. */
async function withVolume(seed: number, use: (scene: Scene, history: History) => Promise<void>): Promise<void> {
  await withArchive(async (scene) => {
    const history = new History(2000, seed);
    for (let i = 0; i < 6; i++) history.step();
    await archived(scene, history);
    for (let gid = 0; gid < 6; gid++) await deliver(scene, history, gid, gid + 1, { isMergeable: false });
    await use(scene, history);
  });
}

const diffFiles = (scene: Scene): string[] =>
  readdirSync(`${scene.data}/vol0`).filter((name) => name.endsWith(".wdiff"));
const diffFrom = (scene: Scene, gid: number): string =>
  `${scene.data}/vol0/${diffFiles(scene).find((name) => name.endsWith(`-${gid}-${gid + 1}.wdiff`))}`;

/** Flips a bit in the data of a diff. */
function damage(path: string): void {
  const bytes = readFileSync(path);
  const at = 8192 + 4096 + 3;
  bytes[at] = (bytes[at] ?? 0) ^ 1;
  writeFileSync(path, bytes);
}

describe("images that the archive keeps", () => {
  test("stay through applies and restarts as they were restored, and go with a reset", async () => {
    await withVolume(1, async (scene, history) => {
      const { control } = scene.role;
      const first = await run(control, "restore", { volume, gid: 2 });
      expect(first).toMatchObject({ gid: 2n, path: `${scene.data}/vol0/restored-2.img`, isVerified: true });
      await run(control, "restore", { volume });
      expect(await codeOf(run(control, "restore", { volume, gid: 2 }))).toBe("already-exists");
      // People may write to it: another restore replaces it only when told to.
      writeFileSync(`${scene.data}/vol0/restored-2.img`, "mine");
      await run(control, "restore", { volume, gid: 2, overwrite: true });
      expect(await run(control, "restore", { volume, gid: 3, dryRun: true })).toMatchObject({ isVerified: false });
      await run(control, "apply", { volume, gid: 4 });
      await scene.role.close("graceful");
      scene.role = await reopened(scene);
      const again = scene.role.control;
      const { restored: list } = await run(again, "restored", { volume });
      expect(list).toMatchObject([{ gid: 2n }, { gid: 6n, sizeBytes: 2000 * 512 }]);
      expect((list as object[])[0]).not.toHaveProperty("timeMs");
      for (const gid of [2, 6]) {
        expectSame(readFileSync(`${scene.data}/vol0/restored-${gid}.img`), history.at(gid), `kept ${gid}`);
      }
      expect(await statusOf(again)).toMatchObject({ restoredCount: 2 });
      await run(again, "del-restored", { volume, gid: 2 });
      expect(await codeOf(run(again, "del-restored", { volume, gid: 2 }))).toBe("not-found");
      expect(await codeOf(run(again, "del-cold", { volume, gid: 2 }))).toBe("not-found");
      await run(again, "stop", { volume, mode: "graceful" });
      await run(again, "reset", { volume });
      expect(await run(again, "restored", { volume })).toEqual({ restored: [] });
    });
  });
});

describe("verify", () => {
  test("names every damaged diff with the points it costs, and goes on", async () => {
    await withVolume(2, async (scene, history) => {
      const { control } = scene.role;
      const good = await run(control, "verify", { volume });
      expect(good).toMatchObject({ diffCount: 6, checkedCount: 6, damage: [], lostPointCount: 0 });
      expect(good.imageBytes as number).toBeGreaterThan(0);
      const path = diffFrom(scene, 3);
      copyFileSync(path, `${scene.directory}/copy`);
      damage(path);
      const bad = await run(control, "verify", { volume });
      expect(bad).toMatchObject({ checkedCount: 6, lostPointCount: 3 });
      expect(bad.damage).toMatchObject([{ message: expect.stringMatching(/lost: gid 4 .*still restorable: gid 0/) }]);
      expect(await statusOf(control)).toMatchObject({ trouble: { code: "damaged" } });
      expect(await gidsOf(control)).toEqual([0, 1, 2, 3, 4, 5, 6]);
      expect(await codeOf(run(control, "apply", { volume, gid: 5 }))).toBe("damaged");
      copyFileSync(`${scene.directory}/copy`, path);
      expect(await run(control, "verify", { volume })).toMatchObject({ damage: [] });
      expect((await statusOf(control)).trouble).toBeUndefined();
      expect(await expectAllRestorable(scene, history)).toEqual([0, 1, 2, 3, 4, 5, 6]);
    });
  });

  test("of a share reads what was not read for longest, so that all is read in turn", async () => {
    await withVolume(3, async (scene) => {
      const { control } = scene.role;
      let count = 0;
      for (let i = 0; i < 20 && count < 6; i++) {
        const part = await run(control, "verify", { volume, subsetPercent: 10 });
        count += part.checkedCount as number;
        expect(part.checkedCount as number).toBeLessThan(4);
      }
      const stale = await run(control, "verify", { volume, staleMs: 3_600_000 });
      expect(stale).toMatchObject({ diffCount: 6, checkedCount: 0 });
    });
  });
});

describe("a discard of a whole large volume", () => {
  test("is not read block by block by a verification", async () => {
    await withVolume(5, async (scene) => {
      const { control } = scene.role;
      const sizeLb = 64 * 1024 * 1024 * 2;
      await run(control, "resize", { volume, sizeLb });
      const discard = { addressLb: 0, blocksLb: sizeLb, kind: RecordKind.discard, data: new Uint8Array(0) };
      expect(await sendDiff(scene.peer, 6, 7, [discard], { sizeLb })).toEqual({ kind: "accept" });
      const written = {
        addressLb: sizeLb - 8,
        blocksLb: 8,
        kind: RecordKind.normal,
        data: new Uint8Array(4096).fill(7),
      };
      expect(await sendDiff(scene.peer, 7, 8, [written], { sizeLb })).toEqual({ kind: "accept" });
      const { damage, imageBytes } = await run(control, "verify", { volume });
      expect(damage).toEqual([]);
      expect(imageBytes as number).toBeLessThan(16 * 1024 * 1024);
      const to = `${scene.directory}/discarded.img`;
      await run(control, "restore", { volume, to });
      expect(statSync(to).size).toBe(sizeLb * 512);
      expect(statSync(to).blocks * 512).toBeLessThan(16 * 1024 * 1024);
      // Holes are no work: else how long restores take would be learnt from them.
      const kept = await run(control, "restore", { volume });
      expect(kept.bytes as number).toBeLessThan(16 * 1024 * 1024);
    });
  }, 60_000);
});

describe("a try for reflinks that a crash cut off", () => {
  test("leaves nothing behind the next start", async () => {
    await withVolume(6, async (scene, history) => {
      await scene.role.close("graceful");
      const names = [".reflink-from", ".reflink-to", ".reflink-from.tmp"];
      for (const name of names) writeFileSync(`${scene.data}/vol0/${name}`, "x");
      scene.role = await reopened(scene);
      for (const name of names) expect(readdirSync(`${scene.data}/vol0`)).not.toContain(name);
      await expectAllRestorable(scene, history);
    });
  });
});

describe("diffs that cannot be reached", () => {
  test("are told, never deleted at a start, reachable again with the missing one, and moved aside only when asked", async () => {
    await withVolume(4, async (scene, history) => {
      await scene.role.close("graceful");
      const path = diffFrom(scene, 2);
      const aside = `${scene.directory}/aside`;
      renameSync(path, aside);
      // Not even the database knows of it.
      for (const suffix of ["", "-wal", "-shm"]) rmSync(`${scene.data}/vol0/volume.db${suffix}`, { force: true });
      scene.role = await reopened(scene);
      expect(await statusOf(scene.role.control)).toMatchObject({
        latest: "|2|",
        trouble: { code: "damaged", message: expect.stringContaining("from gid 2 to gid 3 is missing") },
      });
      expect(diffFiles(scene)).toHaveLength(5);
      renameSync(aside, path);
      await run(scene.role.control, "dbg-reload-metadata", { volume });
      expect(await expectAllRestorable(scene, history)).toEqual([0, 1, 2, 3, 4, 5, 6]);
      renameSync(path, aside);
      await run(scene.role.control, "dbg-reload-metadata", { volume });
      expect(await run(scene.role.control, "gc-diff", { volume })).toEqual({ removedCount: 0, quarantinedCount: 3 });
      expect(readdirSync(`${scene.data}/vol0/quarantine`).filter((name) => name.endsWith("wdiff"))).toHaveLength(3);
      expect(await expectAllRestorable(scene, history)).toEqual([0, 1, 2]);
    });
  });
});

describe("rates", () => {
  test("hold for work that runs, and a new one counts at once", async () => {
    await withVolume(5, async (scene, history) => {
      const { control } = scene.role;
      await run(control, "set-rates", { restoreBytesPerS: 1 });
      const outcome = await control.call("restore", { volume, to: `${scene.directory}/slow.img` });
      const id = outcome.kind === "job" ? outcome.job.id : "";
      await Bun.sleep(300);
      expect(control.job(id).state).toBe("running");
      expect(await run(control, "set-rates", { restoreBytesPerS: 0 })).toMatchObject({ restoreBytesPerS: 0 });
      while (control.job(id).state === "running") await Bun.sleep(10);
      expect(control.job(id).state).toBe("done");
      expectSame(readFileSync(`${scene.directory}/slow.img`), history.at(6), "slow");
      await run(control, "set-rates", { scanBytesPerS: 1, mergeBytesPerS: 1, applyBytesPerS: 1 });
      await run(control, "disable-snapshot", { volume, gids: [1, 2, 3] });
      for (const [command, params] of [
        ["verify", {}],
        ["bhash", {}],
        ["merge", { fromGid: 0 }],
        ["apply", { gid: 3 }],
      ] as const) {
        const slow = await control.call(command, { volume, ...params });
        const slowId = slow.kind === "job" ? slow.job.id : "";
        await Bun.sleep(100);
        expect(`${command} ${control.job(slowId).state}`).toBe(`${command} running`);
        expect((await control.cancelJob(slowId)).state).toBe("cancelled");
      }
      await run(control, "set-rates", { applyBytesPerS: 0 });
      await run(control, "apply", { volume, gid: 6 });
      expect(await expectAllRestorable(scene, history)).toEqual([6]);
    });
  });
});

describe("repairs by hand", () => {
  test("need a stopped volume, and take nothing that would let a backup be overwritten", async () => {
    await withVolume(6, async (scene, history) => {
      const { control } = scene.role;
      const uuid = "c".repeat(32);
      expect(await codeOf(run(control, "dbg-set-uuid", { volume, uuid }))).toBe("state");
      expect(await codeOf(run(control, "dbg-set-base", { volume, base: "<|0|>" }))).toBe("state");
      expect(await codeOf(run(control, "dbg-set-state", { volume, state: "Stopped" }))).toBe("state");
      await run(control, "stop", { volume, mode: "graceful" });
      expect(await codeOf(run(control, "dbg-set-state", { volume, state: "SyncReady" }))).toBe("state");
      expect(await codeOf(run(control, "dbg-set-base", { volume, base: "<0>" }))).toBe("bad-format");
      await run(control, "dbg-set-uuid", { volume, uuid });
      await run(control, "dbg-set-base", { volume, base: "<|0|>-20270115080000" });
      await run(control, "dbg-set-state", { volume, state: "Archived" });
      expect(await statusOf(control)).toMatchObject({ state: "Archived", uuid, base: "<|0|>" });
      history.step();
      expect(await deliver(scene, history, 6, 7)).toBe("different-uuid");
      expect(await deliver(scene, history, 6, 7, { uuid })).toBe("accept");
      expect(await expectAllRestorable(scene, history)).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
    });
  });
});

describe("a resize", () => {
  test("makes what is new read as zeroes, whatever an image that was larger held there", async () => {
    await withVolume(7, async (scene, history) => {
      const path = `${scene.data}/vol0/base.img`;
      writeFileSync(path, Buffer.concat([readFileSync(path), Buffer.alloc(100 * 512, 7)]));
      await run(scene.role.control, "resize", { volume, sizeLb: 3000, zeroClear: true });
      expect(statSync(path).size).toBe(3000 * 512);
      await run(scene.role.control, "restore", { volume, to: `${scene.directory}/grown.img` });
      const wanted = new Uint8Array(3000 * 512);
      wanted.set(history.at(6));
      expectSame(readFileSync(`${scene.directory}/grown.img`), wanted, "grown");
    });
  });
});
