/** @module Options of a storage with every default filled in. */
import type { StorageOptions } from "../control/role.ts";
import { WalbError } from "../errors.ts";
import type { CompressOption } from "../native/codec.ts";
import { parseCompressOption } from "../native/compress-option.ts";
import type { Address } from "../platform/net.ts";
import { mib } from "../units.ts";

/** See StorageOptions for the meaning of each. */
export interface StorageSettings {
  readonly nodeId: string;
  readonly dataDir: string;
  readonly archive: Address;
  readonly proxies: readonly Address[];
  readonly deviceSocket: string | undefined;
  readonly wlogSendBytesMax: number;
  readonly snapshotIntervalMs: number;
  readonly retryDelayMs: number;
  readonly retryDelayMsMax: number;
  readonly socketTimeoutMs: number;
  readonly maxConnections: number;
  readonly maxForegroundTasks: number;
  readonly maxBackgroundTasks: number;
  /** At the start; it can be changed while it runs. */
  readonly fullScanBytesPerS: number;
  readonly archiveDeltaIntervalMs: number;
  readonly compress: CompressOption;
}

/** Fills in defaults. @throws WalbError `bad-parameter`. */
export function storageSettings(options: StorageOptions): StorageSettings {
  if (options.proxies.length === 0) {
    throw new WalbError("bad-parameter", {
      what: "a storage needs at least one proxy",
      where: { field: "proxy" },
      hint: "for example: walb storage --archive backup1:10200 --proxy relay1:10100",
    });
  }
  return {
    nodeId: options.nodeId,
    dataDir: options.dataDir,
    archive: options.archive,
    proxies: options.proxies,
    deviceSocket: options.deviceSocket,
    wlogSendBytesMax: options.wlogSendBytesMax ?? 128 * mib,
    snapshotIntervalMs: options.snapshotIntervalMs ?? 10_000,
    retryDelayMs: options.retryDelayMs ?? 1_000,
    retryDelayMsMax: options.retryDelayMsMax ?? 300_000,
    socketTimeoutMs: options.socketTimeoutMs ?? 10_000,
    maxConnections: options.maxConnections ?? 64,
    maxForegroundTasks: options.maxForegroundTasks ?? 2,
    maxBackgroundTasks: options.maxBackgroundTasks ?? 1,
    fullScanBytesPerS: options.fullScanBytesPerS ?? 0,
    archiveDeltaIntervalMs: options.archiveDeltaIntervalMs ?? 60_000,
    compress: parseCompressOption(options.syncCompression ?? "snappy", "sync-compression"),
  };
}
