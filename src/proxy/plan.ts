/** @module Decisions of the proxy role: which diffs go together, what an archive's answer means, how long to wait. Pure. */
import { canMerge, isFurther, merge } from "../snapshot/algebra.ts";
import { type DiffMeta, diffMeta, snapshot } from "../snapshot/types.ts";
import type { Answer } from "../wire/words.ts";
import type { DiffRow } from "./store.ts";

/** A transfer to make. */
export interface SendPlan {
  /** Oldest first: later ones win. */
  readonly diffs: readonly DiffRow[];
  /** What they are together. */
  readonly merged: DiffMeta;
  readonly uuid: string;
}

/** Bounds of a transfer. */
export interface SendLimits {
  readonly bytesMax: number;
  readonly countMax: number;
}

/** A row as the algebra sees it. */
export function metaOf(row: DiffRow): DiffMeta {
  return diffMeta({
    from: snapshot(row.fromGid),
    to: snapshot(row.toGid),
    isMergeable: row.isMergeable,
    timestampS: row.timestampS,
    dataSizeBytes: row.sizeBytes,
  });
}

/**
 * The next transfer: of the log whose diffs came first, the run of mergeable diffs from the smallest gid. Logs are
 * never mixed: an older one is offered until the archive says that it follows another.
 * @param pending diffs the archive needs, in order of reception.
 */
export function planSend(pending: readonly DiffRow[], limits: SendLimits): SendPlan | undefined {
  const uuid = pending[0]?.uuid;
  if (uuid === undefined) return undefined;
  const rows = pending.filter((row) => row.uuid === uuid).toSorted(byStart);
  const metas = rows.map(metaOf);
  const startGid = rows[0]!.fromGid;
  let next = 0;
  let reachGid = startGid;
  const bestFrom = (isCandidate: (meta: DiffMeta) => boolean): number | undefined => {
    let best: number | undefined;
    for (let i = next; i < rows.length; i += 1) {
      // Rows are ordered by start: behind a gap nothing fits.
      if (metas[i]!.from.gidB > reachGid) break;
      if (!isCandidate(metas[i]!)) continue;
      if (best === undefined || isFurther(metas[i]!, metas[best]!)) best = i;
    }
    return best;
  };
  const first = bestFrom((meta) => meta.from.gidB === startGid)!;
  const chosen = [first];
  let merged = metas[first]!;
  let bytes = rows[first]!.sizeBytes;
  // Rows are ordered by start, so those before the last chosen one can only be covered by it.
  while (chosen.length < limits.countMax) {
    next = chosen.at(-1)! + 1;
    reachGid = merged.to.gidB;
    const best = bestFrom((meta) => canMerge(merged, meta));
    if (best === undefined || bytes + rows[best]!.sizeBytes > limits.bytesMax) break;
    merged = merge(merged, metas[best]!);
    bytes += rows[best]!.sizeBytes;
    chosen.push(best);
  }
  const diffs = chosen.map((index) => rows[index]!);
  return { diffs, merged: chosen.length === 1 ? metas[first]! : { ...merged, dataSizeBytes: bytes }, uuid };
}

function byStart(a: DiffRow, b: DiffRow): number {
  if (a.fromGid !== b.fromGid) return a.fromGid < b.fromGid ? -1 : 1;
  if (a.toGid !== b.toGid) return a.toGid < b.toGid ? -1 : 1;
  return a.id - b.id;
}

/** Diffs that a merged one makes needless: they lie inside it. */
export function coveredBy(merged: DiffMeta, uuid: string, pending: readonly DiffRow[]): DiffRow[] {
  return pending.filter((row) => row.uuid === uuid && merged.from.gidB <= row.fromGid && row.toGid <= merged.to.gidB);
}

/** What to do with the diffs of a transfer. */
export type Reaction = "delivered" | "needless" | "retry";

/** What an archive's answer means. Only two refusals allow to drop a diff; for the rest it is kept and tried again. */
export function reactionTo(answer: Answer): Reaction {
  if (answer.kind === "accept") return "delivered";
  if (answer.kind === "word" && (answer.word === "different-uuid" || answer.word === "too-old-diff")) return "needless";
  return "retry";
}

/** What an administrator can do about a refusal. */
export function refusalHint(answer: Answer, volume: string): string {
  if (answer.kind !== "word") return "look at the archive's log";
  switch (answer.word) {
    case "stopped":
      return `start the volume at the archive: walb start ${volume}`;
    case "syncing":
    case "wdiff-recv":
      return "it goes on by itself when the archive has finished";
    case "smaller-lv-size":
      return `grow the archive's image: walb resize ${volume} SIZE`;
    case "too-new-diff":
      return (
        "diffs before this one are missing at the archive; when no other proxy has them, replicate to it, or back the " +
        `volume up anew: walb stop ${volume} --server STORAGE; walb reset ${volume} --server STORAGE; walb backup ${volume}`
      );
    default:
      return `look at the archive: walb status ${volume}`;
  }
}

/** Longest wait after a refusal that is over as soon as the archive has finished something. */
const busyRetryMsMax = 10_000;

/** Longest wait before a retry. @param answer the last refusal, if there was one. */
export function longestRetryMs(answer: Answer | undefined, maxMs: number): number {
  const isBusy = answer?.kind === "word" && (answer.word === "syncing" || answer.word === "wdiff-recv");
  return isBusy ? Math.min(busyRetryMsMax, maxMs) : maxMs;
}
