/** @module `walb worker`: applies the policies of the fleet file. */
import { createLogger, type Logger } from "../../control/logger.ts";
import { asWalbError, exitCodes } from "../../errors.ts";
import type { Fleet } from "../../fleet/fleet.ts";
import { type CollectFailure, collectViews, newWorkerMemory } from "../../fleet/worker/collect.ts";
import { performTask, taskText } from "../../fleet/worker/perform.ts";
import { planWorker, startable, type WorkerPlan } from "../../fleet/worker/plan.ts";
import { type WorkerPolicy, workerPolicy } from "../../fleet/worker/policy.ts";
import { Worker, type WorkerEvent, type WorkerHost } from "../../fleet/worker/run.ts";
import type { Platform } from "../../platform/platform.ts";
import { closePlatform, createPlatform } from "../../platform/real/index.ts";
import { clientFlags, loadFleet, print } from "../common.ts";
import { asChoice, asDuration, asPath, asVolume, option, optionOr, toggle } from "../flags.ts";
import { parseSize } from "../text/size.ts";
import { formatDuration, parseDuration } from "../text/time.ts";
import { defineVerb, type Io } from "../verb.ts";
import { notifySystemd } from "./notify.ts";
import { takeWorkerLock } from "./worker-lock.ts";

const flags = {
  once: toggle("do what there is to do, then end: for cron"),
  "dry-run": toggle("only say what would be done now, with reasons"),
  volume: option("VOL", "only this volume", asVolume),
  json: clientFlags.json,
  fleet: clientFlags.fleet,
  "cluster-key": clientFlags["cluster-key"],
  timeout: optionOr("TIME", "how long to wait for the answer of a server", asDuration, "30s"),
  lock: option("FILE", "held while the worker runs, so that there is one; default: one for each fleet file", asPath),
  "log-format": optionOr("FORMAT", "human or json", asChoice(["human", "json"]), "human"),
};

export const verb = defineVerb({
  summary: "Applies policies: keeps the points that the rules name, merges, applies, replicates",
  description:
    "Works on the volumes of the primary archive by the rules of the fleet file: [volumes.VOL] keep and replicate, and " +
    "[worker] for the others. Without rules it changes nothing. Runs in the foreground until SIGTERM, or with --once " +
    "until there is nothing left to do.",
  flags,
  examples: ["walb worker", "walb worker --dry-run", "walb worker --once --volume vol0"],
  exits: {
    1: "with --once: a task failed, or a server did not answer; the others were done",
    7: "another worker has the lock",
  },
  async run({ flags: given, io }) {
    const fleet = loadFleet(given, io);
    const policy = policyOf(fleet);
    const platform = createPlatform();
    try {
      const failures: CollectFailure[] = [];
      const log = createLogger({
        format: given["log-format"],
        level: "info",
        clock: platform.clock,
        write: (line) => io.err(`${line}\n`),
      });
      const seen = new Map<string, string>();
      const host = makeHost(
        { platform, fleet, policy, io, timeoutMs: given.timeout, volume: given.volume },
        log,
        (all) => {
          failures.splice(0, failures.length, ...all);
          tellFailures(all, seen, log);
        },
      );
      if (given["dry-run"]) return await dryRun(host, policy, given, io, failures);
      const lock = await takeWorkerLock(platform, given.lock, fleet.file, io);
      try {
        if (given.once) return await runOnce(host, given, io, failures);
        await notifySystemd(io.env.NOTIFY_SOCKET, "READY=1");
        await new Worker(host).runForever(io.signal);
        await notifySystemd(io.env.NOTIFY_SOCKET, "STOPPING=1");
        return 0;
      } finally {
        await lock.close();
      }
    } finally {
      await closePlatform(platform);
    }
  },
});

function policyOf(fleet: Fleet): WorkerPolicy {
  try {
    return workerPolicy(fleet.worker, { duration: parseDuration, size: parseSize });
  } catch (error) {
    throw asWalbError(error, fleet.file === undefined ? {} : { file: fleet.file });
  }
}

interface HostParts {
  readonly platform: Platform;
  readonly fleet: Fleet;
  readonly policy: WorkerPolicy;
  readonly io: Io;
  readonly timeoutMs: number;
  readonly volume: string | undefined;
}

