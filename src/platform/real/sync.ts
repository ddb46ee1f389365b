/** @module A sync under way, and what it sends by itself as soon as it has succeeded. */
import type { JobAnswer } from "../../native/answer.ts";
import type { RunningSync } from "../disk.ts";
import type { Entrusted } from "../net.ts";

/** The real {@link RunningSync}. */
export class RealSync implements RunningSync {
  readonly ended: Promise<void>;
  readonly answer: JobAnswer;

  constructor(ended: Promise<void>, answer: JobAnswer) {
    this.ended = ended;
    this.answer = answer;
  }
}

/** Bytes of a connection that are left to a sync. */
export class LeftToSync implements Entrusted {
  readonly #answer: JobAnswer;
  readonly #over: (unsent: Uint8Array) => void;
  #state: "left" | "sent" | "back" = "left";

  private constructor(answer: JobAnswer, over: (unsent: Uint8Array) => void) {
    this.#answer = answer;
    this.#over = over;
  }

  /**
   * `over` is called once: with what the socket did not take, when the sync is over or the bytes were taken back. The
   * caller may use its bytes for others at once.
   */
  static leave(
    sync: RealSync,
    fd: number,
    bytes: Uint8Array,
    over: (unsent: Uint8Array) => void,
  ): LeftToSync | undefined {
    const left = new LeftToSync(sync.answer, over);
    const kept = bytes.slice();
    const isTaken = sync.answer.entrust(fd, kept, (sentBytes) => {
      left.#end(sentBytes === undefined ? "back" : "sent", kept.subarray(sentBytes ?? kept.length));
    });
    return isTaken ? left : undefined;
  }

  takeBack(): boolean {
    if (this.#state === "left" && this.#answer.withdraw()) this.#end("back", new Uint8Array(0));
    return this.#state === "back";
  }

  #end(state: "sent" | "back", unsent: Uint8Array): void {
    this.#state = state;
    this.#over(unsent);
  }
}
