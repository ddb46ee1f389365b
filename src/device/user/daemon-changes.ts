/** @module Changes of a daemon's volumes, such as a create or a start: of each volume one at a time. */
import { WalbError } from "../../errors.ts";

/** Those under way. */
export class Changes {
  readonly #busy = new Map<string, Promise<unknown>>();
  #isClosing = false;

  /** @throws WalbError `busy` while another change of the volume is under way, `state` when the daemon is stopping. */
  async alone<T>(name: string, work: () => Promise<T>): Promise<T> {
    if (this.#isClosing)
      throw new WalbError("state", { what: "the device daemon is stopping", where: { volume: name } });
    if (this.#busy.has(name)) {
      const hint = "try again when it is done";
      throw new WalbError("busy", { what: "the volume is being changed", where: { volume: name }, hint });
    }
    const running = work();
    this.#busy.set(
      name,
      running.catch(() => undefined),
    );
    try {
      return await running;
    } finally {
      this.#busy.delete(name);
    }
  }

  /** No more from now on. */
  stop(): void {
    this.#isClosing = true;
  }

  /** Waits for the change of a volume that is under way, if any. */
  async ended(name: string): Promise<void> {
    await this.#busy.get(name);
  }

  async allEnded(): Promise<void> {
    await Promise.all(this.#busy.values());
  }
}
