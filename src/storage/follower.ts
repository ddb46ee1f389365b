/**
 * @module Follows the log of one volume for as long as it is a target (ships it) or standby (only frees it).
 *
 * One loop per volume: it decides (plan.ts), does one step, and rests until the device says that the log grew, somebody
 * kicks it, or a delay is over. A failed step is tried again for ever, with the reason in the status.
 */
import { asWalbError, WalbError } from "../errors.ts";
import { type RangePlan, undelivered } from "../snapshot/split.ts";
import { retryDelayMs } from "../volume/retry.ts";
import type { FollowRest, RestReason } from "./explain.ts";
import { planErase, planFollow, retryDelayMsCap } from "./plan.ts";
import type { StorageVolume } from "./volume.ts";

/** What a follower needs from the role. */
export interface FollowerParts {
  /** Ships one range and makes it delivered; throws when no proxy took it. */
  readonly send: (volume: StorageVolume, range: RangePlan, signal: AbortSignal) => Promise<void>;
  /** Runs work under the limit of background tasks; the signal ends the wait for a place. */
  readonly limit: <T>(work: () => Promise<T>, signal: AbortSignal) => Promise<T>;
}

/** `target` ships the log, `standby` only erases it. */
export type FollowMode = "target" | "standby";

/** Looks at least this often, although the device tells of everything: a message may get lost, a volume must not. */
const lookAgainMs = 60_000;
/** A device tells of new log so soon after it was written. */
const grownMsMax = 2_000;
/** How soon to look again while delivered log waits for the device's checkpoint before it can be erased. */
const eraseWaitMs = 1_000;

/** What to do after a step. Growth of the log ends a rest only where it says so. */
type Rest =
  | { readonly kind: "none" }
  | { readonly kind: "until-growth"; readonly delayMs: number; readonly reason: RestReason }
  | { readonly kind: "fixed"; readonly delayMs: number; readonly reason: RestReason };

/** The loop of one volume. */
export class Follower {
  readonly #volume: StorageVolume;
  readonly #parts: FollowerParts;
  readonly #mode: FollowMode;
  /** Aborts what is under way. */
  readonly #abort = new AbortController();
  /** Ends rests and waits; a transfer under way may go on. */
  readonly #closing = new AbortController();
  readonly #loop: Promise<void>;
  #wake: (() => void) | undefined;
  #isResting: Rest["kind"] = "none";
  #isKicked = false;
  #hasGrown = false;
  #isEnded = false;
  #isTransferring = false;
  #attempt = 0;
  #lastTransferMs = Number.NEGATIVE_INFINITY;
  #waiting: FollowRest | undefined;
  /** Monotonic clock: when it last began to do something after all had been delivered. */
  #leftGrowthMs = Number.NEGATIVE_INFINITY;

  constructor(volume: StorageVolume, mode: FollowMode, parts: FollowerParts) {
    this.#volume = volume;
    this.#mode = mode;
    this.#parts = parts;
    this.#loop = this.#run();
  }

  /** True when it will not do anything any more. */
  get isEnded(): boolean {
    return this.#isEnded;
  }

  /** What it waits for; undefined while it does something. */
  get rest(): FollowRest | undefined {
    return this.#waiting;
  }

  /** Decides again now, whatever it waits for. */
  kick(): void {
    this.#isKicked = true;
    this.#wake?.();
  }

  /** Ends the loop: graceful lets a transfer under way end, force gives it up. Resolves when nothing runs any more. */
  async close(mode: "graceful" | "force"): Promise<void> {
    const reason = new WalbError("cancelled", { what: "the volume is being stopped" });
    if (mode === "force") this.#abort.abort(reason);
    this.#closing.abort(reason);
    this.#wake?.();
    await this.#loop;
  }

