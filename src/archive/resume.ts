/**
 * @module Finishes, behind everything else, applies that were begun and are not finished: those that a restart cut off, and
 * those that failed for want of space or for the disk, with back-off. Who restores is in a hurry: then it gives way,
 * and begins again when the volume is idle. Cancelled by hand, it stays as it is until the next start or apply; so it does
 * while the volume is stopped.
 */
import type { Control } from "../control/control.ts";
import { errorFromReport } from "../control/error.ts";
import type { JobInfo } from "../control/job.ts";
import { asWalbError, type ErrorCode, type WalbError } from "../errors.ts";
import { retryDelayMs } from "../volume/retry.ts";
import { allActions } from "./action.ts";
import { type ArchiveVolume, activeStates } from "./volume.ts";

/** How often a volume is looked at that is not idle, or waits for the next try. */
const lookMs = 1_000;
/** Between tries: each reads the diffs of its round again before it writes. */
const retryFirstMs = 10_000;
const retryMsMax = 300_000;
/** Failures that no later try mends. */
const final: readonly ErrorCode[] = ["cancelled", "damaged", "bad-format"];

/** An apply that goes on. */
interface Unfinished {
  readonly volume: ArchiveVolume;
  /** How far it was asked for; what was begun may end before, and is all that is known after a restart. */
  gid: bigint | undefined;
  failedCount: number;
  /** When it is tried again, monotonic. */
  retryMs: number;
  /** Something urgent has ended the try. */
  gaveWay: boolean;
}

/** The applies of one archive that go on by themselves. */
export class ResumedApplies {
  #control: Control | undefined;
  /** By volume. */
  readonly #unfinished = new Map<string, Unfinished>();
  /** Jobs that run, by volume. */
  readonly #jobs = new Map<string, string>();
  /** Volumes whose apply is being begun or runs. */
  readonly #resuming = new Set<string>();
  /** Work that keeps them away, by volume. */
  readonly #urgent = new Map<string, number>();

  /** Goes on with all that were cut off; each is a job like that of the command, to be seen and cancelled. */
  begin(control: Control, volumes: readonly ArchiveVolume[]): void {
    this.#control = control;
    for (const volume of volumes) this.goOn(volume);
  }

