import { describe, expect, test } from "bun:test";
import type { RunningRole } from "../../src/control/role.ts";
import { Codec } from "../../src/native/codec.ts";
import { createInlineCompute, createMemoryPool } from "../../src/native/index.ts";
import type { DiskFault, SimDiskOptions, SimHost } from "../../src/sim/api.ts";
import { createSimWorld, type SimWorld } from "../../src/sim/sim.ts";
import { runGet } from "../../src/wire/get.ts";
import { connectWire } from "../../src/wire/handshake.ts";
import { runLatestSnap } from "../../src/wire/latest-snap.ts";
import { runBhash, runVirtualScan, type ScannedBulk } from "../../src/wire/scan.ts";
import type { WireStream } from "../../src/wire/stream.ts";
import { codeOf, expectError } from "../helpers/errors.ts";
import { expectSame, gidsOf, openTestArchive, run, statusOf } from "./harness.ts";
import { History } from "./model.ts";
import { logUuid, sendDiff, sendImage, startS } from "./peers.ts";

const mib = 1024 * 1024;
const listen = { kind: "tcp", host: "", port: 10200 } as const;
const address = { kind: "tcp", host: "archive", port: 10200 } as const;

interface SceneOptions {
  readonly sizeLb?: number;
  readonly steps?: number;
  readonly archive?: object;
  readonly disk?: SimDiskOptions;
  readonly memoryBytes?: number;
}

/** An archive with a backup of a random history as of gid 0. */
class Scene {
  readonly world: SimWorld;
  readonly archive: SimHost;
  readonly client: SimHost;
  readonly history: History;
  role!: RunningRole;

  constructor(seed: number, options: SceneOptions = {}) {
    this.world = createSimWorld(seed);
    const { disk, memoryBytes = 320 * mib } = options;
    this.archive = this.world.host("archive", { memoryBytes, ...(disk === undefined ? {} : { disk }) });
    this.client = this.world.host("client", { memoryBytes: 64 * mib });
    this.history = new History(options.sizeLb ?? 2000, seed);
    for (let i = 0; i < (options.steps ?? 8); i++) this.history.step();
  }

  get peer() {
    return { platform: this.client.platform, address };
  }

  do<T>(work: () => Promise<T>): Promise<T> {
    return this.world.complete(work);
  }

  async open(options: object = {}): Promise<void> {
    this.role = await this.do(() => openTestArchive(this.archive.platform, "/data", { listen, ...options }));
  }

  command(name: string, params: object = {}): Promise<Record<string, unknown>> {
    return run(this.role.control, name, { volume: "vol0", ...params });
  }

  async diff(from: number, to: number, options: object = {}): Promise<string> {
    const records = this.history.diff(from, to);
    const answer = await sendDiff(this.peer, from, to, records, { sizeLb: this.history.sizeLb, ...options });
    return answer.kind === "word" ? answer.word : answer.kind;
  }

  /** A wire conversation of the client. */
  async converse<T>(protocol: string, use: (stream: WireStream) => Promise<T>): Promise<T> {
    const { clock, net } = this.client.platform;
    const { stream } = await connectWire(net, address, { clock, clientId: "c", protocol });
    try {
      return await use(stream);
    } finally {
      stream.close();
    }
  }
}

async function withScene(seed: number, options: SceneOptions, use: (scene: Scene) => Promise<void>): Promise<void> {
  const scene = new Scene(seed, options);
  try {
    await scene.open(options.archive);
    await scene.do(() => scene.command("init"));
    await scene.do(() => sendImage(scene.peer, scene.history.at(0), { gidE: 0n, bulkLb: 64 }));
    await use(scene);
    await scene.do(() => scene.role.close("graceful"));
  } finally {
    scene.world.close();
  }
}

