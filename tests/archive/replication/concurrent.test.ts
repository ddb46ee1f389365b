import { describe, expect, test } from "bun:test";
import { errorFromReport } from "../../../src/control/error.ts";
import type { JobInfo } from "../../../src/control/job.ts";
import { codeOf } from "../../helpers/errors.ts";
import { pointsOf } from "../harness.ts";
import { type ArchiveHost, type ReplicaScene, withReplicas } from "./scene.ts";

/** Begins to follow. */
async function follow(from: ArchiveHost, to: ArchiveHost): Promise<string> {
  const params = { volume: "vol0", to: `${to.name}:10200`, follow: true };
  const outcome = await from.do(() => from.role.control.call("replicate", params));
  if (outcome.kind !== "job") throw new Error("following is a job");
  return outcome.job.id;
}

async function arrives(scene: ReplicaScene, archive: ArchiveHost, gid: number): Promise<void> {
  for (let i = 0; i < 400; i++) {
    if ((await archive.gids()).includes(gid)) return;
    await scene.world.run(500);
  }
  throw new Error(`gid ${gid} does not come to ${archive.name}`);
}

interface ReplicaStatus {
  readonly to: string;
  readonly isRunning: boolean;
  readonly gid?: bigint;
  readonly trouble?: { readonly code: string; readonly message: string };
}

async function replicaOf(archive: ArchiveHost): Promise<ReplicaStatus> {
  return ((await archive.status()).replicas as ReplicaStatus[])[0]!;
}

describe("following", () => {
  test("sends each diff as it arrives, over a line that breaks, and tells what is wrong meanwhile", async () => {
    await withReplicas(30, async (scene) => {
      const { a0, a1, world } = scene;
      await scene.begin();
      const id = await follow(a0, a1);
      for (let gid = 0; gid < 3; gid++) {
        await scene.diff(a0, gid, gid + 1);
        await arrives(scene, a1, gid + 1);
      }
      expect(await replicaOf(a0)).toMatchObject({ to: "a1:10200", isRunning: true, gid: 3n });
      world.network.refuse("a0", "a1");
      await scene.diff(a0, 3, 4);
      await world.run(5_000);
      expect(await replicaOf(a0)).toMatchObject({ isRunning: true, trouble: { code: "unreachable" } });
      expect(await a0.status()).toMatchObject({ trouble: { code: "unreachable" } });
      // An apply is not held up by following: only by a transfer.
      await a0.command("apply", { gid: 2 });
      world.network.accept("a0", "a1");
      await arrives(scene, a1, 4);
      await world.run(1_000);
      expect((await a0.status()).trouble).toBeUndefined();
      expect(await codeOf(a0.command("replicate", { to: "a1:10200" }))).toBe("busy");
      const job: JobInfo = await a0.do(() => a0.role.control.cancelJob(id));
      expect([job.state, errorFromReport(job.error!).code]).toEqual(["cancelled", "cancelled"]);
      expect(await replicaOf(a0)).toMatchObject({ isRunning: false });
      expect(await scene.check(a1, "followed")).toEqual([0, 1, 2, 3, 4]);
    });
  });

  test("gives up at once where only a person can help", async () => {
    await withReplicas(31, async (scene) => {
      const { a0, a1 } = scene;
      await scene.begin();
      await scene.backup(a1);
      expect(await codeOf(scene.replicate(a0, a1, { follow: true }))).toBe("different-uuid");
    });
  });

  test("goes on when the other archive was stopped, restarted, or killed", async () => {
    await withReplicas(32, async (scene) => {
      const { a0, a1, world } = scene;
      await scene.begin();
      const id = await follow(a0, a1);
      await scene.diff(a0, 0, 1);
      await arrives(scene, a1, 1);
      await a1.command("stop", { mode: "graceful" });
      await scene.diff(a0, 1, 2);
      await world.run(10_000);
      await a1.command("start");
      await arrives(scene, a1, 2);
      a1.host.kill();
      await scene.diff(a0, 2, 3);
      await world.run(10_000);
      await a1.open();
      await arrives(scene, a1, 3);
      await a0.do(() => a0.role.control.cancelJob(id));
      await scene.check(a1, "followed");
    });
  });
});

describe("a replication beside proxies that deliver", () => {
  test("and one that is overtaken all the time ends with every point in place", async () => {
    const words = new Set<string>();
    for (let seed = 40; seed < 46; seed++) {
      await withReplicas(seed, async (scene) => {
        const { a0, a1, world } = scene;
        await scene.begin();
        for (let gid = 0; gid < 12; gid++) await scene.diff(a0, gid, gid + 1);
        await scene.replicate(a0, a1, { untilGid: 2, keepAllPoints: true });
        for (const name of ["a0", "client"]) world.network.setQuality(name, "a1", { latency: { minMs: 1, maxMs: 20 } });
        let outcome: unknown;
        a0.start("replicate", { to: "a1:10200", keepAllPoints: true }).then(
          (value) => (outcome = value),
          (error) => (outcome = error),
        );
        for (let gid = 2; gid < 12; gid++) {
          for (let i = 0; i < 50; i++) {
            const word = await scene.diff(a1, gid, gid + 1);
            words.add(word);
            if (word === "accept" || word === "too-old-diff") break;
            await world.run(world.random.between(1, 20));
          }
        }
        await world.runUntil(() => outcome !== undefined);
        expect(outcome).toMatchObject({ gid: 12n });
        expect(await scene.check(a1, "both ways")).toEqual(Array.from({ length: 13 }, (_, i) => i));
      });
    }
    // The two met.
    expect(words.size).toBeGreaterThan(1);
  });
});