  async #run(): Promise<void> {
    const unwatch = this.#volume.device.watch(() => {
      this.#hasGrown = true;
      // All was delivered until about now; a look may have found the new log just before this was told.
      const sinceMs = this.#volume.platform.clock.monotonicMs() - this.#leftGrowthMs;
      if (this.#waiting?.reason === "growth" || sinceMs < grownMsMax) this.#volume.noteCaughtUp(grownMsMax);
      if (this.#isResting === "until-growth") this.#wake?.();
    });
    try {
      while (!this.#closing.signal.aborted && !this.#isEnded) {
        this.#isKicked = false;
        this.#hasGrown = false;
        await this.#rest(await this.#stepOrFailure());
      }
    } finally {
      this.#isEnded = true;
      unwatch();
    }
  }

  async #stepOrFailure(): Promise<Rest> {
    try {
      const rest = this.#mode === "standby" ? await this.#freeStandby() : await this.#step();
      if (!this.#isEnded) {
        this.#attempt = 0;
        this.#volume.clearTrouble();
      }
      return rest;
    } catch (error) {
      if (this.#closing.signal.aborted) return { kind: "none" };
      return { kind: "fixed", delayMs: this.#failed(error), reason: "retry" };
    } finally {
      this.#isTransferring = false;
    }
  }

  #failed(error: unknown): number {
    const { settings, platform, log } = this.#volume;
    const failure = asWalbError(error, { volume: this.#volume.name });
    const maxMs = retryDelayMsCap(failure.code, this.#isTransferring, settings.retryDelayMsMax);
    const delayMs = retryDelayMs(this.#attempt, settings.retryDelayMs, maxMs, platform.random.fraction());
    this.#attempt += 1;
    this.#volume.setTrouble(failure, platform.clock.nowMs() + delayMs);
    log.warn("shipping the log failed, trying again", { error: failure, retryInMs: delayMs });
    return delayMs;
  }

  async #step(): Promise<Rest> {
    const volume = this.#volume;
    const status = await volume.deviceStatus();
    if (status.isOverflow) return this.#stopOnOverflow();
    volume.noteLatest(status.lsids.latest);
    const done = volume.requireDone();
    const pending = undelivered(done, volume.store.queue);
    if (pending.length < volume.store.queue.length) volume.store.setQueue(pending);
    const erase = planErase(done.lsid, status.lsids);
    if (erase !== undefined) await volume.device.setOldest(erase);
    const maxPb = volume.maxPb(await volume.pbsBytes(status.uuid));
    this.#closing.signal.throwIfAborted();
    const step = planFollow({
      done,
      queue: volume.store.queue,
      lsids: status.lsids,
      maxPb,
      cutPb: volume.store.cutPb ?? maxPb,
      nowS: volume.nowS(),
      snapshotIntervalS: volume.settings.snapshotIntervalMs / 1000,
      sinceTransferMs: volume.platform.clock.monotonicMs() - this.#lastTransferMs,
    });
    switch (step.kind) {
      case "wait": {
        if (step.delayMs !== undefined) {
          const isFlush = done.lsid >= status.lsids.permanent;
          return { kind: "fixed", delayMs: step.delayMs, reason: isFlush ? "flush" : "pace" };
        }
        if ((erase ?? status.lsids.oldest) < done.lsid) {
          return { kind: "until-growth", delayMs: eraseWaitMs, reason: "checkpoint" };
        }
        return { kind: "until-growth", delayMs: lookAgainMs, reason: "growth" };
      }
      case "snapshot":
        await volume.takeSnapshot(true);
        return { kind: "none" };
      case "send":
        this.#waitFor("place");
        await this.#parts.limit(() => this.#transfer(step.range), this.#closing.signal);
        return { kind: "none" };
    }
  }

  async #transfer(range: RangePlan): Promise<void> {
    const volume = this.#volume;
    const startMs = volume.platform.clock.monotonicMs();
    this.#waiting = undefined;
    const end = volume.machine.beginAction("WlogSend");
    this.#isTransferring = true;
    try {
      await this.#parts.send(volume, range, this.#abort.signal);
    } finally {
      end();
    }
    // Only what went well is paced: a failed transfer has waited long enough.
    this.#lastTransferMs = startMs;
    volume.lastSentMs = volume.platform.clock.nowMs();
  }

  /** Standby keeps the log empty; looks again until it is, since the device tells only when it grows. */
  async #freeStandby(): Promise<Rest> {
    const { lsids } = await this.#volume.device.status();
    if (lsids.oldest < lsids.prevWritten) {
      const end = this.#volume.machine.beginAction("WlogRemove");
      try {
        await this.#volume.device.setOldest(lsids.prevWritten);
      } finally {
        end();
      }
    }
    if (lsids.prevWritten < lsids.latest) return { kind: "fixed", delayMs: eraseWaitMs, reason: "checkpoint" };
    return { kind: "until-growth", delayMs: lookAgainMs, reason: "growth" };
  }

  /** Un-shipped log is gone: stop, say so, and stay stopped until a new backup. */
  #stopOnOverflow(): Rest {
    const volume = this.#volume;
    const error = volume.overflowError();
    if (volume.machine.state === "Target" && !volume.machine.isInTransition) {
      const transition = volume.machine.begin(["Target"], "StopTarget", "stop on log overflow");
      try {
        volume.store.setState("Stopped");
        transition.commit("Stopped");
      } finally {
        transition.rollback();
      }
    }
    this.#isEnded = true;
    volume.setTrouble(error);
    volume.log.error("the log overflowed: the volume is not protected until it is backed up again", { error });
    return { kind: "none" };
  }

  /** Remembers what it waits for, and since when without having waited for anything else. */
  #waitFor(reason: RestReason): void {
    if (this.#waiting?.reason === reason) return;
    if (this.#waiting?.reason === "growth") this.#leftGrowthMs = this.#volume.platform.clock.monotonicMs();
    this.#waiting = { reason, sinceMs: this.#volume.platform.clock.nowMs() };
  }

  async #rest(rest: Rest): Promise<void> {
    if (rest.kind === "none") return;
    this.#waitFor(rest.reason);
    if (this.#isKicked || this.#closing.signal.aborted) return;
    if (rest.kind === "until-growth" && this.#hasGrown) return;
    this.#isResting = rest.kind;
    await new Promise<void>((resolve) => {
      const timer = this.#volume.platform.clock.timer(rest.delayMs, () => this.#wake?.());
      this.#wake = () => {
        timer.cancel();
        this.#wake = undefined;
        resolve();
      };
    });
    this.#isResting = "none";
  }
}