describe("a block device", () => {
  const restore = (scene: Scene, params: object = {}) => scene.command("restore", { to: "/dev/target", ...params });

  for (const logicalBlockBytes of [512, 4096] as const) {
    test(`with blocks of ${logicalBlockBytes} bytes gets the volume, and keeps what lies behind it`, async () => {
      await withScene(7, {}, async (scene) => {
        const { storage } = scene.archive;
        const sizeBytes = 4000 * 512;
        storage.addBlockDevice("/dev/target", { sizeBytes, logicalBlockBytes, physicalBlockBytes: 4096 });
        storage.poke("/dev/target", 0, new Uint8Array(sizeBytes).fill(0xee));
        await scene.do(() => scene.diff(0, 3));
        expect(await scene.do(() => codeOf(restore(scene)))).toBe("already-exists");
        expect(storage.peek("/dev/target", 0, 1)[0]).toBe(0xee);
        const dry = await scene.do(() => restore(scene, { overwrite: true, dryRun: true }));
        expect(dry).toMatchObject({ method: "device" });
        expect(storage.peek("/dev/target", 0, 1)[0]).toBe(0xee);
        const done = await scene.do(() => restore(scene, { overwrite: true }));
        expect(done).toMatchObject({ method: "device", gid: 3n });
        expectSame(storage.peek("/dev/target", 0, 2000 * 512), scene.history.at(3), "device");
        expect(storage.peek("/dev/target", 2000 * 512, 1)[0]).toBe(0xee);
      });
    });
  }

  test("that is too small or in use is refused untouched", async () => {
    await withScene(8, {}, async (scene) => {
      const { storage } = scene.archive;
      storage.addBlockDevice("/dev/target", { sizeBytes: 1999 * 512 });
      expect(await scene.do(() => codeOf(restore(scene, { overwrite: true })))).toBe("out-of-range");
      expect(storage.peek("/dev/target", 0, 1999 * 512).some((byte) => byte !== 0)).toBe(false);
    });
  });
});

describe("a scan", () => {
  async function scan(scene: Scene, gid: number, bulkLb: number, sizeText?: string): Promise<Uint8Array> {
    const { memory, compute } = scene.client.platform;
    let image = new Uint8Array(0);
    const parameters = ["vol0", `${gid}`, `${bulkLb * 512}`, ...(sizeText === undefined ? [] : [sizeText])];
    await scene.converse("virt-full-scan", (stream) =>
      runVirtualScan(stream, parameters, bulkLb, memory, {
        begin(sizeLb) {
          image = new Uint8Array(sizeLb * 512);
        },
        async write(bulk: ScannedBulk) {
          if (bulk.data === undefined) return;
          const target = await memory.lease(bulk.sizeLb * 512);
          const [sum] = await compute.checksums([bulk.data], 0);
          const item = { source: bulk.data, codec: Codec.snappy, checksum: sum!, target };
          expect([...(await compute.decode([item]))]).toEqual([0]);
          image.set(target.bytes, bulk.offsetLb * 512);
          target.release();
          bulk.release();
        },
        finish: async () => {},
        abandon: async () => {},
      }),
    );
    return image;
  }

  test("streams any point without writing anything, in any bulk, whole or the first part", async () => {
    await withScene(3, {}, async (scene) => {
      for (let gid = 0; gid < 6; gid++) await scene.do(() => scene.diff(gid, gid + 1));
      const before = scene.archive.storage.mutationCount;
      for (const [gid, bulkLb] of [
        [0, 512],
        [3, 64],
        [6, 7],
        [6, 8192],
      ] as const) {
        expectSame(await scene.do(() => scan(scene, gid, bulkLb)), scene.history.at(gid), `gid ${gid} by ${bulkLb}`);
      }
      const part = await scene.do(() => scan(scene, 5, 64, "64k"));
      expectSame(part, scene.history.at(5).subarray(0, 64 * 1024), "the first 64 KiB");
      expect(scene.archive.storage.mutationCount).toBe(before);
      await expectError(
        scene.do(() => scan(scene, 9, 64)),
        /gid 9 is not restorable/,
      );
      await expectError(
        scene.do(() => scan(scene, 5, 64, "1g")),
        /2000/,
      );
    });
  });

  test("hashes as the original does: XOR of each bulk's hash with its number as seed", async () => {
    await withScene(4, {}, async (scene) => {
      await scene.do(() => scene.diff(0, 4));
      const found = await scene.do(() =>
        scene.converse("bhash", (stream) => runBhash(stream, ["vol0", "4", `${96 * 512}`])),
      );
      const pool = createMemoryPool(mib);
      const wanted = new Uint8Array(16);
      for (let at = 0, i = 0; at < 2000; at += 96, i++) {
        const bytes = scene.history.at(4).subarray(at * 512, Math.min(2000, at + 96) * 512);
        const lease = await pool.lease(bytes.length);
        lease.bytes.set(bytes);
        const hash = await createInlineCompute().hashes([lease], i);
        lease.release();
        for (let k = 0; k < 16; k++) wanted[k]! ^= hash[k]!;
      }
      expect(found).toEqual(wanted);
    });
  });
});

