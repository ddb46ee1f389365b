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

test.skipIf(lacking.length > 0)(
  "a stop ends within its limit although a data store hangs, names the device, closes the others, and loses nothing",
  async () => {
    const library = join(directory, "stuck.so");
    const source = join(import.meta.dir, "preload", "stuck.c");
    expect(Bun.spawnSync(["cc", "-shared", "-fPIC", "-o", library, source, "-ldl"]).exitCode).toBe(0);
    const flag = join(directory, "stuck");
    const hanging = { LD_PRELOAD: library, WALB_STUCK_PATH: "/hangs.data", WALB_STUCK_WHILE: flag };
    const start = async (env: Record<string, string>) => {
      const words = ["--data", join(directory, "d"), "--nbd", `unix:${join(directory, "nbd.sock")}`];
      const daemon = Bun.spawn([binary, "device", ...words, "--stop-timeout", "8s"], {
        stdin: "ignore",
        stdout: "pipe",
        stderr: "pipe",
        env: { ...process.env, ...env },
      });
      const { value } = await daemon.stdout.getReader().read();
      expect(new TextDecoder().decode(value)).toContain("listening");
      return daemon;
    };
    const connect = (name: string): Promise<NbdClient> =>
      NbdClient.connect(platform.net, { kind: "unix", path: join(directory, "nbd.sock") }, name);
    let daemon = await start(hanging);
    for (const name of ["hangs", "sound"]) {
      const sizes = ["--size", "16M", "--log-size", "16M"];
      const { code } = await runBinary(["device", "create", name, ...sizes, "--device-data", join(directory, "d")]);
      expect(code).toBe(0);
    }
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
