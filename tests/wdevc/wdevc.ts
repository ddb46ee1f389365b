/** @module Runs `wdevc` in this process. */
import { originalTool } from "../../src/cli/original/index.ts";
import { runCommandLine } from "../../src/cli/run.ts";
import type { Io } from "../../src/cli/verb.ts";
import type { Platform } from "../../src/platform/platform.ts";

/** What a run left. */
export interface Ran {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

/** Where it runs: a platform with a fake driver, or the host; and its environment. */
export interface Surroundings {
  readonly platform?: Platform;
  readonly env?: Record<string, string>;
  readonly cwd?: string;
}

/** Runs a command of `wdevc`, as under a link of that name. */
export function wdevc(where: Surroundings, ...words: string[]): Promise<Ran> {
  return captured(where, (io) => originalTool("/usr/bin/wdevc")!(words, io));
}

/** Runs a command of `walb`. */
export function walb(where: Surroundings, ...words: string[]): Promise<Ran> {
  return captured(where, (io) => runCommandLine(words, io));
}

async function captured(where: Surroundings, run: (io: Io) => Promise<number>): Promise<Ran> {
  const out: string[] = [];
  const err: string[] = [];
  const io: Io = {
    out: (text) => void out.push(text),
    err: (text) => void err.push(text),
    isOutTerminal: false,
    isErrTerminal: false,
    isInTerminal: false,
    errColumns: () => 80,
    ask: () => Promise.reject(new Error("nobody is there to answer")),
    env: where.env ?? {},
    cwd: where.cwd ?? process.cwd(),
    nowMs: () => Date.now(),
    signal: new AbortController().signal,
    ...(where.platform === undefined ? {} : { platform: where.platform }),
  };
  const code = await run(io);
  return { code, out: out.join(""), err: err.join("") };
}

/** The value that a successful run printed alone. */
export async function printed(run: Promise<Ran>): Promise<string> {
  const { code, out, err } = await run;
  if (code !== 0 || err !== "") throw new Error(`exit ${code}: ${err}${out}`);
  return out.replace(/\n$/, "");
}

/** The superblock text as a map. */
export function superblockOf(text: string): Record<string, string> {
  return Object.fromEntries(text.split("\n").map((line) => line.split(": ") as [string, string]));
}
