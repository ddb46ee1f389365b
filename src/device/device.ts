/**
 * @module What a walb device is to the storage daemon: the interface of the kernel driver and of our user-space device.
 *
 * lsids count physical blocks (PB) ever appended to the log. Invariant, at every moment:
 * oldest ≤ prevWritten ≤ written ≤ permanent ≤ flush ≤ completed ≤ latest.
 */
import type { DiskFile } from "../platform/disk.ts";

/** The seven lsids, see `docs/formats.md` (log device). */
export interface Lsids {
  /** Log below may be overwritten. */
  readonly oldest: number;
  /** `written` as the superblock on disk says. */
  readonly prevWritten: number;
  /** On the data device up to here. */
  readonly written: number;
  /** Durable in the log up to here: what a consumer may read. */
  readonly permanent: number;
  readonly flush: number;
  readonly completed: number;
  /** Next to be assigned. */
  readonly latest: number;
}

/** What does not change while nobody resizes or resets the log. */
export interface DeviceInfo {
  readonly name: string;
  /** Size of the volume. */
  readonly sizeLb: number;
  /** Physical block size of the log: 512 or 4096. */
  readonly pbsBytes: number;
  /** uuid of the log, 32 lower-case hex digits; new after each reset. */
  readonly uuid: string;
  /** Salt of the log's checksums; new after each reset. */
  readonly salt: number;
  /** Capacity of the ring in PB. */
  readonly ringSizePb: number;
  /** First PB of the ring in the log store. */
  readonly ringOffsetPb: number;
  readonly logPath: string;
  readonly dataPath: string;
}

/** State that a consumer of the log watches. */
export interface DeviceStatus {
  readonly lsids: Lsids;
  /** Un-shipped log was overwritten: the chain is broken until the log is reset. Sticky. */
  readonly isOverflow: boolean;
  /** Why the device takes no more writes, when it does not. */
  readonly readOnlyReason: string | undefined;
  /** uuid of the log the lsids belong to: a consumer that sees it change knows that the log was reset under it. */
  readonly uuid: string;
}

/** A walb device, kernel or user-space. */
export interface WalbDevice {
  readonly name: string;
  info(): Promise<DeviceInfo>;
  status(): Promise<DeviceStatus>;
  /** Erases log below `lsid`. @throws WalbError `state` unless oldest ≤ lsid ≤ prevWritten. */
  setOldest(lsid: number): Promise<void>;
  /** Starts the log afresh: all lsids 0, new uuid and salt, overflow cleared; data is on the data store before. */
  resetLog(): Promise<DeviceInfo>;
  /** Flushes data and writes the superblock, so that prevWritten catches up. */
  checkpoint(): Promise<void>;
  /** Grows the volume. @throws WalbError `out-of-range` on shrink. */
  resize(sizeLb: number): Promise<DeviceInfo>;
  /** Calls back when `permanent` may have advanced, the log was reset, it overflowed, or the device went away or came
   * back. Never more often than each 20 ms. Returns how to stop. */
  watch(changed: () => void): () => void;
  /** The log store, read only, for reading packs below `permanent`. The caller closes it. */
  openLog(): Promise<DiskFile>;
  /** The data store, read only, for a full scan. The caller closes it. */
  openData(): Promise<DiskFile>;
  close(): Promise<void>;
}
