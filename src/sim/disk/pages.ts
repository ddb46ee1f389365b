/** @module Sparse contents of a file: 4 KiB pages that are shared until written. */

export const pageBytes = 4096;

/** A sparse array of bytes. Pages that are not there read as zeroes. Pages are shared by {@link Pages.share}. */
export class Pages {
  private pages = new Map<number, Uint8Array>();
  /** Pages nobody else refers to, which may be written in place. */
  private owned = new Set<number>();
  private sorted: number[] | undefined;

  get count(): number {
    return this.pages.size;
  }

  /** A copy that shares all pages; either side copies a page when it writes to it. */
  share(): Pages {
    const copy = new Pages();
    copy.pages = new Map(this.pages);
    this.owned.clear();
    return copy;
  }

  /** Takes the given pages over from another, shared. */
  adopt(from: Pages, indexes: Iterable<number>): void {
    for (const index of indexes) {
      const page = from.pages.get(index);
      from.owned.delete(index);
      this.owned.delete(index);
      if (page === undefined) this.delete(index);
      else this.put(index, page);
    }
  }

  read(offsetBytes: number, target: Uint8Array): void {
    forEachPage(offsetBytes, target.length, (index, start, sizeBytes, done) => {
      const page = this.pages.get(index);
      if (page === undefined) target.fill(0, done, done + sizeBytes);
      else target.set(page.subarray(start, start + sizeBytes), done);
    });
  }

  write(offsetBytes: number, source: Uint8Array): void {
    forEachPage(offsetBytes, source.length, (index, start, sizeBytes, done) => {
      this.writable(index).set(source.subarray(done, done + sizeBytes), start);
    });
  }

  /** Makes a range zero: whole pages go, parts of pages are overwritten. Costs no more than the pages that exist. */
  zero(offsetBytes: number, sizeBytes: number): void {
    const end = offsetBytes + sizeBytes;
    for (const index of this.indexesIn(offsetBytes, end)) {
      const start = index * pageBytes;
      if (offsetBytes <= start && end >= start + pageBytes) this.delete(index);
      else this.writable(index).fill(0, Math.max(0, offsetBytes - start), Math.min(pageBytes, end - start));
    }
  }

  /** Indexes of existing pages that touch [startBytes, endBytes), ascending. */
  indexesIn(startBytes: number, endBytes: number): number[] {
    if (endBytes <= startBytes) return [];
    const first = Math.floor(startBytes / pageBytes);
    const last = Math.floor((endBytes - 1) / pageBytes);
    const found: number[] = [];
    if (last - first < 64 || last - first < this.pages.size) {
      for (let index = first; index <= last; index++) if (this.pages.has(index)) found.push(index);
      return found;
    }
    const order = this.order();
    for (let at = lowerBound(order, first); at < order.length && order[at]! <= last; at++) found.push(order[at]!);
    return found;
  }

  /** First run of existing pages that ends after `offsetBytes`. */
  nextRun(offsetBytes: number): { startBytes: number; endBytes: number } | undefined {
    const order = this.order();
    let at = lowerBound(order, Math.floor(offsetBytes / pageBytes));
    const first = order[at];
    if (first === undefined) return undefined;
    while (at + 1 < order.length && order[at + 1] === order[at]! + 1) at++;
    return { startBytes: Math.max(offsetBytes, first * pageBytes), endBytes: (order[at]! + 1) * pageBytes };
  }

  private order(): number[] {
    this.sorted ??= [...this.pages.keys()].sort((a, b) => a - b);
    return this.sorted;
  }

  private put(index: number, page: Uint8Array): void {
    if (!this.pages.has(index)) this.sorted = undefined;
    this.pages.set(index, page);
  }

  private delete(index: number): void {
    if (this.pages.delete(index)) this.sorted = undefined;
    this.owned.delete(index);
  }

  private writable(index: number): Uint8Array {
    const page = this.pages.get(index);
    if (page !== undefined && this.owned.has(index)) return page;
    const copy = page === undefined ? new Uint8Array(pageBytes) : page.slice();
    this.put(index, copy);
    this.owned.add(index);
    return copy;
  }
}

/** Calls back for each page a range touches: page, start in the page, bytes of it, bytes done before. */
function forEachPage(
  offsetBytes: number,
  sizeBytes: number,
  visit: (index: number, start: number, sizeBytes: number, done: number) => void,
): void {
  let done = 0;
  while (done < sizeBytes) {
    const at = offsetBytes + done;
    const start = at % pageBytes;
    const part = Math.min(pageBytes - start, sizeBytes - done);
    visit(Math.floor(at / pageBytes), start, part, done);
    done += part;
  }
}

function lowerBound(values: readonly number[], wanted: number): number {
  let low = 0;
  let high = values.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (values[middle]! < wanted) low = middle + 1;
    else high = middle;
  }
  return low;
}
