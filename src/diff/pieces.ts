/** @module Lists of pieces of records: what overlays are made of. */
import { grown } from "./record-index.ts";

/** Non-overlapping pieces of records, ascending by address; 16 bytes a piece. */
export interface PieceList {
  readonly count: number;
  readonly addressLb: Float64Array;
  readonly blocksLb: Uint32Array;
  /** Number of the record in its `RecordIndex`. */
  readonly record: Uint32Array;
}

/** A list that grows. */
export class PieceBuffer implements PieceList {
  count = 0;
  addressLb: Float64Array;
  blocksLb: Uint32Array;
  record: Uint32Array;

  constructor(capacity: number) {
    this.addressLb = new Float64Array(capacity);
    this.blocksLb = new Uint32Array(capacity);
    this.record = new Uint32Array(capacity);
  }

  push(addressLb: number, blocksLb: number, record: number): void {
    const i = this.count;
    if (i === this.addressLb.length) this.#grow();
    this.addressLb[i] = addressLb;
    this.blocksLb[i] = blocksLb;
    this.record[i] = record;
    this.count = i + 1;
  }

  #grow(): void {
    const size = Math.ceil(this.addressLb.length * 1.5) + 16;
    this.addressLb = new Float64Array(grown(this.addressLb, size));
    this.blocksLb = new Uint32Array(grown(this.blocksLb, size));
    this.record = new Uint32Array(grown(this.record, size));
  }

  /** Room to begin with, so that it grows but seldom; what it held is given up. */
  ensure(capacity: number): void {
    if (this.addressLb.length >= capacity) return;
    this.addressLb = new Float64Array(capacity);
    this.blocksLb = new Uint32Array(capacity);
    this.record = new Uint32Array(capacity);
  }
}
