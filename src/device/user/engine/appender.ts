/**
 * @module Group commit, the doing half: batches go to the log store, at most two at a time, and complete in log order.
 */
import { sealPack } from "../../../log/builder.ts";
import type { Memory } from "../../../native/memory.ts";
import type { EngineCore, PendingWrite } from "./core.ts";
import { Fifo } from "./fifo.ts";
import { type LogBatch, type Packed, Packer, type Stall } from "./packer.ts";

interface Flight {
  readonly batch: LogBatch;
  isWritten: boolean;
  /** Its write is a sync of the log, too. */
  isSynced: boolean;
}

/** What the appender tells the rest of the engine. */
export interface AppenderEvents {
  /** A write has a place in the log; called in log order. */
  started(write: PendingWrite): void;
  /** A write is in the log; called in log order. `completed` has advanced. */
  completed(write: PendingWrite): void;
  /** `completed` has advanced by a batch. */
  advanced(): void;
  /** Whether the next batch is to be synced by its write. Then `synced` is called when it has completed. */
  beginSynced(): boolean;
  /** All log that has completed is durable. */
  synced(): void;
  /** Packing cannot go on: the ring must be checkpointed, or the log synced. */
  stalled(stall: Stall): void;
}

export class LogAppender {
  readonly #core: EngineCore;
  readonly #events: AppenderEvents;
  readonly #queue = new Fifo<PendingWrite>();
  readonly #slots: Memory[];
  readonly #flights = new Fifo<Flight>();
  #packer: Packer;
  #isScheduled = false;
  /** While held nothing is packed. */
  isHeld = false;

  constructor(core: EngineCore, slots: readonly Memory[], events: AppenderEvents) {
    this.#core = core;
    this.#slots = [...slots];
    this.#events = events;
    this.#packer = new Packer(core);
  }

  /** Nothing is on its way to the log. */
  get isIdle(): boolean {
    return this.#flights.length === 0;
  }

  get queueLength(): number {
    return this.#queue.length;
  }

  /** Call after the log was reset. */
  logChanged(): void {
    this.#packer = new Packer(this.#core);
  }

  push(write: PendingWrite): void {
    this.#queue.push(write);
    this.kick();
  }

