/** @module Short notations for snapshots, diffs and states in tests, and random ones. */
import fc from "fast-check";
import {
  type ArchiveState,
  applyingState,
  type DiffMeta,
  diffMeta,
  plainState,
  type Snapshot,
  snapshot,
} from "../../src/snapshot/types.ts";

/** A gid, or the two gids of a dirty snapshot. */
export type Gids = number | readonly [number, number];

/** `s(5)` is |5|, `s([5, 9])` is |5,9|. */
export function s(gids: Gids): Snapshot {
  return typeof gids === "number" ? snapshot(BigInt(gids)) : snapshot(BigInt(gids[0]), BigInt(gids[1]));
}

/** A diff; flags like in file names, "M-" when left out. */
export function d(from: Gids, to: Gids, flags = "M-", timestampS = 0, dataSizeBytes = 0): DiffMeta {
  return diffMeta({
    from: s(from),
    to: s(to),
    isMergeable: flags[0] === "M",
    isCompared: flags[1] === "C",
    timestampS,
    dataSizeBytes,
  });
}

/** A state: `st(0)` is <|0|>, `st([0, 10], 25)` is <|0,10|-->|25|>. */
export function st(from: Gids, to?: Gids, timestampS = 10): ArchiveState {
  return to === undefined ? plainState(s(from), timestampS) : applyingState(s(from), s(to), timestampS);
}

/** `0-2` for clean ends, `5,10-15,20` for dirty ones. */
export function name(diff: DiffMeta): string {
  return `${gidsName(diff.from)}-${gidsName(diff.to)}`;
}

/** Names of all diffs. */
export function names(diffs: Iterable<DiffMeta>): string[] {
  return [...diffs].map(name);
}

function gidsName(snap: Snapshot): string {
  return snap.gidB === snap.gidE ? `${snap.gidB}` : `${snap.gidB},${snap.gidE}`;
}

/** Any well-typed diff over few gids: dirty ones need not come from a real history. */
export function arbitraryDiff(gidMax = 12): fc.Arbitrary<DiffMeta> {
  return fc
    .record({
      fromB: fc.integer({ min: 0, max: gidMax - 1 }),
      length: fc.integer({ min: 1, max: 6 }),
      fromDirt: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 4 })),
      toDirt: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 4 })),
      isMergeable: fc.boolean(),
      isCompared: fc.oneof(fc.constant(false), fc.constant(false), fc.boolean()),
      timestampS: fc.integer({ min: 0, max: 30 }),
      dataSizeBytes: fc.integer({ min: 0, max: 9 }),
    })
    .map((parts) => {
      const toB = parts.fromB + parts.length;
      const fromE = parts.fromB + parts.fromDirt;
      return diffMeta({
        from: s([parts.fromB, fromE]),
        to: s([toB, Math.max(toB, fromE) + parts.toDirt]),
        isMergeable: parts.isMergeable,
        isCompared: parts.isCompared,
        timestampS: parts.timestampS,
        dataSizeBytes: parts.dataSizeBytes,
      });
    });
}

/** A list of diffs with different ends, in random order. */
export function arbitraryDiffs(gidMax = 12, maxLength = 14): fc.Arbitrary<DiffMeta[]> {
  return fc.uniqueArray(arbitraryDiff(gidMax), { maxLength, selector: name });
}

/** A plain or applying state over the same gids. */
export function arbitraryState(gidMax = 12): fc.Arbitrary<ArchiveState> {
  return fc
    .tuple(
      fc.integer({ min: 0, max: gidMax }),
      fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 4 })),
      fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 8 })),
    )
    .map(([gid, dirt, step]) =>
      step === 0 ? st([gid, gid + dirt]) : st([gid, gid + dirt], [gid + step, gid + step + dirt]),
    );
}
