/**
 * @module The original's queue file: a double-ended queue of small records in one file, byte for byte.
 *
 * Two copies of a header, then the records in an area that grows to both sides, an end stub behind the last one, zeroes
 * up to a page. Every operation leaves the bytes that the original would leave. Source: `docs/formats.md`, queue file.
 * Everything read is checked: bounds, checksums, and that both directions of the links agree.
 */
import { WalbError } from "../errors.ts";
import { isSealed, sealBlock, walbChecksum } from "../log/checksum.ts";
import { alignUp } from "../units.ts";
import { badFile } from "./files.ts";

const preamble = 0x119d_83a7;
const headerBytes = 28;
const areaBytes = 2 * headerBytes;
const recordHeaderBytes = 16;
const pageBytes = 4096;
/** Larger files are refused: a queue has 26 to 44 bytes a record, of which an honest one has thousands. */
export const queueFileBytesMax = 64 * 1024 * 1024;
/** Largest data of one record. */
const queueRecordBytesMax = 65536;

/** A queue file in memory. Front and back are the original's words: it keeps the newest in front. */
export class QueueFile {
  #bytes: Uint8Array;
  #view: DataView;
  readonly #salt: number;
  /** Offset in the area of the front record. */
  #begin: number;
  /** Offset in the area of the end stub. */
  #end: number;
  #count: number;

