/**
 * @module The job pool: threads of the shim that do all blocking I/O and CPU work.
 *
 * A job is a slot in shim memory, written through typed arrays. Completions come back through a ring; one coalesced
 * byte on a socketpair wakes the event loop.
 */
import { availableParallelism } from "node:os";
import { WalbError } from "../errors.ts";
import type { JobAnswer } from "./answer.ts";
import { connectDescriptor, type WakeSocket } from "./descriptor.ts";
import { errnoError } from "./errno.ts";
import { type Op, SlotF64, SlotU32, slotBytes } from "./layout.ts";
import { mapMemory, shim, wrapMemory } from "./shim.ts";

/** What a job does; fields that an operation does not use are left out. Numbers are safe integers. */
export interface Job {
  readonly op: Op;
  /** Slow jobs (sync, copy, metadata, ioctl) have threads of their own, so that they do not starve reads. */
  readonly isSlow?: boolean;
  readonly fd?: number;
  readonly count?: number;
  readonly flags?: number;
  readonly offset?: number;
  readonly size?: number;
  readonly address?: number;
  readonly table?: number;
  readonly extra?: number;
  /** Is sent by the job itself when it has succeeded; by jobs of a pool only. */
  readonly answer?: JobAnswer;
}

/** `result` is ≥ 0, or −errno, or `endOfFile`. */
export interface JobResult {
  readonly result: number;
  readonly result2: number;
}

/** Runs jobs: a pool, or inline. */
export interface JobRunner {
  run(job: Job): Promise<JobResult>;
}

/** A pool of shim threads. */
export interface JobPool extends JobRunner {
  /** Jobs given and not yet completed, queued ones too. */
  readonly inFlight: number;
  /** Waits for jobs in flight and ends the threads. Idempotent. */
  close(): Promise<void>;
}

/** Slots of a pool: jobs the shim holds at a time; more wait in JavaScript. */
const slotCount = 1024;
const slowThreads = 4;
const slotF64 = slotBytes / 8;
const slotU32 = slotBytes / 4;

/** Writes a job into slot `index`. */
export function fillSlot(f64: Float64Array, u32: Uint32Array, index: number, job: Job): void {
  const words = index * slotU32;
  const doubles = index * slotF64;
  u32[words + SlotU32.op] = job.op;
  u32[words + SlotU32.fd] = job.fd ?? 0;
  u32[words + SlotU32.count] = job.count ?? 0;
  u32[words + SlotU32.flags] = job.flags ?? 0;
  u32[words + SlotU32.lane] = job.isSlow === true ? 1 : 0;
  f64[doubles + SlotF64.offset] = job.offset ?? 0;
  f64[doubles + SlotF64.size] = job.size ?? 0;
  f64[doubles + SlotF64.address] = job.address ?? 0;
  f64[doubles + SlotF64.table] = job.table ?? 0;
  f64[doubles + SlotF64.extra] = job.extra ?? 0;
}

/** The result in slot `index`. */
export function readSlot(f64: Float64Array, index: number): JobResult {
  const doubles = index * slotF64;
  return { result: f64[doubles + SlotF64.result] ?? 0, result2: f64[doubles + SlotF64.result2] ?? 0 };
}

interface Pending {
  readonly job: Job;
  readonly resolve: (result: JobResult) => void;
  readonly reject: (error: unknown) => void;
}

class ShimPool implements JobPool {
  readonly #pool: number;
  readonly #f64: Float64Array;
  readonly #u32: Uint32Array;
  readonly #reaped = mapMemory(slotCount * 4);
  readonly #reapedSlots = new Uint32Array(this.#reaped.buffer);
  readonly #free: number[] = [];
  readonly #running: (Pending | undefined)[] = Array.from({ length: slotCount }, () => undefined);
  #queue: Pending[] = [];
  #queueHead = 0;
  #inFlight = 0;
  #isClosing = false;
  #closed: Promise<void> | undefined;
  #idle: (() => void)[] = [];
  readonly #socketReady: Promise<WakeSocket>;
  #socket: WakeSocket | undefined;

