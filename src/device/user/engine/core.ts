/** @module What the parts of an engine share: stores, lsids, pending writes, the one failure, and who waits for what. */
import { assert, WalbError } from "../../../errors.ts";
import type { RingGeometry } from "../../../log/geometry.ts";
import { IntervalIndex } from "../../../log/intervals.ts";
import { geometryOf, type Superblock } from "../../../log/superblock.ts";
import type { Lease, Memory } from "../../../native/memory.ts";
import type { Timer } from "../../../platform/clock.ts";
import type { DiskFile } from "../../../platform/disk.ts";
import type { Lsids } from "../../device.ts";
import type { Done, LeaveAnswer } from "../block.ts";
import { DirtyRegions } from "./dirty.ts";
import type { EngineParts, EngineSettings } from "./options.ts";

/** A request to write, from its arrival until all of it is on the data store. */
export interface WriteRequest {
  readonly kind: "data" | "zeroes" | "discard";
  readonly sizeLb: number;
  /** Data; undefined for zeroes and discards. */
  readonly source: Lease | undefined;
  readonly isFua: boolean;
  readonly done: Done;
  readonly leaveAnswer: LeaveAnswer | undefined;
  readonly pieceCount: number;
  /** The log has room for all of it; decided when its first piece is packed. */
  isAdmitted: boolean;
  /** Pieces that are neither in the log nor refused. */
  unloggedCount: number;
  /** Pieces that are neither on the data store nor refused. */
  unappliedCount: number;
  /** Why a piece was refused. */
  error: WalbError | undefined;
}

/** The part of a request that is one record of the log. */
export interface PendingWrite {
  readonly request: WriteRequest;
  readonly offsetLb: number;
  readonly sizeLb: number;
  /** Whole PB, the slack cleared; undefined for zeroes and discards. */
  readonly memory: Memory | undefined;
  /** Lsid of the pack it is in. */
  startLsid: number;
  /** Lsid up to which the log must be permanent before it may be applied; Infinity until it is packed. */
  endLsid: number;
}

/** What a piece costs besides its memory. */
const pieceBytes = 256;

/** What an engine holds for good, so that nothing it needs to make progress waits for writes to give memory back. */
export interface EngineMemory {
  readonly zeroes: Memory;
  /** Header blocks of one batch each. */
  readonly slots: readonly Memory[];
  readonly superblock: Memory;
  readonly bounce: Memory;
}

/** Mutable lsids; `check` after each change. */
export type MutableLsids = { -readonly [K in keyof Lsids]: Lsids[K] };

export class EngineCore {
  readonly parts: EngineParts;
  readonly settings: EngineSettings;
  readonly log: DiskFile;
  readonly data: DiskFile;
  readonly memory: EngineMemory;
  superblock: Superblock;
  ring: RingGeometry;
  readonly lsids: MutableLsids;
  isOverflow: boolean;
  /** Set once, for good: the engine takes no more writes. */
  failure: WalbError | undefined;
  /** Newest completed, not yet applied write of each block. */
  readonly overlay = new IntervalIndex<PendingWrite>();
  /** Of the data store, written and not synced. */
  readonly dirty = new DirtyRegions();
  pendingBytes = 0;
  /** Space of the log that is being prepared begins here: nothing may be appended at or behind it meanwhile. */
  preparingLsid = Number.POSITIVE_INFINITY;
  counters = {
    writeCount: 0,
    writeBytes: 0,
    readCount: 0,
    readBytes: 0,
    discardCount: 0,
    flushCount: 0,
    packCount: 0,
    logBatchCount: 0,
    logSyncCount: 0,
    checkpointCount: 0,
    appliedBytes: 0,
  };
  #waiters: { test: () => boolean; resolve: () => void; reject: (error: WalbError) => void }[] = [];
  #roomCallbacks: (() => void)[] = [];
  /** Pending writes came to the maximum: none is let in until they are few enough, or that takes too long. */
  #isStopped = false;
  /** It takes too long. */
  #isOverdue = false;
  #goOnTimer: Timer | undefined;
  #bounceTail: Promise<void> = Promise.resolve();
  /** Called once, when the engine becomes read-only. */
  onFailure: (error: WalbError) => void = () => {};
  /** Called when something changed that watchers of the device care for. */
  onEvent: () => void = () => {};

  constructor(
    parts: EngineParts,
    settings: EngineSettings,
    stores: { log: DiskFile; data: DiskFile; memory: EngineMemory; superblock: Superblock; isOverflow: boolean },
  ) {
    this.parts = parts;
    this.settings = settings;
    this.log = stores.log;
    this.data = stores.data;
    this.memory = stores.memory;
    this.superblock = stores.superblock;
    this.ring = geometryOf(stores.superblock);
    this.isOverflow = stores.isOverflow;
    const at = stores.superblock.writtenLsid;
    const oldest = stores.superblock.oldestLsid;
    this.lsids = { oldest, prevWritten: at, written: at, permanent: at, flush: at, completed: at, latest: at };
  }

  /** Half of the budget is used: sync and apply without delay. */
  get isPressed(): boolean {
    return this.pendingBytes * 2 > this.settings.pendingBudgetBytes;
  }

  get roomBytes(): number {
    return this.#isStopped ? 0 : this.settings.pendingBudgetBytes - this.pendingBytes;
  }

