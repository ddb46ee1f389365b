/** @module Runs a job at a daemon for a command: progress, cancelling by Ctrl-C, time limit. */
import type { CallParams, CallResult, Commands, JobNames } from "../control/command.ts";
import type { Client } from "../http/client.ts";
import { type ClientFlagValues, callOptions, remark } from "./common.ts";
import { progressView } from "./progress.ts";
import type { Io } from "./verb.ts";

const cancelTimeoutMs = 10_000;

/**
 * Starts a job and follows it. Ctrl-C cancels it; when --timeout is over it goes on without us.
 * @throws WalbError what the job failed with, `timed-out`, `cancelled`.
 */
export async function runJob<C extends Commands, Name extends JobNames<C>>(
  client: Client<C>,
  name: Name,
  params: CallParams<C[Name]>,
  flags: ClientFlagValues,
  io: Io,
): Promise<CallResult<C[Name]>> {
  const view = progressView(io, flags.quiet);
  const job = await client.start(name, params, { signal: io.signal });
  try {
    return await client.follow(name, job, { ...callOptions(flags, io), onProgress: (next) => view.show(next) });
  } catch (error) {
    if (io.signal.aborted) {
      view.end();
      remark(flags, io, `walb: cancelling job ${job.id} at ${client.server.name}`);
      await client.cancel(job.id, { timeoutMs: cancelTimeoutMs });
    }
    throw error;
  } finally {
    view.end();
  }
}
