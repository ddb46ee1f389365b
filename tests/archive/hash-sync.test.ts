import { describe, expect, test } from "bun:test";
import type { RunningRole } from "../../src/control/role.ts";
import { Codec } from "../../src/native/codec.ts";
import type { SimHost } from "../../src/sim/api.ts";
import { createSimWorld, type SimWorld } from "../../src/sim/sim.ts";
import { connectWire } from "../../src/wire/handshake.ts";
import { runHashSync } from "../../src/wire/hash-sync.ts";
import { codeOf, expectError } from "../helpers/errors.ts";
import { expectSame, gidsOf, openTestArchive, run, statusOf } from "./harness.ts";
import { History } from "./model.ts";
import { type HashSyncOptions, type HashSyncResult, sendChanges, sendDiff, sendImage } from "./peers.ts";

const mib = 1024 * 1024;
const listen = { kind: "tcp", host: "", port: 10200 } as const;
const address = { kind: "tcp", host: "archive", port: 10200 } as const;
const uuidOf = (i: number): string => i.toString(16).padStart(32, "a");

/** An archive and a storage whose gids are no longer those of the model: hash backups leave some out. */
class Scene {
  readonly world: SimWorld;
  readonly archive: SimHost;
  readonly client: SimHost;
  readonly history: History;
  readonly sizeLb: number;
  /** Gid at the archive → moment of the model. */
  readonly moments = new Map<number, number>();
  /** Last gid and moment that were delivered. */
  gid = 0;
  moment = 0;
  log = 1;
  role!: RunningRole;

  constructor(seed: number, sizeLb = 700, memoryBytes = 320 * mib) {
    this.world = createSimWorld(seed);
    this.sizeLb = sizeLb;
    this.archive = this.world.host("archive", { memoryBytes, disk: { reflink: seed % 2 === 0 } });
    this.client = this.world.host("client", { memoryBytes: 64 * mib });
    this.history = new History(sizeLb, seed);
  }

  do<T>(work: () => Promise<T>): Promise<T> {
    return this.world.complete(work);
  }

  get peer() {
    return { platform: this.client.platform, address };
  }

  async open(options: object = {}): Promise<void> {
    if (!this.archive.isUp) this.archive.restart();
    this.role = await this.do(() => openTestArchive(this.archive.platform, "/data", { listen, ...options }));
  }

  command(name: string, params: object = {}): Promise<Record<string, unknown>> {
    return run(this.role.control, name, { volume: "vol0", ...params });
  }

  /** Init and a full backup as of gid 0. */
  async begin(options: object = {}): Promise<void> {
    await this.open(options);
    await this.do(() => this.command("init"));
    await this.do(() => sendImage(this.peer, this.history.at(0), { gidE: 0n, bulkLb: 64, uuid: uuidOf(this.log) }));
    this.moments.set(0, 0);
  }

  /** A diff of the next step, or of several. */
  async follow(steps = 1, isMergeable = true): Promise<string> {
    for (let i = 0; i < steps; i++) this.history.step();
    const records = this.history.diff(this.moment, this.history.gid);
    const word = await this.do(() => this.deliver(this.gid, this.gid + steps, records, isMergeable));
    if (word !== "accept") return word;
    this.gid += steps;
    this.moment = this.history.gid;
    this.moments.set(this.gid, this.moment);
    return word;
  }

  async deliver(from: number, to: number, records: ReturnType<History["diff"]>, isMergeable = true): Promise<string> {
    const options = { sizeLb: this.sizeLb, isMergeable, recordsPerPack: 3, uuid: uuidOf(this.log) };
    const answer = await sendDiff(this.peer, from, to, records, options);
    return answer.kind === "word" ? answer.word : answer.kind;
  }

  /** A hash backup while the volume goes on for a few steps. The diff that completes it is not sent yet. */
  async backup(options: HashSyncOptions = {}): Promise<HashSyncResult> {
    const gidB = this.history.gid;
    for (let i = 0; i < 2; i++) this.history.step();
    const uuid = uuidOf(this.log + 1);
    const image = this.history.fuzzy(this.history.gid, gidB);
    const result = await sendChanges(this.peer, image, { uuid, recordsPerPack: 3, ...options });
    if (result.answer.kind === "accept") {
      this.log += 1;
      this.gid = Number(result.latest!.gidE) + 1;
      this.moment = gidB;
    }
    return result;
  }

