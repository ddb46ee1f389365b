/** @module qemu goes on with a volume whose daemon is killed, or stopped, and started again under it. */
import { afterAll, expect, test } from "bun:test";
import { DeviceProcess, missing } from "../helpers/device-process.ts";

const rounds = Number(process.env.WALB_RESTART_ROUNDS ?? 4);
const lacking = missing("qemu-io");
if (lacking.length > 0) console.log(`skipping: ${lacking.join(", ")} not installed`);
const device = new DeviceProcess();
afterAll(() => device.close());

const extentKib = 64;
const extentsPerRound = 40;

test.skipIf(lacking.length > 0)(
  `a qemu that connects anew loses nothing through ${rounds} restarts of the daemon, by kill and by stop`,
  async () => {
    await device.start();
    await device.create(64 << 20, 16 << 20);
    const image = `driver=nbd,server.type=unix,server.path=${device.socket},export=vol,reconnect-delay=120,open-timeout=60`;
    const qemu = Bun.spawn(["qemu-io", "--image-opts", image], { stdin: "pipe", stdout: "pipe", stderr: "pipe" });
    const outputs = Promise.all([new Response(qemu.stdout).text(), new Response(qemu.stderr).text()]);
    const say = async (...lines: string[]): Promise<void> => {
      qemu.stdin.write(lines.map((line) => `${line}\n`).join(""));
      await qemu.stdin.flush();
    };
    const patterns = new Map<number, number>();
    for (let round = 0; round < rounds; round++) {
      const lines: string[] = [];
      for (let i = 0; i < extentsPerRound; i++) {
        const at = Math.floor(Math.random() * 1024);
        const pattern = 1 + ((round * extentsPerRound + i) % 250);
        patterns.set(at, pattern);
        lines.push(`${i % 3 === 0 ? "write -f" : "write"} -P ${pattern} ${at * extentKib}k ${extentKib}k`);
      }
      // Some before, some while nobody is there, some after.
      await say(...lines.slice(0, 10));
      await Bun.sleep(Math.random() * 100);
      const ended = device.end(round % 2 === 0 ? "SIGKILL" : "SIGTERM");
      await say(...lines.slice(10, 30), "flush");
      await ended;
      await Bun.sleep(100);
      await device.start();
      await say(...lines.slice(30));
    }
    for (const [at, pattern] of patterns) await say(`read -P ${pattern} ${at * extentKib}k ${extentKib}k`);
    await say("quit");
    await qemu.stdin.end();
    expect(await qemu.exited).toBe(0);
    const [out, err] = await outputs;
    const all = `${out}\n${err}`;
    expect(all).not.toMatch(/failed|error/i);
    expect(out.match(/^(?:qemu-io> )*wrote /gm)?.length).toBe(rounds * extentsPerRound);
    expect(out.match(/^(?:qemu-io> )*read /gm)?.length).toBe(patterns.size);
  },
  30_000 + 15_000 * rounds,
);
