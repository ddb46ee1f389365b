/** @module A live client keeps working, and reads what it wrote, while its device daemon is killed again and again. */
import { afterAll, expect, test } from "bun:test";
import { join } from "node:path";
import { DeviceProcess, missing, run, runWithin } from "../helpers/device-process.ts";

const rounds = Number(process.env.WALB_KILL_ROUNDS ?? 3);
const timeLimitMs = 60_000 + 15_000 * rounds;
const lacking = missing("fio", "nbdkit", "nbdcopy", "qemu-img");
if (lacking.length > 0) console.log(`skipping: ${lacking.join(", ")} not installed`);
const device = new DeviceProcess();
afterAll(() => device.close());

test.skipIf(lacking.length > 0)(
  `fio verifies all it wrote through ${rounds} kills of the daemon, and copies of the volume are equal`,
  async () => {
    await device.start();
    await device.create(64 << 20, 16 << 20);
    // nbdkit in between connects anew and repeats what was not answered, as a kernel or qemu client does.
    const socket = join(device.directory, "retry.sock");
    const retry = ["--filter=retry", "nbd", `socket=${device.socket}`, "export=vol", "retries=60", "retry-delay=1"];
    const proxy = Bun.spawn(["nbdkit", "-f", "-U", socket, ...retry, "retry-exponential=no"], {
      stdin: "ignore",
      stdout: "ignore",
      stderr: "ignore",
    });
    try {
      for (let i = 0; i < 100 && !(await Bun.file(socket).exists()) && proxy.exitCode === null; i++)
        await Bun.sleep(20);
      await Bun.sleep(100);
      let isDone = false;
      let kills = 0;
      const job = [
        "--name=kill",
        "--ioengine=nbd",
        `--uri=nbd+unix:///?socket=${socket}`,
        "--size=64m",
        "--iodepth=16",
      ];
      const load = ["--rw=randwrite", "--bsrange=512-64k", "--blockalign=512", "--fsync=64", `--loops=${2 * rounds}`];
      // Two seconds of writing for each kill, which comes sooner: so all of them come.
      const pace = "--rate=,64m";
      const verify = ["--verify=crc32c", "--verify_fatal=1", "--do_verify=1", "--verify_state_save=0"];
      const fio = runWithin(timeLimitMs, "fio", ...job, ...load, pace, ...verify).finally(() => {
        isDone = true;
      });
      const killer = (async () => {
        // The filter repeats requests, not the first connection.
        await device.written();
        while (kills < rounds) {
          await Bun.sleep(200 + Math.random() * 500);
          if (isDone) break;
          await device.end("SIGKILL");
          await device.start();
          kills += 1;
        }
      })();
      await fio;
      await killer;
      expect(kills).toBe(rounds);
    } finally {
      proxy.kill("SIGTERM");
      await proxy.exited;
    }
    const [first, second] = [join(device.directory, "first"), join(device.directory, "second")];
    await run("nbdcopy", device.uri, first);
    await device.end("SIGKILL");
    await device.start();
    await run("nbdcopy", "--flush", device.uri, second);
    await run("cmp", first, second);
    await run("qemu-img", "compare", "-f", "raw", "-F", "raw", first, device.uri);
    await device.end("SIGTERM");
    await run("cmp", first, device.dataPath);
  },
  30_000 + timeLimitMs,
);
