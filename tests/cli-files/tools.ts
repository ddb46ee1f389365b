/** @module Runs file tools in this process: the original's by name, and commands of `walb`; and finds the vectors. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { originalTool } from "../../src/cli/original/index.ts";
import { runCommandLine } from "../../src/cli/run.ts";
import { captured, type Ran } from "../helpers/quiet-io.ts";

/** The original's files and what its tools print, when they are there. */
export const vectors = ((path) => (path !== undefined && existsSync(path) ? path : undefined))(
  process.env.WALB_VECTORS,
);

if (vectors === undefined) {
  console.log("golden files are skipped: WALB_VECTORS does not name a directory with them");
}

/** A path of a vector. */
export function vector(...names: string[]): string {
  return join(vectors ?? "", ...names);
}

/** Runs one of the original's tools. */
export async function original(name: string, ...words: string[]): Promise<Ran> {
  const run = originalTool(`/usr/bin/${name}`);
  if (run === undefined) throw new Error(`no tool ${name}`);
  return captured((io) => run(words, io));
}

/** Runs a command of `walb`. */
export function walb(...words: string[]): Promise<Ran> {
  return captured((io) => runCommandLine(words, io));
}
