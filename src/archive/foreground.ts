/** @module Limits of the large work an archive does at once. */
import { WalbError } from "../errors.ts";

/** Counts work of one kind; what is above the limit is refused, and its owner tries again. */
export class ForegroundLimit {
  readonly #nodeId: string;
  readonly #max: number;
  readonly #option: string;
  #running = 0;

  /** @param option the flag that raises the limit. */
  constructor(nodeId: string, max: number, option = "--max-foreground-tasks") {
    this.#nodeId = nodeId;
    this.#max = max;
    this.#option = option;
  }

  /** Takes a place. @throws WalbError `busy` when all are taken. @returns gives it back; idempotent. */
  enter(volume: string, what: string): () => void {
    if (this.#running >= this.#max) {
      throw new WalbError("busy", {
        what: `cannot ${what} now: ${this.#running} such tasks are running, which is the limit`,
        where: { host: this.#nodeId, volume },
        hint: `wait for one of them, or start the archive with a larger ${this.#option}`,
      });
    }
    this.#running += 1;
    let isOver = false;
    return () => {
      if (isOver) return;
      isOver = true;
      this.#running -= 1;
    };
  }
}
