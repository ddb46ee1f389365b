/** @module `stop` of every role: accepted first, done behind the answer; whether it was, is asked with `get state`. */
import type { StopState } from "../../volume/machine.ts";
import type { StopMode } from "../../wire/grammar.ts";
import { PeerError } from "../../wire/words.ts";
import type { LegacyCall, LegacyReply } from "./command.ts";

/** What is to be stopped, and how. */
export interface StopRequest {
  readonly volume: string;
  readonly mode: StopMode;
}

const strictness: readonly StopState[] = ["not-stopping", "waiting-for-empty", "stopping", "force-stopping"];
const aims: Readonly<Record<StopMode, StopState>> = {
  empty: "waiting-for-empty",
  graceful: "stopping",
  force: "force-stopping",
};

/** Accepts whatever the state is, as the original; only a stop that is under way is in the way of one no stricter. */
export function stopReply(call: LegacyCall, { volume, mode }: StopRequest): LegacyReply {
  const { stopState } = call.role.situation(volume);
  if (stopState !== "not-stopping" && strictness.indexOf(aims[mode]) <= strictness.indexOf(stopState)) {
    throw new PeerError(`already under stopping:${volume}:${stopState}`);
  }
  return { kind: "accept", work: () => call.control.call("stop", { volume, mode }) };
}