  /** The diff of the time of a hash backup. */
  async completeBackup(result: HashSyncResult): Promise<void> {
    const records = this.history.diff(this.moment, this.history.gid);
    expect(await this.do(() => this.deliver(this.gid, result.gidE, records, true))).toBe("accept");
    this.gid = result.gidE;
    this.moment = this.history.gid;
    this.moments.set(this.gid, this.moment);
  }

  /** Restores every point and compares. @returns the gids. */
  async check(what: string): Promise<number[]> {
    const gids = await this.do(() => gidsOf(this.role.control));
    for (const gid of gids) {
      await this.do(() => this.command("restore", { to: "/restored.img", gid, overwrite: true }));
      const found = this.archive.storage.peek("/restored.img", 0, this.sizeLb * 512);
      const moment = this.moments.get(gid);
      if (moment === undefined) throw new Error(`${what}: gid ${gid} is no moment`);
      expectSame(found, this.history.at(moment), `${what}, gid ${gid}`);
    }
    const leftovers = this.archive.storage.paths().filter((path) => /\.tmp$|partial$|quarantine/.test(path));
    expect(leftovers).toEqual([]);
    return gids;
  }

  status(): Promise<Record<string, unknown>> {
    return this.do(() => statusOf(this.role.control));
  }
}

async function withScene(seed: number, use: (scene: Scene) => Promise<void>, options: object = {}): Promise<void> {
  const scene = new Scene(seed);
  try {
    await scene.begin(options);
    await use(scene);
    expect(scene.client.platform.memory.leasedBytes).toBe(0);
    await scene.do(() => scene.role.close("graceful"));
  } finally {
    scene.world.close();
  }
}

