/**
 * @module A brute-force model of the diff manager, written line by line from `docs/diff-algebra.md`: arrays, no trees,
 * no sharing with the code under test.
 */
import type { ArchiveState, DiffMeta, Snapshot } from "../../src/snapshot/types.ts";

const max = (a: bigint, b: bigint): bigint => (a > b ? a : b);
const isCleanSnapshot = (p: Snapshot): boolean => p.gidB === p.gidE;
const isClean = (x: DiffMeta): boolean => isCleanSnapshot(x.from) && isCleanSnapshot(x.to);
const isSame = (a: DiffMeta, b: DiffMeta): boolean =>
  a.from.gidB === b.from.gidB && a.from.gidE === b.from.gidE && a.to.gidB === b.to.gidB && a.to.gidE === b.to.gidE;

export function canApply(p: Snapshot, x: DiffMeta): boolean {
  if (x.isCompared) return p.gidB === x.from.gidB;
  return x.from.gidB <= p.gidB && p.gidB < x.to.gidB;
}

export function apply(p: Snapshot, x: DiffMeta): Snapshot {
  return isClean(x) ? { gidB: x.to.gidB, gidE: max(x.to.gidB, p.gidE) } : x.to;
}

export function canMerge(a: DiffMeta, b: DiffMeta): boolean {
  if (!b.isMergeable || a.isCompared || b.isCompared) return false;
  return a.from.gidB <= b.from.gidB && b.from.gidB <= a.to.gidB && a.to.gidB < b.to.gidB;
}

export function merge(a: DiffMeta, b: DiffMeta): DiffMeta {
  const to = isClean(b) ? { gidB: b.to.gidB, gidE: max(b.to.gidB, a.to.gidE) } : b.to;
  return {
    from: a.from,
    to,
    isMergeable: a.isMergeable,
    isCompared: false,
    timestampS: b.timestampS,
    dataSizeBytes: 0,
  };
}

export function maxProgress(list: readonly DiffMeta[]): DiffMeta | undefined {
  const end = list.map((x) => x.to.gidB).reduce(max, 0n);
  const furthest = list.filter((x) => x.to.gidB === end);
  const start = furthest.map((x) => x.from.gidB).reduce(max, 0n);
  return furthest.find((x) => x.from.gidB === start);
}

/** One step of the listing of restorable snapshots. */
export interface Listed {
  readonly gid: bigint;
  readonly timestampS: number;
  readonly isExplicit: boolean;
}

export class NaiveDiffs {
  /** In order of addition. */
  readonly diffs: DiffMeta[] = [];

  constructor(diffs: readonly DiffMeta[] = []) {
    for (const diff of diffs) this.add(diff);
  }

  add(diff: DiffMeta): void {
    if (this.diffs.some((x) => isSame(x, diff))) throw new Error("already exists");
    this.diffs.push(diff);
  }

  erase(diff: DiffMeta): void {
    const at = this.diffs.findIndex((x) => isSame(x, diff));
    if (at >= 0) this.diffs.splice(at, 1);
  }

  getAll(g0: bigint, g1: bigint): DiffMeta[] {
    // Array.sort is stable: order of addition among equal starts.
    const sorted = [...this.diffs].sort((a, b) => Number(a.from.gidB - b.from.gidB));
    return sorted.filter((x) => g0 <= x.from.gidB && x.from.gidB < g1);
  }

  cover(g: bigint): DiffMeta[] {
    return this.diffs.filter((x) => x.from.gidB <= g && g < x.to.gidB);
  }

  applicable(p: Snapshot): DiffMeta | undefined {
    return maxProgress(this.cover(p.gidB).filter((x) => canApply(p, x)));
  }

  applicableList(p: Snapshot, pred: (x: DiffMeta, after: Snapshot) => boolean = () => true): DiffMeta[] {
    const list: DiffMeta[] = [];
    let now = p;
    for (let x = this.applicable(now); x !== undefined; x = this.applicable(now)) {
      const after = apply(now, x);
      if (!pred(x, after)) break;
      list.push(x);
      now = after;
    }
    return list;
  }

