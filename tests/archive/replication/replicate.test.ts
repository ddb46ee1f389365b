import { describe, expect, test } from "bun:test";
import { mergeLabels } from "../../../src/archive/replication/labels.ts";
import { codeOf, expectError } from "../../helpers/errors.ts";
import { pointsOf } from "../harness.ts";
import { sendChanges, sendDiff } from "../peers.ts";
import { type ReplicaScene, withReplicas } from "./scene.ts";

/** A few diffs, some of them with points that somebody took. @returns the last gid. */
async function traffic(scene: ReplicaScene, from: number, count: number): Promise<number> {
  const { random } = scene.world;
  let gid = from;
  for (let i = 0; i < count; i++) {
    const to = gid + random.between(1, 3);
    expect(await scene.diff(scene.a0, gid, to, { isMergeable: random.chance(0.6) })).toBe("accept");
    gid = to;
  }
  return gid;
}

describe("a replication", () => {
  test("copies everything to an empty archive, then only diffs, over random histories", async () => {
    for (let seed = 1; seed <= 12; seed++) {
      await withReplicas(seed, async (scene) => {
        const { a0, a1 } = scene;
        const { random } = scene.world;
        const dirtyTo = random.between(0, 2);
        await scene.begin(dirtyTo);
        let gid = 0;
        for (let round = 0; round < 4; round++) {
          gid = await traffic(scene, gid, random.between(round === 0 ? 1 : 0, 4));
          if (gid < dirtyTo) gid = await traffic(scene, gid, 2);
          if (random.chance(0.3)) await a0.command("apply", { gid: random.between(1, gid) }).catch(() => undefined);
          if (random.chance(0.3)) await a0.command("merge", { fromGid: 0 }).catch(() => undefined);
          if (random.chance(0.3)) await a1.command("apply", { gid }).catch(() => undefined);
          if (random.chance(0.3)) await a1.command("merge", { fromGid: 0 }).catch(() => undefined);
          const result = await scene.replicate(a0, a1, { keepAllPoints: random.chance(0.5) });
          expect(result).toMatchObject({ gid: BigInt(gid), isFull: round === 0, isResync: false });
          const gids = await scene.check(a1, `round ${round}`);
          expect(gids.at(-1)).toBe(gid);
          await scene.check(a0, `round ${round}`);
        }
        expect((await scene.replicate(a0, a1)).diffCount).toBe(0);
      });
    }
  });

  test("brings every point that somebody took or labelled, and each point when asked for all", async () => {
    await withReplicas(3, async (scene) => {
      const { a0, a1 } = scene;
      await scene.begin();
      for (let gid = 0; gid < 8; gid++)
        expect(await scene.diff(a0, gid, gid + 1, { isMergeable: gid !== 3 })).toBe("accept");
      await a0.command("label-snapshot", { gid: 6, label: "release", protect: true });
      expect((await scene.replicate(a0, a1)).diffCount).toBe(3);
      const points = await scene.world.complete(() => pointsOf(a1.role.control));
      expect(points.find(({ gid }) => gid === 6n)).toMatchObject({ label: "release", isProtected: true });
      expect(await scene.check(a1, "merged")).toEqual([0, 3, 6, 8]);
      for (let gid = 8; gid < 11; gid++) await scene.diff(a0, gid, gid + 1);
      expect((await scene.replicate(a0, a1, { keepAllPoints: true })).diffCount).toBe(3);
      expect(await scene.check(a1, "all")).toEqual([0, 3, 6, 8, 9, 10, 11]);
    });
  });

  test("merges no more diffs into one transfer than the archive is told to", async () => {
    for (const [wdiffSendCountMax, transfers] of [
      [2, 3],
      [1000, 1],
    ] as const) {
      const options = { archiveOptions: { a0: { wdiffSendCountMax } } };
      await withReplicas(
        4,
        async (scene) => {
          const { a0, a1 } = scene;
          await scene.begin();
          await scene.replicate(a0, a1);
          for (let gid = 0; gid < 5; gid++) expect(await scene.diff(a0, gid, gid + 1)).toBe("accept");
          expect((await scene.replicate(a0, a1)).diffCount).toBe(transfers);
          await scene.check(a1, `at most ${wdiffSendCountMax}`);
        },
        options,
      );
    }
  });

  test("compares images when the other archive is behind the base image", async () => {
    for (let seed = 1; seed <= 8; seed++) {
      await withReplicas(seed, async (scene) => {
        const { a0, a1 } = scene;
        await scene.begin();
        const first = await traffic(scene, 0, 2);
        await scene.replicate(a0, a1);
        const before = await a1.gids();
        const last = await traffic(scene, first, 4);
        await a0.command("apply", { gid: last });
        expect(await scene.replicate(a0, a1)).toMatchObject({ hashCount: 1, gid: BigInt(last) });
        // What it had stays, and what a0 has came.
        expect(await scene.check(a1, "compared")).toEqual([...before, last]);
        const after = await traffic(scene, last, 2);
        expect(await scene.replicate(a0, a1)).toMatchObject({ hashCount: 0, gid: BigInt(after) });
        expect((await scene.check(a1, "followed")).at(-1)).toBe(after);
      });
    }
  });

  test("keeps the points of the other archive that were merged away here", async () => {
    await withReplicas(5, async (scene) => {
      const { a0, a1 } = scene;
      await scene.begin();
      for (let gid = 0; gid < 4; gid++) await scene.diff(a0, gid, gid + 1);
      await scene.replicate(a0, a1, { keepAllPoints: true });
      for (let gid = 4; gid < 8; gid++) await scene.diff(a0, gid, gid + 1);
      await a0.command("merge", { fromGid: 1 });
      await scene.replicate(a0, a1);
      expect(await scene.check(a1, "after the merge")).toEqual([0, 1, 2, 3, 4, 8]);
    });
  });

  test("goes through a chain of archives", async () => {
    await withReplicas(
      7,
      async (scene) => {
        const { a0, a1, a2 } = scene;
        await scene.begin(1);
        let gid = await traffic(scene, 0, 3);
        for (let round = 0; round < 3; round++) {
          await scene.replicate(a0, a1);
          if (round === 1) await a1.command("apply", { gid });
          await scene.replicate(a1, a2);
          expect((await scene.check(a2, `round ${round}`)).at(-1)).toBe(gid);
          gid = await traffic(scene, gid, 3);
        }
      },
      { archives: ["a0", "a1", "a2"] },
    );
  });

  test("goes on through a chain whose middle got everything anew behind a hash backup", async () => {
    for (const isLost of [false, true]) {
      await withReplicas(
        19,
        async (scene) => {
          const { a0, a1, a2, history } = scene;
          await scene.begin();
          await scene.diff(a0, 0, 2);
          await scene.replicate(a0, a1);
          await scene.replicate(a1, a2);
          const { answer } = await scene.world.complete(() =>
            sendChanges(scene.peer(a0), history.fuzzy(history.step(), 2), { uuid: "b".repeat(32), bulkLb: 64 }),
          );
          expect(answer.kind).toBe("accept");
          if (isLost) {
            await a1.command("stop", { mode: "graceful" });
            await a1.command("reset");
          }
          const { isFull, isResync } = await scene.replicate(a0, a1, isLost ? {} : { resync: true });
          expect([isFull, isResync]).toEqual([isLost, !isLost]);
          expect((await scene.replicate(a1, a2)).isResync).toBe(false);
          expect((await a2.status()).uuid).toBe("b".repeat(32));
        },
        { archives: ["a0", "a1", "a2"] },
      );
    }
  });

  test("ends at the gid or the size that was asked for", async () => {
    await withReplicas(9, async (scene) => {
      const { a0, a1 } = scene;
      await scene.begin();
      for (let gid = 0; gid < 6; gid++) await scene.diff(a0, gid, gid + 1);
      expect((await scene.replicate(a0, a1, { untilGid: 4 })).gid).toBe(4n);
      expect((await a1.gids()).at(-1)).toBe(4);
      expect((await scene.replicate(a0, a1, { remainingMib: 100 })).gid).toBe(4n);
      expect((await scene.replicate(a0, a1)).gid).toBe(6n);
    });
  });

  test("is refused by an archive with other backups, which says how to replace them", async () => {
    await withReplicas(11, async (scene) => {
      const { a0, a1 } = scene;
      await scene.begin();
      await traffic(scene, 0, 2);
      await scene.backup(a1);
      const points = await a1.gids();
      await expectError(scene.replicate(a0, a1), {
        code: "different-uuid",
        message: expect.stringMatching(/other backups.*--resync/),
      });
      expect(await scene.check(a1, "refused")).toEqual(points);
    });
  });

  test("of an archive that went on with an old log is refused by one that has newer backups", async () => {
    await withReplicas(12, async (scene) => {
      const { a0, a1, history } = scene;
      await scene.begin();
      await scene.diff(a0, 0, 2);
      await scene.replicate(a0, a1);
      // The storage was pointed at the second archive, which has a hash backup from another log.
      const uuid = "b".repeat(32);
      const { latest, answer } = await scene.world.complete(() =>
        sendChanges(scene.peer(a1), history.fuzzy(history.step(), 2), { uuid, bulkLb: 64 }),
      );
      expect([answer.kind, latest]).toEqual(["accept", { gidB: 2n, gidE: 2n }]);
      const points = await a1.gids();
      // The first one still gets what proxies had of the old log, further than the second one's gids.
      await scene.diff(a0, 2, 9);
      await expectError(scene.replicate(a0, a1), /gone different ways.*nothing was changed/);
      expect(await a1.gids()).toEqual(points);
      expect((await a1.status()).uuid).toBe(uuid);
      await scene.replicate(a0, a1, { resync: true });
      expect(await scene.check(a1, "given up")).toEqual([0, 9]);
    });
  });

  test("between archives that each had a hash backup of another log is refused both ways, and by a third one", async () => {
    await withReplicas(
      17,
      async (scene) => {
        const { a0, a1, a2, history } = scene;
        await scene.begin();
        await scene.diff(a0, 0, 2);
        await scene.replicate(a0, a1);
        await scene.replicate(a0, a2);
        for (const [archive, digit] of [
          [a0, "b"],
          [a1, "c"],
        ] as const) {
          const uuid = digit.repeat(32);
          const { answer } = await scene.world.complete(() =>
            sendChanges(scene.peer(archive), history.fuzzy(history.step(), 2), { uuid, bulkLb: 64 }),
          );
          expect(answer.kind).toBe("accept");
        }
        const points = [await a0.gids(), await a1.gids()];
        for (const [from, to] of [
          [a0, a1],
          [a1, a0],
        ] as const) {
          await expectError(scene.replicate(from, to), {
            code: "different-uuid",
            message: expect.stringMatching(/gone different ways.*b{32}|c{32}.*nothing was changed/),
          });
        }
        expect([await a0.gids(), await a1.gids()]).toEqual(points);
        // The third one is behind both: the first to bring it along decides.
        await scene.replicate(a1, a2);
        await expectError(scene.replicate(a0, a2), { code: "different-uuid" });
        await scene.replicate(a0, a1, { resync: true });
        await scene.replicate(a0, a1);
        expect((await a1.status()).uuid).toBe("b".repeat(32));
      },
      { archives: ["a0", "a1", "a2"] },
    );
  });

  test("from an archive that skipped a log brings one along that is still at it", async () => {
    await withReplicas(
      18,
      async (scene) => {
        const { a0, a1, a2, history } = scene;
        const hashBackup = async (digit: string, gid: number): Promise<void> => {
          const options = { uuid: digit.repeat(32), bulkLb: 64 };
          const image = history.fuzzy(history.step(), gid);
          const { answer } = await scene.world.complete(() => sendChanges(scene.peer(a0), image, options));
          expect(answer.kind).toBe("accept");
        };
        await scene.begin();
        await scene.diff(a0, 0, 2);
        await scene.replicate(a0, a1);
        await hashBackup("b", 2);
        await scene.replicate(a0, a2);
        await hashBackup("c", history.gid);
        const [begin = 0, end = begin] = Array.from(String((await a0.status()).latest).matchAll(/[0-9]+/g), Number);
        expect(await scene.diff(a0, begin, end + 1, { uuid: "c".repeat(32) })).toBe("accept");
        // The second archive is behind the image of the first one: it gets there by comparing, and hears of the log between.
        await a0.command("apply", { gid: end + 1 });
        await scene.replicate(a0, a1);
        await scene.replicate(a1, a2);
        expect((await a2.status()).uuid).toBe("c".repeat(32));
      },
      { archives: ["a0", "a1", "a2"] },
    );
  });

  test("follows the log of a hash backup, through older diffs and a full copy", async () => {
    for (const isFilledBefore of [true, false]) {
      await withReplicas(14, async (scene) => {
        const { a0, a1, history } = scene;
        await scene.begin();
        await scene.diff(a0, 0, 2);
        if (isFilledBefore) await scene.replicate(a0, a1);
        await scene.diff(a0, 2, 3);
        const uuid = "c".repeat(32);
        await scene.world.complete(() =>
          sendChanges(scene.peer(a0), history.fuzzy(history.step(), 3), { uuid, bulkLb: 64 }),
        );
        await scene.replicate(a0, a1, { keepAllPoints: true });
        expect((await a1.status()).uuid).toBe(uuid);
        // What a proxy has of the new log fits, at both.
        for (const archive of [a0, a1]) {
          const { sizeLb } = history;
          const sent = await scene.world.complete(() =>
            sendDiff(scene.peer(archive), 4, 5, history.diff(3, 4), { uuid, sizeLb, recordsPerPack: 3 }),
          );
          expect(sent).toEqual({ kind: "accept" });
        }
        expect((await a1.gids()).at(-1)).toBe(5);
      });
    }
  });

  test("of a volume that has grown says so, or grows the other archive's image", async () => {
    for (const isAutoResize of [false, true]) {
      await withReplicas(
        13,
        async (scene) => {
          const { a0, a1 } = scene;
          await scene.begin();
          await scene.diff(a0, 0, 1);
          await scene.replicate(a0, a1);
          await a0.command("resize", { sizeLb: 1400 });
          await scene.diff(a0, 1, 2, { sizeLb: 1400 });
          if (isAutoResize) await scene.replicate(a0, a1);
          else {
            await expectError(scene.replicate(a0, a1), /700 LB.*1400.*walb resize vol0 716800 --server a1/);
            await a1.command("resize", { sizeLb: 1400 });
            await scene.replicate(a0, a1);
          }
          expect((await a1.status()).sizeLb).toBe(1400);
          expect(await scene.check(a1, "grown")).toEqual([0, 1, 2]);
        },
        { archiveOptions: { a1: { isAutoResize } } },
      );
    }
  });

  test("to nobody, to an unknown volume and to itself ends with what to do", async () => {
    await withReplicas(15, async (scene) => {
      const { a0, a1 } = scene;
      await scene.begin();
      await a1.command("clear");
      await expectError(scene.replicate(a0, a1), /does not know this volume.*walb init vol0/);
      expect(await codeOf(a0.command("replicate", { to: "nowhere:10200" }))).toBe("unreachable");
      await expectError(a0.command("replicate", { to: "a0:10200" }), /itself/);
    });
  });
});

test("labels that come along: texts of the sender win, protections add up, the rest stays", () => {
  const label = (gid: number, text?: string, isProtected = false) => ({ gid: BigInt(gid), label: text, isProtected });
  const known = new Map([label(3, "own"), label(4, "old", true), label(5, "same")].map((one) => [one.gid, one]));
  const sent = [
    label(2, "gone"),
    label(4, "new"),
    label(5, "same"),
    label(6, undefined, true),
    label(3, undefined, true),
  ];
  expect(mergeLabels(known, sent, 3n)).toEqual([
    label(4, "new", true),
    label(6, undefined, true),
    label(3, "own", true),
  ]);
});
