/**
 * @module An immutable set of diffs, unique by their ends, that answers "which diff goes furthest from here" at once.
 *
 * Changes give a new set and leave the old one as it was, so a decision can be made on a version that nobody changes.
 * Order is by from.gidB, then order of addition. Source: `docs/diff-algebra.md`, diff manager.
 */
import { WalbError } from "../errors.ts";
import { diffText } from "./text.ts";
import {
  buildTree,
  compareDiffs,
  type Entry,
  findEntry,
  firstGidFrom,
  further,
  furthestIn,
  lastGid,
  putEntry,
  removeEntry,
  type Tree,
  visitCover,
  visitRange,
} from "./tree.ts";
import { checkDiffMeta, type DiffMeta, gidMax, type Snapshot } from "./types.ts";

/** The diffs that {@link DiffSet.withSnapshot} changed: names of files to change. */
export interface SnapshotChange {
  readonly before: DiffMeta;
  readonly after: DiffMeta;
}

/** An immutable set of diffs; all changing methods return the new set. */
export class DiffSet implements Iterable<DiffMeta> {
  /** The set without diffs. */
  static readonly empty = new DiffSet(undefined, 0);

  readonly #tree: Tree;
  readonly #nextSequence: number;

  private constructor(tree: Tree, nextSequence: number) {
    this.#tree = tree;
    this.#nextSequence = nextSequence;
  }

  /**
   * A set of diffs, added in this order; O(n log n).
   * @throws WalbError `already-exists` for two with equal ends, `bad-format` for one that breaks a constraint.
   */
  static from(diffs: Iterable<DiffMeta>): DiffSet {
    return DiffSet.empty.addAll(diffs);
  }

  /** How many diffs. */
  get count(): number {
    return this.#tree?.count ?? 0;
  }

  /** Sum of their sizes. */
  get sizeBytes(): number {
    return this.#tree?.sizeBytes ?? 0;
  }

