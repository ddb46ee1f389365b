import { afterAll, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { closePlatform, createPlatform } from "../../../src/platform/real/index.ts";
import { run } from "../../helpers/device-process.ts";
import { withTemporaryDirectory } from "../../helpers/temporary.ts";

const platform = createPlatform({ memoryBudgetBytes: 16 << 20, threads: 1 });
const kernel = platform.kernel!;
afterAll(() => closePlatform(platform));

test("structures and the buffers they point to arrive at a C library's ioctl as a compiler lays them out", async () => {
  await withTemporaryDirectory(async (directory) => {
    const library = join(directory, "driver.so");
    const node = join(directory, "node");
    writeFileSync(node, "");
    const source = join(import.meta.dir, "preload", "driver.c");
    await run("gcc", "-Wall", "-Werror", "-shared", "-fPIC", "-O1", "-o", library, source);
    const child = Bun.spawnSync([process.execPath, join(import.meta.dir, "preload", "main.ts"), node], {
      env: { ...process.env, LD_PRELOAD: library },
    });
    expect(child.stderr.toString()).toBe("");
    expect(JSON.parse(child.stdout.toString())).toEqual({
      version: "1.5.1",
      started: { name: "vol0-started", major: 7001, minor: 8002 },
      failure: [-5, "file /dev/walb/control: ioctl START_DEV failed: Bad address (EFAULT)"],
      oldest: Number.MAX_SAFE_INTEGER,
      set: 0,
      refused: "volume vol0, file /dev/walb/vol0: ioctl SET_OLDEST_LSID failed: Bad address (EFAULT)",
    });
  });
}, 300_000);

test("an ioctl on a node that is not there is not-found, and on what is no device an errno", async () => {
  const argument = new Uint8Array(4);
  await expect(kernel.ioctl("/dev/walb-none/control", 0x8004fe00, argument)).rejects.toMatchObject({
    code: "not-found",
  });
  await withTemporaryDirectory(async (directory) => {
    const file = join(directory, "file");
    writeFileSync(file, "");
    const answer = await kernel.ioctl(file, 0x8004fe00, argument);
    expect(answer.errno).toBe(25);
  });
});

test("an attribute that is not there reads as none, a device that is none has no number", async () => {
  expect(await kernel.readAttribute("/sys/block/walb!none/walb/lsids")).toBeUndefined();
  expect(await kernel.readAttribute("/proc/sys/kernel/ostype")).toBe("Linux\n");
  expect(await kernel.listAttributes("/sys/block/walb!none")).toEqual([]);
  expect(await kernel.deviceNumber("/dev/null")).toBeUndefined();
  expect(kernel.watchAttribute("/sys/block/walb!none/walb/lsids", () => undefined)).toBeUndefined();
});

// The kernel tells all pollers of the host name when it is set anywhere, also in a name space of its own.
const canSetName = Bun.spawnSync(["unshare", "--uts", "true"], { stderr: "ignore" }).exitCode === 0;

test.skipIf(!canSetName)(
  "a poller is called for each event of an attribute, until it ends (needs: unshare --uts)",
  async () => {
    const path = "/proc/sys/kernel/hostname";
    let count = 0;
    const stop = kernel.watchAttribute(path, () => {
      count += 1;
    })!;
    const setName = (): Promise<string> => run("unshare", "--uts", "hostname", "walb-test");
    for (let events = 1; events <= 3; events++) {
      await setName();
      const limitMs = performance.now() + 10_000;
      while (count < events && performance.now() < limitMs) await Bun.sleep(5);
      expect(count).toBeGreaterThanOrEqual(events);
    }
    await Bun.sleep(50);
    stop();
    const before = count;
    await setName();
    await Bun.sleep(100);
    expect(count).toBe(before);
  },
);

test("polling keeps no process alive", async () => {
  const script = `
    import { createPlatform } from ${JSON.stringify(join(import.meta.dir, "../../../src/platform/real/index.ts"))};
    createPlatform().kernel.watchAttribute("/proc/sys/kernel/hostname", () => undefined);
    console.log("watching");`;
  expect(await run(process.execPath, "-e", script)).toBe("watching\n");
});