describe("a hash backup", () => {
  test("keeps all points and adds new ones, over random histories", async () => {
    for (let seed = 1; seed <= 30; seed++) {
      await withScene(seed, async (scene) => {
        const { random } = scene.world;
        for (let round = 0; round < 3; round++) {
          for (let i = random.between(0, 3); i > 0; i--) {
            expect(await scene.follow(random.between(1, 3), random.chance(0.6))).toBe("accept");
          }
          if (random.chance(0.3))
            await scene.do(() => scene.command("apply", { gid: scene.gid }).catch(() => undefined));
          if (random.chance(0.3)) await scene.do(() => scene.command("merge", { fromGid: 0 }).catch(() => undefined));
          if (random.chance(0.3)) {
            const gids = await scene.do(() => gidsOf(scene.role.control));
            await scene.do(() => scene.command("restore", { gid: random.pick(gids), overwrite: true }));
          }
          if (random.chance(0.3)) {
            // Also points before a hash backup, so that merges go across it.
            const gids = (await scene.do(() => gidsOf(scene.role.control))).slice(0, -1);
            const some = gids.filter(() => random.chance(0.5));
            const command = random.pick(["disable-snapshot", "enable-snapshot"]);
            if (some.length > 0) await scene.do(() => scene.command(command, { gids: some }));
            await scene.do(() => scene.command("gc-diff"));
          }
          const before = await scene.check(`seed ${seed}, before`);
          // Writes that no log has any more.
          for (let i = random.between(0, 3); i > 0; i--) scene.history.step();
          let result = await scene.do(() =>
            scene.backup({ gids: random.between(1, 4), bulkLb: random.pick([8, 16, 100]) }),
          );
          expect(result.answer.kind).toBe("accept");
          expect(await scene.check(`seed ${seed}, dirty`)).toEqual(before);
          // Now and then its diff never comes: another backup takes its place.
          while (random.chance(0.3)) result = await scene.do(() => scene.backup());
          await scene.completeBackup(result);
          expect(await scene.check(`seed ${seed}, after`)).toEqual([...before, scene.gid]);
        }
        expect(await scene.follow(2)).toBe("accept");
        await scene.do(() => scene.command("apply", { gid: scene.gid }));
        expect(await scene.check(`seed ${seed}, applied`)).toEqual([scene.gid]);
      });
    }
  }, 300_000);

  test("asks only for what differs", async () => {
    await withScene(2, async (scene) => {
      await scene.follow(3);
      const image = scene.history.at(scene.moment).slice();
      image[100_000] = (image[100_000] ?? 0) ^ 1;
      const result = await scene.do(() => sendChanges(scene.peer, image, { bulkLb: 16 }));
      expect(result.bulks).toBe(1);
      const again = await scene.do(() => sendChanges(scene.peer, image, { bulkLb: 16 }));
      expect(again.bulks).toBe(0);
    });
  });

  test("begins behind every gid that was ever seen, and leads from the newest snapshot, mergeable when that is dirty", async () => {
    await withScene(3, async (scene) => {
      await scene.follow(4);
      const first = await scene.do(() => scene.backup({ gids: 3 }));
      expect(first.latest).toEqual({ gidB: 4n, gidE: 4n });
      expect((await scene.status()).latest).toBe("|5,8|");
      const second = await scene.do(() => scene.backup());
      expect(second.latest).toEqual({ gidB: 5n, gidE: 8n });
      const names = scene.archive.storage.paths().flatMap((path) => /-[M-][C-]-[0-9-]+\.wdiff$/.exec(path)?.[0] ?? []);
      expect(names.toSorted()).toEqual(["----4-4-5-8.wdiff", "-M--0-4.wdiff", "-M--5-8-9-10.wdiff"].toSorted());
      await scene.completeBackup(second);
      // The two become one, but not with what is before them.
      await scene.do(() => scene.command("merge", { fromGid: 4 }));
      expect(await scene.check("merged")).toEqual([0, 4, 10]);
    });
  });

  test("shows how far it is, takes no diffs meanwhile, and drops those of the old log afterwards", async () => {
    await withScene(4, async (scene) => {
      await scene.follow();
      const old = scene.history.diff(scene.moment, scene.history.step());
      let seen = 0;
      const result = await scene.do(() =>
        scene.backup({
          async beforeBulk(bulk) {
            if (bulk % 16 !== 0) return;
            const status = await statusOf(scene.role.control);
            expect(status.state).toBe("HashSync");
            expect(status.running).toContainEqual(
              expect.objectContaining({ action: "HashSync", totalBytes: scene.sizeLb * 512 }),
            );
            expect(await scene.deliver(1, 2, old)).toBe("syncing");
            expect(await codeOf(scene.command("apply", { gid: 1 }))).toBe("busy");
            expect(await codeOf(scene.command("resize", { sizeLb: 10_000 }))).toBe("busy");
            // What does not change the image goes on.
            await scene.command("restore", { to: `/restored-${bulk}.img`, gid: 1 });
            seen += 1;
          },
        }),
      );
      expect(seen).toBeGreaterThan(1);
      scene.log -= 1;
      expect(await scene.do(() => scene.deliver(1, 2, old))).toBe("different-uuid");
      scene.log += 1;
      const status = await scene.status();
      expect(status).toMatchObject({ state: "Archived", uuid: uuidOf(2), running: [] });
      expect(status.trouble).toBeUndefined();
      await scene.completeBackup(result);
      await scene.check("after");
    });
  });

  test("waits for the diff that is being received", async () => {
    await withScene(5, async (scene) => {
      scene.history.step();
      const records = scene.history.diff(0, scene.history.gid);
      const result = await scene.do(async () => {
        const diff = sendDiff(scene.peer, 0, 1, records, {
          sizeLb: scene.sizeLb,
          uuid: uuidOf(1),
          recordsPerPack: 1,
          beforePack: () => scene.client.platform.clock.sleep(3_000),
        });
        await scene.client.platform.clock.sleep(100);
        const backup = await scene.backup();
        expect(await diff).toEqual({ kind: "accept" });
        return backup;
      });
      scene.moments.set(1, 1);
      expect(result.latest).toEqual({ gidB: 1n, gidE: 1n });
      await scene.completeBackup(result);
      await scene.check("after");
    });
  });

  test("is refused by text in a wrong state, for a larger volume, and from anybody but a storage", async () => {
    await withScene(6, async (scene) => {
      const textOf = async (options: HashSyncOptions = {}, image = scene.history.at(0)): Promise<string> => {
        const { answer } = await scene.do(() => sendChanges(scene.peer, image, options));
        return answer.kind === "text" ? answer.text : answer.kind;
      };
      expect(await textOf({ hostType: "proxy" })).toContain("comes from a storage");
      expect(await textOf({ volume: "other" })).toContain("other");
      expect(await textOf({}, new Uint8Array((scene.sizeLb + 1) * 512))).toContain("--auto-resize");
      await scene.do(() => scene.command("stop", { mode: "graceful" }));
      expect(await textOf()).toContain("Stopped");
      await scene.do(() => scene.command("reset"));
      expect(await textOf()).toContain("SyncReady");
      expect((await scene.status()).state).toBe("SyncReady");
    });
  });

  test("grows the image with --auto-resize; of a smaller volume it compares what there is", async () => {
    await withScene(
      7,
      async (scene) => {
        const larger = new Uint8Array((scene.sizeLb + 1000) * 512);
        larger.set(scene.history.at(0));
        larger.fill(7, scene.sizeLb * 512);
        const result = await scene.do(() => sendChanges(scene.peer, larger, { uuid: uuidOf(2) }));
        expect(result.answer.kind).toBe("accept");
        expect(await scene.status()).toMatchObject({ sizeLb: scene.sizeLb + 1000 });
        const options = { sizeLb: scene.sizeLb + 1000, uuid: uuidOf(2) };
        await scene.do(() => sendDiff(scene.peer, 1, result.gidE, [], options));
        await scene.do(() => scene.command("restore", { to: "/restored.img", gid: result.gidE }));
        expectSame(scene.archive.storage.peek("/restored.img", 0, larger.length), larger, "restored");
        const smaller = await scene.do(() => sendChanges(scene.peer, larger.slice(0, 50_000 - (50_000 % 512))));
        expect(smaller).toMatchObject({ answer: { kind: "accept" }, bulks: 0 });
      },
      { isAutoResize: true },
    );
  });

  test("that breaks off anywhere leaves the volume as it was, and the next one works", async () => {
    await withScene(8, async (scene) => {
      await scene.follow(3);
      const before = await scene.check("before");
      const broken: HashSyncOptions[] = [
        { beforeBulk: () => Promise.reject(new Error("gone")) },
        { beforeBulk: (bulk) => (bulk > 20 ? Promise.reject(new Error("gone")) : undefined) },
        { beforeSnapshot: () => Promise.reject(new Error("gone")) },
      ];
      for (const options of broken) {
        await expectError(
          scene.do(() => scene.backup(options)),
          "gone",
        );
        await scene.world.run(1_000);
        const status = await scene.status();
        expect(status).toMatchObject({ state: "Archived", uuid: uuidOf(1), latest: "|3|" });
        expect(status.trouble).toMatchObject({ code: "unreachable" });
        expect(await scene.check("broken off")).toEqual(before);
      }
      await scene.completeBackup(await scene.do(() => scene.backup()));
      expect((await scene.status()).trouble).toBeUndefined();
      expect(await scene.check("after")).toEqual([...before, scene.gid]);
    });
  });

  test("is ended by a forced stop, and waited for by a graceful one", async () => {
    for (const mode of ["force", "graceful"] as const) {
      await withScene(9, async (scene) => {
        await scene.follow(3);
        let stopping: Promise<unknown> | undefined;
        const outcome = await scene.do(async () => {
          const result = await scene
            .backup({
              async beforeBulk(bulk) {
                await scene.client.platform.clock.sleep(20);
                if (bulk === 10) stopping = scene.command("stop", { mode });
              },
            })
            .then(
              () => "done",
              () => "broken",
            );
          await stopping;
          return result;
        });
        expect(outcome).toBe(mode === "force" ? "broken" : "done");
        expect((await scene.status()).state).toBe("Stopped");
        await scene.do(() => scene.command("start"));
        await scene.check("started");
      });
    }
  });

  test("closes the gap of a lost diff, and what lies behind the gap never comes back", async () => {
    await withScene(10, async (scene) => {
      await scene.follow(2, false);
      await scene.follow(2, false);
      await scene.follow(3, false);
      const lost = scene.archive.storage.paths().find((path) => path.endsWith("-2-4.wdiff"))!;
      await scene.do(() => scene.role.close("graceful"));
      await scene.do(() => scene.archive.platform.disk.remove(lost));
      scene.archive.kill();
      await scene.open();
      expect((await scene.status()).trouble).toMatchObject({ code: "damaged" });
      expect(await scene.check("lost")).toEqual([0, 2]);
      const result = await scene.do(() => scene.backup());
      expect(result.latest).toEqual({ gidB: 2n, gidE: 7n });
      expect((await scene.status()).trouble).toBeUndefined();
      await scene.completeBackup(result);
      expect(await scene.follow(2)).toBe("accept");
      expect(await scene.check("after")).toEqual([0, 2, 9, 11]);
      await scene.do(() => scene.role.close("graceful"));
      scene.archive.kill();
      await scene.open();
      expect(await scene.check("restarted")).toEqual([0, 2, 9, 11]);
    });
  });

  test("of a damaged image says what is damaged before the storage gives up its log", async () => {
    await withScene(11, async (scene) => {
      await scene.follow(3);
      const path = scene.archive.storage.paths().find((one) => one.endsWith(".wdiff"))!;
      scene.archive.storage.corrupt(path, 512, 64);
      const { answer, latest } = await scene.do(() => scene.backup());
      expect(answer.kind === "text" ? answer.text : "").toContain("without this diff these points are lost");
      expect(latest).toBeUndefined();
      expect(await scene.status()).toMatchObject({ state: "Archived", latest: "|3|" });
    });
  });

  test("of a full disk fails, leaves nothing behind, and works when there is room", async () => {
    await withScene(12, async (scene) => {
      await scene.follow(2);
      scene.archive.storage.inject({ kinds: ["write"], pathIncludes: "receiving-", skip: 1, effect: "no-space" });
      await expectError(scene.do(() => scene.backup()));
      await scene.world.run(1_000);
      expect(await scene.status()).toMatchObject({ state: "Archived", trouble: { code: "no-space" } });
      expect(await scene.check("full")).toEqual([0, 2]);
      await scene.completeBackup(await scene.do(() => scene.backup()));
      await scene.check("after");
    });
  });

  test("reads no holes", async () => {
    const scene = new Scene(13);
    await scene.open();
    await scene.do(() => scene.command("init"));
    await scene.do(() => sendImage(scene.peer, new Uint8Array(4096).fill(1), { gidE: 0n, bulkLb: 8 }));
    const sizeLb = (64 * 1024 * mib) / 512;
    await scene.do(() => scene.command("resize", { sizeLb }));
    let readBytes = 0;
    scene.archive.storage.onOperation = ({ kind, path, sizeBytes }) => {
      if (kind === "read" && path.endsWith("base.img")) readBytes += sizeBytes;
    };
    const kinds = new Set<string>();
    let hashCount = 0;
    await scene.do(async () => {
      const { clock, net } = scene.client.platform;
      const { stream } = await connectWire(net, address, { clock, clientId: "s0", protocol: "dirty-hash-sync2" });
      const compress = { codec: Codec.snappy, level: 0, cpuCount: 1 };
      const request = { hostType: "storage", volume: "vol0", sizeLb, timestampS: 1, bulkLb: 8192, compress };
      await runHashSync(stream, request, {
        accepted: async () => uuidOf(2),
        comparer: () => ({
          async compare(_firstBulk, hashes) {
            for (let at = 0; at < hashes.length; at += 16) kinds.add(hashes.subarray(at, at + 16).toHex());
            hashCount += hashes.length / 16;
            return [];
          },
          finish: async () => [],
        }),
        snapshot: async () => ({ gidB: 1n, gidE: 2n }),
      });
      stream.close();
    });
    expect(hashCount).toBe(16 * 1024);
    // That of the first bulk, and that of zeroes.
    expect(kinds.size).toBe(2);
    expect(readBytes).toBeLessThanOrEqual(4 * mib);
    scene.world.close();
  });
});

