import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { closePlatform, createPlatform } from "../../src/platform/real/index.ts";
import { RawNbd, request } from "../device/nbd/raw.ts";
import { missing, run as runProgram } from "../helpers/device-process.ts";
import type { Ran } from "../helpers/quiet-io.ts";
import { printed, superblockOf, walb, wdevc } from "./wdevc.ts";

const mib = 1024 * 1024;
const directory = mkdtempSync(join(tmpdir(), "walb-wdevc-"));
const main = join(import.meta.dir, "..", "..", "src", "main.ts");
const env = { WALB_DEVICE_DATA: join(directory, "device") };
const nbd = { kind: "unix", path: join(directory, "device", "nbd.sock") } as const;
const platform = createPlatform({ memoryBudgetBytes: 16 * mib, threads: 1 });
let daemon: Bun.Subprocess<"ignore", "pipe", "inherit">;

async function startDaemon(): Promise<void> {
  daemon = Bun.spawn([process.execPath, main, "device", "--data", env.WALB_DEVICE_DATA, "--log-level", "error"], {
    stdin: "ignore",
    stdout: "pipe",
    stderr: "inherit",
  });
  const { value } = await daemon.stdout.getReader().read();
  expect(new TextDecoder().decode(value)).toContain("listening on");
}

beforeAll(startDaemon, 60_000);
afterAll(async () => {
  daemon.kill("SIGTERM");
  await daemon.exited;
  await closePlatform(platform);
  rmSync(directory, { recursive: true, force: true });
}, 300_000);

const where = { env, cwd: directory };
const run = (...words: string[]): Promise<Ran> => wdevc(where, ...words);
const value = (...words: string[]): Promise<string> => printed(run(...words));

function makeFile(name: string, sizeBytes: number): string {
  writeFileSync(join(directory, name), "");
  truncateSync(join(directory, name), sizeBytes);
  return join(directory, name);
}

/** Formats and starts a device named NAME over NAME.l and NAME.d. */
async function make(name: string): Promise<void> {
  makeFile(`${name}.l`, 8 * mib);
  makeFile(`${name}.d`, 4 * mib);
  await value("format-ldev", `${name}.l`, `${name}.d`, "-n", name);
  await value("create-wdev", `${name}.l`, `${name}.d`);
}

let handle = 0;
/** Writes a block of a device through NBD, durably. */
async function write(name: string, offsetBytes: number, byte: number): Promise<void> {
  const client = await RawNbd.go(platform.net, nbd, name);
  handle += 1;
  client.send(request(1, handle, offsetBytes, 4096, 1, new Uint8Array(4096).fill(byte)));
  expect((await client.reply(handle)).error).toBe(0);
  client.connection.close();
  await client.gone();
}