describe("questions of other daemons", () => {
  test("are answered in the original's forms", async () => {
    await withScene(5, {}, async (scene) => {
      await scene.do(() => scene.diff(0, 2, { isMergeable: false }));
      await scene.do(() => scene.diff(2, 3));
      await scene.do(() => scene.diff(3, 5, { isMergeable: false }));
      const get = <Name extends Parameters<typeof runGet>[1]>(name: Name, args: string[] = []) =>
        scene.do(() => scene.converse("get", (stream) => runGet(stream, name, args)));
      expect(await get("host-type")).toBe("archive");
      expect(await get("vol")).toEqual(["vol0"]);
      expect(await get("state", ["vol0"])).toBe("Archived");
      expect(await get("state", ["other"])).toBe("Clear");
      expect(await get("uuid", ["vol0"])).toBe(logUuid);
      expect(await get("vol-size", ["vol0"])).toBe(2000);
      expect(await get("num-diff", ["vol0"])).toBe(3);
      expect(await get("base", ["vol0"])).toBe("<|0|>-20270115080000");
      expect(await get("meta-snap", ["vol0", "4"])).toBe("|3|");
      expect(await get("restorable", ["vol0"])).toEqual([
        "0 2027-01-15T08:00:00 0",
        "3 2027-01-15T08:00:03 1",
        "5 2027-01-15T08:00:05 1",
      ]);
      expect(await get("restorable", ["vol0", "all"])).toHaveLength(4);
      expect(await get("latest-snap", ["vol0"])).toEqual([
        "name:vol0\tkind:archive\tgid:5\ttimestamp:2027-01-15T08:00:05",
      ]);
      await expectError(get("uuid", ["other"]), /does not know this volume/);
      const latest = await scene.do(() =>
        scene.converse("gather-latest-snap", (stream) => runLatestSnap(stream, ["vol0", "other"])),
      );
      expect(latest).toMatchObject([
        { volume: "vol0", gid: 5n, timestampS: startS + 5 },
        { volume: "other", gid: 2n ** 64n - 1n, timestampS: 0 },
      ]);
      expect(await scene.do(async () => (await run(scene.role.control, "volumes")).volumes)).toEqual(["vol0"]);
    });
  });
});

