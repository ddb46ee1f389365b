/**
 * @module The index of wdiff records in memory: one typed array a field, 40 bytes a record.
 *
 * Millions of records are held without an object each; everything that plans (overlay, merge, virtual image) works on
 * these arrays alone and never touches data.
 */
import { WalbError } from "../errors.ts";
import type { RecordColumns } from "../native/columns.ts";

/** Records held at most when nothing else is said: 640 MiB of index. */
export const recordsMaxDefault = 16 * 1024 * 1024;

/** Most records that room is made for before they are there. */
const roomMax = 1024 * 1024;

/** Source numbers are 16 bits. */
export const sourcesMax = 65535;

/** A growable struct of arrays; entries [0, count) are valid. */
export class RecordIndex implements RecordColumns {
  count = 0;
  /** Start on the volume, in LB. */
  addressLb: Float64Array;
  /** Length on the volume, in LB, never 0. */
  blocksLb: Uint32Array;
  /** A `RecordKind`. */
  kind: Uint8Array;
  /** A `Codec`; 0 when there is no data. */
  codec: Uint8Array;
  /** Number of the file the data is in. */
  source: Uint16Array;
  /** Byte offset of the stored image in its file. */
  dataOffset: Float64Array;
  /** Bytes of the stored image; 0 when there is no data. */
  storedBytes: Uint32Array;
  /** Size of the expanded image in LB; 0 when there is no data. */
  imageLb: Uint32Array;
  /** Where this record's data starts in the expanded image, in LB. */
  sliceLb: Uint32Array;
  /** walb checksum of the stored image, salt 0. */
  checksum: Uint32Array;
  readonly #recordsMax: number;

  /** @param capacity records that fit before the arrays grow. @param recordsMax bound of the growth. */
  constructor(capacity = 1024, recordsMax = recordsMaxDefault) {
    this.#recordsMax = recordsMax;
    const size = Math.max(16, Math.min(capacity, recordsMax));
    this.addressLb = new Float64Array(size);
    this.blocksLb = new Uint32Array(size);
    this.kind = new Uint8Array(size);
    this.codec = new Uint8Array(size);
    this.source = new Uint16Array(size);
    this.dataOffset = new Float64Array(size);
    this.storedBytes = new Uint32Array(size);
    this.imageLb = new Uint32Array(size);
    this.sliceLb = new Uint32Array(size);
    this.checksum = new Uint32Array(size);
  }

  /** Makes room for `more` records. @throws WalbError `out-of-range` beyond the bound. */
  reserve(more: number): void {
    const needed = this.count + more;
    if (needed > this.#recordsMax) {
      throw new WalbError("out-of-range", {
        what: `the diffs have more than ${this.#recordsMax} records`,
        where: { field: "records" },
        hint: "merge or apply fewer diffs at a time",
      });
    }
    this.#grow(needed);
  }

  /**
   * Makes room for up to `more` records, as far as the bound allows. @param share how much of the input is in already: the
   * room is made for all of it at once, since growing costs more than the records.
   */
  ensureRoom(more: number, share = 1): void {
    const foreseen = Math.min(roomMax, 8 * this.count, Math.ceil((1.02 * this.count) / Math.max(share, 1e-9)));
    const needed = this.count + more;
    if (needed > this.addressLb.length) this.#grow(Math.min(this.#recordsMax, Math.max(needed, foreseen)));
  }

  #grow(needed: number): void {
    if (needed <= this.addressLb.length) return;
    const size = Math.min(this.#recordsMax, Math.max(needed, Math.ceil(this.addressLb.length * 1.5)));
    this.addressLb = new Float64Array(grown(this.addressLb, size));
    this.blocksLb = new Uint32Array(grown(this.blocksLb, size));
    this.kind = new Uint8Array(grown(this.kind, size));
    this.codec = new Uint8Array(grown(this.codec, size));
    this.source = new Uint16Array(grown(this.source, size));
    this.dataOffset = new Float64Array(grown(this.dataOffset, size));
    this.storedBytes = new Uint32Array(grown(this.storedBytes, size));
    this.imageLb = new Uint32Array(grown(this.imageLb, size));
    this.sliceLb = new Uint32Array(grown(this.sliceLb, size));
    this.checksum = new Uint32Array(grown(this.checksum, size));
  }

  /** Appends one record and returns its number. Fields are trusted: readers check before they push. */
  push(
    addressLb: number,
    blocksLb: number,
    kind: number,
    codec: number,
    source: number,
    dataOffset: number,
    storedBytes: number,
    imageLb: number,
    sliceLb: number,
    checksum: number,
  ): number {
    const i = this.count;
    if (i >= this.addressLb.length) this.reserve(1);
    this.addressLb[i] = addressLb;
    this.blocksLb[i] = blocksLb;
    this.kind[i] = kind;
    this.codec[i] = codec;
    this.source[i] = source;
    this.dataOffset[i] = dataOffset;
    this.storedBytes[i] = storedBytes;
    this.imageLb[i] = imageLb;
    this.sliceLb[i] = sliceLb;
    this.checksum[i] = checksum;
    this.count = i + 1;
    return i;
  }
}

/** The memory of a column, larger. The old one is given up at once, so that no column is there twice for long. */
export function grown(
  { buffer, BYTES_PER_ELEMENT }: Float64Array | Uint32Array | Uint16Array | Uint8Array,
  size: number,
): ArrayBuffer {
  if (!(buffer instanceof ArrayBuffer)) throw new WalbError("internal", { what: "a record index has foreign memory" });
  return buffer.transfer(size * BYTES_PER_ELEMENT);
}
