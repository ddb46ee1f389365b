/** @module How a stream fails when its peer does not do its part. */
import { WalbError } from "../errors.ts";

/** It went away, with an error of the connection or without one. */
export function peerGone(peer: string, step: string, cause: Error | undefined): WalbError {
  return new WalbError("unreachable", {
    what: cause === undefined ? "the peer closed the connection too early" : "the connection broke",
    where: { peer, step },
    hint: "look at the peer's log for the reason, then try again",
    ...(cause === undefined ? {} : { cause }),
  });
}

/** `what` says what did not happen in time. */
export function tookTooLong(peer: string, step: string, deadlineMs: number, what: string): WalbError {
  return new WalbError("timed-out", {
    what: `${what} within ${deadlineMs / 1000} s`,
    where: { peer, step },
    hint: "check the network and the load of the peer, or raise the socket timeout on both sides",
  });
}
