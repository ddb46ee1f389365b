import { afterAll, afterEach, beforeEach, describe, expect, test } from "bun:test";
import {
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type DeviceDaemon, type EngineTuning, openDeviceDaemon } from "../../../src/device/user/daemon.ts";
import { WalbError } from "../../../src/errors.ts";
import { LogDeviceReader } from "../../../src/log/reader.ts";
import type { Disk, DiskFile } from "../../../src/platform/disk.ts";
import type { Address } from "../../../src/platform/net.ts";
import { closePlatform, createPlatform } from "../../../src/platform/real/index.ts";
import { RawNbd, request } from "../nbd/raw.ts";

const mib = 1024 * 1024;
const platform = createPlatform({ memoryBudgetBytes: 256 * mib, threads: 4 });
const nbdMemory = platform.memory.carve(64 * mib);
afterAll(() => closePlatform(platform));

const noSpace = 28;
const notPermitted = 1;

/** What a test does to an access before it takes place. */
type Hook = (operation: keyof DiskFile, file: DiskFile, sizeBytes: number) => Promise<void> | undefined;

/** The real disk, with a say in each write and sync. */
function hooked(hook: Hook): Disk {
  const wrap = (file: DiskFile): DiskFile =>
    new Proxy(file, {
      get(target, key: keyof DiskFile) {
        const value = Reflect.get(target, key) as unknown;
        if (typeof value !== "function") return value;
        // Through the page cache at once, nothing could be slow; a sync that answers are left to is none of ours.
        if (key === "writeCached" || key === "beginSync") return undefined;
        return async (...parameters: unknown[]) => {
          const source = parameters[1] as { sizeBytes?: number } | undefined;
          await hook(key, target, source?.sizeBytes ?? 0);
          return await Reflect.apply(value, target, parameters);
        };
      },
    });
  return new Proxy(platform.disk, {
    get(target, key: keyof Disk) {
      if (key === "open")
        return async (...parameters: Parameters<Disk["open"]>) => wrap(await target.open(...parameters));
      return (Reflect.get(target, key) as (...parameters: unknown[]) => unknown).bind(target);
    },
  });
}

