/** @module What a volume holds after each write of its history, and which prefix of the history an image is. */

/** One write in log order. */
interface ModelWrite {
  readonly offsetLb: number;
  readonly sizeLb: number;
  /** Marks its blocks; 0 for zeroes. Never used twice, so that a lost write is not taken for a later one. */
  readonly stamp: number;
  /** Refused before it was logged. */
  isVoid: boolean;
}

/** After how many writes an image may have been taken: the least and the greatest number that give it. */
export interface Match {
  readonly first: number;
  readonly last: number;
}

const blockWords = 128;

/** A volume whose blocks carry the number of the write they came from. Positions count writes since the beginning. */
export class VolumeModel {
  readonly #writes: ModelWrite[] = [];
  #lastStamp = 0;

  constructor(readonly sizeLb: number) {}

  get count(): number {
    return this.#writes.length;
  }

  /** Enters a write. @returns its content. */
  write(offsetLb: number, sizeLb: number): Uint8Array {
    this.#lastStamp += 1;
    this.#writes.push({ offsetLb, sizeLb, stamp: this.#lastStamp, isVoid: false });
    const words = new Uint32Array(sizeLb * blockWords);
    for (let i = 0; i < sizeLb; i++) fillBlock(words, i * blockWords, this.#lastStamp, offsetLb + i);
    return new Uint8Array(words.buffer);
  }

  /** Enters a discard, or a write of zeroes. */
  zero(offsetLb: number, sizeLb: number): void {
    this.#writes.push({ offsetLb, sizeLb, stamp: 0, isVoid: false });
  }

  /** A write was refused and never took place. */
  void(index: number): void {
    this.#writes[index]!.isVoid = true;
  }

  /** Forgets the writes that a crash has lost. */
  truncate(count: number): void {
    this.#writes.length = Math.min(this.#writes.length, count);
  }

  /**
   * Which states of the volume an image is, of those after `from` to `to` writes.
   * @returns undefined for none.
   * @throws when a block is not what any write left there.
   */
  match(image: Uint8Array, from = 0, to = this.count): Match | undefined {
    const stamps = stampsOf(image, this.sizeLb);
    const state = new Uint32Array(this.sizeLb);
    let differing = stamps.reduce((sum, stamp) => sum + (stamp === 0 ? 0 : 1), 0);
    let found: Match | undefined;
    for (let count = 0; count <= to; count++) {
      if (count >= from && differing === 0) found = { first: found?.first ?? count, last: count };
      const write = this.#writes[count];
      if (write === undefined || write.isVoid) continue;
      for (let lb = write.offsetLb; lb < write.offsetLb + write.sizeLb; lb++) {
        const wanted = stamps[lb];
        differing += (state[lb] === wanted ? 1 : 0) - (write.stamp === wanted ? 1 : 0);
        state[lb] = write.stamp;
      }
    }
    return found;
  }

  /** For messages: how an image differs from the state after `count` writes. */
  difference(image: Uint8Array, count: number): string {
    const stamps = stampsOf(image, this.sizeLb);
    const writers = new Int32Array(this.sizeLb).fill(-1);
    const state = new Uint32Array(this.sizeLb);
    for (const [index, { offsetLb, sizeLb, stamp, isVoid }] of this.#writes.slice(0, count).entries()) {
      if (isVoid) continue;
      state.fill(stamp, offsetLb, offsetLb + sizeLb);
      writers.fill(index, offsetLb, offsetLb + sizeLb);
    }
    const known = new Map(this.#writes.map((write, index) => [write.stamp, index]));
    const at = stamps.findIndex((stamp, lb) => stamp !== state[lb]);
    if (at < 0) return "nothing differs";
    const differing = stamps.reduce((sum, stamp, lb) => sum + (stamp === state[lb] ? 0 : 1), 0);
    const found = stamps[at] === 0 ? "zeroes" : `write ${known.get(stamps[at]!) ?? "of another history"}`;
    return `${differing} LB differ from the state after ${count} writes, first LB ${at}: ${found} instead of write ${writers[at]}`;
  }
}

/** Which write each block is of. @throws when a block is torn or at the wrong place. */
function stampsOf(image: Uint8Array, sizeLb: number): Uint32Array {
  if (image.length !== sizeLb * 512) throw new Error(`the image has ${image.length} bytes instead of ${sizeLb * 512}`);
  const words = new Uint32Array(image.slice().buffer);
  const wanted = new Uint32Array(blockWords);
  const stamps = new Uint32Array(sizeLb);
  for (let lb = 0; lb < sizeLb; lb++) {
    const start = lb * blockWords;
    const stamp = words[start]!;
    if (stamp === 0) wanted.fill(0);
    else fillBlock(wanted, 0, stamp, lb);
    for (let i = 0; i < blockWords; i++) {
      if (words[start + i] !== wanted[i]) throw new Error(`the block at ${lb} LB is torn (stamp ${stamp})`);
    }
    stamps[lb] = stamp;
  }
  return stamps;
}

/** Half of a block does not compress. */
function fillBlock(words: Uint32Array, at: number, stamp: number, lb: number): void {
  words[at] = stamp;
  words[at + 1] = lb;
  let x = (Math.imul(stamp, 0x9e37_79b1) + lb) >>> 0;
  for (let i = 2; i < blockWords; i++) {
    x = (Math.imul(x, 1_664_525) + 1_013_904_223) >>> 0;
    words[at + i] = i < blockWords / 2 ? x : stamp;
  }
}
