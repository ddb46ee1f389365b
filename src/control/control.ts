/**
 * @module The commands of one running daemon: checks parameters, calls handlers, keeps jobs.
 *
 * Every door (HTTP, legacy wire, in process) goes through {@link Control}, so that they cannot differ.
 */
import type { Clock, Random } from "../platform/clock.ts";
import type { Commands, Handlers } from "./command.ts";
import type { JobInfo } from "./job.ts";
import type { Logger } from "./logger.ts";

/** What a daemon is, answered by `version`. */
export interface ServerInfo {
  readonly role: string;
  readonly nodeId: string;
  readonly version: string;
  readonly startedMs: number;
  readonly nowMs: number;
  readonly security: string;
}

/** The answer to a command: its result, or the job it began. */
export type Outcome =
  | { readonly kind: "result"; readonly result: unknown }
  | { readonly kind: "job"; readonly job: JobInfo };

/** The commands of a running daemon. */
export interface Control {
  readonly role: string;
  readonly commands: Commands;
  info(): ServerInfo;
  /** Runs a command. @throws WalbError `not-found` for an unknown one, `bad-parameter`, or what the handler throws. */
  call(command: string, params: unknown): Promise<Outcome>;
  /** All jobs that are still known, newest first. */
  listJobs(): JobInfo[];
  /** @throws WalbError `not-found`. */
  job(id: string): JobInfo;
  /** Calls back on every change, at least once with the state now; not after it ended. @throws WalbError `not-found`. */
  watchJob(id: string, changed: (job: JobInfo) => void): () => void;
  /** Asks a job to give up; resolves when it has ended. @throws WalbError `not-found`. */
  cancelJob(id: string): Promise<JobInfo>;
  /** Refuses new commands, cancels jobs, waits until all have ended. Idempotent. */
  close(): Promise<void>;
}

/** What {@link createControl} needs. */
export interface ControlOptions<C extends Commands> {
  readonly role: "storage" | "proxy" | "archive";
  readonly commands: C;
  readonly handlers: Handlers<C>;
  readonly nodeId: string;
  readonly security: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  readonly onShutdown?: (mode: "graceful" | "force") => void;
}

/** Makes the control of a daemon. */
export declare function createControl<C extends Commands>(options: ControlOptions<C>): Control;