  private constructor(bytes: Uint8Array, salt: number, begin: number, end: number, count: number) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#salt = salt;
    this.#begin = begin;
    this.#end = end;
    this.#count = count;
  }

  /** An empty queue. @param salt of the records' checksums, any u32: random for a new file. */
  static create(salt: number): QueueFile {
    const queue = new QueueFile(new Uint8Array(pageBytes), salt >>> 0, 0, 0, 0);
    queue.#putStub(0);
    queue.#seal();
    return queue;
  }

  /**
   * Opens the bytes of a queue file; they are copied. The first header counts, or the second when the first is damaged.
   * @throws WalbError `bad-format` naming file, offset and field.
   */
  static decode(from: Uint8Array, file: string): QueueFile {
    if (
      from.length > queueFileBytesMax ||
      from.length < areaBytes + recordHeaderBytes ||
      from.length % pageBytes !== 0
    ) {
      throw badFile(file, "file size", `is ${from.length}, which no queue file has`);
    }
    const bytes = from.slice();
    const view = new DataView(bytes.buffer);
    const copy = [0, headerBytes].find(
      (at) => view.getUint32(at, true) === preamble && isSealed(bytes.subarray(at, at + headerBytes), 0),
    );
    if (copy === undefined) throw badFile(file, "header", "is damaged in both copies", 0);
    const endMax = bytes.length - areaBytes - recordHeaderBytes;
    const begin = offsetField(view, copy + 12, endMax, file, "beginOffset");
    const end = offsetField(view, copy + 20, endMax, file, "endOffset");
    if (begin > end) throw badFile(file, "beginOffset", `is ${begin}, above endOffset ${end}`, copy + 12);
    const salt = view.getUint32(copy + 8, true);
    const count = checkRecords(bytes, view, salt, begin, end, file);
    return new QueueFile(bytes, salt, begin, end, count);
  }

  /** Records in the queue. */
  get count(): number {
    return this.#count;
  }

  get salt(): number {
    return this.#salt;
  }

  /** The whole file as it is to be written, a copy. */
  bytes(): Uint8Array {
    return this.#bytes.slice();
  }

  /** Data of all records from the front to the back, copies. */
  records(): Uint8Array[] {
    const all: Uint8Array[] = [];
    for (let at = this.#begin; at < this.#end; at += recordHeaderBytes + this.#sizeAt(at)) all.push(this.#dataAt(at));
    return all;
  }

  /** Data of the front record, a copy; undefined when empty. */
  front(): Uint8Array | undefined {
    return this.#begin === this.#end ? undefined : this.#dataAt(this.#begin);
  }

  /** Data of the back record, a copy; undefined when empty. */
  back(): Uint8Array | undefined {
    return this.#begin === this.#end ? undefined : this.#dataAt(this.#end - this.#toPrevAt(this.#end));
  }

  /** Adds a record at the back. @throws WalbError `out-of-range` when the file would become too large. */
  pushBack(data: Uint8Array): void {
    checkData(data);
    const at = this.#end;
    const size = recordHeaderBytes + data.length;
    this.#resize(areaBytes + at + size + recordHeaderBytes);
    this.#putRecord(at, data, this.#toPrevAt(at));
    this.#end = at + size;
    this.#putStub(size);
    this.#count += 1;
    this.#seal();
  }

  /** Adds a record at the front. @throws WalbError `out-of-range` when the file would become too large. */
  pushFront(data: Uint8Array): void {
    checkData(data);
    const size = recordHeaderBytes + data.length;
    if (this.#begin < size) {
      const liveBytes = this.#end + recordHeaderBytes - this.#begin;
      // Behind what is there, so that the old place stays whole until the header points to the new one.
      const begin = Math.max(this.#end + recordHeaderBytes, size);
      this.#resize(areaBytes + begin + liveBytes);
      this.#bytes.copyWithin(areaBytes + begin, areaBytes + this.#begin, areaBytes + this.#begin + liveBytes);
      this.#begin = begin;
      this.#end = begin + liveBytes - recordHeaderBytes;
    }
    this.#view.setUint32(areaBytes + this.#begin + 12, size, true);
    this.#begin -= size;
    this.#putRecord(this.#begin, data, 0);
    this.#count += 1;
    this.#seal();
  }

  /** Takes the front record away; undefined when empty. */
  popFront(): Uint8Array | undefined {
    const data = this.front();
    if (data === undefined) return undefined;
    this.#begin += recordHeaderBytes + data.length;
    this.#count -= 1;
    this.#seal();
    return data;
  }

  /** Takes the back record away; undefined when empty. */
  popBack(): Uint8Array | undefined {
    const data = this.back();
    if (data === undefined) return undefined;
    // The record becomes the end stub, of which only the link back counts.
    this.#end -= this.#toPrevAt(this.#end);
    this.#count -= 1;
    this.#seal();
    return data;
  }

  /** Takes all records away. */
  clear(): void {
    this.#begin = this.#end;
    this.#view.setUint32(areaBytes + this.#end + 12, 0, true);
    this.#count = 0;
    this.#seal();
  }

  /**
   * Moves the records to the start of the area and cuts the file, when there is room for all of them in front of where
   * they are; else it does nothing.
   */
  compact(): void {
    const liveBytes = this.#end + recordHeaderBytes - this.#begin;
    if (liveBytes > this.#begin) return;
    this.#bytes.copyWithin(areaBytes, areaBytes + this.#begin, areaBytes + this.#begin + liveBytes);
    this.#begin = 0;
    this.#end = liveBytes - recordHeaderBytes;
    this.#resize(areaBytes + liveBytes);
    this.#bytes.fill(0, areaBytes + liveBytes);
    this.#seal();
  }

  #sizeAt(at: number): number {
    return this.#view.getUint32(areaBytes + at + 8, true);
  }

  #toPrevAt(at: number): number {
    return this.#view.getUint32(areaBytes + at + 12, true);
  }

  #dataAt(at: number): Uint8Array {
    const start = areaBytes + at + recordHeaderBytes;
    return this.#bytes.slice(start, start + this.#sizeAt(at));
  }

  #putRecord(at: number, data: Uint8Array, toPrev: number): void {
    const start = areaBytes + at;
    this.#view.setUint32(start, preamble, true);
    this.#view.setUint32(start + 4, walbChecksum(data, this.#salt), true);
    this.#view.setUint32(start + 8, data.length, true);
    this.#view.setUint32(start + 12, toPrev, true);
    this.#bytes.set(data, start + recordHeaderBytes);
  }

  #putStub(toPrev: number): void {
    const start = areaBytes + this.#end;
    this.#view.setUint32(start, preamble, true);
    this.#view.setUint32(start + 4, 0, true);
    this.#view.setUint32(start + 8, 0, true);
    this.#view.setUint32(start + 12, toPrev, true);
  }

  #resize(neededBytes: number): void {
    const sizeBytes = alignUp(neededBytes, pageBytes);
    if (sizeBytes > queueFileBytesMax) {
      throw new WalbError("out-of-range", { what: `a queue file of ${sizeBytes} bytes is above ${queueFileBytesMax}` });
    }
    if (sizeBytes === this.#bytes.length) return;
    const bytes = new Uint8Array(sizeBytes);
    bytes.set(this.#bytes.subarray(0, sizeBytes));
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer);
  }

  #seal(): void {
    const view = this.#view;
    view.setUint32(0, preamble, true);
    view.setUint32(8, this.#salt, true);
    view.setBigUint64(12, BigInt(this.#begin), true);
    view.setBigUint64(20, BigInt(this.#end), true);
    sealBlock(this.#bytes.subarray(0, headerBytes), 4, 0);
    this.#bytes.copyWithin(headerBytes, 0, headerBytes);
  }
}

function checkData(data: Uint8Array): void {
  if (data.length === 0 || data.length > queueRecordBytesMax) {
    throw new WalbError("out-of-range", {
      what: `a queue record of ${data.length} bytes`,
      where: { field: "dataSize" },
    });
  }
}

function offsetField(view: DataView, at: number, max: number, file: string, field: string): number {
  const value = view.getBigUint64(at, true);
  if (value > BigInt(max)) throw badFile(file, field, `is ${value}, beyond the file`, at);
  return Number(value);
}

/** Walks all records forward. @returns how many there are. @throws WalbError `bad-format` at the first that is wrong. */
function checkRecords(
  bytes: Uint8Array,
  view: DataView,
  salt: number,
  begin: number,
  end: number,
  file: string,
): number {
  let count = 0;
  let previous = 0;
  for (let at = begin; ; ) {
    const start = areaBytes + at;
    const isStub = at === end;
    if (view.getUint32(start, true) !== preamble) throw badFile(file, "record preamble", "is wrong", start);
    const toPrev = view.getUint32(start + 12, true);
    // The first record's link back means nothing: what it pointed to may be gone.
    if (at !== begin && toPrev !== previous) {
      throw badFile(file, "toPrev", `is ${toPrev}, but the record before has ${previous} bytes`, start + 12);
    }
    if (isStub) return count;
    const dataBytes = view.getUint32(start + 8, true);
    if (dataBytes === 0 || dataBytes > queueRecordBytesMax || at + recordHeaderBytes + dataBytes > end) {
      throw badFile(file, "dataSize", `is ${dataBytes}, which does not fit`, start + 8);
    }
    const data = bytes.subarray(start + recordHeaderBytes, start + recordHeaderBytes + dataBytes);
    if (walbChecksum(data, salt) !== view.getUint32(start + 4, true)) {
      throw badFile(file, "checksum", "of a record does not match its data", start + 4);
    }
    count += 1;
    previous = recordHeaderBytes + dataBytes;
    at += previous;
  }
}