describe("the limits of a device", () => {
  let directory: string;
  let address: Address;
  let daemon: DeviceDaemon | undefined;
  const problems: WalbError[] = [];

  const start = async (engine: EngineTuning = {}, disk: Disk = platform.disk): Promise<DeviceDaemon> => {
    const parts = { ...platform, disk };
    const nbdListeners = [address];
    daemon = await openDeviceDaemon(parts, {
      dataDir: join(directory, "d"),
      nbdListeners,
      nodeId: "n",
      nbdMemory,
      engine,
      onProblem: (error) => problems.push(error),
    });
    return daemon;
  };
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), "walb-limits-"));
    address = { kind: "unix", path: join(directory, "nbd.sock") };
  });
  afterEach(async () => {
    await daemon?.close();
    daemon = undefined;
    expect(nbdMemory.leasedBytes).toBe(0);
    rmSync(directory, { recursive: true, force: true });
  });

  const writeCount = Number(process.env.WALB_PENDING_WRITES ?? 60_000);
  test(
    `${writeCount} writes of 4 KiB sent at once to a slow data store stay within the memory budget, and all arrive`,
    async () => {
      let isSlow = true;
      let slowWrites = 0;
      const disk = hooked((operation, file) => {
        if (!isSlow || !file.path.endsWith("vol.data") || !operation.startsWith("write")) return undefined;
        slowWrites += 1;
        return Bun.sleep(100);
      });
      const device = await start({ pendingBudgetBytes: 16 * mib }, disk);
      await device.create({ name: "vol", sizeBytes: 32 * mib, logSizeBytes: 64 * mib });
      const clients = await Promise.all([0, 1, 2, 3].map(() => RawNbd.go(platform.net, address, "vol")));
      const before = process.memoryUsage().rss;
      let answered = 0;
      let leasedMax = 0;
      let isOver = false;
      const each = writeCount / clients.length;
      const work = clients.map(async (client, part) => {
        const data = Buffer.alloc(4096);
        const sender = (async () => {
          for (let i = 0; i < each; i++) {
            // Each client has blocks of its own, each block its last number at the end.
            const block = part * 2048 + (i % 2048);
            data.writeUInt32LE(i, 0);
            client.send(request(1, i, block * 4096, 4096, 0, data));
            if (i % 64 === 0) await client.connection.drained();
          }
        })();
        for (let i = 0; i < each; i++) {
          expect((await client.nextReply()).error).toBe(0);
          answered += 1;
        }
        await sender;
      });
      const watch = (async () => {
        while (!isOver) {
          leasedMax = Math.max(leasedMax, nbdMemory.leasedBytes);
          await Bun.sleep(5);
        }
      })();
      await Bun.sleep(1500);
      // Pending writes are held back in the clients' sockets, not in our memory.
      expect(slowWrites).toBeGreaterThan(0);
      expect(answered).toBeLessThan(writeCount);
      expect(leasedMax).toBeGreaterThan(8 * mib);
      isSlow = false;
      await Promise.all(work);
      isOver = true;
      await watch;
      expect(leasedMax).toBeLessThanOrEqual(nbdMemory.budgetBytes);
      // A budget of 16 MiB, what sockets and clients of this very process hold, and what is not collected yet.
      expect(process.memoryUsage().rss - before).toBeLessThan(300 * mib);
      await device.checkpoint("vol");
      const stored = readFileSync(join(directory, "d", "vol.data"));
      for (let block = 0; block < 8192; block += 97) {
        const at = block % 2048;
        expect(stored.readUInt32LE(block * 4096)).toBe(at + 2048 * Math.floor((each - 1 - at) / 2048));
      }
      for (const client of clients) client.connection.close();
    },
    Math.max(60_000, writeCount / 2),
  );

  test("a log that is full answers no-space under the policy to stop, and takes writes again when some was shipped", async () => {
    const device = await start();
    await device.create({ name: "vol", sizeBytes: 8 * mib, logSizeBytes: 2 * mib, overflow: "stop" });
    const client = await RawNbd.go(platform.net, address, "vol");
    const data = Buffer.alloc(65536, 7);
    const write = async (): Promise<number> => {
      client.send(request(1, 1, 0, data.length, 0, data));
      return (await client.reply(1)).error;
    };
    let count = 0;
    let error = 0;
    while (error === 0 && count < 100) {
      error = await write();
      count += 1;
    }
    expect(error).toBe(noSpace);
    expect(count).toBeGreaterThan(10);
    expect(await write()).toBe(noSpace);
    await device.checkpoint("vol");
    const full = await device.show("vol");
    expect(full).toMatchObject({ state: "running" });
    expect(full.status!.isOverflow).toBe(false);
    const { connectUserDevice } = await import("../../../src/device/user/control/client.ts");
    const consumer = connectUserDevice(platform, device.controlPath, "vol");
    await consumer.setOldest(full.status!.lsids.prevWritten);
    await consumer.close();
    expect(await write()).toBe(0);
    client.connection.close();
  });

  test("appends wait for space that is being prepared, however slowly, and nothing of the log is lost", async () => {
    let prepared = 0;
    const { promise: goOn, resolve: letGoOn } = Promise.withResolvers<void>();
    let isWaiting = false;
    const disk = hooked((operation, file, sizeBytes) => {
      if (operation !== "write" || !file.isDirect || sizeBytes !== mib) return undefined;
      prepared += 1;
      return prepared === 1 ? goOn : Bun.sleep(1);
    });
    const device = await start({ checkpointIntervalMs: 600_000 }, disk);
    await device.create({ name: "vol", sizeBytes: 16 * mib, logSizeBytes: 320 * mib });
    const logPath = join(directory, "d", "vol.log");
    expect(statSync(logPath).blocks * 512).toBeGreaterThanOrEqual(320 * mib);
    const client = await RawNbd.go(platform.net, address, "vol");
    const data = Buffer.alloc(65536);
    const writeCount = 240;
    for (let i = 0; i < writeCount; i++) {
      data.fill(i + 1);
      client.send(request(1, i, i * data.length, data.length, 1, data));
      const reply = client.reply(i);
      if (!isWaiting && (await Promise.race([reply, Bun.sleep(500)])) === undefined) {
        isWaiting = true;
        letGoOn();
      }
      expect((await reply).error).toBe(0);
    }
    letGoOn();
    client.connection.close();
    const { status, info } = await device.show("vol");
    if (prepared === 0) {
      console.log("skipping: the temporary directory is on a file system without direct I/O");
    } else {
      // One write had to wait, and far more than was appended is prepared.
      expect(isWaiting).toBe(true);
      for (let i = 0; i < 250 && prepared < 48; i++) await Bun.sleep(20);
      expect(prepared).toBeGreaterThanOrEqual(48);
    }
    const file = await platform.disk.open(logPath, { mode: "read" });
    const reader = new LogDeviceReader({ file, ring: info!, pool: platform.memory, compute: platform.compute });
    let records = 0;
    for await (const batch of reader.packs(0, status!.lsids.permanent)) {
      for (const part of batch.parts) {
        for (const memory of part.data) expect(memory!.bytes[0]).toBe(++records);
      }
      batch.release();
    }
    expect(records).toBe(writeCount);
    await file.close();
  });

  test("an I/O error makes one volume read-only; a start brings it back with what was flushed, and another one's client goes on", async () => {
    let isFailing = false;
    const disk = hooked((operation, file) => {
      if (!isFailing || operation !== "sync" || !file.path.endsWith("vol.log")) return undefined;
      return Promise.reject(new WalbError("io", { what: "the disk gives EIO", where: { file: file.path } }));
    });
    const device = await start({}, disk);
    for (const name of ["vol", "other"]) await device.create({ name, sizeBytes: 8 * mib, logSizeBytes: 8 * mib });
    const [client, other] = [
      await RawNbd.go(platform.net, address, "vol"),
      await RawNbd.go(platform.net, address, "other"),
    ];
    client.send(request(1, 1, 0, 4096, 1, Buffer.alloc(4096, 1)));
    expect((await client.reply(1)).error).toBe(0);
    isFailing = true;
    client.send(request(1, 2, 4096, 4096, 1, Buffer.alloc(4096, 2)));
    expect((await client.reply(2)).error).not.toBe(0);
    expect(await device.show("vol")).toMatchObject({
      state: "read-only",
      hint: expect.stringContaining("device start"),
    });
    // Not yet mended: it has failed then, and can still be started.
    const error = await device.start("vol").catch((cause: unknown) => cause as WalbError);
    expect(error).toMatchObject({ code: "io", hint: expect.stringContaining("walb device start vol") });
    await client.gone();
    expect((await device.show("vol")).state).toBe("failed");
    isFailing = false;
    expect((await device.start("vol")).state).toBe("running");
    const again = await RawNbd.go(platform.net, address, "vol");
    again.send(request(0, 3, 0, 4096));
    expect((await again.reply(3, 4096)).payload.every((byte) => byte === 1)).toBe(true);
    again.send(request(1, 4, 4096, 4096, 1, Buffer.alloc(4096, 3)));
    expect((await again.reply(4)).error).toBe(0);
    other.send(request(1, 5, 0, 4096, 1, Buffer.alloc(4096, 4)));
    expect((await other.reply(5)).error).toBe(0);
    for (const each of [again, other]) each.connection.close();
  });

  test("a log file that finds no space is refused when it is made", async () => {
    const small = mountTmpfs(join(directory, "small"), "8M");
    if (small === undefined) return console.log("skipping: mounting a file system needs root");
    try {
      const device = await start();
      const wish = { name: "vol", sizeBytes: mib, logPath: join(small, "log"), logSizeBytes: 64 * mib };
      const error = await device.create(wish).then(
        () => undefined,
        (cause: unknown) => cause as WalbError,
      );
      expect(error).toBeInstanceOf(WalbError);
      expect(error!.code).toBe("no-space");
      expect(await device.list()).toEqual([]);
    } finally {
      unmount(small);
    }
  });

  test("a volume is deleted to make space on a full file system, which cannot take a note of that", async () => {
    const small = mountTmpfs(join(directory, "d"), "24M");
    if (small === undefined) return console.log("skipping: mounting a file system needs root");
    try {
      const device = await start();
      await device.create({ name: "vol", sizeBytes: 16 * mib, logSizeBytes: 8 * mib });
      await device.create({ name: "kept", sizeBytes: 16 * mib, logSizeBytes: 8 * mib });
      const client = await RawNbd.go(platform.net, address, "vol");
      const data = Buffer.alloc(mib, 7);
      for (let i = 0; i < 16; i++) {
        client.send(request(1, i, i * mib, mib, 0, data));
        await client.reply(i);
      }
      client.connection.close();
      for (let i = 0; i < 200 && (await device.show("vol")).state !== "read-only"; i++) await Bun.sleep(20);
      await device.delete("kept", { keepStores: true, force: true });
      expect(readdirSync(small)).toContain("kept.log");
      await device.delete("vol", { force: true });
      expect(await device.list()).toEqual([]);
      expect(readdirSync(small).filter((name) => name.startsWith("vol."))).toEqual([]);
      await device.create({ name: "vol", sizeBytes: 16 * mib, logSizeBytes: 8 * mib });
      await device.close();
    } finally {
      unmount(small);
    }
  });

  test("a volume on a full file system grows, says so, and remembers its size", async () => {
    const small = mountTmpfs(join(directory, "d"), "12M");
    if (small === undefined) return console.log("skipping: mounting a file system needs root");
    try {
      const device = await start();
      await device.create({ name: "vol", sizeBytes: 2 * mib, logSizeBytes: 4 * mib });
      const rest = openSync(join(small, "rest"), "w");
      expect(() => {
        for (let i = 0; i < 32; i++) writeSync(rest, Buffer.alloc(mib));
      }).toThrow("ENOSPC");
      closeSync(rest);
      problems.length = 0;
      expect((await device.resize("vol", 8 * mib)).sizeLb).toBe((8 * mib) / 512);
      // Only the note for people found no room.
      expect(problems).toMatchObject([{ code: "no-space", where: { volume: "vol" } }]);
      expect((await device.show("vol")).sizeBytes).toBe(8 * mib);
      rmSync(join(small, "rest"));
      await device.close();
      const again = await start();
      expect(await again.show("vol")).toMatchObject({ state: "running", sizeBytes: 8 * mib });
      const noted: unknown = JSON.parse(readFileSync(join(small, "volumes", "vol.json"), "utf8"));
      expect(noted).toMatchObject({ sizeBytes: 8 * mib });
      await again.close();
    } finally {
      unmount(small);
    }
  });

  test("a full file system under the data store makes the volume read-only with the reason, and never gives wrong data", async () => {
    const small = mountTmpfs(join(directory, "small"), "6M");
    if (small === undefined) return console.log("skipping: mounting a file system needs root");
    try {
      const device = await start();
      await device.create({ name: "vol", sizeBytes: 16 * mib, dataPath: join(small, "data"), logSizeBytes: 64 * mib });
      let client = await RawNbd.go(platform.net, address, "vol");
      const data = Buffer.alloc(65536);
      const answered = new Map<number, number>();
      let refused = 0;
      for (let i = 0; i < 256; i++) {
        data.fill(i + 1);
        client.send(request(1, i, i * data.length, data.length, 0, data));
        const { error } = await client.reply(i);
        if (error === 0) answered.set(i, (i + 1) & 0xff);
        else refused = error;
        if (i % 16 === 15) await Bun.sleep(20);
      }
      const check = async (): Promise<void> => {
        for (const [i, value] of answered) {
          client.send(request(0, i, i * data.length, data.length));
          const { error, payload } = await client.reply(i, data.length);
          expect(error).toBe(0);
          expect(payload.every((byte) => byte === value)).toBe(true);
        }
      };
      for (let i = 0; i < 200 && (await device.show("vol")).state !== "read-only"; i++) await Bun.sleep(20);
      const report = await device.show("vol");
      expect(report.state).toBe("read-only");
      expect(report.reason).toContain("writing the data store failed");
      expect(report.reason).toMatch(/ENOSPC|no space/i);
      await check();
      client.send(request(1, 999, 0, data.length, 0, data));
      expect((await client.reply(999)).error).toBe(notPermitted);
      expect([0, notPermitted]).toContain(refused);
      client.connection.close();
      await device.close();
      // With room, the next start brings from the log what could not be written.
      expect(Bun.spawnSync(["mount", "-o", "remount,size=32M", small]).exitCode).toBe(0);
      const again = await start();
      expect((await again.show("vol")).state).toBe("running");
      client = await RawNbd.go(platform.net, address, "vol");
      await check();
      client.connection.close();
      await again.close();
    } finally {
      unmount(small);
    }
  });
});

/** A small file system of its own; undefined where it cannot be mounted. */
function mountTmpfs(path: string, size: string): string | undefined {
  mkdirSync(path);
  const { exitCode } = Bun.spawnSync(["mount", "-t", "tmpfs", "-o", `size=${size}`, "tmpfs", path], {
    stderr: "ignore",
  });
  return exitCode === 0 ? path : undefined;
}

function unmount(path: string): void {
  Bun.spawnSync(["umount", "-l", path]);
}