describe("a full disk", () => {
  test("refuses a diff before it is sent, with the reason, and takes it when there is room", async () => {
    await withScene(6, {}, async (scene) => {
      scene.archive.storage.setCapacity(8 * mib);
      expect(await scene.do(() => scene.diff(0, 1))).toBe("text");
      const status = await scene.do(() => statusOf(scene.role.control));
      expect(status.trouble).toMatchObject({ code: "no-space", message: expect.stringContaining("MiB free") });
      scene.archive.storage.setCapacity(1024 * mib);
      expect(await scene.do(() => scene.diff(0, 1))).toBe("accept");
      expect((await scene.do(() => statusOf(scene.role.control))).trouble).toBeUndefined();
    });
  });

  test("that cannot even take the note of an apply leaves the volume as it was", async () => {
    await withScene(15, {}, async (scene) => {
      for (let gid = 0; gid < 4; gid++) await scene.do(() => scene.diff(gid, gid + 1));
      const { control } = scene.role;
      scene.archive.storage.inject({ pathIncludes: "volume.json", effect: "no-space" });
      expect(await scene.do(() => codeOf(scene.command("apply", { gid: 3 })))).toBe("no-space");
      expect(await scene.do(() => statusOf(control))).toMatchObject({ base: "<|0|>" });
      expect((await scene.do(() => statusOf(control))).trouble).toBeUndefined();
      expect(await scene.do(() => gidsOf(control))).toEqual([0, 1, 2, 3, 4]);
      await scene.do(() => scene.command("apply", { gid: 3 }));
      expect(await scene.do(() => gidsOf(control))).toEqual([3, 4]);
    });
  });

  test("in the middle of a diff, a merge, an apply or a restore leaves nothing behind and loses nothing", async () => {
    await withScene(9, { disk: { reflink: false } }, async (scene) => {
      const { storage } = scene.archive;
      for (let gid = 0; gid < 4; gid++) await scene.do(() => scene.diff(gid, gid + 1));
      const files = () => storage.paths().filter((path) => !path.endsWith(".json"));
      const before = files();
      const work: [string, () => Promise<unknown>][] = [
        ["receiving-", () => scene.diff(4, 6)],
        ["merging-", () => scene.command("merge", { fromGid: 0 })],
        ["walb-partial", () => scene.command("restore", { to: "/out.img" })],
        ["base.img", () => scene.command("apply", { gid: 2 })],
      ];
      for (const [pathIncludes, act] of work) {
        const fault = { kinds: ["write", "zero"], pathIncludes, effect: "no-space", times: 1000 } as const;
        const restoreDisk = storage.inject(fault);
        const code = await scene.do(() => codeOf(act()));
        expect(code).toBe(pathIncludes === "receiving-" ? "unreachable" : "no-space");
        restoreDisk();
        await scene.world.run(5_000);
        expect(files()).toEqual(before);
      }
      // The apply stays half done: what is older is gone, everything newer is there, and the next one ends it.
      expect((await scene.do(() => statusOf(scene.role.control))).base).toBe("<|0|-->|2|>");
      expect(await scene.do(() => codeOf(scene.command("merge", { fromGid: 2 })))).toBe("state");
      for (const gid of [2, 3, 4]) {
        await scene.do(() => scene.command("restore", { to: "/out.img", gid, overwrite: true }));
        expectSame(storage.peek("/out.img", 0, 2000 * 512), scene.history.at(gid), `gid ${gid}`);
      }
      await scene.do(() => scene.command("apply", { gid: 2 }));
      expect((await scene.do(() => statusOf(scene.role.control))).base).toBe("<|2|>");
      expect(await scene.do(() => scene.diff(4, 6))).toBe("accept");
      expect(await scene.do(() => gidsOf(scene.role.control))).toEqual([2, 3, 4, 6]);
    });
  });
});

