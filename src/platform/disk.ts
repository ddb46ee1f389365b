/**
 * @module The Disk interface: every file and block device access of walb goes through it.
 *
 * The real one runs jobs in the shim's pool; the simulator's keeps everything in memory, with faults. All offsets and
 * sizes are bytes, checked safe integers. A short read or write is an error, never a partial result. Failures are
 * WalbErrors with the file named: `io`, `no-space` (ENOSPC, EDQUOT), `not-found` (ENOENT), `already-exists` (EEXIST),
 * `locked` (lock held by another process).
 */
import type { Codec, CompressOption, Encoded } from "../native/codec.ts";
import type { RecordColumns } from "../native/columns.ts";
import type { Recode } from "../native/layout.ts";
import type { Memory } from "../native/memory.ts";

/** How to open a file. */
export interface OpenOptions {
  /** `read`; `write` = read and write an existing file; `create` = a new file, fails when it exists;
   * `createOrOpen` = write, made when missing. */
  readonly mode: "read" | "write" | "create" | "createOrOpen";
  /** O_DIRECT where the file system has it (silently buffered where it has not, e.g. tmpfs). Then address, offset and
   * size of every read and write must be multiples of `alignmentBytes`. Default false. */
  readonly direct?: boolean;
  /** Take an exclusive lock (flock) on the file that has the name once it is locked, or fail with `locked`; on block
   * devices also O_EXCL, and of a loop device the file it shows as well. Default false. */
  readonly lock?: boolean;
}

/** What a path is. */
export interface FileInfo {
  readonly kind: "file" | "directory" | "block" | "other";
  /** Size; of a block device its capacity. */
  readonly sizeBytes: number;
  /** Bytes allocated on the file system (st_blocks · 512); of a block device its capacity. */
  readonly allocatedBytes: number;
  readonly modifiedMs: number;
  /** The same for all names of one file, directory or device; absent where the platform cannot tell. */
  readonly id?: string;
  /** Of a loop device: the file it shows. */
  readonly backingFile?: string;
}

/** A stored image to be verified, expanded and partly written, see {@link DiskFile.writeDecoded}. */
export interface DecodedWrite {
  /** Stored bytes. */
  readonly source: Memory;
  readonly codec: Codec;
  /** walb checksum of the stored bytes, salt 0. */
  readonly checksum: number;
  /** Size of the whole expanded image. */
  readonly decodedBytes: number;
  /** Slice of the expanded image to write. */
  readonly sliceOffsetBytes: number;
  readonly sliceBytes: number;
  /** Where the slice goes in the file. */
  readonly fileOffsetBytes: number;
}

/** One write of {@link DiskFile.writeMany}. */
export interface PlacedWrite {
  readonly offsetBytes: number;
  readonly source: Memory;
}

/** One read of {@link DiskFile.readMany}. */
export interface PlacedRead {
  readonly offsetBytes: number;
  readonly target: Memory;
}

/** A walb checksum of {@link DiskFile.writeSummed}: where in which block it belongs, little-endian. */
export interface PlacedSum {
  readonly block: Memory;
  readonly offsetBytes: number;
  /** What it is made of. When it is the block itself, its checksum counts as zero; such come behind all others. */
  readonly data: Memory;
}

/**
 * A slice of a stored image, expanded where it has a codec: `source` says which of the files, `checksum` is the walb
 * checksum of the stored bytes with salt 0, the rest are bytes. Arguments, not an object, for there are very many.
 */
export type StoredSlice = readonly [
  source: number,
  storedOffset: number,
  storedBytes: number,
  codec: number,
  checksum: number,
  decodedBytes: number,
  sliceOffset: number,
  sliceBytes: number,
];

/** Where the images of a {@link DiskFile.transfer} come from and go to, put row by row. */
export interface TransferRows {
  put(...row: [...slice: StoredSlice, fileOffset: number]): void;
  /** Adds the records [from, end) of an index that have data, each written whole to where it belongs. `source` of the
   * records says which of the files. */
  putRecords(columns: RecordColumns, from: number, end: number): void;
}

