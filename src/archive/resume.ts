/**
 * @module Finishes, behind everything else, applies that a restart cut off. Who restores is in a hurry: then it gives way,
 * and begins again when the volume is idle. Cancelled by hand, it stays as it is until the next start or apply.
 */
import type { Control } from "../control/control.ts";
import type { JobInfo } from "../control/job.ts";
import { allActions } from "./action.ts";
import { type ArchiveVolume, activeStates } from "./volume.ts";

/** How often a volume is looked at that is not idle. */
const lookMs = 1_000;

/** The applies of one archive that go on after a restart. */
export class ResumedApplies {
  #control: Control | undefined;
  /** Jobs that run, by volume. */
  readonly #jobs = new Map<string, string>();
  /** Volumes whose apply is being begun or runs. */
  readonly #resuming = new Set<string>();
  /** Work that keeps them away, by volume. */
  readonly #urgent = new Map<string, number>();

  /** Goes on with all that were cut off; each is a job like that of the command, to be seen and cancelled. */
  begin(control: Control, volumes: readonly ArchiveVolume[]): void {
    this.#control = control;
    for (const volume of volumes) {
      if (volume.store.base?.to !== undefined) volume.inBackground((signal) => this.#finish(volume, signal));
    }
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

  async #finish(volume: ArchiveVolume, signal: AbortSignal): Promise<void> {
    const { name, store, log, platform } = volume;
    try {
      for (;;) {
        const to = store.base?.to;
        if (to === undefined || signal.aborted) return;
        if (this.#isIdle(volume)) {
          log.info("an apply that was interrupted goes on", { gid: to.gidB });
          const { state, error } = await this.#apply(name, to.gidB);
          if (state === "done") return;
          const isLater = error?.code === "busy" || error?.code === "state" || this.#isUrgent(name);
          if (!isLater) {
            log.warn("an apply that was interrupted is not finished; the next one does that", { gid: to.gidB, error });
            return;
          }
        }
        await platform.clock.sleep(lookMs, signal);
      }
    } catch (error) {
      if (!signal.aborted) log.warn("an apply that was interrupted cannot go on", { error });
    }
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

  /** Runs it to its end. */
  async #apply(volume: string, gid: bigint): Promise<JobInfo> {
    const control = this.#control!;
    this.#resuming.add(volume);
    try {
      const outcome = await control.call("apply", { volume, gid });
      if (outcome.kind !== "job") throw new Error("apply is a job");
      const { id } = outcome.job;
      this.#jobs.set(volume, id);
      // Something urgent may have come meanwhile.
      if (this.#isUrgent(volume)) void control.cancelJob(id);
      return await new Promise<JobInfo>((resolve) => {
        control.watchJob(id, (job) => {
          if (job.state !== "running") resolve(job);
        });
      });
    } finally {
      this.#jobs.delete(volume);
      this.#resuming.delete(volume);
    }
  }
}
