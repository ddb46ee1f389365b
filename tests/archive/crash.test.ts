import { describe, expect, mock, spyOn, test } from "bun:test";
import { ArchiveStore } from "../../src/archive/store.ts";
import type { RunningRole } from "../../src/control/role.ts";
import { WalbError } from "../../src/errors.ts";
import type { SimHost } from "../../src/sim/api.ts";
import { createSimWorld, type SimWorld } from "../../src/sim/sim.ts";
import { expectSame, gidsOf, openTestArchive, pointsOf, run, statusOf } from "./harness.ts";
import { History } from "./model.ts";
import { sendDiff, sendImage } from "./peers.ts";

const mib = 1024 * 1024;
const sizeLb = 300;
const listen = { kind: "tcp", host: "", port: 10200 } as const;
const address = { kind: "tcp", host: "archive", port: 10200 } as const;

/** An archive and its peers in a world of their own. */
class Scene {
  readonly world: SimWorld;
  readonly archive: SimHost;
  readonly client: SimHost;
  readonly history: History;
  role!: RunningRole;

  constructor(seed: number, isReflink = seed % 2 === 0) {
    this.world = createSimWorld(seed);
    const disk = { reflink: isReflink };
    this.archive = this.world.host("archive", { memoryBytes: 320 * mib, disk });
    this.client = this.world.host("client", { memoryBytes: 64 * mib });
    this.history = new History(sizeLb, seed);
    for (let i = 0; i < 6; i++) this.history.step();
  }

  /** Ends the archive, so that somebody else can put its files in order before it is opened again. */
  restartIdle(): void {
    this.archive.kill();
    this.archive.restart();
  }

  /** Runs work to its end, or until the archive is down. @returns whether it ended, and how. */
  async attempt<T>(work: () => Promise<T>): Promise<{ readonly value: T } | { readonly error: unknown } | "crashed"> {
    let outcome: { readonly value: T } | { readonly error: unknown } | undefined;
    await this.world.complete(async () => {
      void work().then(
        (value) => {
          outcome = { value };
        },
        (error: unknown) => {
          outcome = { error };
        },
      );
    });
    await this.world.runUntil(() => outcome !== undefined || !this.archive.isUp);
    // A crash that only the peers see as broken connections.
    if (!this.archive.isUp) return "crashed";
    return outcome!;
  }

  async do<T>(work: () => Promise<T>): Promise<T> {
    return this.world.complete(work);
  }

  async open(): Promise<void> {
    if (!this.archive.isUp) this.archive.restart();
    this.role = await this.do(() => openTestArchive(this.archive.platform, "/data", { listen }));
  }

  sync(): Promise<unknown> {
    const peer = { platform: this.client.platform, address };
    return sendImage(peer, this.history.fuzzy(2), { gidE: 2n, bulkLb: 64 });
  }

  async diff(from: number, to: number, isMergeable = true, sender = {}): Promise<string> {
    const peer = { platform: this.client.platform, address };
    const options = { sizeLb, isMergeable, recordsPerPack: 3, ...sender };
    const answer = await sendDiff(peer, from, to, this.history.diff(from, to), options);
    return answer.kind === "word" ? answer.word : answer.kind;
  }

  command(name: string, params: object = {}): Promise<Record<string, unknown>> {
    return run(this.role.control, name, { volume: "vol0", ...params });
  }

  /** Init, backup, diffs 0→3→4→5→6; gid 3 dirty start, 4 explicit. */
  async fill(): Promise<void> {
    await this.open();
    await this.do(() => this.command("init"));
    await this.do(() => this.sync());
    for (const [from, to] of [
      [0, 3],
      [3, 4],
      [4, 5],
      [5, 6],
    ] as const) {
      expect(await this.do(() => this.diff(from, to))).toBe("accept");
    }
    await this.do(() => this.command("label-snapshot", { gid: 6, label: "last" }));
    await this.verify("before");
  }

