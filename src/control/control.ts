/**
 * @module The commands of one running daemon: checks parameters, calls handlers, keeps jobs.
 *
 * Every door (HTTP, legacy wire, in process) goes through {@link Control}, so that they cannot differ.
 */

import { assert, asWalbError, WalbError } from "../errors.ts";
import type { Clock, Random } from "../platform/clock.ts";
import type { Command, CommandContext, Commands, Handlers } from "./command.ts";
import { commonCommands, type ServerInfo } from "./common.ts";
import type { JobInfo } from "./job.ts";
import { JobTable, type JobWork } from "./jobs.ts";
import type { Logger } from "./logger.ts";
import { parseWith } from "./schemas.ts";
import { version } from "./version.ts";

/** The answer to a command: its result, or the job it began. */
export type Outcome =
  | { readonly kind: "result"; readonly result: unknown }
  | { readonly kind: "job"; readonly job: JobInfo };

/** The commands of a running daemon. */
export interface Control {
  readonly role: string;
  readonly commands: Commands;
  /** Refuses commands already. */
  readonly isClosing: boolean;
  info(): ServerInfo;
  /** Runs a command. @throws WalbError `not-found` for an unknown one, `bad-parameter`, or what the handler throws. */
  call(command: string, params: unknown): Promise<Outcome>;
  /** All jobs that are still known, newest first. */
  listJobs(): JobInfo[];
  /** @throws WalbError `not-found`. */
  job(id: string): JobInfo;
  /** Calls back on every change, at least once with the state now; not after it ended. @throws WalbError `not-found`. */
  watchJob(id: string, changed: (job: JobInfo) => void): () => void;
  /** Resolves when a job was let in, or has ended without. @throws WalbError `not-found`. */
  untilAccepted(id: string): Promise<JobInfo>;
  /** Asks a job to give up; resolves when it has ended. @throws WalbError `not-found`. */
  cancelJob(id: string): Promise<JobInfo>;
  /** Refuses new commands, cancels jobs, waits until all have ended. Idempotent. */
  close(): Promise<void>;
}

/** What {@link createControl} needs. */
export interface ControlOptions<C extends Commands> {
  readonly role: ServerInfo["role"];
  readonly commands: C;
  readonly handlers: Handlers<C>;
  readonly nodeId: string;
  readonly security: ServerInfo["security"];
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  readonly onShutdown?: (mode: "graceful" | "force") => void;
}

/** Makes the control of a daemon. */
export function createControl<C extends Commands>(options: ControlOptions<C>): Control {
  const { role, commands, clock, log } = options;
  const handlers: Readonly<Record<string, AnyHandler>> = options.handlers;
  const jobs = new JobTable(clock, options.random);
  const startedMs = clock.nowMs();
  const closing = new AbortController();

  const info = (): ServerInfo => ({
    role,
    nodeId: options.nodeId,
    version,
    startedMs,
    nowMs: clock.nowMs(),
    security: options.security,
  });

  const common: Readonly<Record<string, AnyHandler>> = {
    version: async () => info(),
    shutdown: async (params) => {
      const { mode } = parseWith(commonCommands.shutdown.params, params, "shutdown");
      log.info("shutting down on request", { mode });
      options.onShutdown?.(mode ?? "graceful");
      return {};
    },
  };

  const run = async (name: string, command: Command, params: unknown, work: JobWork): Promise<unknown> => {
    const handler = Object.hasOwn(common, name) ? common[name] : handlers[name];
    assert(handler !== undefined, `command ${name} has no handler`);
    const result = await handler(params as never, { ...work, log });
    return parseWith(command.result, result, `result of ${name}`, "internal");
  };

  return {
    role,
    commands: { ...commands, ...commonCommands },
    get isClosing() {
      return closing.signal.aborted;
    },
    info,
    async call(name, params) {
      if (closing.signal.aborted) {
        throw new WalbError("busy", { what: "the daemon is shutting down", where: { host: options.nodeId } });
      }
      const command = findCommand({ ...commands, ...commonCommands }, name, role);
      const checked = parseWith(command.params, params ?? {}, `parameters of ${name}`);
      const volume = volumeOf(checked);
      if (command.isJob === true) {
        const job = jobs.start(name, volume, async (work) => {
          try {
            return await run(name, command, checked, work);
          } catch (error) {
            throw asWalbError(error, { host: options.nodeId });
          }
        });
        return { kind: "job", job };
      }
      try {
        return {
          kind: "result",
          result: await run(name, command, checked, { signal: closing.signal, progress() {}, accepted() {} }),
        };
      } catch (error) {
        throw asWalbError(error, { host: options.nodeId, ...(volume === undefined ? {} : { volume }) });
      }
    },
    listJobs: () => jobs.list(),
    job: (id) => jobs.get(id),
    watchJob: (id, changed) => jobs.watch(id, changed),
    untilAccepted: (id) => jobs.untilAccepted(id),
    cancelJob: (id) => jobs.cancel(id),
    async close() {
      closing.abort(new WalbError("cancelled", { what: "the daemon is shutting down" }));
      await jobs.close();
    },
  };
}

/** A handler once its registry's types are forgotten; its parameters were checked with the command's schema. */
type AnyHandler = (params: never, context: CommandContext) => Promise<unknown>;

function findCommand(commands: Commands, name: string, role: string): Command {
  const command = Object.hasOwn(commands, name) ? commands[name] : undefined;
  if (command !== undefined) return command;
  throw new WalbError("not-found", {
    what: `the ${role} has no command ${name}`,
    hint: `commands: ${Object.keys(commands).join(", ")}`,
  });
}

function volumeOf(params: unknown): string | undefined {
  if (typeof params !== "object" || params === null || !("volume" in params)) return undefined;
  return typeof params.volume === "string" ? params.volume : undefined;
}
