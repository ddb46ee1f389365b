/** @module Syncs of the log, shared by all who wait for one that began after their write was appended. */
import type { WalbError } from "../../../errors.ts";
import type { Timer } from "../../../platform/clock.ts";
import type { RunningSync } from "../../../platform/disk.ts";
import type { Done, LeaveAnswer } from "../block.ts";
import type { EngineCore } from "./core.ts";
import { Fifo } from "./fifo.ts";

interface Waiter {
  readonly lsid: number;
  readonly done: Done;
  readonly leaveAnswer: LeaveAnswer | undefined;
}

/** So many pairs of a write and a flush make the next write be synced before its flush is there. */
const eagerPairs = 4;

export class LogSyncer {
  readonly #core: EngineCore;
  readonly #advanced: () => void;
  /** In order of their lsid, since `completed` only grows. */
  readonly #waiters = new Fifo<Waiter>();
  #isRunning = false;
  /** What is running, where answers can be left to it. It makes all below `flush` durable. */
  #running: RunningSync | undefined;
  #isWanted = false;
  #timer: Timer | undefined;
  /** Batches completed since the last wait. */
  #batchCount = 0;
  /** Waits in a row with one batch before each: whoever writes so will ask for a sync again after the next one. */
  #pairCount = 0;

  /** `advanced` is called when `permanent` has advanced. */
  constructor(core: EngineCore, advanced: () => void) {
    this.#core = core;
    this.#advanced = advanced;
  }

  /** Calls back when everything completed so far is durable. The answer may be left to the sync that makes it so. */
  wait(done: Done, leaveAnswer?: LeaveAnswer): void {
    const { lsids, failure } = this.#core;
    this.#pairCount = this.#batchCount <= 1 ? this.#pairCount + 1 : 0;
    this.#batchCount = 0;
    if (lsids.permanent >= lsids.completed) {
      queueMicrotask(() => done(undefined));
      return;
    }
    if (failure !== undefined) {
      const refusal = this.#core.refusal();
      queueMicrotask(() => done(refusal));
      return;
    }
    this.#waiters.push({ lsid: lsids.completed, done, leaveAnswer });
    if (this.#running !== undefined && lsids.completed <= lsids.flush) leaveAnswer?.(this.#running);
    this.request();
  }

  /** Syncs what has completed, as soon as a running sync has ended. */
  request(): void {
    this.#isWanted = true;
    if (!this.#isRunning) this.#run().catch((error: unknown) => this.#core.fail(error, "syncing the log"));
  }

  /**
   * Lets the write of the next batch be the sync that is expected to be asked for behind it. Not beside another sync: the
   * kernel tells a failure of the log to one of them only.
   */
  beginByWrite(): boolean {
    if (this.#isRunning || this.#pairCount < eagerPairs) return false;
    this.#isRunning = true;
    this.#timer?.cancel();
    this.#timer = undefined;
    return true;
  }

  /** Ends what {@link beginByWrite} began, when the batch has completed and nothing behind it. */
  endByWrite(): void {
    this.#isRunning = false;
    this.#core.lsids.flush = this.#core.lsids.completed;
    this.#advance(this.#core.lsids.completed);
    if (this.#waiters.length > 0) this.request();
    else this.#isWanted = false;
  }

  /** To be called when `completed` has advanced by a batch. */
  noteBatch(): void {
    this.#batchCount += 1;
    this.noteCompleted();
  }

  /** Forces a sync by size, or by time. */
  noteCompleted(): void {
    const { lsids, ring, settings, isPressed } = this.#core;
    const unsyncedBytes = (lsids.completed - lsids.permanent) * ring.pbsBytes;
    if (unsyncedBytes === 0) return;
    if (this.#batchCount > 1) this.#pairCount = 0;
    // Under pressure a sync must set much free at once: syncs back to back would only slow down what is being applied.
    const isUrgent = isPressed && unsyncedBytes * 16 >= settings.pendingBudgetBytes;
    const isLarge = unsyncedBytes >= settings.logSyncBytes || unsyncedBytes * 4 > ring.ringSizePb * ring.pbsBytes;
    if (isUrgent || isLarge || this.#pairCount >= eagerPairs) {
      this.request();
    } else if (this.#timer === undefined && !this.#isRunning) {
      this.#timer = this.#core.parts.clock.timer(settings.logSyncIntervalMs, () => {
        this.#timer = undefined;
        this.request();
      });
    }
  }

  /** Fails all who wait. */
  abandon(error: WalbError): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    for (const waiter of this.#waiters.drain()) waiter.done(error);
  }

  /** All log below `target` has become durable. */
  #advance(target: number): void {
    const core = this.#core;
    core.counters.logSyncCount += 1;
    core.lsids.permanent = target;
    core.changed();
    while ((this.#waiters.peek()?.lsid ?? Number.POSITIVE_INFINITY) <= target) {
      this.#waiters.shift()!.done(undefined);
    }
    this.#advanced();
    core.onEvent();
  }

  async #run(): Promise<void> {
    const core = this.#core;
    const { lsids } = core;
    this.#isRunning = true;
    this.#timer?.cancel();
    this.#timer = undefined;
    try {
      while (this.#isWanted && core.failure === undefined) {
        this.#isWanted = false;
        if (lsids.permanent >= lsids.completed) continue;
        const target = lsids.completed;
        lsids.flush = target;
        core.changed();
        await this.#sync();
        if (core.failure !== undefined) return;
        this.#advance(target);
        if (this.#waiters.length > 0) this.#isWanted = true;
      }
    } finally {
      this.#isRunning = false;
    }
    this.noteCompleted();
  }

  /** The answer to the first who waits for the sync may be left to it. */
  async #sync(): Promise<void> {
    const { log } = this.#core;
    if (log.beginSync === undefined) return log.sync();
    const running = log.beginSync();
    this.#running = running;
    try {
      this.#waiters.peek()?.leaveAnswer?.(running);
      await running.ended;
    } finally {
      this.#running = undefined;
    }
  }
}
