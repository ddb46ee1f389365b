/** @module Finds the command, has citty run it, and turns what it throws into text and an exit code. */
import { runCommand } from "citty";
import { asWalbError, errorCodes, exitCodes, WalbError } from "../errors.ts";
import { program } from "./commands.ts";
import { renderGroupHelp, renderVerbHelp } from "./help.ts";
import { environmentName, nearest } from "./parse.ts";
import { bareCommand, namedCommands, type WalbCommand } from "./program.ts";
import { withLocalTimes } from "./text/time.ts";
import type { AnyVerb, Io } from "./verb.ts";

/** Which command a line means. */
interface Found {
  /** Words that name it, after `walb`. */
  readonly path: readonly string[];
  readonly command: WalbCommand;
  /** Words that follow the name. */
  readonly rest: readonly string[];
  readonly isHelpAsked: boolean;
}

/** Runs one command line (without the program's name). Answers the exit code; never throws. */
export async function runCommandLine(words: readonly string[], io: Io, root: WalbCommand = program): Promise<number> {
  let found: Found | undefined;
  try {
    found = findCommand(words, root);
    const { path, command, rest, isHelpAsked } = found;
    if (command.subCommands !== undefined) {
      io.out(await groupHelp(path, command));
      return isHelpAsked ? exitCodes.done : exitCodes.usage;
    }
    if (isHelpAsked) {
      io.out(renderVerbHelp(path, await command.load!()));
      return exitCodes.done;
    }
    // Only the command itself is given to citty: of nested ones it would skip flags before the name and lose the result.
    const { result } = await runCommand(command, { rawArgs: [...rest], data: io });
    return typeof result === "number" ? result : exitCodes.done;
  } catch (thrown) {
    const error = asWalbError(thrown);
    const verb = error.code === "usage" ? await found?.command.load?.() : undefined;
    report(error, words, found?.path ?? [], verb, io);
    if (!(thrown instanceof WalbError) && thrown instanceof Error && io.env.WALB_DEBUG === "1") {
      io.err(`${thrown.stack ?? ""}\n`);
    }
    return errorCodes[error.code].exit;
  }
}

/** Follows the words that name commands; a group is found when nothing in it is named. @throws WalbError `usage`. */
function findCommand(words: readonly string[], root: WalbCommand): Found {
  const path: string[] = [];
  let command = root;
  let rest = words[0] === "help" ? words.slice(1) : [...words];
  let isHelpAsked = words[0] === "help";
  while (command.subCommands !== undefined) {
    const word = rest[0];
    if (word === "--help" || word === "-h" || word === "help") {
      isHelpAsked = true;
      rest = rest.slice(1);
      continue;
    }
    const bare = bareCommand(command);
    if (word === undefined && (isHelpAsked || bare === undefined)) break;
    const name = word === "--version" && path.length === 0 ? "version" : word;
    if (bare !== undefined && (name === undefined || name.startsWith("-"))) {
      command = bare;
      break;
    }
    const named = namedCommands(command).find(({ meta }) => meta.name === name);
    if (named === undefined) throw unknownCommand(path, name ?? "", command);
    path.push(named.meta.name);
    rest = rest.slice(1);
    command = named;
  }
  const end = rest.indexOf("--");
  const before = end < 0 ? rest : rest.slice(0, end);
  if (before.includes("--help") || before.includes("-h")) isHelpAsked = true;
  return { path, command, rest, isHelpAsked };
}

async function groupHelp(path: readonly string[], group: WalbCommand): Promise<string> {
  const bare = await bareCommand(group)?.load?.();
  const help = renderGroupHelp(path, group);
  return bare === undefined ? help : `${help}\nAs a daemon:\n\n${renderVerbHelp(path, bare)}`;
}

function unknownCommand(path: readonly string[], name: string, group: WalbCommand): WalbError {
  const names = namedCommands(group).map(({ meta }) => meta.name);
  const near = nearest(name, names);
  const command = ["walb", ...path].join(" ");
  return new WalbError("usage", {
    what: `${command} has no command ${JSON.stringify(name)}`,
    hint: near === undefined ? `see them all with: ${command} --help` : `did you mean: ${command} ${near}`,
  });
}

/** Tells an error on stderr: one line, what to do next, and for a wrong command line a correct one. */
function report(
  error: WalbError,
  words: readonly string[],
  path: readonly string[],
  verb: AnyVerb | undefined,
  io: Io,
): void {
  const isJson = words.includes("--json") || io.env[environmentName("json")] === "1";
  if (isJson) {
    io.err(`${JSON.stringify({ error: error.toJSON() })}\n`);
    return;
  }
  // The place of a usage error is the command line itself; its text names the flag already.
  const isPlain = error.cause instanceof Error && error.cause.message === error.what;
  const text =
    isPlain || (error.code === "usage" && Object.keys(error.where).join() === "field") ? error.what : error.message;
  const said = `walb: ${text}\n${error.hint === undefined ? "" : `  ${error.hint}\n`}`;
  // What a person wrote is told as it was written; what programs read keeps UTC.
  io.err(error.code === "usage" ? said : withLocalTimes(said));
  if (error.code === "usage" && verb !== undefined) {
    io.err(`  example: ${verb.examples[0] ?? ""}\n  help: ${["walb", ...path].join(" ")} --help\n`);
  }
}
