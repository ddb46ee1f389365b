/**
 * @module A persistent balanced tree of diffs ordered by (from.gidB, from.gidE, to.gidB, to.gidE).
 *
 * Every node knows the diff of its subtree that goes furthest, so "which diff goes furthest from here" costs O(log n)
 * however many overlap, and a stabbing query skips all subtrees that end too early. Changes copy one path: older
 * versions stay valid, so that a plan and the change it leads to may look at different versions.
 */
import { isFurther } from "./algebra.ts";
import type { DiffMeta } from "./types.ts";

/** A diff with its place in the order of addition, which decides between exact ties. */
export interface Entry {
  readonly diff: DiffMeta;
  readonly sequence: number;
}

/** A subtree, never changed once made. Each `furthest…` is over the subtree. */
export interface Node {
  readonly entry: Entry;
  readonly left: Tree;
  readonly right: Tree;
  readonly height: number;
  readonly count: number;
  readonly sizeBytes: number;
  /** Of all diffs. */
  readonly furthest: Entry;
  /** Of the diffs that are not compared. */
  readonly furthestLog: Entry | undefined;
  /** Of the diffs that are mergeable and not compared. */
  readonly furthestMergeable: Entry | undefined;
}

/** A tree; undefined is the empty one. */
export type Tree = Node | undefined;
/** Which diffs a search for the furthest looks at. */
export type FurthestOf = "furthest" | "furthestLog" | "furthestMergeable";

/** Order of the tree. */
export function compareDiffs(a: DiffMeta, b: DiffMeta): number {
  return (
    compareGids(a.from.gidB, b.from.gidB) ||
    compareGids(a.from.gidE, b.from.gidE) ||
    compareGids(a.to.gidB, b.to.gidB) ||
    compareGids(a.to.gidE, b.to.gidE)
  );
}

/** A balanced tree of entries that are sorted by {@link compareDiffs} without duplicates. O(n). */
export function buildTree(entries: readonly Entry[], begin = 0, end = entries.length): Tree {
  if (begin >= end) return undefined;
  const middle = (begin + end) >>> 1;
  return makeNode(entries[middle]!, buildTree(entries, begin, middle), buildTree(entries, middle + 1, end));
}

/** The entry with the same ends as `diff`. O(log n). */
export function findEntry(tree: Tree, diff: DiffMeta): Entry | undefined {
  let node = tree;
  while (node !== undefined) {
    const order = compareDiffs(diff, node.entry.diff);
    if (order === 0) return node.entry;
    node = order < 0 ? node.left : node.right;
  }
  return undefined;
}

/** The tree with `entry`, in place of one with the same ends. O(log n). */
export function putEntry(tree: Tree, entry: Entry): Node {
  if (tree === undefined) return makeNode(entry, undefined, undefined);
  const order = compareDiffs(entry.diff, tree.entry.diff);
  if (order === 0) return makeNode(entry, tree.left, tree.right);
  return order < 0
    ? balance(tree.entry, putEntry(tree.left, entry), tree.right)
    : balance(tree.entry, tree.left, putEntry(tree.right, entry));
}

/** The tree without the entry that has the same ends as `diff`; the same tree when there is none. O(log n). */
export function removeEntry(tree: Tree, diff: DiffMeta): Tree {
  if (tree === undefined) return undefined;
  const order = compareDiffs(diff, tree.entry.diff);
  if (order < 0) {
    const left = removeEntry(tree.left, diff);
    return left === tree.left ? tree : balance(tree.entry, left, tree.right);
  }
  if (order > 0) {
    const right = removeEntry(tree.right, diff);
    return right === tree.right ? tree : balance(tree.entry, tree.left, right);
  }
  if (tree.right === undefined) return tree.left;
  if (tree.left === undefined) return tree.right;
  const next = leftmost(tree.right);
  return balance(next, tree.left, removeEntry(tree.right, next.diff));
}

/** Calls `visit` for each entry with gidLow ≤ from.gidB ≤ gidHigh, in the order of the tree. */
export function visitRange(tree: Tree, gidLow: bigint, gidHigh: bigint, visit: (entry: Entry) => void): void {
  if (tree === undefined) return;
  const gid = tree.entry.diff.from.gidB;
  if (gid >= gidLow) visitRange(tree.left, gidLow, gidHigh, visit);
  if (gid >= gidLow && gid <= gidHigh) visit(tree.entry);
  if (gid <= gidHigh) visitRange(tree.right, gidLow, gidHigh, visit);
}

