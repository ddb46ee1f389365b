/** @module The storage role: ships the logs of this host's volumes and backs them up. */
import { createControl } from "../control/control.ts";
import type { Logger } from "../control/logger.ts";
import type { RunningRole, StorageOptions } from "../control/role.ts";
import { storageCommands } from "../control/storage.ts";
import type { Platform } from "../platform/platform.ts";
import { lockDataDirectory } from "../volume/directories.ts";
import { Limiter } from "../volume/limiter.ts";
import { serveWire } from "../wire/server.ts";
import { storageHandlers } from "./handlers.ts";
import { carveTransferMemory } from "./memory.ts";
import { ProxyList } from "./proxies.ts";
import { sendLogRange } from "./send-log.ts";
import { storageSettings } from "./settings.ts";
import { StorageVolumes } from "./volumes.ts";
import { storageWireHandlers } from "./wire-handlers.ts";

/** How long conversations may go on in a graceful close. */
const graceMs = 5_000;

/**
 * Locks the data directory, opens every volume (following targets and standbys), and serves.
 * @throws WalbError `locked`, `port-in-use`, `bad-parameter`.
 */
export async function openStorage(platform: Platform, options: StorageOptions, log: Logger): Promise<RunningRole> {
  const settings = storageSettings(options);
  const lock = await lockDataDirectory(platform.disk, settings.dataDir);
  const proxies = new ProxyList(platform, settings.nodeId, settings.proxies, log);
  const memory = carveTransferMemory(platform.memory);
  const limiter = new Limiter(settings.maxBackgroundTasks);
  const volumes = new StorageVolumes({
    platform,
    settings,
    log,
    follower: {
      send: (volume, range, signal) => sendLogRange(volume, range, proxies, memory, signal),
      limit: (work) => limiter.run(work),
    },
  });
  const control = createControl({
    role: "storage",
    commands: storageCommands,
    handlers: storageHandlers({ platform, settings, volumes, proxies, memory }),
    nodeId: settings.nodeId,
    security: options.security,
    clock: platform.clock,
    random: platform.random,
    log,
    ...(options.onShutdown === undefined ? {} : { onShutdown: options.onShutdown }),
  });
  const http = options.http?.(control, log);
  try {
    const server = await serveWire(platform.net, options.listen, {
      nodeId: settings.nodeId,
      clock: platform.clock,
      handlers: storageWireHandlers(control),
      deadlineMs: settings.socketTimeoutMs,
      ...(http === undefined ? {} : { http: http.accept }),
    });
    await volumes.open();
    const stopRecovery = proxies.onRecovery(() => volumes.kick());
    let closing: Promise<void> | undefined;
    return {
      address: server.address,
      control,
      close(mode) {
        if (mode === "force") void server.shutdown(0);
        closing ??= (async () => {
          stopRecovery();
          proxies.close();
          await volumes.close();
          await control.close();
          await http?.close();
          await server.shutdown(mode === "force" ? 0 : graceMs);
          await lock.close();
        })();
        return closing;
      },
    };
  } catch (error) {
    proxies.close();
    await http?.close();
    await lock.close();
    throw error;
  }
}
