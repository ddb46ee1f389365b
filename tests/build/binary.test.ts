import { beforeAll, expect, test } from "bun:test";
import { copyFileSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { withTemporaryDirectory } from "../helpers/temporary.ts";

const root = join(import.meta.dir, "..", "..");
const binary = join(root, "dist", "walb");

function run(command: string[], options: { cwd?: string; env?: Record<string, string> } = {}) {
  const env = { ...process.env, ...options.env };
  const done = Bun.spawnSync(command, { env, stdout: "pipe", stderr: "pipe", cwd: options.cwd ?? root });
  return { exit: done.exitCode, out: done.stdout.toString(), err: done.stderr.toString() };
}

beforeAll(() => {
  const { exit, err } = run([process.execPath, "run", "build.ts"]);
  if (exit !== 0) throw new Error(`the build failed: ${err}`);
}, 300_000);

/** Configuration that would stop or change a program that obeys it. */
function makeHostile(directory: string): void {
  writeFileSync(join(directory, "bunfig.toml"), 'preload = ["./none.ts"]\n');
  writeFileSync(join(directory, ".env"), "BUN_OPTIONS=--version\nWALB_PROBE=hostile\n");
  writeFileSync(join(directory, "package.json"), "not json");
  writeFileSync(join(directory, "tsconfig.json"), "not json");
}

test("the executable alone in a directory with hostile configuration tells its version", async () => {
  await withTemporaryDirectory(async (directory) => {
    const alone = join(directory, "alone");
    mkdirSync(alone);
    copyFileSync(binary, join(alone, "walb"));
    const empty = run(["./walb", "version"], { cwd: alone });
    expect([empty.exit, empty.err]).toEqual([0, ""]);
    expect(empty.out).toMatch(/\d+\.\d+\.\d+/);
    makeHostile(alone);
    const hostile = run(["./walb", "version"], { cwd: alone });
    expect(hostile).toEqual(empty);
    expect(readdirSync(alone).sort()).toEqual([".env", "bunfig.toml", "package.json", "tsconfig.json", "walb"]);
  });
});

test("a compiled program has the shim inside and needs no temporary directory", async () => {
  await withTemporaryDirectory(async (directory) => {
    const program = join(directory, "probe");
    const flags = ["--compile", "--minify", "--bytecode", "--format=esm", "--splitting"];
    const isolation = ["--no-compile-autoload-dotenv", "--no-compile-autoload-bunfig"];
    const source = join(import.meta.dir, "shim-probe.ts");
    const built = run([process.execPath, "build", ...flags, ...isolation, source, "--outfile", program]);
    expect([built.exit, built.err]).toEqual([0, ""]);
    makeHostile(directory);
    const done = run([program], { cwd: directory, env: { TMPDIR: "/nonexistent" } });
    expect(done).toEqual({ exit: 0, out: "checksum 5f5f5f80\n", err: "" });
  });
});

test("a build that has nothing to do leaves the executable alone", () => {
  const before = Bun.file(binary).lastModified;
  expect(run([process.execPath, "run", "build.ts"]).exit).toBe(0);
  expect(Bun.file(binary).lastModified).toBe(before);
});

/** Highest GLIBC version that a file asks for, as [major, minor]. */
function highestGlibc(path: string): number[] {
  const { exit, out } = run(["readelf", "--version-info", "--wide", path]);
  expect(exit).toBe(0);
  const versions = [...out.matchAll(/GLIBC_(\d+)\.(\d+)/g)].map((match) => [Number(match[1]), Number(match[2])]);
  expect(versions.length).toBeGreaterThan(0);
  return versions.reduce((highest, one) => (compare(one, highest) > 0 ? one : highest), [0, 0]);
}

function compare(left: number[], right: number[]): number {
  return Math.sign((left[0] ?? 0) - (right[0] ?? 0) || (left[1] ?? 0) - (right[1] ?? 0));
}

test("the shim runs wherever Bun does: no newer glibc, no C++ runtime, no text relocations", () => {
  if (Bun.which("readelf") === null) return console.log("skipped: readelf is not installed");
  const shim = join(root, "ffi", "build", "libwalb.so");
  expect(compare(highestGlibc(shim), highestGlibc(process.execPath))).toBeLessThanOrEqual(0);
  const { out } = run(["readelf", "--dynamic", "--wide", shim]);
  const needed = [...out.matchAll(/NEEDED.*\[(.*)\]/g)].map((match) => match[1] ?? "");
  for (const library of needed) expect(library).toMatch(/^(libc|libpthread|ld-linux.*)\.so/);
  expect(out).not.toContain("TEXTREL");
});
