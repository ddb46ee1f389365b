/** @module What a step of a replication holds (a state, actions, places) until it is over. */

/** Things to be given back, in the reverse order they were taken. */
export class Held {
  #ends: (() => void | Promise<void>)[] = [];

  push(end: () => void | Promise<void>): void {
    this.#ends.push(end);
  }

  /** Gives everything back. Idempotent. */
  async release(): Promise<void> {
    for (let end = this.#ends.pop(); end !== undefined; end = this.#ends.pop()) await end();
  }
}