describe("an apply that the disk stops in the middle", () => {
  const hour = 3_600_000;
  const faults: [string, DiskFault][] = [
    ["no-space", { kinds: ["write", "zero"], skip: 1, effect: "no-space" }],
    ["io", { kinds: ["write", "zero"], skip: 2, effect: "io" }],
    ["io", { kinds: ["sync"], effect: "io" }],
  ];

  const full: DiskFault = { pathIncludes: "base.img", times: 1_000_000, kinds: ["write", "zero"], effect: "no-space" };

  /** Diffs to gid 6, and an apply of them that a fault ended. @returns mends the disk. */
  async function stopped(scene: Scene, gid: number, [code, fault]: [string, DiskFault]): Promise<() => void> {
    for (let i = 0; i < 6; i++) await scene.do(() => scene.diff(i, i + 1));
    const mend = scene.archive.storage.inject({ pathIncludes: "base.img", times: 1_000_000, ...fault });
    expect(await scene.do(() => codeOf(scene.command("apply", { gid })))).toBe(code);
    return mend;
  }

  const applyCount = (scene: Scene): number =>
    scene.role.control.listJobs().filter(({ command }) => command === "apply").length;

  async function expectPoints(scene: Scene, gids: number[]): Promise<void> {
    expect(await scene.do(() => gidsOf(scene.role.control))).toEqual(gids);
    for (const gid of gids) {
      await scene.do(() => scene.command("restore", { to: "/out.img", gid, overwrite: true }));
      expectSame(scene.archive.storage.peek("/out.img", 0, 2000 * 512), scene.history.at(gid), `gid ${gid}`);
    }
  }

  for (const [i, fault] of faults.entries()) {
    const [code, { kinds }] = fault;
    test(`(${code} at ${kinds?.join(" or ")}) is tried again, seldom, until it is finished; the status says why and when`, async () => {
      await withScene(20 + i, {}, async (scene) => {
        const mend = await stopped(scene, 4, fault);
        const first = await scene.do(() => statusOf(scene.role.control));
        const why = expect.stringContaining("an apply up to gid 4 is not finished, points before it are gone: ");
        const next = expect.stringContaining("it is tried again by itself");
        expect(first).toMatchObject({
          base: "<|0|-->|4|>",
          running: [],
          trouble: { code, message: why, step: "apply", hint: next },
          waiting: { step: "apply", host: "a0", why, next },
        });
        const { sinceMs, atMs, retryAtMs } = first.trouble as Record<string, number>;
        expect(first.waiting).toMatchObject({ sinceMs, nextMs: retryAtMs });
        expect(retryAtMs! - atMs!).toBeWithin(7_500, 12_501);
        expect(await scene.do(() => codeOf(scene.command("merge", { fromGid: 4 })))).toBe("state");
        await expectPoints(scene, [4, 5, 6]);
        await scene.world.run(2 * hour);
        // 10 s, doubled up to 5 minutes, with a quarter of jitter.
        expect(applyCount(scene)).toBeWithin(20, 40);
        const later = await scene.do(() => statusOf(scene.role.control));
        expect(later).toMatchObject({ base: "<|0|-->|4|>", trouble: { code, sinceMs }, waiting: { sinceMs } });
        expect((later.trouble as { atMs: number }).atMs).toBeGreaterThan(atMs! + hour);
        mend();
        await scene.world.run(400_000);
        const done = await scene.do(() => statusOf(scene.role.control));
        expect([done.base, done.trouble, done.waiting]).toEqual(["<|4|>", undefined, undefined]);
        await expectPoints(scene, [4, 5, 6]);
        const count = applyCount(scene);
        await scene.world.run(hour);
        expect(applyCount(scene)).toBe(count);
      });
    });
  }

  test("goes on as far as it was asked to, but destroys no point that was protected meanwhile", async () => {
    for (const [seed, isProtected] of [
      [24, false],
      [25, true],
    ] as const) {
      await withScene(seed, { archive: { openDiffsMax: 2 } }, async (scene) => {
        const mend = await stopped(scene, 6, ["no-space", full]);
        expect((await scene.do(() => statusOf(scene.role.control))).base).toBe("<|0|-->|2|>");
        if (isProtected) await scene.do(() => scene.command("label-snapshot", { gid: 3, protect: true }));
        mend();
        await scene.world.run(60_000);
        await expectPoints(scene, isProtected ? [2, 3, 4, 5, 6] : [6]);
      });
    }
  });

  test("rests while the volume is stopped, goes on when it is started, and is over with a reset", async () => {
    await withScene(26, {}, async (scene) => {
      const { control } = scene.role;
      const mend = await stopped(scene, 4, ["no-space", full]);
      const rests = async (): Promise<void> => {
        await scene.do(() => scene.command("stop", { mode: "graceful" }));
        expect(await scene.do(() => statusOf(control))).toMatchObject({
          base: "<|0|-->|4|>",
          waiting: { next: "nothing by itself; start the volume, then it goes on: walb start vol0 --server a0" },
        });
        const count = applyCount(scene);
        await scene.world.run(hour);
        expect(applyCount(scene)).toBe(count);
      };
      await rests();
      await scene.do(() => scene.command("start"));
      await scene.world.run(5_000);
      expect(await scene.do(() => statusOf(control))).toMatchObject({ waiting: { nextMs: expect.any(Number) } });
      await rests();
      await scene.do(() => scene.command("start"));
      mend();
      await scene.world.run(60_000);
      await expectPoints(scene, [4, 5, 6]);
      scene.archive.storage.inject(full);
      expect(await scene.do(() => codeOf(scene.command("apply", { gid: 6 })))).toBe("no-space");
      await scene.do(() => scene.command("stop", { mode: "force" }));
      await scene.do(() => scene.command("reset"));
      const { trouble, waiting, state } = await scene.do(() => statusOf(control));
      expect([state, trouble, waiting]).toEqual(["SyncReady", undefined, undefined]);
    });
  });

  test("is left alone once a try is cancelled, and goes on after a restart", async () => {
    await withScene(27, {}, async (scene) => {
      const mend = await stopped(scene, 4, ["no-space", full]);
      mend();
      const effect = { minMs: 60_000, maxMs: 60_000 };
      const fast = scene.archive.storage.inject({ pathIncludes: ".wdiff", kinds: ["read"], times: 1_000, effect });
      await scene.world.run(20_000);
      const { control } = scene.role;
      expect(await scene.do(() => statusOf(control))).toMatchObject({
        running: [{ action: "Apply", count: 1 }],
        waiting: { next: expect.stringContaining("it is being tried again now") },
      });
      const job = control.listJobs().find(({ state }) => state === "running");
      await scene.do(() => control.cancelJob(job!.id));
      fast();
      await scene.world.run(hour);
      expect(await scene.do(() => statusOf(control))).toMatchObject({
        base: "<|0|-->|4|>",
        waiting: { next: "nothing by itself; finish it: walb apply vol0 --server a0 --before 4" },
      });
      scene.archive.kill();
      scene.archive.restart();
      await scene.open();
      await scene.world.run(5_000);
      await expectPoints(scene, [4, 5, 6]);
    });
  });
});

