/** @module Keeps files that somebody reads: a file whose row is gone is removed when its last reader has let go of it. */

/** The files of one volume directory that are being read. */
export class Pins {
  readonly #readers = new Map<string, number>();
  readonly #due = new Set<string>();
  readonly #remove: (fileName: string) => Promise<void>;

  /** @param remove removes a file; must not throw. */
  constructor(remove: (fileName: string) => Promise<void>) {
    this.#remove = remove;
  }

  /** Keeps files until the answer is called. */
  hold(fileNames: readonly string[]): () => Promise<void> {
    for (const name of fileNames) this.#readers.set(name, (this.#readers.get(name) ?? 0) + 1);
    let isOver = false;
    return async () => {
      if (isOver) return;
      isOver = true;
      for (const name of fileNames) {
        const left = (this.#readers.get(name) ?? 1) - 1;
        if (left > 0) this.#readers.set(name, left);
        else this.#readers.delete(name);
        if (left <= 0 && this.#due.delete(name)) await this.#remove(name);
      }
    };
  }

  /** Removes files, those being read later. */
  async remove(fileNames: readonly string[]): Promise<void> {
    for (const name of fileNames) {
      if (this.#readers.has(name)) this.#due.add(name);
      else await this.#remove(name);
    }
  }

  /** A file of this name is there anew: it stays. */
  keep(fileName: string): void {
    this.#due.delete(fileName);
  }
}
