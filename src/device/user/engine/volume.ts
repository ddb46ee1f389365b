/** @module The face of an open engine: a block volume, a walb device, and its control. */
import type { WalbError } from "../../../errors.ts";
import type { DeviceInfo, DeviceStatus, WalbDevice } from "../../device.ts";
import type { BlockVolume } from "../block.ts";

/** Counters since the engine was opened. */
export interface EngineCounters {
  readonly writeCount: number;
  readonly writeBytes: number;
  readonly readCount: number;
  readonly readBytes: number;
  readonly discardCount: number;
  readonly flushCount: number;
  readonly packCount: number;
  readonly logBatchCount: number;
  readonly logSyncCount: number;
  readonly checkpointCount: number;
  /** Bytes written to the data store; less than `writeBytes` where pending data was overwritten. */
  readonly appliedBytes: number;
  readonly pendingBytes: number;
}

/** An open volume. */
export interface WriteAheadEngine extends BlockVolume, WalbDevice {
  readonly name: string;
  /** At once, unlike {@link WalbDevice.info}. */
  deviceInfo(): DeviceInfo;
  /** At once, unlike {@link WalbDevice.status}. */
  deviceStatus(): DeviceStatus;
  readonly counters: EngineCounters;
  /** What {@link BlockVolume.readOnlyReason} tells, with its code: `no-space`, or `io`. */
  readonly failure: WalbError | undefined;
  readonly isFrozen: boolean;
  /**
   * Stops taking writes (they wait), resolves when all before is on the data store (written = latest). Melts by itself
   * after `timeoutMs`; freezing again sets the timeout anew. Reads go on.
   */
  freeze(options?: { readonly timeoutMs?: number }): Promise<void>;
  melt(): void;
  /** Time between checkpoints; 0: none by time. */
  checkpointIntervalMs: number;
  /** Everything logged so far goes to the data store, which is synced, then the superblock says so. */
  checkpoint(): Promise<void>;
  /** Grows the volume; a data store that is a regular file grows with it. */
  resize(sizeLb: number): Promise<DeviceInfo>;
  /** Refuses new requests, finishes the others, checkpoints, closes both stores and gives up their locks. Idempotent.
   * When read-only it only closes: the next start redoes from the log. */
  close(): Promise<void>;
}
