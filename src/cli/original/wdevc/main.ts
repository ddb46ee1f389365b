/** @module `wdevc`: the original's control of walb devices, of the kernel driver and of the device daemon. */
import type { Io } from "../../verb.ts";
import { runOriginal } from "../index.ts";
import { wdevcCommands } from "./commands.ts";

/** Runs a command line behind the program's name. 0 for success, 1 for every failure. */
export async function run(words: readonly string[], io: Io): Promise<number> {
  const at = words.findIndex((word) => !word.startsWith("-"));
  const globals = at < 0 ? words : words.slice(0, at);
  if (globals.includes("-h")) {
    io.out(usage());
    return 0;
  }
  const wrong = globals.find((word) => word !== "-debug" && word !== "--debug");
  if (wrong !== undefined) return refuse(io, `bad option:${wrong}`);
  if (at < 0) return refuse(io, "no param:COMMAND");
  const command = words[at]!;
  const tool = wdevcCommands.get(command);
  if (tool === undefined) return refuse(io, `redundant argVal:${command}`);
  return await runOriginal(tool, [...globals, ...words.slice(at + 1)], io);
}

function refuse(io: Io, what: string): number {
  io.out(`OptionError:${what}\n${usage()}`);
  return 1;
}

function usage(): string {
  const lines = ["wdevc: walb device controller", "usage:wdevc [-debug] [-h] COMMAND ARGS OPTIONS"];
  for (const [command, { params, options, description }] of wdevcCommands) {
    const words = params.map(({ name, isOptional }) => (isOptional === true ? `(${name})` : name));
    const flags = Object.entries(options).map(([name, { kind }]) => `[-${name}${kind === "flag" ? "" : " VALUE"}]`);
    lines.push(`  ${[command, ...words, ...flags].join(" ")}`, `      ${description.slice(command.length + 2)}`);
  }
  return `${lines.join("\n")}\n`;
}
