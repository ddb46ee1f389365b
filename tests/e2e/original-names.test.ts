import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { existsSync, readFileSync, symlinkSync } from "node:fs";
import { Seeded } from "../../src/cli/demo/files.ts";
import { NbdClient } from "../../src/cli/demo/nbd.ts";
import { closePlatform, createPlatform } from "../../src/platform/real/index.ts";
import { binary } from "../helpers/fleet.ts";
import { OriginalFleet } from "../helpers/original-fleet.ts";
import type { Controller, Server } from "../helpers/original-library.ts";

const mib = 1 << 20;
const sizeBytes = 12 * mib;
const platform = createPlatform({ memoryBudgetBytes: 64 * mib });
const random = new Seeded(3);
const model = Buffer.alloc(sizeBytes);
const limitMs = 120_000;

let fleet: OriginalFleet;
let library: Controller;
let nbd: NbdClient;
let [s0, p0, a0]: Server[] = [];

beforeAll(async () => {
  fleet = await OriginalFleet.start();
  library = fleet.controller;
  s0 = library.layout.storages[0]!;
  p0 = library.layout.proxies[0]!;
  a0 = library.layout.archives[0]!;
  const path = await fleet.makeDevice("w0", "12M", "8M");
  nbd = await NbdClient.connect(platform.net, { kind: "unix", path: fleet.nbdSocket }, "w0");
  await library.initStorage(s0!, "vol0", path);
}, limitMs);
afterAll(async () => {
  nbd?.close();
  await fleet?.close();
  await closePlatform(platform);
}, limitMs);

async function write(count: number): Promise<void> {
  for (let i = 0; i < count; i++) {
    const length = 4096 * (1 + random.below(8));
    const offset = 4096 * random.below((sizeBytes - length) / 4096);
    const data = random.noise(length);
    await nbd.write(offset, data);
    model.set(data, offset);
  }
  await nbd.flush();
}

const sha1 = (bytes: Uint8Array): string => createHash("sha1").update(bytes).digest("hex");

/** Restores a gid, compares it with the volume, deletes it. */
async function checkRestored(archive: Server, gid: number, expected = sha1(model)): Promise<void> {
  await library.restore(archive, "vol0", gid);
  const restored = readFileSync(fleet.restoredPath(archive, "vol0", gid));
  expect(sha1(restored.subarray(0, sizeBytes))).toBe(expected);
  await library.delRestored(archive, "vol0", gid);
}

describe("a site under the original's names, driven by walbc alone", () => {
  test("daemons have the process names that scripts kill by, and log as the original", () => {
    expect(fleet.processNameOf(s0!)).toBe("walb-storage");
    expect(fleet.processNameOf(p0!)).toBe("walb-proxy");
    expect(fleet.processNameOf(a0!)).toBe("walb-archive");
    expect(fleet.log(a0!).split("\n")[0]).toMatch(
      /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} INFO walb-archive starts version=/,
    );
  });

  test(
    "full backup, snapshot, restore; hash backup after standby; merge and apply; flags of snapshots",
    async () => {
      await write(200);
      await checkRestored(a0!, await library.fullBackup(s0!, "vol0"));
      await write(50);
      const second = await library.snapshot(s0!, "vol0");
      await checkRestored(a0!, second);
      const before = sha1(model);
      await library.goStandby(s0!, "vol0");
      await write(50);
      await checkRestored(a0!, await library.hashBackup(s0!, "vol0"));
      const gids: number[] = [];
      for (let i = 0; i < 3; i++) {
        await write(10);
        gids.push(await library.snapshot(s0!, "vol0"));
      }
      const [first, middle, last] = gids as [number, number, number];
      const beforeMerge = await library.restorableGids(a0!, "vol0");
      await library.disableSnapshot(a0!, "vol0", [middle]);
      expect(await library.restorableGids(a0!, "vol0")).toEqual(beforeMerge.filter((gid) => gid !== middle));
      await library.merge(a0!, "vol0", first, last);
      await checkRestored(a0!, last);
      await checkRestored(a0!, second, before);
      await library.apply(a0!, "vol0", last);
      expect(await library.restorableGids(a0!, "vol0")).toEqual([last]);
      await checkRestored(a0!, last);
    },
    limitMs,
  );

  test(
    "storage and archive are killed and go on; a proxy is shut down and started",
    async () => {
      await fleet.kill(s0!);
      await write(20);
      await fleet.run(s0!);
      await fleet.kill(a0!);
      await write(20);
      await fleet.run(a0!);
      await library.stop(p0!, "vol0");
      expect(await fleet.stop(p0!)).toBe(0);
      await write(20);
      // As the original, a proxy starts all of its volumes.
      await fleet.run(p0!);
      await library.verifyState(p0!, "vol0", "Started");
      await library.kickAll();
      await checkRestored(a0!, await library.snapshot(s0!, "vol0"));
    },
    limitMs,
  );

  test(
    "the content of a volume is hashed and scanned to standard output",
    async () => {
      const gid = await library.latestCleanSnapshot(a0!, "vol0");
      expect(await library.getBlockHash(a0!, "vol0", gid)).toMatch(/^[0-9a-f]{32}$/);
      const words = ["-a", "127.0.0.1", "-p", `${a0!.port}`, "virt-full-scan", "stdout", "vol0", `${gid}`];
      const child = Bun.spawn([library.walbc, ...words], { stdout: "pipe", stderr: "pipe" });
      const bytes = new Uint8Array(await new Response(child.stdout).arrayBuffer());
      expect(await child.exited).toBe(0);
      expect(sha1(bytes)).toBe(sha1(model));
      const file = fleet.path("scanned");
      await library.ctl(a0!, "virt-full-scan", file, "vol0", `${gid}`, "64k");
      expect(sha1(readFileSync(file))).toBe(sha1(model));
    },
    limitMs,
  );
});

