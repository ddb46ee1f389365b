/**
 * @module What the worker does next: tasks in order of urgency, each with its reason, and why other volumes wait. Pure.
 *
 * The order is that of the original's worker: finish what was begun, apply, merge where there are too many diffs,
 * replicate, merge by the clock. A volume with `keep` rules is thinned by them in the place of being applied and merged.
 */
import type { DiffMeta } from "../../snapshot/types.ts";
import { formatAge, formatSize } from "../format.ts";
import { chooseApply, chooseMerge, chooseReplicationEnd } from "./choose.ts";
import { type KeepRule, planRetention } from "./keep.ts";
import type { WorkerPolicy } from "./policy.ts";
import { planThinning } from "./thin.ts";

/** A point as the worker sees it. */
export interface PointView {
  readonly gid: bigint;
  readonly timeMs: number;
  readonly isProtected: boolean;
}

/** Another archive that is to have the volume. */
export interface ReplicaView {
  readonly server: string;
  /** `Clear` when it does not know the volume; undefined when it could not be asked. */
  readonly state: string | undefined;
  /** Why it could not be asked. */
  readonly failure?: string;
  readonly latestGid?: bigint;
  readonly archiveUuid?: string;
  /** Proxies send it diffs themselves. */
  readonly isSynchronizing: boolean;
}

/** A volume at an archive. */
export interface VolumeView {
  readonly archive: string;
  readonly volume: string;
  readonly state: string;
  readonly archiveUuid?: string;
  readonly baseGid: bigint;
  /** End of an apply that was cut off. */
  readonly applyingGid?: bigint;
  /** Diffs that lead from the base to the newest point, in order. */
  readonly diffs: readonly DiffMeta[];
  readonly points: readonly PointView[];
  /** Actions under way. */
  readonly running: readonly string[];
  readonly keep: readonly KeepRule[] | undefined;
  readonly replicas: readonly ReplicaView[];
  /** When the worker (or somebody) last did it; undefined for never. */
  readonly lastApplyMs?: number;
  readonly lastMergeMs?: number;
  readonly lastReplicateMs: ReadonlyMap<string, number>;
}

interface TaskBase {
  readonly archive: string;
  readonly volume: string;
  /** English, for people. */
  readonly reason: string;
}

/** Something to do. */
export type WorkerTask = TaskBase &
  (
    | { readonly kind: "apply"; readonly gid: bigint }
    | {
        readonly kind: "merge";
        readonly fromGid: bigint;
        readonly toGid: bigint;
        /** Snapshots somebody took that go, to be disabled before. */
        readonly disableGids: readonly bigint[];
      }
    | {
        readonly kind: "replicate";
        readonly to: string;
        /** Up to here; undefined for the newest point. */
        readonly gid: bigint | undefined;
      }
  );

/** A volume for which there is nothing to do although there might be, and why. */
export interface WaitingVolume {
  readonly archive: string;
  readonly volume: string;
  readonly reason: string;
}

/** What the worker decided. */
export interface WorkerPlan {
  /** At most one a volume, the most urgent first. */
  readonly tasks: readonly WorkerTask[];
  readonly waiting: readonly WaitingVolume[];
}

/** Points that are restored, replicated or diffs that are merged meanwhile must not be worked on twice. */
const blockingActions = new Set(["Apply", "Merge", "Restore", "Resize", "ReplSyncAsClient"]);
const activeStates = new Set(["Archived", "HashSync", "WdiffRecv", "ReplSyncAsServer"]);

interface Candidate {
  readonly task: WorkerTask;
  /** Smaller is more urgent; then the larger weight first. */
  readonly rank: number;
  readonly weight: number;
}

/** Decides about all volumes. */
export function planWorker(views: readonly VolumeView[], policy: WorkerPolicy, nowMs: number): WorkerPlan {
  const waiting: WaitingVolume[] = [];
  const candidates = views.flatMap((view) => {
    const wait = (reason: string): void => {
      waiting.push({ archive: view.archive, volume: view.volume, reason });
    };
    if (!activeStates.has(view.state)) {
      wait(`it is ${view.state}`);
      return [];
    }
    const blocking = view.running.filter((action) => blockingActions.has(action));
    if (blocking.length > 0) {
      wait(`${blocking.join(" and ")} is under way`);
      return [];
    }
    return candidateOf(view, policy, nowMs, wait) ?? [];
  });
  const tasks = candidates.toSorted((a, b) => a.rank - b.rank || b.weight - a.weight).map(({ task }) => task);
  return { tasks, waiting };
}

/** The tasks of a plan that may start now beside those that run. */
export function startable(plan: WorkerPlan, running: readonly WorkerTask[], policy: WorkerPolicy): WorkerTask[] {
  const busy = new Set(running.map(({ volume }) => volume));
  let replications = running.filter(({ kind }) => kind === "replicate").length;
  const chosen: WorkerTask[] = [];
  for (const task of plan.tasks) {
    if (running.length + chosen.length >= policy.tasksMax) break;
    if (busy.has(task.volume)) continue;
    // Replications at their limit hold up no other work.
    if (task.kind === "replicate" && replications >= policy.replicationsMax) continue;
    if (task.kind === "replicate") replications += 1;
    busy.add(task.volume);
    chosen.push(task);
  }
  return chosen;
}

function candidateOf(
  view: VolumeView,
  policy: WorkerPolicy,
  nowMs: number,
  wait: (reason: string) => void,
): Candidate | undefined {
  const { archive, volume } = view;
  const of = { archive, volume };
  if (view.applyingGid !== undefined) {
    const reason = `an apply to gid ${view.applyingGid} was cut off`;
    return { task: { ...of, kind: "apply", gid: view.applyingGid, reason }, rank: 0, weight: 0 };
  }
  const replication = replicationOf(view, policy, nowMs, wait);
  if (view.keep !== undefined) return thinningOf(view, view.keep, nowMs) ?? replication;
  return (
    applyOf(view, policy, nowMs) ??
    thresholdMergeOf(view, policy) ??
    replication ??
    mergeOf(view, policy, nowMs, "it is time for a merge")
  );
}

