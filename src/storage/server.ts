/** @module The storage role: ships the logs of this host's volumes and backs them up. */
import { createControl } from "../control/control.ts";
import { legacyHandlers } from "../control/legacy/serve.ts";
import { HandlerStatistics } from "../control/legacy/statistics.ts";
import type { Logger } from "../control/logger.ts";
import type { RunningRole, StorageOptions } from "../control/role.ts";
import { storageCommands } from "../control/storage.ts";
import { addressText } from "../platform/net.ts";
import type { Platform } from "../platform/platform.ts";
import { type Closing, closeAll } from "../volume/closing.ts";
import { lockDataDirectory } from "../volume/directories.ts";
import { Limiter } from "../volume/limiter.ts";
import { serveWire } from "../wire/server.ts";
import { ArchiveDeltas } from "./archive-delta.ts";
import { storageHandlers } from "./handlers.ts";
import { storageLegacyRole } from "./legacy.ts";
import { carveTransferMemory } from "./memory.ts";
import { StoragePeers } from "./peers.ts";
import { warnOfArchive } from "./probe.ts";
import { ProxyList } from "./proxies.ts";
import { sendLogRange } from "./send-log.ts";
import { type StorageSettings, storageSettings } from "./settings.ts";
import { StorageVolumes } from "./volumes.ts";

/** How long conversations may go on in a graceful close. */
const graceMs = 5_000;

/**
 * Locks the data directory, opens every volume (following targets and standbys), and serves.
 * @throws WalbError `locked`, `port-in-use`, `bad-parameter`; nothing stays open then.
 */
export async function openStorage(platform: Platform, options: StorageOptions, log: Logger): Promise<RunningRole> {
  const asked = storageSettings(options);
  const lock = await lockDataDirectory(platform.disk, asked.dataDir);
  /** What was opened, to be closed in reverse order. */
  const opened: Closing[] = [() => lock.close()];
  try {
    const peers = await StoragePeers.open(platform.disk, asked.dataDir, asked);
    const settings = withPeers(asked, peers);
    for (const [kind, isTold] of Object.entries(peers.told)) {
      if (isTold) log.info(`the ${kind} set by command counts, not the option`, { now: peersText(peers) });
    }
    const memory = carveTransferMemory(platform.memory);
    const proxies = new ProxyList(platform, settings.nodeId, settings.proxies, log);
    opened.push(() => proxies.close());
    const limiter = new Limiter(settings.maxBackgroundTasks);
    const volumes = new StorageVolumes({
      platform,
      settings,
      log,
      follower: {
        send: (volume, range, signal) => sendLogRange(volume, range, proxies, memory, signal),
        limit: (work, signal) => limiter.run(work, signal),
      },
    });
    let closeMode: "graceful" | "force" = "graceful";
    opened.push(() => volumes.close(closeMode));
    // Every volume is known before the first command can come: one that is not looks like one that can be made.
    await volumes.open();
    opened.push(proxies.onRecovery(() => volumes.kick()));
    const deltas = new ArchiveDeltas(platform, settings, () => volumes.all, log);
    opened.push(() => deltas.close());
    const handlers = storageHandlers({ platform, settings, peers, volumes, proxies, deltas, memory });
    const report = (volume?: string) =>
      handlers.status({ volume }, { signal: new AbortController().signal, progress() {}, log });
    const control = createControl({
      role: "storage",
      commands: storageCommands,
      handlers,
      nodeId: settings.nodeId,
      security: options.security,
      clock: platform.clock,
      random: platform.random,
      log,
      ...(options.onShutdown === undefined ? {} : { onShutdown: options.onShutdown }),
    });
    // Cancels backups, before the volumes they work on go.
    opened.push(() => control.close());
    const http = options.http?.(control, log);
    opened.push(async () => http?.close());
    const statistics = new HandlerStatistics();
    const server = await serveWire(platform.net, options.listen, {
      nodeId: settings.nodeId,
      clock: platform.clock,
      // A storage serves no data protocol: it opens all of those conversations itself.
      handlers: legacyHandlers({
        role: storageLegacyRole({ platform, settings, volumes, report, keepAlive: options.keepAlive }),
        control,
        clock: platform.clock,
        log,
        statistics,
        process: options.process,
      }),
      ended: (report) => {
        statistics.ended(report);
        if (report.error?.code === "wrong-key") log.warn("a connection was refused", { error: report.error });
      },
      maxConversations: settings.maxConnections,
      deadlineMs: settings.socketTimeoutMs,
      ...(http === undefined ? {} : { http: http.accept }),
    });
    opened.push(() => server.shutdown(closeMode === "force" ? 0 : graceMs));
    // Not waited for: a storage ships its logs without the archive.
    void warnOfArchive(platform, settings.nodeId, settings.archive, log);
    let closing: Promise<void> | undefined;
    return {
      address: server.address,
      control,
      close(mode) {
        if (mode === "force") {
          closeMode = mode;
          // A device that hangs must not hold up the end.
          void volumes.leaveDevices();
          if (closing !== undefined) {
            void server.shutdown(0);
            void volumes.unfollowAll(mode);
          }
        }
        closing ??= closeAll(opened);
        return closing;
      },
    };
  } catch (error) {
    await closeAll(opened).catch((failure: unknown) => log.warn("closing failed", { error: failure }));
    throw error;
  }
}

/** Settings whose archive and proxies are those of now. */
function withPeers(settings: StorageSettings, peers: StoragePeers): StorageSettings {
  return {
    ...settings,
    get archive() {
      return peers.archive;
    },
    get proxies() {
      return peers.proxies;
    },
  };
}

function peersText({ archive, proxies }: StoragePeers): string {
  return `archive ${addressText(archive)}, proxies ${proxies.map(addressText).join(", ")}`;
}
