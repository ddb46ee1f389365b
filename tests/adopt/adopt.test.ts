import { describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { adoptArchiveVolume, planArchiveAdoption, releaseArchiveVolume } from "../../src/archive/adopt/adopt.ts";
import { baseHashesName } from "../../src/archive/base-hashes.ts";
import { Lvm } from "../../src/image/lvm/lvm.ts";
import { openLvmImageStore } from "../../src/image/lvm/store.ts";
import { readLegacyArchiveVolume, writeLegacyArchiveVolume } from "../../src/legacy/archive.ts";
import { readLegacyProxyVolume } from "../../src/legacy/proxy.ts";
import {
  type LegacyStorageVolume,
  readLegacyStorageVolume,
  writeLegacyStorageVolume,
} from "../../src/legacy/storage.ts";
import type { Platform } from "../../src/platform/platform.ts";
import { createPlatform } from "../../src/platform/real/index.ts";
import { adoptProxyVolume, releaseProxyVolume } from "../../src/proxy/adopt/adopt.ts";
import type { SimHost } from "../../src/sim/api.ts";
import { createSimWorld, type SimWorld } from "../../src/sim/sim.ts";
import { plainState, snapshot } from "../../src/snapshot/types.ts";
import { adoptStorageVolume, planStorageAdoption, releaseStorageVolume } from "../../src/storage/adopt/adopt.ts";
import { StorageStore } from "../../src/storage/store.ts";
import { mib, u64Max } from "../../src/units.ts";
import { openVolumes } from "../../src/volume/directories.ts";
import { expectSame, gidsOf, run, statusOf } from "../archive/harness.ts";
import { LvmScene, withLvmScene } from "../archive/lvm-scene.ts";
import { runIn } from "../cli/fleet-fixture.ts";
import { codeOf, expectError } from "../helpers/errors.ts";
import { io, ProxyBench } from "../proxy/fixture.ts";

const uuid = "0123456789abcdef0123456789abcdef";
const volume = "vol0";
const original: LegacyStorageVolume = {
  devicePath: "/dev/walb/vol0",
  state: "Target",
  uuid,
  done: { isMergeable: true, timestampS: 1_400_000_000, lsid: 100, gid: 7n },
  queue: [
    { isMergeable: true, timestampS: 1_400_000_300, lsid: 5_000_000_000, gid: 12n },
    { isMergeable: false, timestampS: 1_400_000_100, lsid: 2000, gid: 9n },
  ],
};

/** Runs work on a host, or until it is down. */
async function attempt(world: SimWorld, host: SimHost, work: () => Promise<unknown>): Promise<"done" | "crashed"> {
  let outcome: { readonly error?: unknown } | undefined;
  await world.complete(async () => {
    void work().then(
      () => {
        outcome = {};
      },
      (error: unknown) => {
        outcome = { error };
      },
    );
  });
  await world.runUntil(() => outcome !== undefined || !host.isUp);
  if (!host.isUp) return "crashed";
  if (outcome !== undefined && "error" in outcome) throw outcome.error;
  return "done";
}

/**
 * Crashes at every operation of some work, and repeats it after a restart.
 * @param check what must hold in the end, whenever it crashed.
 */
async function crashEverywhere(parts: {
  readonly prepare: (world: SimWorld) => Promise<SimHost>;
  readonly act: (platform: Platform) => Promise<unknown>;
  readonly check: (platform: Platform) => Promise<void>;
}): Promise<number> {
  for (let n = 1; ; n++) {
    const world = createSimWorld(n);
    try {
      const host = await parts.prepare(world);
      host.crashAtOperation(n, { kill: n % 2 === 0 });
      const outcome = await attempt(world, host, () => parts.act(host.platform));
      // It ended before the n-th operation, which is still to come: what is done then others look at.
      if (outcome === "done") return n - 1;
      host.restart();
      await world.complete(() => parts.act(host.platform));
      await world.complete(() => parts.check(host.platform));
    } catch (error) {
      throw new Error(`crash at operation ${n}: ${String(error)}`, { cause: error });
    } finally {
      world.close();
    }
  }
}

describe("a volume of the original's storage", () => {
  const directory = "/storage/vol0";
  const parts = (platform: Platform) => ({ platform, directory, volume, deviceKind: "kernel" as const });

  test("is taken over with delivered point and snapshots, and given back as it was, whatever breaks it off", async () => {
    const crashes = await crashEverywhere({
      async prepare(world) {
        const host = world.host("s0");
        await world.complete(() =>
          writeLegacyStorageVolume(host.platform.disk, host.platform.random, directory, original),
        );
        return host;
      },
      act: (platform) => adoptStorageVolume(parts(platform)),
      async check(platform) {
        const store = StorageStore.open(platform.databases, directory, volume);
        expect(store.device).toEqual({ kind: "kernel", name: "vol0" });
        expect([store.state, store.logUuid, store.gidMax]).toEqual(["Target", uuid, 12n]);
        expect(store.done).toEqual({ isMergeable: true, timestampS: 1_400_000_000, lsid: 100, gid: 7n });
        expect(store.queue.map(({ gid }) => gid)).toEqual([9n, 12n]);
        store.close();
        // The original finds nothing that it could go on with.
        expect(await codeOf(readLegacyStorageVolume(platform, directory))).toBe("not-found");
      },
    });
    expect(crashes).toBeGreaterThan(10);
    const back = await crashEverywhere({
      async prepare(world) {
        const host = world.host("s0");
        const { platform } = host;
        await world.complete(async () => {
          await writeLegacyStorageVolume(platform.disk, platform.random, directory, original);
          await adoptStorageVolume(parts(platform));
        });
        return host;
      },
      async act(platform) {
        // Behind the last step there is nothing of ours to give back.
        if ((await platform.disk.info(`${directory}/volume.db`)) !== undefined)
          await releaseStorageVolume(parts(platform));
      },
      async check(platform) {
        expect(await readLegacyStorageVolume(platform, directory)).toEqual(original);
        expect(await platform.disk.list(directory)).toEqual(["done", "path", "queue", "state", "uuid"]);
      },
    });
    expect(back).toBeGreaterThan(10);
  }, 300_000);

  test("before its first backup is taken over as such", async () => {
    const world = createSimWorld(1);
    const { platform } = world.host("s0");
    await world.complete(async () => {
      const fresh: LegacyStorageVolume = {
        ...original,
        state: "SyncReady",
        uuid: "0".repeat(32),
        done: { isMergeable: false, timestampS: 1_400_000_000, lsid: undefined, gid: u64Max },
        queue: [],
      };
      await writeLegacyStorageVolume(platform.disk, platform.random, directory, fresh);
      expect((await planStorageAdoption(parts(platform))).facts).toContain("no backup yet");
      await adoptStorageVolume(parts(platform));
      const store = StorageStore.open(platform.databases, directory, volume);
      expect([store.done, store.logUuid, store.unusedGid]).toEqual([undefined, undefined, 0n]);
      store.close();
      await releaseStorageVolume(parts(platform));
      const { state, done } = await readLegacyStorageVolume(platform, directory);
      expect([state, done.lsid]).toEqual(["SyncReady", undefined]);
    });
    world.close();
  });

  test("on a device of walb device cannot go back, and says so before anything changes", async () => {
    const world = createSimWorld(1);
    const { platform } = world.host("s0");
    await world.complete(async () => {
      await writeLegacyStorageVolume(platform.disk, platform.random, directory, original);
      const user = { ...parts(platform), deviceKind: "user" as const };
      await adoptStorageVolume(user);
      expect(await codeOf(releaseStorageVolume(user))).toBe("state");
      StorageStore.open(platform.databases, directory, volume).close();
    });
    world.close();
  });
});

describe("a volume of the original's proxy", () => {
  const parts = (platform: Platform) => ({ platform, directory: "/proxy/vol0", volume });

  test("goes back with all it has not delivered, is taken over again, and loses nothing", async () => {
    const bench = await new ProxyBench(3, 2).open();
    for (const host of bench.archiveHosts) host.kill();
    for (let i = 0; i < 5; i++) await bench.complete(() => bench.send([io(i * 8, 16, i + 1)]));
    await bench.complete(() => bench.proxy.close("graceful"));
    bench.host.kill();
    const platform = bench.host.restart();
    await bench.complete(async () => {
      await releaseProxyVolume(parts(platform));
      const legacy = await readLegacyProxyVolume(platform.disk, "/proxy/vol0");
      expect(legacy.sizeLb).toBe(bench.sizeLb);
      expect(legacy.archives.map(({ name, pending }) => [name, pending.length])).toEqual([
        ["a0", 5],
        ["a1", 5],
      ]);
      expect(legacy.archives[0]!.target).toMatchObject({ host: "a0", port: 10200, sendDelayS: 0 });
      expect(await platform.disk.list("/proxy/vol0")).toEqual([
        "a0.archive",
        "a1.archive",
        "received",
        "sendto",
        "size",
      ]);
      // As where the original was killed between receiving and handing out.
      const name = legacy.archives[0]!.pending.at(-1)!.name;
      await platform.disk.rename(`/proxy/vol0/sendto/a0/${name}`, `/proxy/vol0/received/${name}`);
      await platform.disk.remove(`/proxy/vol0/sendto/a1/${name}`);
      // And one that the other archive has already.
      await platform.disk.remove(`/proxy/vol0/sendto/a1/${legacy.archives[1]!.pending[0]!.name}`);
      const { facts } = await adoptProxyVolume(parts(platform));
      expect(facts[0]).toBe("archive a0 at a0:10200, snappy:0:1, delay 0 s: 4 diffs wait");
    });
    for (const [i, host] of bench.archiveHosts.entries()) {
      await bench.complete(() => bench.archives[i]!.open(host.restart(), { kind: "tcp", host: "", port: 10200 }));
    }
    await bench.complete(() => bench.openProxy());
    await bench.delivered(600_000, [bench.archive]);
    await bench.world.run(60_000);
    expect(bench.archives[1]!.latest.gidB).toBe(0n);
    bench.world.close();
  });

  test("is whole after giving it back broke off while our own files went", async () => {
    const bench = await new ProxyBench(5, 1).open();
    for (const host of bench.archiveHosts) host.kill();
    for (let i = 0; i < 3; i++) await bench.complete(() => bench.send([io(i * 8, 16, i + 1)]));
    await bench.complete(() => bench.proxy.close("graceful"));
    bench.host.kill();
    const platform = bench.host.restart();
    await bench.complete(async () => {
      const { disk } = platform;
      const database = "/proxy/vol0/volume.db";
      await disk.link(database, "/proxy/kept.db");
      await releaseProxyVolume(parts(platform));
      // All is gone but the database, which goes last.
      await disk.link("/proxy/kept.db", database);
      await releaseProxyVolume(parts(platform));
      const legacy = await readLegacyProxyVolume(disk, "/proxy/vol0");
      expect(legacy.archives[0]!.pending).toHaveLength(3);
      const before = await disk.list("/proxy/vol0");
      expect((await releaseProxyVolume(parts(platform))).state).toBe("given back already");
      expect(await disk.list("/proxy/vol0")).toEqual(before);
    });
    bench.world.close();
  });

  test("is complete whatever breaks the adoption off", async () => {
    const crashes = await crashEverywhere({
      async prepare(world) {
        const bench = await new ProxyBench(5).open();
        bench.archiveHosts[0]!.kill();
        for (let i = 0; i < 3; i++) await bench.complete(() => bench.send([io(i * 8, 16, i + 1)]));
        await bench.complete(() => bench.proxy.close("graceful"));
        await bench.complete(() => releaseProxyVolume(parts(bench.host.platform)));
        // The files of that world, in this one.
        const host = world.host("p0");
        await world.complete(async () => {
          for (const path of bench.host.storage.paths()) {
            if (!path.startsWith("/proxy/vol0/")) continue;
            const bytes = bench.host.storage.peek(path, 0, bench.host.storage.sizeOf(path)!);
            await host.platform.disk.makeDirectory(path.slice(0, path.lastIndexOf("/")));
            await host.platform.disk.writeSmall(path, bytes);
          }
          await host.platform.disk.makeDirectory("/proxy/vol0/received");
        });
        bench.world.close();
        return host;
      },
      act: (platform) => adoptProxyVolume(parts(platform)),
      async check(platform) {
        expect(await platform.disk.list("/proxy/vol0")).toEqual(["diffs", "volume.db", "walb-tools"]);
        await releaseProxyVolume(parts(platform));
        const legacy = await readLegacyProxyVolume(platform.disk, "/proxy/vol0");
        expect(legacy.archives.map(({ pending }) => pending.length)).toEqual([3]);
      },
    });
    expect(crashes).toBeGreaterThan(20);
  }, 300_000);
});

describe.each([
  ["classic volumes", undefined],
  ["thin volumes", "tp"],
])("a volume of the original's archive on %s", (_, pool) => {
  const partsOf = async (scene: LvmScene) => {
    const platform = scene.platform();
    const lvm = new Lvm({ group: "vg", pool }, platform.commands!, platform.clock);
    const images = await openLvmImageStore({ disk: platform.disk, memory: platform.memory, lvm });
    return { platform, directory: "/data/vol0", volume, images };
  };
  const fill = async (scene: LvmScene): Promise<void> => {
    await scene.open();
    await scene.backup(2);
    for (const [from, to] of [
      [0, 3],
      [3, 4],
      [4, 6],
    ] as const)
      await scene.diff(from, to, to !== 4);
    await scene.command("restore", { gid: 4 });
    await scene.command("verify");
    await scene.role.close("graceful");
  };

  test.skipIf(pool === undefined)(
    "is taken over where the original ended while a cold point became the base",
    async () => {
      for (const isBaseWritten of [false, true]) {
        await withLvmScene(12, pool, async (scene) => {
          await fill(scene);
          await releaseArchiveVolume(await partsOf(scene));
          const { disk } = scene.platform();
          const legacy = await readLegacyArchiveVolume(disk, "/data/vol0");
          // It removes the base image, writes where it stands now, and renames.
          scene.lvm.volumes.set("wb_vol0_4_tmp", { ...scene.lvm.volumes.get("wc_vol0_4")!, isReadOnly: false });
          scene.lvm.volumes.delete("wc_vol0_4");
          scene.lvm.volumes.delete("wb_vol0");
          if (isBaseWritten) {
            const [{ gid, timestampS }] = legacy.colds as [{ gid: bigint; timestampS: number }];
            await writeLegacyArchiveVolume(disk, "/data/vol0", {
              ...legacy,
              base: plainState(snapshot(gid), timestampS),
            });
          }
          await adoptArchiveVolume(await partsOf(scene));
          await scene.open();
          expect(scene.lvm.names).toEqual(["wb_vol0", "wr_vol0_4"]);
          expect(await scene.check(`base written: ${isBaseWritten}`)).toEqual([4, 6]);
        });
      }
    },
  );

  test("goes back with its points, is taken over again, and every point is as it was", async () => {
    await withLvmScene(11, pool, async (scene) => {
      await fill(scene);
      await releaseArchiveVolume(await partsOf(scene));
      // The original will write to the image: what it held before says nothing any more.
      expect(await scene.platform().disk.info(`/data/vol0/${baseHashesName}`)).toBeUndefined();
      const legacy = await readLegacyArchiveVolume(scene.platform().disk, "/data/vol0");
      expect(legacy.diffs.map(({ meta }) => [meta.from.gidB, meta.to.gidB, meta.isMergeable])).toEqual([
        [0n, 3n, true],
        [3n, 4n, false],
        [4n, 6n, true],
      ]);
      expect(legacy.colds.map(({ gid }) => gid)).toEqual(pool === undefined ? [] : [4n]);
      expect(legacy).toMatchObject({ state: "Archived", leftovers: [], base: { from: { gidB: 0n, gidE: 2n } } });
      const report = await planArchiveAdoption(await partsOf(scene));
      expect(report.facts[0]).toStartWith("image /dev/vg/wb_vol0, 8192 LB, state <|0,2|>");
      await adoptArchiveVolume(await partsOf(scene));
      await scene.open();
      expect((await statusOf(scene.role.control)).trouble).toBeUndefined();
      expect(await gidsOf(scene.role.control)).toEqual([3, 4, 6]);
      for (const gid of [3, 4, 6]) {
        await scene.command("restore", { to: "/out.img", gid, overwrite: true });
        const found = scene.archive.storage.peek("/out.img", 0, scene.history.sizeLb * 512);
        expectSame(found, scene.history.at(gid), `gid ${gid}`);
      }
      await scene.diff(6, 7);
      const { restored } = await run(scene.role.control, "restored", { volume });
      expect(restored).toMatchObject([{ gid: 4n, path: "/dev/vg/wr_vol0_4" }]);
    });
  });

  test("does not go back by an old copy of its database, which the original would believe", async () => {
    await withLvmScene(13, pool, async (scene) => {
      await fill(scene);
      const { disk } = scene.platform();
      const path = "/data/vol0/volume.json";
      const manifest = JSON.parse(new TextDecoder().decode(await disk.readSmall(path, mib)));
      const later = JSON.stringify({ ...manifest, base: manifest.base.replace("<|0,2|>", "<|4|>") });
      await disk.writeSmall(path, new TextEncoder().encode(later));
      await expectError(partsOf(scene).then(releaseArchiveVolume), {
        code: "damaged",
        what: expect.stringContaining("old copy"),
      });
      expect((await disk.list("/data/vol0")).filter((name) => /^(base|state|uuid)$/.test(name))).toEqual([]);
    });
  });

  test("is complete whatever breaks the adoption off", async () => {
    let crashes = 0;
    for (let n = 1; ; n++) {
      const scene = new LvmScene(n, pool);
      try {
        await scene.world.complete(async () => {
          await fill(scene);
          await releaseArchiveVolume(await partsOf(scene));
        });
        scene.archive.crashAtOperation(n, { kill: n % 2 === 0 });
        const outcome = await attempt(scene.world, scene.archive, async () => adoptArchiveVolume(await partsOf(scene)));
        if (outcome === "done") break;
        await scene.world.complete(async () => {
          scene.archive.restart();
          await adoptArchiveVolume(await partsOf(scene));
          await scene.open();
          expect(await scene.check(`crash at ${n}`)).toEqual([3, 4, 6]);
        });
        crashes++;
      } catch (error) {
        throw new Error(`crash at operation ${n}: ${String(error)}`, { cause: error });
      } finally {
        scene.world.close();
      }
    }
    expect(crashes).toBeGreaterThan(10);
  }, 300_000);

  test("without its image is refused before anything changes", async () => {
    await withLvmScene(12, pool, async (scene) => {
      await fill(scene);
      await releaseArchiveVolume(await partsOf(scene));
      scene.lvm.volumes.delete("wb_vol0");
      expect(await codeOf(partsOf(scene).then(adoptArchiveVolume))).toBe("damaged");
      expect((await readLegacyArchiveVolume(scene.platform().disk, "/data/vol0")).diffs).toHaveLength(3);
    });
  });
});

describe("walb adopt", () => {
  const platform = createPlatform({ memoryBudgetBytes: 64 * 1024 * 1024, threads: 2 });

  test("says what it will do, does it when told to, and gives back", async () => {
    const directory = mkdtempSync(join(tmpdir(), "walb-adopt-"));
    try {
      const data = join(directory, "storage");
      await writeLegacyStorageVolume(platform.disk, platform.random, `${data}/vol0`, original);
      const dry = await runIn(directory, ["adopt", "storage", "--dry-run"]);
      expect(dry).toMatchObject({ code: 0 });
      expect(dry.err).toContain(
        "vol0, Target\n  device /dev/walb/vol0, of the kernel driver\n  delivered up to gid 7, lsid 100\n",
      );
      const originals = readdirSync(data, { recursive: true }).toSorted();
      expect(originals).toEqual(["vol0", "vol0/done", "vol0/path", "vol0/queue", "vol0/state", "vol0/uuid"]);
      expect((await runIn(directory, ["adopt", "storage"])).code).toBe(2);
      expect((await runIn(directory, ["adopt", "storage", "--back", "--dry-run"])).code).toBe(2);
      expect(readdirSync(data, { recursive: true }).toSorted()).toEqual(originals);
      const done = await runIn(directory, ["adopt", "storage", "--yes"]);
      expect(done.out).toBe(
        `1 volumes taken over\nnow start: walb storage --data ${data} --archive HOST:PORT --proxy HOST:PORT\n`,
      );
      expect(readdirSync(`${data}/vol0`).toSorted()).toEqual(["volume.db", "walb-tools"]);
      // What daemons make beside the volumes.
      for (const name of [".reserved-space", "peers.json"]) writeFileSync(join(data, name), "{}");
      const held = await platform.disk.open(`${data}/walb.lock`, { mode: "write", lock: true });
      expect((await runIn(directory, ["adopt", "storage", "--dry-run"])).code).toBe(7);
      await held.close();
      const back = await runIn(directory, ["adopt", "storage", "--back", "--yes"]);
      expect(back).toMatchObject({ code: 0, err: "", out: "1 volumes given back\n" });
      expect(readdirSync(data, { recursive: true }).toSorted()).toEqual(originals);
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  });

  test("goes on with the same command where only some volumes were taken over, or given back", async () => {
    const directory = mkdtempSync(join(tmpdir(), "walb-adopt-"));
    try {
      const data = join(directory, "storage");
      const volumes = ["vol0", "vol1"];
      for (const name of volumes) {
        await writeLegacyStorageVolume(platform.disk, platform.random, `${data}/${name}`, original);
      }
      const files = () => volumes.map((name) => readdirSync(`${data}/${name}`).toSorted());
      const [originals] = files();
      expect((await runIn(directory, ["adopt", "storage", "--volume", "vol0", "--yes"])).code).toBe(0);
      // And one that broke off while its files were moved.
      renameSync(`${data}/vol0/walb-tools/queue`, `${data}/vol0/queue`);
      const dry = await runIn(directory, ["adopt", "storage", "--dry-run"]);
      expect(dry).toMatchObject({ code: 0 });
      expect(dry.err).toContain("vol0, taken over already\nvol1, Target\n");
      for (let i = 0; i < 2; i++) {
        expect((await runIn(directory, ["adopt", "storage", "--yes"])).code).toBe(0);
        expect(files()).toEqual([
          ["volume.db", "walb-tools"],
          ["volume.db", "walb-tools"],
        ]);
      }
      expect((await runIn(directory, ["adopt", "storage", "--volume", "vol0", "--back", "--yes"])).code).toBe(0);
      expect(readdirSync(data)).toContain("walb.lock");
      for (let i = 0; i < 2; i++) {
        expect((await runIn(directory, ["adopt", "storage", "--back", "--yes"])).code).toBe(0);
        expect(files()).toEqual([originals!, originals!]);
        expect(readdirSync(data).toSorted()).toEqual(volumes);
      }
      for (const name of volumes) {
        const found = await readLegacyStorageVolume(platform, `${data}/${name}`);
        expect(found).toMatchObject({ state: "Target", done: original.done, queue: original.queue });
      }
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  });

  test("is what a daemon asks for that finds volumes of the original in its directory", async () => {
    const directory = mkdtempSync(join(tmpdir(), "walb-adopt-"));
    try {
      await writeLegacyStorageVolume(platform.disk, platform.random, `${directory}/vol0`, original);
      mkdirSync(join(directory, "other"));
      const { volumes, broken } = await openVolumes(platform.disk, directory, existsSync, async () => "opened");
      expect(volumes.size).toBe(0);
      expect(broken.map(({ volume: name, error }) => [name, error.code, error.hint])).toEqual([
        ["vol0", "state", `stop this daemon, and take it over: walb adopt ${directory}`],
      ]);
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  });

  test("refuses what is no data directory, a running daemon's, and an archive without its volume group", async () => {
    const directory = mkdtempSync(join(tmpdir(), "walb-adopt-"));
    try {
      expect((await runIn(directory, ["adopt", "nowhere"])).code).toBe(1);
      mkdirSync(join(directory, "empty"));
      expect((await runIn(directory, ["adopt", "empty"])).code).toBe(1);
      expect(readdirSync(join(directory, "empty"))).toEqual([]);
      mkdirSync(join(directory, "other/vol0"), { recursive: true });
      expect((await runIn(directory, ["adopt", "other"])).code).toBe(5);
      const data = join(directory, "storage");
      await writeLegacyStorageVolume(platform.disk, platform.random, `${data}/vol0`, original);
      const queue = await platform.disk.open(`${data}/vol0/queue`, { mode: "read", lock: true });
      expect((await runIn(directory, ["adopt", "storage", "--yes"])).code).toBe(7);
      await queue.close();
      mkdirSync(`${data}/vol1`);
      const stranger = await runIn(directory, ["adopt", "storage", "--yes"]);
      expect(stranger.code).toBe(1);
      expect(stranger.err).toContain("volume vol1");
      expect(stranger.err).toContain("name the others with --volume");
      const noGroup = await runIn(directory, ["adopt", "storage", "--role", "archive", "--yes"]);
      expect(noGroup.code).toBe(2);
      expect(noGroup.err).toContain("--images lvm:VG");
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  });
});
