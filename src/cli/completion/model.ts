/** @module What shells can complete: every command with its words, and the kind of value of every flag. */
import { bareCommand, namedCommands, type WalbCommand } from "../program.ts";
import type { AnyVerb } from "../verb.ts";

/** What follows a flag. */
export type ValueKind =
  | { readonly kind: "choice"; readonly choices: readonly string[] }
  | { readonly kind: "file" }
  | { readonly kind: "other"; readonly name: string };

/** A flag with its dashes. */
export interface CompletedFlag {
  /** `--quiet`, and `-q`; of the original's tools `-quiet`. */
  readonly labels: readonly string[];
  readonly help: string;
  /** Missing for a switch. */
  readonly value?: ValueKind;
}

/** A command, a group, or the program itself. */
export interface CompletedCommand {
  /** `walb device create` */
  readonly line: string;
  /** Words that may follow: commands, or values of an argument. */
  readonly words: readonly { readonly word: string; readonly help: string }[];
  readonly flags: readonly CompletedFlag[];
  /** Whether names of files follow; where words do, too, those count. */
  readonly takesFiles?: boolean;
}

const fileNames = ["PATH", "FILE", "DIR"];
const helpFlag: CompletedFlag = { labels: ["--help", "-h"], help: "help, with examples and exit codes" };

/** Looks into all commands. */
export async function completedCommands(parent: WalbCommand, path = "walb"): Promise<CompletedCommand[]> {
  const verb = await (bareCommand(parent) ?? parent).load?.();
  const members = namedCommands(parent);
  const words = members.map(({ meta }) => ({ word: meta.name, help: meta.description }));
  const values = (verb?.positionals?.[0]?.choices ?? []).map((word) => ({ word, help: "" }));
  const own = { line: path, words: [...words, ...values], flags: [...flagsOf(verb), helpFlag] };
  const below = await Promise.all(members.map((member) => completedCommands(member, `${path} ${member.meta.name}`)));
  return [own, ...below.flat()];
}

function flagsOf(verb: AnyVerb | undefined): CompletedFlag[] {
  return Object.entries(verb?.flags ?? {}).map(([name, flag]) => {
    const labels = [`--${name}`, ...(flag.alias === undefined ? [] : [`-${flag.alias}`])];
    if (flag.valueName === undefined) return { labels, help: flag.help };
    return { labels, help: flag.help, value: valueKind(flag.valueName, flag.choices) };
  });
}

function valueKind(name: string, choices: readonly string[] | undefined): ValueKind {
  if (choices !== undefined) return { kind: "choice", choices };
  return fileNames.includes(name) ? { kind: "file" } : { kind: "other", name };
}
