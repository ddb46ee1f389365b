/** @module Where file tools write: full disks, files that are there already, block devices. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { runBinaryOfSource } from "../helpers/source-binary.ts";
import { original, walb } from "./tools.ts";

let directory = "";
const at = (name: string): string => join(directory, name);

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), "walb-outputs-"));
  const sizes = ["--size", "4M", "--log-size", "2M"];
  await walb("wlog", "generate", "--seed", "2", ...sizes, "--content", "random", "--without-discard", "-o", at("log"));
  await walb("wlog", "to-wdiff", "-i", at("log"), "-o", at("sorted"));
  await walb("wlog", "to-wdiff", "-i", at("log"), "--indexed", "-o", at("indexed"));
  await walb("log-device", "format", at("device"), "--create", "4M", "--size", "4M");
  await walb("wlog", "restore", at("device"), "-i", at("log"));
  writeFileSync(at("image"), Buffer.alloc(4 * 1024 * 1024, "walb is not zero "));
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const canMount = spawnSync("unshare", ["-rm", "sh", "-c", "mount -t tmpfs walb /mnt"]).status === 0;
const why = canMount ? "" : " (skipped: this host lets nobody mount a small file system)";

describe.skipIf(!canMount)(`on a full file system${why}`, () => {
  /** Runs a line of the shell with `walb` and the original's names, `$small` being a file system of 256 KiB. */
  function onSmall(line: string): { code: number | null; err: string; left: string } {
    const small = at("small");
    const names = ["walb", "wlog-cat", "wlog-to-wdiff", "wdiff-full", "wcmpr"];
    const functions = names.map(
      (name) => `${name}() { ${runBinaryOfSource.join(" ")} ${name.replace("walb", "")} "$@"; }`,
    );
    const named = functions.join("\n");
    const script = `mkdir -p ${small}; mount -t tmpfs -o size=256k walb ${small}; small=${small}\n${named}\n${line}\ncode=$?; ls -A ${small}; exit $code`;
    const ran = spawnSync("unshare", ["-rm", "bash", "-c", script], { cwd: directory, encoding: "utf8" });
    return { code: ran.status, err: ran.stderr, left: ran.stdout };
  }

  const cases: Readonly<Record<string, string>> = {
    "a sorted diff": "walb wlog to-wdiff -i log -o $small/out",
    "an indexed diff": "walb wlog to-wdiff -i log --indexed -o $small/out",
    "a merge": "walb wdiff merge sorted indexed -o $small/out",
    "a dump": "walb wdiff dump sorted --address 0 --blocks 8192 -o $small/out",
    "a diff of an image": "walb wdiff from-image image --compress none -o $small/out",
    "an image": "walb image cat image sorted -o $small/out",
    "a wlog": "walb log-device export device -o $small/out",
    "a generated log": "walb wlog generate --log-size 4M -o $small/out",
    "the blocks of a log": "walb log-device dump device --from 0 --to 4000 -o $small/out",
    "a wlog of wlog-cat": "wlog-cat device -o $small/out",
    "a diff of wlog-to-wdiff": "wlog-to-wdiff -i log -o $small/out",
    "units of wcmpr": "wcmpr -m none image $small/out",
  };
  for (const [name, line] of Object.entries(cases)) {
    test(`${name} is refused for want of room, by the name it was to have, and nothing is left of it`, () => {
      const { code, err, left } = onSmall(line);
      expect({ code, left }).toEqual({ code: 1, left: "" });
      expect(err).toContain(`file ${at("small")}/out`);
      expect(err).toContain("No space left on device");
    }, 60_000);
  }

  test("a new log device is not left half made, and one that fits is made afterwards", () => {
    const format = "walb log-device format $small/new --size 1M --create";
    const { code, err, left } = onSmall(`dd if=/dev/zero of=$small/full bs=64k 2>/dev/null; ${format} 8M`);
    expect({ code, left }).toEqual({ code: 1, left: "full\n" });
    expect(err).toContain("No space left");
    expect(onSmall(`${format} 4K; ${format} 128K > /dev/null`)).toMatchObject({ code: 0, left: "new\n" });
  }, 60_000);

  test("what a pipe holds is refused naming the directory for temporary files, and how to have another", () => {
    const { code, err, left } = onSmall("cat indexed | TMPDIR=$small walb wdiff merge - -o out");
    expect({ code, left }).toEqual({ code: 1, left: "" });
    expect(err).toContain("set TMPDIR");
  }, 60_000);

  test("text that cannot be written is an error that says so", () => {
    const { code, err } = onSmall("walb wlog show log --packs > /dev/full");
    expect({ code, err }).toEqual({ code: 1, err: "walb: standard output: write failed (ENOSPC)\n" });
  }, 60_000);
});

