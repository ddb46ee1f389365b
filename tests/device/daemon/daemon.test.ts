import { afterAll, afterEach, beforeEach, describe, expect, test } from "bun:test";
import {
  copyFileSync,
  existsSync,
  linkSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connectUserDevice, deviceControlClient } from "../../../src/device/user/control/client.ts";
import { type DeviceDaemon, openDeviceDaemon } from "../../../src/device/user/daemon.ts";
import { WalbError } from "../../../src/errors.ts";
import type { Address } from "../../../src/platform/net.ts";
import { closePlatform, createPlatform } from "../../../src/platform/real/index.ts";
import { RawNbd, request } from "../nbd/raw.ts";

const mib = 1024 * 1024;
const platform = createPlatform({ memoryBudgetBytes: 512 * mib, threads: 2 });
const nbdMemory = platform.memory.carve(128 * mib);
const otherMemory = platform.memory.carve(64 * mib);
afterAll(() => closePlatform(platform));

/** The code a call fails with. */
async function codeOf(call: Promise<unknown>): Promise<string | undefined> {
  try {
    await call;
    return undefined;
  } catch (error) {
    if (error instanceof WalbError) return error.code;
    throw error;
  }
}

describe("the device daemon", () => {
  let directory: string;
  let address: Address;
  let daemon: DeviceDaemon;
  const problems: WalbError[] = [];

  const start = async (): Promise<DeviceDaemon> =>
    await openDeviceDaemon(platform, {
      dataDir: join(directory, "data"),
      nbdListeners: [address],
      nodeId: "node0",
      nbdMemory,
      onProblem: (error) => problems.push(error),
    });
  const restart = async (): Promise<void> => {
    await daemon.close();
    daemon = await start();
  };
  const small = { sizeBytes: 8 * mib, logSizeBytes: 4 * mib };
  const write = async (name: string, offset: number, data: Uint8Array): Promise<void> => {
    const client = await RawNbd.go(platform.net, address, name);
    client.send(request(1, 1, offset, data.length, 1, data));
    expect((await client.reply(1)).error).toBe(0);
    client.send(request(2, 2, 0, 0));
    await client.gone();
  };
  const read = async (name: string, offset: number, sizeBytes: number): Promise<Uint8Array> => {
    const client = await RawNbd.go(platform.net, address, name);
    client.send(request(0, 1, offset, sizeBytes));
    const { payload, error } = await client.reply(1, sizeBytes);
    expect(error).toBe(0);
    client.send(request(2, 2, 0, 0));
    await client.gone();
    return payload;
  };

  beforeEach(async () => {
    directory = mkdtempSync(join(tmpdir(), "walb-device-"));
    address = { kind: "unix", path: join(directory, "nbd.sock") };
    problems.length = 0;
    daemon = await start();
  });
  afterEach(async () => {
    await daemon.close();
    expect(nbdMemory.leasedBytes).toBe(0);
    rmSync(directory, { recursive: true, force: true });
  });

  test("creates volumes, serves them, and has them and their data after a restart", async () => {
    const data = crypto.getRandomValues(new Uint8Array(65536));
    const report = await daemon.create({ name: "vol0", ...small });
    expect(report).toMatchObject({ name: "vol0", state: "running", sizeBytes: 8 * mib, overflow: "keep-writing" });
    expect(report.uris).toEqual([expect.stringContaining("nbd+unix:///vol0?socket=")]);
    await daemon.create({ name: "vol1", ...small, overflow: "stop", pbsBytes: 4096 });
    await write("vol0", 4096, data);
    await write("vol1", mib, data);
    await restart();
    const reports = await daemon.list();
    expect(reports.map(({ name, state, overflow }) => [name, state, overflow])).toEqual([
      ["vol0", "running", "keep-writing"],
      ["vol1", "running", "stop"],
    ]);
    expect(reports[1]!.info!.pbsBytes).toBe(4096);
    expect(Buffer.compare(await read("vol0", 4096, 65536), data)).toBe(0);
    expect(Buffer.compare(await read("vol1", mib, 65536), data)).toBe(0);
    expect(problems).toEqual([]);
  });

  test("the control socket does what the daemon does", async () => {
    const client = await deviceControlClient(platform, daemon.controlPath);
    expect((await client.create({ name: "vol0", ...small })).state).toBe("running");
    expect((await client.show("vol0")).sizeBytes).toBe(8 * mib);
    await client.freeze("vol0");
    expect((await client.show("vol0")).state).toBe("frozen");
    await client.melt("vol0");
    expect((await client.resize("vol0", 16 * mib)).sizeLb).toBe(32768);
    expect(await codeOf(client.resize("vol0", 8 * mib))).toBe("out-of-range");
    await write("vol0", 16 * mib - 4096, new Uint8Array(4096).fill(7));
    await client.checkpoint("vol0");
    const { lsids } = (await client.show("vol0")).status!;
    expect(lsids.prevWritten).toBe(lsids.latest);
    expect(lsids.latest).toBeGreaterThan(0);
    const before = (await client.show("vol0")).info!.uuid;
    const info = await client.resetLog("vol0");
    expect(info.uuid).not.toBe(before);
    expect((await client.show("vol0")).status!.lsids.latest).toBe(0);
    expect((await read("vol0", 16 * mib - 4096, 4096)).every((byte) => byte === 7)).toBe(true);
    await client.delete("vol0");
    expect(await client.list()).toEqual([]);
    await client.close();
    await restart();
    expect(await daemon.list()).toEqual([]);
  });

  test("a consumer reads what was written through the device interface, and hears of new log", async () => {
    await daemon.create({ name: "vol0", ...small });
    const device = connectUserDevice(platform, daemon.controlPath, "vol0");
    let told = 0;
    const stop = device.watch(() => told++);
    const info = await device.info();
    while ((await daemon.show("vol0")).watchers === 0) await Bun.sleep(2);
    await Bun.sleep(50);
    const before = told;
    await write("vol0", 0, new Uint8Array(8192).fill(3));
    while (told === before) await Bun.sleep(2);
    const { lsids } = await device.status();
    expect(lsids.permanent).toBeGreaterThan(lsids.oldest);
    const log = await device.openLog();
    const lease = await platform.memory.lease(4096);
    const at = Math.floor((info.ringOffsetPb * info.pbsBytes) / 4096) * 4096;
    await log.read(at, lease);
    const header = lease.bytes.subarray(info.ringOffsetPb * info.pbsBytes - at);
    // The first pack's header: type 3 at offset 4.
    expect(header[4]! + 256 * header[5]!).toBe(3);
    await log.close();
    await device.checkpoint();
    const data = await device.openData();
    await data.read(0, lease);
    expect(lease.bytes.every((byte) => byte === 3)).toBe(true);
    lease.release();
    await data.close();
    const { lsids: now } = await device.status();
    await device.setOldest(now.prevWritten);
    expect((await device.status()).lsids.oldest).toBe(now.prevWritten);
    expect(await codeOf(device.setOldest(now.latest + 1))).toBe("state");
    stop();
    await device.close();
  });

  test("forgets a volume and keeps its stores, which can be taken again with all that is in them", async () => {
    await daemon.create({ name: "vol0", ...small });
    const client = await RawNbd.go(platform.net, address, "vol0");
    client.send(request(1, 1, 0, 4096, 0, new Uint8Array(4096).fill(3)));
    expect((await client.reply(1)).error).toBe(0);
    const { info } = await daemon.show("vol0");
    await daemon.delete("vol0", { force: true, keepStores: true });
    expect(await codeOf(daemon.show("vol0"))).toBe("not-found");
    const { dataPath, logPath } = info!;
    const again = await daemon.create({ name: "vol0", dataPath, logPath, reuseLog: true });
    expect(again.info).toEqual(info!);
    expect(again.status?.lsids.latest).toBeGreaterThan(0);
    // Named by the user now: deleting leaves them.
    await daemon.delete("vol0");
    expect([existsSync(dataPath), existsSync(logPath)]).toEqual([true, true]);
  });

  test("sets the time between checkpoints while it runs; 0 is none by time", async () => {
    await daemon.create({ name: "vol0", ...small });
    const control = await deviceControlClient(platform, daemon.controlPath);
    const before = await control.checkpointInterval("vol0");
    expect(await control.checkpointInterval("vol0", 0)).toBe(0);
    const client = await RawNbd.go(platform.net, address, "vol0");
    client.send(request(1, 1, 0, 4096, 0, new Uint8Array(4096).fill(3)));
    await client.reply(1);
    while ((await control.status("vol0")).lsids.written === 0) await Bun.sleep(5);
    await Bun.sleep(100);
    expect((await control.status("vol0")).lsids.prevWritten).toBe(0);
    expect(await control.checkpointInterval("vol0", 20)).toBe(20);
    while ((await control.status("vol0")).lsids.prevWritten === 0) await Bun.sleep(5);
    expect(await control.checkpointInterval("vol0", before)).toBe(before);
    expect(await codeOf(control.checkpointInterval("vol0", 86_400_001))).toBe("bad-parameter");
    await control.close();
    client.connection.close();
    await client.gone();
  });

  test("refuses to delete what is in use, unless forced", async () => {
    await daemon.create({ name: "vol0", ...small });
    const client = await RawNbd.go(platform.net, address, "vol0");
    expect(await codeOf(daemon.delete("vol0"))).toBe("busy");
    await daemon.delete("vol0", { force: true });
    await client.gone();
    expect(await codeOf(daemon.show("vol0"))).toBe("not-found");
    expect(existsSync(join(directory, "data", "vol0.data"))).toBe(false);
    expect(existsSync(join(directory, "data", "vol0.log"))).toBe(false);
    await daemon.create({ name: "vol0", ...small });
    const device = connectUserDevice(platform, daemon.controlPath, "vol0");
    device.watch(() => undefined);
    while ((await daemon.show("vol0")).watchers === 0) await Bun.sleep(2);
    expect(await codeOf(daemon.delete("vol0"))).toBe("busy");
    await device.close();
    while ((await daemon.show("vol0")).watchers > 0) await Bun.sleep(2);
    await daemon.delete("vol0");
  });

  test("takes stores that the user names, and leaves them when the volume is deleted", async () => {
    const dataPath = join(directory, "my.img");
    const logPath = join(directory, "my.log");
    const content = crypto.getRandomValues(new Uint8Array(mib));
    writeFileSync(dataPath, content);
    const report = await daemon.create({ name: "mine", dataPath, logPath, logSizeBytes: 2 * mib });
    expect(report.sizeBytes).toBe(mib);
    expect(Buffer.compare(await read("mine", 0, mib), content)).toBe(0);
    expect(await codeOf(daemon.create({ name: "thief", dataPath, sizeBytes: mib }))).toBe("busy");
    await daemon.delete("mine");
    expect(Buffer.compare(readFileSync(dataPath), content)).toBe(0);
    expect(statSync(logPath).size).toBe(2 * mib);
    expect(await codeOf(daemon.create({ name: "again", dataPath, logPath }))).toBe("already-exists");
    const again = await daemon.create({ name: "again", dataPath, logPath, reuseLog: true });
    expect(again.info!.uuid).toBe(report.info!.uuid);
  });

  test("does not open a copy of a log that is open, and leaves the copy alone", async () => {
    const report = await daemon.create({ name: "first", ...small });
    const [dataPath, logPath] = [join(directory, "copied.data"), join(directory, "copied.log")];
    await write("first", 0, new Uint8Array(4096).fill(1));
    for (const [from, to] of [
      [report.dataPath, dataPath],
      [report.logPath, logPath],
    ] as const) {
      writeFileSync(to, readFileSync(from));
    }
    const before = readFileSync(logPath);
    const copy = { name: "second", dataPath, logPath, reuseLog: true };
    const error = await daemon.create(copy).catch((cause: unknown) => cause as WalbError);
    expect(error).toMatchObject({ code: "busy", where: { volume: "second", field: "uuid" } });
    expect((error as WalbError).message).toContain("first");
    expect(Buffer.compare(readFileSync(logPath), before)).toBe(0);
    expect((await daemon.list()).map(({ name }) => name)).toEqual(["first"]);
    // A reset gives the first a new log, and the copy may be used.
    await daemon.resetLog("first");
    expect((await daemon.create(copy)).info!.uuid).toBe(report.info!.uuid);
    expect((await read("second", 0, 512))[0]).toBe(1);
  });

  test("shares no store with another daemon, and opens no copy of a log that another one has open", async () => {
    const report = await daemon.create({ name: "first", ...small });
    const other = await openDeviceDaemon(platform, {
      dataDir: join(directory, "other"),
      nbdListeners: [{ kind: "unix", path: join(directory, "other.sock") }],
      nodeId: "node0",
      nbdMemory: otherMemory,
    });
    try {
      const { dataPath, logPath } = report;
      const [copiedData, copiedLog] = [join(directory, "copied.data"), join(directory, "copied.log")];
      copyFileSync(dataPath, copiedData);
      copyFileSync(logPath, copiedLog);
      const before = readFileSync(copiedLog);
      const attempt = async (stores: { dataPath: string; logPath: string }): Promise<string | undefined> =>
        await codeOf(other.create({ name: "second", reuseLog: true, ...stores }));
      expect(await attempt({ dataPath, logPath })).toBe("locked");
      // By another name it is the same file.
      linkSync(logPath, join(directory, "linked.log"));
      expect(await attempt({ dataPath: copiedData, logPath: join(directory, "linked.log") })).toBe("locked");
      expect(await attempt({ dataPath, logPath: copiedLog })).toBe("locked");
      expect(await attempt({ dataPath: copiedData, logPath: copiedLog })).toBe("busy");
      expect(Buffer.compare(readFileSync(copiedLog), before)).toBe(0);
      expect(await other.list()).toEqual([]);
      // The log of the reset is claimed, the one before is free.
      await daemon.resetLog("first");
      copyFileSync(logPath, join(directory, "new.log"));
      expect(await attempt({ dataPath: copiedData, logPath: join(directory, "new.log") })).toBe("busy");
      expect(await attempt({ dataPath: copiedData, logPath: copiedLog })).toBeUndefined();
      await other.delete("second");
      await daemon.delete("first", { keepStores: true });
      expect(await attempt({ dataPath: copiedData, logPath: join(directory, "new.log") })).toBeUndefined();
    } finally {
      await other.close();
    }
  });

  test("refuses what cannot be, and leaves nothing of it", async () => {
    expect(await codeOf(daemon.create({ name: "vol0" }))).toBe("bad-parameter");
    expect(await codeOf(daemon.create({ name: "../x", ...small }))).toBe("bad-parameter");
    expect(await codeOf(daemon.create({ name: "vol0", ...small, dataPath: "relative" }))).toBe("bad-parameter");
    expect(await codeOf(daemon.create({ name: "vol0", ...small, logSizeBytes: 8192 }))).toBe("bad-parameter");
    expect(await codeOf(daemon.create({ name: "vol0", ...small, dataPath: directory }))).toBe("bad-parameter");
    expect(await codeOf(daemon.show("vol0"))).toBe("not-found");
    expect(await codeOf(daemon.checkpoint("vol0"))).toBe("not-found");
    writeFileSync(join(directory, "data", "vol0.data"), "precious");
    expect(await codeOf(daemon.create({ name: "vol0", ...small }))).toBe("already-exists");
    expect(readFileSync(join(directory, "data", "vol0.data"), "utf8")).toBe("precious");
    rmSync(join(directory, "data", "vol0.data"));
    expect((await daemon.create({ name: "vol0", ...small })).state).toBe("running");
    expect(await codeOf(daemon.create({ name: "vol0", ...small }))).toBe("already-exists");
  });

  test("a second daemon cannot have the same directory", async () => {
    expect(await codeOf(start())).toBe("locked");
  });

  test("a store that is missing at the start is named with its volume and the next step, and found when it is back", async () => {
    for (const name of ["nolog", "nodata", "none"]) await daemon.create({ name, ...small });
    await daemon.close();
    const data = join(directory, "data");
    const gone = ["nolog.log", "nodata.data", "none.log", "none.data"].map((file) => join(data, file));
    for (const path of gone) renameSync(path, `${path}.away`);
    daemon = await start();
    const reports = Object.fromEntries((await daemon.list()).map((report) => [report.name, report]));
    expect(reports.nolog!.reason).toMatch(/its log store is not there.*nolog\.log/);
    expect(reports.nodata!.reason).toMatch(/its data store is not there.*nodata\.data/);
    expect(reports.none!.reason).toMatch(/neither its log store .*none\.log nor its data store .*none\.data is there/);
    for (const [name, { state, reason, hint }] of Object.entries(reports)) {
      expect(state).toBe("failed");
      expect(reason).toContain(name);
      expect(hint).toContain("attach its disk");
      expect(hint).toContain(`walb device delete ${name}`);
    }
    expect(problems.map(({ where, hint }) => [where.volume, hint]).sort()).toEqual(
      Object.values(reports)
        .map(({ name, hint }) => [name, hint])
        .sort(),
    );
    for (const path of gone) renameSync(`${path}.away`, path);
    await restart();
    for (const { state, hint } of await daemon.list()) expect([state, hint]).toEqual(["running", undefined]);
  });

  test("a bad volume is listed with its reason, and the others run", async () => {
    for (const name of ["good", "lost", "damaged", "garbled"]) await daemon.create({ name, ...small });
    await write("good", 0, new Uint8Array(4096).fill(1));
    await daemon.close();
    const data = join(directory, "data");
    rmSync(join(data, "lost.data"));
    truncateSync(join(data, "damaged.log"), 4096);
    writeFileSync(join(data, "volumes", "garbled.json"), "{ not json");
    writeFileSync(join(data, "volumes", "odd name.json"), "{}");
    daemon = await start();
    const client = await deviceControlClient(platform, daemon.controlPath);
    const reports = await client.list();
    expect(reports.map(({ name, state }) => [name, state])).toEqual([
      ["damaged", "failed"],
      ["garbled", "failed"],
      ["good", "running"],
      ["lost", "failed"],
      ["odd name", "failed"],
    ]);
    expect(reports.find(({ name }) => name === "lost")!.reason).toContain("lost.data");
    expect(reports.find(({ name }) => name === "garbled")!.reason).toContain("not JSON");
    expect(problems.length).toBe(4);
    expect(await codeOf(client.checkpoint("lost"))).toBe("state");
    expect((await read("good", 0, 4096)).every((byte) => byte === 1)).toBe(true);
    // Only what runs is exported.
    const nbd = await RawNbd.open(platform.net, address);
    await nbd.greet();
    expect((await nbd.option(3)).slice(0, -1).map((r) => r.data.toString("utf8", 4))).toEqual(["good"]);
    nbd.connection.close();
    await client.delete("lost");
    await client.close();
    expect((await daemon.list()).map(({ name }) => name)).toEqual(["damaged", "garbled", "good", "odd name"]);
  });

  test("says what it had to give up of a log that is damaged before its end", async () => {
    await daemon.create({ name: "vol", ...small });
    const log = join(directory, "data", "vol.log");
    for (let i = 0; i < 4; i++) await write("vol", i * 4096, new Uint8Array(4096).fill(i + 1));
    // As after a kill: nothing is checkpointed.
    const killed = readFileSync(log);
    await daemon.close();
    // Behind the superblocks in blocks 1 and 2: header and data of each write.
    killed[(3 + 3) * 4096 + 100]! ^= 1;
    writeFileSync(log, killed);
    daemon = await start();
    expect((await daemon.show("vol")).state).toBe("running");
    expect(problems).toMatchObject([{ code: "damaged", where: { volume: "vol", file: log } }]);
    expect(problems[0]!.message).toContain("up to lsid 2");
    expect(problems[0]!.message).toContain("2 log packs behind that were given up");
    // Told once: the log ends there from now on.
    problems.length = 0;
    await restart();
    expect(problems).toEqual([]);
  });

  test("finishes at the next start what a crash interrupted", async () => {
    await daemon.create({ name: "half", ...small });
    await daemon.create({ name: "whole", ...small });
    await daemon.close();
    const path = join(directory, "data", "volumes", "half.json");
    for (const state of ["creating", "deleting"]) {
      const config = JSON.parse(readFileSync(path, "utf8")) as object;
      writeFileSync(path, JSON.stringify({ ...config, state }));
      daemon = await start();
      expect((await daemon.list()).map(({ name }) => name)).toEqual(["whole"]);
      expect(existsSync(join(directory, "data", "half.data"))).toBe(false);
      expect(existsSync(path)).toBe(false);
      await daemon.create({ name: "half", ...small });
      await daemon.close();
    }
    daemon = await start();
  });

  test("random writes, zeroes and trims agree with a model through restarts and resets, for both block sizes", async () => {
    const sizeBytes = 4 * mib;
    for (const pbsBytes of [512, 4096] as const) {
      const name = `model${pbsBytes}`;
      await daemon.create({ name, sizeBytes, logSizeBytes: 2 * mib, pbsBytes });
      const model = Buffer.alloc(sizeBytes);
      for (let round = 0; round < 4; round++) {
        const client = await RawNbd.go(platform.net, address, name, { structured: true });
        for (let i = 0; i < 150; i++) {
          const size = 512 * (1 + Math.floor(Math.random() * (Math.random() < 0.1 ? 500 : 30)));
          const offset = 512 * Math.floor(Math.random() * ((sizeBytes - size) / 512));
          const kind = Math.random();
          if (kind < 0.6) {
            const data = crypto.getRandomValues(new Uint8Array(Math.min(size, 65536)));
            model.set(data, offset);
            client.send(request(1, i, offset, data.length, Math.random() < 0.2 ? 1 : 0, data));
          } else {
            model.fill(0, offset, offset + size);
            client.send(request(kind < 0.8 ? 4 : 6, i, offset, size));
          }
          // Overlapping requests must be answered one after the other to have an order.
          expect((await client.reply(i)).error).toBe(0);
          if (i % 10 === 9) {
            client.send(request(0, 1000, offset, size));
            const { payload } = await client.reply(1000);
            expect(Buffer.compare(payload.subarray(8), model.subarray(offset, offset + size))).toBe(0);
          }
        }
        // Extents said to be holes read as zeroes.
        client.send(request(7, 2000, 0, sizeBytes));
        const extents = Buffer.from((await client.reply(2000)).payload);
        let position = 0;
        for (let at = 4; at < extents.length; at += 8) {
          const length = extents.readUInt32BE(at);
          const isHole = extents.readUInt32BE(at + 4) === 3;
          if (isHole) expect(model.subarray(position, position + length).every((byte) => byte === 0)).toBe(true);
          position += length;
        }
        expect(position).toBe(sizeBytes);
        client.send(request(2, 3000, 0, 0));
        await client.gone();
        if (round === 1) await daemon.resetLog(name);
        else await restart();
        expect(Buffer.compare(await read(name, 0, sizeBytes), model)).toBe(0);
      }
    }
  });

  test("stops although a volume is frozen with writes waiting, and loses none that was answered", async () => {
    await daemon.create({ name: "vol0", ...small });
    await write("vol0", 0, new Uint8Array(4096).fill(1));
    await daemon.freeze("vol0");
    const client = await RawNbd.go(platform.net, address, "vol0");
    client.send(request(1, 1, 4096, 4096, 0, new Uint8Array(4096).fill(2)));
    await Bun.sleep(20);
    const closing = daemon.close();
    expect((await client.reply(1)).error).toBe(0);
    await client.gone();
    await closing;
    daemon = await start();
    const found = await read("vol0", 0, 8192);
    expect([found[0], found[4095], found[4096], found[8191]]).toEqual([1, 1, 2, 2]);
  });
});
