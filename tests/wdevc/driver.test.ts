import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { truncateSync } from "node:fs";
import { DriverBench, mib } from "../device/kernel/setup.ts";
import type { Ran } from "../helpers/quiet-io.ts";
import { printed, superblockOf, walb, wdevc } from "./wdevc.ts";

let bench: DriverBench;
beforeEach(() => {
  bench = new DriverBench();
  bench.block("ldev", 2 * mib);
  bench.block("ddev", 4 * mib);
});
afterEach(() => bench.close());

const noDaemon = { WALB_UNUSED: "" };
const run = (...words: string[]): Promise<Ran> => wdevc({ platform: bench.kernel.platform, env: noDaemon }, ...words);
const value = (...words: string[]): Promise<string> => printed(run(...words));

async function started(): Promise<void> {
  await value("format-ldev", "/dev/ldev", "/dev/ddev", "-n", "vol0");
  await value("create-wdev", "/dev/ldev", "/dev/ddev");
}

describe("wdevc on the kernel driver", () => {
  test("format-ldev prints the superblock, create-wdev takes the name from it and prints the node's numbers", async () => {
    const text = await value("format-ldev", "/dev/ldev", "/dev/ddev", "-n", "vol0");
    expect(text.split("\n").map((line) => line.split(":")[0])).toEqual([
      "sectorType",
      "version",
      "checksum",
      "lbs",
      "pbs",
      "metadataSize",
      "salt",
      "name",
      "ringBufferSize",
      "oldestLsid",
      "writtenLsid",
      "deviceSize",
      "ringBufferOffset",
      "uuid",
    ]);
    expect(superblockOf(text)).toMatchObject({ name: "vol0", pbs: "512", deviceSize: "8192", ringBufferSize: "4086" });
    expect(await value("create-wdev", "/dev/ldev", "/dev/ddev")).toBe("name vol0\nmajor 250\nminor 0");
    expect(await value("list")).toBe("250 0 vol0");
    expect(await value("get-version")).toBe("1.5.1");
  });

  test("create-wdev passes its options to the driver, and -n names the device", async () => {
    await value("format-ldev", "/dev/ldev", "/dev/ddev", "-nd");
    const options = "-n other -maxl 64 -maxp 40 -minp 20 -qp 200 -fs 20 -fp 300 -bp 16 -bi 2K".split(" ");
    expect(await value("create-wdev", "/dev/ldev", "/dev/ddev", ...options)).toBe("name other\nmajor 250\nminor 0");
    const param = new DataView(bench.kernel.device("other").param.buffer);
    const fields = Array.from({ length: 8 }, (_, i) => param.getUint32(32 + 4 * i, true));
    // max_pending, min_pending, queue_stop_timeout, max_logpack, flush interval ms, MB, packs, I/Os.
    expect(fields).toEqual([40, 20, 200, 64, 300, 20, 16, 2048]);
  });

  test("lsids, usage, checkpoints, erasing and overflow", async () => {
    await started();
    await bench.kernel.write("vol0", 0, 8, 1);
    expect(await value("get-permanent-lsid", "/dev/walb/vol0")).toBe("9");
    expect(await value("get-completed-lsid", "vol0")).toBe("9");
    expect(await value("get-oldest-lsid", "/dev/walb/vol0")).toBe("0");
    expect(await value("get-log-usage", "/dev/walb/vol0")).toBe("9");
    expect(await value("get-log-capacity", "/dev/walb/vol0")).toBe("4086");
    while ((await value("get-written-lsid", "/dev/walb/vol0")) !== "9") await Bun.sleep(5);
    expect(await value("force-checkpoint", "/dev/walb/vol0")).toBe("");
    expect(await value("set-oldest-lsid", "/dev/walb/vol0", "9")).toBe("");
    expect(await value("get-oldest-lsid", "/dev/walb/vol0")).toBe("9");
    expect(await value("is-log-overflow", "/dev/walb/vol0")).toBe("0");
    bench.kernel.device("vol0").isOverflow = true;
    expect(await value("is-log-overflow", "/dev/walb/vol0")).toBe("1");
    expect(await value("reset-wal", "/dev/walb/vol0")).toBe("");
    expect(await value("is-log-overflow", "/dev/walb/vol0")).toBe("0");
    expect(await value("get-completed-lsid", "/dev/walb/vol0")).toBe("0");
  });

  test("clear-wal erases all log when it is written, and gives up after its timeout", async () => {
    await started();
    for (let i = 0; i < 5; i++) await bench.kernel.write("vol0", 8 * i, 8, i);
    expect(await value("clear-wal", "/dev/walb/vol0", "20")).toBe("");
    expect(await value("get-oldest-lsid", "/dev/walb/vol0")).toBe("45");
    expect(await value("get-log-usage", "/dev/walb/vol0")).toBe("0");
    bench.kernel.device("vol0").isHanging = true;
    await bench.kernel.write("vol0", 0, 8, 1);
    const { code, out, err } = await run("clear-wal", "/dev/walb/vol0", "1");
    expect({ code, out }).toEqual({ code: 1, out: "" });
    expect(err).toContain("the log up to lsid 54 was not written to the data within 1 s");
    expect(await value("get-oldest-lsid", "/dev/walb/vol0")).toBe("45");
  });

  test("checkpoint interval, freeze, melt, flush", async () => {
    await started();
    expect(await value("get-checkpoint-interval", "vol0")).toBe("10000");
    expect(await value("set-checkpoint-interval", "vol0", "500")).toBe("");
    expect(await value("get-checkpoint-interval", "vol0")).toBe("500");
    expect(await value("is-flush-capable", "vol0")).toBe("1");
    expect(await value("is-flozen", "vol0")).toBe("0");
    expect(await value("freeze", "vol0")).toBe("");
    expect(await value("is-flozen", "vol0")).toBe("1");
    expect(await value("melt", "vol0")).toBe("");
    expect(await value("freeze", "vol0", "100")).toBe("");
    expect(await value("melt", "vol0")).toBe("");
    expect(await value("is-flozen", "vol0")).toBe("0");
  });

  test("resize in logical blocks; without a size all of the data device", async () => {
    await started();
    truncateSync(bench.file("ddev"), 8 * mib);
    expect(await value("resize", "/dev/walb/vol0", "10000")).toBe("");
    expect(bench.kernel.device("vol0").engine.sizeBytes).toBe(10_000 * 512);
    expect(await value("resize", "/dev/walb/vol0")).toBe("");
    expect(bench.kernel.device("vol0").engine.sizeBytes).toBe(8 * mib);
  });

  test("delete-wdev refuses a device that is open, with the driver's errno, unless forced", async () => {
    await started();
    bench.kernel.device("vol0").isOpen = true;
    const { code, out, err } = await run("delete-wdev", "/dev/walb/vol0");
    expect({ code, out }).toEqual({ code: 1, out: "" });
    expect(err).toContain("ioctl error:Device or resource busy(16):");
    expect(await value("delete-wdev", "/dev/walb/vol0", "-f")).toBe("");
    expect(await value("list")).toBe("");
    expect(await value("create-wdev", "/dev/ldev", "/dev/ddev")).toBe("name vol0\nmajor 250\nminor 0");
  });

  test("what the driver refuses fails with its errno, which scripts look for, and with the reason", async () => {
    await started();
    await bench.kernel.write("vol0", 0, 8, 1);
    const refused = async (reason: string, ...words: string[]): Promise<void> => {
      const { code, out, err } = await run(...words);
      expect({ words, code, out }).toEqual({ words, code: 1, out: "" });
      expect(err).toMatch(/ERROR wdevc [-a-z]+:ioctl error:Bad address\(14\):/);
      expect(err).toContain(reason);
    };
    await refused("the data device has 4194304 bytes", "resize", "/dev/walb/vol0", "9000");
    await refused("cannot shrink", "resize", "/dev/walb/vol0", "100");
    await refused("not between oldest 0", "set-oldest-lsid", "/dev/walb/vol0", "12345");
    await refused("of this name", "create-wdev", "/dev/ldev", "/dev/ddev", "-n", "vol0");
    await refused("is the log of the walb device vol0", "create-wdev", "/dev/ldev", "/dev/ddev", "-n", "vol1");
    await refused("writes go on when 32 MiB", "create-wdev", "/dev/ldev", "/dev/ddev", "-minp", "32");
    await value("freeze", "vol0");
    await refused("frozen", "reset-wal", "/dev/walb/vol0");
    bench.kernel.device("vol0").isReadOnly = true;
    await refused("takes no more", "force-checkpoint", "/dev/walb/vol0");
  });

  test("format-ldev never writes over the log of a running device, and wants one block size", async () => {
    await started();
    const { code, err } = await run("format-ldev", "/dev/ldev", "/dev/ddev");
    expect(code).toBe(1);
    expect(err).toContain("in use by another process");
    bench.block("ldev4k", 2 * mib, 4096);
    bench.block("free", 2 * mib);
    expect((await run("format-ldev", "/dev/ldev4k", "/dev/free")).err).toContain(
      "physical block size differs:4096:512",
    );
  });

  test("a device that nobody has is told plainly", async () => {
    const { code, err } = await run("get-oldest-lsid", "/dev/sda");
    expect(code).toBe(1);
    expect(err).toContain("it is no walb device");
  });
});