function makeHost(parts: HostParts, log: Logger, failed: (failures: readonly CollectFailure[]) => void): WorkerHost {
  const { platform, fleet, policy, io, timeoutMs, volume } = parts;
  const memory = newWorkerMemory();
  const only = volume === undefined ? {} : { volume };
  const waiting = new Map<string, string>();
  return {
    clock: { ...platform.clock, nowMs: io.nowMs },
    policy,
    async views() {
      const readers = { readDuration: parseDuration, timeoutMs, nowMs: io.nowMs };
      const { views, failures } = await collectViews({ fleet, memory, ...readers, ...only, signal: io.signal });
      // A replica that does not answer is as much a failure: what it lacks was not sent.
      const silent = views.flatMap(({ volume: name, replicas }) =>
        replicas.flatMap(({ server, state, failure }) =>
          state === undefined ? [{ server, volume: name, error: new Error(failure ?? "it does not answer") }] : [],
        ),
      );
      failed([...failures, ...silent]);
      return views;
    },
    perform: (task, signal) => performTask(task, { fleet, policy, memory, nowMs: io.nowMs, signal }),
    told: (event) => tell(event, log, waiting),
  };
}

/** No volume has this name. */
const primaryKey = "";

function tell(event: WorkerEvent, log: Logger, waiting: Map<string, string>): void {
  switch (event.kind) {
    case "started":
      log.info(taskText(event.task), { because: event.task.reason });
      return;
    case "done":
      log.info(`done: ${taskText(event.task)}`, { took: formatDuration(event.elapsedMs) });
      return;
    case "failed":
      log.error(`failed: ${taskText(event.task)}`, {
        error: event.error,
        retryAfter: formatDuration(event.restMs),
      });
      return;
    case "blind":
      if (waiting.get(primaryKey) === event.error.message) return;
      waiting.set(primaryKey, event.error.message);
      log.error("the primary archive could not be asked; trying again", { error: event.error });
      return;
    case "planned":
      // Said once, not in every round.
      if (waiting.delete(primaryKey)) log.info("the primary archive answers again");
      for (const { volume, reason } of event.plan.waiting) {
        if (waiting.get(volume) === reason) continue;
        waiting.set(volume, reason);
        log.info(`${volume} waits: ${reason}`);
      }
  }
}

function tellFailures(failures: readonly CollectFailure[], seen: Map<string, string>, log: Logger): void {
  for (const { server, volume, error } of failures) {
    const key = `${server} ${volume ?? ""}`;
    if (seen.get(key) === error.message) continue;
    seen.set(key, error.message);
    log.error("a volume could not be looked at", { server, volume, error });
  }
}

interface OnceFlags {
  readonly json: boolean;
}

async function runOnce(host: WorkerHost, given: OnceFlags, io: Io, unseen: readonly CollectFailure[]): Promise<number> {
  const { doneCount, failures } = await new Worker(host).runOnce(io.signal);
  const failed = [
    ...failures.map(({ task, error }) => ({ task: taskText(task), error: error.message })),
    ...unseen.map(({ server, volume, error }) => ({ task: `look at ${volume} at ${server}`, error: error.message })),
  ];
  const text =
    doneCount === 0 && failed.length === 0 ? "nothing to do\n" : `${doneCount} done, ${failed.length} failed\n`;
  print(given, io, { doneCount, failed }, text);
  return failed.length === 0 ? exitCodes.done : exitCodes.failed;
}

async function dryRun(
  host: WorkerHost,
  policy: WorkerPolicy,
  given: OnceFlags,
  io: Io,
  failures: readonly CollectFailure[],
): Promise<number> {
  const plan = planWorker(await host.views(), policy, io.nowMs());
  print(given, io, planValue(plan, policy), planText(plan, policy));
  return failures.length === 0 ? exitCodes.done : exitCodes.failed;
}

function planValue(plan: WorkerPlan, policy: WorkerPolicy): object {
  const first = new Set(startable(plan, [], policy));
  return {
    tasks: plan.tasks.map((task) => ({ ...task, text: taskText(task), isFirst: first.has(task) })),
    waiting: plan.waiting,
  };
}

function planText(plan: WorkerPlan, policy: WorkerPolicy): string {
  const first = new Set(startable(plan, [], policy));
  const lines = plan.tasks.map((task) => `${first.has(task) ? "would" : "then "} ${taskText(task)}: ${task.reason}`);
  const waiting = plan.waiting.map(({ volume, reason }) => `${volume} waits: ${reason}`);
  const all = [...lines, ...waiting];
  return all.length === 0 ? "nothing to do\n" : `${all.join("\n")}\n`;
}
