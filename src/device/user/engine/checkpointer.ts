/** @module Superblock writes, one at a time: checkpoints, erasing old log, growth. */
import { writeSuperblock } from "../../../log/format.ts";
import type { Superblock } from "../../../log/superblock.ts";
import type { Timer } from "../../../platform/clock.ts";
import type { EngineCore } from "./core.ts";

export class Checkpointer {
  readonly #core: EngineCore;
  readonly #advanced: () => void;
  #tail: Promise<unknown> = Promise.resolve();
  #timer: Timer | undefined;
  #isRequested = false;
  /** Somebody waits for the superblock: what is written back is not to be spread. */
  #isHurried = false;
  #intervalMs: number;
  /** While held no checkpoint is made by time. */
  isHeld = false;

  /** `advanced` is called when `prevWritten` has advanced. */
  constructor(core: EngineCore, advanced: () => void) {
    this.#core = core;
    this.#intervalMs = core.settings.checkpointIntervalMs;
    this.#advanced = advanced;
  }

  /** Time between checkpoints; 0: none by time. */
  get intervalMs(): number {
    return this.#intervalMs;
  }

  set intervalMs(intervalMs: number) {
    this.#intervalMs = intervalMs;
    this.#timer?.cancel();
    this.#timer = undefined;
    this.noteWritten();
  }

  /** Runs an action that changes the superblock, after those before it. */
  exclusive<T>(action: () => Promise<T>): Promise<T> {
    this.#isHurried = true;
    return this.#queue(action);
  }

  #queue<T>(action: () => Promise<T>): Promise<T> {
    const result = this.#tail.then(action);
    this.#tail = result.catch(() => {});
    return result;
  }

  /** To be called when `written` has advanced. */
  noteWritten(): void {
    const { lsids, ring, parts } = this.#core;
    // Half the ring waits for a checkpoint: before writers have to stop for it.
    if ((lsids.latest - lsids.prevWritten) * 2 > ring.ringSizePb) {
      this.request();
      return;
    }
    if (this.#intervalMs === 0 || this.#timer !== undefined || this.isHeld) return;
    if (lsids.written === lsids.prevWritten) return;
    this.#timer = parts.clock.timer(this.#intervalMs, () => {
      this.#timer = undefined;
      if (!this.isHeld) this.#checkpointGently();
    });
  }

  /**
   * A checkpoint that nobody waits for. A sync of all at once would fill the queue of the disk, and each sync of the log
   * would wait behind it: so the data store is written back a little at a time before.
   */
  #checkpointGently(): void {
    this.#isHurried = false;
    this.#queue(async () => {
      const core = this.#core;
      const { data } = core;
      try {
        for (const { offsetBytes, sizeBytes } of core.dirty.take()) {
          if (this.#isHurried || core.failure !== undefined) break;
          await data.writeBack?.(offsetBytes, sizeBytes);
        }
      } catch (error) {
        // The sync would not tell of it: what was lost must not be checkpointed.
        core.fail(error, "syncing the data store");
      }
      await this.save({});
    }).catch(() => {});
  }

  /** A checkpoint of what is written, soon; a failure makes the engine read-only. */
  request(): void {
    if (this.#isRequested) return;
    this.#isRequested = true;
    this.exclusive(async () => {
      this.#isRequested = false;
      await this.save({});
    }).catch(() => {});
  }

  /**
   * Syncs the data store when needed, then writes the superblock with what is given; only inside `exclusive`.
   * @throws the failure, after making the engine read-only.
   */
  async save(changes: Partial<Pick<Superblock, "oldestLsid" | "deviceSizeLb">>): Promise<void> {
    const core = this.#core;
    if (core.failure !== undefined) throw core.refusal();
    const { lsids } = core;
    // What is written by now is what the sync covers.
    const writtenLsid = lsids.written;
    if (writtenLsid === lsids.prevWritten && Object.keys(changes).length === 0) return;
    try {
      if (writtenLsid !== lsids.prevWritten) {
        core.dirty.clear();
        await core.data.sync();
      }
    } catch (error) {
      core.fail(error, "syncing the data store");
      throw core.refusal();
    }
    const next: Superblock = { ...core.superblock, oldestLsid: lsids.oldest, ...changes, writtenLsid };
    try {
      await writeSuperblock(core.log, core.memory.superblock, next);
    } catch (error) {
      core.fail(error, "writing the superblock");
      throw core.refusal();
    }
    core.superblock = next;
    core.counters.checkpointCount += 1;
    lsids.prevWritten = writtenLsid;
    lsids.oldest = next.oldestLsid;
    core.changed();
    this.#advanced();
  }

  /** Waits for what runs, and stops the timer. */
  async stop(): Promise<void> {
    this.#timer?.cancel();
    this.#timer = undefined;
    await this.#tail;
  }
}