  /** Looks at the queue once the current callback is over, so that all that arrives in it shares a batch. */
  kick(): void {
    if (this.#isScheduled || this.#queue.length === 0) return;
    this.#isScheduled = true;
    queueMicrotask(() => {
      this.#isScheduled = false;
      try {
        this.#pump();
      } catch (error) {
        this.#core.fail(error, "the engine");
      }
    });
  }

  /** Gives everything up that has not completed, when the engine has failed. */
  abandon(): void {
    for (const write of this.#queue.drain()) this.#core.refuse(write, this.#core.refusal());
  }

  #pump(): void {
    const core = this.#core;
    while (core.failure === undefined && !this.isHeld && this.#queue.length > 0) {
      const slot = this.#slots.pop();
      if (slot === undefined) return;
      const packed: Packed = this.#packer.pack(this.#queue, slot);
      for (const write of packed.refused) core.refuse(write, core.logFull());
      if (packed.batch === undefined) {
        this.#slots.push(slot);
        core.wake();
        if (packed.stall !== undefined) this.#events.stalled(packed.stall);
        return;
      }
      for (const write of packed.batch.writes) this.#events.started(write);
      this.#noteOverflow();
      core.changed();
      const flight: Flight = { batch: packed.batch, isWritten: false, isSynced: false };
      this.#flights.push(flight);
      if (!this.#writeNow(flight)) this.#write(flight).catch((error: unknown) => core.fail(error, "the engine"));
      if (packed.stall === "ring" || packed.stall === "unsynced") this.#events.stalled(packed.stall);
    }
  }

  /** Writes a batch into the page cache at once, when that needs neither a job nor a wait. */
  #writeNow(flight: Flight): boolean {
    const { log, ring, preparingLsid } = this.#core;
    const { batch } = flight;
    if (log.writeCached === undefined || batch.deferred.length > 0) return false;
    // File systems keep writers of one file apart, and this thread is not to wait for space being prepared.
    if (preparingLsid !== Number.POSITIVE_INFINITY) return false;
    for (const header of batch.headers) sealPack(header.bytes, ring.salt);
    for (const { offsetBytes, pieces } of batch.gathers) if (!log.writeCached(offsetBytes, pieces)) return false;
    this.#written(flight);
    return true;
  }

  async #write(flight: Flight): Promise<void> {
    const core = this.#core;
    const { batch } = flight;
    try {
      if (!(await this.#writeSummed(flight))) {
        await this.#seal(batch);
        if (this.#isSyncing(flight))
          await core.log.writeSynced?.(batch.gathers[0]!.offsetBytes, batch.gathers[0]!.pieces);
        else if (batch.gathers.length === 1) await writeOne(core, batch.gathers[0]!);
        else await allSettled(batch.gathers.map((gather) => writeOne(core, gather)));
      }
    } catch (error) {
      core.fail(error, "writing the log");
    }
    this.#written(flight);
  }

  /** One job for checksums, write and, when it is going to be asked for, sync. False when it takes more than one. */
  async #writeSummed(flight: Flight): Promise<boolean> {
    const { log, ring } = this.#core;
    const { gathers, deferred, headers } = flight.batch;
    const [gather] = gathers;
    if (log.writeSummed === undefined || deferred.length === 0 || gather === undefined || gathers.length > 1)
      return false;
    const seals = headers.map((block) => ({ block, offsetBytes: 0, data: block }));
    const options = { salt: ring.salt, isSynced: this.#isSyncing(flight) };
    await log.writeSummed(gather.offsetBytes, gather.pieces, [...deferred, ...seals], options);
    return true;
  }

  /** Puts in what is missing of the headers. */
  async #seal({ deferred, headers }: LogBatch): Promise<void> {
    const { parts, ring } = this.#core;
    if (deferred.length > 0) {
      const items = deferred.map(({ data }) => data);
      const sums = await parts.compute.checksums(items, ring.salt);
      for (const [i, { block, offsetBytes }] of deferred.entries()) block.view.setUint32(offsetBytes, sums[i]!, true);
    }
    for (const header of headers) sealPack(header.bytes, ring.salt);
  }

  /** One job for both the write and the sync that is going to be asked for; only when nothing before is on its way. */
  #isSyncing(flight: Flight): boolean {
    const { log, lsids } = this.#core;
    const { batch } = flight;
    if (log.writeSynced === undefined || batch.gathers.length !== 1 || batch.startLsid !== lsids.completed)
      return false;
    flight.isSynced = this.#events.beginSynced();
    return flight.isSynced;
  }

  #written(flight: Flight): void {
    this.#slots.push(flight.batch.slot);
    flight.isWritten = true;
    this.#land();
  }

  /** Completes what is written, in log order. */
  #land(): void {
    const core = this.#core;
    while (this.#flights.peek()?.isWritten) {
      const { batch, isSynced } = this.#flights.shift()!;
      if (core.failure !== undefined) {
        for (const write of batch.writes) core.refuse(write, core.refusal());
        continue;
      }
      core.counters.logBatchCount += 1;
      core.counters.packCount += batch.headers.length;
      core.lsids.completed = batch.endLsid;
      for (const write of batch.writes) this.#events.completed(write);
      if (isSynced) this.#events.synced();
      this.#events.advanced();
    }
    core.changed();
    this.kick();
  }

  #noteOverflow(): void {
    const core = this.#core;
    if (core.isOverflow || core.lsids.latest - core.lsids.oldest <= core.ring.ringSizePb) return;
    core.isOverflow = true;
    core.onEvent();
  }
}

function writeOne(core: EngineCore, gather: LogBatch["gathers"][number]): Promise<void> {
  const { pieces, offsetBytes } = gather;
  return pieces.length === 1 ? core.log.write(offsetBytes, pieces[0]!) : core.log.writeGather(offsetBytes, pieces);
}

/** Waits for all, then throws the first failure: memory is in use until the last one has ended. */
async function allSettled(jobs: readonly Promise<void>[]): Promise<void> {
  for (const result of await Promise.allSettled(jobs)) {
    if (result.status === "rejected") throw result.reason;
  }
}
