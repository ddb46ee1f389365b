/** @module What an archive sends to another in a turn, and what becomes of a failure. Pure. */
import type { WalbError } from "../../errors.ts";
import { mergeablePrefix } from "../../snapshot/algebra.ts";
import {
  planReplication,
  type ReplicationStep,
  type ReplicationThreshold,
  type ReplicationWay,
} from "../../snapshot/replicate.ts";
import { truncateList } from "../../snapshot/select.ts";
import { untilKept } from "../plan.ts";

/** What limits a turn. */
export interface TurnLimits {
  readonly threshold: ReplicationThreshold;
  /** Diffs are sent one by one, so that every point arrives. */
  readonly keepsAllPoints: boolean;
  /** Of the diffs that are merged on their way. */
  readonly mergeBytesMax: number;
  readonly mergeCountMax: number;
  /** Points that are never merged away. */
  readonly keptGids: readonly bigint[];
}

/** Never more are merged in one turn: as many files as are kept open, since a merge reads from all of them in turn. */
const openFilesMax = 64;

/** The next turn; its diffs are those to be merged into one. @throws WalbError `not-restorable`. */
export function planTurn(way: ReplicationWay, limits: TurnLimits): ReplicationStep {
  const { threshold, keepsAllPoints, mergeBytesMax: sizeBytesMax, mergeCountMax, keptGids } = limits;
  const countMax = keepsAllPoints ? 1 : Math.max(1, Math.min(openFilesMax, mergeCountMax));
  const step = planReplication(way, threshold, countMax);
  if (step.kind !== "diff" || keepsAllPoints) return step;
  const end = threshold.unit === "gid" ? step.diffs.findIndex((diff) => diff.from.gidB >= threshold.gid) : -1;
  const due = end < 0 ? step.diffs : step.diffs.slice(0, end);
  return { kind: "diff", diffs: untilKept(truncateList(mergeablePrefix(due), { sizeBytesMax }), keptGids) };
}

/** What only a person can put right: a replication that goes on for ever gives up for these. */
export function isFinal(error: WalbError): boolean {
  return ["different-uuid", "unsupported", "not-found", "bad-parameter", "cancelled", "internal"].includes(error.code);
}

/** What broke on the way: the same command goes on where it broke off. */
export function isBrokenOff(error: WalbError): boolean {
  return ["unreachable", "timed-out", "protocol", "io"].includes(error.code);
}

const retryDelayMsMin = 1_000;
const retryDelayMsMax = 60_000;

/** How long to wait after the n-th failure in a row, from 0. @param fraction chance in [0, 1). */
export function retryDelayMs(failures: number, fraction: number): number {
  const delayMs = Math.min(retryDelayMsMax, retryDelayMsMin * 2 ** Math.min(failures, 20));
  return Math.ceil(delayMs * (0.75 + fraction / 4));
}
