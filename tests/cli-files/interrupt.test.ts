/** @module Signals to the file tools: they end, also while a pipe gives nothing, and leave no file that was begun. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { runBinaryOfSource } from "../helpers/source-binary.ts";
import { original, walb } from "./tools.ts";

let directory = "";
const at = (name: string): string => join(directory, name);

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), "walb-interrupt-"));
  await walb("wlog", "generate", "--seed", "3", "--size", "2M", "--log-size", "300K", "-o", at("wlog"));
  await walb("wlog", "to-wdiff", "-i", at("wlog"), "-o", at("sorted"));
  await walb("wlog", "to-wdiff", "--indexed", "-i", at("wlog"), "-o", at("indexed"));
  await walb("log-device", "format", at("log"), "--create", "1M", "--size", "2M");
  await walb("wlog", "restore", at("log"), "-i", at("wlog"));
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

/** Starts a tool in a directory of its own with the first half of a file on standard input, of which the rest never comes. */
async function started(name: string, words: readonly string[], input: string) {
  const home = at(name);
  mkdirSync(home);
  const env = { ...process.env, TMPDIR: home };
  const child = Bun.spawn([...runBinaryOfSource, ...words], {
    cwd: home,
    env,
    stdin: "pipe",
    stdout: "ignore",
    stderr: "pipe",
  });
  const bytes = readFileSync(at(input));
  child.stdin.write(bytes.subarray(0, bytes.length / 2));
  await child.stdin.flush();
  return { home, child };
}

/** Waits until something is there, or until it is clear that nothing comes before the input does. */
async function begun(home: string): Promise<void> {
  for (let i = 0; i < 40 && readdirSync(home).length === 0; i += 1) await Bun.sleep(50);
}

const cases: Readonly<Record<string, readonly [input: string, ...words: string[]]>> = {
  "wlog to-wdiff": ["wlog", "wlog", "to-wdiff", "-o", "out"],
  "wlog to-wdiff --indexed": ["wlog", "wlog", "to-wdiff", "--indexed", "-o", "out"],
  "wlog-to-wdiff": ["wlog", "wlog-to-wdiff", "-o", "out"],
  "wdiff merge": ["indexed", "wdiff", "merge", "-", "-o", "out"],
  "wdiff dump": ["sorted", "wdiff", "dump", "-", "--address", "0", "--blocks", "4096", "-o", "out"],
  "wdiff-merge": ["sorted", "wdiff-merge", "-i", "-", "-o", "out"],
  "wdiff from-image": ["wlog", "wdiff", "from-image", "-", "-o", "out"],
  "wdiff-full": ["wlog", "wdiff-full", "-indexed", "-o", "out"],
  "image cat": ["wlog", "image", "cat", "-", "-o", "out"],
  "log-device export": ["log", "log-device", "export", "-", "-o", "out"],
  wcmpr: ["wlog", "wcmpr", "-", "out"],
};

describe("a tool that waits for the rest of its input", () => {
  test("ends at the first signal, and nothing is left of its output", async () => {
    const running = await Promise.all(
      Object.entries(cases).map(async ([name, [input, ...words]]) => ({
        name,
        ...(await started(name, words, input)),
      })),
    );
    for (const { home } of running) await begun(home);
    const signals = ["SIGTERM", "SIGINT"] as const;
    for (const [i, { child }] of running.entries()) child.kill(signals[i % 2]);
    for (const { name, home, child } of running) {
      const code = await child.exited;
      const isOriginal = /^w[a-z]*(-|$)|wcmpr/.test(name) && !name.includes(" ");
      expect({ name, code, left: readdirSync(home) }).toEqual({ name, code: isOriginal ? 1 : 130, left: [] });
      expect(await new Response(child.stderr).text()).toContain("interrupted");
    }
  }, 120_000);

  test("ends at once at the second", async () => {
    const { home, child } = await started("twice", ["wlog", "to-wdiff", "--indexed", "-o", "out"], "wlog");
    await begun(home);
    expect(readdirSync(home).length).toBe(1);
    child.kill("SIGINT");
    child.kill("SIGTERM");
    expect([130, 143]).toContain(await child.exited);
    expect(readdirSync(home)).toEqual([]);
  }, 120_000);

  test("ends where nobody writes into the pipe it has to open", async () => {
    const home = at("nobody");
    mkdirSync(home);
    Bun.spawnSync(["mkfifo", join(home, "pipe")]);
    const words = ["wlog", "show", "pipe"];
    const child = Bun.spawn([...runBinaryOfSource, ...words], { cwd: home, stdout: "ignore", stderr: "ignore" });
    await Bun.sleep(1000);
    child.kill("SIGTERM");
    expect(await child.exited).toBe(130);
  }, 120_000);
});

test("of a range of 8 TiB only what the diff holds is written out", async () => {
  const blocks = String(2 ** 34 - 4096);
  await walb("wdiff", "dump", at("sorted"), "--address", "0", "--blocks", "4096", "-o", at("head"));
  const { code } = await original("wdiff-dump", "0", blocks, at("sorted"), at("dump"));
  expect(code).toBe(0);
  const { size, blocks: allocated } = statSync(at("dump"));
  expect([size, allocated * 512 <= 3 * 1024 * 1024]).toEqual([Number(blocks) * 512, true]);
  const part = Bun.file(at("dump")).slice(0, 4096 * 512);
  expect(Buffer.from(await part.arrayBuffer()).equals(readFileSync(at("head")))).toBe(true);
  // A range that begins behind all the diff holds, in the middle of a block of the copy.
  await walb("wdiff", "dump", at("sorted"), "--address", "3", "--blocks", "4000", "-o", at("shifted"));
  expect(readFileSync(at("shifted")).equals(readFileSync(at("head")).subarray(3 * 512, 4003 * 512))).toBe(true);
}, 120_000);