/** Transfers that work together, see {@link DiskFile.startFlow}. Takes memory until it is ended. */
export interface TransferFlow {
  /** When none of its transfers is under way. */
  end(): void;
}

/** The images of a {@link Disk.recode}, put row by row. */
export interface RecodeRows {
  /** Adds an image: kept as it is stored, or a slice of it compressed anew. */
  put(...row: [...slice: StoredSlice, how: typeof Recode.keep | typeof Recode.anew]): void;
  /** Adds a row without data. */
  putEmpty(): void;
}

/** What became of a row of {@link Disk.recode}: its stored bytes, 0 and `isZero` for a slice that is all zero. */
export type TakeRecoded = (row: number, storedBytes: number, codec: Codec, checksum: number, isZero: boolean) => void;

/** How to recode. */
export interface RecodeOptions {
  readonly compress: CompressOption;
  /** Room of 4096 bytes is left before every so many rows, the first too. */
  readonly packRecords: number;
  /** The checksums are not looked at. */
  readonly isVerified: boolean;
}

/** An image that was not good: which row it had, and why as {@link DiskFile.writeDecoded} says. */
export interface BadTransfer {
  readonly row: number;
  readonly code: number;
}

/** A sync that is under way. A connection of the same platform can leave an answer to it, see `Connection.entrust`. */
export interface RunningSync {
  /** As {@link DiskFile.sync}. */
  readonly ended: Promise<void>;
}