describe("what a sender has opened before it is due", () => {
  test("is left when a merge has taken its place, or diffs have come behind it", async () => {
    await withReplicas(47, async (scene) => {
      const { a0, a1, world } = scene;
      await scene.begin();
      await scene.replicate(a0, a1);
      for (let gid = 0; gid < 12; gid++) await scene.diff(a0, gid, gid + 1);
      world.network.setQuality("a0", "a1", { latency: { minMs: 20, maxMs: 40 } });
      let outcome: unknown;
      a0.start("replicate", { to: "a1:10200", keepAllPoints: true }).then(
        (value) => (outcome = value),
        (error) => (outcome = error),
      );
      await world.run(700);
      const arrived = (await a1.gids()).at(-1)!;
      expect([arrived > 0, arrived < 9]).toEqual([true, true]);
      // What is due next goes, and what is behind it becomes one.
      await a0.command("merge", { fromGid: arrived, toGid: 12 });
      await scene.diff(a0, 12, 13);
      await world.runUntil(() => outcome !== undefined);
      expect(outcome).toMatchObject({ gid: 13n });
      expect((await scene.check(a1, "merged meanwhile")).slice(-2)).toEqual([12, 13]);
    });
  });

  test("is left when somebody has taken the snapshot it begins at, which arrives as such", async () => {
    await withReplicas(49, async (scene) => {
      const { a0, a1, world } = scene;
      await scene.begin();
      await scene.replicate(a0, a1);
      for (let gid = 0; gid < 6; gid++) await scene.diff(a0, gid, gid + 1);
      world.network.setQuality("a0", "a1", { latency: { minMs: 40, maxMs: 60 } });
      let outcome: unknown;
      a0.start("replicate", { to: "a1:10200", keepAllPoints: true }).then(
        (value) => (outcome = value),
        (error) => (outcome = error),
      );
      let isOpen = false;
      a0.host.storage.onOperation = ({ kind, path }) => {
        if (kind === "open" && path.endsWith("-3-4.wdiff")) isOpen = true;
      };
      await world.runUntil(() => isOpen);
      await world.run(5);
      expect((await a1.gids()).at(-1)).toBeLessThan(3);
      await a0.command("enable-snapshot", { gids: [3] });
      await world.runUntil(() => outcome !== undefined);
      expect(outcome).toMatchObject({ gid: 6n });
      const points = await a1.do(() => pointsOf(a1.role.control));
      expect(points.filter(({ isExplicit }) => isExplicit).map(({ gid }) => gid)).toEqual([3n, 6n]);
      await scene.check(a1, "enabled meanwhile");
    });
  });

  test("is told about when it is damaged and due, with all before it in place", async () => {
    await withReplicas(48, async (scene) => {
      const { a0, a1 } = scene;
      await scene.begin();
      await scene.replicate(a0, a1);
      for (let gid = 0; gid < 6; gid++) await scene.diff(a0, gid, gid + 1);
      const [path] = a0.files(/-3-4\.wdiff$/);
      a0.host.storage.poke(path!, 4200, new Uint8Array(64).fill(0x5a));
      const error = await a0.command("replicate", { to: "a1:10200", keepAllPoints: true }).then(
        () => undefined,
        (thrown: unknown) => thrown,
      );
      expect(error).toMatchObject({ code: "damaged", where: { file: path } });
      expect(await scene.check(a1, "before the damage")).toEqual([0, 1, 2, 3]);
    });
  });
});

describe("no room at the other archive", () => {
  for (const kind of ["full", "diff", "hash"] as const) {
    test(`in the middle of a ${kind} replication is told, and nothing that was there is lost`, async () => {
      for (const skip of [0, 1, 3]) {
        await withReplicas(50 + skip, async (scene) => {
          const { a0, a1 } = scene;
          await scene.begin();
          await scene.diff(a0, 0, 1);
          if (kind !== "full") await scene.replicate(a0, a1);
          for (const gid of [1, 2, 3]) await scene.diff(a0, gid, gid + 1);
          if (kind === "hash") await a0.command("apply", { gid: 4 });
          const before = await a1.gids();
          const pathIncludes = kind === "full" ? "base.img" : "receiving-";
          const giveRoom = a1.host.storage.inject({
            kinds: ["write"],
            pathIncludes,
            skip,
            times: 10_000,
            effect: "no-space",
          });
          const code = await codeOf(scene.replicate(a0, a1, { bulkBytes: 4096 }));
          giveRoom();
          await scene.world.run(1_000);
          if (code !== "no error") {
            const state = kind === "full" ? "SyncReady" : "Archived";
            expect(await a1.status()).toMatchObject({ state, trouble: { code: "no-space" } });
            expect(await scene.check(a1, "full")).toEqual(before);
          } else expect(skip).toBeGreaterThan(0);
          await scene.replicate(a0, a1);
          expect((await scene.check(a1, "with room")).at(-1)).toBe(4);
          expect((await a1.status()).trouble).toBeUndefined();
        });
      }
    });
  }
});
