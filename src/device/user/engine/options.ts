/** @module What an engine is opened with. */
import type { RedoResult } from "../../../log/redo.ts";
import type { Compute } from "../../../native/codec.ts";
import type { MemoryPool } from "../../../native/memory.ts";
import type { Clock, Random } from "../../../platform/clock.ts";
import type { Disk } from "../../../platform/disk.ts";
import { mib } from "../../../units.ts";

/** When un-shipped log would be overwritten: go on and break the chain, or refuse writes with `no-space`. */
export type OverflowPolicy = "keep-writing" | "stop";

/** The outside world of an engine; a `Platform` fits. */
export interface EngineParts {
  readonly disk: Disk;
  readonly clock: Clock;
  readonly random: Random;
  readonly compute: Compute;
  /** Of which the engine leases about 2 MiB for good, 4 MiB more while it starts, and bounce buffers for unaligned
   * reads. The data of writes comes with its leases. */
  readonly memory: MemoryPool;
}

/** How a volume is opened. */
export interface EngineOptions {
  readonly name: string;
  readonly dataPath: string;
  /** A log store made by `formatLogDevice`. */
  readonly logPath: string;
  readonly overflow: OverflowPolicy;
  /** Bytes of writes that may be pending (not yet on the data store) before back-pressure. Default 64 MiB. */
  readonly pendingBudgetBytes?: number;
  /** Once they were so many, writes are let in again when fewer than this are pending. Default: seven eighths of it. */
  readonly minPendingBytes?: number;
  /** … or after this time, when fewer than `pendingBudgetBytes` are. Default 100 ms. */
  readonly queueStopTimeoutMs?: number;
  /** The log is synced at least this often while there is something to sync. Default 100 ms. */
  readonly logSyncIntervalMs?: number;
  /** … and after this much. Default 16 MiB. */
  readonly logSyncBytes?: number;
  /** What is permanent is written to the data store at the latest after this. Default 50 ms. */
  readonly applyDelayMs?: number;
  /** Default 10 000 ms. */
  readonly checkpointIntervalMs?: number;
  /** Data of one pack. Default 1 MiB. */
  readonly maxPackBytes?: number;
  /** Packs, and writes, that go to the log at once. Default, and most: 64 and 960. */
  readonly maxBatchPacks?: number;
  readonly maxBatchWrites?: number;
  /**
   * Most log that may be appended behind `permanent`. It bounds where leftovers of a crash can be, and with it what the
   * next start must search for stale headers, see `redoLog`: never open a log with less than half of what it was written
   * with. Default 128 MiB.
   */
  readonly unsyncedWindowBytes?: number;
  /**
   * O_DIRECT where the stores allow it, or never. Default `auto`: for a data store that is a block device, which then
   * tells at once what it could not write. The log, and files, go through the page cache: an append costs no wait for
   * the disk, the log is read again soon, and nothing relies on more than what a sync has made durable.
   */
  readonly direct?: boolean | "auto";
  /**
   * Told the uuid of the log before anything is redone or written; throws when it must not be opened, since a copy of it
   * is in use.
   */
  readonly claim?: (uuid: string) => Promise<void>;
  /** Told what redo found in the log, before anything is served. */
  readonly onRedone?: (result: RedoResult) => void;
}

/** Headers of a batch. */
export const batchPacksMax = 64;
/** Pieces of memory of a batch, headers included. */
export const batchPiecesMax = 960;

/** Options with every default filled in. */
export type EngineSettings = Required<EngineOptions>;

export function settingsOf(options: EngineOptions): EngineSettings {
  const pendingBudgetBytes = options.pendingBudgetBytes ?? 64 * mib;
  return {
    minPendingBytes: Math.ceil((pendingBudgetBytes * 7) / 8),
    queueStopTimeoutMs: 100,
    logSyncIntervalMs: 100,
    logSyncBytes: 16 * mib,
    applyDelayMs: 50,
    checkpointIntervalMs: 10_000,
    maxPackBytes: mib,
    maxBatchPacks: batchPacksMax,
    maxBatchWrites: batchPiecesMax,
    unsyncedWindowBytes: 128 * mib,
    direct: "auto",
    claim: () => Promise.resolve(),
    onRedone: () => {},
    ...options,
    pendingBudgetBytes,
  };
}