test("walb device manages devices of the driver with --kernel, and list shows them", async () => {
  const where = { platform: bench.kernel.platform };
  const json = async (...words: string[]) => JSON.parse((await walb(where, "device", ...words, "--json")).out);
  const stores = ["--data", "/dev/ddev", "--log", "/dev/ldev"];
  const created = await json("create", "vol0", "--kernel", ...stores);
  expect(created).toMatchObject({ name: "vol0", path: "/dev/walb/vol0", state: "running" });
  const empty = { "device-data": bench.directory };
  const list = await walb(where, "device", "list", "--device-data", empty["device-data"]);
  expect(list.code).toBe(0);
  expect(list.out).toContain("/dev/walb/vol0");
  expect(list.err).toContain("only those of the kernel driver");
  expect((await walb(where, "device", "show", "vol0", "--kernel")).out).toContain(
    "device:               /dev/walb/vol0\n",
  );
  await json("freeze", "vol0", "--kernel");
  expect((await json("show", "vol0", "--kernel")).state).toBe("frozen");
  await json("melt", "vol0", "--kernel");
  await json("checkpoint", "vol0", "--kernel");
  truncateSync(bench.file("ddev"), 8 * mib);
  expect((await json("resize", "vol0", "8M", "--kernel")).sizeLb).toBe(16384);
  const reset = await json("reset-log", "vol0", "--kernel", "--yes");
  expect(reset.uuid).not.toBe(created.info.uuid);
  const deleted = await walb(where, "device", "delete", "vol0", "--kernel", "--yes");
  expect(deleted.out).toBe("did delete device vol0 and keep its data at /dev/ddev and log at /dev/ldev\n");
  expect((await walb(where, "device", "show", "vol0", "--kernel")).code).toBe(1);
  bench.kernel.isLoaded = false;
  const refused = await walb(where, "device", "create", "vol1", "--kernel", ...stores);
  expect(refused.err).toContain("the walb driver is not loaded");
  expect(refused.err).toContain("load it: modprobe walb-mod");
});
