/**
 * @module An index of disjoint ranges, each owned by something; the newest owner of a sector wins.
 *
 * Two levels (leaves of at most 128 pieces, found by binary search): the cost of an operation grows with the logarithm
 * of the number of pieces for the sizes that the pending budget allows.
 */

interface Piece<T> {
  start: number;
  end: number;
  owner: T;
}

const leafSizeMax = 128;

/** Disjoint half-open ranges of whole numbers, sorted, each with an owner. */
export class IntervalIndex<T> {
  readonly #leaves: Piece<T>[][] = [];
  #size = 0;

  /** Number of pieces. */
  get size(): number {
    return this.#size;
  }

  /** Gives [start, end) to an owner, whatever owned it before. */
  set(start: number, end: number, owner: T): void {
    this.clear(start, end);
    this.#insert({ start, end, owner });
  }

  /** Empties [start, end). */
  clear(start: number, end: number): void {
    while (true) {
      const leafIndex = this.#leafOf(start);
      const leaf = this.#leaves[leafIndex];
      if (leaf === undefined) return;
      const index = firstEndingAfter(leaf, start);
      const piece = leaf[index];
      if (piece === undefined || piece.start >= end) return;
      if (piece.start < start) {
        const { end: pieceEnd, owner } = piece;
        piece.end = start;
        if (pieceEnd > end) {
          this.#insert({ start: end, end: pieceEnd, owner });
          return;
        }
        continue;
      }
      if (piece.end > end) {
        piece.start = end;
        return;
      }
      let last = index + 1;
      while (last < leaf.length && leaf[last]!.end <= end) last += 1;
      this.#splice(leafIndex, index, last - index);
    }
  }

  /** Removes the pieces of one owner inside [start, end). */
  remove(start: number, end: number, owner: T): void {
    let from = start;
    while (from < end) {
      const leafIndex = this.#leafOf(from);
      const leaf = this.#leaves[leafIndex];
      if (leaf === undefined) return;
      const index = firstEndingAfter(leaf, from);
      const piece = leaf[index];
      if (piece === undefined || piece.start >= end) return;
      from = piece.end;
      if (piece.owner === owner) this.#splice(leafIndex, index, 1);
    }
  }

  /** Visits the pieces that meet [start, end), in order, clipped to it. The index must not change meanwhile. */
  visit(start: number, end: number, visitor: (start: number, end: number, owner: T) => void): void {
    let leafIndex = this.#leafOf(start);
    let leaf = this.#leaves[leafIndex];
    if (leaf === undefined) return;
    let index = firstEndingAfter(leaf, start);
    while (true) {
      const piece: Piece<T> | undefined = leaf[index];
      if (piece === undefined || piece.start >= end) return;
      visitor(Math.max(piece.start, start), Math.min(piece.end, end), piece.owner);
      index += 1;
      if (index === leaf.length) {
        leafIndex += 1;
        index = 0;
        const next: Piece<T>[] | undefined = this.#leaves[leafIndex];
        if (next === undefined) return;
        leaf = next;
      }
    }
  }

  #insert(piece: Piece<T>): void {
    this.#size += 1;
    const leafIndex = this.#leafOf(piece.start, true);
    const leaf = this.#leaves[leafIndex];
    if (leaf === undefined) {
      this.#leaves.push([piece]);
      return;
    }
    leaf.splice(firstEndingAfter(leaf, piece.start), 0, piece);
    if (leaf.length > leafSizeMax) this.#leaves.splice(leafIndex + 1, 0, leaf.splice(leafSizeMax >> 1));
  }

  #splice(leafIndex: number, index: number, count: number): void {
    const leaf = this.#leaves[leafIndex]!;
    leaf.splice(index, count);
    this.#size -= count;
    if (leaf.length === 0) this.#leaves.splice(leafIndex, 1);
  }

  /** The leaf with the first piece that ends after `at`; for inserting, the last leaf that starts at or before it. */
  #leafOf(at: number, forInsert = false): number {
    let low = 0;
    let high = this.#leaves.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#leaves[middle]![0]!.start <= at) low = middle + 1;
      else high = middle;
    }
    const leafIndex = Math.max(0, low - 1);
    const leaf = this.#leaves[leafIndex];
    if (!forInsert && leaf !== undefined && leaf.at(-1)!.end <= at) return leafIndex + 1;
    return leafIndex;
  }
}

function firstEndingAfter<T>(leaf: readonly Piece<T>[], at: number): number {
  let low = 0;
  let high = leaf.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (leaf[middle]!.end <= at) low = middle + 1;
    else high = middle;
  }
  return low;
}
