/** @module Decisions of the storage role: when to send, how long to wait, what log may go. Pure. */
import type { Lsids } from "../device/device.ts";
import type { ErrorCode } from "../errors.ts";
import { isSnapshotDue, type LogPoint, planRange, type RangePlan } from "../snapshot/split.ts";

/** What a volume knows when it decides. */
export interface FollowInput {
  readonly done: LogPoint;
  /** Undelivered snapshots, oldest first. */
  readonly queue: readonly LogPoint[];
  readonly lsids: Lsids;
  /** Most PB in one transfer. */
  readonly maxPb: number;
  /** Where a range is cut: `maxPb`, or what the cut that is not finished yet was begun with. */
  readonly cutPb: number;
  readonly nowS: number;
  readonly snapshotIntervalS: number;
  /** Milliseconds since the last transfer began; large when there was none. */
  readonly sinceTransferMs: number;
}

/** What to do next. `wait` without a delay is until the device says that the log grew. */
export type FollowStep =
  | { readonly kind: "snapshot" }
  | { readonly kind: "send"; readonly range: RangePlan }
  | { readonly kind: "wait"; readonly delayMs: number | undefined };

/** Small amounts are sent about once a second, so that a trickle of writes does not become a flood of diffs. */
const paceMs = 1000;
/** How soon to look again while a flush of the log is awaited. */
const flushWaitMs = 100;

/**
 * The next step of a volume that follows its log: an explicit snapshot goes out at once; otherwise the log is sent when
 * a good part of a transfer has come together, or a second after the last one. Only durable log counts: a snapshot
 * behind it could lose its writes to a power loss.
 */
export function planFollow(input: FollowInput): FollowStep {
  const { done, queue, lsids, maxPb, cutPb } = input;
  if (queue.length === 0 && done.lsid >= lsids.permanent) {
    return { kind: "wait", delayMs: lsids.permanent < lsids.latest ? flushWaitMs : undefined };
  }
  const isUrgent = queue.some((point) => !point.isMergeable) || lsids.permanent - done.lsid >= maxPb / 10;
  if (!isUrgent && input.sinceTransferMs < paceMs) {
    // Whole milliseconds: a timer of less may end before the clock has moved.
    return { kind: "wait", delayMs: Math.ceil(paceMs - input.sinceTransferMs) };
  }
  if (isSnapshotDue(queue, lsids.permanent, input.nowS, input.snapshotIntervalS)) return { kind: "snapshot" };
  const range = planRange(done, queue, lsids.permanent, cutPb);
  return range === undefined ? { kind: "wait", delayMs: flushWaitMs } : { kind: "send", range };
}

/** How far the log may be erased, or undefined when nothing may go: what is delivered and safely on the data device. */
export function planErase(doneLsid: number, lsids: Lsids): number | undefined {
  const target = Math.min(doneLsid, lsids.prevWritten);
  return target > lsids.oldest ? target : undefined;
}

/** Longest wait before something is tried again that is likely to have changed soon. */
const soonMs = 10_000;

/**
 * Longest delay between retries after a failure. A proxy that refused (`state`) is there and mostly busy; a device that
 * failed before the transfer began comes back without a word. What no proxy could be reached for is kicked by the
 * heartbeat, and damage stays until somebody acts.
 */
export function retryDelayMsCap(code: ErrorCode, isTransfer: boolean, maxMs: number): number {
  return !isTransfer || code === "state" || code === "busy" ? Math.min(soonMs, maxMs) : maxMs;
}
