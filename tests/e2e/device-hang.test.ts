/** @module A device daemon is stopped while a disk hangs: it ends all the same, and nothing that was answered is lost. */
import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { NbdClient } from "../../src/cli/demo/nbd.ts";
import { closePlatform, createPlatform } from "../../src/platform/real/index.ts";
import { missing } from "../helpers/device-process.ts";
import { runBinary } from "../helpers/fleet.ts";

const binary = join(import.meta.dir, "../../dist/walb");
const blockBytes = 64 << 10;
const lacking = missing("cc");
if (lacking.length > 0) console.log(`skipping: there is no ${lacking.join(", ")}`);

const directory = mkdtempSync(join(tmpdir(), "walb-device-hang-"));
const platform = createPlatform({ memoryBudgetBytes: 16 << 20, threads: 2 });
afterAll(async () => {
  await closePlatform(platform);
  rmSync(directory, { recursive: true, force: true });
});

const dataOf = (name: string): string => join(directory, name);

/** A daemon with a directory of its own, on a disk that can hang. */
function prepare(name: string) {
  const library = join(directory, "stuck.so");
  const source = join(import.meta.dir, "preload", "stuck.c");
  expect(Bun.spawnSync(["cc", "-shared", "-fPIC", "-o", library, source, "-ldl"]).exitCode).toBe(0);
  const flag = join(directory, `${name}-hangs`);
  const socket = join(directory, `${name}.sock`);
  const hanging = { LD_PRELOAD: library, WALB_STUCK_PATH: "/hangs.data", WALB_STUCK_WHILE: flag };
  const start = async ({ isHanging = false, more = [] }: { isHanging?: boolean; more?: readonly string[] }) => {
    const daemon = Bun.spawn([binary, "device", "--data", dataOf(name), "--nbd", `unix:${socket}`, ...more], {
      stdin: "ignore",
      stdout: "pipe",
      stderr: "pipe",
      env: { ...process.env, ...(isHanging ? hanging : {}) },
    });
    const { value } = await daemon.stdout.getReader().read();
    expect(new TextDecoder().decode(value)).toContain("listening");
    return daemon;
  };
  const connect = (volume: string): Promise<NbdClient> =>
    NbdClient.connect(platform.net, { kind: "unix", path: socket }, volume);
  const device = async (...words: string[]): Promise<string> => {
    const { code, out, err } = await runBinary(["device", ...words, "--device-data", dataOf(name)]);
    expect(code, err).toBe(0);
    return out;
  };
  return { start, connect, flag, device };
}

test.skipIf(lacking.length > 0)(
  "a data store that hangs at the start keeps its device waiting, not the others; it is served when it is back",
  async () => {
    const { start, connect, flag, device } = prepare("start");
    let daemon = await start({});
    for (const name of ["hangs", "sound"]) await device("create", name, "--size", "16M", "--log-size", "16M");
    const before = await connect("hangs");
    await before.write(0, new Uint8Array(blockBytes).fill(7));
    daemon.kill("SIGKILL");
    await daemon.exited;
    writeFileSync(flag, "");
    daemon = await start({ isHanging: true, more: ["--start-timeout", "2s"] });
    expect(await device("show", "hangs")).toMatch(/state: +starting/);
    const sound = await connect("sound");
    await sound.write(0, new Uint8Array(blockBytes).fill(1));
    await sound.flush();
    await expect(connect("hangs")).rejects.toThrow();
    const refused = await runBinary(["device", "start", "hangs", "--device-data", dataOf("start")]);
    expect([refused.code, refused.err]).toEqual([4, expect.stringContaining("is being changed")]);
    rmSync(flag);
    for (let i = 0; i < 100 && !(await device("show", "hangs")).includes("running"); i += 1) await Bun.sleep(100);
    expect((await (await connect("hangs")).read(0, blockBytes))[0]).toBe(7);
    daemon.kill("SIGTERM");
    const code = await daemon.exited;
    expect([code, await new Response(daemon.stderr).text()]).toEqual([
      0,
      expect.stringContaining("hangs could not be opened within 2 s"),
    ]);
  },
  180_000,
);

test.skipIf(lacking.length > 0)(
  "a stop ends within its limit although a data store hangs, names the device, closes the others, and loses nothing",
  async () => {
    const { start, connect, flag, device } = prepare("stop");
    let daemon = await start({ isHanging: true, more: ["--stop-timeout", "8s"] });
    for (const name of ["hangs", "sound"]) await device("create", name, "--size", "16M", "--log-size", "16M");
    writeFileSync(flag, "");
    const clients = { hangs: await connect("hangs"), sound: await connect("sound") };
    for (const client of Object.values(clients)) {
      for (let i = 0; i < 32; i += 1) await client.write(i * blockBytes, new Uint8Array(blockBytes).fill(i + 1));
      await client.flush();
    }
    // A request that is never answered is under way, too: too large for the page cache to answer at once.
    const unanswered = clients.hangs.read(200 * blockBytes, 16 * blockBytes).catch(() => "cut off");
    await Bun.sleep(500);
    daemon.kill("SIGTERM");
    const hungMs = 60_000;
    const code = await Promise.race([daemon.exited, Bun.sleep(hungMs)]);
    if (code === undefined) daemon.kill("SIGKILL");
    const said = await new Response(daemon.stderr).text();
    expect(code, said).toBe(8);
    expect(said).toContain("the stores of hangs hang");
    expect((await unanswered) === "cut off").toBe(true);
    daemon = await start({});
    for (const name of ["hangs", "sound"]) {
      const client = await connect(name);
      for (let i = 0; i < 32; i += 1) expect((await client.read(i * blockBytes, blockBytes))[0]).toBe(i + 1);
      client.close();
    }
    daemon.kill("SIGTERM");
    expect(await daemon.exited).toBe(0);
  },
  180_000,
);