  /** Learns what the base image holds, and finds nothing that only the archive itself has written since it did before. */
  async verify(what: string): Promise<void> {
    const { damage } = await this.do(() => this.command("verify"));
    expect({ what, damage }).toEqual({ what, damage: [] });
  }

  /** Files of images. */
  images(): string[] {
    const paths = this.archive.storage.paths();
    return paths.flatMap((path) => (/^\/data\/vol0\/.*\.img$/.test(path) ? [path.slice("/data/vol0/".length)] : []));
  }

  async gids(): Promise<number[]> {
    return this.do(() => gidsOf(this.role.control));
  }

  /** Restores every point and compares. @returns the gids. */
  async check(what: string): Promise<number[]> {
    const points = await this.do(() => pointsOf(this.role.control));
    for (const { gid } of points) {
      await this.do(() => this.command("restore", { to: "/restored.img", gid, overwrite: true }));
      const found = this.archive.storage.peek("/restored.img", 0, sizeLb * 512);
      expectSame(found, this.history.at(gid), `${what}, gid ${gid}`);
    }
    if (points.length > 0) expect(points.at(-1)).toMatchObject(points.at(-1)!.gid === 6n ? { label: "last" } : {});
    if (points.length > 0) await this.verify(what);
    // A start that has nothing new to write leaves the half of a manifest to the next one that writes.
    const leftovers = this.archive.storage.paths().filter((path) => /(?<!volume\.json)\.tmp$|partial$/.test(path));
    expect(leftovers).toEqual([]);
    return points.map((point) => Number(point.gid));
  }
}

interface Phase {
  readonly prepare: (scene: Scene) => Promise<void>;
  readonly act: (scene: Scene) => Promise<unknown>;
  /** What somebody does before the next start. */
  readonly meanwhile?: (scene: Scene) => Promise<void>;
  readonly recovered: (scene: Scene, what: string) => Promise<void>;
}

/** Crashes at every operation of a phase, with several histories, and looks at what the next start makes of it. */
async function crashEverywhere(
  phase: Phase,
  options: { readonly kill: boolean; readonly seed: number; readonly isReflink?: boolean },
): Promise<number> {
  let crashes = 0;
  for (const seed of [options.seed, options.seed + 100]) {
    crashes += await crashSeed(phase, { ...options, seed });
  }
  return crashes;
}

async function crashSeed(
  phase: Phase,
  options: { readonly kill: boolean; readonly seed: number; readonly isReflink?: boolean },
): Promise<number> {
  let crashes = 0;
  for (let n = 1; ; n++) {
    const scene = new Scene(options.seed * 1000 + n, options.isReflink);
    try {
      await phase.prepare(scene);
      scene.archive.crashAtOperation(n, { kill: options.kill });
      const outcome = await scene.attempt(() => phase.act(scene));
      if (outcome !== "crashed") {
        if ("error" in outcome) throw outcome.error;
        return crashes;
      }
      crashes++;
      await phase.meanwhile?.(scene);
      await scene.open();
      await phase.recovered(scene, `crash at operation ${n}`);
    } catch (error) {
      throw new Error(`crash at operation ${n} of seed ${options.seed}: ${String(error)}`, { cause: error });
    } finally {
      scene.world.close();
    }
  }
}