describe("after a crash at any step of a hash backup", () => {
  for (const kill of [true, false]) {
    test(`(${kill ? "kill -9" : "power loss"}) it has happened or not, and can be taken again`, async () => {
      let crashes = 0;
      let finished = 0;
      for (const seed of [1, 2]) {
        for (let n = 1; ; n++) {
          const scene = new Scene(seed * 1000 + n, 300);
          try {
            await scene.begin();
            await scene.follow(2, false);
            await scene.follow(1);
            const before = await scene.check("before");
            // In the log of the storage and at a proxy, but not here: the old log must not go on from the new image.
            const old = scene.history.diff(scene.moment, scene.history.step());
            scene.archive.crashAtOperation(n, { kill });
            let isOver = false;
            let isDone = false;
            scene.world.after(0, () => {
              void scene
                .backup({ bulkLb: 64 })
                .then(() => {
                  isDone = true;
                })
                .catch(() => undefined)
                .finally(() => {
                  isOver = true;
                });
            });
            await scene.world.runUntil(() => isOver || !scene.archive.isUp);
            if (scene.archive.isUp) {
              expect(isDone).toBe(true);
              break;
            }
            crashes += 1;
            // Lets the storage's end see it.
            await scene.world.runUntil(() => isOver);
            await scene.open();
            const status = await scene.status();
            expect(status.state).toBe("Archived");
            expect(status.trouble).toBeUndefined();
            const isCommitted = status.latest !== "|3|";
            if (isCommitted) finished += 1;
            expect(status.uuid).toBe(uuidOf(isCommitted ? 2 : 1));
            expect(await scene.check(`crash at ${n}`)).toEqual(before);
            scene.log = 1;
            if (isCommitted) expect(await scene.do(() => scene.deliver(3, 4, old))).toBe("different-uuid");
            scene.log = 2;
            const result = await scene.do(() => scene.backup());
            expect(result.answer.kind).toBe("accept");
            await scene.completeBackup(result);
            expect(await scene.follow(2)).toBe("accept");
            expect((await scene.check(`after crash at ${n}`)).slice(0, before.length)).toEqual(before);
          } catch (error) {
            throw new Error(`crash at operation ${n} of seed ${seed}: ${String(error)}`, { cause: error });
          } finally {
            scene.world.close();
          }
        }
      }
      expect(crashes).toBeGreaterThan(16);
      expect(finished).toBeGreaterThan(2);
    }, 300_000);
  }
});

test("a hash backup that a power loss takes the row of, and those of the diffs before it, begins behind them", async () => {
  let finished = 0;
  for (let n = 10; n < 20; n++) {
    for (const keep of ["random", "all"] as const) {
      const scene = new Scene(n, 300);
      try {
        await scene.begin();
        await scene.follow(2, false);
        await scene.follow(1);
        // Clocks differ: the time of the backup is before that of the diffs.
        const loss = { keep } as const;
        scene.archive.crashAtOperation(n, loss);
        let isOver = false;
        scene.world.after(0, () => {
          void scene
            .backup({ bulkLb: 64 })
            .catch(() => undefined)
            .finally(() => {
              isOver = true;
            });
        });
        await scene.world.runUntil(() => isOver);
        if (scene.archive.isUp) continue;
        await scene.open();
        const status = await scene.status();
        if (status.latest !== "|3|") finished += 1;
        expect({ n, keep, trouble: status.trouble }).toEqual({ n, keep, trouble: undefined });
        expect(await scene.check(`crash at ${n}`)).toEqual([0, 2, 3]);
      } finally {
        scene.world.close();
      }
    }
  }
  expect(finished).toBeGreaterThan(0);
});