/** Calls `visit` for each entry with from.gidB ≤ gid < to.gidB, in the order of the tree. */
export function visitCover(tree: Tree, gid: bigint, visit: (entry: Entry) => void): void {
  if (tree === undefined || tree.furthest.diff.to.gidB <= gid) return;
  visitCover(tree.left, gid, visit);
  if (tree.entry.diff.from.gidB > gid) return;
  if (tree.entry.diff.to.gidB > gid) visit(tree.entry);
  visitCover(tree.right, gid, visit);
}

/**
 * The entry that goes furthest among those with gidLow ≤ from.gidB ≤ gidHigh; undefined limits do not limit. Ties are
 * resolved like maxProgress over the order of addition. O(log n).
 */
export function furthestIn(
  tree: Tree,
  of: FurthestOf,
  gidLow: bigint | undefined,
  gidHigh: bigint | undefined,
): Entry | undefined {
  if (tree === undefined) return undefined;
  if (gidLow === undefined && gidHigh === undefined) return tree[of];
  const gid = tree.entry.diff.from.gidB;
  if (gidLow !== undefined && gid < gidLow) return furthestIn(tree.right, of, gidLow, gidHigh);
  if (gidHigh !== undefined && gid > gidHigh) return furthestIn(tree.left, of, gidLow, gidHigh);
  const left = furthestIn(tree.left, of, gidLow, undefined);
  const right = furthestIn(tree.right, of, undefined, gidHigh);
  return further(further(left, isOf(tree.entry, of) ? tree.entry : undefined), right);
}

/** The smallest from.gidB ≥ gid. O(log n). */
export function firstGidFrom(tree: Tree, gid: bigint): bigint | undefined {
  let found: bigint | undefined;
  let node = tree;
  while (node !== undefined) {
    const at = node.entry.diff.from.gidB;
    if (at >= gid) {
      found = at;
      node = node.left;
    } else {
      node = node.right;
    }
  }
  return found;
}

/** The largest from.gidB. O(log n). */
export function lastGid(tree: Tree): bigint | undefined {
  let node = tree;
  while (node?.right !== undefined) node = node.right;
  return node?.entry.diff.from.gidB;
}

function leftmost(tree: Node): Entry {
  let node = tree;
  while (node.left !== undefined) node = node.left;
  return node.entry;
}

function makeNode(entry: Entry, left: Tree, right: Tree): Node {
  const log = entry.diff.isCompared ? undefined : entry;
  return {
    entry,
    left,
    right,
    height: 1 + Math.max(left?.height ?? 0, right?.height ?? 0),
    count: 1 + (left?.count ?? 0) + (right?.count ?? 0),
    sizeBytes: entry.diff.dataSizeBytes + (left?.sizeBytes ?? 0) + (right?.sizeBytes ?? 0),
    furthest: further(further(left?.furthest, entry), right?.furthest) ?? entry,
    furthestLog: further(further(left?.furthestLog, log), right?.furthestLog),
    furthestMergeable: further(
      further(left?.furthestMergeable, isOf(entry, "furthestMergeable") ? entry : undefined),
      right?.furthestMergeable,
    ),
  };
}

/** Makes a node of subtrees whose heights differ by at most 2. */
function balance(entry: Entry, left: Tree, right: Tree): Node {
  const lean = (left?.height ?? 0) - (right?.height ?? 0);
  if (lean > 1 && left !== undefined) {
    const inner = left.right;
    if (inner !== undefined && inner.height > (left.left?.height ?? 0)) {
      return makeNode(inner.entry, makeNode(left.entry, left.left, inner.left), makeNode(entry, inner.right, right));
    }
    return makeNode(left.entry, left.left, makeNode(entry, inner, right));
  }
  if (lean < -1 && right !== undefined) {
    const inner = right.left;
    if (inner !== undefined && inner.height > (right.right?.height ?? 0)) {
      return makeNode(inner.entry, makeNode(entry, left, inner.left), makeNode(right.entry, inner.right, right.right));
    }
    return makeNode(right.entry, makeNode(entry, left, inner), right.right);
  }
  return makeNode(entry, left, right);
}

function isOf(entry: Entry, of: FurthestOf): boolean {
  if (of === "furthest") return true;
  return !entry.diff.isCompared && (of === "furthestLog" || entry.diff.isMergeable);
}

/** The one that goes further; exact ties go to the one added first. */
export function further(a: Entry | undefined, b: Entry | undefined): Entry | undefined {
  if (a === undefined) return b;
  if (b === undefined || isFurther(a.diff, b.diff)) return a;
  if (isFurther(b.diff, a.diff)) return b;
  return a.sequence <= b.sequence ? a : b;
}

function compareGids(a: bigint, b: bigint): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