for (const kill of [true, false]) {
  describe(kill ? "after kill -9" : "after a power loss", () => {
    test("at any step of a full backup the volume is SyncReady, or archived and whole", async () => {
      const crashes = await crashEverywhere(
        {
          async prepare(scene) {
            await scene.open();
            await scene.do(() => scene.command("init"));
          },
          act: (scene) => scene.sync(),
          async recovered(scene, what) {
            const { state } = await scene.do(() => statusOf(scene.role.control));
            expect(["SyncReady", "Archived"]).toContain(String(state));
            if (state === "SyncReady") expect(await scene.do(() => scene.sync())).toEqual({ kind: "accept" });
            expect(await scene.do(() => scene.diff(0, 4))).toBe("accept");
            expect(await scene.check(what)).toEqual([4]);
          },
        },
        { kill, seed: 1 },
      );
      expect(crashes).toBeGreaterThan(20);
    }, 300_000);

    test("at any step of a reception the diff is there when it was acknowledged, and can be sent again", async () => {
      const crashes = await crashEverywhere(
        {
          async prepare(scene) {
            await scene.open();
            await scene.do(() => scene.command("init"));
            await scene.do(() => scene.sync());
            await scene.do(() => scene.diff(0, 3));
          },
          act: (scene) => scene.diff(3, 5),
          async recovered(scene, what) {
            const gids = await scene.check(what);
            const again = await scene.do(() => scene.diff(3, 5));
            expect(again).toBe(gids.includes(5) ? "too-old-diff" : "accept");
            expect(await scene.check(what)).toEqual([3, 5]);
          },
        },
        { kill, seed: 2 },
      );
      expect(crashes).toBeGreaterThan(11);
    }, 300_000);

    test("at any step of a reception of a log that is new here the file is known to belong here, even without a database", async () => {
      const sender = { hostType: "archive", uuid: "a".repeat(32) };
      for (const isDatabaseLost of [false, true]) {
        const crashes = await crashSeed(
          {
            async prepare(scene) {
              await scene.open();
              await scene.do(() => scene.command("init"));
              await scene.do(() => scene.sync());
              await scene.do(() => scene.diff(0, 3));
            },
            act: (scene) => scene.diff(3, 5, true, sender),
            async meanwhile(scene) {
              scene.archive.restart();
              const { disk } = scene.archive.platform;
              if (isDatabaseLost) await scene.do(() => disk.remove("/data/vol0/volume.db"));
            },
            async recovered(scene, what) {
              const files = scene.archive.storage.paths().filter((path) => path.endsWith(".wdiff"));
              expect([what, files.filter((path) => path.includes("quarantine"))]).toEqual([what, []]);
              const gids = await scene.check(what);
              expect([what, gids]).toEqual([what, files.length === 2 ? [3, 5] : [3]]);
              const again = await scene.do(() => scene.diff(3, 5, true, sender));
              expect(again).toBe(gids.includes(5) ? "too-old-diff" : "accept");
              expect(await scene.check(what)).toEqual([3, 5]);
            },
          },
          { kill, seed: isDatabaseLost ? 12 : 13 },
        );
        expect(crashes).toBeGreaterThan(5);
      }
    }, 300_000);

    test("at any step of an apply nothing newer is lost, and the next apply ends it", async () => {
      const crashes = await crashEverywhere(
        {
          prepare: (scene) => scene.fill(),
          act: (scene) => scene.command("apply", { gid: 5 }),
          async recovered(scene, what) {
            const gids = await scene.check(what);
            expect(gids.slice(-2)).toEqual([5, 6]);
            if (gids.length > 2) expect(gids).toEqual([3, 4, 5, 6]);
            await scene.do(() => scene.command("apply", { gid: 5 }).catch(() => undefined));
            expect(await scene.check(`${what}, applied`)).toEqual([5, 6]);
            const { base } = await scene.do(() => statusOf(scene.role.control));
            expect(base).toBe("<|5|>");
          },
        },
        { kill, seed: 3 },
      );
      expect(crashes).toBeGreaterThan(16);
    }, 300_000);

    test("at any step of a merge everything before or after it holds", async () => {
      const crashes = await crashEverywhere(
        {
          prepare: (scene) => scene.fill(),
          act: (scene) => scene.command("merge", { fromGid: 3, toGid: 6 }),
          async recovered(scene, what) {
            const gids = await scene.check(what);
            expect([
              [3, 4, 5, 6],
              [3, 6],
            ]).toContainEqual(gids);
            expect(await scene.do(() => scene.diff(6, scene.history.step()))).toBe("accept");
            expect((await scene.check(what)).at(-1)).toBe(7);
          },
        },
        { kill, seed: 4 },
      );
      expect(crashes).toBeGreaterThan(16);
    }, 300_000);

    test("at any step of a restore there is no file or the whole one, and it can be repeated", async () => {
      const crashes = await crashEverywhere(
        {
          prepare: (scene) => scene.fill(),
          act: (scene) => scene.command("restore", { to: "/out.img", gid: 5 }),
          async recovered(scene, what) {
            expect(scene.archive.storage.paths().filter((path) => path.endsWith("partial"))).toEqual([]);
            if (scene.archive.storage.sizeOf("/out.img") === undefined) {
              await scene.do(() => scene.command("restore", { to: "/out.img", gid: 5 }));
            }
            const found = scene.archive.storage.peek("/out.img", 0, sizeLb * 512);
            expectSame(found, scene.history.at(5), what);
            expect(await scene.check(what)).toEqual([3, 4, 5, 6]);
          },
        },
        { kill, seed: 5 },
      );
      expect(crashes).toBeGreaterThan(16);
    }, 300_000);

    test("at any step of a restore that the archive keeps there is no image or the whole one", async () => {
      const isReflink = kill;
      await crashEverywhere(
        {
          prepare: (scene) => scene.fill(),
          act: (scene) => scene.command("restore", { gid: 5 }),
          async recovered(scene, what) {
            expect(scene.images()).not.toContain("restoring-5.img");
            if (!scene.images().includes("restored-5.img")) await scene.do(() => scene.command("restore", { gid: 5 }));
            const found = scene.archive.storage.peek("/data/vol0/restored-5.img", 0, sizeLb * 512);
            expectSame(found, scene.history.at(5), what);
            expect(scene.images()).toEqual(["base.img", ...(isReflink ? ["cold-5.img"] : []), "restored-5.img"]);
            expect(await scene.check(what)).toEqual([3, 4, 5, 6]);
          },
        },
        { kill, seed: 7, isReflink },
      );
    }, 300_000);

    test("at any step of an apply that puts a kept point in the place of the base, either of them is the base", async () => {
      let promotions = 0;
      for (const gid of [5, 6]) {
        await crashEverywhere(
          {
            async prepare(scene) {
              await scene.fill();
              await scene.do(() => scene.command("restore", { gid: 4 }));
              await scene.do(() => scene.command("restore", { gid: 5 }));
              await scene.do(() => scene.command("del-restored", { gid: 4 }));
            },
            act: (scene) => scene.command("apply", { gid }),
            async recovered(scene, what) {
              expect(scene.images()).not.toContainEqual(expect.stringContaining("promoting"));
              if (scene.images().includes("cold-4.img")) promotions++;
              const gids = await scene.check(what);
              expect([[3, 4, 5, 6], [5, 6], [6]]).toContainEqual(gids);
              await scene.do(() => scene.command("apply", { gid }).catch(() => undefined));
              expect(await scene.check(`${what}, applied`)).toEqual(gid === 5 ? [5, 6] : [6]);
              expect(scene.images()).toEqual(["base.img", "restored-5.img"]);
              const { base } = await scene.do(() => statusOf(scene.role.control));
              expect(base).toBe(`<|${gid}|>`);
              const found = scene.archive.storage.peek("/data/vol0/restored-5.img", 0, sizeLb * 512);
              expectSame(found, scene.history.at(5), what);
            },
          },
          { kill, seed: 9, isReflink: true },
        );
      }
      expect(promotions).toBeGreaterThan(0);
    }, 300_000);

    test("at any step of a promotion of a point of which the manifest could not be told, the volume can be opened", async () => {
      const crashes = await crashEverywhere(
        {
          async prepare(scene) {
            await scene.fill();
            const full = { pathIncludes: "volume.json", kinds: ["write"], effect: "no-space", times: 10 } as const;
            const makeRoom = scene.archive.storage.inject(full);
            await scene.do(() => scene.command("restore", { gid: 5 }));
            makeRoom();
          },
          act: (scene) => scene.command("apply", { gid: 5 }),
          async recovered(scene, what) {
            expect(await scene.do(() => statusOf(scene.role.control))).toMatchObject({ state: "Archived" });
            expect([
              [3, 4, 5, 6],
              [5, 6],
            ]).toContainEqual(await scene.check(what));
          },
        },
        { kill, seed: 12, isReflink: true },
      );
      expect(crashes).toBeGreaterThan(16);
    }, 300_000);

    for (const [what, pathIncludes] of [
      ["no manifest", "volume.json"],
      ["nothing", "/data/"],
    ] as const) {
      test(`at any step of a promotion, a disk that takes ${what} keeps nobody from restoring`, async () => {
        const kinds = ["write", "zero", "truncate", "clone"] as const;
        let makeRoom = (): void => undefined;
        let pending = 0;
        await crashEverywhere(
          {
            async prepare(scene) {
              await scene.fill();
              await scene.do(() => scene.command("restore", { gid: 5 }));
            },
            act: (scene) => scene.command("apply", { gid: 5 }),
            async meanwhile(scene) {
              makeRoom = scene.archive.storage.inject({ pathIncludes, kinds, effect: "no-space", times: 1e9 });
            },
            async recovered(scene, what) {
              expect(await scene.do(() => statusOf(scene.role.control))).toMatchObject({ state: "Archived" });
              const gids = (await scene.gids()).map(Number);
              const hasBase = scene.images().includes("base.img");
              expect(hasBase || scene.images().includes("promoting-5.img")).toBe(true);
              if (!hasBase) pending++;
              for (const gid of hasBase ? gids : [5, 6]) {
                await scene.do(() => scene.command("restore", { to: "/restored.img", gid, overwrite: true }));
                const found = scene.archive.storage.peek("/restored.img", 0, sizeLb * 512);
                expectSame(found, scene.history.at(gid), `${what}, full, gid ${gid}`);
              }
              makeRoom();
              expect([
                [3, 4, 5, 6],
                [5, 6],
              ]).toContainEqual(await scene.check(what));
              await scene.do(() => scene.command("apply", { gid: 6 }));
              expect(await scene.check(`${what}, applied`)).toEqual([6]);
              expect(scene.images()).toEqual(["base.img", "restored-5.img"]);
            },
          },
          { kill, seed: 14, isReflink: true },
        );
        expect(pending).toBeGreaterThan(0);
      }, 300_000);
    }

    test("an apply whose notes reach the disk in part has begun or has not: the volume can be opened", async () => {
      let begun = 0;
      for (let n = 0; n < 24; n++) {
        const scene = new Scene(15_000 + n);
        try {
          await scene.fill();
          const kinds = [["syncDirectory"], ["sync", "syncDirectory"], ["rename", "sync", "syncDirectory"]] as const;
          const heal = scene.archive.storage.inject({
            pathIncludes: "/data/",
            kinds: kinds[n % 3]!,
            skip: Math.floor(n / 6),
            times: Math.floor(n / 3) % 2 === 0 ? 1 : 1_000,
            effect: "io",
          });
          await scene.do(() => scene.command("apply", { gid: 5 }).catch(() => undefined));
          heal();
          if (kill) scene.archive.kill();
          else scene.archive.crash({ keep: "all" });
          await scene.open();
          const { state, base } = await scene.do(() => statusOf(scene.role.control));
          expect({ n, state }).toEqual({ n, state: "Archived" });
          if (String(base).includes("-->")) begun++;
          expect([
            [3, 4, 5, 6],
            [5, 6],
          ]).toContainEqual(await scene.check(`${n}`));
        } finally {
          scene.world.close();
        }
      }
      expect(begun).toBeGreaterThan(0);
    }, 300_000);

    test("at any step of enabling and disabling snapshots every point stays, and it can be repeated", async () => {
      const crashes = await crashEverywhere(
        {
          prepare: (scene) => scene.fill(),
          async act(scene) {
            await scene.command("enable-snapshot", { gids: [4, 5] });
            await scene.command("disable-snapshot", { gids: [4] });
          },
          async recovered(scene, what) {
            expect(await scene.check(what)).toEqual([3, 4, 5, 6]);
            expect(scene.archive.storage.paths().filter((path) => path.endsWith(".wdiff"))).toHaveLength(4);
            await scene.do(() => scene.command("enable-snapshot", { gids: [4, 5] }));
            await scene.do(() => scene.command("disable-snapshot", { gids: [5] }));
            await scene.do(() => scene.command("merge", { fromGid: 3 }).catch(() => undefined));
            await scene.do(() => scene.command("merge", { fromGid: 4 }));
            expect(await scene.check(`${what}, merged`)).toEqual([3, 4, 6]);
          },
        },
        { kill, seed: 10 },
      );
      expect(crashes).toBeGreaterThan(10);
    }, 300_000);

    test("at any step of growing a volume over what a larger image held there, what is new reads as zeroes", async () => {
      const grownLb = 700;
      const crashes = await crashSeed(
        {
          async prepare(scene) {
            await scene.fill();
            await scene.do(async () => {
              const image = await scene.archive.platform.disk.open("/data/vol0/base.img", { mode: "write" });
              await image.truncate((sizeLb + 200) * 512);
              await image.sync();
              await image.close();
            });
            scene.archive.storage.poke("/data/vol0/base.img", sizeLb * 512, new Uint8Array(200 * 512).fill(7));
          },
          act: (scene) => scene.command("resize", { sizeLb: grownLb, zeroClear: true }),
          async recovered(scene, what) {
            expect(await scene.check(what)).toEqual([3, 4, 5, 6]);
            const grown = await scene.do(() => statusOf(scene.role.control));
            expect([sizeLb, grownLb]).toContain(grown.sizeLb as number);
            await scene.do(() => scene.command("resize", { sizeLb: grownLb, zeroClear: true }));
            await scene.do(() => scene.command("apply", { gid: 4 }));
            for (const gid of [4, 6]) {
              await scene.do(() => scene.command("restore", { to: "/grown.img", gid, overwrite: true }));
              const wanted = new Uint8Array(grownLb * 512);
              wanted.set(scene.history.at(gid));
              expectSame(
                scene.archive.storage.peek("/grown.img", 0, grownLb * 512),
                wanted,
                `${what}, gid ${gid}, grown`,
              );
              expect(scene.archive.storage.sizeOf("/grown.img")).toBe(grownLb * 512);
            }
          },
        },
        { kill, seed: 11 },
      );
      expect(crashes).toBeGreaterThan(5);
    }, 300_000);

    test("at any step of collecting what cannot be reached, the diffs are in their place or in quarantine, and can be put back", async () => {
      const found = { volume: 0, quarantine: 0 };
      let lostName = "";
      const crashes = await crashSeed(
        {
          async prepare(scene) {
            await scene.fill();
            const lost = scene.archive.storage.paths().find((path) => path.endsWith("-3-4.wdiff"))!;
            lostName = lost.slice("/data/vol0/".length);
            scene.restartIdle();
            await scene.do(async () => {
              const { disk } = scene.archive.platform;
              await disk.rename(lost, "/lost.wdiff");
              await disk.syncDirectory("/data/vol0");
              await disk.syncDirectory("/");
            });
            await scene.open();
          },
          act: (scene) => scene.command("gc-diff"),
          async recovered(scene, what) {
            expect(await scene.gids()).toEqual([3]);
            expect((await scene.do(() => statusOf(scene.role.control))).trouble).toMatchObject({ code: "damaged" });
            const diffs = scene.archive.storage.paths().filter((path) => path.endsWith(".wdiff"));
            expect(diffs.filter((path) => !path.startsWith("/lost"))).toHaveLength(3);
            for (const path of diffs) found[path.includes("quarantine") ? "quarantine" : "volume"]++;
            scene.restartIdle();
            await scene.do(async () => {
              const { disk } = scene.archive.platform;
              for (const path of diffs.filter((one) => one.includes("quarantine"))) {
                await disk.rename(path, path.replace("quarantine/", ""));
              }
              await disk.rename("/lost.wdiff", `/data/vol0/${lostName}`);
              await disk.syncDirectory("/data/vol0");
            });
            await scene.open();
            expect(await scene.check(what)).toEqual([3, 4, 5, 6]);
            expect((await scene.do(() => statusOf(scene.role.control))).trouble).toBeUndefined();
          },
        },
        { kill, seed: 12 },
      );
      expect(crashes).toBeGreaterThan(2);
      expect(found.volume).toBeGreaterThan(0);
    }, 300_000);

    test("at any step of deleting images that the archive kept, there is no image or the whole one, and it can be repeated", async () => {
      const crashes = await crashSeed(
        {
          async prepare(scene) {
            await scene.fill();
            await scene.do(() => scene.command("restore", { gid: 5 }));
          },
          async act(scene) {
            await scene.command("del-cold", { gid: 5 });
            await scene.command("del-restored", { gid: 5 });
          },
          async recovered(scene, what) {
            for (const name of scene.images().filter((image) => image !== "base.img")) {
              const gid = Number(/\d+/.exec(name)![0]);
              const found = scene.archive.storage.peek(`/data/vol0/${name}`, 0, sizeLb * 512);
              expectSame(found, scene.history.at(gid), `${what}, ${name}`);
            }
            expect(await scene.check(what)).toEqual([3, 4, 5, 6]);
            for (const kind of ["restored", "cold"]) {
              for (const gid of [4, 5]) {
                const gone = await scene.attempt(() => scene.command(`del-${kind}`, { gid }));
                if (typeof gone === "object" && "error" in gone)
                  expect(gone.error).toMatchObject({ code: "not-found" });
              }
            }
            expect(scene.images()).toEqual(["base.img"]);
            expect(await scene.check(`${what}, deleted`)).toEqual([3, 4, 5, 6]);
          },
        },
        { kill, seed: 13, isReflink: true },
      );
      expect(crashes).toBeGreaterThan(3);
    }, 300_000);

    test("at any step of init, reset, clear, and a reset on a full disk, the volume can be used again", async () => {
      for (const command of ["init", "reset", "clear", "full"]) {
        await crashEverywhere(
          {
            async prepare(scene) {
              if (command === "init") return scene.open();
              await scene.fill();
              await scene.do(() => scene.command("stop", { mode: "graceful" }));
            },
            async act(scene) {
              if (command !== "full") return scene.command(command);
              // The simulator's databases know no full disk.
              const noting = spyOn(ArchiveStore.prototype, "beginReset").mockImplementation(() => {
                throw new WalbError("no-space", { what: "there is no space for a row" });
              });
              try {
                return await scene.command("reset");
              } finally {
                noting.mockRestore();
              }
            },
            async recovered(scene, what) {
              mock.restore();
              const volumes = (await scene.do(() => run(scene.role.control, "volumes"))).volumes as string[];
              expect(scene.archive.storage.paths().filter((path) => path.includes("quarantine"))).toEqual([]);
              if (volumes.includes("vol0")) {
                const { state } = await scene.do(() => statusOf(scene.role.control));
                if (state === "Stopped") {
                  await scene.do(() => scene.command("start"));
                  expect(await scene.check(what)).toEqual([3, 4, 5, 6]);
                  await scene.do(() => scene.command("stop", { mode: "graceful" }));
                  await scene.do(() => scene.command("reset"));
                }
              } else {
                await scene.do(() => scene.command("init"));
              }
              expect(await scene.do(() => scene.sync())).toEqual({ kind: "accept" });
              expect(await scene.do(() => scene.diff(0, 2))).toBe("accept");
              expect(await scene.check(what)).toEqual([2]);
            },
          },
          { kill, seed: 6 },
        );
      }
    }, 300_000);
  });
}

