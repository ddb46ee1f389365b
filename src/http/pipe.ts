/** @module Joins two connections into one: each byte and each end goes through, no faster than the slower side takes. */
import type { Connection } from "../platform/net.ts";

/** How to join. */
export interface PipeOptions {
  /** The left one's end was heard already. */
  readonly isLeftEnded: boolean;
  /** Called once, when both are closed. */
  readonly closed: () => void;
}

/** Joins until both have ended or one is gone; then both are closed. */
export function pipe(left: Connection, right: Connection, options: PipeOptions): void {
  let isClosed = false;
  let endedCount = 0;
  const close = (): void => {
    if (isClosed) return;
    isClosed = true;
    left.close();
    right.close();
    options.closed();
  };
  const ended = (to: Connection): void => {
    to.end();
    endedCount += 1;
    if (endedCount === 2) to.drained().then(close, close);
  };
  const forward = (from: Connection, to: Connection): void => {
    from.setReader({
      data(chunk) {
        if (to.write(chunk)) return;
        from.pause();
        to.drained().then(() => from.resume(), close);
      },
      end: () => ended(to),
      closed: () => finish(to),
    });
  };
  // What one side wrote before it went away still reaches the other.
  const finish = (to: Connection): void => {
    if (isClosed || to.isClosed) {
      close();
      return;
    }
    to.drained().then(close, close);
  };
  forward(left, right);
  forward(right, left);
  if (options.isLeftEnded) ended(right);
  left.resume();
  right.resume();
}
