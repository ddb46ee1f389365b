/**
 * @module Sends the diffs of one volume to one archive, for as long as there are any. Never gives up: a failed transfer
 * is tried again with back-off, with the reason in the status, and a new log brings the next try forward.
 */

import { planMerge } from "../diff/merge.ts";
import { mergedPacks } from "../diff/output.ts";
import { openDiffSet } from "../diff/set.ts";
import type { DiffIo } from "../diff/types.ts";
import { asWalbError, WalbError } from "../errors.ts";
import { parseCompressOption } from "../native/compress-option.ts";
import type { Address } from "../platform/net.ts";
import type { Trouble } from "../volume/trouble.ts";
import { connectWire } from "../wire/handshake.ts";
import { runWdiffTransfer } from "../wire/wdiff-transfer.ts";
import { type Answer, refusedError } from "../wire/words.ts";
import { coveredBy, planSend, reactionTo, refusalHint, retryDelayMs, type SendPlan } from "./plan.ts";
import type { ArchiveRow } from "./store.ts";
import { type ProxyVolume, sendingStates } from "./volume.ts";

/** What a sender needs from the role. */
export interface SenderParts {
  /** Memory of transfers. */
  readonly io: DiffIo;
  /** Runs a transfer under the limits of background work; one archive that is slow must not hold up another. */
  readonly limit: <T>(archiveName: string, work: () => Promise<T>) => Promise<T>;
}

/** The loop of one (volume, archive). */
export class Sender {
  readonly archiveName: string;
  readonly #volume: ProxyVolume;
  readonly #parts: SenderParts;
  readonly #abort = new AbortController();
  readonly #loop: Promise<void>;
  #wake: (() => void) | undefined;
  #isWakeDue = false;
  #attempt = 0;
  #isSending = false;
  #isClosing = false;
  /** After a failure nothing is tried before this, however often it is kicked; monotonic clock. */
  #notBeforeMs = 0;
  trouble: Trouble | undefined;
  lastSentMs: number | undefined;

  constructor(volume: ProxyVolume, archiveName: string, parts: SenderParts) {
    this.#volume = volume;
    this.archiveName = archiveName;
    this.#parts = parts;
    this.#loop = this.#run();
  }

  get isSending(): boolean {
    return this.#isSending;
  }

  /** Looks again now: something new came, or somebody asked. */
  kick(): void {
    this.#isWakeDue = true;
    this.#wake?.();
  }

  /** Ends the loop. Graceful waits for the transfer under way. */
  async close(mode: "graceful" | "force"): Promise<void> {
    this.#isClosing = true;
    if (mode === "force") this.#abort.abort();
    this.kick();
    await this.#loop;
  }

  async #run(): Promise<void> {
    while (!this.#isClosing) {
      let delayMs: number | undefined;
      try {
        delayMs = await this.#step();
      } catch (error) {
        if (this.#abort.signal.aborted) return;
        delayMs = this.#failed(error);
      }
      if (delayMs !== 0 && !this.#isClosing) await this.#sleep(delayMs);
    }
  }

  /** One transfer. @returns how long to sleep; undefined until something comes. */
  async #step(): Promise<number | undefined> {
    const volume = this.#volume;
    const tooSoonMs = this.#notBeforeMs - volume.platform.clock.monotonicMs();
    if (tooSoonMs > 0) return tooSoonMs;
    const archive = volume.store.archive(this.archiveName);
    if (archive === undefined || !sendingStates.includes(volume.machine.state)) return undefined;
    const pending = volume.store.pending(this.archiveName);
    const plan = planSend(pending, {
      bytesMax: volume.settings.wdiffSendBytesMax,
      countMax: volume.settings.wdiffSendCountMax,
    });
    if (plan === undefined) {
      this.trouble = undefined;
      return undefined;
    }
    const dueMs = plan.diffs[0]!.receivedMs + archive.delayS * 1000;
    const nowMs = volume.platform.clock.nowMs();
    if (dueMs > nowMs && volume.machine.state !== "WaitForEmpty") return dueMs - nowMs;
    return this.#parts.limit(this.archiveName, () => this.#transfer(archive, plan));
  }

