/** @module Finds the command, parses its line, runs it, and turns what it throws into text and an exit code. */
import { asWalbError, errorCodes, exitCodes, WalbError } from "../errors.ts";
import { commands } from "./commands.ts";
import { renderTreeHelp, renderVerbHelp } from "./help.ts";
import { environmentName, nearest, parseCommandLine } from "./parse.ts";
import type { AnyVerb, Io, VerbGroup, VerbTree } from "./verb.ts";

const programSummary = "walb: continuous, point-in-time backup and replication of block volumes";

/** Runs one command line (without the program's name). Answers the exit code; never throws. */
export async function runCommandLine(words: readonly string[], io: Io, tree: VerbTree = commands): Promise<number> {
  const path: string[] = [];
  let verb: AnyVerb | undefined;
  try {
    const found = await find(words, tree, io, path);
    if (typeof found === "number") return found;
    verb = found.verb;
    const parsed = parseCommandLine(verb, found.rest, io.env);
    return (await verb.run({ ...parsed, io } as never)) ?? exitCodes.done;
  } catch (thrown) {
    const error = asWalbError(thrown);
    report(error, words, path, verb, io);
    if (!(thrown instanceof WalbError) && thrown instanceof Error && io.env.WALB_DEBUG === "1") {
      io.err(`${thrown.stack ?? ""}\n`);
    }
    return errorCodes[error.code].exit;
  }
}

/** The command and the words that follow it; a number when there was nothing but help to give. */
async function find(
  words: readonly string[],
  tree: VerbTree,
  io: Io,
  path: string[],
): Promise<{ verb: AnyVerb; rest: string[] } | number> {
  let group: VerbGroup = { summary: programSummary, verbs: tree };
  let rest = [...words];
  while (true) {
    const word = rest[0];
    const isHelp = word === "help" || word === "--help" || word === "-h";
    const isBare = word === undefined || word.startsWith("-");
    if (isHelp && rest.length > 1 && word === "help") {
      rest = [...rest.slice(1), "--help"];
      continue;
    }
    if (isBare && !isHelp && group.bare !== undefined) return { verb: await group.bare.load(), rest };
    if (isHelp || word === undefined) {
      io.out(renderTreeHelp(path, group.summary, group.verbs));
      if (group.bare !== undefined) io.out(`\nAs a daemon:\n\n${renderVerbHelp(path, await group.bare.load())}`);
      return isHelp ? exitCodes.done : exitCodes.usage;
    }
    const name = word === "--version" && path.length === 0 ? "version" : word;
    const entry = Object.hasOwn(group.verbs, name) ? group.verbs[name] : undefined;
    if (entry === undefined) throw unknownCommand(path, name, group.verbs);
    path.push(name);
    rest = rest.slice(1);
    if ("verbs" in entry) {
      group = entry;
      continue;
    }
    const verb = await entry.load();
    const end = rest.indexOf("--");
    const before = end < 0 ? rest : rest.slice(0, end);
    if (before.includes("--help") || before.includes("-h")) {
      io.out(renderVerbHelp(path, verb));
      return exitCodes.done;
    }
    return { verb, rest };
  }
}

function unknownCommand(path: readonly string[], name: string, verbs: VerbTree): WalbError {
  const near = nearest(name, Object.keys(verbs));
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
  io.err(`walb: ${text}\n`);
  if (error.hint !== undefined) io.err(`  ${error.hint}\n`);
  if (error.code === "usage" && verb !== undefined) {
    io.err(`  example: ${verb.examples[0] ?? ""}\n  help: ${["walb", ...path].join(" ")} --help\n`);
  }
}
