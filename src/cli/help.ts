/** @module Help texts: usage, flags with defaults, examples, exit codes. */
import type { Flag } from "./flags.ts";
import { namedCommands, type WalbCommand } from "./program.ts";
import { helpWidth, renderTwoColumns, wrapText } from "./text/wrap.ts";
import type { AnyVerb } from "./verb.ts";

/** Exit codes as help tells them. */
export const exitTexts: Readonly<Record<number, string>> = {
  0: "done",
  1: "failed",
  2: "usage",
  3: "a server cannot be reached",
  4: "refused by the state of a volume; the message says which and the way out",
  5: "data is damaged",
  6: "not restorable at the asked point",
  7: "locked by another run",
  8: "timed out; the work goes on",
  130: "interrupted",
};

/** `walb restore VOL --to PATH [flags]`. */
export function usageLine(path: readonly string[], verb: AnyVerb): string {
  const positionals = (verb.positionals ?? []).map((positional) => {
    const name = positional.isVariadic === true ? `${positional.name}…` : positional.name;
    return positional.isRequired === true ? name : `[${name}]`;
  });
  const needed = Object.entries(verb.flags).filter(([, flag]) => flag.isRequired);
  const flags = needed.map(([name, flag]) => `--${name} ${flag.valueName ?? ""}`);
  const more = Object.keys(verb.flags).length > needed.length ? ["[flags]"] : [];
  return ["walb", ...path, ...positionals, ...flags, ...more].join(" ");
}

/** Help of one command. */
export function renderVerbHelp(path: readonly string[], verb: AnyVerb): string {
  let text = `${wrapped(`${verb.summary}.`)}\nUsage:\n  ${usageLine(path, verb)}\n`;
  if (verb.description !== undefined) text += `\n${wrapped(verb.description)}`;
  if ((verb.positionals ?? []).length > 0) {
    text += "\nArguments:\n";
    text += renderTwoColumns((verb.positionals ?? []).map((positional) => [positional.name, positional.help]));
  }
  const flags = Object.entries(verb.flags);
  if (flags.length > 0) {
    text += "\nFlags (each also as WALB_NAME in the environment):\n";
    text += renderTwoColumns(flags.map(([name, flag]) => [flagLabel(name, flag), flagHelp(flag)]));
  }
  text += `\nExamples:\n${verb.examples.map((example) => `  ${example}\n`).join("")}`;
  const exits = { ...exitTexts, ...verb.exits };
  text += `\nExit codes:\n${renderTwoColumns(Object.entries(exits).map(([code, meaning]) => [code, meaning]))}`;
  return text;
}

/** Help of the program or of a group of commands. */
export function renderGroupHelp(path: readonly string[], parent: WalbCommand): string {
  const command = ["walb", ...path].join(" ");
  let text = `${wrapped(`${parent.meta.description}.`)}\nUsage:\n  ${command} COMMAND [flags]\n\nCommands:\n`;
  text += renderTwoColumns(namedCommands(parent).map(({ meta }) => [meta.name, meta.description]));
  text += `\nHelp of one command, with examples and exit codes:\n  ${command} COMMAND --help\n`;
  return text;
}

/** `-q, --quiet`, `--port PORT`. */
export function flagLabel(name: string, flag: Flag<unknown>): string {
  const alias = flag.alias === undefined ? "" : `-${flag.alias}, `;
  return `${alias}--${name}${flag.valueName === undefined ? "" : ` ${flag.valueName}`}`;
}

/** What a flag means, with its default and what is special about it. */
export function flagHelp(flag: Flag<unknown>): string {
  const notes = [
    ...(flag.isRequired ? ["required"] : []),
    ...(flag.isRepeatable ? ["may be repeated"] : []),
    ...(flag.isFromEnvironment === false ? ["not from the environment"] : []),
    ...(flag.defaultText === undefined ? [] : [`default ${flag.defaultText}`]),
  ];
  return notes.length === 0 ? flag.help : `${flag.help} (${notes.join(", ")})`;
}

function wrapped(text: string): string {
  return `${wrapText(text, helpWidth).join("\n")}\n`;
}
