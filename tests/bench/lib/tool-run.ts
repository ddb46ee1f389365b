/** @module Runs the executable once over files and measures it from outside: time, CPU seconds, peak of its memory. */
import { execFileSync } from "node:child_process";
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { memoryMibOf } from "./processes.ts";

const executable = join(import.meta.dir, "..", "..", "..", "dist", "walb");

/** What one run took. */
export interface ToolRun {
  readonly seconds: number;
  readonly cpuS: number;
  readonly peakMib: number;
}

const pollMs = 5;

/**
 * Runs `walb WORDS…` to its end. @param noSync a library from {@link noSyncLibrary}: the run then syncs nothing.
 * @throws when it fails, with what it said.
 */
export async function runTool(words: readonly string[], noSync?: string): Promise<ToolRun> {
  const preload = noSync === undefined ? {} : { LD_PRELOAD: noSync };
  const startMs = performance.now();
  const child = Bun.spawn([executable, ...words], {
    stdin: "ignore",
    stdout: "ignore",
    stderr: "pipe",
    env: { ...process.env, ...preload },
  });
  // The kernel's own peak of a child counts the parent it was forked from, so its memory is looked at while it runs.
  let peakMib = 0;
  const poll = setInterval(() => {
    try {
      peakMib = Math.max(peakMib, memoryMibOf(child.pid, "VmHWM"));
    } catch {
      // It has just ended.
    }
  }, pollMs);
  const said = new Response(child.stderr).text();
  const code = await child.exited;
  const seconds = (performance.now() - startMs) / 1000;
  clearInterval(poll);
  if (code !== 0) throw new Error(`walb ${words.join(" ")} ended with ${code}: ${await said}`);
  const cpuS = Number(child.resourceUsage()?.cpuTime.total ?? 0n) / 1e6;
  return { seconds, cpuS, peakMib };
}

/**
 * A library that takes fsync, fdatasync and sync_file_range out of what it is loaded into, so that a rate can also be
 * told without the disk; undefined where there is no compiler.
 */
export function noSyncLibrary(directory: string): string | undefined {
  const source = join(directory, "nosync.c");
  const library = join(directory, "nosync.so");
  if (existsSync(library)) return library;
  const calls = ["fsync(int fd)", "fdatasync(int fd)", "sync_file_range(int fd, long from, long size, unsigned how)"];
  writeFileSync(source, calls.map((call) => `int ${call} { return 0; }\n`).join(""));
  try {
    execFileSync(process.env.CC ?? "gcc", ["-shared", "-fPIC", "-O1", "-o", library, source], { stdio: "ignore" });
  } catch {
    return undefined;
  }
  return library;
}