function thinningOf(view: VolumeView, keep: readonly KeepRule[], nowMs: number): Candidate | undefined {
  const { kept, droppedGids } = planRetention(view.points, keep, nowMs);
  const keptGids = new Set(kept.map(({ gid }) => gid));
  const [step] = planThinning({ baseGid: view.baseGid, diffs: view.diffs, keptGids, droppedGids });
  if (step === undefined) return undefined;
  const { droppedCount, reason, ...what } = step;
  const task = { archive: view.archive, volume: view.volume, ...what, reason: `keep: ${reason}` };
  return { task, rank: step.kind === "apply" ? 1 : 4, weight: droppedCount };
}

function applyOf(view: VolumeView, policy: WorkerPolicy, nowMs: number): Candidate | undefined {
  if (policy.apply === undefined) return undefined;
  const { keepMs, everyMs } = policy.apply;
  if (!isTime(view.lastApplyMs, everyMs, nowMs)) return undefined;
  const oldestProtected = view.points.find(({ isProtected }) => isProtected);
  const free = view.points.filter(({ gid }) => oldestProtected === undefined || gid <= oldestProtected.gid);
  const point = chooseApply(free, nowMs - keepMs, nowMs);
  if (point === undefined) return undefined;
  const applied = view.diffs.filter(({ to }) => to.gidB <= point.gid);
  const bytes = applied.reduce((sum, { dataSizeBytes }) => sum + dataSizeBytes, 0);
  const reason = `points older than ${formatAge(keepMs)} need not be kept; ${applied.length} diffs, ${formatSize(bytes)}`;
  return { task: { ...placeOf(view), kind: "apply", gid: point.gid, reason }, rank: 1, weight: bytes };
}

function thresholdMergeOf(view: VolumeView, policy: WorkerPolicy): Candidate | undefined {
  const threshold = policy.merge?.thresholdCount;
  if (threshold === undefined || view.diffs.length < threshold) return undefined;
  const found = mergeOf(view, policy, Number.POSITIVE_INFINITY, `there are ${view.diffs.length} diffs`);
  return found === undefined ? undefined : { ...found, rank: 2 };
}

function mergeOf(view: VolumeView, policy: WorkerPolicy, nowMs: number, why: string): Candidate | undefined {
  if (policy.merge === undefined) return undefined;
  const { everyMs, bytesMax, countMax } = policy.merge;
  if (!isTime(view.lastMergeMs, everyMs, nowMs)) return undefined;
  const keptGids = [
    ...view.points.filter(({ isProtected }) => isProtected).map(({ gid }) => gid),
    ...view.replicas.flatMap(({ latestGid }) => latestGid ?? []),
  ];
  const range = chooseMerge(view.diffs, { bytesMax, countMax, keptGids });
  if (range === undefined) return undefined;
  const reason = `${why}: ${range.diffCount} diffs of ${formatSize(range.bytes / range.diffCount)} on average become one`;
  const { fromGid, toGid } = range;
  const task = { ...placeOf(view), kind: "merge", fromGid, toGid, disableGids: [], reason } as const;
  return { task, rank: 4, weight: view.diffs.length };
}

function replicationOf(
  view: VolumeView,
  policy: WorkerPolicy,
  nowMs: number,
  wait: (reason: string) => void,
): Candidate | undefined {
  const newest = view.points.at(-1);
  if (newest === undefined) return undefined;
  let best: Candidate | undefined;
  for (const replica of view.replicas) {
    const { server, state } = replica;
    if (state === undefined) {
      wait(`${server} does not answer: ${replica.failure ?? "unknown"}`);
      continue;
    }
    const isEmpty = state === "Clear" || state === "SyncReady";
    if (!isEmpty && !activeStates.has(state)) {
      wait(`it is ${state} at ${server}`);
      continue;
    }
    if (!isEmpty && replica.archiveUuid !== view.archiveUuid) {
      wait(`${server} has another backup of it: walb replicate ${view.volume} --to ${server} --resync`);
      continue;
    }
    if (!isEmpty && replica.isSynchronizing) continue;
    const latestGid = isEmpty ? undefined : (replica.latestGid ?? 0n);
    if (latestGid !== undefined && latestGid >= newest.gid) continue;
    const lastMs = view.lastReplicateMs.get(server);
    if (!isTime(lastMs, policy.replicate.everyMs, nowMs)) continue;
    const gid =
      latestGid === undefined ? undefined : chooseReplicationEnd(view.diffs, policy.replicate.sendBytesMax, latestGid);
    const reason =
      latestGid === undefined
        ? `${server} has no copy yet`
        : `${server} is at gid ${latestGid}, the newest point is gid ${newest.gid}`;
    const task = { ...placeOf(view), kind: "replicate", to: server, gid, reason } as const;
    const candidate = { task, rank: 3, weight: lastMs === undefined ? Number.MAX_SAFE_INTEGER : nowMs - lastMs };
    if (best === undefined || candidate.weight > best.weight) best = candidate;
  }
  return best;
}

/** Whether something is to be done again; at once when the clock went back behind the last time. */
function isTime(lastMs: number | undefined, everyMs: number, nowMs: number): boolean {
  return lastMs === undefined || nowMs < lastMs || nowMs - lastMs >= everyMs;
}

function placeOf({ archive, volume }: VolumeView): { readonly archive: string; readonly volume: string } {
  return { archive, volume };
}
