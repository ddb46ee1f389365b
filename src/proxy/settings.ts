/** @module Options of a proxy with every default filled in. */
import type { ProxyOptions } from "../control/role.ts";
import { mib } from "../units.ts";

/** See ProxyOptions for the meaning of each. */
export interface ProxySettings {
  readonly nodeId: string;
  readonly dataDir: string;
  readonly wdiffSendBytesMax: number;
  readonly wdiffSendCountMax: number;
  readonly retryDelayMs: number;
  readonly retryDelayMsMax: number;
  readonly socketTimeoutMs: number;
  readonly maxConnections: number;
  readonly maxForegroundTasks: number;
  readonly maxBackgroundTasks: number;
  readonly isStopped: boolean;
  readonly isAllStarted: boolean;
}

/** Fills in defaults. */
export function proxySettings(options: ProxyOptions): ProxySettings {
  return {
    nodeId: options.nodeId,
    dataDir: options.dataDir,
    wdiffSendBytesMax: options.wdiffSendBytesMax ?? 128 * mib,
    wdiffSendCountMax: options.wdiffSendCountMax ?? 1000,
    retryDelayMs: options.retryDelayMs ?? 1_000,
    retryDelayMsMax: options.retryDelayMsMax ?? 300_000,
    socketTimeoutMs: options.socketTimeoutMs ?? 10_000,
    maxConnections: options.maxConnections ?? 64,
    maxForegroundTasks: options.maxForegroundTasks ?? 2,
    maxBackgroundTasks: options.maxBackgroundTasks ?? 1,
    isStopped: options.isStopped ?? false,
    isAllStarted: options.isAllStarted ?? false,
  };
}