test("diffs that an apply has answered for and not yet removed are removed by the next start, or waited for by a reset", async () => {
  const left = { kill: 0, "power loss": 0, reset: 0 };
  for (let seed = 1; seed <= 18; seed++) {
    const end = (["kill", "power loss", "reset"] as const)[seed % 3]!;
    const scene = new Scene(seed, false);
    const diffs = (): number => scene.archive.storage.paths().filter((path) => path.endsWith(".wdiff")).length;
    try {
      await scene.fill();
      await scene.attempt(async () => {
        await scene.command("apply", { gid: 5 });
        if (diffs() > 1) left[end]++;
        if (end === "kill") scene.archive.kill();
        else if (end === "power loss") scene.archive.crash({ keep: "none" });
        else await scene.command("stop", { mode: "force" }).then(() => scene.command("reset"));
      });
      if (end === "reset") {
        expect(diffs()).toBe(0);
        continue;
      }
      await scene.open();
      expect({ seed, diffs: diffs() }).toEqual({ seed, diffs: 1 });
      expect(await scene.check(end)).toEqual([5, 6]);
      expect(scene.archive.storage.paths().filter((path) => path.includes("quarantine"))).toEqual([]);
    } finally {
      scene.world.close();
    }
  }
  expect(Math.min(...Object.values(left))).toBeGreaterThan(0);
});

