/** @module The most memory that file tools take, as the executable, on a log of many small writes. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { countFrom } from "../helpers/shards.ts";

const root = join(import.meta.dir, "..", "..");
const mib = 1024 * 1024;
// The marks are for 1 GiB; indexes grow with the number of writes, so that half of it is near them.
const logMib = countFrom("WALB_MEMORY_LOG_MIB", 512);
let directory = "";

/**
 * Runs a command and answers the most memory it had, in MiB. Asked of the kernel while it runs: what is told of a child
 * that has ended counts the memory of the process that forked it, too.
 */
async function peakMib(...words: string[]): Promise<number> {
  const child = Bun.spawn([join(root, "dist", "walb"), ...words, "--quiet"], {
    cwd: directory,
    stdout: "ignore",
    stderr: "pipe",
  });
  let peakKib = 0;
  const watch = setInterval(() => {
    try {
      const status = readFileSync(`/proc/${child.pid}/status`, "utf8");
      // The name is that of the forking process until the executable has taken its place.
      if (status.startsWith("Name:\twalb\n")) peakKib = Number(/^VmHWM:\s*(\d+)/m.exec(status)?.[1] ?? peakKib);
    } catch {
      // It has ended.
    }
  }, 5);
  try {
    const error = await new Response(child.stderr).text();
    expect({ words, code: await child.exited, error }).toEqual({ words, code: 0, error: "" });
  } finally {
    clearInterval(watch);
  }
  return peakKib / 1024;
}

beforeAll(async () => {
  // Does nothing when it is up to date.
  execFileSync(process.execPath, ["run", join(root, "build.ts")], { cwd: root, stdio: "ignore" });
  directory = mkdtempSync(join(tmpdir(), "walb-tool-memory-"));
  const sizes = ["--size", `${2 * logMib}M`, "--log-size", `${logMib}M`, "--min-io", "4K", "--max-io", "4K"];
  const peak = await peakMib(
    "wlog",
    "generate",
    "--seed",
    "1",
    ...sizes,
    "--content",
    "half",
    "--without-discard",
    "-o",
    "log",
  );
  expect(peak).toBeLessThan(256);
  writeFileSync(join(directory, "image"), "");
  truncateSync(join(directory, "image"), 2 * logMib * mib);
}, 300_000);
afterAll(() => rmSync(directory, { recursive: true, force: true }), 120_000);

describe(`with a log of ${logMib} MiB in writes of 4 KiB`, () => {
  const cases: readonly (readonly [limitMib: number, ...words: string[]])[] = [
    [100, "wlog", "to-wdiff", "-i", "log", "--indexed", "-o", "indexed"],
    [300, "wlog", "to-wdiff", "-i", "log", "-o", "sorted"],
    [256, "wlog", "redo", "image", "-i", "log"],
    [256, "wdiff", "merge", "sorted", "indexed", "-o", "merged"],
    [256, "wdiff", "redo", "image", "indexed"],
    [256, "wdiff", "verify", "indexed"],
  ];
  for (const [limitMib, ...words] of cases) {
    test(`${words.slice(0, 2).join(" ")}${words.includes("--indexed") ? " --indexed" : ""} stays below ${limitMib} MiB`, async () => {
      const peak = await peakMib(...words);
      // More than the executable itself: the peak is measured at all.
      expect(peak).toBeGreaterThan(20);
      expect(peak).toBeLessThan(limitMib);
    }, 300_000);
  }
});
