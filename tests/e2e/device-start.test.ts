/** @module One device of many goes down and comes back by itself, through the program, while the others go on. */
import { afterAll, afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, readdirSync, readlinkSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { firstDifference } from "../../src/cli/demo/images.ts";
import { NbdClient } from "../../src/cli/demo/nbd.ts";
import type { VolumeReport } from "../../src/device/user/control/schema.ts";
import { closePlatform, createPlatform } from "../../src/platform/real/index.ts";
import { eventually, Fleet, runBinary } from "../helpers/fleet.ts";

const binary = join(import.meta.dir, "../../dist/walb");
const blockBytes = 64 << 10;

describe("a device of a daemon that serves many", () => {
  const platform = createPlatform({ memoryBudgetBytes: 16 << 20, threads: 2 });
  afterAll(() => closePlatform(platform));
  let directory: string;
  let daemon: Bun.Subprocess<"ignore", "pipe", "pipe">;
  let steady: NbdClient;
  let small: string;

  const device = (...words: string[]) => runBinary(["device", ...words, "--device-data", join(directory, "d")]);
  const must = async (...words: string[]): Promise<string> => {
    const { code, out, err } = await device(...words);
    if (code !== 0) throw new Error(`walb device ${words.join(" ")} ended with ${code}: ${out}${err}`);
    return out;
  };
  const show = async (name: string): Promise<VolumeReport> =>
    JSON.parse(await must("show", name, "--json")) as VolumeReport;
  const connect = (name: string): Promise<NbdClient> =>
    NbdClient.connect(platform.net, { kind: "unix", path: join(directory, "nbd.sock") }, name);
  const block = (value: number): Buffer => Buffer.alloc(blockBytes, value);
  const run = async (): Promise<void> => {
    const words = ["device", "--data", join(directory, "d"), "--nbd", `unix:${join(directory, "nbd.sock")}`];
    daemon = Bun.spawn([binary, ...words], { stdin: "ignore", stdout: "pipe", stderr: "pipe" });
    const { value } = await daemon.stdout.getReader().read();
    expect(new TextDecoder().decode(value)).toContain("listening");
    steady = await connect("steady").catch(async () => {
      await must("create", "steady", "--size", "8M", "--log-size", "8M");
      return await connect("steady");
    });
  };
  /** The connection made at the start of the daemon works, and always has. */
  const expectSteady = async (value: number): Promise<void> => {
    await steady.write(0, block(value));
    await steady.flush();
    expect((await steady.read(0, blockBytes))[0]).toBe(value);
  };
  const end = async (): Promise<number> => {
    daemon.kill("SIGTERM");
    return await daemon.exited;
  };

  beforeEach(async () => {
    directory = mkdtempSync(join(tmpdir(), "walb-device-start-"));
    small = join(directory, "small");
    mkdirSync(small);
    await run();
  });
  afterEach(async () => {
    expect(await end()).toBe(0);
    Bun.spawnSync(["umount", "-l", small], { stderr: "ignore" });
    rmSync(directory, { recursive: true, force: true });
  });

  test("comes back when the store it lacked is there again, as does one whose file was corrected", async () => {
    for (const name of ["lost", "garbled"]) await must("create", name, "--size", "8M", "--log-size", "8M");
    const client = await connect("lost");
    await client.write(blockBytes, block(7));
    await client.flush();
    expect(await end()).toBe(0);
    const log = join(directory, "d", "lost.log");
    const file = join(directory, "d", "volumes", "garbled.json");
    const config = await Bun.file(file).text();
    renameSync(log, `${log}.away`);
    writeFileSync(file, config.slice(1));
    await run();
    for (const name of ["lost", "garbled"]) {
      const report = await show(name);
      expect(report.state).toBe("failed");
      expect(report.hint).toContain(`walb device start ${name}`);
      const refused = await device("start", name);
      expect(refused.code).not.toBe(0);
      expect(refused.err).toContain(name === "lost" ? "its log store is not there" : "not JSON");
      const other = await device("checkpoint", name);
      expect([other.code, other.err]).toEqual([4, expect.stringContaining(`walb device start ${name}`)]);
    }
    renameSync(`${log}.away`, log);
    writeFileSync(file, config);
    for (const name of ["lost", "garbled"]) {
      expect(await must("start", name)).toMatch(/state: +running/);
      const { state, reason, hint } = await show(name);
      expect([state, reason, hint]).toEqual(["running", undefined, undefined]);
    }
    const again = await connect("lost");
    expect(Buffer.compare(Buffer.from(await again.read(blockBytes, blockBytes)), block(7))).toBe(0);
    await expectSteady(1);
    // One that runs is left alone.
    await must("start", "lost");
    expect((await again.read(0, blockBytes))[0]).toBe(0);
  }, 120_000);

  test("that is read-only for want of space stays readable until there is some, then goes on with all that was answered", async () => {
    const mount = ["mount", "-t", "tmpfs", "-o", "size=4M", "tmpfs", small];
    if (Bun.spawnSync(mount, { stderr: "ignore" }).exitCode !== 0) {
      return console.log("skipping: mounting a file system needs root");
    }
    await must("create", "full", "--size", "16M", "--log-size", "64M", "--data", join(small, "data"));
    const client = await connect("full");
    const answered: number[] = [];
    for (let i = 0; i < 128; i += 1) {
      const isDone = await client.write(i * blockBytes, block(i + 1)).then(
        () => true,
        () => false,
      );
      if (isDone) answered.push(i);
    }
    const expectAnswered = async (from: NbdClient): Promise<void> => {
      for (const i of answered) expect((await from.read(i * blockBytes, blockBytes))[0]).toBe(i + 1);
    };
    for (let i = 0; i < 100 && (await show("full")).state !== "read-only"; i += 1) await Bun.sleep(50);
    const report = await show("full");
    expect([report.state, report.hint]).toEqual(["read-only", expect.stringContaining("walb device start full")]);
    const refused = await device("start", "full");
    expect([refused.code, refused.err]).toEqual([1, expect.stringContaining("bytes free")]);
    await expectAnswered(client);
    expect(Bun.spawnSync(["mount", "-o", "remount,size=32M", small]).exitCode).toBe(0);
    expect(await must("start", "full")).toMatch(/state: +running/);
    const again = await connect("full");
    await expectAnswered(again);
    await again.write(0, block(99));
    await again.flush();
    expect((await again.read(0, blockBytes))[0]).toBe(99);
    await expectSteady(2);
  }, 120_000);

  test("is closed with its stores by stop, and has everything when it is started again", async () => {
    await must("create", "vol", "--size", "8M", "--log-size", "8M");
    const client = await connect("vol");
    await client.write(0, block(3));
    const refused = await device("stop", "vol");
    expect([refused.code, refused.err]).toEqual([4, expect.stringContaining("--force")]);
    expect(await must("stop", "vol", "--force")).toBe("vol is stopped; bring it back with: walb device start vol\n");
    const open = readdirSync(`/proc/${daemon.pid}/fd`).flatMap((fd) => linkOf(`/proc/${daemon.pid}/fd/${fd}`));
    expect(open.filter((path) => path.includes("/steady."))).not.toEqual([]);
    expect(open.filter((path) => path.includes("/vol."))).toEqual([]);
    expect((await show("vol")).state).toBe("stopped");
    await expect(connect("vol")).rejects.toThrow();
    await must("start", "vol");
    expect((await (await connect("vol")).read(0, blockBytes))[0]).toBe(3);
    await expectSteady(3);
    await must("stop", "vol", "--force");
    expect(await end()).toBe(0);
    await run();
    expect((await show("vol")).state).toBe("running");
  }, 120_000);
});

test("a device under backup that took no more writes is told of in the status, and ships on by itself when it is started", async () => {
  const directory = mkdtempSync(join(tmpdir(), "walb-device-ships-"));
  const small = join(directory, "small");
  mkdirSync(small);
  const mount = ["mount", "-t", "tmpfs", "-o", "size=42M", "tmpfs", small];
  if (Bun.spawnSync(mount, { stderr: "ignore" }).exitCode !== 0) {
    rmSync(directory, { recursive: true });
    return console.log("skipping: mounting a file system needs root");
  }
  const platform = createPlatform({ memoryBudgetBytes: 16 << 20, threads: 2 });
  const fleet = await Fleet.start({ data: { device: join(small, "d") } });
  try {
    const sizeBytes = 32 << 20;
    // Ten MiB are left for the data.
    await fleet.makeVolume("vol", "32M", "32M");
    await fleet.must("backup", "vol", "--wait");
    const connect = () => NbdClient.connect(platform.net, { kind: "unix", path: fleet.nbdSocket }, "vol");
    const model = Buffer.alloc(sizeBytes);
    const write = async (client: NbdClient, i: number): Promise<boolean> => {
      const data = Buffer.alloc(1 << 20, i + 1);
      const isDone = await client.write(i << 20, data).then(
        () => true,
        () => false,
      );
      if (isDone) model.set(data, i << 20);
      return isDone;
    };
    const client = await connect();
    for (let i = 0; i < 24 && (await write(client, i)); i += 1) await Bun.sleep(50);
    const told = await eventually("the status tells of the device", 60_000, async () => {
      const { out } = await fleet.verb("status", "vol", "--json");
      return out.includes("takes no more writes") ? out : undefined;
    });
    expect(told).toContain("walb device show vol");
    expect(Bun.spawnSync(["mount", "-o", "remount,size=256M", small]).exitCode).toBe(0);
    await fleet.must("device", "start", "vol", "--device-data", fleet.dataOf("device"));
    const again = await connect();
    expect(await write(again, 30)).toBe(true);
    const { gid } = JSON.parse(await fleet.must("snapshot", "vol", "--wait", "--timeout", "60s", "--json"));
    const [expected, restored] = [fleet.path("model"), fleet.path("restored")];
    writeFileSync(expected, model);
    await fleet.must("restore", "vol", "--snapshot", String(gid), "--to", restored);
    expect(await firstDifference(expected, restored)).toBeUndefined();
  } finally {
    await fleet.close();
    await closePlatform(platform);
    Bun.spawnSync(["umount", "-l", small]);
    rmSync(directory, { recursive: true, force: true });
  }
}, 300_000);

/** Descriptors come and go. */
function linkOf(path: string): string[] {
  try {
    return [readlinkSync(path)];
  } catch {
    return [];
  }
}
