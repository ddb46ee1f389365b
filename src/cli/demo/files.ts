/** @module Files that look like somebody's: a seeded tree of texts, tables and photos, and later changes to it. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const words =
  "volume log pack snapshot diff archive proxy extent checkpoint restore sector image base merge apply".split(" ");

/** A small generator of pseudo-random numbers (xorshift32): the same seed gives the same files. */
export class Seeded {
  #state: number;

  constructor(seed: number) {
    this.#state = seed | 0 || 1;
  }

  u32(): number {
    let x = this.#state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.#state = x;
    return x >>> 0;
  }

  below(limit: number): number {
    return this.u32() % limit;
  }

  /** Bytes that do not compress. */
  noise(sizeBytes: number): Uint8Array {
    const numbers = new Uint32Array(Math.ceil(sizeBytes / 4));
    for (let i = 0; i < numbers.length; i += 1) numbers[i] = this.u32();
    return new Uint8Array(numbers.buffer, 0, sizeBytes);
  }

  /** Text that compresses well. */
  text(sizeBytes: number): Uint8Array {
    const lines: string[] = [];
    let size = 0;
    while (size < sizeBytes) {
      const line = `${this.u32()} ${words[this.below(words.length)]} ${words[this.below(words.length)]}\n`;
      lines.push(line);
      size += line.length;
    }
    return Buffer.from(lines.join("")).subarray(0, sizeBytes);
  }
}

/** Writes the tree: about 96 MiB in some 700 files. */
export function writeTree(root: string, seed: number): void {
  const random = new Seeded(seed);
  for (let folder = 0; folder < 12; folder += 1) {
    const directory = join(root, `documents-${folder}`);
    mkdirSync(directory, { recursive: true });
    for (let i = 0; i < 50; i += 1) {
      writeFileSync(join(directory, `note-${i}.txt`), random.text(1000 + random.below(60_000)));
    }
  }
  mkdirSync(join(root, "photos"), { recursive: true });
  for (let i = 0; i < 24; i += 1) writeFileSync(join(root, "photos", `photo-${i}.jpg`), random.noise(2 << 20));
  writeFileSync(join(root, "accounts.csv"), random.text(24 << 20));
}

/** A file to put into the file system: where it goes, and what is in it. */
export interface FileChange {
  readonly path: string;
  readonly content: Uint8Array;
}

/** What changes in one round: rewritten notes, a new photo. */
export function changesOfRound(round: number): FileChange[] {
  const random = new Seeded(1000 + round);
  const changes: FileChange[] = [];
  for (let i = 0; i < 8; i += 1) {
    const path = `documents-${random.below(12)}/note-${random.below(50)}.txt`;
    if (changes.every((change) => change.path !== path)) {
      changes.push({ path, content: random.text(1000 + random.below(90_000)) });
    }
  }
  changes.push({ path: `photos/new-${round}.jpg`, content: random.noise(1 << 20) });
  return changes;
}
