/**
 * @module The seam between the write-ahead engine and its front ends (NBD now, ublk later).
 *
 * Completion is by callback, not by promise: a front end has tens of thousands of requests a second.
 */
import type { WalbError } from "../../errors.ts";
import type { Lease, Memory } from "../../native/memory.ts";
import type { RunningSync } from "../../platform/disk.ts";

/** Called exactly once when a request is finished. */
export type Done = (error: WalbError | undefined) => void;

/**
 * Called at most once, when the success of a sync under way is the success of the request: its answer may be left to that
 * sync. `done` is called all the same; after a failure elsewhere even with an error, though the sync has succeeded.
 */
export type LeaveAnswer = (sync: RunningSync) => void;

/** An extent of the volume for block status. */
export interface AllocationExtent {
  readonly sizeBytes: number;
  /** Nothing is allocated there: reads back as zeroes. */
  readonly isHole: boolean;
}

/**
 * A volume as front ends use it. Offsets and sizes are bytes, multiples of 512, inside the volume: the front end checks
 * first, the engine asserts. Writes are in the log when `done` is called; they are durable after the next flush, or at
 * once with `fua`.
 */
export interface BlockVolume {
  readonly name: string;
  /** Grows by resize: ask each time. */
  readonly sizeBytes: number;
  /** Preferred block size: the PB of the log. */
  readonly preferredBlockBytes: number;
  /** Error codes a front end must map: `no-space` (log full in stop policy), `read-only`, `io`. */
  readonly readOnlyReason: string | undefined;
  /** Fills the target with the newest completed data; pending writes and discards are overlaid. */
  read(offsetBytes: number, target: Memory, done: Done): void;
  /**
   * Appends `source.slice(0, sizeBytes)`. The lease passes to the engine, which releases it when the data is on the
   * data store (or the write failed). `source.sizeBytes` (capacity) is at least `sizeBytes` rounded up to the PB, and
   * the engine may clear the bytes behind `sizeBytes`.
   */
  write(
    offsetBytes: number,
    sizeBytes: number,
    source: Lease,
    fua: boolean,
    done: Done,
    leaveAnswer?: LeaveAnswer,
  ): void;
  /** Makes a range read as zeroes, logged as zero data records. */
  writeZeroes(offsetBytes: number, sizeBytes: number, fua: boolean, done: Done): void;
  /** Discards a range, logged as discard records; it reads as zeroes. */
  discard(offsetBytes: number, sizeBytes: number, fua: boolean, done: Done): void;
  /** Everything done before is durable when this is done. */
  flush(done: Done, leaveAnswer?: LeaveAnswer): void;
  /** Extents of [offset, offset + size) in order, neighbours of one kind joined. */
  allocation(offsetBytes: number, sizeBytes: number): Promise<AllocationExtent[]>;
  /** Bytes of pending writes the engine still takes before back-pressure; a front end stops reading its sockets at 0
   * and goes on when `onRoom` calls. */
  readonly roomBytes: number;
  onRoom(callback: () => void): void;
}
