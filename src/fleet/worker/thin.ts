/** @module What an archive must do so that only the kept points of a volume stay. Pure. */
import type { DiffMeta } from "../../snapshot/types.ts";

/** A step of thinning; `reason` is English, for people. */
export type ThinStep =
  | { readonly kind: "apply"; readonly gid: bigint; readonly droppedCount: number; readonly reason: string }
  | {
      readonly kind: "merge";
      readonly fromGid: bigint;
      readonly toGid: bigint;
      /** Snapshots somebody took, to be disabled before. */
      readonly disableGids: readonly bigint[];
      readonly droppedCount: number;
      readonly reason: string;
    };

/** What thinning sees. */
export interface ThinSituation {
  /** Gid of the base image. */
  readonly baseGid: bigint;
  /** Diffs that lead from the base to the newest point, in order. */
  readonly diffs: readonly DiffMeta[];
  readonly keptGids: ReadonlySet<bigint>;
  readonly droppedGids: readonly bigint[];
}

/**
 * Steps in the order in which they are to be done: the base moves to the oldest kept point, then what lies between two
 * kept points becomes one diff. Compared diffs (of hash backups) are never merged; points before one stay.
 */
export function planThinning({ baseGid, diffs, keptGids, droppedGids }: ThinSituation): ThinStep[] {
  const steps: ThinStep[] = [];
  const dropped = new Set(droppedGids);
  const oldestKept = [...keptGids].reduce<bigint | undefined>(
    (least, gid) => (least === undefined || gid < least ? gid : least),
    undefined,
  );
  if (oldestKept === undefined) return steps;
  const before = droppedGids.filter((gid) => gid < oldestKept);
  const isReached = diffs.some(({ to }) => to.gidB === oldestKept && to.gidE === oldestKept);
  if (before.length > 0 && oldestKept > baseGid && isReached) {
    const reason = `${counted(before.length)} before gid ${oldestKept}, the oldest to keep`;
    steps.push({ kind: "apply", gid: oldestKept, droppedCount: before.length, reason });
  }
  for (const run of runsBetween(diffs, keptGids, oldestKept)) {
    const fromGid = run[0]!.from.gidB;
    const toGid = run.at(-1)!.to.gidB;
    const inside = run.slice(1);
    const gone = droppedGids.filter((gid) => fromGid < gid && gid < toGid);
    if (gone.length === 0) continue;
    const disableGids = inside.filter(({ from, isMergeable }) => !isMergeable && dropped.has(from.gidB));
    steps.push({
      kind: "merge",
      fromGid,
      toGid,
      disableGids: disableGids.map(({ from }) => from.gidB),
      droppedCount: gone.length,
      reason: `${counted(gone.length)} between gid ${fromGid} and ${toGid}, which stay`,
    });
  }
  return steps;
}

/** Runs of two or more diffs between kept points that can become one diff. */
function runsBetween(diffs: readonly DiffMeta[], keptGids: ReadonlySet<bigint>, fromGid: bigint): DiffMeta[][] {
  const runs: DiffMeta[][] = [];
  let run: DiffMeta[] = [];
  const end = (): void => {
    if (run.length >= 2) runs.push(run);
    run = [];
  };
  for (const diff of diffs) {
    if (diff.from.gidB < fromGid) continue;
    if (diff.isCompared || keptGids.has(diff.from.gidB)) end();
    if (!diff.isCompared) run.push(diff);
  }
  end();
  return runs;
}

function counted(count: number): string {
  return count === 1 ? "1 point" : `${count} points`;
}
