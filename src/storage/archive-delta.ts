/**
 * @module How far the primary archive is behind: asked of it now and then for all targets at once, so that a status can
 * tell it without waiting for another host.
 */

import type { Logger } from "../control/logger.ts";
import type { ArchiveDelta } from "../control/storage.ts";
import { asWalbError, type WalbError } from "../errors.ts";
import type { Timer } from "../platform/clock.ts";
import { addressText } from "../platform/net.ts";
import type { Platform } from "../platform/platform.ts";
import { gidMax } from "../snapshot/types.ts";
import { connectWire } from "../wire/handshake.ts";
import { runLatestSnap } from "../wire/latest-snap.ts";
import { ProtocolName } from "../wire/words.ts";
import type { StorageSettings } from "./settings.ts";
import type { StorageVolume } from "./volume.ts";

const firstDelayMs = 5_000;
/** Volumes in one conversation. */
const namesMax = 1_000;

/** What the archive said last, by volume. Asks again at intervals until closed. */
export class ArchiveDeltas {
  readonly #platform: Platform;
  readonly #settings: StorageSettings;
  readonly #volumes: () => readonly StorageVolume[];
  readonly #log: Logger;
  readonly #deltas = new Map<string, ArchiveDelta>();
  readonly #closing = new AbortController();
  #timer: Timer | undefined;
  #error: WalbError | undefined;

  constructor(platform: Platform, settings: StorageSettings, volumes: () => readonly StorageVolume[], log: Logger) {
    this.#platform = platform;
    this.#settings = settings;
    this.#volumes = volumes;
    this.#log = log;
    this.#schedule(Math.min(firstDelayMs, settings.archiveDeltaIntervalMs));
  }

  of(volume: string): ArchiveDelta | undefined {
    return this.#deltas.get(volume);
  }

  /** Why the archive could not be asked last; undefined when it could, or was not yet. */
  get error(): WalbError | undefined {
    return this.#error;
  }

  /** Asks soon: there is another archive. What the one before said does not count. */
  askNow(): void {
    this.#deltas.clear();
    this.#schedule(0);
  }

  close(): void {
    this.#closing.abort();
    this.#timer?.cancel();
  }

  #schedule(delayMs: number): void {
    this.#timer?.cancel();
    if (this.#closing.signal.aborted) return;
    this.#timer = this.#platform.clock.timer(delayMs, () => void this.#ask());
  }

  async #ask(): Promise<void> {
    const targets = this.#volumes().filter(({ store }) => store.state === "Target" && store.done !== undefined);
    const names = new Set(targets.map(({ name }) => name));
    for (const name of this.#deltas.keys()) if (!names.has(name)) this.#deltas.delete(name);
    try {
      for (let at = 0; at < targets.length; at += namesMax) await this.#askFor(targets.slice(at, at + namesMax));
      this.#error = undefined;
    } catch (thrown) {
      if (this.#closing.signal.aborted) return;
      const error = asWalbError(thrown, { peer: addressText(this.#settings.archive), step: "asking for snapshots" });
      if (this.#error?.code !== error.code) this.#log.info("the archive did not tell its newest snapshots", { error });
      this.#error = error;
    }
    this.#schedule(this.#settings.archiveDeltaIntervalMs);
  }

  async #askFor(targets: readonly StorageVolume[]): Promise<void> {
    const { clock, net } = this.#platform;
    const { nodeId, archive, socketTimeoutMs: deadlineMs } = this.#settings;
    const { stream, serverId } = await connectWire(net, archive, {
      clock,
      clientId: nodeId,
      protocol: ProtocolName.gatherLatestSnap,
      deadlineMs,
    });
    const abort = (): void => stream.close();
    this.#closing.signal.addEventListener("abort", abort);
    try {
      const points = targets.map(({ store }) => store.queue.at(-1) ?? store.done!);
      const snapshots = await runLatestSnap(
        stream,
        targets.map(({ name }) => name),
      );
      const checkedMs = clock.nowMs();
      for (const [i, { name }] of targets.entries()) {
        const { gid, timestampS } = points[i]!;
        const there = snapshots[i];
        const isKnown = there !== undefined && there.gid !== gidMax;
        this.#deltas.set(name, {
          archive: serverId,
          checkedMs,
          gid,
          timestampS,
          ...(isKnown
            ? {
                archiveGid: there.gid,
                archiveTimestampS: there.timestampS,
                deltaS: timestampS - there.timestampS,
              }
            : {}),
        });
      }
    } finally {
      this.#closing.signal.removeEventListener("abort", abort);
      stream.close();
    }
  }
}