  /** Goes on with what is unfinished in a volume, if anything is and it is not stopped. */
  goOn(volume: ArchiveVolume): void {
    if (volume.store.base?.to === undefined || volume.machine.state === "Stopped") return;
    this.#enter(volume, (one) => {
      one.retryMs = 0;
    });
  }

  /** An apply that somebody asked for has failed after it was begun. */
  failed(volume: ArchiveVolume, gid: bigint, error: WalbError): void {
    if (volume.store.base?.to === undefined || final.includes(error.code)) {
      this.end(volume.name);
      return;
    }
    this.#enter(volume, (one) => {
      if (one.gid === undefined || one.gid < gid) one.gid = gid;
      this.#retryLater(one, error);
    });
  }

  /** Lets it be. */
  end(name: string): void {
    const one = this.#unfinished.get(name);
    if (one !== undefined) this.#forget(one);
  }

  /** Whether the apply of a volume is one that goes on: nobody asked for it now, so it takes no place of foreground work. */
  isResuming(name: string): boolean {
    return this.#resuming.has(name);
  }

  /** Ends one, and keeps it away until the answer is called. */
  async giveWay(name: string): Promise<() => void> {
    this.#urgent.set(name, (this.#urgent.get(name) ?? 0) + 1);
    let isOver = false;
    const back = (): void => {
      if (isOver) return;
      isOver = true;
      this.#urgent.set(name, (this.#urgent.get(name) ?? 1) - 1);
    };
    try {
      const id = this.#jobs.get(name);
      const one = this.#unfinished.get(name);
      if (one !== undefined) one.gaveWay = true;
      if (id !== undefined) await this.#control?.cancelJob(id);
      return back;
    } catch (error) {
      back();
      throw error;
    }
  }

  #isUrgent(name: string): boolean {
    return (this.#urgent.get(name) ?? 0) > 0;
  }

  /** @param plan says how it goes on. */
  #enter(volume: ArchiveVolume, plan: (one: Unfinished) => void): void {
    const known = this.#unfinished.get(volume.name);
    if (known?.volume === volume) {
      plan(known);
      return;
    }
    const one: Unfinished = { volume, gid: undefined, failedCount: 0, retryMs: 0, gaveWay: false };
    this.#unfinished.set(volume.name, one);
    volume.unfinishedApply = {};
    plan(one);
    volume.inBackground((signal) => this.#finish(one, signal));
  }

  #forget(one: Unfinished): void {
    const { volume } = one;
    if (this.#unfinished.get(volume.name) !== one) return;
    this.#unfinished.delete(volume.name);
    volume.unfinishedApply = undefined;
  }

  async #finish(one: Unfinished, signal: AbortSignal): Promise<void> {
    const { name, store, log, platform } = one.volume;
    try {
      while (this.#unfinished.get(name) === one && store.base?.to !== undefined && !signal.aborted) {
        const isDue = platform.clock.monotonicMs() >= one.retryMs;
        if (isDue && this.#isIdle(one.volume) && !(await this.#goesOn(one, store.base.to.gidB))) return;
        await platform.clock.sleep(lookMs, signal);
      }
    } catch (error) {
      if (!signal.aborted) log.warn("an apply that was interrupted cannot go on", { error });
    } finally {
      this.#forget(one);
    }
  }

  /** Tries once. @returns whether there is a next time. */
  async #goesOn(one: Unfinished, begunGid: bigint): Promise<boolean> {
    const { volume } = one;
    const { name, log } = volume;
    const gid = one.gid !== undefined && one.gid > begunGid ? one.gid : begunGid;
    log.info("an apply that was interrupted goes on", { gid });
    this.#showRetry(volume, undefined);
    one.gaveWay = false;
    const error = await this.#apply(name, gid);
    if (error === undefined) return false;
    if (error.code === "busy" || one.gaveWay || this.#isUrgent(name)) return true;
    if (final.includes(error.code)) {
      log.warn("an apply that was interrupted is not finished; the next one does that", { gid, error });
      return false;
    }
    if (volume.store.base?.to === undefined) {
      log.warn("an apply that was interrupted is finished, and what is behind it is not begun", { gid, error });
      return false;
    }
    // Points that were protected meanwhile are kept; what was begun can always be finished.
    if (error.code === "state") one.gid = undefined;
    this.#retryLater(one, error);
    return true;
  }

  /** Until it is finished, the status says why it is not. */
  #retryLater(one: Unfinished, error: WalbError): void {
    const { volume } = one;
    const { clock, random } = volume.platform;
    const delayMs = retryDelayMs(one.failedCount, retryFirstMs, retryMsMax, random.fraction());
    one.failedCount += 1;
    one.retryMs = clock.monotonicMs() + delayMs;
    const atMs = clock.nowMs();
    const sinceMs = volume.unfinishedApply?.failure?.sinceMs ?? atMs;
    volume.unfinishedApply = { failure: { error, atMs, sinceMs } };
    this.#showRetry(volume, atMs + delayMs);
    volume.log.warn("an apply is not finished; it is tried again", { error, delayMs });
  }

  #showRetry(volume: ArchiveVolume, retryAtMs: number | undefined): void {
    const failure = volume.unfinishedApply?.failure;
    if (failure !== undefined) volume.unfinishedApply = { failure: { ...failure, retryAtMs } };
  }

  #isIdle({ name, machine }: ArchiveVolume): boolean {
    const isActive = activeStates.includes(machine.state) && machine.stopState === "not-stopping";
    // One after the other: nothing else bounds them.
    return (
      this.#resuming.size === 0 &&
      isActive &&
      !this.#isUrgent(name) &&
      allActions.every((action) => machine.running(action) === 0)
    );
  }

  /** Runs it to its end. @returns why it failed, if it did. */
  async #apply(volume: string, gid: bigint): Promise<WalbError | undefined> {
    const control = this.#control!;
    this.#resuming.add(volume);
    try {
      const outcome = await control.call("apply", { volume, gid });
      if (outcome.kind !== "job") throw new Error("apply is a job");
      const { id } = outcome.job;
      this.#jobs.set(volume, id);
      // Something urgent may have come meanwhile.
      if (this.#isUrgent(volume)) void control.cancelJob(id);
      const { error } = await new Promise<JobInfo>((resolve) => {
        control.watchJob(id, (job) => {
          if (job.state !== "running") resolve(job);
        });
      });
      return error === undefined ? undefined : errorFromReport(error);
    } catch (error) {
      return asWalbError(error, { volume });
    } finally {
      this.#jobs.delete(volume);
      this.#resuming.delete(volume);
    }
  }
}