describe("wdevc on the device daemon, by name or /dev/walb/NAME", () => {
  test("format-ldev takes files, create-wdev registers them under the name in the superblock, list shows it", async () => {
    makeFile("a.l", 8 * mib);
    makeFile("a.d", 4 * mib);
    const text = superblockOf(await value("format-ldev", "a.l", "a.d", "-n", "stored"));
    expect(text).toMatchObject({ name: "stored", deviceSize: "8192", oldestLsid: "0", sectorType: "1", version: "2" });
    expect(await value("create-wdev", "a.l", "a.d")).toBe("name stored\nmajor 0\nminor 0");
    expect((await value("list")).split("\n")).toContain("0 0 stored");
    await value("delete-wdev", "/dev/walb/stored");
    expect(await value("create-wdev", "a.l", "a.d", "-n", "given")).toBe("name given\nmajor 0\nminor 0");
    await value("delete-wdev", "given");
    makeFile("b.l", 8 * mib);
    makeFile("b.d", 4 * mib);
    await value("format-ldev", "b.l", "b.d", "-nd");
    expect(await value("create-wdev", "b.l", "b.d")).toBe("name 0\nmajor 0\nminor 0");
    await value("delete-wdev", "0");
    expect(await value("get-version")).toMatch(/^\d+\.\d+\.\d+/);
  }, 300_000);

  test("lsids, usage, checkpoints, erasing, reset", async () => {
    await make("lsids");
    const wdev = "/dev/walb/lsids";
    const capacity = Number(await value("get-log-capacity", wdev));
    expect(capacity).toBeGreaterThan(1000);
    await write("lsids", 0, 1);
    const end = await value("get-permanent-lsid", wdev);
    expect(Number(end)).toBeGreaterThan(0);
    expect(await value("get-completed-lsid", wdev)).toBe(end);
    expect(await value("get-oldest-lsid", wdev)).toBe("0");
    expect(await value("get-log-usage", wdev)).toBe(end);
    while ((await value("get-written-lsid", wdev)) !== end) await Bun.sleep(5);
    expect(await value("force-checkpoint", wdev)).toBe("");
    expect(await value("set-oldest-lsid", wdev, end)).toBe("");
    expect(await value("get-oldest-lsid", wdev)).toBe(end);
    expect(await value("is-log-overflow", wdev)).toBe("0");
    await write("lsids", 4096, 2);
    expect(await value("clear-wal", wdev)).toBe("");
    expect(await value("get-log-usage", wdev)).toBe("0");
    expect(await value("reset-wal", wdev)).toBe("");
    expect(await value("get-completed-lsid", wdev)).toBe("0");
    await value("delete-wdev", wdev);
  }, 300_000);

  test("checkpoint interval, freeze, melt, flush, resize", async () => {
    await make("knobs");
    expect(await value("get-checkpoint-interval", "knobs")).toBe("10000");
    expect(await value("set-checkpoint-interval", "knobs", "700")).toBe("");
    expect(await value("get-checkpoint-interval", "knobs")).toBe("700");
    expect(await value("is-flush-capable", "knobs")).toBe("1");
    expect(await value("freeze", "knobs", "100")).toBe("");
    expect(await value("is-flozen", "knobs")).toBe("1");
    expect(await value("melt", "knobs")).toBe("");
    expect(await value("is-flozen", "knobs")).toBe("0");
    expect(await value("freeze", "knobs")).toBe("");
    expect(await value("melt", "knobs")).toBe("");
    expect(await value("resize", "knobs", "10000")).toBe("");
    truncateSync(join(directory, "knobs.d"), 8 * mib);
    expect(await value("resize", "knobs")).toBe("");
    const shown = JSON.parse(
      (await walb({ env: { ...env }, cwd: directory }, "device", "show", "knobs", "--json")).out,
    );
    expect(shown.sizeBytes).toBe(8 * mib);
    await value("delete-wdev", "knobs");
  }, 300_000);

  test("create-wdev keeps its tuning with the device, and says what is more than the daemon does", async () => {
    makeFile("tuned.l", 8 * mib);
    makeFile("tuned.d", 4 * mib);
    await value("format-ldev", "tuned.l", "tuned.d", "-n", "tuned");
    const options = "-maxp 4 -maxl 4 -fs 2 -fp 90000000 -minp 1 -qp 50 -bp 8 -bi 2000";
    const { code, out, err } = await run("create-wdev", "tuned.l", "tuned.d", ...options.split(" "));
    expect({ code, out }).toEqual({ code: 0, out: "name tuned\nmajor 0\nminor 0\n" });
    const lines = err.trimEnd().split("\n");
    expect(lines.map((line) => /create-wdev:(-\w+) /.exec(line)?.[1])).toEqual(["-fp", "-bi"]);
    const shown = async () => JSON.parse((await walb(where, "device", "show", "tuned", "--json")).out).tuning;
    const tuning = {
      maxPendingBytes: 4 * mib,
      minPendingBytes: mib,
      queueStopTimeoutMs: 50,
      maxBatchPacks: 8,
      maxBatchWrites: 960,
      maxPackBytes: 4096,
      logSyncBytes: 2 * mib,
      logSyncIntervalMs: 86_400_000,
    };
    expect(await shown()).toEqual(tuning);
    daemon.kill("SIGTERM");
    await daemon.exited;
    await startDaemon();
    expect(await shown()).toEqual(tuning);
    const text = (await walb(where, "device", "show", "tuned")).out;
    for (const line of [
      /pending at most: +4/,
      /goes on below: +1/,
      /or goes on after: +50 ms/,
      /writes at once: +960/,
    ]) {
      expect(text).toMatch(line);
    }
    // One block to a pack; by default all of it would be one pack of 17 blocks.
    const client = await RawNbd.go(platform.net, nbd, "tuned");
    client.send(request(1, 1, 0, 65536, 0, new Uint8Array(65536).fill(1)));
    expect((await client.reply(1)).error).toBe(0);
    expect(await value("get-completed-lsid", "tuned")).toBe("32");
    // Nobody flushes, and a day has not gone by.
    await Bun.sleep(300);
    expect(await value("get-permanent-lsid", "tuned")).toBe("0");
    client.connection.close();
    await client.gone();
    await value("delete-wdev", "tuned", "-f");
  }, 300_000);

  test("walb device create takes the same as flags, and refuses what contradicts itself", async () => {
    const sizes = ["--size", "4M", "--log-size", "8M", "--json"];
    const create = (...flags: string[]) => walb(where, "device", "create", "flags", ...sizes, ...flags);
    const refusals: [string, string][] = [
      ["--max-pending 2M --min-pending 2M", "--min-pending is not less than --max-pending"],
      ["--max-pending 100G", "is not from 1M to 16G"],
      ["--queue-stop-timeout 0s", "is not from 1ms to 1d"],
    ];
    for (const [flags, why] of refusals) {
      const refused = await create(...flags.split(" "));
      expect([refused.code, refused.err]).toEqual([2, expect.stringContaining(why)]);
    }
    const words =
      "--max-pending 2M --min-pending 1M --queue-stop-timeout 2s --max-pack 64K --log-sync-size 1M --log-sync-interval 3s --batch-packs 2 --batch-writes 3";
    const { out } = await create(...words.split(" "));
    expect(JSON.parse(out).tuning).toEqual({
      maxPendingBytes: 2 * mib,
      minPendingBytes: mib,
      queueStopTimeoutMs: 2000,
      maxPackBytes: 65536,
      logSyncBytes: mib,
      logSyncIntervalMs: 3000,
      maxBatchPacks: 2,
      maxBatchWrites: 3,
    });
    await value("delete-wdev", "flags");
  }, 300_000);

  test("what is not asked for stays the daemon's choice, without a word", async () => {
    await make("plain");
    expect(JSON.parse((await walb(where, "device", "show", "plain", "--json")).out).tuning).toBeUndefined();
    await value("delete-wdev", "plain");
    const { err } = await run("create-wdev", "plain.l", "plain.d", "-maxp", "16384", "-maxl", "2048");
    expect(err).toMatch(/-maxp 16384 is more than the daemon has for a volume: \d+ KiB/);
    expect(err).toContain("-maxl 2048 is more than the daemon makes: packs have at most 1024 KiB");
    await value("delete-wdev", "plain");
  }, 300_000);

  test("refusals have the driver's errno and the reason", async () => {
    await make("no");
    const refused = async (text: string, reason: string, ...words: string[]): Promise<void> => {
      const { code, out, err } = await run(...words);
      expect({ words, code, out }).toEqual({ words, code: 1, out: "" });
      expect(err).toContain(`ioctl error:${text}:`);
      expect(err).toContain(reason);
    };
    const fault = "Bad address(14)";
    await refused(fault, "cannot shrink", "resize", "no", "100");
    await refused(fault, "not between oldest 0", "set-oldest-lsid", "no", "999999");
    await refused(fault, "volume of this name", "create-wdev", "no.l", "no.d", "-n", "no");
    await refused(fault, "writes go on when 32 MiB", "create-wdev", "no.l", "no.d", "-n", "x", "-minp", "32");
    await refused(fault, "intervalMs", "set-checkpoint-interval", "no", "86400001");
    const client = await RawNbd.go(platform.net, nbd, "no");
    await refused("Device or resource busy(16)", "1 NBD connections", "delete-wdev", "no");
    expect(await value("delete-wdev", "no", "-f")).toBe("");
    await client.gone();
    const unknown = await run("get-oldest-lsid", "/dev/walb/nobody");
    expect(unknown.code).toBe(1);
    expect(unknown.err).toContain("there is no such volume");
  }, 300_000);

  test("delete-wdev leaves both stores, also those the daemon made, and create-wdev goes on with them", async () => {
    await walb(where, "device", "create", "own", "--size", "4M", "--log-size", "8M");
    await write("own", 8192, 7);
    const end = await value("get-permanent-lsid", "own");
    await value("delete-wdev", "own");
    const stores = ["log", "data"].map((kind) => join(env.WALB_DEVICE_DATA, `own.${kind}`)) as [string, string];
    expect(stores.every((path) => existsSync(path))).toBe(true);
    expect(await value("create-wdev", ...stores)).toBe("name own\nmajor 0\nminor 0");
    expect(await value("get-permanent-lsid", "own")).toBe(end);
    await value("force-checkpoint", "own");
    expect(
      readFileSync(stores[1])
        .subarray(8192, 12288)
        .every((byte) => byte === 7),
    ).toBe(true);
    await value("delete-wdev", "own");
  }, 300_000);

  test("format-ldev never writes over the log of a running device", async () => {
    await make("busy");
    const { code, err } = await run("format-ldev", "busy.l", "busy.d");
    expect(code).toBe(1);
    expect(err).toContain("in use by another process");
    await value("delete-wdev", "busy");
  }, 300_000);

  const absent = missing("losetup");
  const canLoop = absent.length === 0 && process.getuid?.() === 0;
  test.skipIf(!canLoop)(
    "takes block devices (needs root and losetup)",
    async () => {
      const loop = async (name: string, sizeBytes: number): Promise<string> =>
        (await runProgram("losetup", "--find", "--show", makeFile(name, sizeBytes))).trim();
      const [ldev, ddev] = [await loop("loop.l", 8 * mib), await loop("loop.d", 4 * mib)];
      try {
        const text = superblockOf(await value("format-ldev", ldev, ddev, "-n", "loop"));
        expect(text).toMatchObject({ pbs: "512", deviceSize: "8192", ringBufferSize: String((8 * mib) / 512 - 10) });
        expect(await value("create-wdev", ldev, ddev)).toBe("name loop\nmajor 0\nminor 0");
        await write("loop", 0, 9);
        await value("clear-wal", "/dev/walb/loop");
        await value("delete-wdev", "/dev/walb/loop");
      } finally {
        await runProgram("losetup", "-d", ldev);
        await runProgram("losetup", "-d", ddev);
      }
    },
    60_000,
  );

  test("goes on with its devices when the daemon was restarted, and tells plainly when there is none", async () => {
    await make("stays");
    await write("stays", 0, 1);
    const end = await value("get-permanent-lsid", "stays");
    daemon.kill("SIGKILL");
    await daemon.exited;
    const { code, err } = await run("get-oldest-lsid", "stays");
    expect(code).toBe(1);
    expect(err).toContain("no device daemon answers");
    expect((await run("list")).code).toBe(1);
    await startDaemon();
    expect(await value("get-permanent-lsid", "stays")).toBe(end);
    await value("delete-wdev", "stays");
  }, 300_000);

  test("as a program of its own", async () => {
    const socket = { ...process.env, WALB_DEVICE_SOCKET: join(env.WALB_DEVICE_DATA, "control.sock") };
    makeFile("p.l", 8 * mib);
    makeFile("p.d", 4 * mib);
    const wdevcProcess = (...words: string[]) =>
      Bun.spawnSync([process.execPath, main, "wdevc", ...words], { env: socket, cwd: directory });
    expect(wdevcProcess("format-ldev", "p.l", "p.d", "-n", "p").exitCode).toBe(0);
    expect(wdevcProcess("create-wdev", "p.l", "p.d").stdout.toString()).toBe("name p\nmajor 0\nminor 0\n");
    expect(wdevcProcess("get-log-usage", "/dev/walb/p").stdout.toString()).toBe("0\n");
    expect(wdevcProcess("nothing").exitCode).toBe(1);
    expect(wdevcProcess("delete-wdev", "p").exitCode).toBe(0);
  }, 300_000);
});
