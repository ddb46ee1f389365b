/**
 * @module Commands of walb as citty commands: a tree of names, summaries and arguments that tools can walk, each command
 * loaded only when it is called or looked into.
 *
 * citty finds and runs commands; words are read by the strict layer of parse.ts, to which every command hands its raw
 * arguments. citty's own reading of them is only told what exists, never what is required or allowed: it would complain
 * before the strict layer does, and worse.
 */
import type { ArgDef, ArgsDef, CommandDef } from "citty";
import { exitCodes } from "../errors.ts";
import type { Flag } from "./flags.ts";
import { parseCommandLine } from "./parse.ts";
import type { AnyVerb, Io } from "./verb.ts";

/** A citty command with what our help, reference and completion need besides. */
export interface WalbCommand extends CommandDef {
  readonly meta: { readonly name: string; readonly description: string; readonly hidden?: boolean };
  /** Of a group: its commands by name. */
  readonly subCommands?: Record<string, WalbCommand>;
  /** Of a group: which of its commands is meant when none is named. It is hidden: it has no name of its own. */
  readonly default?: string;
  /** Of a command: its declaration. */
  readonly load?: () => Promise<AnyVerb>;
}

/** A command that a module declares as `verb`. */
export function command(
  name: string,
  description: string,
  importModule: () => Promise<{ readonly verb: AnyVerb }>,
  texts: { readonly hidden?: boolean } = {},
): WalbCommand {
  const load = async (): Promise<AnyVerb> => (await importModule()).verb;
  return {
    meta: { name, description, ...texts },
    load,
    args: async () => describeArguments(await load()),
    async run({ rawArgs, data }): Promise<number> {
      const io = data as Io;
      const verb = await load();
      const parsed = parseCommandLine(verb, rawArgs, io.env);
      return (await verb.run({ ...parsed, io } as never)) ?? exitCodes.done;
    },
  };
}

/** A word that is followed by another: `device create`. `bare` is what it means alone or with flags only. */
export function group(
  name: string,
  description: string,
  commands: readonly WalbCommand[],
  bare?: WalbCommand,
): WalbCommand {
  const all = bare === undefined ? commands : [...commands, bare];
  const subCommands = Object.fromEntries(all.map((member) => [member.meta.name, member]));
  return { meta: { name, description }, subCommands, ...(bare === undefined ? {} : { default: bare.meta.name }) };
}

/** The commands of a group that have a name of their own. */
export function namedCommands(parent: WalbCommand): WalbCommand[] {
  return Object.values(parent.subCommands ?? {}).filter(({ meta }) => meta.hidden !== true);
}

/** What a group means without a name. */
export function bareCommand(parent: WalbCommand): WalbCommand | undefined {
  return parent.default === undefined ? undefined : parent.subCommands?.[parent.default];
}

/** A command as it is called: `path` are the words after `walb`. */
export interface CommandLine {
  readonly path: readonly string[];
  readonly load: () => Promise<AnyVerb>;
}

/** Everything that can be called, in the order of help; a group's bare meaning before its commands. */
export function commandLines(parent: WalbCommand, path: readonly string[] = []): CommandLine[] {
  const bare = bareCommand(parent)?.load;
  const found: CommandLine[] = bare === undefined ? [] : [{ path, load: bare }];
  for (const member of namedCommands(parent)) {
    const words = [...path, member.meta.name];
    if (member.load !== undefined) found.push({ path: words, load: member.load });
    else found.push(...commandLines(member, words));
  }
  return found;
}

function describeArguments(verb: AnyVerb): ArgsDef {
  const args: ArgsDef = {};
  for (const { name, help } of verb.positionals ?? []) {
    args[name] = { type: "positional", description: help, required: false };
  }
  for (const [name, flag] of Object.entries(verb.flags)) args[name] = describeFlag(flag);
  return args;
}

function describeFlag(flag: Flag<unknown>): ArgDef {
  const alias = flag.alias === undefined ? {} : { alias: flag.alias };
  if (flag.valueName === undefined) return { type: "boolean", description: flag.help, ...alias };
  const preset = flag.defaultText === undefined ? {} : { default: flag.defaultText };
  const valueHint = flag.choices?.join("|") ?? flag.valueName;
  return { type: "string", description: flag.help, valueHint, ...alias, ...preset };
}
