/** @module Options of an archive with every default filled in. */
import type { ArchiveOptions } from "../control/role.ts";
import { checkRange, gib } from "../units.ts";

/** See ArchiveOptions for the meaning of each. */
export interface ArchiveSettings {
  readonly nodeId: string;
  readonly dataDir: string;
  readonly discard: "zero" | "ignore" | "passdown";
  readonly fsyncIntervalBytes: number;
  readonly isAutoResize: boolean;
  readonly openDiffsMax: number;
  readonly isOneColdKept: boolean;
  readonly wdiffSendCountMax: number;
  readonly applySleepPercent: number;
  readonly socketTimeoutMs: number;
  readonly maxConnections: number;
  readonly maxForegroundTasks: number;
  /** Of replication: `codec[:level[:threads]]`. */
  readonly syncCompression: string;
}

/** Fills in defaults. @throws WalbError `bad-parameter`. */
export function archiveSettings(options: ArchiveOptions): ArchiveSettings {
  return {
    nodeId: options.nodeId,
    dataDir: options.dataDir.replace(/(?<=.)\/+$/, ""),
    discard: options.discard ?? "zero",
    fsyncIntervalBytes: checkRange(options.fsyncIntervalBytes ?? gib, 1, Number.MAX_SAFE_INTEGER, "fsync-interval"),
    isAutoResize: options.isAutoResize ?? false,
    isOneColdKept: options.isOneColdKept ?? false,
    wdiffSendCountMax: options.wdiffSendCountMax ?? 1000,
    openDiffsMax: checkRange(options.openDiffsMax ?? 0, 0, 1_000_000, "open-diffs-max"),
    applySleepPercent: checkRange(options.applySleepPercent ?? 0, 0, 99, "apply-sleep-percent"),
    socketTimeoutMs: options.socketTimeoutMs ?? 10_000,
    maxConnections: options.maxConnections ?? 64,
    maxForegroundTasks: options.maxForegroundTasks ?? 2,
    syncCompression: options.syncCompression ?? "snappy",
  };
}
