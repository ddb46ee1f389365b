/** @module How a command of the command line is declared, and what it runs in. */
import type { Platform } from "../platform/platform.ts";
import type { Flags, FlagValues } from "./flags.ts";

/** Where a command reads and writes; the process's own, or a test's. */
export interface Io {
  out(text: string): void;
  err(text: string): void;
  /** Takes data instead of the process's standard output; resolves when the bytes are needed no more. */
  readonly outData?: (bytes: Uint8Array) => Promise<void>;
  readonly isOutTerminal: boolean;
  readonly isErrTerminal: boolean;
  readonly isInTerminal: boolean;
  /** Width of the terminal that `err` writes to; missing: 80. */
  readonly errColumns?: () => number;
  /** A line the user types. */
  ask(question: string): Promise<string>;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly cwd: string;
  nowMs(): number;
  /** Aborts at the first SIGINT or SIGTERM. */
  readonly signal: AbortSignal;
  /** Of a test, in place of the host's. */
  readonly platform?: Platform;
}

/** Arguments without a name. */
export interface Positional {
  /** As help shows it, e.g. `VOL`. */
  readonly name: string;
  readonly help: string;
  readonly isRequired?: boolean;
  /** Takes all that follow. Last only. */
  readonly isVariadic?: boolean;
  /** All values there are, for completion. */
  readonly choices?: readonly string[];
}

/** A command: flags, arguments, help, and what it does. */
export interface Verb<F extends Flags = Flags> {
  readonly summary: string;
  /** Paragraphs for help, where the summary does not say it all. */
  readonly description?: string;
  readonly positionals?: readonly Positional[];
  readonly flags: F;
  /** All words are arguments, also those that begin with a dash: the command reads them itself. */
  readonly isRaw?: boolean;
  /** Whole command lines. */
  readonly examples: readonly string[];
  /** Meaning of exit codes beyond the usual ones, e.g. `1`: "a volume is not protected". */
  readonly exits?: Readonly<Record<number, string>>;
  /** Answers the exit code; nothing means 0. @throws WalbError */
  run(input: VerbInput<F>): Promise<number | undefined>;
}

/** What a command got. */
export interface VerbInput<F extends Flags = Flags> {
  readonly flags: FlagValues<F>;
  /** As many as declared: required ones are there. */
  readonly args: readonly string[];
  readonly io: Io;
}

/** Declares a command; only gives the types. */
export function defineVerb<F extends Flags>(verb: Verb<F>): Verb<F> {
  return verb;
}

/** A command once its flags' types are forgotten. */
export interface AnyVerb extends Omit<Verb, "run"> {
  run(input: never): Promise<number | undefined>;
}
