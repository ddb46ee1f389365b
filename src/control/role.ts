/**
 * @module What the roles and the process that runs them agree on: options of each role, what opening one gives, and how
 * HTTP gets its connections.
 *
 * A role module exports `openArchive(platform, options, log): Promise<RunningRole>` (likewise openStorage, openProxy). It
 * makes its {@link Control} with `createControl`, listens, and gives every connection whose first bytes are not the wire
 * protocol to `options.http?.(control, log).accept`.
 */
import type { Address, Connection, KeepAlive } from "../platform/net.ts";
import type { Control } from "./control.ts";
import type { Logger } from "./logger.ts";

/** Serves HTTP on connections that somebody else accepted. */
export interface HttpService {
  /** Takes over a connection, with what was already read from it. Never throws. */
  accept(connection: Connection, firstBytes: Uint8Array): void;
  /** Ends all connections. Idempotent. */
  close(): Promise<void>;
}

/** Makes the HTTP service of a daemon; `createHttpService` of src/http. */
export type HttpFactory = (control: Control, log: Logger) => HttpService;

/** What peers of the original ask of the process itself. */
export interface PeerProcess {
  /** Its id, for `get pid`. */
  readonly pid: number;
  /**
   * Runs a program for `exec`; missing when nothing may be run. @returns the lines of its output that are not empty.
   * @throws WalbError when it is not allowed, or fails.
   */
  readonly exec?: (words: readonly string[]) => Promise<readonly string[]>;
}

/** Options of every role. Defaults are those of the command line. */
export interface RoleOptions {
  /** Port 0 takes a free one. */
  readonly listen: Address;
  /** Made when missing. */
  readonly dataDir: string;
  readonly nodeId: string;
  /** How connections are protected; shown in status. */
  readonly security: "loopback" | "cluster-key" | "insecure";
  /** Missing in the simulator. */
  readonly http?: HttpFactory;
  /** Called after `shutdown` was answered; the process closes the role then. */
  readonly onShutdown?: (mode: "graceful" | "force") => void;
  /** Default 64. */
  readonly maxConnections?: number;
  /** Default 2. */
  readonly maxForegroundTasks?: number;
  /** Default 1. */
  readonly maxBackgroundTasks?: number;
  /** Deadline of every step of a conversation with a peer. Default 10 000. */
  readonly socketTimeoutMs?: number;
  /** Missing in the simulator. */
  readonly process?: PeerProcess;
  /** What peers are told of TCP keep-alive; missing is off. */
  readonly keepAlive?: ToldKeepAlive;
}

/** TCP keep-alive, and the deadline that peers are told, which does not count beside it in the original. */
export type ToldKeepAlive = KeepAlive & { readonly socketTimeoutS?: number };

/** Retry delays: the first, doubled after each failure up to the longest. Defaults 1 000 and 300 000. */
export interface RetryOptions {
  readonly retryDelayMs?: number;
  readonly retryDelayMsMax?: number;
}

export interface StorageOptions extends RoleOptions, RetryOptions {
  /** Primary archive, for full and hash backups. */
  readonly archive: Address;
  /** In order of preference; at least one. */
  readonly proxies: readonly Address[];
  /** Control socket of `walb device` for devices that name none. */
  readonly deviceSocket?: string;
  /** Most log in one transfer. Default 128 MiB. */
  readonly wlogSendBytesMax?: number;
  /** Between implicit snapshots. Default 10 000. */
  readonly snapshotIntervalMs?: number;
  /** Limit of scans of full and hash backups; 0 for none, the default. */
  readonly fullScanBytesPerS?: number;
  /** Between questions to the archive how far it is. Default 60 000. */
  readonly archiveDeltaIntervalMs?: number;
  /** Of full and hash backups, `snappy:0:1` by default. */
  readonly syncCompression?: string;
}

export interface ProxyOptions extends RoleOptions, RetryOptions {
  /** Most data merged into one transfer. Default 128 MiB. */
  readonly wdiffSendBytesMax?: number;
  /** Most diffs merged into one transfer. Default 1000. */
  readonly wdiffSendCountMax?: number;
  /** Do not start volumes at start-up. */
  readonly isStopped?: boolean;
  /** Start volumes at start-up that were stopped too, as the original does. */
  readonly isAllStarted?: boolean;
}

export interface ArchiveOptions extends RoleOptions {
  /** `file` (default), `lvm:VG`, `lvm:VG/POOL`. */
  readonly images?: string;
  /** What discards do to images. Default `zero`. */
  readonly discard?: "zero" | "ignore" | "passdown";
  /** Most diffs merged into one replication transfer, which takes 64 at most. Default 1000. */
  readonly wdiffSendCountMax?: number;
  /** Data written between fsyncs. Default 1 GiB. */
  readonly fsyncIntervalBytes?: number;
  /** Grow the image when a peer announces a larger volume. */
  readonly isAutoResize?: boolean;
  /** Most diffs opened at once when applying or restoring; 0 for all, the default. */
  readonly openDiffsMax?: number;
  /** Keep only the newest point as an image after a restore. */
  readonly isOneColdKept?: boolean;
  /** Share of time asleep while applying, 0 to 99. */
  readonly applySleepPercent?: number;
  /** Of replication, `snappy:0:1` by default. */
  readonly syncCompression?: string;
}

/** A role that runs. */
export interface RunningRole {
  /** Bound, with the real port. */
  readonly address: Address;
  /** Its commands, in process. */
  readonly control: Control;
  /** graceful: steps under way reach their next durable point; force: at once, as safe as a crash. Idempotent; force
   * while a graceful close runs makes it forced. */
  close(mode: "graceful" | "force"): Promise<void>;
}
