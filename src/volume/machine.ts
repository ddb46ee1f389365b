/**
 * @module The state machine of a volume: steady states, temporary states as transactions, running actions, stopping.
 *
 * A transition `from → via → to` is a transaction: `via` is visible while it runs, and either `to` is committed or
 * `from` comes back. Only one runs at a time. The durable state is written by the caller before it commits.
 */
import { WalbError } from "../errors.ts";

/** How far a `stop` has come. */
export type StopState = "not-stopping" | "waiting-for-empty" | "stopping" | "force-stopping";

/** A running transition. Exactly one of commit and rollback counts; later calls do nothing. */
export interface Transition<State extends string> {
  commit(to: State): void;
  rollback(): void;
}

/** What to do in a state when one of other states is needed, as a sentence with the command. */
export type WayOut<State extends string> = (state: State, needed: readonly State[]) => string | undefined;

/** State, actions and stop state of one volume. All methods are synchronous; waits wake on every change. */
export class VolumeMachine<State extends string, Action extends string> {
  readonly volume: string;
  #state: State;
  #steady: State;
  #inTransition = false;
  #stopState: StopState = "not-stopping";
  #sinceMs: number;
  readonly #nowMs: () => number;
  readonly #wayOut: WayOut<State>;
  readonly #actions = new Map<Action, number>();
  readonly #actionBeganMs = new Map<Action, number>();
  readonly #waiters = new Set<() => void>();

  /** @param wayOut is told with refusals; it knows the commands of the role. */
  constructor(volume: string, state: State, nowMs: () => number, wayOut: WayOut<State> = () => undefined) {
    this.volume = volume;
    this.#state = state;
    this.#steady = state;
    this.#nowMs = nowMs;
    this.#wayOut = wayOut;
    this.#sinceMs = nowMs();
  }

  /** The state now, a temporary one included. */
  get state(): State {
    return this.#state;
  }

  /** The last steady state. */
  get steadyState(): State {
    return this.#steady;
  }

  get stopState(): StopState {
    return this.#stopState;
  }

  /** When the state was entered, wall clock. */
  get sinceMs(): number {
    return this.#sinceMs;
  }

  get isInTransition(): boolean {
    return this.#inTransition;
  }

  get isForceStopping(): boolean {
    return this.#stopState === "force-stopping";
  }

  /** How many of an action (of all, without a name) run. */
  running(action?: Action): number {
    if (action !== undefined) return this.#actions.get(action) ?? 0;
    let sum = 0;
    for (const count of this.#actions.values()) sum += count;
    return sum;
  }

  /** When an action last began, wall clock. */
  lastBeganMs(action: Action): number | undefined {
    return this.#actionBeganMs.get(action);
  }

  /** @throws WalbError `state` unless the volume is in one of the states. */
  require(states: readonly State[], what: string): void {
    if (states.includes(this.#state)) return;
    const hint = this.#wayOut(this.#state, states);
    throw new WalbError("state", {
      what: `cannot ${what} in state ${this.#state}; it needs ${states.join(" or ")}`,
      where: { volume: this.volume },
      ...(hint === undefined ? {} : { hint }),
    });
  }

  /** @throws WalbError `busy` while the volume is stopping. */
  requireNotStopping(what: string): void {
    if (this.#stopState === "not-stopping") return;
    throw new WalbError("busy", {
      what: `cannot ${what} while the volume is stopping`,
      where: { volume: this.volume },
      hint: "wait until it has stopped, then start it again",
    });
  }

  /** @throws WalbError `busy` when one of the actions runs. */
  requireIdle(actions: readonly Action[], what: string): void {
    for (const action of actions) {
      if (this.running(action) > 0) {
        throw new WalbError("busy", {
          what: `cannot ${what} while ${action} is running`,
          where: { volume: this.volume },
          hint: `wait for it, see walb status ${this.volume}; or end it where it was started, with Ctrl-C`,
        });
      }
    }
  }

  /** Enters `via`. @throws WalbError `state` unless in one of `from` and no other transition runs. */
  begin(from: readonly State[], via: State, what: string): Transition<State> {
    this.require(from, what);
    if (this.#inTransition) {
      throw new WalbError("busy", {
        what: `cannot ${what}: a transition is under way (${this.#state})`,
        where: { volume: this.volume },
        hint: `try again in a moment; see walb status ${this.volume}`,
      });
    }
    const before = this.#state;
    this.#inTransition = true;
    this.#enter(via);
    let isOver = false;
    const finish = (state: State): void => {
      if (isOver) return;
      isOver = true;
      this.#inTransition = false;
      this.#steady = state;
      this.#enter(state);
    };
    return { commit: finish, rollback: () => finish(before) };
  }

  /** Counts an action as running until the returned function is called. */
  beginAction(action: Action): () => void {
    this.#actions.set(action, this.running(action) + 1);
    this.#actionBeganMs.set(action, this.#nowMs());
    this.#wake();
    let isOver = false;
    return () => {
      if (isOver) return;
      isOver = true;
      this.#actions.set(action, this.running(action) - 1);
      this.#wake();
    };
  }

  setStopState(stopState: StopState): void {
    this.#stopState = stopState;
    this.#wake();
  }

  /** Resolves as soon as `condition` holds; checked after every change of state, action or stop state. */
  async until(condition: () => boolean, signal?: AbortSignal): Promise<void> {
    while (!condition()) {
      signal?.throwIfAborted();
      await new Promise<void>((resolve) => {
        const wake = (): void => {
          this.#waiters.delete(wake);
          signal?.removeEventListener("abort", wake);
          resolve();
        };
        this.#waiters.add(wake);
        signal?.addEventListener("abort", wake);
      });
    }
  }

  #enter(state: State): void {
    this.#state = state;
    this.#sinceMs = this.#nowMs();
    this.#wake();
  }

  #wake(): void {
    for (const wake of [...this.#waiters]) wake();
  }
}
