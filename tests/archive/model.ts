/** @module A naive model of a volume's history: its bytes at every gid, and the writes between them. */
import { RecordKind } from "../../src/diff/types.ts";

/** Seeded chance of a test. */
export class Chance {
  #state: number;

  constructor(seed: number) {
    this.#state = (seed * 2654435761 + 1) >>> 0 || 1;
  }

  /** Whole number in [min, max]. */
  between(min: number, max: number): number {
    this.#state ^= this.#state << 13;
    this.#state ^= this.#state >>> 17;
    this.#state ^= this.#state << 5;
    return min + ((this.#state >>> 0) % (max - min + 1));
  }

  is(probability: number): boolean {
    return this.between(0, 999) < probability * 1000;
  }
}

/** A record of a diff as the model makes it. */
export interface ModelRecord {
  readonly addressLb: number;
  readonly blocksLb: number;
  readonly kind: RecordKind;
  /** Of normal records. */
  readonly data: Uint8Array;
}

/** A history from gid 0 on; each step is a few writes. */
export class History {
  readonly sizeLb: number;
  readonly #chance: Chance;
  /** Image at gid i. */
  readonly #images: Uint8Array[];
  /** Writes that lead to gid i + 1. */
  readonly #steps: ModelRecord[][] = [];

  constructor(sizeLb: number, seed: number) {
    this.sizeLb = sizeLb;
    this.#chance = new Chance(seed);
    const image = new Uint8Array(sizeLb * 512);
    // About half of it stays zero.
    for (let lb = 0; lb < sizeLb; ) {
      const run = Math.min(sizeLb - lb, this.#chance.between(1, Math.max(2, sizeLb >> 2)));
      if (this.#chance.is(0.5)) image.set(this.#bytes(run), lb * 512);
      lb += run;
    }
    this.#images = [image];
  }

  get gid(): number {
    return this.#images.length - 1;
  }

  at(gid: number | bigint): Uint8Array {
    const image = this.#images[Number(gid)];
    if (image === undefined) throw new Error(`the model has no gid ${gid}`);
    return image;
  }

  /** Writes a little; the next gid. */
  step(): number {
    const writes: ModelRecord[] = [];
    for (let count = this.#chance.between(0, 6); count > 0; count--) {
      const blocksLb = this.#chance.between(1, Math.min(64, this.sizeLb));
      const addressLb = this.#chance.between(0, this.sizeLb - blocksLb);
      const kind = this.#chance.is(0.7)
        ? RecordKind.normal
        : this.#chance.is(0.5)
          ? RecordKind.allZero
          : RecordKind.discard;
      const data = kind === RecordKind.normal ? this.#bytes(blocksLb) : new Uint8Array(blocksLb * 512);
      writes.push({ addressLb, blocksLb, kind, data });
    }
    const image = this.at(this.gid).slice();
    for (const write of writes) image.set(write.data, write.addressLb * 512);
    this.#steps.push(writes);
    this.#images.push(image);
    return this.gid;
  }

  /** A copy made while the volume went from `gidB` to `gidE`: each stretch as of some moment between. */
  fuzzy(gidE: number, gidB = 0): Uint8Array {
    const image = new Uint8Array(this.sizeLb * 512);
    for (let lb = 0; lb < this.sizeLb; lb += 8) {
      const from = this.at(this.#chance.between(gidB, gidE));
      image.set(from.subarray(lb * 512, Math.min(lb + 8, this.sizeLb) * 512), lb * 512);
    }
    return image;
  }

  /** Sorted records, without overlaps, of all writes between two gids. */
  diff(fromGid: number, toGid: number): ModelRecord[] {
    const owner = new Map<number, ModelRecord>();
    for (const writes of this.#steps.slice(fromGid, toGid)) {
      for (const write of writes) {
        for (let i = 0; i < write.blocksLb; i++) owner.set(write.addressLb + i, write);
      }
    }
    const records: ModelRecord[] = [];
    let run: { start: number; end: number; write: ModelRecord } | undefined;
    const flush = (): void => {
      if (run === undefined) return;
      const { start, end, write } = run;
      const at = (start - write.addressLb) * 512;
      const data = write.data.slice(at, at + (end - start) * 512);
      records.push({ addressLb: start, blocksLb: end - start, kind: write.kind, data });
    };
    for (const lb of [...owner.keys()].sort((a, b) => a - b)) {
      const write = owner.get(lb)!;
      if (run !== undefined && run.end === lb && run.write === write) run.end = lb + 1;
      else {
        flush();
        run = { start: lb, end: lb + 1, write };
      }
    }
    flush();
    return records;
  }

  /** Not all zero; compressible or not. */
  #bytes(blocksLb: number): Uint8Array {
    const bytes = new Uint8Array(blocksLb * 512);
    const isNoise = this.#chance.is(0.5);
    const value = this.#chance.between(1, 255);
    for (let i = 0; i < bytes.length; i++) bytes[i] = isNoise && i % 4 < 2 ? this.#chance.between(0, 255) : value;
    return bytes;
  }
}
