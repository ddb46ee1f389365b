/** @module Where an HTTP connection is: asking, waiting for its answer, or answered; told by the bytes that pass. */

/** `asking`: a request has not come completely. `working`: it has, and nothing of the answer was written. */
export type ExchangeState = "asking" | "working" | "answered";

/** Of a request's head more is not looked at: the server refuses it. */
const headBytesMax = 64 * 1024;
const headEnd = "\r\n\r\n";

/** Follows one connection. A body in chunks, whose end only the server finds, counts as complete at once. */
export class Exchange {
  state: ExchangeState = "asking";
  /** When the state began, and when a byte passed last. */
  sinceMs: number;
  lastMs: number;
  #head = "";
  #bodyRestBytes: number | undefined;

  constructor(nowMs: number) {
    this.sinceMs = nowMs;
    this.lastMs = nowMs;
  }

  /** Bytes from the client. */
  asked(chunk: Uint8Array, nowMs: number): void {
    this.lastMs = nowMs;
    if (this.state === "answered") this.#become("asking", nowMs);
    if (this.state !== "asking") return;
    let bodyBytes = chunk.length;
    if (this.#bodyRestBytes === undefined) {
      const before = this.#head.length;
      this.#head += Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength).toString("latin1");
      const end = this.#head.indexOf(headEnd, Math.max(0, before - headEnd.length));
      if (end < 0) {
        if (this.#head.length > headBytesMax) this.#become("working", nowMs);
        return;
      }
      const length = /^content-length:[ \t]*(\d{1,15})/im.exec(this.#head.slice(0, end));
      this.#bodyRestBytes = Number(length?.[1] ?? 0);
      bodyBytes = this.#head.length - end - headEnd.length;
    }
    this.#bodyRestBytes -= bodyBytes;
    if (this.#bodyRestBytes <= 0) this.#become("working", nowMs);
  }

  /** Bytes for the client. Before its request is complete they only tell it to go on, or that it will get no answer. */
  answered(nowMs: number): void {
    this.lastMs = nowMs;
    if (this.state === "working") this.#become("answered", nowMs);
  }

  #become(state: ExchangeState, nowMs: number): void {
    this.state = state;
    this.sinceMs = nowMs;
    this.#head = "";
    this.#bodyRestBytes = undefined;
  }
}

/** A request that has not come completely for so long will hardly come. */
const hurriedMs = 1_000;

/**
 * Which of many goes when there are too many: whoever has been asking for long without coming to an end, else whoever has
 * had an answer and been silent for longest, else whoever asks for longest. One that waits for its answer never does.
 */
export function leastMissed<T extends { readonly exchange: Exchange }>(all: Iterable<T>, nowMs: number): T | undefined {
  let asking: T | undefined;
  let silent: T | undefined;
  for (const one of all) {
    const { state, sinceMs, lastMs } = one.exchange;
    if (state === "asking" && (asking === undefined || sinceMs < asking.exchange.sinceMs)) asking = one;
    if (state === "answered" && (silent === undefined || lastMs < silent.exchange.lastMs)) silent = one;
  }
  const isSlow = asking !== undefined && asking.exchange.sinceMs + hurriedMs <= nowMs;
  return isSlow ? asking : (silent ?? asking);
}
