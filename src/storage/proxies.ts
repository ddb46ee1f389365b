/**
 * @module The proxies of a storage, in order of preference: which ones answer, and which to try next.
 *
 * A proxy is available when its last probe (or transfer) went well. Probing is `get host-type`, with a short deadline. One
 * that answers probes but fails in one transfer after the other is left alone for longer and longer.
 */
import type { Logger } from "../control/logger.ts";
import { asWalbError, type WalbError } from "../errors.ts";
import type { Timer } from "../platform/clock.ts";
import { type Address, addressText } from "../platform/net.ts";
import type { Platform } from "../platform/platform.ts";
import { retryDelayMs } from "../volume/retry.ts";
import { probeRole } from "./probe.ts";

const probeIntervalMs = 10_000;
/** How long a proxy that answers is not given a log after its second failed transfer in a row; then doubled each time. */
const restFirstMs = 2 * probeIntervalMs;
const restMsMax = 300_000;

/** A proxy as it is known now. */
export interface ProxyStatus {
  readonly address: Address;
  readonly isAvailable: boolean;
  /** Wall clock of the last probe; undefined before the first. */
  readonly checkedMs: number | undefined;
  /** When it is probed next. */
  readonly nextCheckMs: number;
  /** Since when it is not available. */
  readonly sinceMs: number | undefined;
  /** Why it is not available. */
  readonly error: WalbError | undefined;
}

interface Entry {
  readonly address: Address;
  isAvailable: boolean;
  checkedMs: number | undefined;
  sinceMs: number | undefined;
  error: WalbError | undefined;
  /** Transfers in a row that failed though the last probe had gone well. */
  failedTransfers: number;
  /** Monotonic clock: a probe that goes well does not count before. */
  restsUntilMs: number;
}

/** Until the first probe says otherwise a proxy counts as there: the first transfer finds out. */
function newEntry(address: Address): Entry {
  const unknown = { checkedMs: undefined, sinceMs: undefined, error: undefined };
  return { address, isAvailable: true, ...unknown, failedTransfers: 0, restsUntilMs: 0 };
}

/** Watches the proxies until closed. */
export class ProxyList {
  readonly #platform: Platform;
  readonly #nodeId: string;
  readonly #log: Logger;
  #entries: Entry[];
  readonly #recovered = new Set<() => void>();
  #timer: Timer | undefined;
  #isClosed = false;
  #isProbing = false;
  #nextCheckMs = 0;

  constructor(platform: Platform, nodeId: string, addresses: readonly Address[], log: Logger) {
    this.#platform = platform;
    this.#nodeId = nodeId;
    this.#log = log;
    this.#entries = addresses.map(newEntry);
    this.#schedule(0);
  }

  status(): ProxyStatus[] {
    return this.#entries.map(({ address, isAvailable, checkedMs, sinceMs, error }) => ({
      address,
      isAvailable,
      checkedMs,
      sinceMs,
      error,
      nextCheckMs: this.#nextCheckMs,
    }));
  }

  /** Addresses to try now, preferred first; all of them when none is available, so that nothing waits for a probe. */
  candidates(): Address[] {
    const available = this.#entries.filter((entry) => entry.isAvailable);
    return (available.length > 0 ? available : this.#entries).map((entry) => entry.address);
  }

  /** A transfer learned that a proxy does not answer. */
  reportFailure(address: Address, error: WalbError): void {
    const entry = this.#entries.find((known) => known.address === address);
    if (entry === undefined) return;
    // One that answers probes would be tried again after the next probe, and each time its volumes would wait for it.
    if (entry.isAvailable) {
      const { clock, random } = this.#platform;
      const restMs = retryDelayMs(entry.failedTransfers - 1, restFirstMs, restMsMax, random.fraction());
      // A single one may have been cut by chance.
      if (entry.failedTransfers > 0) entry.restsUntilMs = clock.monotonicMs() + restMs;
      entry.failedTransfers += 1;
    }
    this.#set(entry, error);
  }

  /** A transfer went well. */
  reportSuccess(address: Address): void {
    const entry = this.#entries.find((known) => known.address === address);
    if (entry === undefined) return;
    entry.failedTransfers = 0;
    entry.restsUntilMs = 0;
    if (!entry.isAvailable) this.#set(entry, undefined);
  }

  /** Calls back whenever a proxy becomes available again. Returns how to stop. */
  onRecovery(callback: () => void): () => void {
    this.#recovered.add(callback);
    return () => this.#recovered.delete(callback);
  }

  /** Uses these from now on; what is known of those that stay, stays. A transfer under way goes on where it is. */
  replace(addresses: readonly Address[]): void {
    const known = new Map(this.#entries.map((entry) => [addressText(entry.address), entry]));
    this.#entries = addresses.map((address) => known.get(addressText(address)) ?? newEntry(address));
    this.#schedule(0);
  }

  /** Probes all now; what answers is tried again. */
  kick(): void {
    for (const entry of this.#entries) {
      entry.failedTransfers = 0;
      entry.restsUntilMs = 0;
    }
    this.#schedule(0);
  }

  close(): void {
    this.#isClosed = true;
    this.#timer?.cancel();
  }

  #schedule(delayMs: number): void {
    this.#timer?.cancel();
    if (this.#isClosed) return;
    this.#nextCheckMs = this.#platform.clock.nowMs() + delayMs;
    this.#timer = this.#platform.clock.timer(delayMs, () => void this.#probeAll());
  }

  async #probeAll(): Promise<void> {
    if (this.#isProbing) return;
    this.#isProbing = true;
    await Promise.all(this.#entries.map((entry) => this.#probe(entry)));
    this.#isProbing = false;
    this.#schedule(probeIntervalMs);
  }

  async #probe(entry: Entry): Promise<void> {
    try {
      await probeRole(this.#platform, this.#nodeId, entry.address, "proxy");
      if (this.#platform.clock.monotonicMs() < entry.restsUntilMs) entry.checkedMs = this.#platform.clock.nowMs();
      else this.#set(entry, undefined);
    } catch (error) {
      this.#set(entry, asWalbError(error, { peer: addressText(entry.address), step: "heartbeat" }));
    }
  }

  #set(entry: Entry, error: WalbError | undefined): void {
    if (this.#isClosed) return;
    const wasAvailable = entry.isAvailable;
    entry.checkedMs = this.#platform.clock.nowMs();
    entry.error = error;
    entry.sinceMs = error === undefined ? undefined : (entry.sinceMs ?? entry.checkedMs);
    entry.isAvailable = error === undefined;
    if (wasAvailable && error !== undefined) {
      this.#log.warn("a proxy does not answer", { proxy: addressText(entry.address), error });
    }
    if (!wasAvailable && error === undefined) {
      this.#log.info("a proxy answers again", { proxy: addressText(entry.address) });
      for (const callback of [...this.#recovered]) callback();
    }
  }
}