  /** Smallest from.gidB; 0 when empty. */
  get gidMin(): bigint {
    return firstGidFrom(this.#tree, 0n) ?? 0n;
  }

  /** Largest to.gidB; 0 when empty. */
  get gidMax(): bigint {
    return this.#tree?.furthest.diff.to.gidB ?? 0n;
  }

  /** The set with one more diff. @throws WalbError `already-exists`, whatever flags the other has, or `bad-format`. */
  add(diff: DiffMeta): DiffSet {
    checkDiffMeta(diff);
    if (findEntry(this.#tree, diff) !== undefined) throw duplicate(diff);
    return new DiffSet(putEntry(this.#tree, { diff, sequence: this.#nextSequence }), this.#nextSequence + 1);
  }

  /** The set with more diffs, added in order. @throws like {@link add}; then nothing is added. */
  addAll(diffs: Iterable<DiffMeta>): DiffSet {
    let sequence = this.#nextSequence;
    const added: Entry[] = [];
    for (const diff of diffs) added.push({ diff: checkDiffMeta(diff), sequence: sequence++ });
    const merged = [...this.#entries(0n, gidMax), ...added].sort((a, b) => compareDiffs(a.diff, b.diff));
    for (let at = 1; at < merged.length; at++) {
      if (compareDiffs(merged[at - 1]!.diff, merged[at]!.diff) === 0) throw duplicate(merged[at]!.diff);
    }
    return new DiffSet(buildTree(merged), sequence);
  }

  /** The set without a diff; the same set when it is not there. */
  erase(diff: DiffMeta): DiffSet {
    const tree = removeEntry(this.#tree, diff);
    return tree === this.#tree ? this : new DiffSet(tree, this.#nextSequence);
  }

  /** The set without many diffs; those that are not there are passed over. */
  eraseAll(diffs: readonly DiffMeta[]): DiffSet {
    let tree = this.#tree;
    for (const diff of diffs) tree = removeEntry(tree, diff);
    return tree === this.#tree ? this : new DiffSet(tree, this.#nextSequence);
  }

  /** The stored diff with the same ends, with its own flags, time and size. */
  get(diff: DiffMeta): DiffMeta | undefined {
    return findEntry(this.#tree, diff)?.diff;
  }

  /** Whether a diff with the same ends is there. */
  has(diff: DiffMeta): boolean {
    return findEntry(this.#tree, diff) !== undefined;
  }

  /** Diffs with gidLow ≤ from.gidB < gidHigh, in order. @throws WalbError `bad-parameter` unless gidLow < gidHigh. */
  getAll(gidLow = 0n, gidHigh = gidMax): DiffMeta[] {
    if (gidLow >= gidHigh) {
      throw new WalbError("bad-parameter", {
        what: `the gid range from ${gidLow} to ${gidHigh} is empty`,
        where: { field: "gid" },
        hint: "give a first gid smaller than the last",
      });
    }
    return this.#entries(gidLow, gidHigh - 1n)
      .sort(compareOrder)
      .map((entry) => entry.diff);
  }

  /** All diffs in order. */
  [Symbol.iterator](): Iterator<DiffMeta> {
    return this.getAll()[Symbol.iterator]();
  }

  /** The last diff in order: of those that start last, the one added last. It need not end last. */
  get last(): DiffMeta | undefined {
    const gid = lastGid(this.#tree);
    return gid === undefined ? undefined : this.#entries(gid, gid).sort(compareOrder).at(-1)?.diff;
  }

  /** All diffs with from.gidB ≤ gid < to.gidB, in order of addition. */
  cover(gid: bigint): DiffMeta[] {
    const found: Entry[] = [];
    visitCover(this.#tree, gid, (entry) => found.push(entry));
    return found.sort((a, b) => a.sequence - b.sequence).map((entry) => entry.diff);
  }

  /** Of the diffs that may be applied to `at`, the one that goes furthest. O(log n). */
  applicable(at: Snapshot): DiffMeta | undefined {
    const log = furthestIn(this.#tree, "furthestLog", undefined, at.gidB);
    // A compared diff counts only at its exact start, where all diffs are applicable.
    const exact = furthestIn(this.#tree, "furthest", at.gidB, at.gidB);
    return further(log !== undefined && log.diff.to.gidB > at.gidB ? log : undefined, exact)?.diff;
  }

  /** Of the diffs with the smallest from.gidB ≥ gid, the one that goes furthest: where a merge begins. O(log n). */
  firstFrom(gid: bigint): DiffMeta | undefined {
    const first = firstGidFrom(this.#tree, gid);
    return first === undefined ? undefined : furthestIn(this.#tree, "furthest", first, first)?.diff;
  }

  /** Of the diffs that may be merged behind `merged`, the one that goes furthest. O(log n). */
  mergeable(merged: DiffMeta): DiffMeta | undefined {
    if (merged.isCompared) return undefined;
    const found = furthestIn(this.#tree, "furthestMergeable", merged.from.gidB, merged.to.gidB)?.diff;
    return found !== undefined && found.to.gidB > merged.to.gidB ? found : undefined;
  }

  /**
   * Makes the snapshot `gid` explicit or implicit: the mergeable flag of all diffs that start there. The latest
   * snapshot cannot be changed, since no diff starts at it.
   * @returns undefined when no diff starts at `gid`; else the new set and the diffs whose flag changed.
   */
  withSnapshot(
    gid: bigint,
    isExplicit: boolean,
  ): { readonly set: DiffSet; readonly changes: readonly SnapshotChange[] } | undefined {
    const entries = this.#entries(gid, gid).sort(compareOrder);
    if (entries.length === 0) return undefined;
    let tree = this.#tree;
    const changes: SnapshotChange[] = [];
    for (const { diff, sequence } of entries) {
      if (diff.isMergeable !== isExplicit) continue;
      const after = { ...diff, isMergeable: !isExplicit };
      tree = putEntry(tree, { diff: after, sequence });
      changes.push({ before: diff, after });
    }
    return { set: changes.length === 0 ? this : new DiffSet(tree, this.#nextSequence), changes };
  }

  #entries(gidLow: bigint, gidHigh: bigint): Entry[] {
    const found: Entry[] = [];
    visitRange(this.#tree, gidLow, gidHigh, (entry) => found.push(entry));
    return found;
  }
}

function compareOrder(a: Entry, b: Entry): number {
  const gidA = a.diff.from.gidB;
  const gidB = b.diff.from.gidB;
  return gidA < gidB ? -1 : gidA > gidB ? 1 : a.sequence - b.sequence;
}

function duplicate(diff: DiffMeta): WalbError {
  return new WalbError("already-exists", {
    what: `there is already a diff ${diffText(diff)}`,
    where: { field: "diff" },
    hint: "two files with the same gids cannot both be kept: move the older one away",
  });
}
