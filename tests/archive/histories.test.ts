import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import type { Control } from "../../src/control/control.ts";
import type { RunningRole } from "../../src/control/role.ts";
import { createSimWorld } from "../../src/sim/sim.ts";
import { codeOf, expectError } from "../helpers/errors.ts";
import { expectSame, gidsOf, openTestArchive, pointsOf, run } from "./harness.ts";
import { Chance, History } from "./model.ts";
import { type Peer, sendDiff, sendImage } from "./peers.ts";
import { archived, deliver, expectAllRestorable, reopened, withArchive } from "./real.ts";

/** An archive, whatever it runs on. */
interface Driver {
  readonly peer: Peer;
  control(): Control;
  /** The bytes of a file that a restore wrote. */
  read(path: string, sizeBytes: number): Uint8Array;
  readonly directory: string;
  restart(): Promise<void>;
}

const volume = "vol0";

/** Receives, applies, merges and restarts by chance; every point must be as the model has it. @returns what was done. */
async function randomHistory(driver: Driver, seed: number, turns: number): Promise<Record<string, number>> {
  const chance = new Chance(seed * 7919);
  const history = new History(chance.between(300, 3000), seed);
  const { sizeLb } = history;
  const done: Record<string, number> = { receive: 0, apply: 0, merge: 0, restart: 0, keep: 0, flags: 0 };
  /** Gids of images that the archive keeps. */
  const kept = new Set<number>();
  const gidE = chance.between(0, 3);
  for (let i = 0; i < gidE; i++) history.step();
  await run(driver.control(), "init", { volume });
  const synced = await sendImage(driver.peer, history.fuzzy(gidE), { gidE: BigInt(gidE), bulkLb: 64 });
  expect(synced.kind).toBe("accept");

  const compareAll = async (): Promise<number[]> => {
    const gids = await gidsOf(driver.control());
    for (const gid of gids) {
      const to = `${driver.directory}/out.img`;
      await run(driver.control(), "restore", { volume, to, gid, overwrite: true });
      expectSame(driver.read(to, sizeLb * 512), history.at(gid), `gid ${gid}`);
    }
    const { restored } = await run(driver.control(), "restored", { volume });
    const images = restored as { gid: bigint; path: string }[];
    expect(images.map(({ gid }) => Number(gid))).toEqual([...kept].sort((a, b) => a - b));
    for (const { gid, path } of images) {
      expectSame(driver.read(path, sizeLb * 512), history.at(gid), `kept image of gid ${gid}`);
    }
    const newest = await run(driver.control(), "verify", { volume });
    expect(newest).toMatchObject({ damage: [], lostPointCount: 0 });
    return gids;
  };

  const act = async (last: number): Promise<number> => {
    const control = driver.control();
    const gids = await gidsOf(control);
    const kind = chance.between(0, 12);
    if (kind <= 5) {
      const count = chance.between(1, 3);
      for (let i = 0; i < count || history.gid <= last; i++) history.step();
      const from = chance.is(0.2) ? Math.max(0, last - chance.between(0, 2)) : last;
      const options = { sizeLb, isMergeable: chance.is(0.6), recordsPerPack: chance.between(1, 127) };
      const answer = await sendDiff(driver.peer, from, history.gid, history.diff(from, history.gid), options);
      expect(answer).toEqual({ kind: "accept" });
      done.receive!++;
      return history.gid;
    }
    if (kind === 6 && gids.length > 2) {
      const gid = gids[chance.between(1, gids.length - 2)]!;
      await run(control, "apply", { volume, gid });
      expect(await gidsOf(control)).toEqual(gids.filter((known) => known >= gid));
      const { cold } = await run(control, "cold", { volume });
      for (const point of cold as { gid: bigint }[]) expect(Number(point.gid)).toBeGreaterThan(gid);
      done.apply!++;
    } else if (kind === 7 && gids.length > 1) {
      const fromGid = gids[chance.between(0, gids.length - 1)]!;
      const explicit = (await pointsOf(control)).filter((point) => point.isExplicit).map(({ gid }) => gid);
      const code = await codeOf(run(control, "merge", { volume, fromGid }));
      expect(["no error", "state"]).toContain(code);
      const after = (await pointsOf(control)).map(({ gid }) => gid);
      for (const gid of explicit) expect(after).toContain(gid);
      if (code === "no error") done.merge!++;
    } else if (kind === 8) {
      await driver.restart();
      expect(await gidsOf(driver.control())).toEqual(gids);
      done.restart!++;
    } else if (kind <= 10 && gids.length > 0) {
      const gid = gids[chance.between(0, gids.length - 1)]!;
      if (kept.has(gid) && chance.is(0.5)) {
        await run(control, "del-restored", { volume, gid });
        kept.delete(gid);
      } else {
        await run(control, "restore", { volume, gid, overwrite: kept.has(gid) });
        kept.add(gid);
      }
      done.keep!++;
    } else if (kind === 11 && gids.length > 1) {
      const some = gids.slice(0, -1).filter(() => chance.is(0.4));
      const command = chance.is(0.5) ? "disable-snapshot" : "enable-snapshot";
      if (some.length === 0) return last;
      // No diff starts at a point that overlapping ones pass by.
      expect(["no error", "not-found"]).toContain(await codeOf(run(control, command, { volume, gids: some })));
      expect(await gidsOf(control)).toEqual(gids);
      done.flags!++;
    } else if (kind === 12) {
      await run(control, "gc-diff", { volume });
      expect(await gidsOf(control)).toEqual(gids);
    }
    return last;
  };

  let last = 0;
  for (let turn = 0; turn < turns; turn++) {
    last = await act(last);
    if (chance.is(0.3)) await compareAll();
  }
  expect((await compareAll()).at(-1)).toBe(last);
  return done;
}

