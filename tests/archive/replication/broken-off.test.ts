import { describe, expect, test } from "bun:test";
import { codeOf } from "../../helpers/errors.ts";
import { type ReplicaScene, withReplicas } from "./scene.ts";

const kinds = ["full", "diff", "hash", "resync"] as const;
type Kind = (typeof kinds)[number];

/** Brings two archives to where a replication of a kind is due. @returns points of the second, before and after it. */
async function prepare(scene: ReplicaScene, kind: Kind): Promise<{ before: number[]; after: number[] }> {
  const { a0, a1 } = scene;
  await scene.begin();
  await scene.diff(a0, 0, 2);
  if (kind === "full") {
    await scene.diff(a0, 2, 3);
    return { before: [], after: [0, 3] };
  }
  if (kind === "resync") {
    await scene.backup(a1);
    await scene.diff(a1, 0, 1);
    return { before: [0, 1], after: [0, 2] };
  }
  await scene.replicate(a0, a1);
  for (const gid of [2, 3, 4]) await scene.diff(a0, gid, gid + 1);
  if (kind === "hash") await a0.command("apply", { gid: 5 });
  return { before: [0, 2], after: [0, 2, 5] };
}

function start(scene: ReplicaScene, kind: Kind): Promise<unknown> {
  const params = kind === "resync" ? { resync: true } : {};
  return scene.a0.start("replicate", { to: "a1:10200", bulkBytes: 4096, ...params });
}

/** Repeats until it is through, and compares both archives with the model. */
async function repeat(scene: ReplicaScene, kind: Kind, after: number[], what: string): Promise<void> {
  const params = kind === "resync" && (await scene.a1.status()).archiveUuid !== (await scene.a0.status()).archiveUuid;
  await scene.replicate(scene.a0, scene.a1, params ? { resync: true } : {});
  expect(await scene.check(scene.a1, what)).toEqual(after);
  expect((await scene.a1.status()).trouble).toBeUndefined();
  await scene.check(scene.a0, what);
}

describe("a replication that is cut off at any byte", () => {
  for (const kind of kinds) {
    test(`leaves what was there, and the next one completes it: ${kind}`, async () => {
      let cuts = 0;
      for (const direction of ["to", "from"] as const) {
        let bytes = direction === "to" ? 1 : 3;
        for (let isCut = true; isCut; bytes = Math.ceil(bytes * (direction === "to" ? 2 : 1.6)) + 1) {
          await withReplicas(100 + bytes, async (scene) => {
            const { before, after } = await prepare(scene, kind);
            const [from, to] = direction === "to" ? ["a0", "a1"] : ["a1", "a0"];
            scene.world.network.cutAfterBytes(from!, to!, bytes);
            isCut = (await codeOf(scene.world.complete(() => start(scene, kind)))) !== "no error";
            if (!isCut) return;
            cuts += 1;
            await scene.world.run(2000);
            await scene.settle(scene.a1);
            const { state, running } = await scene.a1.status();
            const points = await scene.check(scene.a1, `cut after ${bytes} bytes`);
            if (kind === "full" && state === "SyncReady") expect(points).toEqual([]);
            else expect(state).toBe("Archived");
            expect(running).toEqual([]);
            // All of the old, or all of the new.
            if (kind === "resync") expect([before, after]).toContainEqual(points);
            else for (const gid of before) expect(points).toContain(gid);
            await repeat(scene, kind, after, `repeated after ${bytes} bytes`);
          });
        }
      }
      expect(cuts).toBeGreaterThan(8);
    });
  }

  test("goes on where a full copy was durable", async () => {
    for (const bulkBytes of [4096, 12288]) {
      await withReplicas(
        50,
        async (scene) => {
          const { a0, a1 } = scene;
          await scene.begin();
          scene.world.network.cutAfterBytes("a0", "a1", 100_000);
          expect(await codeOf(scene.replicate(a0, a1, { bulkBytes: 4096 }))).not.toBe("no error");
          await scene.world.run(1000);
          const before = scene.world.network.deliveredBytes("a0", "a1");
          await scene.replicate(a0, a1, { bulkBytes });
          const again = scene.world.network.deliveredBytes("a0", "a1") - before;
          const whole = (await (async () => {
            const start = scene.world.network.deliveredBytes("a0", "a2");
            await scene.a0.command("replicate", { to: "a2:10200", bulkBytes: 4096 });
            return scene.world.network.deliveredBytes("a0", "a2") - start;
          })()) as number;
          expect(whole - again).toBeGreaterThan(60_000);
          expect(await scene.check(a1, "resumed")).toEqual([0]);
        },
        { sizeLb: 2000, archives: ["a0", "a1", "a2"] },
      );
    }
  });

  test("begins a full copy anew when the image it was of has moved on, or another archive sends", async () => {
    await withReplicas(
      51,
      async (scene) => {
        const { a0, a1, a2 } = scene;
        await scene.begin();
        await scene.diff(a0, 0, 1);
        await scene.backup(a2);
        await scene.diff(a2, 0, 1);
        for (const [archive, next] of [
          [a0, "apply"],
          [a0, "other"],
          [a2, "none"],
        ] as const) {
          scene.world.network.cutAfterBytes(archive.name, "a1", 60_000);
          if ((await codeOf(scene.replicate(archive, a1))) === "no error") throw new Error("it was not cut");
          await scene.world.run(1000);
          expect((await a1.status()).state).toBe("SyncReady");
          if (next === "apply") await a0.command("apply", { gid: 1 });
        }
        await scene.replicate(a2, a1);
        expect(await scene.check(a1, "from another")).toEqual([0, 1]);
      },
      { sizeLb: 2000, archives: ["a0", "a1", "a2"] },
    );
  });
});

for (const kill of [true, false]) {
  for (const kind of kinds) {
    for (const side of ["a1", "a0"] as const) {
      test(`after ${kill ? "kill -9" : "a power loss"} of ${side === "a1" ? "the receiver" : "the sender"} at any step, repeating a ${kind} replication completes it`, async () => {
        let crashes = 0;
        for (let n = 1, isCrashed = true; isCrashed; n++) {
          await withReplicas(1000 + n, async (scene) => {
            const { before, after } = await prepare(scene, kind);
            const archive = side === "a1" ? scene.a1 : scene.a0;
            archive.host.crashAtOperation(n, { kill });
            let isOver = false;
            const work = start(scene, kind);
            work.then(
              () => (isOver = true),
              () => (isOver = true),
            );
            await scene.world.runUntil(() => isOver || !archive.host.isUp);
            // A resync goes on behind the answer.
            if (archive.host.isUp) await scene.world.run(500);
            isCrashed = !archive.host.isUp;
            if (!isCrashed) return;
            crashes += 1;
            await scene.world.run(15_000);
            await archive.open();
            await scene.world.run(2_000);
            await scene.settle(scene.a1);
            const points = await scene.check(scene.a1, `crash ${n}`);
            if (kind === "resync") expect([before, after]).toContainEqual(points);
            else for (const gid of before) expect(points).toContain(gid);
            await repeat(scene, kind, after, `repeated after crash ${n}`);
          });
        }
        expect(crashes).toBeGreaterThan(side === "a1" ? 5 : -1);
      });
    }
  }
}
