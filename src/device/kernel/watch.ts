/**
 * @module Watching a log of the driver. It notifies only when an empty log gets something; while anything is left there
 * is no further event. So the lsids are looked at again by time until the log is empty, less and less often while
 * nothing changes.
 */
import type { Clock, Timer } from "../../platform/clock.ts";
import type { Kernel } from "../../platform/kernel.ts";
import { attributePath } from "./sysfs.ts";

/** Watchers are called at most this often. */
const gapMs = 20;
/** How soon after a change it is looked again. */
const lookMsMin = 100;
/** How seldom while log is left, which delays the news of a write by so much, and while the log is empty or the device
 * not there. */
const lookMsMax = 250;
const lookMsIdle = 5_000;

/** The watchers of one device. */
export class LogWatch {
  readonly #watchers = new Set<() => void>();
  /** `lsids`, `status` and `uuid` as they were when watchers were told last. */
  #seen: string | undefined;
  #stopEvents: (() => void) | undefined;
  #timer: Timer | undefined;
  #gapTimer: Timer | undefined;
  #lastToldMs = Number.NEGATIVE_INFINITY;
  #delayMs = lookMsMin;
  #isLooking = false;
  #isFired = false;

  constructor(
    readonly kernel: Kernel,
    readonly clock: Clock,
    readonly name: string,
  ) {}

  add(changed: () => void): () => void {
    // Wrapped, so that the same function may watch twice and be taken away once.
    const watcher = (): void => changed();
    this.#watchers.add(watcher);
    if (this.#watchers.size === 1) this.#begin();
    return () => {
      if (this.#watchers.delete(watcher) && this.#watchers.size === 0) this.#end();
    };
  }

  close(): void {
    this.#watchers.clear();
    this.#end();
  }

  #begin(): void {
    this.#seen = undefined;
    this.#delayMs = lookMsMin;
    void this.#look();
  }

  #end(): void {
    this.#stopEvents?.();
    this.#stopEvents = undefined;
    this.#timer?.cancel();
    this.#gapTimer?.cancel();
    this.#gapTimer = undefined;
  }

  /** An event; also called when the device is gone. */
  #fired(): void {
    this.#isFired = true;
    this.#delayMs = lookMsMin;
    void this.#look();
  }

  async #look(): Promise<void> {
    if (this.#isLooking) return;
    this.#isLooking = true;
    this.#timer?.cancel();
    try {
      do {
        this.#isFired = false;
        await this.#compare();
      } while (this.#isFired && this.#watchers.size > 0);
    } finally {
      this.#isLooking = false;
    }
  }

  async #compare(): Promise<void> {
    // Events first: what happens between the two is then told by one.
    this.#stopEvents ??= this.#watchers.size === 0 ? undefined : this.#startEvents();
    const now = await this.#read();
    if (this.#watchers.size === 0) return this.#end();
    const isChanged = now !== this.#seen;
    this.#seen = now;
    if (now === "") {
      // Gone: the next device of this name has events of its own.
      this.#stopEvents?.();
      this.#stopEvents = undefined;
    }
    this.#delayMs = isChanged ? lookMsMin : Math.min(lookMsMax, this.#delayMs * 2);
    const delayMs = isEmptyLog(now) ? lookMsIdle : this.#delayMs;
    this.#timer = this.clock.timer(delayMs, () => void this.#look(), { unref: true });
    if (isChanged) this.#tell();
  }

  #startEvents(): (() => void) | undefined {
    try {
      return this.kernel.watchAttribute(attributePath(this.name, "lsids"), () => this.#fired());
    } catch {
      // Without events it is found out by looking.
      return undefined;
    }
  }

  /** Empty when the device is not there. */
  async #read(): Promise<string> {
    try {
      const texts = [];
      for (const attribute of ["lsids", "status", "uuid"]) {
        const text = await this.kernel.readAttribute(attributePath(this.name, attribute));
        if (text === undefined) return "";
        texts.push(text);
      }
      return texts.join("");
    } catch {
      // Whoever asks the device for its status gets the error.
      return "";
    }
  }

  #tell(): void {
    if (this.#gapTimer !== undefined) return;
    const dueMs = this.#lastToldMs + gapMs - this.clock.monotonicMs();
    this.#gapTimer = this.clock.timer(Math.max(0, dueMs), () => {
      this.#gapTimer = undefined;
      this.#lastToldMs = this.clock.monotonicMs();
      for (const watcher of this.#watchers) watcher();
    });
  }
}

/** Everything is erased: the next event tells of the next write. */
function isEmptyLog(text: string): boolean {
  const lsid = (key: string): string | undefined => new RegExp(`^\\s*${key}\\s+(\\d+)`, "m").exec(text)?.[1];
  const oldest = lsid("oldest");
  return oldest !== undefined && oldest === lsid("latest");
}
