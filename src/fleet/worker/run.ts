/**
 * @module The worker's loop: look, plan, start what may start, look again. A task that fails is told and planned again
 * later; a server that does not answer delays only its own volumes.
 */
import { asWalbError, WalbError } from "../../errors.ts";
import type { Clock } from "../../platform/clock.ts";
import { planWorker, startable, type VolumeView, type WorkerPlan, type WorkerTask } from "./plan.ts";
import type { WorkerPolicy } from "./policy.ts";

/** How long a volume rests after a task of it failed; doubles with each failure. */
const restMsMin = 10_000;
const restMsMax = 3_600_000;
/** Rounds of a run that ends by itself; each has at least one task. */
const roundsMax = 10_000;

/** What the loop works on; of the command line, or a test's. */
export interface WorkerHost {
  readonly clock: Clock;
  readonly policy: WorkerPolicy;
  /** @throws WalbError when nothing can be seen at all. */
  views(): Promise<readonly VolumeView[]>;
  perform(task: WorkerTask, signal: AbortSignal): Promise<void>;
  /** Hears of everything worth telling. */
  told(event: WorkerEvent): void;
}

/** Something worth telling. */
export type WorkerEvent =
  | { readonly kind: "started"; readonly task: WorkerTask }
  | { readonly kind: "done"; readonly task: WorkerTask; readonly elapsedMs: number }
  | { readonly kind: "failed"; readonly task: WorkerTask; readonly error: WalbError; readonly restMs: number }
  | { readonly kind: "blind"; readonly error: WalbError }
  | { readonly kind: "planned"; readonly plan: WorkerPlan };

/** How a run went that ended by itself. */
export interface WorkerSummary {
  readonly doneCount: number;
  readonly failures: readonly { readonly task: WorkerTask; readonly error: WalbError }[];
}

interface Rest {
  readonly untilMs: number;
  readonly restMs: number;
}

/** The worker. */
export class Worker {
  readonly #host: WorkerHost;
  readonly #running = new Map<WorkerTask, Promise<void>>();
  readonly #rests = new Map<string, Rest>();
  #doneCount = 0;
  readonly #failures: { task: WorkerTask; error: WalbError }[] = [];

  constructor(host: WorkerHost) {
    this.#host = host;
  }

  /** Works until the signal aborts; then waits for what runs, whose jobs are cancelled by it. */
  async runForever(signal: AbortSignal): Promise<void> {
    const { clock, policy, told } = this.#host;
    while (!signal.aborted) {
      let started = 0;
      try {
        started = await this.#round(signal);
      } catch (error) {
        if (!signal.aborted) told({ kind: "blind", error: asWalbError(error) });
      }
      if (started > 0 && this.#running.size < policy.tasksMax) continue;
      const wait = new AbortController();
      const ended = [...this.#running.values()];
      const timeout = clock.sleep(policy.pollMs, AbortSignal.any([signal, wait.signal])).catch(() => undefined);
      await Promise.race([timeout, ...ended]);
      wait.abort(new WalbError("cancelled", { what: "a task has ended" }));
    }
    await Promise.all(this.#running.values());
  }

  /** Does all there is to do, each volume until it failed or has nothing left. @throws when nothing can be seen. */
  async runOnce(signal: AbortSignal): Promise<WorkerSummary> {
    for (let round = 0; round < roundsMax && !signal.aborted; round++) {
      const started = await this.#round(signal);
      if (started === 0 && this.#running.size === 0) break;
      await Promise.race(this.#running.values());
    }
    await Promise.all(this.#running.values());
    signal.throwIfAborted();
    return { doneCount: this.#doneCount, failures: this.#failures };
  }

  /** @returns how many tasks were started. */
  async #round(signal: AbortSignal): Promise<number> {
    const { clock, policy, told } = this.#host;
    const views = await this.#host.views();
    const nowMs = clock.nowMs();
    const rested = views.filter(({ volume }) => (this.#rests.get(volume)?.untilMs ?? 0) <= clock.monotonicMs());
    const plan = planWorker(rested, policy, nowMs);
    told({ kind: "planned", plan });
    const tasks = startable(plan, [...this.#running.keys()], policy);
    for (const task of tasks) this.#start(task, signal);
    return tasks.length;
  }

  #start(task: WorkerTask, signal: AbortSignal): void {
    const { clock, told } = this.#host;
    const beganMs = clock.monotonicMs();
    told({ kind: "started", task });
    const work = this.#host
      .perform(task, signal)
      .then(() => {
        this.#rests.delete(task.volume);
        this.#doneCount += 1;
        told({ kind: "done", task, elapsedMs: clock.monotonicMs() - beganMs });
      })
      .catch((cause: unknown) => {
        if (signal.aborted) return;
        const error = asWalbError(cause);
        const before = this.#rests.get(task.volume)?.restMs ?? restMsMin / 2;
        const restMs = Math.min(2 * before, restMsMax);
        this.#rests.set(task.volume, { untilMs: clock.monotonicMs() + restMs, restMs });
        this.#failures.push({ task, error });
        if (this.#failures.length > 1000) this.#failures.shift();
        told({ kind: "failed", task, error, restMs });
      })
      .finally(() => this.#running.delete(task));
    this.#running.set(task, work);
  }
}
