/**
 * @module Command lines as the original's tools take them: one dash, `-name value`, and sizes with its suffixes.
 *
 * Integers are decimal or `0x…`, with one suffix: `k m g` are powers of 1000, `K M G` powers of 1024.
 */
import { WalbError } from "../../errors.ts";
import { u64Max } from "../../units.ts";

/** An option. Its kind says what follows it. */
export interface OriginalOption {
  readonly kind: "flag" | "int" | "text" | "texts";
  readonly help: string;
  /** As it would be written. Without one, an option that is not given has no value. */
  readonly default?: string;
  readonly isRequired?: boolean;
}

/** An argument without a name. */
export interface OriginalParam {
  readonly name: string;
  readonly help: string;
  readonly default?: string;
  readonly isOptional?: boolean;
  /** Takes all that are left, at least one unless optional. Last only. */
  readonly isVariadic?: boolean;
}

/** What a tool is called with. */
export interface OriginalSyntax {
  readonly name: string;
  readonly description: string;
  /** By name, without the dash. */
  readonly options: Readonly<Record<string, OriginalOption>>;
  readonly params: readonly OriginalParam[];
  /** Behind this first argument nothing is an option any more. */
  readonly rawBehind?: string;
  /** Looks at what was read. @throws WalbError `usage`, which is told as what the options say is. */
  readonly check?: (args: OriginalArgs) => void;
}

/** A command line that was read. */
export class OriginalArgs {
  readonly #given: ReadonlyMap<string, readonly string[]>;
  readonly #syntax: OriginalSyntax;
  readonly params: readonly string[];

  constructor(syntax: OriginalSyntax, given: ReadonlyMap<string, readonly string[]>, params: readonly string[]) {
    this.#syntax = syntax;
    this.#given = given;
    this.params = params;
  }

