/** @module What a volume holds after each of a sequence of writes, and which prefix of them an image is. */

/** One write; stamp 0 means zeroes. */
interface ModelWrite {
  readonly offsetLb: number;
  readonly sizeLb: number;
  readonly stamp: number;
}

/** A volume whose blocks carry the number of the write they came from. */
export class VolumeModel {
  readonly writes: ModelWrite[] = [];
  readonly sizeLb: number;

  constructor(sizeLb: number) {
    this.sizeLb = sizeLb;
  }

  #lastStamp = 0;

  get count(): number {
    return this.writes.length;
  }

  /** Enters a write. @returns its bytes; undefined for zeroes. */
  write(offsetLb: number, sizeLb: number, isZero = false): Uint8Array | undefined {
    // Never used twice, so that a lost write is not taken for a later one.
    const stamp = isZero ? 0 : ++this.#lastStamp;
    this.writes.push({ offsetLb, sizeLb, stamp });
    if (isZero) return undefined;
    const bytes = new Uint8Array(sizeLb * 512);
    for (let i = 0; i < sizeLb; i++) bytes.set(blockOf(stamp, offsetLb + i), i * 512);
    return bytes;
  }

  /** The volume after so many writes. */
  imageAfter(count: number): Uint8Array {
    const image = new Uint8Array(this.sizeLb * 512);
    for (const { offsetLb, sizeLb, stamp } of this.writes.slice(0, count)) {
      if (stamp === 0) image.fill(0, offsetLb * 512, (offsetLb + sizeLb) * 512);
      else for (let lb = offsetLb; lb < offsetLb + sizeLb; lb++) image.set(blockOf(stamp, lb), lb * 512);
    }
    return image;
  }

  /**
   * After how many writes, at least `from`, the volume was first (or last) like the image. Undefined when it never was.
   * @throws when a block is not what any write left there.
   */
  prefixOf(image: Uint8Array, from = 0, which: "first" | "last" = "first"): number | undefined {
    const stamps = new Uint32Array(this.sizeLb);
    for (let lb = 0; lb < this.sizeLb; lb++) {
      const block = image.subarray(lb * 512, lb * 512 + 512);
      const stamp = Buffer.from(block.buffer, block.byteOffset, 512).readUInt32LE(0);
      const expected = stamp === 0 ? zeroBlock : blockOf(stamp, lb);
      if (Buffer.compare(block, expected) !== 0) throw new Error(`the block at ${lb} LB is torn (stamp ${stamp})`);
      stamps[lb] = stamp;
    }
    const state = new Uint32Array(this.sizeLb);
    let differing = 0;
    for (let lb = 0; lb < this.sizeLb; lb++) if (stamps[lb] !== 0) differing += 1;
    let found: number | undefined;
    for (let count = 0; ; count++) {
      if (count >= from && differing === 0) {
        found = count;
        if (which === "first") return found;
      }
      const write = this.writes[count];
      if (write === undefined) return found;
      for (let lb = write.offsetLb; lb < write.offsetLb + write.sizeLb; lb++) {
        if (state[lb] !== stamps[lb]) differing -= 1;
        state[lb] = write.stamp;
        if (state[lb] !== stamps[lb]) differing += 1;
      }
    }
  }
}

const zeroBlock = new Uint8Array(512);

/** The content of a block: half of it does not compress. */
function blockOf(stamp: number, lb: number): Uint8Array {
  const block = new Uint8Array(512);
  const view = new DataView(block.buffer);
  view.setUint32(0, stamp, true);
  view.setUint32(4, lb, true);
  let x = (stamp * 2654435761 + lb) >>> 0;
  for (let at = 8; at < 256; at += 4) {
    x = (Math.imul(x, 1664525) + 1013904223) >>> 0;
    view.setUint32(at, x, true);
  }
  return block;
}