/** An open file or block device. All I/O may run concurrently; the order of overlapping I/O is the caller's business. */
export interface DiskFile {
  readonly path: string;
  readonly isBlockDevice: boolean;
  /** True when O_DIRECT is really in force. */
  readonly isDirect: boolean;
  /** Multiple that direct I/O must keep: the logical block size of the device below (512 or 4096); 1 when buffered. */
  readonly alignmentBytes: number;
  /** Physical block size: of a block device as the kernel says; 512 for a regular file. */
  readonly physicalBlockBytes: number;
  /** Leads to this very file for as long as it is open, whatever is at {@link path} by now: for opening it once more.
   * Absent where there is no such path. */
  readonly ownPath?: string;
  /** Of a regular file, when it was opened. Absent where that is not known. */
  readonly openedSizeBytes?: number;
  size(): Promise<number>;
  /** Fills all of `target`. @throws WalbError `io` on a short read. */
  read(offsetBytes: number, target: Memory): Promise<void>;
  /** Writes all of `source`. */
  write(offsetBytes: number, source: Memory): Promise<void>;
  /** Writes the pieces one behind the other from `offsetBytes`, as one job (pwritev). At most 1024 pieces. */
  writeGather(offsetBytes: number, sources: readonly Memory[]): Promise<void>;
  /** As {@link writeGather} and then {@link sync}, in one job. Absent where those two are as good. */
  writeSynced?(offsetBytes: number, sources: readonly Memory[]): Promise<void>;
  /**
   * As {@link writeGather}, or {@link writeSynced}; in the same job, before anything is written, checksums are put into
   * the pieces they belong to. Absent where making them before is as good.
   */
  writeSummed?(
    offsetBytes: number,
    sources: readonly Memory[],
    sums: readonly PlacedSum[],
    options: { readonly salt: number; readonly isSynced: boolean },
  ): Promise<void>;
  /**
   * Writes the pieces one behind the other at once, on this thread, into the page cache. False when that is not possible
   * or might wait for a disk: what was written is then undefined until {@link write} or {@link writeGather} has done it.
   * For small writes of hot paths; absent where there is no page cache.
   */
  writeCached?(offsetBytes: number, sources: readonly Memory[]): boolean;
  /** Fills `target` at once, on this thread, when the page cache has it; else false, and {@link read} must do it. */
  readCached?(offsetBytes: number, target: Memory): boolean;
  /** Writes each source at its offset, as one job: neighbours of the list that follow each other are gathered. After a
   * failure any part may have been written. Gentle ones let other threads have their turn after each write. Absent where
   * {@link write} is as good. */
  writeMany?(writes: readonly PlacedWrite[], options?: { readonly isGentle?: boolean }): Promise<void>;
  /** Fills each target from its offset, as one job. Absent where {@link read} is as good.
   * @throws WalbError `io` on a short read. */
  readMany?(reads: readonly PlacedRead[]): Promise<void>;
  /** Reads pack headers of a sorted diff, one behind the other over the data between them, as one job: as many as fit, up
   * to the end pack, the end of the file or what can be no header. @returns how many; none of them is checked.
   * Absent where single reads are as good. */
  readPackHeaders?(offsetBytes: number, target: Memory): Promise<number>;
  /** The same of a log: headers of `pbsBytes`, up to a block that is none or a pack without data, which is the last one.
   * Absent where single reads are as good. */
  readLogHeaders?(offsetBytes: number, pbsBytes: number, target: Memory): Promise<number>;
  /** Reserves the space of a range of a regular file, which reads back as before. False where this cannot be done.
   * @throws WalbError `no-space`. Absent where space is never short. */
  allocate?(offsetBytes: number, sizeBytes: number): Promise<boolean>;
  /** Lets the disk begin with what was written to a range, and does not wait for it, so that the next {@link sync} is
   * short. It promises nothing. Absent where writes go past a cache. */
  startWriteback?(offsetBytes: number, sizeBytes: number): Promise<void>;
  /** Writes a range back and waits for it, so that the next {@link sync} has that much less to do; only that makes it
   * durable. Absent where writes go past a cache. @throws WalbError as sync does, which does not tell of it again. */
  writeBack?(offsetBytes: number, sizeBytes: number): Promise<void>;
  /**
   * Lets what is read from now on come from the disk, as far as it has been written back. Behind a failed {@link sync},
   * also one of a process before, the page cache has what the disk has not, and does not know of it any more.
   * Absent where there is no page cache.
   */
  forgetCached?(): void;
  /** Makes all completed writes durable (fdatasync; the size too). */
  sync(): Promise<void>;
  /** {@link truncate} where a size is given, {@link sync}, a new name in the same directory, and that durable, too, as one
   * job. The file stays open, {@link path} is as before. Absent where the steps are as good. */
  syncAs?(path: string, sizeBytes?: number): Promise<void>;
  /** Begins a {@link sync} that answers can be left to. Absent where they cannot. */
  beginSync?(): RunningSync;
  /** Makes a range read back as zeroes: hole punch or BLKZEROOUT, plain zero writes where neither is supported. */
  zero(offsetBytes: number, sizeBytes: number): Promise<void>;
  truncate(sizeBytes: number): Promise<void>;
  /** First data extent at or after `offsetBytes`, end exclusive; undefined when only holes follow. Where the file
   * system cannot tell, all is data. */
  nextData(offsetBytes: number): Promise<{ startBytes: number; endBytes: number } | undefined>;
  /** Read, zero test, compression, checksum of consecutive chunks in one job: chunk i is read into `sources[i]` at
   * `offsetBytes` + the sizes before it, and encoded into `targets[i]` as `Compute.encodeAlways` or `encode` does. */
  readEncoded(
    offsetBytes: number,
    sources: readonly Memory[],
    targets: readonly Memory[],
    option: CompressOption & { readonly always: boolean },
  ): Promise<Encoded[]>;
  /** Read and MurmurHash3 of consecutive chunks of `chunkBytes` in one job; 16 bytes a chunk (the last may be short). */
  readHashed(offsetBytes: number, target: Memory, chunkBytes: number, seed: number): Promise<Uint8Array>;
  /** Verify, expand and write in one job. The answer is one byte an item: 0 written, 1 checksum differs, 2 not
   * decodable to `decodedBytes`; good items are written even when others are bad. I/O errors throw. */
  writeDecoded(items: readonly DecodedWrite[]): Promise<Uint8Array>;
  /**
   * Reads stored images of other files, verifies, expands and writes slices of them, as one job that keeps nothing in
   * the caller's memory. Good ones are written even when others are bad; the first bad one is the answer. Rows should be
   * ascending in this file; each takes up to its sizes in memory, so they should be small. Empty slices are only checked,
   * which writes nothing, so that this file may be one that is only read. Only for buffered files of
   * this platform; absent where {@link writeDecoded} is as good. I/O errors throw.
   * @param count rows that `fill` puts. @param options.isVerified the checksums are not looked at.
   */
  transfer?(
    sources: readonly DiskFile[],
    count: number,
    fill: (rows: TransferRows) => void,
    options?: { readonly isVerified?: boolean; readonly flow?: TransferFlow | undefined },
  ): Promise<BadTransfer | undefined>;
  /**
   * Begins transfers onto this file that work together: what is ready is written in the order they were begun, while the
   * next is read and expanded. After a failure of one the others fail.
   * @param options.isStrict nothing behind a bad row is written, whatever job it belongs to. Default false.
   */
  startFlow?(options?: { readonly isStrict?: boolean }): TransferFlow;
  /** Gives up the lock and closes; waits for jobs in flight. Idempotent. */
  close(): Promise<void>;
}

