/**
 * @module The proxies of a storage, in order of preference: which ones answer, and which to try next.
 *
 * A proxy is available when its last probe (or transfer) went well. Probing is `get host-type`, with a short deadline.
 */
import type { Logger } from "../control/logger.ts";
import { asWalbError, type WalbError } from "../errors.ts";
import type { Timer } from "../platform/clock.ts";
import { type Address, addressText } from "../platform/net.ts";
import type { Platform } from "../platform/platform.ts";
import { probeRole } from "./probe.ts";

const probeIntervalMs = 10_000;

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
}

/** Until the first probe says otherwise a proxy counts as there: the first transfer finds out. */
function newEntry(address: Address): Entry {
  return { address, isAvailable: true, checkedMs: undefined, sinceMs: undefined, error: undefined };
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
    return this.#entries.map((entry) => ({ ...entry, nextCheckMs: this.#nextCheckMs }));
  }

  /** Addresses to try now, preferred first; all of them when none is available, so that nothing waits for a probe. */
  candidates(): Address[] {
    const available = this.#entries.filter((entry) => entry.isAvailable);
    return (available.length > 0 ? available : this.#entries).map((entry) => entry.address);
  }

  /** A transfer learned that a proxy does not answer. */
  reportFailure(address: Address, error: WalbError): void {
    const entry = this.#entries.find((known) => known.address === address);
    if (entry !== undefined) this.#set(entry, error);
  }

  /** A transfer learned that a proxy is there. */
  reportSuccess(address: Address): void {
    const entry = this.#entries.find((known) => known.address === address);
    if (entry !== undefined && !entry.isAvailable) this.#set(entry, undefined);
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

  /** Probes all now. */
  kick(): void {
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
      this.#set(entry, undefined);
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
