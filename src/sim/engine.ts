/** @module Virtual time: schedules events, runs them one by one, keeps the trace. */
import { WalbError } from "../errors.ts";
import type { RunLimits, SimRandom } from "./api.ts";
import { EventQueue, type SimEvent } from "./queue.ts";
import { createSimRandom, hashText } from "./random.ts";

/** Who an event belongs to: events of a dead owner never fire. */
export interface Owner {
  readonly isAlive: boolean;
}

const recentLines = 256;
const defaultLimitMs = 24 * 3600 * 1000;
const defaultMaxEvents = 20_000_000;

/** The event loop of a world. Everything asynchronous in the simulator is an event of this engine. */
export class Engine {
  readonly random: SimRandom;
  private readonly ties: SimRandom;
  private readonly queue = new EventQueue();
  private readonly lines: string[] = [];
  private readonly afterEvent: (() => void)[] = [];
  private timeUs = 0;
  private sequence = 0;
  private hash: number;
  private running = false;
  private failure: { readonly error: unknown } | undefined;
  eventCount = 0;

  constructor(
    readonly seed: number,
    private readonly onTrace: ((line: string) => void) | undefined,
  ) {
    this.random = createSimRandom(seed, "world");
    this.ties = this.random.fork("ties");
    this.hash = 0x811c_9dc5;
  }

  get nowUs(): number {
    return this.timeUs;
  }

  get traceHash(): number {
    return this.hash >>> 0;
  }

  recentTrace(): string[] {
    const start = Math.max(0, this.lines.length - recentLines);
    return this.lines.slice(start);
  }

  /** Runs `run` after a delay, unless the owner is dead by then. Errors it throws end the run of the world. */
  schedule(delayMs: number, label: string, owner: Owner | undefined, run: () => void): SimEvent {
    return this.scheduleAt(this.timeUs + Math.max(0, Math.round(delayMs * 1000)), label, owner, run);
  }

  /** As {@link schedule}, at an absolute time (not in the past). */
  scheduleAt(timeUs: number, label: string, owner: Owner | undefined, run: () => void): SimEvent {
    const event: SimEvent = {
      timeUs: Math.max(timeUs, this.timeUs),
      tie: this.ties.u32(),
      sequence: this.sequence++,
      label,
      run: owner === undefined ? run : () => (owner.isAlive ? run() : undefined),
    };
    this.queue.push(event);
    return event;
  }

  cancel(event: SimEvent): void {
    this.queue.cancel(event);
  }

  /** Calls back once after the current event and the microtasks it made, when no code of a process can be running. */
  onceQuiet(callback: () => void): void {
    this.afterEvent.push(callback);
  }

  /** Runs what {@link onceQuiet} put off. */
  settleQuiet(): void {
    for (const callback of this.afterEvent.splice(0)) callback();
  }

  note(line: string): void {
    const text = `${(this.timeUs / 1000).toFixed(3)} ${line}`;
    this.hash = hashText(text, this.hash);
    if (this.lines.push(text) >= 4 * recentLines) this.lines.splice(0, this.lines.length - recentLines);
    this.onTrace?.(text);
  }

  /** Remembers an error that nobody can catch (thrown by a callback): the running or next run throws it. */
  fail(error: unknown): void {
    this.failure ??= { error };
  }

  /** Lets virtual time pass. */
  async runFor(forMs: number, limits: RunLimits): Promise<void> {
    const endUs = this.timeUs + Math.round(forMs * 1000);
    await this.drive(() => false, endUs, limits);
    this.timeUs = Math.max(this.timeUs, endUs);
  }

  /** Runs until the predicate holds. @throws WalbError `timed-out` when it does not come true. */
  async runUntil(predicate: () => boolean, limits: RunLimits): Promise<void> {
    const startUs = this.timeUs;
    const limitMs = limits.limitMs ?? defaultLimitMs;
    const end = await this.drive(predicate, startUs + limitMs * 1000, limits);
    if (end === "reached") return;
    const why =
      end === "idle" ? "nothing is left to do" : `${limitMs} ms of virtual time passed without the expected event`;
    throw this.notLive(why);
  }

  private async drive(
    predicate: () => boolean,
    endUs: number,
    limits: RunLimits,
  ): Promise<"reached" | "idle" | "time-over"> {
    if (this.running)
      throw new WalbError("internal", { what: "the world is running already: await one run at a time" });
    this.running = true;
    const eventsEnd = this.eventCount + (limits.maxEvents ?? defaultMaxEvents);
    try {
      for (;;) {
        // A macrotask lets every microtask of the last event finish before the next event is chosen.
        await new Promise<void>((resolve) => setImmediate(resolve));
        this.settleQuiet();
        if (this.failure !== undefined) {
          const { error } = this.failure;
          this.failure = undefined;
          throw error;
        }
        if (predicate()) return "reached";
        const next = this.queue.peek();
        if (next === undefined) return "idle";
        if (next.timeUs > endUs) return "time-over";
        if (this.eventCount >= eventsEnd) throw this.notLive(`${eventsEnd} events passed without an end`);
        this.step();
      }
    } finally {
      this.running = false;
    }
  }

  private step(): void {
    const next = this.queue.pop();
    if (next === undefined) return;
    this.timeUs = next.event.timeUs;
    this.eventCount++;
    this.note(next.event.label);
    try {
      next.run();
    } catch (error) {
      this.fail(error);
    }
  }

  private notLive(why: string): WalbError {
    return new WalbError("timed-out", {
      what: `the simulation with seed ${this.seed} is not live: ${why}`,
      hint: `the last events were:\n${this.recentTrace().slice(-20).join("\n")}`,
    });
  }
}
