/** @module Tools of the original that make and watch data for tests: trees hashed, devices written and filled, blocks watched. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { execFileSync } from "node:child_process";
import {
  chmodSync,
  lutimesSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { runBinaryOfSource } from "../helpers/source-binary.ts";
import { original } from "./tools.ts";

let directory = "";
const at = (name: string): string => join(directory, name);
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "walb-extra-"));
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

async function good(name: string, ...words: string[]): Promise<string> {
  const { code, out, err } = await original(name, ...words);
  expect({ name, code, err }).toEqual({ name, code: 0, err: "" });
  return out;
}

describe("diffinfo-to-filename.py", () => {
  const names = async (lines: string): Promise<{ code: number; out: string; err: string }> => {
    const words = [...runBinaryOfSource, "diffinfo-to-filename.py"];
    const ran = Bun.spawn(words, { stdin: Buffer.from(lines), stdout: "pipe", stderr: "pipe" });
    const [out, err] = await Promise.all([new Response(ran.stdout).text(), new Response(ran.stderr).text()]);
    return { code: await ran.exited, out, err };
  };

  test("names the files of the diffs that walbc lists", async () => {
    const lines = [
      "|0|-->|1| -- 2026-11-21T03:26:42 616",
      "|1|-->|3| M- 2026-11-21T03:26:43 616",
      "|3,5|-->|6,7| MC 2026-11-21T03:26:43 0",
    ];
    expect(await names(`${lines.join("\n")}\n`)).toEqual({
      code: 0,
      out: "20261121032642----0-1.wdiff\n20261121032643-M--1-3.wdiff\n20261121032643-MC-3-5-6-7.wdiff\n",
      err: "",
    });
  });

  test("refuses what is no such line", async () => {
    const { code, out, err } = await names("|0|-->|1| M- yesterday 3\n");
    expect([code, out]).toEqual([1, ""]);
    expect(err).toContain("timestamp");
  });
});

describe("dirtree-hash", () => {
  const hash = async (name: string, ...flags: string[]): Promise<string> =>
    (await good("dirtree-hash", ...flags, at(name))).split(" ")[0]!;

  beforeAll(() => {
    mkdirSync(at("tree/b/empty"), { recursive: true });
    writeFileSync(at("tree/a"), "one");
    writeFileSync(at("tree/b/c"), Buffer.alloc(3_000_000, 7));
    // A name that is no UTF-8.
    writeFileSync(Buffer.concat([Buffer.from(at("tree/b/")), Buffer.of(0xff, 0xfe)]), "two");
    symlinkSync("a", at("tree/link"));
    execFileSync("cp", ["-a", at("tree"), at("copy")]);
  });

  test("is the same for the same names and contents, whatever was made first, and for any number of readers", async () => {
    const one = await hash("tree");
    expect(one).toMatch(/^[0-9a-f]{32}$/);
    mkdirSync(at("other/b"), { recursive: true });
    for (const name of ["link", "b/c", "b/empty", "a"]) {
      execFileSync("cp", ["-a", at(`tree/${name}`), at(`other/${name}`)]);
    }
    writeFileSync(Buffer.concat([Buffer.from(at("other/b/")), Buffer.of(0xff, 0xfe)]), "two");
    expect(await hash("other")).toBe(one);
    for (const parallel of ["1", "64"]) expect(await hash("tree", "-pp", parallel)).toBe(one);
    expect(await good("dirtree-hash", at("tree"))).toBe(`${one} ${at("tree")}\n`);
  });

  test("is another one after any change of a name, a content, a kind or a link", async () => {
    const seen = new Set([await hash("copy")]);
    const changes: (() => void)[] = [
      () => writeFileSync(at("copy/a"), "onE"),
      () => renameSync(at("copy/a"), at("copy/A")),
      () => rmSync(at("copy/b/empty"), { recursive: true }),
      () => writeFileSync(at("copy/b/empty"), ""),
      () => truncateSync(at("copy/b/c"), 2_999_999),
      () => execFileSync("ln", ["-sfn", "A", at("copy/link")]),
      () => execFileSync("sh", ["-c", 'rm "$1"; printf A > "$1"', "sh", at("copy/link")]),
    ];
    for (const change of changes) {
      change();
      const now = await hash("copy");
      expect(seen.has(now)).toBe(false);
      seen.add(now);
    }
  });

  test("counts times, owners and permissions only when it is asked to", async () => {
    const all = async (): Promise<string[]> =>
      Promise.all([[], ["-time"], ["-perm"], ["-owner"], ["-all"]].map((flags) => hash("tree", ...flags)));
    const before = await all();
    expect(new Set(before).size).toBe(5);
    utimesSync(at("tree/a"), 1000, 1000);
    lutimesSync(at("tree/link"), 1000, 1000);
    const later = await all();
    expect(later.map((one, i) => one === before[i])).toEqual([true, false, true, true, false]);
    chmodSync(at("tree/b"), 0o700);
    const last = await all();
    expect(last.map((one, i) => one === later[i])).toEqual([true, true, false, true, false]);
  });

  test("tells each entry, files with the hash of bhash, and refuses what is no directory", async () => {
    const each = (await good("dirtree-hash", "-each", at("tree"))).trim().split("\n");
    expect(each.length).toBe(7);
    expect(each).toContain(`${(await good("bhash", at("tree/a"))).trim()} ${at("tree/a")}`);
    for (const path of ["tree/a", "nothing"]) expect((await original("dirtree-hash", at(path))).code).toBe(1);
  });
});

describe("devices", () => {
  const writes = (recipe: string) =>
    recipe
      .trim()
      .split("\n")
      .map((line) => line.split(" ").map((word, i) => Number.parseInt(word, i === 2 ? 16 : 10)));

  test("hold what write_random_data printed, which verify_written_data finds", async () => {
    writeFileSync(at("device"), Buffer.alloc(1024 * 1024, 0x11));
    const recipe = await good(
      "write_random_data",
      "-b",
      "4096",
      "-o",
      "16",
      "-s",
      "100",
      "-n",
      "1",
      "-x",
      "8",
      at("device"),
    );
    writeFileSync(at("recipe"), recipe);
    const ios = writes(recipe);
    expect(ios[0]![0]).toBe(16 * 8);
    for (const [i, [offset, size]] of ios.entries()) expect(ios[i + 1]?.[0] ?? 116 * 8).toBe(offset! + size!);
    expect(Math.max(...ios.map(([, size]) => size!))).toBeLessThanOrEqual(64);
    expect(await good("verify_written_data", "-r", at("recipe"), at("device"))).not.toContain("NG");
    const bytes = readFileSync(at("device"));
    expect(bytes.subarray(0, 65536).every((byte) => byte === 0x11)).toBe(true);
    expect(bytes.subarray(116 * 4096).every((byte) => byte === 0x11)).toBe(true);
    bytes[70_000] = bytes[70_000]! ^ 1;
    writeFileSync(at("device"), bytes);
    const { code, out } = await original("verify_written_data", "-r", at("recipe"), at("device"));
    expect([code, out.match(/NG/g)?.length]).toEqual([1, 1]);
    await good("write_random_data", "-set", "255", at("device"));
    expect(readFileSync(at("device")).every((byte) => byte === 255)).toBe(true);
    expect((await original("write_random_data", "-s", "99999", at("device"))).code).toBe(1);
  });

  test("are filled in part by fill-bdev, which says in how many blocks", async () => {
    writeFileSync(at("device"), Buffer.alloc(4 * 1024 * 1024));
    const count = Number(await good("fill-bdev", "-b", "4K", "-dp", "300", "-rp", "500", "-s", "2M", at("device")));
    const bytes = readFileSync(at("device"));
    let changed = 0;
    for (let block = 0; block < 1024; block += 1) {
      const some = bytes.subarray(block * 4096, (block + 1) * 4096);
      if (some.some((byte) => byte !== 0)) changed += 1;
      if (block >= 512) expect(some.every((byte) => byte === 0)).toBe(true);
    }
    expect(changed).toBe(count);
    expect(count).toBeGreaterThan(60);
    expect(count).toBeLessThan(300);
    expect(Number(await good("fill-bdev", "-dp", "1000", at("device")))).toBe(64);
  });

  test("are discarded by trim, unit by unit, and nothing beside the range", async () => {
    writeFileSync(at("device"), Buffer.alloc(4 * 1024 * 1024, 0x55));
    expect(await good("trim", "-o", "1M", "-t", "2M", "-u", "512K", at("device"))).toBe("....\n");
    const bytes = readFileSync(at("device"));
    const isAll = (from: number, to: number, byte: number): boolean =>
      bytes.subarray(from * 1024 * 1024, to * 1024 * 1024).every((one) => one === byte);
    expect([isAll(0, 1, 0x55), isAll(1, 3, 0), isAll(3, 4, 0x55), bytes.length]).toEqual([
      true,
      true,
      true,
      4 * 1024 * 1024,
    ]);
    expect((await original("trim", "-o", "3M", "-t", "2M", at("device"))).code).toBe(1);
    expect(await good("trim", at("device"))).toBe(".\n");
  });

  test("are watched by mon-blk until it is interrupted", async () => {
    writeFileSync(at("watched"), Buffer.alloc(8192));
    const child = Bun.spawn([...runBinaryOfSource, "mon-blk", "-sleep", "10", "8", "8", at("watched")], {
      stdout: "pipe",
    });
    const reader = child.stdout.getReader();
    const line = async (): Promise<string> => new TextDecoder().decode((await reader.read()).value);
    expect(await line()).toMatch(/^\d{4}-\d\d-\d\dT[\d:.]+\t[0-9a-f]{32}\n$/);
    writeFileSync(at("watched"), Buffer.alloc(8192, 1));
    expect(await line()).toMatch(/\t[0-9a-f]{32}\n$/);
    child.kill("SIGTERM");
    expect(await child.exited).toBe(0);
  }, 60_000);
});

test("wait-for-lv ends when it is interrupted while there is no such device", async () => {
  const child = Bun.spawn([...runBinaryOfSource, "wait-for-lv", at("none")], { stderr: "ignore" });
  await Bun.sleep(500);
  expect(child.exitCode).toBe(null);
  child.kill("SIGTERM");
  expect(await child.exited).toBe(1);
}, 60_000);
