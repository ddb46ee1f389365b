/** @module An open descriptor: what is done with it is a job of the shim's pool, and it stays open until the last one is done. */
import { WalbError } from "../../errors.ts";
import { errnoError } from "../../native/errno.ts";
import { endOfFile, Op } from "../../native/layout.ts";
import type { Job, JobResult, JobRunner } from "../../native/pool.ts";
import { shim } from "../../native/shim.ts";

/** A job must do it. */
const errnoAgain = -11;

/** A file of this host that is open. */
export class OpenFile {
  readonly path: string;
  /** For jobs that name two files. Valid until close. */
  readonly fd: number;
  /** Holds a lock for this file; closed with it. */
  guard: OpenFile | undefined;
  readonly #runner: JobRunner;
  readonly #closesAtOnce: boolean;
  #inFlight = 0;
  #idle: (() => void) | undefined;
  #closed: Promise<void> | undefined;

  /** @param opened `closesAtOnce`: closing it waits for nothing. */
  constructor(
    runner: JobRunner,
    opened: { readonly fd: number; readonly path: string; readonly closesAtOnce: boolean },
  ) {
    this.#runner = runner;
    this.#closesAtOnce = opened.closesAtOnce;
    this.fd = opened.fd;
    this.path = opened.path;
  }

  /** True from {@link close} on. */
  get isClosed(): boolean {
    return this.#closed !== undefined;
  }

  close(): Promise<void> {
    this.#closed ??= this.#finish();
    return this.#closed;
  }

  /** Runs a job on this file. @throws WalbError naming the file, the offset and what was done when it fails. */
  async run(what: string, job: Job): Promise<JobResult> {
    const done = await this.raw(job);
    if (done.result >= 0) return done;
    const where = job.offset === undefined ? { file: this.path } : this.place(job.offset);
    const text = job.size === undefined ? what : `${what} of ${job.size} bytes`;
    if (done.result !== endOfFile) throw errnoError(text, -done.result, where);
    throw new WalbError("io", {
      what: `${text} got only ${done.result2}: the file or device ends there`,
      where,
      hint: "check that it was not truncated or detached",
    });
  }

  /** Runs a job on this file, which stays open until the job is done. */
  async raw(job: Job): Promise<JobResult> {
    if (this.#closed !== undefined) {
      throw new WalbError("internal", { what: "use of a closed file", where: { file: this.path } });
    }
    this.#inFlight++;
    try {
      return await this.#runner.run({ ...job, fd: this.fd });
    } finally {
      this.#inFlight--;
      if (this.#inFlight === 0) this.#idle?.();
    }
  }

  async #finish(): Promise<void> {
    if (this.#inFlight > 0) {
      await new Promise<void>((resolve) => {
        this.#idle = resolve;
      });
    }
    const closed = this.#closesAtOnce ? shim.closeCached(this.fd) : errnoAgain;
    const { result } =
      closed === errnoAgain ? await this.#runner.run({ op: Op.close, isSlow: true, fd: this.fd }) : { result: closed };
    await this.guard?.close();
    if (result < 0) throw errnoError("close", -result, { file: this.path });
  }

  /** For messages. */
  protected place(offsetBytes: number): { file: string; offsetBytes: number } {
    return { file: this.path, offsetBytes };
  }
}
