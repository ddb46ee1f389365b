/** @module The jobs of one daemon: started, watched, cancelled, and remembered for a while after they ended. */
import { asWalbError, WalbError } from "../errors.ts";
import type { Clock, Random, Timer } from "../platform/clock.ts";
import type { JobInfo, ProgressReport } from "./job.ts";
import { ProgressMeter } from "./rate.ts";

/** Most jobs that run at once, and most that are remembered after they ended. */
const runningJobsMax = 64;
const endedJobsMax = 256;
/** Watchers hear of progress at most this often. */
const notifyMs = 200;

interface Job {
  readonly id: string;
  readonly command: string;
  readonly volume: string | undefined;
  readonly startedMs: number;
  readonly meter: ProgressMeter;
  readonly abort: AbortController;
  readonly watchers: Set<(job: JobInfo) => void>;
  readonly acceptance: PromiseWithResolvers<void>;
  ended: Promise<void>;
  end: Pick<JobInfo, "state" | "endedMs" | "result" | "error" | "progress"> | undefined;
  notifyTimer: Timer | undefined;
}

/** What a job's work gets. */
export interface JobWork {
  readonly signal: AbortSignal;
  readonly progress: (report: ProgressReport) => void;
  /** See `CommandContext.accepted`. */
  readonly accepted: () => void;
}

/** The jobs of one daemon. */
export class JobTable {
  readonly #clock: Clock;
  readonly #prefix: string;
  readonly #jobs = new Map<string, Job>();
  #count = 0;

  /** Ids begin with something random, so that an id of before a restart is not taken for another job. */
  constructor(clock: Clock, random: Random) {
    this.#clock = clock;
    this.#prefix = random.u32().toString(36).padStart(7, "0").slice(-4);
  }

  /** Starts a job. @throws WalbError `busy` when too many run. */
  start(command: string, volume: string | undefined, work: (job: JobWork) => Promise<unknown>): JobInfo {
    const running = [...this.#jobs.values()].filter((job) => job.end === undefined).length;
    if (running >= runningJobsMax) {
      throw new WalbError("busy", {
        what: `cannot start ${command}: ${running} jobs are running`,
        ...(volume === undefined ? {} : { where: { volume } }),
        hint: "wait for one of them, or cancel one",
      });
    }
    this.#count += 1;
    const job: Job = {
      id: `${this.#prefix}-${this.#count}`,
      command,
      volume,
      startedMs: this.#clock.nowMs(),
      meter: new ProgressMeter(this.#clock.monotonicMs()),
      abort: new AbortController(),
      watchers: new Set(),
      acceptance: Promise.withResolvers(),
      ended: Promise.resolve(),
      end: undefined,
      notifyTimer: undefined,
    };
    this.#jobs.set(job.id, job);
    job.ended = this.#run(job, work);
    return this.#describe(job);
  }

  /** All known jobs, newest first. */
  list(): JobInfo[] {
    return [...this.#jobs.values()].reverse().map((job) => this.#describe(job));
  }

  /** @throws WalbError `not-found`. */
  get(id: string): JobInfo {
    return this.#describe(this.#find(id));
  }

  /** See `Control.watchJob`. */
  watch(id: string, changed: (job: JobInfo) => void): () => void {
    const job = this.#find(id);
    if (job.end === undefined) job.watchers.add(changed);
    changed(this.#describe(job));
    return () => job.watchers.delete(changed);
  }

  /** See `Control.untilAccepted`. */
  async untilAccepted(id: string): Promise<JobInfo> {
    const job = this.#find(id);
    await job.acceptance.promise;
    return this.#describe(job);
  }

  /** See `Control.cancelJob`. */
  async cancel(id: string, why = "the job was cancelled"): Promise<JobInfo> {
    const job = this.#find(id);
    if (job.end === undefined) job.abort.abort(new WalbError("cancelled", { what: why }));
    await job.ended;
    return this.#describe(job);
  }

  /** Cancels all jobs and waits until they have ended. */
  async close(): Promise<void> {
    await Promise.all([...this.#jobs.keys()].map((id) => this.cancel(id, "the daemon is shutting down")));
  }

  async #run(job: Job, work: (job: JobWork) => Promise<unknown>): Promise<void> {
    const progress = (report: ProgressReport): void => {
      if (job.end !== undefined) return;
      job.meter.report(report, this.#clock.monotonicMs());
      job.notifyTimer ??= this.#clock.timer(
        notifyMs,
        () => {
          job.notifyTimer = undefined;
          this.#notify(job);
        },
        { unref: true },
      );
    };
    try {
      const result = await work({ signal: job.abort.signal, progress, accepted: job.acceptance.resolve });
      job.end = { state: "done", ...this.#ending(job), result };
    } catch (thrown) {
      const isCancelled = job.abort.signal.aborted;
      const error = asWalbError(thrown, job.volume === undefined ? {} : { volume: job.volume });
      job.end = { state: isCancelled ? "cancelled" : "failed", ...this.#ending(job), error: error.toJSON() };
    }
    job.notifyTimer?.cancel();
    job.notifyTimer = undefined;
    job.acceptance.resolve();
    this.#notify(job);
    job.watchers.clear();
    this.#forgetOld();
  }

  #ending({ meter }: Job): Pick<JobInfo, "endedMs" | "progress"> {
    return { endedMs: this.#clock.nowMs(), progress: meter.progress(this.#clock.monotonicMs()) };
  }

  #forgetOld(): void {
    const ended = [...this.#jobs.values()].filter((job) => job.end !== undefined);
    for (const job of ended.slice(0, Math.max(0, ended.length - endedJobsMax))) this.#jobs.delete(job.id);
  }

  #notify(job: Job): void {
    const info = this.#describe(job);
    for (const watcher of job.watchers) watcher(info);
  }

  #describe({ id, command, volume, startedMs, meter, end }: Job): JobInfo {
    return {
      id,
      command,
      ...(volume === undefined ? {} : { volume }),
      startedMs,
      ...(end ?? { state: "running", progress: meter.progress(this.#clock.monotonicMs()) }),
    };
  }

  #find(id: string): Job {
    const job = this.#jobs.get(id);
    if (job !== undefined) return job;
    throw new WalbError("not-found", {
      what: `there is no job ${id}`,
      hint: "jobs are forgotten when the daemon restarts; see what is running with: walb status",
    });
  }
}
