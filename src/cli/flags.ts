/** @module Flags and arguments of commands: declared with their type, meaning and default; read from text. */
import { compressionPattern, isAddressText, volumePattern } from "../control/texts.ts";
import { WalbError } from "../errors.ts";
import type { Address } from "../platform/net.ts";
import { parseSize } from "./text/size.ts";
import { parseDuration } from "./text/time.ts";

/** A flag; what its value is depends on how it was made. */
export interface Flag<Value> {
  /** One sentence or phrase for help. */
  readonly help: string;
  /** Name of its value in help, e.g. `PATH`; undefined for a switch. */
  readonly valueName: string | undefined;
  /** One letter. */
  readonly alias?: string;
  readonly isRepeatable: boolean;
  readonly isRequired: boolean;
  /** Told in help. */
  readonly defaultText?: string;
  /** All values there are, where there are few: for completion. */
  readonly choices?: readonly string[];
  /** False for a flag whose variable would mean something else for another command. */
  readonly isFromEnvironment?: false;
  /** Turns the texts given (none: not given) into the value. @throws WalbError `usage`. */
  read(texts: readonly string[]): Value;
}

export type Flags = Readonly<Record<string, Flag<unknown>>>;
/** Values of flags by name. */
export type FlagValues<F extends Flags> = { readonly [Name in keyof F]: ReturnType<F[Name]["read"]> };

interface FlagTexts {
  readonly alias?: string;
  readonly defaultText?: string;
  readonly isFromEnvironment?: false;
}

/** Turns the text of one value into the value. @throws WalbError `usage`. */
export interface ValueParser<Value> {
  (text: string): Value;
  readonly choices?: readonly string[];
}

/** On or off; off unless given. */
export function toggle(help: string, texts: FlagTexts = {}): Flag<boolean> {
  return {
    help,
    valueName: undefined,
    isRepeatable: false,
    isRequired: false,
    ...texts,
    read: (given) => given[0] !== undefined && parseToggle(given[0]),
  };
}

/** A value that may be left out. */
export function option<Value>(
  valueName: string,
  help: string,
  parse: ValueParser<Value>,
  texts: FlagTexts = {},
): Flag<Value | undefined> {
  return {
    help,
    valueName,
    isRepeatable: false,
    isRequired: false,
    ...choicesOf(parse),
    ...texts,
    read: (given) => (given[0] === undefined ? undefined : parse(given[0])),
  };
}

/** A value with a default, written as the user would. */
export function optionOr<Value>(
  valueName: string,
  help: string,
  parse: ValueParser<Value>,
  defaultText: string,
  texts: FlagTexts = {},
): Flag<Value> {
  return {
    help,
    valueName,
    isRepeatable: false,
    isRequired: false,
    defaultText,
    ...choicesOf(parse),
    ...texts,
    read: (given) => parse(given[0] ?? defaultText),
  };
}

/** A value that must be given. */
export function required<Value>(valueName: string, help: string, parse: ValueParser<Value>): Flag<Value> {
  return {
    help,
    valueName,
    isRepeatable: false,
    isRequired: true,
    ...choicesOf(parse),
    read: (given) => parse(given[0] ?? ""),
  };
}

/** A value that may be given several times, or several in one, with commas. */
export function list<Value>(
  valueName: string,
  help: string,
  parse: ValueParser<Value>,
  texts: FlagTexts & { readonly isRequired?: boolean } = {},
): Flag<Value[]> {
  return {
    help,
    valueName,
    isRepeatable: true,
    isRequired: false,
    ...choicesOf(parse),
    ...texts,
    read: (given) => given.flatMap((text) => text.split(",")).map((text) => parse(text)),
  };
}

// Parsers of values. Each throws WalbError `usage` with a correct example.

export const asText = (text: string): string => text;
export const asSize = parseSize;
export const asDuration = parseDuration;

/** A path: anything but nothing. */
export function asPath(text: string): string {
  if (text !== "") return text;
  throw new WalbError("usage", { what: "a path is empty", hint: "e.g. /var/lib/walb" });
}

/** A whole number within bounds. */
export function asInt(min: number, max: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (/^\d+$/.test(text) && value >= min && value <= max) return value;
    throw new WalbError("usage", { what: `${JSON.stringify(text)} is not a whole number from ${min} to ${max}` });
  };
}

/** A share above 0, up to 100 %; the sign may be left out. */
export function asPercent(text: string): number {
  const value = Number(/^(\d{1,3}(?:\.\d+)?)%?$/.exec(text)?.[1] ?? Number.NaN);
  if (value > 0 && value <= 100) return value;
  throw new WalbError("usage", { what: `${JSON.stringify(text)} is not a share`, hint: "e.g. 10%" });
}

/** One of some words. */
export function asChoice<const Words extends readonly string[]>(words: Words): ValueParser<Words[number]> {
  const parse = (text: string): Words[number] => {
    const word = words.find((candidate) => candidate === text);
    if (word !== undefined) return word;
    throw new WalbError("usage", { what: `${JSON.stringify(text)} is none of ${words.join(", ")}` });
  };
  return Object.assign(parse, { choices: words });
}

export function asVolume(text: string): string {
  return checked(volumePattern.test(text), text, "a volume name", "1 to 64 letters, digits or dashes: vol0");
}

export function asAddressText(text: string): string {
  return checked(isAddressText(text), text, "an address", "host:port, e.g. backup1:10200");
}

export function asAddress(text: string): Address {
  return parseAddress(asAddressText(text));
}

export function asCompression(text: string): string {
  return checked(compressionPattern.test(text), text, "a compression", "codec[:level[:threads]]: zstd:3");
}

/** A label of a snapshot. */
export function asLabel(text: string): string {
  if (text.length >= 1 && text.length <= 200) return text;
  throw new WalbError("usage", { what: "a label has 1 to 200 characters", hint: 'e.g. "before upgrade"' });
}

export function asGid(text: string): bigint {
  const isGid = /^\d{1,17}$/.test(text) && BigInt(text) <= BigInt(Number.MAX_SAFE_INTEGER);
  checked(isGid, text, "a gid", "a whole number, as walb snapshots shows them");
  return BigInt(text);
}

/** An address in the form of the platform. The text was checked. */
export function parseAddress(text: string): Address {
  const colon = text.lastIndexOf(":");
  const host = text.slice(0, colon).replace(/^\[(.*)\]$/, "$1");
  return { kind: "tcp", host, port: Number(text.slice(colon + 1)) };
}

/** A word of the environment or `--flag=word` as a switch. */
function parseToggle(text: string): boolean {
  if (["true", "1", "yes", "on"].includes(text.toLowerCase())) return true;
  if (["false", "0", "no", "off", ""].includes(text.toLowerCase())) return false;
  throw new WalbError("usage", { what: `${JSON.stringify(text)} is neither true nor false` });
}

function checked(isGood: boolean, text: string, what: string, example: string): string {
  if (isGood) return text;
  throw new WalbError("usage", { what: `${JSON.stringify(text)} is not ${what}`, hint: `write ${example}` });
}

function choicesOf(parse: ValueParser<unknown>): { readonly choices?: readonly string[] } {
  return parse.choices === undefined ? {} : { choices: parse.choices };
}
