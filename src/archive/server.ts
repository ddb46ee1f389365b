/** @module The archive role: keeps images and diffs of volumes, and restores them to any point they have. */

import { archiveCommands } from "../control/archive.ts";
import { createControl } from "../control/control.ts";
import { HandlerStatistics } from "../control/legacy/statistics.ts";
import type { Logger } from "../control/logger.ts";
import type { ArchiveOptions, RunningRole } from "../control/role.ts";
import { asWalbError, WalbError } from "../errors.ts";
import type { Platform } from "../platform/platform.ts";
import { lockDataDirectory } from "../volume/directories.ts";
import { SpaceReserve } from "../volume/reserve.ts";
import { serveWire } from "../wire/server.ts";
import { ProtocolName } from "../wire/words.ts";
import { ForegroundLimit } from "./foreground.ts";
import { archiveHandlers } from "./handlers.ts";
import { openImages } from "./images.ts";
import { archiveLegacyRole } from "./legacy.ts";
import { carveArchiveMemory } from "./memory.ts";
import { RateLimits } from "./rates.ts";
import { ResumedApplies } from "./resume.ts";
import { archiveSettings } from "./settings.ts";
import { ArchiveVolumes } from "./volumes.ts";
import { archiveWireHandlers } from "./wire-handlers.ts";

/** Protocols that bring backups: their failures are for people to see. */
const receiving = new Set<string>([
  ProtocolName.fullSync,
  ProtocolName.hashSync,
  ProtocolName.wdiffTransfer,
  ProtocolName.replSync,
]);
/** Replications to other archives at once, each in one conversation. */
const replicationsMax = 8;
/** How long conversations may go on in a graceful close. */
const graceMs = 5_000;

/**
 * Locks the data directory, opens every volume (finishing or undoing what a crash cut off), and serves.
 * @throws WalbError `locked`, `port-in-use`, `bad-parameter`, `not-found` for a missing volume group.
 */
export async function openArchive(platform: Platform, options: ArchiveOptions, log: Logger): Promise<RunningRole> {
  const settings = archiveSettings(options);
  const memory = carveArchiveMemory(platform);
  const { dataDir } = settings;
  const lock = await lockDataDirectory(platform.disk, dataDir).catch((error: unknown) => {
    throw readOnlyStart(error, dataDir);
  });
  const opening = openImages(options.images ?? "file", { platform, dataDir, memory: memory.working.memory, log });
  const images = await opening.catch(async (error: unknown) => {
    await lock.close();
    throw error;
  });
  const rates = new RateLimits(platform.clock);
  const volumes = new ArchiveVolumes({ platform, settings, images, rates, log, io: memory.working });
  const reserve = new SpaceReserve(platform.disk, settings.dataDir, log);
  const foreground = new ForegroundLimit(settings.nodeId, settings.maxForegroundTasks);
  const resumed = new ResumedApplies();
  const replicating = {
    memory,
    limit: new ForegroundLimit(settings.nodeId, Math.max(replicationsMax, settings.maxForegroundTasks)),
  };
  const control = createControl({
    role: "archive",
    commands: archiveCommands,
    handlers: archiveHandlers({
      platform,
      settings,
      volumes,
      images,
      memory,
      rates,
      reserve,
      foreground,
      replicating,
      resumed,
    }),
    nodeId: settings.nodeId,
    security: options.security,
    clock: platform.clock,
    random: platform.random,
    log,
    ...(options.onShutdown === undefined ? {} : { onShutdown: options.onShutdown }),
  });
  const http = options.http?.(control, log);
  try {
    // Databases need space to be opened.
    await reserve.forFreeing(() => volumes.open());
    const statistics = new HandlerStatistics();
    const server = await serveWire(platform.net, options.listen, {
      nodeId: settings.nodeId,
      clock: platform.clock,
      handlers: archiveWireHandlers({
        platform,
        legacy: {
          role: archiveLegacyRole({ settings, volumes, keepAlive: options.keepAlive }),
          control,
          clock: platform.clock,
          log,
          statistics,
          process: options.process,
        },
        settings,
        volumes,
        memory,
        foreground,
        resumed,
      }),
      deadlineMs: settings.socketTimeoutMs,
      maxConversations: settings.maxConnections,
      ended: (report) => {
        statistics.ended(report);
        if (report.error === undefined) return;
        // Whoever sent it may know no more than that the connection ended.
        const level = receiving.has(report.caller?.protocol ?? "") ? "warn" : "info";
        log[level]("a conversation ended with an error", { ...report });
      },
      ...(http === undefined ? {} : { http: http.accept }),
    });
    resumed.begin(control, volumes.all);
    let closing: Promise<void> | undefined;
    return {
      address: server.address,
      control,
      close(mode) {
        if (mode === "force") void server.shutdown(0);
        closing ??= (async () => {
          await control.close();
          await http?.close();
          await server.shutdown(mode === "force" ? 0 : graceMs);
          await volumes.close();
          await lock.close();
        })();
        return closing;
      },
    };
  } catch (error) {
    await volumes.close();
    await http?.close();
    await lock.close();
    throw error;
  }
}

/** A disk that was made read-only by errors, or a copy of one, is restored from all the same. */
function readOnlyStart(error: unknown, dataDir: string): WalbError {
  const failure = asWalbError(error);
  if (failure.code !== "read-only") return failure;
  const { code, what, where, hint, cause } = failure;
  return new WalbError(code, {
    what,
    where,
    hint:
      `${hint ?? "mount it for writing"}. To restore from it as it is, let what is written go to an empty directory DIR of another file system: ` +
      `mkdir DIR/upper DIR/work DIR/data; mount -t overlay overlay -o lowerdir=${dataDir},upperdir=DIR/upper,workdir=DIR/work DIR/data; ` +
      "walb archive --data DIR/data",
    ...(cause === undefined ? {} : { cause }),
  });
}
