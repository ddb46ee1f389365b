/**
 * @module Overlay by a sweep over the addresses: at every address the newest of the records that hold it wins. For records
 * in no order at all, where merging runs would be a sort with many passes.
 */
import { PieceBuffer, type PieceList } from "./pieces.ts";
import type { RecordIndex } from "./record-index.ts";

/** The overlay of all records. */
export function sweepRecords(records: RecordIndex): PieceList {
  const { addressLb, blocksLb, count } = records;
  const order = orderByAddress(addressLb, count);
  const pieces = new PieceBuffer(count);
  const active = new NewestFirst();
  let next = 0;
  let atLb = 0;
  // What is being laid down: extended as long as nothing newer begins.
  let startLb = 0;
  let laid = -1;
  const end = (): void => {
    if (laid >= 0) pieces.push(startLb, atLb - startLb, laid);
    laid = -1;
  };
  for (;;) {
    const nextLb = next < count ? addressLb[order[next]!]! : Number.POSITIVE_INFINITY;
    while (active.size > 0 && atLb < nextLb) {
      const record = active.newest;
      const recordEndLb = addressLb[record]! + blocksLb[record]!;
      if (recordEndLb <= atLb) {
        active.pop();
        continue;
      }
      if (record !== laid) {
        end();
        laid = record;
        startLb = atLb;
      }
      atLb = recordEndLb < nextLb ? recordEndLb : nextLb;
    }
    if (next >= count) break;
    if (atLb < nextLb) {
      end();
      atLb = nextLb;
    }
    while (next < count && addressLb[order[next]!]! === nextLb) active.push(order[next++]!);
  }
  end();
  return pieces;
}

const digitBits = 11;
const digits = 1 << digitBits;

/** Record numbers by ascending address. */
function orderByAddress(addressLb: Float64Array, count: number): Uint32Array {
  let maxLb = 0;
  for (let i = 0; i < count; i++) if (addressLb[i]! > maxLb) maxLb = addressLb[i]!;
  let order = new Uint32Array(count);
  let into = new Uint32Array(count);
  for (let i = 0; i < count; i++) order[i] = i;
  const starts = new Uint32Array(digits);
  for (let unit = 1; unit <= maxLb; unit *= digits) {
    starts.fill(0);
    for (let i = 0; i < count; i++) starts[Math.floor(addressLb[i]! / unit) % digits]!++;
    for (let digit = 0, sum = 0; digit < digits; digit++) {
      const size = starts[digit]!;
      starts[digit] = sum;
      sum += size;
    }
    for (let i = 0; i < count; i++) {
      const record = order[i]!;
      const digit = Math.floor(addressLb[record]! / unit) % digits;
      into[starts[digit]!++] = record;
    }
    [order, into] = [into, order];
  }
  return order;
}

/** Numbers, the largest first: a binary heap. */
class NewestFirst {
  readonly #heap: number[] = [];

  get size(): number {
    return this.#heap.length;
  }

  /** Only when there is one. */
  get newest(): number {
    return this.#heap[0]!;
  }

  push(record: number): void {
    const heap = this.#heap;
    let at = heap.length;
    heap.push(record);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (heap[parent]! >= record) break;
      heap[at] = heap[parent]!;
      at = parent;
    }
    heap[at] = record;
  }

  pop(): void {
    const heap = this.#heap;
    const last = heap.pop()!;
    const size = heap.length;
    if (size === 0) return;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= size) break;
      if (child + 1 < size && heap[child + 1]! > heap[child]!) child++;
      if (heap[child]! <= last) break;
      heap[at] = heap[child]!;
      at = child;
    }
    heap[at] = last;
  }
}
