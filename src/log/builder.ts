/**
 * @module Filling packs: assigns lsids to records, puts padding at the ring end, and keeps every limit of the format.
 *
 * Writes records straight into a header block, since a device packs tens of thousands of records a second.
 */
import { sealBlock } from "./checksum.ts";
import { ceilPb, maxPackDataPb, maxRecordsPerPack, pbToRingEnd, type RingGeometry } from "./geometry.ts";
import { sectorTypePack, writeRecord } from "./pack.ts";

/** Builds one pack after the other. */
export class PackBuilder {
  readonly #ring: RingGeometry;
  readonly #maxPackPb: number;
  readonly #recordsMax: number;
  #view: DataView = new DataView(new ArrayBuffer(0));
  #lsid = 0;
  #dataPb = 0;
  #recordCount = 0;
  #paddingCount = 0;

  /** `maxPackPb` bounds the data of a pack; the first record of a pack is always taken. */
  constructor(ring: RingGeometry, maxPackPb: number) {
    this.#ring = ring;
    this.#maxPackPb = Math.min(maxPackPb, maxPackDataPb);
    this.#recordsMax = maxRecordsPerPack(ring.pbsBytes);
  }

  /** Starts a pack at an lsid in a block of one PB, which is cleared. */
  begin(block: Uint8Array, lsid: number): void {
    block.fill(0);
    this.#view = new DataView(block.buffer, block.byteOffset, block.byteLength);
    this.#lsid = lsid;
    this.#dataPb = 0;
    this.#recordCount = 0;
    this.#paddingCount = 0;
  }

  /** Records so far, padding included. */
  get recordCount(): number {
    return this.#recordCount;
  }

  /** lsid of this pack. */
  get lsid(): number {
    return this.#lsid;
  }

  /** lsid behind this pack as it is now. */
  get endLsid(): number {
    return this.#lsid + 1 + this.#dataPb;
  }

  /** The header of this pack as it will be written. */
  get view(): DataView {
    return this.#view;
  }

  /**
   * Adds a record of data, with padding in front when it would cross the ring end. The answer is the lsid of its data,
   * or −1 when the pack must be sealed first and the record goes into the next one (the pack may have gained padding).
   */
  addData(offsetLb: number, sizeLb: number, checksum: number): number {
    if (this.#recordCount >= this.#recordsMax) return -1;
    const needPb = ceilPb(sizeLb, this.#ring.pbsBytes);
    const roomPb = pbToRingEnd(this.#ring, this.endLsid);
    const paddingPb = roomPb < needPb ? roomPb : 0;
    const totalPb = this.#dataPb + paddingPb + needPb;
    if (this.#recordCount > 0 && totalPb > this.#maxPackPb) return -1;
    if (paddingPb > 0) {
      if (this.#dataPb + paddingPb > maxPackDataPb) return -1;
      const sizeOfPaddingLb = (paddingPb * this.#ring.pbsBytes) / 512;
      this.#add("padding", 0, sizeOfPaddingLb, 0);
      this.#dataPb += paddingPb;
      this.#paddingCount = 1;
    }
    if (this.#recordCount >= this.#recordsMax || totalPb > maxPackDataPb) return -1;
    const lsid = this.endLsid;
    this.#add("data", offsetLb, sizeLb, checksum);
    this.#dataPb += needPb;
    return lsid;
  }

  /** Adds a discard record, which takes no data. False when the pack must be sealed first. */
  addDiscard(offsetLb: number, sizeLb: number): boolean {
    if (this.#recordCount >= this.#recordsMax) return false;
    this.#add("discard", offsetLb, sizeLb, 0);
    return true;
  }

  /** Byte offset in the header of the checksum of record `index`, for checksums that are known later. */
  checksumOffset(index: number): number {
    return 24 + 32 * index;
  }

  /** Writes the counts. The block is sealed with {@link sealPack} when all checksums are in. */
  end(): void {
    const view = this.#view;
    view.setUint16(4, sectorTypePack, true);
    view.setUint16(6, this.#dataPb, true);
    view.setUint32(8, this.#lsid % 0x1_0000_0000, true);
    view.setUint32(12, Math.floor(this.#lsid / 0x1_0000_0000), true);
    view.setUint16(16, this.#recordCount, true);
    view.setUint16(18, this.#paddingCount, true);
  }

  #add(kind: "data" | "padding" | "discard", offsetLb: number, sizeLb: number, checksum: number): void {
    writeRecord(this.#view, this.#recordCount, kind, checksum, offsetLb, sizeLb, this.#lsid, this.endLsid);
    this.#recordCount += 1;
  }
}

/** Seals a header block after {@link PackBuilder.end}. */
export function sealPack(block: Uint8Array, salt: number): void {
  sealBlock(block, 0, salt);
}
