/** @module Runs `wdevc` in this process. */
import { originalTool } from "../../src/cli/original/index.ts";
import { runCommandLine } from "../../src/cli/run.ts";
import type { Platform } from "../../src/platform/platform.ts";
import { captured, type Ran } from "../helpers/quiet-io.ts";

/** Where it runs: a platform with a fake driver, or the host; and its environment. */
export interface Surroundings {
  readonly platform?: Platform;
  readonly env?: Record<string, string>;
  readonly cwd?: string;
}

/** Runs a command of `wdevc`, as under a link of that name. */
export function wdevc(where: Surroundings, ...words: string[]): Promise<Ran> {
  return captured((io) => originalTool("/usr/bin/wdevc")!(words, io), where);
}

/** Runs a command of `walb`. */
export function walb(where: Surroundings, ...words: string[]): Promise<Ran> {
  return captured((io) => runCommandLine(words, io), where);
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