describe("rows of received diffs, which are not synced,", () => {
  /** Diffs 0→3→4→5, each acknowledged. */
  async function received(scene: Scene): Promise<void> {
    await scene.open();
    await scene.do(() => scene.command("init"));
    await scene.do(() => scene.sync());
    for (const [from, to] of [
      [0, 3],
      [3, 4],
      [4, 5],
    ] as const) {
      expect(await scene.do(() => scene.diff(from, to))).toBe("accept");
    }
  }
  const receivedMs = async (scene: Scene): Promise<unknown> =>
    (await scene.do(() => statusOf(scene.role.control))).lastReceivedMs;

  test("are made again from the files when a power loss takes them", async () => {
    const scene = new Scene(1);
    try {
      await received(scene);
      scene.archive.crash({ keep: "none" });
      await scene.open();
      // Of a file it is not known when it came: the rows were gone.
      expect(await receivedMs(scene)).toBeUndefined();
      expect(await scene.check("after the power loss")).toEqual([3, 4, 5]);
      expect(await scene.do(() => scene.diff(4, 5))).toBe("too-old-diff");
      expect(await scene.do(() => scene.diff(5, 6))).toBe("accept");
      scene.archive.kill();
      await scene.open();
      scene.archive.crash({ keep: "none" });
      await scene.open();
      expect(await scene.gids()).toEqual([3, 4, 5, 6]);
    } finally {
      scene.world.close();
    }
  });

  test("are durable with the next decision, and the diffs it drops do not come back", async () => {
    for (const keep of ["none", "all"] as const) {
      const scene = new Scene(2);
      try {
        await received(scene);
        await scene.do(() => scene.command("apply", { gid: 4 }));
        scene.archive.crash({ keep });
        await scene.open();
        expect(await receivedMs(scene)).toBeNumber();
        expect(await scene.check(keep)).toEqual([4, 5]);
        expect(await scene.do(() => scene.diff(5, scene.history.step()))).toBe("accept");
        await scene.do(() => scene.command("merge", { fromGid: 4, toGid: 7 }));
        scene.archive.crash({ keep });
        await scene.open();
        expect(await scene.check(`${keep}, merged`)).toEqual([4, 7]);
        expect(scene.archive.storage.paths().filter((path) => path.endsWith(".wdiff"))).toHaveLength(1);
      } finally {
        scene.world.close();
      }
    }
  });
});
