/**
 * @module What an archive sends to an archive behind it: nothing, a hash sync, or diffs. Pure.
 *
 * Source: `docs/diff-algebra.md`, replication.
 */
import { WalbError } from "../errors.ts";
import { mib } from "../units.ts";
import { applyAll } from "./algebra.ts";
import type { DiffSet } from "./diffset.ts";
import { pointsInTime } from "./restore.ts";
import { applicableToGid, latestSnapshot } from "./select.ts";
import { snapshotText } from "./text.ts";
import { type ArchiveState, type DiffMeta, diffMeta, plainState, type Snapshot, snapshot } from "./types.ts";

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

/**
 * The next step that brings a peer at `peer` nearer to this archive.
 * @throws WalbError `not-restorable` when a hash sync has no clean state to compare with.
 */
export function planReplication(
  set: DiffSet,
  base: ArchiveState,
  peer: Snapshot,
  threshold: ReplicationThreshold,
): ReplicationStep {
  const latest = latestSnapshot(set, base.from);
  if (peer.gidB >= latest.gidB) return { kind: "none" };
  if (peer.gidB < base.from.gidB) return planHash(set, base, peer);
  const diffs = applicableToGid(set, peer, latest.gidB);
  const [first] = diffs;
  // Diffs that were merged over the peer's snapshot, or compared, may not fit: comparing always does.
  if (first === undefined || applyAll(peer, diffs).gidB !== latest.gidB) return planHash(set, base, peer);
  const isDue = threshold.unit === "gid" ? threshold.gid > first.from.gidB : isSizeDue(diffs, threshold.sizeMib);
  return isDue ? { kind: "diff", diffs } : { kind: "none" };
}

function isSizeDue(diffs: readonly DiffMeta[], sizeMib: number): boolean {
  return sizeMib === 0 || diffs.reduce((total, diff) => total + diff.dataSizeBytes, 0) > sizeMib * mib;
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
