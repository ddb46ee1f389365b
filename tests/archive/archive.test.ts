import { afterAll, describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import type { RunningRole } from "../../src/control/role.ts";
import { Codec } from "../../src/native/codec.ts";
import { closePlatform, createPlatform } from "../../src/platform/real/index.ts";
import { withTemporaryDirectory } from "../helpers/temporary.ts";
import { codeOf, expectSame, gidsOf, openTestArchive, pointsOf, run, statusOf } from "./harness.ts";
import { Chance, History } from "./model.ts";
import { logUuid, sendDiff, sendImage, startS } from "./peers.ts";

const mib = 1024 * 1024;
const platform = createPlatform({ memoryBudgetBytes: 1400 * mib, threads: 2 });
/** The peers' memory, so that what the archives leave leased can be seen. */
const peerPlatform = { ...platform, memory: platform.memory.carve(64 * mib) };
afterAll(() => closePlatform(platform));

interface Scene {
  readonly directory: string;
  readonly data: string;
  role: RunningRole;
  readonly peer: { platform: typeof platform; readonly address: RunningRole["address"] };
}

/** An archive in a directory of its own; every lease must be back at its end. */
async function withArchive(use: (scene: Scene) => Promise<void>, options = {}): Promise<void> {
  await withTemporaryDirectory(async (directory) => {
    const data = `${directory}/data`;
    const pools: { leasedBytes: number }[] = [];
    const own = createPool();
    const archivePlatform = { ...platform, memory: own.pool };
    const scene: Scene = {
      directory,
      data,
      role: await openTestArchive(archivePlatform, data, options),
      peer: {
        platform: peerPlatform,
        get address() {
          return scene.role.address;
        },
      },
    };
    try {
      await use(scene);
    } finally {
      await scene.role.close("graceful");
    }
    for (const pool of [...pools, ...own.carved]) expect(pool.leasedBytes).toBe(0);
    expect(peerPlatform.memory.leasedBytes).toBe(0);
  });
}

/** A pool for one archive that knows what was carved from it. */
function createPool() {
  const carved: { leasedBytes: number }[] = [];
  const pool: typeof platform.memory = {
    budgetBytes: 400 * mib,
    leasedBytes: 0,
    tryLease: () => undefined,
    lease: () => Promise.reject(new Error("only parts are leased from")),
    carve(sizeBytes) {
      const part = shared.get(sizeBytes) ?? platform.memory.carve(sizeBytes);
      shared.set(sizeBytes, part);
      carved.push(part);
      return part;
    },
  };
  return { pool, carved };
}
/** Budgets carved are gone for good, so that archives of this file, one at a time, use the same. */
const shared = new Map<number, typeof platform.memory>();

async function archived(scene: Scene, history: History, gidE = 0): Promise<void> {
  await run(scene.role.control, "init", { volume: "vol0" });
  const image = history.fuzzy(gidE);
  const answer = await sendImage(scene.peer, image, { gidE: BigInt(gidE) });
  expect(answer.kind).toBe("accept");
}

async function deliver(scene: Scene, history: History, from: number, to: number, options = {}): Promise<string> {
  const answer = await sendDiff(scene.peer, from, to, history.diff(from, to), { sizeLb: history.sizeLb, ...options });
  return answer.kind === "word" ? answer.word : answer.kind;
}

let restores = 0;
async function restored(scene: Scene, params = {}): Promise<Uint8Array> {
  const to = `${scene.directory}/restored-${restores++}.img`;
  await run(scene.role.control, "restore", { volume: "vol0", to, ...params });
  return readFileSync(to);
}

async function expectAllRestorable(scene: Scene, history: History): Promise<number[]> {
  const gids = await gidsOf(scene.role.control);
  for (const gid of gids) {
    expectSame(await restored(scene, { gid }), history.at(gid), `gid ${gid}`);
  }
  return gids;
}

describe("a full backup", () => {
  test("equals the source, whatever size, bulk and codec", async () => {
    const cases: readonly (readonly [number, number, Codec])[] = [
      [1, 8192, Codec.snappy],
      [4096, 1, Codec.lz4],
      [4096 + 13, 128, Codec.none],
      [20000 + 7, 512, Codec.zstd],
      [20000, 8192, Codec.gzip],
    ];
    for (const [sizeLb, bulkLb, codec] of cases) {
      await withArchive(async (scene) => {
        const history = new History(sizeLb, sizeLb);
        await run(scene.role.control, "init", { volume: "vol0" });
        const answer = await sendImage(scene.peer, history.at(0), { bulkLb, codec, gidE: 0n });
        expect(answer.kind).toBe("accept");
        expectSame(await restored(scene), history.at(0), `${sizeLb} LB in bulks of ${bulkLb}`);
        const status = await statusOf(scene.role.control);
        expect(status).toMatchObject({
          state: "Archived",
          sizeLb,
          base: "<|0|>",
          imageBytes: sizeLb * 512,
          running: [],
        });
        expect(status.trouble).toBeUndefined();
      });
    }
  });

  test("keeps zero bulks as holes", async () => {
    await withArchive(async (scene) => {
      const image = new Uint8Array(64 * mib);
      image.set([1, 2, 3], 32 * mib);
      await run(scene.role.control, "init", { volume: "vol0" });
      await sendImage(scene.peer, image, { bulkLb: 512, gidE: 0n });
      expect(statSync(`${scene.data}/vol0/base.img`).blocks * 512).toBeLessThan(mib);
      const to = `${scene.directory}/out.img`;
      await run(scene.role.control, "restore", { volume: "vol0", to });
      expect(statSync(to).blocks * 512).toBeLessThan(mib);
      expectSame(readFileSync(to), image, "restored");
    });
  });

  test("is repeated from the start after it broke off, also with another size", async () => {
    await withArchive(async (scene) => {
      const history = new History(4000, 3);
      history.step();
      await run(scene.role.control, "init", { volume: "vol0" });
      for (const sizeLb of [9000, 1000]) {
        const other = new History(sizeLb, sizeLb).at(0);
        const broken = sendImage(scene.peer, other, {
          async beforeBulk(offsetLb) {
            if (offsetLb < sizeLb / 2) return;
            const { running, state } = await statusOf(scene.role.control);
            expect(state).toBe("FullSync");
            expect(running).toMatchObject([{ action: "FullSync", totalBytes: sizeLb * 512 }]);
            expect(await deliver(scene, history, 0, 1)).toBe("syncing");
            throw new Error("the storage died");
          },
        });
        await expect(broken).rejects.toThrow("the storage died");
        await untilState(scene, "SyncReady");
        expect((await statusOf(scene.role.control)).trouble).toMatchObject({ code: "unreachable" });
      }
      await sendImage(scene.peer, history.at(0), { gidE: 0n });
      expectSame(await restored(scene), history.at(0), "restored");
      expect((await statusOf(scene.role.control)).trouble).toBeUndefined();
    });
  });

  test("is refused by text in a wrong state, for an unknown volume, and from anybody but a storage", async () => {
    await withArchive(async (scene) => {
      const image = new History(100, 1).at(0);
      expect(await sendImage(scene.peer, image)).toMatchObject({ text: expect.stringContaining("does not know") });
      await run(scene.role.control, "init", { volume: "vol0" });
      expect(await sendImage(scene.peer, image, { hostType: "proxy" })).toMatchObject({ kind: "text" });
      expect((await sendImage(scene.peer, image, { gidE: 0n })).kind).toBe("accept");
      expect(await sendImage(scene.peer, image)).toMatchObject({ text: expect.stringContaining("needs SyncReady") });
      expect(await gidsOf(scene.role.control)).toEqual([0]);
    });
  });

  test("is ended by a forced stop and is SyncReady then", async () => {
    await withArchive(async (scene) => {
      await run(scene.role.control, "init", { volume: "vol0" });
      const image = new History(4000, 1).at(0);
      const sending = sendImage(scene.peer, image, {
        async beforeBulk(offsetLb) {
          if (offsetLb === 2000) await run(scene.role.control, "stop", { volume: "vol0", mode: "force" });
        },
      });
      expect(await codeOf(sending)).toBe("unreachable");
      expect((await statusOf(scene.role.control)).state).toBe("SyncReady");
    });
  });

  async function untilState(scene: Scene, state: string): Promise<void> {
    for (let i = 0; i < 500; i++) {
      if ((await statusOf(scene.role.control)).state === state) return;
      await platform.clock.sleep(10);
    }
    throw new Error(`the volume does not become ${state}`);
  }
});

describe("diffs", () => {
  test("turn the dirty copy of a full backup into restorable points", async () => {
    await withArchive(async (scene) => {
      const history = new History(5003, 11);
      for (let i = 0; i < 6; i++) history.step();
      await archived(scene, history, 4);
      expect(await gidsOf(scene.role.control)).toEqual([]);
      const empty = run(scene.role.control, "restore", { volume: "vol0", to: `${scene.directory}/no` });
      expect(await codeOf(empty)).toBe("not-restorable");
      expect(await deliver(scene, history, 0, 2, { isMergeable: false })).toBe("accept");
      expect(await gidsOf(scene.role.control)).toEqual([]);
      expect(await deliver(scene, history, 2, 5)).toBe("accept");
      expect(await deliver(scene, history, 5, 6, { isMergeable: false })).toBe("accept");
      expect(await expectAllRestorable(scene, history)).toEqual([5, 6]);
      const status = await statusOf(scene.role.control);
      expect(status).toMatchObject({ latest: "|6|", wdiffCount: 3, pointCount: 2, base: "<|0,4|>" });
    });
  });

  test("are answered in the order that proxies rely on", async () => {
    await withArchive(async (scene) => {
      const history = new History(1000, 5);
      for (let i = 0; i < 9; i++) history.step();
      expect(await deliver(scene, history, 0, 1)).toBe("text");
      await archived(scene, history);
      const { control } = scene.role;
      expect(await deliver(scene, history, 0, 1, { hostType: "storage" })).toBe("text");
      expect(await deliver(scene, history, 0, 1, { uuid: "f".repeat(32) })).toBe("different-uuid");
      // The uuid comes before the size, the size before the gids.
      expect(await deliver(scene, history, 5, 6, { uuid: "f".repeat(32), sizeLb: 2000 })).toBe("different-uuid");
      expect(await deliver(scene, history, 5, 6, { sizeLb: 2000 })).toBe("smaller-lv-size");
      expect(await deliver(scene, history, 5, 6)).toBe("too-new-diff");
      expect(await deliver(scene, history, 0, 3)).toBe("accept");
      expect(await deliver(scene, history, 0, 3)).toBe("too-old-diff");
      expect(await deliver(scene, history, 1, 2)).toBe("too-old-diff");
      expect(await deliver(scene, history, 1, 4)).toBe("accept");
      expect(await deliver(scene, history, 0, 5, { isCompared: true })).toBe("text");
      expect(await deliver(scene, history, 4, 5, { uuid: "f".repeat(32), hostType: "archive" })).toBe("accept");
      await run(control, "stop", { volume: "vol0", mode: "graceful" });
      expect(await deliver(scene, history, 5, 6, { uuid: "f".repeat(32) })).toBe("stopped");
      await run(control, "start", { volume: "vol0" });
      expect(await deliver(scene, history, 5, 6, { volume: "../vol0" })).toBe("text");
      const nested: string[] = [];
      await deliver(scene, history, 5, 6, {
        beforePack: async () => {
          nested.push(await deliver(scene, history, 5, 6));
        },
        recordsPerPack: 1000,
      });
      expect(nested.every((word) => word === "wdiff-recv")).toBe(true);
      await expectAllRestorable(scene, history);
    });
  });

  test("leave nothing behind when they come damaged, beyond the volume, or not to their end", async () => {
    await withArchive(async (scene) => {
      const history = new History(1000, 8);
      while (history.diff(0, history.gid).length < 4) history.step();
      await archived(scene, history);
      const spoilers: object[] = [
        { spoil: (pack: Uint8Array) => (pack[pack.length - 1]! ^= 1) },
        { spoil: (pack: Uint8Array) => (pack[100]! ^= 1) },
        { sizeLb: 10 },
        {
          recordsPerPack: 1,
          beforePack(index: number) {
            if (index === 2) throw new Error("the proxy died");
          },
        },
      ];
      for (const options of spoilers) {
        await expect(deliver(scene, history, 0, history.gid, options)).rejects.toThrow();
        for (let i = 0; i < 300 && (await statusOf(scene.role.control)).state !== "Archived"; i++) {
          await platform.clock.sleep(10);
        }
        expect(readdirSync(`${scene.data}/vol0`).filter((name) => /wdiff|receiving/.test(name))).toEqual([]);
        expect((await statusOf(scene.role.control)).trouble).toBeDefined();
      }
      expect(await deliver(scene, history, 0, history.gid)).toBe("accept");
      expect((await statusOf(scene.role.control)).trouble).toBeUndefined();
      expect(await expectAllRestorable(scene, history)).toEqual([0, history.gid]);
    });
  });

  test("of several volumes come in at the same time", async () => {
    await withArchive(async (scene) => {
      const names = ["a", "b", "c", "d"];
      const histories = names.map((_, i) => new History(2000, 40 + i));
      for (const history of histories) for (let i = 0; i < 20; i++) history.step();
      await Promise.all(
        names.map(async (volume, i) => {
          const history = histories[i]!;
          await run(scene.role.control, "init", { volume });
          for (let answer = "text"; answer !== "accept"; ) {
            answer = (await sendImage(scene.peer, history.at(0), { volume, gidE: 0n })).kind;
          }
          for (let gid = 0; gid < 20; gid += 2) {
            expect(await deliver(scene, history, gid, gid + 2, { volume })).toBe("accept");
          }
          const to = `${scene.directory}/${volume}.img`;
          await run(scene.role.control, "restore", { volume, to, gid: 20 });
          expectSame(readFileSync(to), history.at(20), volume);
        }),
      );
    });
  });

  test("wait for a larger image, or grow it where that is allowed", async () => {
    const history = new History(1000, 5);
    await withArchive(async (scene) => {
      await archived(scene, history);
      const grown = new History(1500, 6);
      grown.step();
      expect(await deliver(scene, grown, 0, 1)).toBe("smaller-lv-size");
      expect((await statusOf(scene.role.control)).trouble).toMatchObject({ hint: expect.stringContaining("resize") });
      await run(scene.role.control, "resize", { volume: "vol0", sizeLb: 1500 });
      expect(await codeOf(run(scene.role.control, "resize", { volume: "vol0", sizeLb: 1400 }))).toBe("out-of-range");
      expect(await deliver(scene, grown, 0, 1)).toBe("accept");
      expect((await restored(scene)).length).toBe(1500 * 512);
    });
    await withArchive(
      async (scene) => {
        await archived(scene, history);
        const grown = new History(1500, 6);
        grown.step();
        expect(await deliver(scene, grown, 0, 1)).toBe("accept");
        expect((await statusOf(scene.role.control)).sizeLb).toBe(1500);
      },
      { isAutoResize: true },
    );
  });
});

describe("random histories", () => {
  for (const seed of [1, 2, 3, 4]) {
    test(`with overlaps, apply, merge and restarts are restored as the model has them (seed ${seed})`, async () => {
      await withArchive(
        async (scene) => {
          const chance = new Chance(seed * 7919);
          const history = new History(chance.between(700, 4000), seed);
          const gidE = chance.between(0, 3);
          for (let i = 0; i < gidE; i++) history.step();
          await archived(scene, history, gidE);
          let last = 0;
          for (let turn = 0; turn < 30; turn++) {
            const { control } = scene.role;
            const gids = await gidsOf(control);
            const kind = chance.between(0, 9);
            if (kind <= 5) {
              const count = chance.between(1, 3);
              for (let i = 0; i < count || history.gid <= last; i++) history.step();
              const from = chance.is(0.2) ? Math.max(0, last - chance.between(0, 2)) : last;
              const isMergeable = chance.is(0.6);
              expect(await deliver(scene, history, from, history.gid, { isMergeable })).toBe("accept");
              last = history.gid;
            } else if (kind === 6 && gids.length > 2) {
              const gid = gids[chance.between(0, gids.length - 2)]!;
              const code = await codeOf(run(control, "apply", { volume: "vol0", gid }));
              expect(["none", "state"]).toContain(code);
              expect((await gidsOf(control)).at(-1)).toBe(gids.at(-1));
            } else if (kind === 7 && gids.length > 1) {
              const fromGid = gids[chance.between(0, gids.length - 1)]!;
              const explicit = (await pointsOf(control)).filter((point) => point.isExplicit).map(({ gid }) => gid);
              expect(["none", "state"]).toContain(await codeOf(run(control, "merge", { volume: "vol0", fromGid })));
              const after = (await pointsOf(control)).map(({ gid }) => gid);
              for (const gid of explicit) expect(after).toContain(gid);
            } else if (kind === 8) {
              await scene.role.close("graceful");
              scene.role = await reopened(scene);
              expect(await gidsOf(scene.role.control)).toEqual(gids);
            }
            if (chance.is(0.3)) await expectAllRestorable(scene, history);
          }
          const gids = await expectAllRestorable(scene, history);
          expect(gids.at(-1)).toBe(last);
        },
        { openDiffsMax: seed % 2 === 0 ? 2 : 0 },
      );
    }, 30_000);
  }

  async function reopened(scene: Scene): Promise<RunningRole> {
    return openTestArchive({ ...platform, memory: createPool().pool }, scene.data);
  }
});

describe("a restore", () => {
  async function filled(scene: Scene): Promise<History> {
    const history = new History(3000, 21);
    for (let i = 0; i < 8; i++) history.step();
    await archived(scene, history);
    for (const gid of [2, 4, 5, 8]) {
      const from = [0, 2, 4, 5][[2, 4, 5, 8].indexOf(gid)]!;
      expect(await deliver(scene, history, from, gid, { isMergeable: gid !== 5 })).toBe("accept");
    }
    return history;
  }

  test("picks the newest point that is not after a time, and says which are near when there is none", async () => {
    await withArchive(async (scene) => {
      const history = await filled(scene);
      const at = async (atS: number) => restored(scene, { atMs: atS * 1000 + 999 });
      expectSame(await at(startS + 5), history.at(5), "exactly");
      expectSame(await at(startS + 7), history.at(5), "between");
      expectSame(await at(startS + 1000), history.at(8), "later");
      expectSame(await restored(scene), history.at(8), "newest");
      const to = `${scene.directory}/never`;
      const early = run(scene.role.control, "restore", { volume: "vol0", to, atMs: (startS - 1) * 1000 });
      await expect(early).rejects.toThrow(/nearest is after it gid 0/);
      const between = run(scene.role.control, "restore", { volume: "vol0", to, gid: 6 });
      await expect(between).rejects.toThrow(/before it gid 5.*after it gid 8/);
      expect(existsSync(to)).toBe(false);
    });
  });

  test("refuses what it would overwrite and paths among the backups, and replaces only when told to", async () => {
    await withArchive(async (scene) => {
      const history = await filled(scene);
      const to = `${scene.directory}/there.img`;
      writeFileSync(to, "precious");
      const { control } = scene.role;
      expect(await codeOf(run(control, "restore", { volume: "vol0", to }))).toBe("already-exists");
      expect(readFileSync(to, "utf8")).toBe("precious");
      await run(control, "restore", { volume: "vol0", to, overwrite: true, gid: 4 });
      expectSame(readFileSync(to), history.at(4), "overwritten");
      for (const path of [`${scene.data}/x`, `${scene.data}/vol0/../y`, scene.directory]) {
        expect(await codeOf(run(control, "restore", { volume: "vol0", to: path, overwrite: true }))).toBe(
          "bad-parameter",
        );
      }
      expect(await codeOf(run(control, "restore", { volume: "vol0", to: `${scene.directory}/no/x` }))).toBe(
        "not-found",
      );
      expect(readdirSync(scene.directory).filter((name) => name.includes("partial"))).toEqual([]);
    });
  });

  test("tells in a dry run what it takes, and writes nothing", async () => {
    await withArchive(async (scene) => {
      await filled(scene);
      const to = `${scene.directory}/dry.img`;
      const dry = await run(scene.role.control, "restore", { volume: "vol0", to, dryRun: true });
      expect(dry).toMatchObject({ gid: 8n, sizeBytes: 3000 * 512, timeMs: (startS + 8) * 1000 });
      expect(Number(dry.bytes)).toBeGreaterThan(0);
      expect(Number(dry.estimateMs)).toBeGreaterThan(0);
      expect(existsSync(to)).toBe(false);
      const real = await run(scene.role.control, "restore", { volume: "vol0", to });
      expect(Number(real.bytes)).toBeGreaterThan(0);
    });
  });

  test("that meets a damaged diff names it, what it costs and what is left, and leaves no file", async () => {
    await withArchive(async (scene) => {
      const history = await filled(scene);
      const file = readdirSync(`${scene.data}/vol0`).find((name) => name.endsWith("-4-5.wdiff"))!;
      const path = `${scene.data}/vol0/${file}`;
      const bytes = readFileSync(path);
      bytes[32 + 4096 + 3]! ^= 0x40;
      writeFileSync(path, bytes);
      const to = `${scene.directory}/damaged.img`;
      const failing = run(scene.role.control, "restore", { volume: "vol0", to, gid: 8 });
      await expect(failing).rejects.toThrow(/gid 5 .*gid 8 .*still restorable: gid 0 .*gid 2 .*gid 4/);
      expect(await codeOf(run(scene.role.control, "restore", { volume: "vol0", to, gid: 5 }))).toBe("damaged");
      expect(readdirSync(scene.directory).filter((name) => name.startsWith("damaged"))).toEqual([]);
      expect((await statusOf(scene.role.control)).trouble).toMatchObject({ code: "damaged" });
      expectSame(await restored(scene, { gid: 4 }), history.at(4), "what is left");
      // An apply finds it before the image is touched: what was restorable stays so.
      expect(await codeOf(run(scene.role.control, "apply", { volume: "vol0", gid: 8 }))).toBe("damaged");
      expectSame(await restored(scene, { gid: 2 }), history.at(2), "after the refused apply");
    });
  });

  test("goes on while diffs arrive and are merged", async () => {
    await withArchive(async (scene) => {
      const history = await filled(scene);
      const restoring = Promise.all([restored(scene, { gid: 4 }), restored(scene, { gid: 2 })]);
      const merging = run(scene.role.control, "merge", { volume: "vol0", fromGid: 0, toGid: 4 });
      const [four, two] = await restoring;
      expectSame(four, history.at(4), "gid 4");
      expectSame(two, history.at(2), "gid 2");
      await merging;
      expect(await gidsOf(scene.role.control)).toEqual([0, 4, 5, 8]);
      const files = readdirSync(`${scene.data}/vol0`).filter((name) => name.endsWith(".wdiff"));
      expect(files.length).toBe(3);
    });
  });
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
      await expect(run(control, "apply", { volume: "vol0", gid: 4 })).rejects.toThrow(/protected points: gid 2/);
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
      expect(readdirSync(scene.data)).toEqual(["walb.lock"]);
      expect(await run(control, "volumes")).toEqual({ volumes: [] });
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
      scene.role = await openTestArchive({ ...platform, memory: createPool().pool }, scene.data);
      expect(readdirSync(directory).filter((name) => name.endsWith(".tmp"))).toEqual([]);
      expect(readdirSync(scene.data)).toEqual(["vol0", "walb.lock"]);
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
      scene.role = await openTestArchive({ ...platform, memory: createPool().pool }, scene.data);
      expect(await expectAllRestorable(scene, history)).toEqual([0, 1, 2, 3, 4]);
      const { trouble, state } = await statusOf(scene.role.control);
      expect(state).toBe("Archived");
      expect(trouble).toMatchObject({ code: "damaged", message: expect.stringMatching(/-4-5.wdiff.*gid 5.*gid 6/) });
      expect(readdirSync(`${directory}/quarantine`).sort()).toEqual([cut, "20270115081000-M--6-7.wdiff"].sort());
      // Put back, it is taken again.
      await scene.role.close("graceful");
      writeFileSync(`${directory}/${cut}`, original);
      scene.role = await openTestArchive({ ...platform, memory: createPool().pool }, scene.data);
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
        scene.role = await openTestArchive({ ...platform, memory: createPool().pool }, scene.data);
        expect(await pointsOf(scene.role.control)).toEqual(before);
        expect((await statusOf(scene.role.control)).trouble).toMatchObject({ code: "damaged" });
        expect(await expectAllRestorable(scene, history)).toEqual([2, 3, 4, 5, 6]);
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
      Bun.spawnSync(["rm", `${scene.data}/other/base.img`]);
      scene.role = await openTestArchive({ ...platform, memory: createPool().pool }, scene.data);
      expect(await statusOf(scene.role.control, "other")).toMatchObject({
        state: "Broken",
        trouble: { code: "damaged", message: expect.stringContaining("base image is missing") },
      });
      expectSame(await restored(scene), history.at(0), "the other volume");
      history.step();
      expect(await deliver(scene, history, 0, 1, { volume: "other", uuid: logUuid })).toBe("text");
      expect(await deliver(scene, history, 0, 1)).toBe("accept");
    });
  });
});
