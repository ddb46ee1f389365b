/**
 * @module Follows the log of one volume for as long as it is a target (ships it) or standby (only frees it).
 *
 * One loop per volume: it decides (plan.ts), does one step, and sleeps until the device says that the log grew, somebody
 * kicks it, or a delay is over. A failed step is tried again for ever, with the reason in the status.
 */
import { asWalbError } from "../errors.ts";
import { type RangePlan, undelivered } from "../snapshot/split.ts";
import { planErase, planFollow, retryDelayMs } from "./plan.ts";
import type { StorageVolume } from "./volume.ts";

/** What a follower needs from the role. */
export interface FollowerParts {
  /** Ships one range and makes it delivered; throws when no proxy took it. */
  readonly send: (volume: StorageVolume, range: RangePlan, signal: AbortSignal) => Promise<void>;
  /** Runs work under the limit of background tasks. */
  readonly limit: <T>(work: () => Promise<T>) => Promise<T>;
}

/** Looks at least this often, whatever the device says: also catches a device that came back under another log. */
const lookAgainMs = 10_000;

/** The loop of one volume. */
export class Follower {
  readonly #volume: StorageVolume;
  readonly #parts: FollowerParts;
  readonly #abort = new AbortController();
  readonly #loop: Promise<void>;
  readonly #unwatch: () => void;
  #wake: (() => void) | undefined;
  #isWakeDue = false;
  /** A back-off is not cut short by every write on the device, only by somebody who knows better. */
  #isBackingOff = false;
  #attempt = 0;
  #lastTransferMs = Number.NEGATIVE_INFINITY;

  constructor(volume: StorageVolume, parts: FollowerParts) {
    this.#volume = volume;
    this.#parts = parts;
    this.#unwatch = volume.device.watch(() => {
      if (!this.#isBackingOff) this.kick();
    });
    this.#loop = this.#run();
  }

  /** Decides again now, whatever it waits for. */
  kick(): void {
    this.#isWakeDue = true;
    this.#wake?.();
  }

  /** Ends the loop; a transfer under way is given up. Resolves when nothing runs any more. */
  async close(): Promise<void> {
    this.#abort.abort();
    this.#unwatch();
    this.kick();
    await this.#loop;
  }

  async #run(): Promise<void> {
    while (!this.#abort.signal.aborted) {
      let delayMs: number;
      try {
        delayMs = await this.#step();
        this.#attempt = 0;
        this.#volume.clearTrouble();
      } catch (error) {
        if (this.#abort.signal.aborted) return;
        delayMs = this.#failed(error);
        this.#isBackingOff = true;
      }
      if (delayMs > 0) await this.#sleep(delayMs);
      this.#isBackingOff = false;
    }
  }

  #failed(error: unknown): number {
    const { settings, platform, log } = this.#volume;
    const failure = asWalbError(error, { volume: this.#volume.name });
    const delayMs = retryDelayMs(
      this.#attempt,
      settings.retryDelayMs,
      settings.retryDelayMsMax,
      platform.random.fraction(),
    );
    this.#attempt += 1;
    this.#volume.setTrouble(failure, platform.clock.nowMs() + delayMs);
    log.warn("shipping the log failed, trying again", { error: failure, retryInMs: delayMs });
    return delayMs;
  }

  /** One step. @returns how long to sleep when nothing happens. */
  async #step(): Promise<number> {
    const volume = this.#volume;
    const status = await volume.deviceStatus();
    if (volume.machine.state === "Standby") return this.#freeStandby(status.lsids);
    if (status.isOverflow) return this.#stopOnOverflow();
    const done = volume.requireDone();
    const pending = undelivered(done, volume.store.queue);
    if (pending.length < volume.store.queue.length) volume.store.setQueue(pending);
    const erase = planErase(done.lsid, status.lsids);
    if (erase !== undefined) await volume.device.setOldest(erase);
    const info = await volume.device.info();
    const nowMs = volume.platform.clock.monotonicMs();
    const step = planFollow({
      done,
      queue: pending,
      lsids: status.lsids,
      maxPb: volume.maxPb(info.pbsBytes),
      nowS: Math.floor(volume.platform.clock.nowMs() / 1000),
      snapshotIntervalS: volume.settings.snapshotIntervalMs / 1000,
      sinceTransferMs: nowMs - this.#lastTransferMs,
    });
    switch (step.kind) {
      case "wait":
        return step.delayMs ?? lookAgainMs;
      case "snapshot":
        await volume.takeSnapshot(true);
        return 0;
      case "send":
        await this.#parts.limit(async () => {
          this.#abort.signal.throwIfAborted();
          this.#lastTransferMs = volume.platform.clock.monotonicMs();
          const end = volume.machine.beginAction("WlogSend");
          try {
            await this.#parts.send(volume, step.range, this.#abort.signal);
          } finally {
            end();
          }
        });
        volume.lastSentMs = volume.platform.clock.nowMs();
        return 0;
    }
  }

  /** Standby keeps the log empty; looks again until it is, since the device tells only when it grows. */
  async #freeStandby(lsids: { oldest: number; prevWritten: number; latest: number }): Promise<number> {
    if (lsids.oldest < lsids.prevWritten) await this.#volume.device.setOldest(lsids.prevWritten);
    return lsids.prevWritten < lsids.latest ? 1000 : lookAgainMs;
  }

  /** Un-shipped log is gone: stop, say so, and stay stopped until a new backup. */
  async #stopOnOverflow(): Promise<number> {
    const volume = this.#volume;
    const error = volume.overflowError();
    if (volume.machine.state === "Target") {
      const transition = volume.machine.begin(["Target"], "StopTarget", "stop on log overflow");
      volume.store.setState("Stopped");
      transition.commit("Stopped");
    }
    volume.setTrouble(error);
    volume.log.error("the log overflowed: the volume is not protected until it is backed up again", { error });
    this.#abort.abort();
    return 0;
  }

  async #sleep(delayMs: number): Promise<void> {
    if (this.#isWakeDue) {
      this.#isWakeDue = false;
      return;
    }
    await new Promise<void>((resolve) => {
      const timer = this.#volume.platform.clock.timer(delayMs, () => this.#wake?.());
      this.#wake = () => {
        timer.cancel();
        this.#wake = undefined;
        this.#isWakeDue = false;
        resolve();
      };
    });
  }
}
