/**
 * @module How a command is declared: once, with schemas of its parameters and result, from which the HTTP API, its typed
 * client, the handlers' types and the help of the command line follow.
 *
 * Schemas may be written so that what is read differs from what is taken (gids: a number in JSON, bigint in memory):
 * a handler takes the output of the parameters' schema and may answer the input of the result's schema; a caller the
 * other way round.
 */
import type { z } from "zod";
import type { ProgressReport } from "./job.ts";
import type { Logger } from "./logger.ts";

/** Declaration of a command; its name is its key in the registry of a role. */
export interface Command<Params extends z.ZodType = z.ZodType, Result extends z.ZodType = z.ZodType> {
  /** One sentence for help and API documents. */
  readonly summary: string;
  /** An object schema; strict, so that a misspelt parameter is an error. */
  readonly params: Params;
  readonly result: Result;
  /** States a volume must be in; told in help, enforced by the role's state machine. */
  readonly requires?: readonly string[];
  /** Runs as a job: answered at once with a job id, watched and cancelled by it. */
  readonly isJob?: boolean;
  /** Changes nothing: may be repeated when an answer was lost. */
  readonly isReadOnly?: boolean;
}

/** The commands of a role by name. */
export type Commands = Readonly<Record<string, Command>>;

/** What a handler gets besides its parameters. */
export interface CommandContext {
  /** Aborts when the job is cancelled or the daemon closes; reason is a WalbError `cancelled`. */
  readonly signal: AbortSignal;
  /** Tells how far the work is; cheap, may be called often. Does nothing in commands that are no jobs. */
  progress(report: ProgressReport): void;
  /** A job tells that nothing can refuse it any more, on this host or another: what comes now is the work itself. */
  accepted?(): void;
  readonly log: Logger;
}

/** What a handler takes. */
export type ParamsOf<C extends Command> = z.output<C["params"]>;
/** What a handler answers. */
export type ResultOf<C extends Command> = z.input<C["result"]>;
/** What a caller gives. */
export type CallParams<C extends Command> = z.input<C["params"]>;
/** What a caller gets. */
export type CallResult<C extends Command> = z.output<C["result"]>;

/** A handler for every command of a registry; tsc checks that none is missing. */
export type Handlers<C extends Commands> = {
  readonly [Name in keyof C]: (params: ParamsOf<C[Name]>, context: CommandContext) => Promise<ResultOf<C[Name]>>;
};

/** Declares a command; only gives the types. */
export function defineCommand<Params extends z.ZodType, Result extends z.ZodType>(
  command: Command<Params, Result>,
): Command<Params, Result> {
  return command;
}

/** Declares a job: a command that takes long and reports progress. */
export function defineJob<Params extends z.ZodType, Result extends z.ZodType>(
  command: Omit<Command<Params, Result>, "isJob">,
): Command<Params, Result> & { readonly isJob: true } {
  return { ...command, isJob: true };
}

/** Names of the commands of a registry that are jobs. */
export type JobNames<C extends Commands> = {
  [Name in keyof C]: C[Name] extends { readonly isJob: true } ? Name : never;
}[keyof C] &
  string;
/** Names of the commands of a registry that answer at once. */
export type CallNames<C extends Commands> = Exclude<keyof C & string, JobNames<C>>;
