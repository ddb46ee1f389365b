/**
 * @module Rates of the user-space device beside `nbdkit file` on the same disk, in alternating rounds; medians.
 *
 * Run: bun tests/bench/device.bench.ts [--rounds 3] [--seconds 5] [--only TEXT] [NAME=TREE …], where further source
 * trees of walb may be named to compare with. Needs fio and nbdkit. WALB_BENCH_DIR names the disk to measure.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { controlSocketPath, deviceControlClient } from "../../src/device/user/control/client.ts";
import { closePlatform, createPlatform } from "../../src/platform/real/index.ts";

const { values, positionals } = parseArgs({
  options: {
    rounds: { type: "string", default: "3" },
    seconds: { type: "string", default: "5" },
    only: { type: "string", default: "" },
  },
  allowPositionals: true,
});
const platform = createPlatform({ memoryBudgetBytes: 64 << 20 });
const directory = mkdtempSync(join(process.env.WALB_BENCH_DIR ?? tmpdir(), "walb-bench-device-"));
const sizeMib = 1024;

interface Job {
  readonly name: string;
  readonly options: readonly string[];
  readonly unit: "IOPS" | "MB/s";
}

const jobs: readonly Job[] = [
  { name: "4 KiB random write, depth 1", options: ["--rw=randwrite", "--bs=4k", "--iodepth=1"], unit: "IOPS" },
  { name: "4 KiB random write, depth 32", options: ["--rw=randwrite", "--bs=4k", "--iodepth=32"], unit: "IOPS" },
  {
    name: "4 KiB random write, flush after each",
    options: ["--rw=randwrite", "--bs=4k", "--iodepth=1", "--fsync=1"],
    unit: "IOPS",
  },
  {
    name: "4 KiB random write, depth 32, flush each 32",
    options: ["--rw=randwrite", "--bs=4k", "--iodepth=32", "--fsync=32"],
    unit: "IOPS",
  },
  { name: "4 KiB random read, depth 32", options: ["--rw=randread", "--bs=4k", "--iodepth=32"], unit: "IOPS" },
  { name: "64 KiB sequential write, depth 8", options: ["--rw=write", "--bs=64k", "--iodepth=8"], unit: "MB/s" },
  { name: "1 MiB sequential write, depth 8", options: ["--rw=write", "--bs=1m", "--iodepth=8"], unit: "MB/s" },
];

/** A server of one volume; started anew for each measurement, on stores that stay. */
interface Server {
  readonly name: string;
  start(): Promise<{ uri: string; stop(): Promise<void> }>;
}

async function until(test: () => Promise<boolean>): Promise<void> {
  for (let i = 0; i < 600; i++) {
    if (await test()) return;
    await Bun.sleep(50);
  }
  throw new Error("the server did not start");
}

async function run(command: readonly string[]): Promise<string> {
  const child = Bun.spawn([...command], { stdout: "pipe", stderr: "pipe" });
  const [out, err] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  if ((await child.exited) !== 0) throw new Error(`${command.join(" ")} failed: ${err}`);
  return out;
}

const isServing = (uri: string) => async (): Promise<boolean> =>
  (await Bun.spawn(["nbdinfo", "--size", uri], { stdout: "ignore", stderr: "ignore" }).exited) === 0;

async function fill(path: string): Promise<void> {
  await run(["dd", "if=/dev/urandom", `of=${path}`, "bs=1M", `count=${sizeMib}`, "conv=fsync", "status=none"]);
}

async function nbdkit(): Promise<Server> {
  const file = join(directory, "nbdkit.data");
  await fill(file);
  return {
    name: "nbdkit file",
    async start() {
      const socket = join(directory, "nbdkit.sock");
      rmSync(socket, { force: true });
      const child = Bun.spawn(["nbdkit", "-f", "-U", socket, "file", file], { stdout: "ignore", stderr: "inherit" });
      const uri = `nbd+unix:///?socket=${socket}`;
      await until(isServing(uri));
      return { uri, stop: () => stop(child) };
    },
  };
}

async function stop(child: Bun.Subprocess): Promise<void> {
  child.kill("SIGTERM");
  await child.exited;
}

async function walb(name: string, tree: string): Promise<Server> {
  const data = join(directory, `${name}-dir`);
  const socket = join(directory, `${name}.sock`);
  const program = [process.execPath, join(tree, "src", "main.ts"), "device"];
  const uri = `nbd+unix:///vol?socket=${socket}`;
  const store = join(directory, `${name}.data`);
  await fill(store);
  let isMade = false;
  return {
    name,
    async start() {
      const child = Bun.spawn([...program, "--data", data, "--nbd", `unix:${socket}`], {
        stdout: "ignore",
        stderr: "inherit",
      });
      await until(
        async () =>
          await Bun.file(join(data, "control.sock"))
            .stat()
            .then(
              () => true,
              () => false,
            ),
      );
      if (!isMade) {
        const control = await deviceControlClient(platform, controlSocketPath(data));
        await control.create({ name: "vol", dataPath: store, logSizeBytes: 1 << 30 });
        await control.close();
        isMade = true;
      }
      await until(isServing(uri));
      return { uri, stop: () => stop(child) };
    },
  };
}

interface FioSide {
  readonly iops: number;
  readonly bw_bytes: number;
  readonly total_ios: number;
}

async function measure(server: Server, job: Job): Promise<number> {
  const { uri, stop } = await server.start();
  try {
    const common = ["--ioengine=nbd", `--uri=${uri}`, "--time_based", `--runtime=${values.seconds}`, "--randrepeat=0"];
    const out = await run(["fio", "--name=x", ...common, ...job.options, `--size=${sizeMib}m`, "--output-format=json"]);
    const text = out.slice(out.indexOf("{"));
    const { jobs } = JSON.parse(text) as { jobs: { read: FioSide; write: FioSide }[] };
    const side = jobs[0]!.write.total_ios > 0 ? jobs[0]!.write : jobs[0]!.read;
    return job.unit === "IOPS" ? side.iops : side.bw_bytes / 1e6;
  } finally {
    await stop();
    await run(["sync", "-f", directory]);
  }
}

function median(numbers: readonly number[]): number {
  const sorted = [...numbers].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)]!;
}

try {
  const servers = [await nbdkit(), await walb("walb", resolve(import.meta.dir, "..", ".."))];
  for (const text of positionals) {
    const [name = "", tree = ""] = text.split("=");
    servers.push(await walb(name, resolve(tree)));
  }
  for (const job of jobs.filter(({ name }) => name.includes(values.only))) {
    const results = servers.map(() => [] as number[]);
    for (let round = 0; round < Number(values.rounds); round++) {
      for (const [i, server] of servers.entries()) results[i]!.push(await measure(server, job));
    }
    const base = median(results[0]!);
    for (const [i, server] of servers.entries()) {
      const middle = median(results[i]!);
      const spread = `${Math.min(...results[i]!).toFixed(0)}–${Math.max(...results[i]!).toFixed(0)}`;
      const ratio = (middle / base).toFixed(2);
      console.log(
        `${job.name.padEnd(44)} ${server.name.padEnd(12)} ${middle.toFixed(0).padStart(7)} ${job.unit}  ×${ratio}  (${spread})`,
      );
    }
  }
} finally {
  await closePlatform(platform);
  rmSync(directory, { recursive: true, force: true });
}
