/**
 * @module Sends the diffs of one volume to one archive, for as long as there are any. Never gives up: a failed transfer
 * is tried again with back-off, with the reason in the status, and a new log brings the next try forward.
 */

import { planMerge } from "../diff/merge.ts";
import { mergedPacks } from "../diff/output.ts";
import { openDiffSet } from "../diff/set.ts";
import type { DiffIo, DiffPack } from "../diff/types.ts";
import { asWalbError, WalbError } from "../errors.ts";
import { parseCompressOption } from "../native/compress-option.ts";
import { addressOf } from "../platform/net.ts";
import { retryDelayMs } from "../volume/retry.ts";
import type { Trouble } from "../volume/trouble.ts";
import { connectWire } from "../wire/handshake.ts";
import { runWdiffTransfer } from "../wire/wdiff-transfer.ts";
import { type Answer, ProtocolName, refusedError } from "../wire/words.ts";
import { sendBatchesMax } from "./memory.ts";
import { coveredBy, longestRetryMs, planSend, reactionTo, refusalHint, type SendPlan } from "./plan.ts";
import type { ArchiveRow, DiffRow } from "./store.ts";
import { type ProxyVolume, sendingStates } from "./volume.ts";

/** What a sender needs from the role. */
export interface SenderParts {
  /** Memory of transfers. */
  readonly io: DiffIo;
  /** Runs a transfer under the limits of background work; one archive that is slow must not hold up another. The signal
   * ends the wait for a place. */
  readonly limit: <T>(archiveName: string, work: () => Promise<T>, signal: AbortSignal) => Promise<T>;
  /** Runs work that leads to more free space, also where the disk is full. */
  readonly whenFull: <T>(work: () => T) => Promise<T>;
}

/** The loop of one (volume, archive). */
export class Sender {
  readonly archiveName: string;
  readonly #volume: ProxyVolume;
  readonly #parts: SenderParts;
  /** Aborts what is under way. */
  readonly #abort = new AbortController();
  /** Ends rests and waits; a transfer under way may go on. */
  readonly #closing = new AbortController();
  readonly #loop: Promise<void>;
  #wake: (() => void) | undefined;
  #isWakeDue = false;
  #attempt = 0;
  #isSending = false;
  /** When the archive was asked that has not answered yet, wall clock. */
  askingSinceMs: number | undefined;
  #isEnded = false;
  /** After a failure nothing is tried before this, however often it is kicked; monotonic clock. */
  #notBeforeMs = 0;
  /** When a diff that has to wait was first seen here, by id; monotonic clock. */
  readonly #seenMs = new Map<number, number>();
  /** When it began to wait for a place among the transfers, wall clock. */
  placeSinceMs: number | undefined;
  trouble: Trouble | undefined;
  /** What the archive answered when it does not take the diffs; until the next try. */
  refusal: Answer | undefined;
  lastSentMs: number | undefined;

  constructor(volume: ProxyVolume, archiveName: string, parts: SenderParts) {
    this.#volume = volume;
    this.archiveName = archiveName;
    this.#parts = parts;
    this.#loop = this.#run();
  }

  /** True when it will not do anything any more. */
  get isEnded(): boolean {
    return this.#isEnded;
  }

  get isSending(): boolean {
    return this.#isSending;
  }

  /** Looks again now: something new came, or somebody asked. */
  kick(): void {
    this.refusal = undefined;
    this.#isWakeDue = true;
    this.#wake?.();
  }

  /** Ends the loop: graceful waits for the transfer under way, force gives it up. */
  async close(mode: "graceful" | "force"): Promise<void> {
    const reason = new WalbError("cancelled", { what: "the volume is being stopped" });
    if (mode === "force") this.#abort.abort(reason);
    this.#closing.abort(reason);
    this.kick();
    await this.#loop;
  }