  async #transfer(archive: ArchiveRow, plan: SendPlan): Promise<number> {
    if (this.#isClosing) return 0;
    const volume = this.#volume;
    const endAction = volume.machine.beginAction("WdiffSend");
    this.#isSending = true;
    let answer: Answer;
    try {
      answer = await this.#send(archive, plan);
    } finally {
      this.#isSending = false;
      endAction();
    }
    const reaction = reactionTo(answer);
    if (reaction === "retry") {
      const refusal = refusedError(archive.name, "the diff", answer);
      throw new WalbError(refusal.code, {
        what: refusal.what,
        where: { peer: `${archive.name} (${archive.address})` },
        hint: refusalHint(answer, volume.name),
      });
    }
    const covered = coveredBy(plan.merged, plan.uuid, volume.store.pending(this.archiveName));
    const ids = new Set([...plan.diffs, ...covered].map((diff) => diff.id));
    await volume.removeFiles(volume.store.removeDeliveries(this.archiveName, [...ids]));
    if (reaction === "delivered") this.lastSentMs = volume.platform.clock.nowMs();
    else volume.log.info("the archive does not need a diff", { archive: archive.name, answer, count: ids.size });
    this.trouble = undefined;
    this.#attempt = 0;
    return 0;
  }

  async #send(archive: ArchiveRow, plan: SendPlan): Promise<Answer> {
    const { platform, settings, store, name } = this.#volume;
    const { io } = this.#parts;
    const signal = this.#abort.signal;
    const set = await openDiffSet(
      io,
      plan.diffs.map((diff) => this.#volume.pathOf(diff)),
      { signal },
    );
    try {
      const { stream } = await connectWire(platform.net, addressOf(archive), {
        clock: platform.clock,
        clientId: settings.nodeId,
        protocol: "wdiff-transfer",
        deadlineMs: settings.socketTimeoutMs,
      });
      const abort = (): void => stream.close(new WalbError("cancelled", { what: "the transfer was given up" }));
      signal.addEventListener("abort", abort);
      try {
        const request = {
          volume: name,
          hostType: "proxy",
          uuid: plan.uuid,
          maxIoLb: 0,
          sizeLb: store.sizeLb,
          diff: plan.merged,
        };
        return await runWdiffTransfer(stream, request, () =>
          mergedPacks(io, set, planMerge(set.records), { compress: parseCompressOption(archive.compression), signal }),
        );
      } finally {
        signal.removeEventListener("abort", abort);
        stream.close();
      }
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
      settings.retryDelayMsMax,
      platform.random.fraction(),
    );
    this.#attempt += 1;
    this.#notBeforeMs = platform.clock.monotonicMs() + Math.min(delayMs, settings.retryDelayMs);
    const atMs = platform.clock.nowMs();
    this.trouble = { error: failure, atMs, retryAtMs: atMs + delayMs };
    log.warn("sending a diff failed, trying again", { archive: this.archiveName, error: failure, retryInMs: delayMs });
    return delayMs;
  }

  async #sleep(delayMs: number | undefined): Promise<void> {
    if (this.#isWakeDue) {
      this.#isWakeDue = false;
      return;
    }
    await new Promise<void>((resolve) => {
      const timer =
        delayMs === undefined ? undefined : this.#volume.platform.clock.timer(delayMs, () => this.#wake?.());
      this.#wake = () => {
        timer?.cancel();
        this.#wake = undefined;
        this.#isWakeDue = false;
        resolve();
      };
    });
  }
}

function addressOf(archive: ArchiveRow): Address {
  const at = archive.address.lastIndexOf(":");
  const host = archive.address.slice(0, at).replace(/^\[|\]$/g, "");
  return { kind: "tcp", host, port: Number(archive.address.slice(at + 1)) };
}
