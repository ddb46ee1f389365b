/** @module Brings what is permanent in the log onto the data store: sorted, coalesced, in parallel. */
import { planStoreWrites, runStoreWrites, type StoreOperation } from "../../../log/storewrites.ts";
import type { Timer } from "../../../platform/clock.ts";
import { lbBytes, mib } from "../../../units.ts";
import type { EngineCore, PendingWrite } from "./core.ts";
import { Fifo } from "./fifo.ts";

const roundBytesMax = 16 * mib;
const roundWritesMax = 8192;
/** Permanent and not applied beyond this is applied at once. */
const eagerWrites = 2048;
/** Writes at a time: as many as a disk likes, or few, since one file's page cache takes them one by one anyway. */
const parallelDirect = 16;
const parallelCached = 2;

export class Applier {
  readonly #core: EngineCore;
  readonly #advanced: () => void;
  /** In log order; also writes whose log write is still under way. */
  readonly #pending = new Fifo<PendingWrite>();
  #isRunning = false;
  /** What lies below is applied without delay once it is permanent. */
  #urgentLsid = 0;
  #timer: Timer | undefined;

  /** `advanced` is called when `written` has advanced. */
  constructor(core: EngineCore, advanced: () => void) {
    this.#core = core;
    this.#advanced = advanced;
  }

  /** A write has got its place in the log. */
  add(write: PendingWrite): void {
    this.#pending.push(write);
  }

  /** To be called when `permanent` has advanced. */
  notePermanent(): void {
    if (this.#isRunning) return;
    if (!this.#isReady()) {
      this.#settle();
      return;
    }
    const isUrgent = this.#pending.peek()!.startLsid < this.#urgentLsid;
    if (isUrgent || this.#core.isPressed || this.#pending.length >= eagerWrites) {
      this.#start();
      return;
    }
    this.#timer ??= this.#core.parts.clock.timer(this.#core.settings.applyDelayMs, () => {
      this.#timer = undefined;
      this.#start();
    });
  }

  /** Applies all that is packed by now as soon as it is permanent. */
  request(): void {
    this.#urgentLsid = this.#core.lsids.latest;
    this.#start();
  }

  /** Call after the log was reset. */
  logChanged(): void {
    this.#urgentLsid = 0;
  }

  abandon(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  /** Gives back the memory of what was not applied; only when no job can use it any more and nothing is read. */
  release(): void {
    for (const write of this.#pending.drain()) this.#core.noteApplied(write);
  }

  #isReady(): boolean {
    const first = this.#pending.peek();
    return first !== undefined && first.endLsid <= this.#core.lsids.permanent;
  }

  #start(): void {
    if (this.#isRunning || this.#core.failure !== undefined) return;
    this.#timer?.cancel();
    this.#timer = undefined;
    this.#isRunning = true;
    this.#run().catch((error: unknown) => this.#core.fail(error, "writing the data store"));
  }

  async #run(): Promise<void> {
    try {
      await this.#applyAll();
    } finally {
      // At once behind the last look at the queue, so that nothing that becomes permanent is missed.
      this.#isRunning = false;
    }
  }

  async #applyAll(): Promise<void> {
    const core = this.#core;
    while (core.failure === undefined && this.#isReady()) {
      // Where there is no hurry, clients that wait for each answer are not to wait for the copy as well.
      const isGentle = !core.isPressed && this.#pending.length < eagerWrites;
      const round = this.#takeRound();
      const operations = planStoreWrites(round);
      const parallel = core.data.isDirect ? parallelDirect : isGentle ? 1 : parallelCached;
      await runStoreWrites(core.data, operations, core.memory.zeroes, { parallel, isGentle });
      core.counters.appliedBytes += bytesOf(operations);
      if (core.data.writeBack !== undefined && !core.data.isDirect) {
        for (const { kind, offsetLb, sizeLb } of operations) {
          if (kind === "write") core.dirty.note(offsetLb * lbBytes, sizeLb * lbBytes);
        }
      }
      for (const write of round) {
        this.#pending.shift();
        core.overlay.remove(write.offsetLb, write.offsetLb + write.sizeLb, write);
        core.noteApplied(write);
      }
      this.#settle();
    }
  }

  /** Writes from the oldest on that are permanent as a whole; they stay in the queue until applied. */
  #takeRound(): PendingWrite[] {
    const { permanent } = this.#core.lsids;
    const round: PendingWrite[] = [];
    let roundBytes = 0;
    while (round.length < roundWritesMax && (roundBytes < roundBytesMax || round.length === 0)) {
      const write = this.#pending.at(round.length);
      if (write === undefined || write.endLsid > permanent) break;
      round.push(write);
      roundBytes += write.memory?.sizeBytes ?? 0;
    }
    return round;
  }

  /**
   * Advances `written`: everything below the first pack with a part of an unapplied write is on the data store, and
   * everything permanent when no write is left.
   */
  #settle(): void {
    const { lsids } = this.#core;
    const first = this.#pending.peek();
    const written = Math.min(first?.startLsid ?? lsids.permanent, lsids.permanent);
    if (written <= lsids.written) return;
    lsids.written = written;
    this.#core.changed();
    this.#advanced();
  }
}

function bytesOf(operations: readonly StoreOperation[]): number {
  let sum = 0;
  for (const operation of operations) sum += operation.sizeLb * lbBytes;
  return sum;
}