describe("work side by side", () => {
  test("an apply does not hold up diffs, keeps restores and merges away, and is ended by a cancel", async () => {
    await withScene(10, { steps: 12, archive: { applySleepPercent: 50, openDiffsMax: 2 } }, async (scene) => {
      for (let gid = 0; gid < 6; gid++) await scene.do(() => scene.diff(gid, gid + 1));
      const { control } = scene.role;
      const slow = scene.archive.storage.inject({
        pathIncludes: "base.img",
        kinds: ["write", "zero"],
        times: 100_000,
        effect: { minMs: 2_000, maxMs: 2_000 },
      });
      const outcome = await scene.do(() => control.call("apply", { volume: "vol0", gid: 4 }));
      const id = outcome.kind === "job" ? outcome.job.id : "";
      await scene.world.run(1_000);
      const during = await scene.do(() => statusOf(control));
      expect(during).toMatchObject({ base: "<|0|-->|2|>", running: [{ action: "Apply", count: 1 }] });
      expect(await scene.do(() => scene.diff(6, 7))).toBe("accept");
      expect(control.job(id).state).toBe("running");
      expect(await scene.do(() => codeOf(scene.command("restore", { to: "/out.img", gid: 5 })))).toBe("busy");
      expect(await scene.do(() => codeOf(scene.command("merge", { fromGid: 4 })))).toBe("busy");
      expect(await scene.do(() => codeOf(scene.command("apply", { gid: 5 })))).toBe("busy");
      await scene.do(() => control.cancelJob(id));
      expect(control.job(id).state).toBe("cancelled");
      slow();
      expect((await scene.do(() => statusOf(control))).base).toBe("<|2|>");
      await scene.do(() => scene.command("restore", { to: "/out.img", gid: 5 }));
      expectSame(scene.archive.storage.peek("/out.img", 0, 2000 * 512), scene.history.at(5), "after the cancel");
      await scene.do(() => scene.command("apply", { gid: 5 }));
      expect(await scene.do(() => gidsOf(control))).toEqual([5, 6, 7]);
    });
  });

  test("an apply that was killed goes on by itself after a restart, and gives way to restores and scans", async () => {
    await withScene(12, { steps: 12, archive: { openDiffsMax: 2 } }, async (scene) => {
      for (let gid = 0; gid < 6; gid++) await scene.do(() => scene.diff(gid, gid + 1));
      const { storage } = scene.archive;
      const effect = { minMs: 2_000, maxMs: 2_000 };
      storage.inject({ pathIncludes: "base.img", kinds: ["write", "zero"], times: 1, effect });
      await scene.do(() => scene.role.control.call("apply", { volume: "vol0", gid: 4 }));
      await scene.world.run(1_000);
      scene.archive.kill();
      scene.archive.restart();
      const fast = storage.inject({ pathIncludes: ".wdiff", kinds: ["read"], times: 100_000, effect });
      await scene.open({ maxForegroundTasks: 1 });
      const { control } = scene.role;
      await scene.world.run(100);
      expect(await scene.do(() => statusOf(control))).toMatchObject({
        base: "<|0|-->|2|>",
        running: [{ action: "Apply", count: 1 }],
      });
      expect(control.listJobs()).toMatchObject([{ command: "apply", state: "running" }]);
      // Nobody asked for it now: it takes none of the places of foreground work.
      await scene.do(() => run(control, "init", { volume: "vol1" }));
      const other = { volume: "vol1", gidE: 0n, bulkLb: 64 };
      expect(await scene.do(() => sendImage(scene.peer, scene.history.at(0), other))).toEqual({ kind: "accept" });
      await scene.do(() => scene.command("restore", { to: "/out.img", gid: 5 }));
      expectSame(storage.peek("/out.img", 0, 2000 * 512), scene.history.at(5), "restored meanwhile");
      expect(control.listJobs().find(({ command }) => command === "apply")?.state).toBe("cancelled");
      await scene.world.run(1_500);
      expect(await scene.do(() => statusOf(control))).toMatchObject({ running: [{ action: "Apply", count: 1 }] });
      const words = ["vol0", "6", `${128 * 512}`];
      let bulks = 0;
      await scene.do(() =>
        scene.converse("virt-full-scan", (stream) =>
          runVirtualScan(stream, words, 128, scene.client.platform.memory, {
            begin: () => undefined,
            write(bulk) {
              bulks++;
              bulk.release();
            },
            finish: async () => undefined,
            abandon: async () => undefined,
          }),
        ),
      );
      expect(bulks).toBe(Math.ceil(2000 / 128));
      expect((await scene.do(() => statusOf(control))).base).toBe("<|0|-->|2|>");
      fast();
      await scene.world.run(5_000);
      expect((await scene.do(() => statusOf(control))).base).toBe("<|2|>");
      expect(await scene.do(() => gidsOf(control))).toEqual([2, 3, 4, 5, 6]);
    });
  });

  test("a cancelled or forcibly stopped restore leaves no file, and keeps an apply away while it runs", async () => {
    await withScene(11, {}, async (scene) => {
      for (let gid = 0; gid < 6; gid++) await scene.do(() => scene.diff(gid, gid + 1));
      const { control } = scene.role;
      for (const how of ["cancel", "stop"]) {
        const slow = scene.archive.storage.inject({
          pathIncludes: "walb-partial",
          kinds: ["write", "zero"],
          times: 100_000,
          effect: { minMs: 3_000, maxMs: 3_000 },
        });
        const outcome = await scene.do(() => control.call("restore", { volume: "vol0", to: "/out.img" }));
        const id = outcome.kind === "job" ? outcome.job.id : "";
        await scene.world.run(500);
        expect(await scene.do(() => codeOf(scene.command("apply", { gid: 2 })))).toBe("busy");
        expect(await scene.do(() => codeOf(scene.command("restore", { to: "/out.img" })))).toBe("busy");
        if (how === "cancel") await scene.do(() => control.cancelJob(id));
        else await scene.do(() => scene.command("stop", { mode: "force" }));
        expect(control.job(id).state).not.toBe("running");
        expect(control.job(id).error).toMatchObject({ code: "cancelled" });
        slow();
        expect(scene.archive.storage.paths().filter((path) => path.startsWith("/out"))).toEqual([]);
      }
      expect((await scene.do(() => statusOf(control))).state).toBe("Stopped");
    });
  });

  test("a graceful stop waits for what runs and refuses new work meanwhile", async () => {
    await withScene(12, {}, async (scene) => {
      await scene.do(() => scene.diff(0, 3));
      const { control } = scene.role;
      const slow = { pathIncludes: "/out.img", kinds: ["clone"] as const, effect: { minMs: 9_000, maxMs: 9_000 } };
      scene.archive.storage.inject(slow);
      const outcome = await scene.do(() => control.call("restore", { volume: "vol0", to: "/out.img" }));
      const stopping = scene.do(() => scene.command("stop", { mode: "graceful" }));
      void stopping.catch(() => undefined);
      await stopping;
      expect(outcome.kind === "job" ? control.job(outcome.job.id).state : "").toBe("done");
      expectSame(scene.archive.storage.peek("/out.img", 0, 2000 * 512), scene.history.at(3), "restored");
      expect((await scene.do(() => statusOf(control))).state).toBe("Stopped");
    });
  });

  test("a peer that falls silent is given up, and the next one is served", async () => {
    await withScene(13, {}, async (scene) => {
      let sending: Promise<unknown> | undefined;
      await scene.do(async () => {
        sending = scene.diff(0, 2, { recordsPerPack: 1, beforePack: () => new Promise<void>(() => {}) });
        sending.catch(() => undefined);
        await scene.client.platform.clock.sleep(500);
      });
      expect(await scene.do(() => scene.diff(0, 2))).toBe("wdiff-recv");
      await scene.world.run(300_000);
      expect(await scene.do(() => scene.diff(0, 2))).toBe("accept");
      expect(scene.archive.storage.paths().filter((path) => path.endsWith(".tmp"))).toEqual([]);
    });
  });
});

describe("memory", () => {
  test("of the smallest daemon is enough for everything", async () => {
    await withScene(14, { memoryBytes: 160 * mib, sizeLb: 20_000 }, async (scene) => {
      await scene.do(() => scene.diff(0, 4));
      await scene.do(() => scene.diff(4, 8));
      await scene.do(() => scene.command("merge", { fromGid: 0 }));
      await scene.do(() => scene.command("restore", { to: "/out.img" }));
      expectSame(scene.archive.storage.peek("/out.img", 0, 20_000 * 512), scene.history.at(8), "restored");
      await scene.do(() => scene.command("apply", { gid: 8 }));
      expect(await scene.do(() => gidsOf(scene.role.control))).toEqual([8]);
    });
  });
});