  constructor(threads: number) {
    const pool = shim.poolCreate(slotCount, threads, slowThreads);
    if (pool === 0) {
      throw new WalbError("internal", {
        what: "the job pool could not be made",
        hint: "look at the limits of open files and memory of the service",
      });
    }
    this.#pool = pool;
    const buffer = wrapMemory(shim.poolSlots(pool), slotCount * slotBytes);
    this.#f64 = new Float64Array(buffer);
    this.#u32 = new Uint32Array(buffer);
    for (let slot = slotCount - 1; slot >= 0; slot--) this.#free.push(slot);
    this.#socketReady = this.#connect(shim.poolFd(pool));
  }

  get inFlight(): number {
    return this.#inFlight;
  }

  run(job: Job): Promise<JobResult> {
    if (this.#isClosing) {
      return Promise.reject(new WalbError("internal", { what: "a job was given to a closed job pool" }));
    }
    return new Promise((resolve, reject) => {
      this.#inFlight++;
      if (this.#inFlight === 1) this.#socket?.ref();
      const pending = { job, resolve, reject };
      if (this.#free.length === 0) this.#queue.push(pending);
      else this.#start(pending);
    });
  }

  close(): Promise<void> {
    this.#isClosing = true;
    this.#closed ??= this.#finish();
    return this.#closed;
  }

  async #finish(): Promise<void> {
    const socket = await this.#socketReady;
    if (this.#inFlight > 0) await new Promise<void>((resolve) => this.#idle.push(resolve));
    shim.poolClose(this.#pool);
    socket.end();
  }

  async #connect(fd: number): Promise<WakeSocket> {
    const socket = await connectDescriptor(fd, () => this.#reap());
    this.#socket = socket;
    if (this.#inFlight === 0) socket.unref();
    // A completion before the socket was watched has its byte in the socketpair, but costs nothing to look.
    this.#reap();
    return socket;
  }

  #start(pending: Pending): void {
    const slot = this.#free.pop();
    if (slot === undefined) throw new WalbError("internal", { what: "no free job slot" });
    fillSlot(this.#f64, this.#u32, slot, pending.job);
    this.#running[slot] = pending;
    const errno = shim.poolSubmit(this.#pool, slot);
    if (errno === 0) {
      pending.job.answer?.begin(this.#pool, slot);
      return;
    }
    this.#running[slot] = undefined;
    this.#free.push(slot);
    this.#settle();
    pending.reject(errnoError("start of a pool thread", errno, {}));
  }

  #reap(): void {
    for (;;) {
      const count = shim.poolReap(this.#pool, this.#reaped.address);
      if (count === 0) return;
      for (let i = 0; i < count; i++) {
        const slot = this.#reapedSlots[i] ?? 0;
        const pending = this.#running[slot];
        this.#running[slot] = undefined;
        const result = readSlot(this.#f64, slot);
        pending?.job.answer?.end(this.#answerSent(slot));
        this.#free.push(slot);
        this.#settle();
        pending?.resolve(result);
      }
      while (this.#free.length > 0) {
        const next = this.#queue[this.#queueHead];
        if (next === undefined) break;
        this.#queueHead++;
        this.#start(next);
      }
      if (this.#queueHead === this.#queue.length) {
        this.#queue = [];
        this.#queueHead = 0;
      }
    }
  }

  /** Bytes of the answer that the socket took; undefined when there was none to be sent. */
  #answerSent(slot: number): number | undefined {
    const sent = this.#u32[slot * slotU32 + SlotU32.answerSent] ?? 0;
    return sent === 0xffff_ffff ? undefined : sent;
  }

  #settle(): void {
    this.#inFlight--;
    if (this.#inFlight > 0) return;
    this.#socket?.unref();
    for (const resolve of this.#idle.splice(0)) resolve();
  }
}

/** @param options threads for I/O and CPU work, default max(2, min(8, 2 · cores)); slow jobs have 4 more. */
export function createJobPool(options: { readonly threads?: number } = {}): JobPool {
  const threads = options.threads ?? Math.max(2, Math.min(8, 2 * availableParallelism()));
  return new ShimPool(threads);
}

/** Runs each job at once on the calling thread. */
export function createInlineRunner(): JobRunner {
  const slot = mapMemory(slotBytes);
  const f64 = new Float64Array(slot.buffer);
  const u32 = new Uint32Array(slot.buffer);
  return {
    run(job: Job): Promise<JobResult> {
      fillSlot(f64, u32, 0, job);
      shim.runJob(slot.address);
      return Promise.resolve(readSlot(f64, 0));
    },
  };
}
