import { describe, expect, test } from "bun:test";
import { expectError } from "../../helpers/errors.ts";
import { withReplicas } from "./scene.ts";

describe("a resync", () => {
  test("replaces all of another line of backups, and the replication goes on from there", async () => {
    for (let seed = 1; seed <= 8; seed++) {
      await withReplicas(seed, async (scene) => {
        const { a0, a1 } = scene;
        const { random } = scene.world;
        await scene.begin(2);
        expect(await scene.diff(a0, 0, 3)).toBe("accept");
        await scene.diff(a0, 3, 5);
        if (random.chance(0.5)) await a0.command("apply", { gid: 3 });
        // Its own full backup, of the same volume at another time, with points of its own.
        await scene.backup(a1);
        for (let gid = 0; gid < 3; gid++) await scene.diff(a1, gid, gid + 1);
        await a1.command("label-snapshot", { gid: 2, label: "own" });
        if (random.chance(0.5)) await a1.command("apply", { gid: 1 });
        const result = await scene.replicate(a0, a1, { resync: true });
        expect(result).toMatchObject({ isFull: false, isResync: true, gid: 5n });
        expect(await scene.check(a1, "after the resync")).toEqual([3, 5]);
        expect((await a1.status()).archiveUuid).toBe((await a0.status()).archiveUuid);
        expect((await a1.status()).trouble).toBeUndefined();
        await scene.diff(a0, 5, 7);
        expect(await scene.replicate(a0, a1)).toMatchObject({ isResync: false, gid: 7n });
        expect(await scene.check(a1, "followed")).toEqual([3, 5, 7]);
        // What a proxy delivers fits too.
        await scene.diff(a0, 7, 8);
        expect(await scene.diff(a1, 7, 8)).toBe("accept");
        expect(await scene.check(a1, "delivered")).toEqual([3, 5, 7, 8]);
      });
    }
  });

  test("makes an archive without backups a full copy", async () => {
    await withReplicas(20, async (scene) => {
      const { a0, a1 } = scene;
      await scene.begin();
      await scene.diff(a0, 0, 1);
      expect(await scene.replicate(a0, a1, { resync: true })).toMatchObject({ isFull: true, isResync: false });
      expect(await scene.check(a1, "copied")).toEqual([0, 1]);
    });
  });

  test("leaves all points restorable while it runs, and as they were when it breaks off", async () => {
    await withReplicas(21, async (scene) => {
      const { a0, a1, world } = scene;
      await scene.begin();
      await scene.diff(a0, 0, 2);
      await scene.backup(a1);
      await scene.diff(a1, 0, 1);
      world.network.setQuality("a0", "a1", { bytesPerSecond: 20_000 });
      let isSeen = false;
      let outcome: unknown;
      const replication = a0.start("replicate", { to: "a1:10200", resync: true, bulkBytes: 8192 });
      replication.then(
        (value) => (outcome = value),
        (error) => (outcome = error),
      );
      for (let i = 0; i < 200 && outcome === undefined; i++) {
        await world.run(50);
        const { state } = await a1.status();
        if (state !== "ReplSyncAsServer") continue;
        isSeen = true;
        await scene.check(a1, "meanwhile").catch((error: unknown) => {
          // Its own temporary file is there.
          if (!String(error).includes("receiving-")) throw error;
        });
        world.network.cut("a0", "a1");
      }
      expect(isSeen).toBe(true);
      await world.runUntil(() => outcome !== undefined);
      expect(outcome).toMatchObject({
        code: expect.stringMatching(/unreachable|protocol|io/),
        hint: expect.stringContaining("the same command begins it anew"),
      });
      await world.run(1000);
      expect(await a1.status()).toMatchObject({ state: "Archived" });
      expect(await scene.check(a1, "cut")).toEqual([0, 1]);
      world.network.setQuality("a0", "a1", { bytesPerSecond: 0 });
      await scene.replicate(a0, a1, { resync: true });
      expect(await scene.check(a1, "repeated")).toEqual([0, 2]);
    });
  });

  test("without room for what differs is refused or fails, and nothing is lost", async () => {
    for (const limitMib of [1, 17]) {
      await withReplicas(
        22,
        async (scene) => {
          const { a0, a1 } = scene;
          await scene.begin();
          await scene.diff(a0, 0, 1);
          await scene.backup(a1);
          await scene.diff(a1, 0, 1);
          const used = a1.host.storage.paths().reduce((sum, path) => sum + (a1.host.storage.sizeOf(path) ?? 0), 0);
          if (limitMib === 1) a1.host.storage.setCapacity(used + 1024 * 1024);
          else
            a1.host.storage.inject({
              kinds: ["write"],
              pathIncludes: "receiving-",
              skip: 1,
              effect: "no-space",
              times: 1000,
            });
          await expectError(scene.replicate(a0, a1, { resync: true }));
          await scene.world.run(1000);
          expect(await a1.status()).toMatchObject({ state: "Archived", trouble: { code: "no-space" } });
          a1.host.storage.setCapacity(2 ** 40);
          expect(await scene.check(a1, "full")).toEqual([0, 1]);
        },
        { sizeLb: 4000 },
      );
    }
  });

  test("to a smaller volume leaves nothing behind its end", async () => {
    await withReplicas(23, async (scene) => {
      const { a0, a1, history } = scene;
      await scene.begin();
      await scene.diff(a0, 0, 1);
      await scene.backup(a1);
      await a1.command("resize", { sizeLb: 1400 });
      a1.host.storage.poke("/data/vol0/base.img", 1000 * 512, new Uint8Array(512).fill(7));
      await scene.replicate(a0, a1, { resync: true });
      expect((await a1.status()).sizeLb).toBe(history.sizeLb);
      expect(a1.host.storage.peek("/data/vol0/base.img", 1000 * 512, 512).every((byte) => byte === 0)).toBe(true);
    });
  });
});
