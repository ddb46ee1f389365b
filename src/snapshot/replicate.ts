/**
 * @module What an archive sends to an archive behind it: nothing, a hash sync, or diffs. Pure.
 *
 * Source: `docs/diff-algebra.md`, replication.
 */
import { WalbError } from "../errors.ts";
import { mib } from "../units.ts";
import { apply, applyAll } from "./algebra.ts";
import type { DiffSet } from "./diffset.ts";
import { pointsInTime } from "./restore.ts";
import { applicableToGid, latestSnapshot } from "./select.ts";
import { snapshotText } from "./text.ts";
import {
  type ArchiveState,
  type DiffMeta,
  diffMeta,
  isSameSnapshot,
  plainState,
  type Snapshot,
  snapshot,
} from "./types.ts";

/** When diffs are sent: up to a gid, or as soon as more than so many MiB are due; 0 MiB is always. */
export type ReplicationThreshold =
  | { readonly unit: "gid"; readonly gid: bigint }
  | { readonly unit: "size"; readonly sizeMib: number };

/** The next step of a replication. */
export type ReplicationStep =
  | { readonly kind: "none" }
  /** Compare with the image at `state`, which `diffs` make from the base; the result is `diff`. */
  | {
      readonly kind: "hash";
      readonly state: ArchiveState;
      readonly diffs: readonly DiffMeta[];
      readonly diff: DiffMeta;
    }
  /** `diffs` lead from the peer's latest snapshot to ours; send a mergeable prefix of them. */
  | { readonly kind: "diff"; readonly diffs: readonly DiffMeta[] };

/** Where a peer is, and the way from there. */
export interface ReplicationWay {
  readonly set: DiffSet;
  readonly base: ArchiveState;
  readonly peer: Snapshot;
  /** How far the diffs go from the base. */
  readonly latest: Snapshot;
  /** From index `at` on those to apply from the peer on without passing `latest`. */
  readonly chain: readonly DiffMeta[];
  readonly at: number;
  /** They get there. */
  readonly isComplete: boolean;
}

/**
 * The way of a peer. @param before its way when it was asked for last: while nothing but the peer has moved, a chain of
 * thousands is not gone through again for each diff of it.
 */
export function replicationWay(
  set: DiffSet,
  base: ArchiveState,
  peer: Snapshot,
  before?: ReplicationWay,
): ReplicationWay {
  if (before?.set === set && before.base === base) {
    let { at, peer: now } = before;
    while (now.gidB < peer.gidB && at < before.chain.length) now = apply(now, before.chain[at++]!);
    if (isSameSnapshot(now, peer)) return { ...before, peer, at };
  }
  const latest = latestSnapshot(set, base.from);
  const chain = applicableToGid(set, peer, latest.gidB);
  return { set, base, peer, latest, chain, at: 0, isComplete: applyAll(peer, chain).gidB === latest.gidB };
}

/**
 * The next step that brings the peer nearer to this archive. @param countMax most diffs of the step.
 * @throws WalbError `not-restorable` when a hash sync has no clean state to compare with.
 */
export function planReplication(
  way: ReplicationWay,
  threshold: ReplicationThreshold,
  countMax = Number.POSITIVE_INFINITY,
): ReplicationStep {
  const { set, base, peer, latest, chain, at, isComplete } = way;
  if (peer.gidB >= latest.gidB) return { kind: "none" };
  const first = chain[at];
  // Diffs that were merged over the peer's snapshot, or compared, may not fit: comparing always does.
  if (peer.gidB < base.from.gidB || first === undefined || !isComplete) return planHash(set, base, peer);
  const isDue = threshold.unit === "gid" ? threshold.gid > first.from.gidB : isSizeDue(chain, at, threshold.sizeMib);
  return isDue ? { kind: "diff", diffs: chain.slice(at, at + countMax) } : { kind: "none" };
}

function isSizeDue(chain: readonly DiffMeta[], at: number, sizeMib: number): boolean {
  if (sizeMib === 0) return true;
  let totalBytes = 0;
  for (let i = at; i < chain.length; i++) totalBytes += chain[i]!.dataSizeBytes;
  return totalBytes > sizeMib * mib;
}

/** The target must not be before the end of a dirty peer: such a diff could not be stored. */
function planHash(set: DiffSet, base: ArchiveState, peer: Snapshot): ReplicationStep {
  const point = pointsInTime(set, base).find((candidate) => candidate.gid > peer.gidB && candidate.gid >= peer.gidE);
  if (point === undefined) {
    throw new WalbError("not-restorable", {
      what: `the peer is at ${snapshotText(peer)}, and there is no clean state behind it to compare with`,
      hint: "wait until the diffs of the running backup have arrived",
    });
  }
  const to = snapshot(point.gid);
  return {
    kind: "hash",
    state: plainState(to, point.timestampS),
    diffs: applicableToGid(set, base.from, point.gid),
    diff: diffMeta({ from: peer, to, isMergeable: true, isCompared: true, timestampS: point.timestampS }),
  };
}