  /** All options that have a value, as they were given or by default; for logs. */
  all(): Readonly<Record<string, string>> {
    const names = Object.keys(this.#syntax.options);
    return Object.fromEntries(
      names.map((name) => [name, this.#syntax.options[name]?.kind === "flag" ? `${this.flag(name)}` : this.text(name)]),
    );
  }

  flag(name: string): boolean {
    return this.isGiven(name);
  }

  /** Whether it was written, whatever its default is. */
  isGiven(name: string): boolean {
    return this.#given.has(name);
  }

  text(name: string): string {
    return this.#given.get(name)?.[0] ?? this.#syntax.options[name]?.default ?? "";
  }

  /** undefined when it was not given and has no default. */
  optionalText(name: string): string | undefined {
    return this.#given.get(name)?.[0] ?? this.#syntax.options[name]?.default;
  }

  texts(name: string): readonly string[] {
    return this.#given.get(name) ?? [];
  }

  int(name: string): number {
    return asNumber(name, this.bigint(name));
  }

  optionalInt(name: string): number | undefined {
    return this.optionalText(name) === undefined ? undefined : this.int(name);
  }

  bigint(name: string): bigint {
    return parseOriginalInt(this.text(name), `-${name}`);
  }

  /** A bound of lsids: undefined for "no bound", which is what is not given or beyond all lsids. */
  lsid(name: string): bigint | undefined {
    if (this.optionalText(name) === undefined) return undefined;
    const value = this.bigint(name);
    return value === u64Max ? undefined : value;
  }

  /** Argument `index`, which the syntax says is there. */
  param(index: number): string {
    return this.params[index] ?? this.#syntax.params[index]?.default ?? "";
  }

  intParam(index: number): number {
    const name = this.#syntax.params[index]?.name ?? `argument ${index + 1}`;
    return asNumber(name, parseOriginalInt(this.param(index), name));
  }
}

/** Thrown for `-h`. */
export class HelpAsked extends Error {}

/** @throws WalbError `usage` whose text begins with `OptionError:`; {@link HelpAsked}. */
export function parseOriginal(syntax: OriginalSyntax, words: readonly string[]): OriginalArgs {
  const given = new Map<string, readonly string[]>();
  const params: string[] = [];
  for (let i = 0; i < words.length; ) {
    const word = words[i]!;
    i += 1;
    if (word === "-" || !/^--?[A-Za-z]/.test(word)) {
      params.push(word);
      if (params.length === 1 && word === syntax.rawBehind) {
        params.push(...words.slice(i));
        break;
      }
      continue;
    }
    const name = word.replace(/^--?/, "");
    if (name === "h") throw new HelpAsked();
    const option = name === "debug" ? debugOption : ownOption(syntax, name);
    if (option === undefined) throw optionError(`bad option:${word}`);
    const values: string[] = [];
    if (option.kind !== "flag") {
      const value = words[i];
      if (value === undefined) throw optionError(`no parameter for opt:${word}`);
      values.push(value);
      i += 1;
    }
    while (option.kind === "texts" && words[i] !== undefined && !/^-./.test(words[i]!)) {
      values.push(words[i]!);
      i += 1;
    }
    if (option.kind === "int") parseOriginalInt(values[0]!, word);
    given.set(name, option.kind === "texts" ? [...(given.get(name) ?? []), ...values] : values);
  }
  for (const [name, option] of Object.entries(syntax.options)) {
    if (option.isRequired === true && !given.has(name)) throw optionError(`opt:-${name} is necessary`);
  }
  const needed = syntax.params.filter((param) => param.isOptional !== true).length;
  if (params.length < needed) throw optionError(`no param:${syntax.params[params.length]?.name ?? ""}`);
  const surplus = params[syntax.params.length];
  if (surplus !== undefined && syntax.params.at(-1)?.isVariadic !== true) {
    throw optionError(`redundant argVal:${surplus}`);
  }
  const args = new OriginalArgs(syntax, given, params);
  syntax.check?.(args);
  return args;
}

const debugOption: OriginalOption = { kind: "flag", help: "more messages" };

function ownOption(syntax: OriginalSyntax, name: string): OriginalOption | undefined {
  return Object.hasOwn(syntax.options, name) ? syntax.options[name] : undefined;
}

const factors: Readonly<Record<string, bigint>> = {
  "": 1n,
  k: 1000n,
  m: 1000n ** 2n,
  g: 1000n ** 3n,
  K: 1024n,
  M: 1024n ** 2n,
  G: 1024n ** 3n,
};

/** Reads an integer. @throws WalbError `usage`. */
export function parseOriginalInt(text: string, name: string): bigint {
  const match = /^(0x[0-9a-fA-F]{1,16}|\d{1,20})([kmgKMG]?)$/.exec(text);
  const value = match === null ? undefined : BigInt(match[1]!) * factors[match[2]!]!;
  if (value === undefined || value > 0xffff_ffff_ffff_ffffn) throw optionError(`bad value:${name}:${text}`);
  return value;
}

/** The text of `-h`. */
export function originalUsage(syntax: OriginalSyntax): string {
  const words = [`usage:${syntax.name}`, "[opt]"];
  for (const { name, isOptional, isVariadic } of syntax.params) {
    words.push(`${isOptional === true ? `(${name})` : name}${isVariadic === true ? " ..." : ""}`);
  }
  const lines = [syntax.description, words.join(" ")];
  for (const { name, help } of syntax.params) lines.push(`  ${name.padEnd(16)}: ${help}`);
  for (const [name, option] of [...Object.entries(syntax.options), ["debug", debugOption] as const]) {
    const preset = option.default === undefined ? "" : ` (default:${option.default})`;
    lines.push(`  ${`-${name}`.padEnd(16)}: ${option.help}${preset}`);
  }
  lines.push("  -h              : show this message");
  return `${lines.join("\n")}\n`;
}

function optionError(what: string): WalbError {
  return new WalbError("usage", { what: `OptionError:${what}` });
}

function asNumber(name: string, value: bigint): number {
  if (value <= BigInt(Number.MAX_SAFE_INTEGER)) return Number(value);
  throw optionError(`bad value:${name}:${value}`);
}
