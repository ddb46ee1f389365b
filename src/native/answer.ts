/** @module What a job of the pool sends to a socket by itself: whoever waits for it does not wait for the event loop as well. */
import { WalbError } from "../errors.ts";
import { answerBytesMax } from "./layout.ts";
import { shim } from "./shim.ts";

/** Told when the job is over: the bytes that the socket took, or undefined when nothing was to be sent any more. */
export type AnswerEnded = (sentBytes: number | undefined) => void;

/** The answer of one job, which it sends as soon as it has succeeded. Given with the job; it may get its bytes later. */
export class JobAnswer {
  #pool = 0;
  #slot = 0;
  #isRunning = false;
  #ended: AnswerEnded | undefined;

  /**
   * Leaves bytes to the job, at most 32. The descriptor must stay open until `ended` is called. False when the job does not
   * run in a pool, is over, or has others.
   */
  entrust(fd: number, bytes: Uint8Array, ended: AnswerEnded): boolean {
    if (bytes.byteLength > answerBytesMax) throw new WalbError("internal", { what: "the answer of a job is too long" });
    if (!this.#isRunning || this.#ended !== undefined) return false;
    if (!shim.poolEntrust(this.#pool, this.#slot, fd, bytes)) return false;
    this.#ended = ended;
    return true;
  }

  /** Takes the bytes back, and `ended` is not called. False when they are being sent, or were. */
  withdraw(): boolean {
    if (!this.#isRunning || this.#ended === undefined || !shim.poolWithdraw(this.#pool, this.#slot)) return false;
    this.#ended = undefined;
    return true;
  }

  /** For the pool: the job is in a slot. */
  begin(pool: number, slot: number): void {
    this.#pool = pool;
    this.#slot = slot;
    this.#isRunning = true;
  }

  /** For the pool: the slot is about to be used for another job. */
  end(sentBytes: number | undefined): void {
    this.#isRunning = false;
    const ended = this.#ended;
    this.#ended = undefined;
    ended?.(sentBytes);
  }
}