  /** To be called after lsids changed: checks their order, wakes who waits. */
  changed(): void {
    const { oldest, prevWritten, written, permanent, flush, completed, latest } = this.lsids;
    const isOrdered =
      oldest <= prevWritten &&
      prevWritten <= written &&
      written <= permanent &&
      permanent <= flush &&
      flush <= completed &&
      completed <= latest;
    assert(isOrdered, `lsids in order: ${JSON.stringify(this.lsids)}`);
    assert(latest - prevWritten <= this.ring.ringSizePb, "log that is not checkpointed is never overwritten");
    this.wake();
  }

  wake(): void {
    if (this.#waiters.length === 0) return;
    this.#waiters = this.#waiters.filter((waiter) => {
      if (!waiter.test()) return true;
      waiter.resolve();
      return false;
    });
  }

  /** Resolves when the test holds. @throws the failure when the engine becomes read-only first. */
  until(test: () => boolean): Promise<void> {
    if (test()) return Promise.resolve();
    if (this.failure !== undefined) return Promise.reject(this.refusal());
    return new Promise((resolve, reject) => this.#waiters.push({ test, resolve, reject }));
  }

  /** Makes the engine read-only for good. */
  fail(cause: unknown, step: string): void {
    if (this.failure !== undefined) return;
    const parts = cause instanceof WalbError ? cause : undefined;
    this.failure = new WalbError(parts?.code === "no-space" ? "no-space" : "io", {
      what: `${step} failed; the volume takes no more writes`,
      where: { volume: this.settings.name, ...parts?.where },
      hint: `repair the store, then: walb device start ${this.settings.name}; it redoes the log`,
      cause,
    });
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const waiter of waiters) waiter.reject(this.failure);
    this.onFailure(this.failure);
    this.onEvent();
  }

  /** The error for a request to a read-only engine. */
  refusal(): WalbError {
    const why = this.failure?.message ?? "";
    return new WalbError("read-only", {
      what: `the volume takes no more writes: ${why}`,
      where: { volume: this.settings.name },
      hint: `repair the store, then: walb device start ${this.settings.name}; it redoes the log`,
    });
  }

  /** The error for a write that finds no room in the log when the policy is to stop. */
  logFull(): WalbError {
    return new WalbError("no-space", {
      what: "the log is full and its policy is to stop",
      where: { volume: this.settings.name, file: this.log.path },
      hint: "let the storage daemon ship the log, enlarge it, or allow overflow with keep-writing",
    });
  }

  /** Counts a request as pending. */
  admit(request: WriteRequest): void {
    this.pendingBytes += costBytes(request);
    if (this.pendingBytes >= this.settings.pendingBudgetBytes && !this.#isStopped) this.#stopLettingIn();
  }

  /** A piece is in the log. True when the whole request is: then its outcome may be told. */
  noteLogged(write: PendingWrite): boolean {
    write.request.unloggedCount -= 1;
    return write.request.unloggedCount === 0;
  }

  /** A piece is on the data store: with the last one the request gives its memory back. */
  noteApplied(write: PendingWrite): void {
    const { request } = write;
    request.unappliedCount -= 1;
    if (request.unappliedCount === 0) this.#retire(request);
  }

  /** A piece will never be in the log. */
  refuse(write: PendingWrite, error: WalbError): void {
    const { request } = write;
    request.error ??= error;
    if (this.noteLogged(write)) request.done(request.error);
    this.noteApplied(write);
  }

  #retire(request: WriteRequest): void {
    this.pendingBytes -= costBytes(request);
    request.source?.release();
    if (this.#isStopped) this.#letInAgain();
  }

  #stopLettingIn(): void {
    this.#isStopped = true;
    this.#isOverdue = false;
    const overdue = (): void => {
      this.#isOverdue = true;
      this.#letInAgain();
    };
    this.#goOnTimer = this.parts.clock.timer(this.settings.queueStopTimeoutMs, overdue, { unref: true });
  }

  /** What is pending never comes above the maximum by more than one request of each client, however long it takes. */
  #letInAgain(): void {
    const { pendingBudgetBytes, minPendingBytes } = this.settings;
    if (this.pendingBytes >= (this.#isOverdue ? pendingBudgetBytes : minPendingBytes)) return;
    this.#isStopped = false;
    this.#goOnTimer?.cancel();
    this.#goOnTimer = undefined;
    if (this.#roomCallbacks.length > 0) queueMicrotask(() => this.releaseRoomWaiters());
  }

  /** Calls back once, when there is room or the engine has failed (then requests are refused at once). */
  onRoom(callback: () => void): void {
    if (this.roomBytes > 0 || this.failure !== undefined) queueMicrotask(callback);
    else this.#roomCallbacks.push(callback);
  }

  /** Uses the bounce buffer, one user after the other. */
  bounced(use: (bounce: Memory) => Promise<void>): Promise<void> {
    const result = this.#bounceTail.then(() => use(this.memory.bounce));
    this.#bounceTail = result.catch(() => {});
    return result;
  }

  /** Wakes who waits for room: they look themselves, and are refused when the engine has failed. */
  releaseRoomWaiters(): void {
    const callbacks = this.#roomCallbacks;
    this.#roomCallbacks = [];
    for (const callback of callbacks) callback();
  }
}

function costBytes(request: WriteRequest): number {
  return pieceBytes * request.pieceCount + (request.source?.sizeBytes ?? 0);
}
