/** @module Joins two connections into one: each byte and each end goes through, no faster than the slower side takes. */
import type { Connection } from "../platform/net.ts";

/** How to join. */
export interface PipeOptions {
  /** The left one's end was heard already. */
  readonly isLeftEnded: boolean;
  /** Called once, when both are closed. */
  readonly closed: () => void;
  /** Sees what the left one, and the right one, brings. */
  readonly sawLeft?: (chunk: Uint8Array) => void;
  readonly sawRight?: (chunk: Uint8Array) => void;
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
  const forward = (from: Connection, to: Connection, saw?: (chunk: Uint8Array) => void): void => {
    from.setReader({
      data(chunk) {
        saw?.(chunk);
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
  forward(left, right, options.sawLeft);
  forward(right, left, options.sawRight);
  if (options.isLeftEnded) ended(right);
  left.resume();
  right.resume();
}

/** What came in before there was somewhere to send it. */
export interface Held {
  readonly chunks: Uint8Array[];
  isEnded: boolean;
  isGone: boolean;
}

/** Keeps what a connection brings until it is attached. */
export function hold(connection: Connection, firstBytes: Uint8Array): Held {
  const held: Held = { chunks: [firstBytes], isEnded: false, isGone: false };
  connection.setReader({
    data(chunk) {
      held.chunks.push(chunk);
    },
    end() {
      held.isEnded = true;
    },
    closed() {
      held.isGone = true;
    },
  });
  connection.pause();
  return held;
}

/** Joins a connection that was held to another one, with what it brought; what it brought first was seen before. */
export function attach(
  outside: Connection,
  inside: Connection,
  held: Held,
  options: Omit<PipeOptions, "isLeftEnded">,
): void {
  if (held.isGone || outside.isClosed) {
    inside.close();
    options.closed();
    return;
  }
  for (const [i, chunk] of held.chunks.entries()) {
    if (i > 0) options.sawLeft?.(chunk);
    inside.write(chunk);
  }
  pipe(outside, inside, { ...options, isLeftEnded: held.isEnded });
}