describe("walbc", () => {
  test("tells what is wrong on the command line on standard output, what goes wrong on standard error", async () => {
    const run = async (...words: string[]) => {
      const child = Bun.spawn([library.walbc, ...words], { stdout: "pipe", stderr: "pipe" });
      const [out, err] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
      return { code: await child.exited, out: out.split("\n")[0], err };
    };
    const to = ["-a", "127.0.0.1", "-p", `${a0!.port}`];
    expect(await run("-p", "1")).toEqual({ code: 1, out: "OptionError:opt:-a is necessary", err: "" });
    expect(await run(...to, "nosuch")).toEqual({ code: 1, out: "OptionError:bad command:nosuch", err: "" });
    expect(await run(...to, "apply", "vol0")).toEqual({ code: 1, out: "OptionError:no param:gid", err: "" });
    expect(await run(...to, "resize", "vol0", "1t")).toMatchObject({ code: 1, out: "OptionError:bad value:size:1t" });
    expect(await run("-h")).toMatchObject({ code: 0, err: "" });
    const refused = await run(...to, "init-vol", "vol0");
    expect(refused).toMatchObject({ code: 1, out: "" });
    expect(refused.err).toMatch(/^\d{4}-\d\d-\d\d [\d:.]+ ERROR walbc error: c2aInitVolServer:StateMachineTransaction/);
    expect((await run(...to, "-retry", "1", "start", "vol0")).err).toContain("-retry is for status, get only");
    const unreachable = await run("-a", "127.0.0.1", "-p", "1", "-to", "2", "get", "vol");
    expect(unreachable.err.match(/^error: .*\nretry 1\nerror: .*\nretry 2\n.* ERROR walbc error: /s)).not.toBeNull();
  });

  test("runs the device tool for others and asks for block devices, but no other program", async () => {
    expect(await library.ctl(s0!, "exec", "/usr/local/bin/wdevc", "is-log-overflow", "/dev/walb/w0")).toBe("0");
    expect(Number(await library.ctl(s0!, "exec", "wdevc", "get-log-capacity", "/dev/walb/w0"))).toBeGreaterThan(1000);
    const failed = await library.run(s0!, "exec", "wdevc", "is-log-overflow", "/dev/walb/nosuch");
    expect(failed.err).toContain("child process has returned non-zero:256");
    const script = (path: string) => `if [ -b '${path}' ]; then echo 1; else echo 0; fi`;
    expect(await library.ctl(s0!, "exec", "/bin/sh", "-c", script("/nosuch"))).toBe("0");
    const { code, err } = await library.run(s0!, "exec", "/bin/echo", "hello");
    expect({ code, err }).toMatchObject({ code: 1, err: expect.stringContaining("not allowed to exec:/bin/echo") });
    const injected = await library.run(s0!, "exec", "/bin/sh", "-c", `${script("/x")}; id`);
    expect(injected.code).toBe(1);
  });

  test("is `walb walbc` too", async () => {
    const child = Bun.spawn([binary, "walbc", "-a", "127.0.0.1", "-p", `${p0!.port}`, "get", "host-type"], {
      stdout: "pipe",
    });
    expect(await new Response(child.stdout).text()).toBe("proxy\n");
  });
});

describe("the original's daemons by name", () => {
  const run = async (name: string, ...words: string[]) => {
    const path = fleet.path(`bin/${name}`);
    if (!existsSync(path)) symlinkSync(binary, path);
    const child = Bun.spawn([path, ...words], { stdout: "pipe", stderr: "pipe" });
    const [out, err] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
    return { code: await child.exited, out, err };
  };

  test("refuse bad options as the original, on standard output", async () => {
    const missing = await run("walb-storage", "-p", "0");
    expect(missing).toMatchObject({ code: 1, err: "" });
    expect(missing.out).toStartWith("OptionError:opt:-archive is necessary\n");
    expect((await run("walb-proxy", "-nosuch")).out).toStartWith("OptionError:bad option:-nosuch\n");
    expect(await run("walb-archive", "-h")).toMatchObject({ code: 0, err: "" });
  });

  test("tell a base directory that is not there on standard error", async () => {
    const { code, err } = await run("walb-archive", "-b", fleet.path("nosuch"), "-images", "file");
    expect({ code, err }).toEqual({ code: 1, err: expect.stringContaining("the base directory is not there") });
  });
});