  byGid(p: Snapshot, g: bigint): DiffMeta[] {
    return this.applicableList(p, (_, after) => after.gidB <= g);
  }

  byTime(p: Snapshot, timestampS: number): DiffMeta[] {
    return this.applicableList(p, (x) => x.timestampS <= timestampS);
  }

  minimum(state: ArchiveState): DiffMeta[] {
    return state.to === undefined ? [] : this.byGid(state.from, state.to.gidB);
  }

  mergeableList(g: bigint, pred: (x: DiffMeta) => boolean = () => true): DiffMeta[] {
    const later = this.diffs.filter((x) => x.from.gidB >= g);
    if (later.length === 0) return [];
    const first = later.map((x) => x.from.gidB).reduce((a, b) => (a < b ? a : b));
    let acc = maxProgress(later.filter((x) => x.from.gidB === first))!;
    const list = [acc];
    for (;;) {
      const before = acc;
      const next = maxProgress(this.cover(acc.to.gidB).filter((x) => !isSame(x, before) && canMerge(before, x)));
      if (next === undefined || !pred(next)) return list;
      acc = merge(acc, next);
      list.push(next);
    }
  }

  applicableAndMergeable(p: Snapshot): DiffMeta[] {
    const all = this.applicableList(p);
    for (let length = all.length; length > 0; length--) {
      let acc = all[0]!;
      const isMergeable = all.slice(1, length).every((x) => {
        const can = canMerge(acc, x);
        acc = merge(acc, x);
        return can;
      });
      if (isMergeable) return all.slice(0, length);
    }
    return [];
  }

  gc(p: Snapshot): DiffMeta[] {
    const kept = this.applicableList(p);
    return this.getAll(0n, 1n << 64n).filter((x) => !kept.some((y) => isSame(x, y)));
  }

  gcRange(gB: bigint, gE: bigint): DiffMeta[] {
    return this.getAll(0n, 1n << 64n).filter(
      (x) => gB <= x.from.gidB && x.from.gidB < gE && x.to.gidB <= gE && !(x.from.gidB === gB && x.to.gidB === gE),
    );
  }

  eraseBefore(g: bigint): DiffMeta[] {
    return this.getAll(0n, 1n << 64n).filter((x) => x.to.gidB <= g);
  }

  /** Whether an interrupted apply ends exactly where it should when its minimum list is applied. */
  isSound(state: ArchiveState): boolean {
    if (state.to === undefined) return true;
    return this.minimum(state).reduce(apply, state.from).gidB === state.to.gidB;
  }

  restorable(state: ArchiveState, all: boolean): Listed[] {
    const list = this.applicableList(state.from);
    const m = this.minimum(state);
    const out: Listed[] = [];
    let q = m.reduce(apply, state.from);
    let timestampS = m.at(-1)?.timestampS ?? state.timestampS;
    if (isCleanSnapshot(q)) out.push({ gid: q.gidB, timestampS, isExplicit: false });
    for (let i = m.length; i < list.length; i++) {
      q = apply(q, list[i]!);
      timestampS = list[i]!.timestampS;
      const isExplicit = i === list.length - 1 || !list[i + 1]!.isMergeable;
      if (isCleanSnapshot(q) && (all || isExplicit)) out.push({ gid: q.gidB, timestampS, isExplicit });
    }
    return out;
  }

  /** Undefined: the original fails. */
  materialize(state: ArchiveState, g: bigint, mustBeClean: boolean): DiffMeta[] | undefined {
    const list = this.byGid(state.from, g);
    if (this.minimum(state).length > list.length) return undefined;
    const q = list.reduce(apply, state.from);
    if (q.gidB !== g || (mustBeClean && !isCleanSnapshot(q))) return undefined;
    return list;
  }

  applyDiffs(state: ArchiveState, g: bigint, countMax: number): DiffMeta[] {
    const m = this.minimum(state);
    const list = this.byGid(state.from, g);
    const result = countMax > 0 ? list.slice(0, countMax) : list;
    return m.length > result.length ? m : result;
  }
}
