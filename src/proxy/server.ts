/** @module The proxy role: makes received logs durable as diffs and delivers them to every archive. */
import { createControl } from "../control/control.ts";
import { HandlerStatistics } from "../control/legacy/statistics.ts";
import type { Logger } from "../control/logger.ts";
import { proxyCommands } from "../control/proxy.ts";
import type { ProxyOptions, RunningRole } from "../control/role.ts";
import type { Platform } from "../platform/platform.ts";
import { mib } from "../units.ts";
import { type Closing, closeAll } from "../volume/closing.ts";
import { lockDataDirectory } from "../volume/directories.ts";
import { Limiter } from "../volume/limiter.ts";
import { SpaceReserve } from "../volume/reserve.ts";
import { serveWire } from "../wire/server.ts";
import { proxyHandlers } from "./handlers.ts";
import { proxyLegacyRole } from "./legacy.ts";
import { carveProxyMemory } from "./memory.ts";
import { proxySettings } from "./settings.ts";
import { ProxyVolumes } from "./volumes.ts";
import { proxyWireHandlers } from "./wire-handlers.ts";

/** How long conversations may go on in a graceful close. */
const graceMs = 5_000;
/** Space kept back for the databases: what is delivered is noted in them before its file can go. */
const reserveBytes = 16 * mib;

/**
 * Locks the data directory, opens and starts every volume, and serves.
 * @throws WalbError `locked`, `port-in-use`, `bad-parameter`; nothing stays open then.
 */
export async function openProxy(platform: Platform, options: ProxyOptions, log: Logger): Promise<RunningRole> {
  const settings = proxySettings(options);
  const lock = await lockDataDirectory(platform.disk, settings.dataDir);
  /** What was opened, to be closed in reverse order. */
  const opened: Closing[] = [() => lock.close()];
  try {
    const memory = carveProxyMemory(platform);
    const allSends = new Limiter(memory.sendsMax);
    const perArchive = new Map<string, Limiter>();
    const reserve = new SpaceReserve(platform.disk, settings.dataDir, log, reserveBytes);
    const volumes = new ProxyVolumes({
      platform,
      settings,
      log,
      io: memory.converting,
      sender: {
        io: memory.sending,
        limit(archiveName, work, signal) {
          const own = perArchive.get(archiveName) ?? new Limiter(settings.maxBackgroundTasks);
          perArchive.set(archiveName, own);
          return own.run(() => allSends.run(work, signal), signal);
        },
        whenFull: (work) => reserve.whenFull(work),
      },
    });
    let closeMode: "graceful" | "force" = "graceful";
    opened.push(() => volumes.close(closeMode));
    // Databases need space to be opened.
    await reserve.forFreeing(() => volumes.open());
    const control = createControl({
      role: "proxy",
      commands: proxyCommands,
      handlers: proxyHandlers(platform, settings, volumes),
      nodeId: settings.nodeId,
      security: options.security,
      clock: platform.clock,
      random: platform.random,
      log,
      ...(options.onShutdown === undefined ? {} : { onShutdown: options.onShutdown }),
    });
    opened.push(() => control.close());
    const http = options.http?.(control, log);
    opened.push(async () => http?.close());
    const statistics = new HandlerStatistics();
    const server = await serveWire(platform.net, options.listen, {
      nodeId: settings.nodeId,
      clock: platform.clock,
      handlers: proxyWireHandlers({
        legacy: {
          role: proxyLegacyRole({ platform, settings, volumes, keepAlive: options.keepAlive }),
          control,
          clock: platform.clock,
          log,
          statistics,
          process: options.process,
        },
        settings,
        volumes,
        receiving: memory.receiving,
        io: memory.converting,
      }),
      maxConversations: settings.maxConnections,
      deadlineMs: settings.socketTimeoutMs,
      ended: (report) => {
        statistics.ended(report);
        if (report.error !== undefined) log.info("a conversation ended with an error", { ...report });
      },
      ...(http === undefined ? {} : { http: http.accept }),
    });
    // Receptions end before the stores go that they are registered in.
    opened.push(() => server.shutdown(closeMode === "force" ? 0 : graceMs));
    let closing: Promise<void> | undefined;
    return {
      address: server.address,
      control,
      close(mode) {
        if (mode === "force") {
          closeMode = mode;
          if (closing !== undefined) {
            void server.shutdown(0);
            void volumes.closeSenders(mode);
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