  async #run(): Promise<void> {
    try {
      await this.#sendAll();
    } finally {
      this.#isEnded = true;
    }
  }

  async #sendAll(): Promise<void> {
    while (!this.#closing.signal.aborted) {
      this.#isWakeDue = false;
      let delayMs: number | undefined;
      try {
        delayMs = await this.#step();
      } catch (error) {
        if (this.#closing.signal.aborted) return;
        delayMs = this.#failed(error);
      }
      if (delayMs !== 0 && !this.#closing.signal.aborted) await this.#sleep(delayMs);
    }
  }

  /** One transfer. @returns how long to sleep; undefined until something comes. */
  async #step(): Promise<number | undefined> {
    // Whole milliseconds: a timer of less may end before the clock has moved.
    const tooSoonMs = Math.ceil(this.#notBeforeMs - this.#volume.platform.clock.monotonicMs());
    if (tooSoonMs > 0) return tooSoonMs;
    const delayMs = this.#whenDue();
    if (delayMs !== 0) return delayMs;
    this.placeSinceMs = this.#volume.platform.clock.nowMs();
    try {
      await this.#parts.limit(this.archiveName, () => this.#transfer(), this.#closing.signal);
    } finally {
      this.placeSinceMs = undefined;
    }
    return 0;
  }

  /** How long until the oldest diff may go, 0 for now; undefined when nothing waits. */
  #whenDue(): number | undefined {
    const { store, machine } = this.#volume;
    const archive = store.archive(this.archiveName);
    if (archive === undefined || !sendingStates.includes(machine.state)) return undefined;
    const pending = store.pending(this.archiveName);
    const oldest = pending[0];
    if (oldest === undefined) {
      this.trouble = undefined;
      this.#attempt = 0;
      return undefined;
    }
    if (machine.state === "WaitForEmpty" || archive.delayS === 0) return 0;
    // All are looked at, so that each is known to be seen from now on.
    return pending.reduce((leastMs, diff) => Math.min(leastMs, this.#waitMs(diff, archive)), Number.MAX_SAFE_INTEGER);
  }

  /** The diffs that may go now. */
  #due(archive: ArchiveRow): DiffRow[] {
    const { store, machine } = this.#volume;
    const pending = store.pending(this.archiveName);
    if (machine.state === "WaitForEmpty" || archive.delayS === 0) return pending;
    return pending.filter((diff) => this.#waitMs(diff, archive) === 0);
  }

  /** How long a diff must wait for the delay of an archive. A wall clock that went back does not make it longer. */
  #waitMs(diff: DiffRow, archive: ArchiveRow): number {
    const delayMs = archive.delayS * 1000;
    if (delayMs === 0) return 0;
    const { clock } = this.#volume.platform;
    const nowMs = clock.monotonicMs();
    const seenMs = this.#seenMs.get(diff.id) ?? nowMs;
    this.#seenMs.set(diff.id, seenMs);
    return Math.max(0, Math.ceil(Math.min(diff.receivedMs + delayMs - clock.nowMs(), seenMs + delayMs - nowMs)));
  }

  /** Plans when its turn has come, so that what arrived meanwhile goes along. */
  async #transfer(): Promise<void> {
    this.placeSinceMs = undefined;
    const volume = this.#volume;
    const { wdiffSendBytesMax: bytesMax, wdiffSendCountMax: countMax } = volume.settings;
    const archive = volume.store.archive(this.archiveName);
    if (archive === undefined || !sendingStates.includes(volume.machine.state)) return;
    const plan = planSend(this.#due(archive), { bytesMax, countMax });
    if (plan === undefined) return;
    const endAction = volume.machine.beginAction("WdiffSend");
    this.#isSending = true;
    this.askingSinceMs = volume.platform.clock.nowMs();
    try {
      const answer = await this.#send(archive, plan);
      this.refusal = answer.kind === "accept" ? undefined : answer;
      if (reactionTo(answer) === "retry") throw this.#refusal(archive, answer);
      const covered = coveredBy(plan.merged, plan.uuid, volume.store.pending(this.archiveName));
      const ids = new Set([...plan.diffs, ...covered].map((diff) => diff.id));
      // Without it a disk that something else has filled would stay full for ever: no row could go, so no file.
      const orphans = await this.#parts.whenFull(() => volume.store.removeDeliveries(this.archiveName, [...ids]));
      if (answer.kind === "accept") this.lastSentMs = volume.platform.clock.nowMs();
      else volume.log.info("the archive does not need a diff", { archive: archive.name, answer, count: ids.size });
      this.trouble = undefined;
      this.#attempt = 0;
      for (const id of ids) this.#seenMs.delete(id);
      await volume.removeFiles(orphans);
    } finally {
      this.#isSending = false;
      this.askingSinceMs = undefined;
      endAction();
    }
  }

  #refusal(archive: ArchiveRow, answer: Answer): WalbError {
    const refusal = refusedError(archive.name, "the diff", answer);
    return new WalbError(refusal.code, {
      what: refusal.what,
      where: { peer: `${archive.name} (${archive.address})` },
      hint: refusalHint(answer, this.#volume.name),
    });
  }

  async #send(archive: ArchiveRow, plan: SendPlan): Promise<Answer> {
    const { platform, settings, store, name } = this.#volume;
    const signal = this.#abort.signal;
    const { stream } = await connectWire(platform.net, addressOf(archive.address), {
      clock: platform.clock,
      clientId: settings.nodeId,
      protocol: ProtocolName.wdiffTransfer,
      deadlineMs: settings.socketTimeoutMs,
    });
    const abort = (): void => stream.close(new WalbError("cancelled", { what: "the transfer was given up" }));
    signal.addEventListener("abort", abort);
    try {
      signal.throwIfAborted();
      const request = {
        volume: name,
        hostType: "proxy",
        uuid: plan.uuid,
        maxIoLb: 0,
        sizeLb: store.sizeLb,
        diff: plan.merged,
      };
      return await runWdiffTransfer(stream, request, () => this.#packs(archive, plan));
    } finally {
      signal.removeEventListener("abort", abort);
      stream.close();
    }
  }

  /** The merged content; files are opened only when the archive has accepted. */
  async *#packs(archive: ArchiveRow, plan: SendPlan): AsyncGenerator<DiffPack, void, undefined> {
    this.askingSinceMs = undefined;
    const { io } = this.#parts;
    const signal = this.#abort.signal;
    const paths = plan.diffs.map((diff) => this.#volume.pathOf(diff));
    const set = await openDiffSet(io, paths, { signal });
    try {
      const compress = parseCompressOption(archive.compression);
      yield* mergedPacks(io, set, planMerge(set.records), { compress, signal, inFlightMax: sendBatchesMax });
    } finally {
      await set.close();
    }
  }

  #failed(error: unknown): number {
    const { settings, platform, log } = this.#volume;
    const failure = asWalbError(error, { volume: this.#volume.name, step: `sending to ${this.archiveName}` });
    const delayMs = retryDelayMs(
      this.#attempt,
      settings.retryDelayMs,
      longestRetryMs(this.refusal, settings.retryDelayMsMax),
      platform.random.fraction(),
    );
    this.#attempt += 1;
    this.#notBeforeMs = platform.clock.monotonicMs() + Math.min(delayMs, settings.retryDelayMs);
    const atMs = platform.clock.nowMs();
    const sinceMs = this.trouble?.sinceMs ?? atMs;
    this.trouble = { error: failure, atMs, sinceMs, retryAtMs: atMs + delayMs };
    log.warn("sending a diff failed, trying again", { archive: this.archiveName, error: failure, retryInMs: delayMs });
    return delayMs;
  }

  async #sleep(delayMs: number | undefined): Promise<void> {
    if (this.#isWakeDue) return;
    await new Promise<void>((resolve) => {
      const timer =
        delayMs === undefined ? undefined : this.#volume.platform.clock.timer(delayMs, () => this.#wake?.());
      this.#wake = () => {
        timer?.cancel();
        this.#wake = undefined;
        resolve();
      };
    });
  }
}
