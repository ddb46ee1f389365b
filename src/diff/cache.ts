/** @module Expanded images kept for the next small read of a virtual image. */
import { lbBytes, mib } from "../units.ts";
import { sameImage } from "./images.ts";
import type { RecordIndex } from "./record-index.ts";

const cacheBytesMax = 8 * mib;
/** Larger images are read with larger reads, or not often. */
const imageBytesMax = mib;

/** A bounded cache, the longest unused goes first. Small reads would else expand the same image again and again. */
export class ImageCache {
  readonly #records: RecordIndex;
  readonly #entries = new Map<string, { readonly record: number; readonly bytes: Uint8Array }>();
  #bytes = 0;

  constructor(records: RecordIndex) {
    this.#records = records;
  }

  /** The expanded image of a record, when it is here. */
  get(record: number): Uint8Array | undefined {
    if (this.#entries.size === 0 || this.#records.storedBytes[record] === 0) return undefined;
    const key = this.#keyOf(record);
    const entry = this.#entries.get(key);
    if (entry === undefined || !sameImage(this.#records, entry.record, record)) return undefined;
    this.#entries.delete(key);
    this.#entries.set(key, entry);
    return entry.bytes;
  }

  /** Keeps a copy of an expanded image, when a read of `readBytes` leaves more of it for later. */
  offer(record: number, expanded: Uint8Array, readBytes: number): void {
    const sizeBytes = this.#records.imageLb[record]! * lbBytes;
    const key = this.#keyOf(record);
    if (sizeBytes > imageBytesMax || sizeBytes <= readBytes || this.#entries.has(key)) return;
    this.#entries.set(key, { record, bytes: expanded.slice() });
    this.#bytes += sizeBytes;
    for (const [oldKey, { bytes }] of this.#entries) {
      if (this.#bytes <= cacheBytesMax) break;
      this.#entries.delete(oldKey);
      this.#bytes -= bytes.length;
    }
  }

  #keyOf(record: number): string {
    return `${this.#records.source[record]}:${this.#records.dataOffset[record]}`;
  }
}
