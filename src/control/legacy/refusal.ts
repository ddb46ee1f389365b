/**
 * @module Why the original would refuse a command, in its words: the first line of an error to a peer. Pure.
 *
 * Ours follows in the second line, see `PeerError`. What the original does not know has no words of its own.
 */
import type { StopState } from "../../volume/machine.ts";
import { PeerError } from "../../wire/words.ts";

/** Where a volume is, for refusals. */
export interface Situation {
  /** `Clear` for an unknown volume. */
  readonly state: string;
  readonly stopState: StopState;
  readonly isInTransition: boolean;
}

/** What a command needs of a volume. */
export interface Guard {
  /** Name of the original's function, in front of its texts. */
  readonly server: string;
  /** States it may be in. */
  readonly states: readonly string[];
  /** The temporary state that a transition goes through; missing for commands that change no state. */
  readonly via?: string;
  /** What stands in front of the text of a transition, when it is not the function's name. */
  readonly prefix?: string;
  readonly isStopChecked?: boolean;
}

const stopBits: Readonly<Record<StopState, number>> = {
  "not-stopping": 1,
  "waiting-for-empty": 2,
  stopping: 4,
  "force-stopping": 8,
};

/** The original's text when a guard does not hold, else undefined. */
export function guardText(guard: Guard, volume: string, situation: Situation): string | undefined {
  const { state, stopState, isInTransition } = situation;
  const prefix = guard.prefix ?? guard.server;
  if (guard.isStopChecked !== false && stopState !== "not-stopping") {
    return `${guard.server}:verifyStopState:${volume}:${stopBits[stopState]}:1`;
  }
  if (guard.via === undefined) {
    return guard.states.includes(state) ? undefined : `${prefix === "" ? "" : `${prefix}:`}bad state:${state}`;
  }
  // Of several states the original takes the one it is in as the one to leave.
  const from = guard.states.length === 1 ? guard.states[0] : state;
  if (isInTransition) return `${prefix}:StateMachineTransaction:tryChange:already called:${state}:${from}:${guard.via}`;
  if (guard.states.includes(state)) return undefined;
  return `${prefix}:StateMachineTransaction:bad state:${state}:${from}:${guard.via}`;
}

/** A volume's name as the original checks it. @throws PeerError. */
export function volumeName(text: string): string {
  const bad = /[^0-9A-Za-z-]/.exec(text);
  if (bad !== null) throw new PeerError(`bad volId format: bad character:${text}:${bad[0]}`);
  if (text.length > 64) throw new PeerError(`bad volId format: too long name:${text}`);
  return text;
}

/** A list with exactly so many elements. @throws PeerError. */
export function exactly(server: string, count: number, parameters: readonly string[]): void {
  if (parameters.length !== count) throw new PeerError(`${server}:bad size:${count}:${parameters.length}`);
}

/** A list with at least so many elements. @throws PeerError. */
export function atLeast(count: number, parameters: readonly string[]): void {
  if (parameters.length < count) throw new PeerError(`missing required params: ${parameters.length} ${count}`);
}
