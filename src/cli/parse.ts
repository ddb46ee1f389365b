/**
 * @module The strict layer on top of citty: reads the raw arguments of a command so that nothing is unknown, surplus,
 * missing or given twice, and every flag can come from the environment. (citty itself takes unknown flags and surplus
 * arguments, keeps the last of repeated flags and reads a missing value as "".)
 */
import { WalbError } from "../errors.ts";
import type { Flag, Flags } from "./flags.ts";
import type { AnyVerb } from "./verb.ts";

/** The values of a command line. */
export interface Parsed {
  readonly flags: Record<string, unknown>;
  readonly args: string[];
}

/** Name of the environment variable of a flag: `cluster-key` → `WALB_CLUSTER_KEY`. */
export function environmentName(flag: string): string {
  return `WALB_${flag.toUpperCase().replaceAll("-", "_")}`;
}

/** @throws WalbError `usage`; `field` names the flag. */
export function parseCommandLine(
  verb: AnyVerb,
  words: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
): Parsed {
  if (verb.isRaw === true) return { flags: {}, args: [...words] };
  const { texts, args } = splitWords(verb.flags, words);
  checkArguments(verb, args);
  const flags: Record<string, unknown> = {};
  for (const [name, flag] of Object.entries(verb.flags)) {
    const given = texts.get(name) ?? [];
    const fromEnv = flag.isFromEnvironment === false ? undefined : env[environmentName(name)];
    const isFromEnv = given.length === 0 && fromEnv !== undefined;
    const values = isFromEnv ? [fromEnv] : given;
    if (flag.isRequired && values.length === 0) throw usage(`--${name} is missing: ${flag.help}`, name);
    try {
      flags[name] = flag.read(values);
    } catch (error) {
      if (!(error instanceof WalbError) || error.code !== "usage") throw error;
      const label = isFromEnv ? environmentName(name) : `--${name}`;
      throw usage(`${label}: ${error.what}`, name, error.hint);
    }
  }
  return { flags, args };
}

function splitWords(flags: Flags, words: readonly string[]): { texts: Map<string, string[]>; args: string[] } {
  const texts = new Map<string, string[]>();
  const args: string[] = [];
  for (let index = 0; index < words.length; index += 1) {
    const word = words[index]!;
    if (word === "--") {
      args.push(...words.slice(index + 1));
      break;
    }
    // A time of the past is an argument: no flag begins with a digit.
    if (word === "-" || !word.startsWith("-") || /^-\d/.test(word)) {
      args.push(word);
      continue;
    }
    const { name, flag, value } = readFlag(flags, word);
    let text = value;
    if (text === undefined) {
      text = flag.valueName === undefined ? "true" : words[index + 1];
      if (flag.valueName !== undefined) {
        index += 1;
        // A single dash is fine: --at -5m, --to -.
        if (text === undefined || text.startsWith("--")) {
          throw usage(`--${name} needs a value`, name, `e.g. --${name} ${flag.valueName}`);
        }
      }
    }
    const before = texts.get(name);
    if (before !== undefined && !flag.isRepeatable) throw usage(`--${name} is given twice`, name);
    texts.set(name, [...(before ?? []), text ?? ""]);
  }
  return { texts, args };
}

function readFlag(flags: Flags, word: string): { name: string; flag: Flag<unknown>; value: string | undefined } {
  const equals = word.indexOf("=");
  const label = equals < 0 ? word : word.slice(0, equals);
  const value = equals < 0 ? undefined : word.slice(equals + 1);
  if (label.startsWith("--")) {
    const name = label.slice(2);
    const flag = Object.hasOwn(flags, name) ? flags[name] : undefined;
    if (flag !== undefined) return { name, flag, value };
    const positive = name.startsWith("no-") ? name.slice(3) : "";
    const negated = Object.hasOwn(flags, positive) ? flags[positive] : undefined;
    if (negated !== undefined && negated.valueName === undefined && value === undefined) {
      return { name: positive, flag: negated, value: "false" };
    }
  } else {
    for (const [name, flag] of Object.entries(flags)) {
      if (flag.alias !== undefined && label === `-${flag.alias}`) return { name, flag, value };
    }
  }
  const near = nearest(label.replace(/^-+/, ""), Object.keys(flags));
  throw usage(`unknown flag ${label}`, label, near === undefined ? undefined : `did you mean --${near}?`);
}

function checkArguments(verb: AnyVerb, args: readonly string[]): void {
  const positionals = verb.positionals ?? [];
  const missing = positionals.find((positional, index) => positional.isRequired === true && args[index] === undefined);
  if (missing !== undefined) throw usage(`${missing.name} is missing: ${missing.help}`, missing.name);
  const surplus = args[positionals.length];
  if (surplus !== undefined && positionals.at(-1)?.isVariadic !== true) {
    throw usage(`surplus argument ${JSON.stringify(surplus)}`, "arguments");
  }
}

/** The word closest to a misspelt one, when it is close: at most two letters added, left out or changed. */
export function nearest(word: string, words: readonly string[]): string | undefined {
  let best: string | undefined;
  let bestDistance = 3;
  for (const candidate of words) {
    const distance = editDistance(word, candidate);
    if (distance < bestDistance && distance < candidate.length) {
      best = candidate;
      bestDistance = distance;
    }
  }
  return best;
}

function editDistance(left: string, right: string): number {
  let row = Array.from({ length: right.length + 1 }, (_, index) => index);
  for (let i = 1; i <= left.length; i += 1) {
    const next = [i];
    for (let j = 1; j <= right.length; j += 1) {
      const change = (row[j - 1] ?? 0) + (left[i - 1] === right[j - 1] ? 0 : 1);
      next.push(Math.min(change, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[right.length] ?? 0;
}

function usage(what: string, field: string, hint?: string): WalbError {
  return new WalbError("usage", { what, where: { field }, ...(hint === undefined ? {} : { hint }) });
}