describe("random histories with overlaps, apply, merge and restarts", () => {
  test("are restored as the model has them, on simulated disks, killed and restarted", async () => {
    const sums: Record<string, number> = {};
    for (let seed = 1; seed <= 16; seed++) {
      const world = createSimWorld(seed);
      const disk = { reflink: seed % 3 !== 0, alignmentBytes: seed % 4 === 0 ? 4096 : 512 } as const;
      const archive = world.host("archive", { memoryBytes: 320 * 1024 * 1024, disk });
      const client = world.host("client");
      const listen = { kind: "tcp", host: "", port: 1 } as const;
      const options = { listen, openDiffsMax: seed % 2 === 0 ? 2 : 0, isOneColdKept: seed % 5 === 0 };
      try {
        const done = await world.complete(async () => {
          let role: RunningRole = await openTestArchive(archive.platform, "/data", options);
          return randomHistory(
            {
              peer: { platform: client.platform, address: { kind: "tcp", host: "archive", port: 1 } },
              control: () => role.control,
              read: (path, sizeBytes) => archive.storage.peek(path, 0, sizeBytes),
              directory: "",
              async restart() {
                if (seed % 2 === 0) archive.crash();
                else archive.kill();
                role = await openTestArchive(archive.restart(), "/data", options);
              },
            },
            seed,
            40,
          );
        });
        for (const [name, count] of Object.entries(done)) sums[name] = (sums[name] ?? 0) + count;
      } catch (error) {
        throw new Error(`seed ${seed}: ${String(error)}`, { cause: error });
      } finally {
        world.close();
      }
    }
    for (const name of ["receive", "apply", "merge", "restart", "keep", "flags"])
      expect(sums[name]).toBeGreaterThan(10);
  }, 300_000);

  test("are restored as the model has them, on the real platform", async () => {
    await withArchive(async (scene) => {
      await randomHistory(
        {
          peer: scene.peer,
          control: () => scene.role.control,
          read: (path) => readFileSync(path),
          directory: scene.directory,
          async restart() {
            await scene.role.close("graceful");
            scene.role = await reopened(scene);
          },
        },
        3,
        20,
      );
    });
  }, 300_000);
});

describe("labels and protection", () => {
  test("are kept before the snapshot arrives, through merges and restarts, and keep an apply away", async () => {
    await withArchive(async (scene) => {
      const history = new History(1000, 31);
      for (let i = 0; i < 6; i++) history.step();
      await archived(scene, history);
      const { control } = scene.role;
      await run(control, "label-snapshot", { volume: "vol0", gid: 2, label: "before upgrade", protect: true });
      for (let gid = 0; gid < 6; gid++) await deliver(scene, history, gid, gid + 1);
      await run(control, "label-snapshot", { volume: "vol0", gid: 4, label: "monday" });
      await run(control, "merge", { volume: "vol0", fromGid: 0 });
      await run(control, "merge", { volume: "vol0", fromGid: 2 });
      await run(control, "merge", { volume: "vol0", fromGid: 4 });
      expect(await gidsOf(control)).toEqual([0, 2, 4, 6]);
      await expectError(run(control, "apply", { volume: "vol0", gid: 4 }), /protected points: gid 2/);
      const { snapshots } = await run(control, "snapshots", { volume: "vol0" });
      expect(snapshots).toMatchObject([
        { gid: 0n },
        { gid: 2n, label: "before upgrade", isProtected: true },
        { gid: 4n, label: "monday", isProtected: false },
        { gid: 6n, isExplicit: true },
      ]);
      await run(control, "label-snapshot", { volume: "vol0", gid: 2, label: "", protect: false });
      await run(control, "apply", { volume: "vol0", gid: 4 });
      expect(await expectAllRestorable(scene, history)).toEqual([4, 6]);
    });
  });
});
