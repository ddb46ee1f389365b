/** @module The proxy role: makes received logs durable as diffs and delivers them to every archive. */
import { createControl } from "../control/control.ts";
import type { Logger } from "../control/logger.ts";
import { proxyCommands } from "../control/proxy.ts";
import type { ProxyOptions, RunningRole } from "../control/role.ts";
import type { DiffIo } from "../diff/types.ts";
import type { Platform } from "../platform/platform.ts";
import { mib } from "../units.ts";
import { lockDataDirectory } from "../volume/directories.ts";
import { Limiter } from "../volume/limiter.ts";
import { serveWire } from "../wire/server.ts";
import { proxyHandlers } from "./handlers.ts";
import { proxySettings } from "./settings.ts";
import { ProxyVolumes } from "./volumes.ts";
import { proxyWireHandlers } from "./wire-handlers.ts";

/** How long conversations may go on in a graceful close. */
const graceMs = 5_000;
/** Transfers to all archives at once; each archive has its own limit besides. */
const sendsMax = 8;

/**
 * Locks the data directory, opens and starts every volume, and serves.
 * @throws WalbError `locked`, `port-in-use`.
 */
export async function openProxy(platform: Platform, options: ProxyOptions, log: Logger): Promise<RunningRole> {
  const settings = proxySettings(options);
  const lock = await lockDataDirectory(platform.disk, settings.dataDir);
  // A unit of a log may be 64 MiB, so receiving needs room for one beside ordinary batches.
  const receiving = platform.memory.carve(96 * mib);
  const converting: DiffIo = {
    disk: platform.disk,
    compute: platform.compute,
    memory: platform.memory.carve(96 * mib),
  };
  const sending: DiffIo = { disk: platform.disk, compute: platform.compute, memory: platform.memory.carve(160 * mib) };
  const allSends = new Limiter(sendsMax);
  const perArchive = new Map<string, Limiter>();
  const volumes = new ProxyVolumes({
    platform,
    settings,
    log,
    io: converting,
    sender: {
      io: sending,
      limit(archiveName, work) {
        const own = perArchive.get(archiveName) ?? new Limiter(settings.maxBackgroundTasks);
        perArchive.set(archiveName, own);
        return own.run(() => allSends.run(work));
      },
    },
  });
  const control = createControl({
    role: "proxy",
    commands: proxyCommands,
    handlers: proxyHandlers(platform, volumes),
    nodeId: settings.nodeId,
    security: options.security,
    clock: platform.clock,
    random: platform.random,
    log,
    ...(options.onShutdown === undefined ? {} : { onShutdown: options.onShutdown }),
  });
  const http = options.http?.(control, log);
  try {
    await volumes.open();
    const server = await serveWire(platform.net, options.listen, {
      nodeId: settings.nodeId,
      clock: platform.clock,
      handlers: proxyWireHandlers({ control, settings, volumes, receiving, io: converting }),
      deadlineMs: settings.socketTimeoutMs,
      ended: (report) => {
        if (report.error !== undefined) log.info("a conversation ended with an error", { ...report });
      },
      ...(http === undefined ? {} : { http: http.accept }),
    });
    let closing: Promise<void> | undefined;
    return {
      address: server.address,
      control,
      close(mode) {
        if (mode === "force") void server.shutdown(0);
        closing ??= (async () => {
          await volumes.close(mode);
          await control.close();
          await http?.close();
          await server.shutdown(mode === "force" ? 0 : graceMs);
          await lock.close();
        })();
        return closing;
      },
    };
  } catch (error) {
    await volumes.close("force");
    await http?.close();
    await lock.close();
    throw error;
  }
}