describe("an output that is there already", () => {
  test("is kept unless asked for, and keeps who may read it when it is replaced", async () => {
    writeFileSync(at("old"), "old");
    chmodSync(at("old"), 0o640);
    const kept = await walb("wdiff", "merge", at("sorted"), "-o", at("old"));
    expect([kept.code, readFileSync(at("old"), "utf8")]).toEqual([4, "old"]);
    expect((await walb("wdiff", "merge", at("sorted"), "-o", at("old"), "--overwrite")).code).toBe(0);
    expect(statSync(at("old")).mode & 0o7777).toBe(0o640);
    // The original's names replace without being asked, as it does.
    writeFileSync(at("old"), "old");
    expect((await original("wdiff-merge", "-i", at("sorted"), "-o", at("old"))).code).toBe(0);
    expect(readFileSync(at("old")).length).toBeGreaterThan(4096);
  });

  test("keeps its content when the work fails, and a new one is made as the umask says", async () => {
    writeFileSync(at("old"), "old");
    expect((await walb("wdiff", "merge", at("log"), "-o", at("old"), "--overwrite")).code).toBe(5);
    expect(readFileSync(at("old"), "utf8")).toBe("old");
    const mask = process.umask(0o027);
    try {
      await walb("wdiff", "merge", at("sorted"), "-o", at("fresh"));
    } finally {
      process.umask(mask);
    }
    expect(statSync(at("fresh")).mode & 0o7777).toBe(0o640);
    expect(readdirSync(directory).filter((name) => name.endsWith(".tmp"))).toEqual([]);
  });

  test("is refused when it is a directory", async () => {
    const { code, err } = await walb("wdiff", "merge", at("sorted"), "-o", directory, "--overwrite");
    expect([code, err]).toEqual([2, expect.stringContaining("a directory was given where a file is needed")]);
  });
});

const loop = process.getuid?.() === 0 ? spawnSync("losetup", ["--version"]).status === 0 : false;

describe.skipIf(!loop)(`a block device${loop ? "" : " (skipped: loop devices need root)"}`, () => {
  let device = "";
  beforeAll(() => {
    writeFileSync(at("store"), Buffer.alloc(8 * 1024 * 1024, 0xaa));
    device = spawnSync("losetup", ["--find", "--show", at("store")], { encoding: "utf8" }).stdout.trim();
    expect(device).toStartWith("/dev/");
  });
  afterAll(() => void spawnSync("losetup", ["--detach", device]));

  test("is written over only when asked for, with zeroes where the image has holes", async () => {
    expect(await walb("image", "cat", at("image"), at("sorted"), "-o", device)).toMatchObject({ code: 4 });
    expect(await walb("image", "cat", at("image"), at("sorted"), "-o", device, "--overwrite")).toMatchObject({
      code: 0,
    });
    await walb("image", "cat", at("image"), at("sorted"), "-o", at("want"), "--overwrite");
    const got = spawnSync("head", ["-c", "8388608", device], { maxBuffer: 2 ** 24 }).stdout;
    expect(got.subarray(0, 4 * 1024 * 1024).equals(readFileSync(at("want")))).toBe(true);
    expect(got.subarray(4 * 1024 * 1024).every((byte) => byte === 0xaa)).toBe(true);
    const size = "4096";
    expect((await original("wdiff-dump", "0", size, at("sorted"), device)).code).toBe(0);
    await original("wdiff-dump", "0", size, at("sorted"), at("dump"));
    const dumped = spawnSync("head", ["-c", "2097152", device], { maxBuffer: 2 ** 24 }).stdout;
    expect(dumped.equals(readFileSync(at("dump")))).toBe(true);
  }, 60_000);

  test("that is too small is an error, and what does not fit is not written behind it", async () => {
    const { code, err } = await walb("wlog", "generate", "--log-size", "16M", "-o", device, "--overwrite");
    expect([code, err]).toEqual([1, expect.stringContaining(`file ${device}`)]);
  }, 60_000);
});