/** How a copy is ended early, and who hears how far it is. */
export interface FileCopyOptions {
  readonly signal?: AbortSignal;
  readonly onProgress?: (copiedBytes: number, totalBytes: number) => void;
}

/** File system and block devices of a host. */
export interface Disk {
  /**
   * Reads stored images, verifies them and puts them one behind the other into `target`, as packs of a diff with room for
   * their headers: as one job. `take` hears of every row, unless one is bad: then the first bad one is the answer.
   * @param sources buffered files of this platform. @param target of the bytes that are kept, the slices compressed anew,
   * and the headers. Absent where single reads are as good. I/O errors throw.
   */
  recode?(
    sources: readonly DiskFile[],
    count: number,
    fill: (rows: RecodeRows) => void,
    target: Memory,
    options: RecodeOptions,
    take: TakeRecoded,
  ): Promise<BadTransfer | undefined>;
  open(path: string, options: OpenOptions): Promise<DiskFile>;
  /** undefined when there is nothing. */
  info(path: string): Promise<FileInfo | undefined>;
  /** The absolute path without symbolic links in it. What does not exist stays as it is named; a link that leads nowhere
   * becomes what it names. @throws WalbError `io` for links in a circle. */
  realPath(path: string): Promise<string>;
  /** Names in a directory, sorted, without "." and "..". */
  list(path: string): Promise<string[]>;
  /** Makes a directory and its parents; fine when it exists. The entries are durable. */
  makeDirectory(path: string): Promise<void>;
  /** Reads a small file whole. @throws WalbError `bad-format` above `maxBytes`. */
  readSmall(path: string, maxBytes: number): Promise<Uint8Array>;
  /** Replaces a small file durably: temporary file, fsync, rename, fsync of the directory. */
  writeSmall(path: string, bytes: Uint8Array): Promise<void>;
  rename(from: string, to: string): Promise<void>;
  link(from: string, to: string): Promise<void>;
  /** Removes a file; fine when it is not there. */
  remove(path: string): Promise<void>;
  /** Removes a directory with all in it; fine when it is not there. */
  removeTree(path: string): Promise<void>;
  /** fsync of a directory, so that renames, links and removals in it are durable. */
  syncDirectory(path: string): Promise<void>;
  /**
   * Writes out all that is pending in the file system of a path (syncfs). On a copy-on-write file system what was removed
   * is free only then. Absent where removing frees at once.
   */
  syncFileSystem?(path: string): Promise<void>;
  /** A copy of a file that shares its blocks (FICLONE) where the file system can, else a sparse copy that keeps holes;
   * `to` must not exist; durable when it returns. Says which it was. */
  cloneFile(from: string, to: string, options?: FileCopyOptions): Promise<"reflink" | "copy">;
  /** Bytes that may still be written below a path, and its capacity (statvfs, f_bavail). */
  freeSpace(path: string): Promise<{ freeBytes: number; totalBytes: number }>;
}
