/**
 * @module What a test or an oracle sees of the simulator: a world of hosts under virtual time, their disks, the network.
 *
 * Production code sees only {@link SimHost.platform}. Everything else here is for the test that plays fate.
 */
import type { ErrorCode } from "../errors.ts";
import type { Random } from "../platform/clock.ts";
import type { Platform } from "../platform/platform.ts";

/** A range of delays, drawn uniformly. */
export interface DelayRange {
  readonly minMs: number;
  readonly maxMs: number;
}

/** Bounds of one `run`. */
export interface RunLimits {
  /** Virtual time the run may take before it fails as not live. Default 24 hours. */
  readonly limitMs?: number;
  /** Events the run may take before it fails as not live. Default 20 million. */
  readonly maxEvents?: number;
}

/** A seeded, deterministic world: one event queue, virtual time, hosts, one network. Same seed, same trace. */
export interface SimWorld {
  readonly seed: number;
  readonly network: SimNetwork;
  /** Chance for the test itself (workloads, fault plans), seeded, apart from what hosts draw. */
  readonly random: SimRandom;
  /** Virtual milliseconds since the world began; hosts' wall clocks add {@link SimHostOptions.wallClockMs}. */
  nowMs(): number;
  /** Makes a host and starts its first incarnation. @throws WalbError `already-exists`. */
  host(name: string, options?: SimHostOptions): SimHost;
  /** Lets `forMs` of virtual time pass, with all that happens in it. */
  run(forMs: number, limits?: RunLimits): Promise<void>;
  /** Runs until the predicate holds, tested after each event.
   * @throws WalbError `timed-out` when it cannot or does not come true: nothing left to do, or a limit was reached. */
  runUntil(predicate: () => boolean, limits?: RunLimits): Promise<void>;
  /** Runs until the work settles and gives its outcome. A function is called as an event of its own.
   * @throws what the work throws; WalbError `timed-out` as {@link runUntil}. */
  complete<T>(work: Promise<T> | (() => Promise<T>), limits?: RunLimits): Promise<T>;
  /** Calls back at a virtual time from now, on behalf of nobody: survives crashes. For fault plans. */
  after(delayMs: number, callback: () => void, label?: string): void;
  /** Number of events so far. */
  readonly eventCount: number;
  /** 32-bit hash of all that happened so far: times, labels, sizes. */
  readonly traceHash: number;
  /** The newest trace lines, oldest first, at most 256: for the message of a failed oracle. */
  recentTrace(): string[];
  /** Adds a line to the trace, e.g. a step of the workload. */
  note(line: string): void;
  /** Kills every host and gives the memory back. */
  close(): void;
}

/** Seeded chance. */
export interface SimRandom extends Random {
  /** Whole number in [min, max]. */
  between(min: number, max: number): number;
  /** True with the given probability. */
  chance(probability: number): boolean;
  pick<T>(values: readonly T[]): T;
  /** An independent stream, the same for the same name. */
  fork(name: string): SimRandom;
}

export interface SimHostOptions {
  /** Other names it answers to, e.g. "10.0.0.2". "localhost", "127.0.0.1" and "::1" always mean the host itself. */
  readonly addresses?: readonly string[];
  /** Budget of `platform.memory`. Default 64 MiB. */
  readonly memoryBytes?: number;
  /** Wall clock at world time 0, ms since 1970. Default 2026-01-01T00:00:00Z. */
  readonly wallClockMs?: number;
  readonly disk?: SimDiskOptions;
  /** Delay of one compute job. Default 0.005–0.1 ms. */
  readonly computeDelay?: DelayRange;
}

/** A host: a disk that survives, and a process (incarnation) that does not. */
export interface SimHost {
  readonly name: string;
  readonly storage: SimStorage;
  /** Platform of the running incarnation. @throws WalbError `state` when the host is down. */
  readonly platform: Platform;
  readonly isUp: boolean;
  /** 1 for the first process, plus one for each restart. */
  readonly incarnation: number;
  /** The process dies (SIGKILL): its callbacks never fire again, locks are released, peers see FIN or RST. What was
   * written stays, synced or not. */
  kill(): void;
  /** Power loss: as kill, but unsynced writes survive only in part. With `silent` peers hear nothing. */
  crash(options?: CrashOptions): void;
  /** A new process on the surviving disk; returns its platform. @throws WalbError `state` when the host is up. */
  restart(): Platform;
  /** Crashes (or kills) at the n-th mutating disk operation from now (1 = the next): that operation is in flight and
   * survives in part. */
  crashAtOperation(n: number, options?: CrashOptions & { readonly kill?: boolean }): void;
  /** Steps the wall clock (not the monotonic one). */
  jumpWallClock(deltaMs: number): void;
}

export interface CrashOptions {
  /** Decides what survives; default: the world's chance. */
  readonly seed?: number;
  /** `random`: a seeded part of what was not synced (default). `none`: only what was synced. `all`: everything. */
  readonly keep?: "random" | "none" | "all";
  /** Peers learn nothing, as when the cable is pulled; after a restart they see resets. Default false: reset at once. */
  readonly silent?: boolean;
}

export type DiskOperationKind =
  | "open"
  | "read"
  | "write"
  | "sync"
  | "zero"
  | "truncate"
  | "query"
  | "makeDirectory"
  | "rename"
  | "link"
  | "remove"
  | "syncDirectory"
  | "clone";

/** One operation of a disk, as it begins. `writeSmall`, `removeTree` and `cloneFile` are several. */
export interface DiskOperation {
  readonly kind: DiskOperationKind;
  readonly path: string;
  readonly offsetBytes: number;
  readonly sizeBytes: number;
  /** True when it changes what is on the disk or makes it durable. */
  readonly mutates: boolean;
  /** Counts all operations of the storage from 1. */
  readonly number: number;
  /** Counts its mutating operations from 1; of a reading one, the number of the last mutating one. */
  readonly mutation: number;
}

/** A rule that makes operations fail, hang or slow down. */
export interface DiskFault {
  /** Which kinds; default all. */
  readonly kinds?: readonly DiskOperationKind[];
  /** Only paths that contain this. */
  readonly pathIncludes?: string;
  /** Only operations for which this is true. */
  readonly when?: (operation: DiskOperation) => boolean;
  /** How many matching ones pass before the first is hit. Default 0. */
  readonly skip?: number;
  /** How many are hit. Default 1. */
  readonly times?: number;
  /** `io` (EIO), `no-space` (ENOSPC), `hang` (never completes), or a longer delay. A failed write may be done in part; after
   * a failed sync some of the data is lost though it can still be read (as Linux does), a later sync does not save it. */
  readonly effect: "io" | "no-space" | "hang" | DelayRange;
}

export interface SimDiskOptions {
  /** Capacity of the file system. Default 2^50. */
  readonly capacityBytes?: number;
  /** Alignment that direct I/O must keep on files. Default 512. */
  readonly alignmentBytes?: 512 | 4096;
  /** Default true: cloneFile shares blocks; else it copies. */
  readonly reflink?: boolean;
  readonly readDelay?: DelayRange;
  readonly writeDelay?: DelayRange;
  readonly syncDelay?: DelayRange;
  readonly metadataDelay?: DelayRange;
}

/** The disk of a host as fate sees it: survives processes. */
export interface SimStorage {
  /** Adds a block device, zeroed. Its parent directories appear too. */
  addBlockDevice(
    path: string,
    options: {
      readonly sizeBytes: number;
      readonly physicalBlockBytes?: 512 | 4096;
      readonly logicalBlockBytes?: 512 | 4096;
    },
  ): void;
  /** Grows or shrinks a block device under whoever has it open. */
  resizeBlockDevice(path: string, sizeBytes: number): void;
  /** Adds a fault rule; call the answer to take it back. */
  inject(fault: DiskFault): () => void;
  /** Changes bytes behind everyone's back, durably: flips every bit of the range, within the file's size. */
  corrupt(path: string, offsetBytes: number, sizeBytes: number): void;
  /** Bytes as a reader would see them now, without time passing: for oracles. Zeroes beyond the end. */
  peek(path: string, offsetBytes: number, sizeBytes: number): Uint8Array;
  /** Changes bytes as if another program wrote and synced them. */
  poke(path: string, offsetBytes: number, bytes: Uint8Array): void;
  /** Full paths of all files and devices, sorted, as a process sees them now. */
  paths(): string[];
  /** Size of a file or device, undefined when missing. */
  sizeOf(path: string): number | undefined;
  setCapacity(capacityBytes: number): void;
  /** Hears every operation as it begins, before it has any effect; may kill or crash the host. */
  onOperation: ((operation: DiskOperation) => void) | undefined;
  readonly operationCount: number;
  readonly mutationCount: number;
}

/** How bytes travel between two hosts. */
export interface LinkQuality {
  readonly latency: DelayRange;
  /** 0 = unlimited. */
  readonly bytesPerSecond: number;
  /** Bytes sent but not yet taken by the reader at which the sender stalls (socket buffers of both sides). */
  readonly windowBytes: number;
  /** Largest piece a reader gets at once. */
  readonly maxChunkBytes: number;
  /** Time after which TCP gives up on bytes that nobody acknowledges. */
  readonly retransmitLimitMs: number;
}

/** The network as fate sees it. Host names; "*" means every host. All rules hold for future connections too. */
export interface SimNetwork {
  /** Changes how bytes travel, both ways. Default: 0.1–1 ms, 1 GB/s, 256 KiB windows, 64 KiB pieces, 15 min. */
  setQuality(a: string, b: string, quality: Partial<LinkQuality>): void;
  /** Resets all connections between two hosts now. Returns how many. */
  cut(a: string, b: string): number;
  /** Resets a connection once `bytes` more have been delivered from one host to the other (counted over all). */
  cutAfterBytes(from: string, to: string, bytes: number): void;
  /** Drops all silently, both ways or only `from`→`to`; connections stall, new ones time out. */
  partition(a: string, b: string, options?: { readonly oneWay?: boolean }): void;
  /** Ends partitions between two hosts; what stalled is delivered (TCP retransmits). */
  heal(a: string, b: string): void;
  /** Refuses new connections from one host to the other until `accept`. */
  refuse(from: string, to: string): void;
  accept(from: string, to: string): void;
  /** Flips one bit of the byte that comes after `skipBytes` more bytes delivered from one host to the other. With
   * `pieceBytesMin` the first piece of at least this size from there on is hit, in its middle: bulk data then, which has
   * checksums, and not the few fields of the wire protocol that have none. */
  corruptByte(from: string, to: string, skipBytes: number, options?: { readonly pieceBytesMin?: number }): void;
  /** Open connections between two hosts. */
  connectionCount(a: string, b: string): number;
  /** Bytes delivered so far from one host to the other. */
  deliveredBytes(from: string, to: string): number;
}

/** Errors a fault can make an operation fail with. */
export type FaultErrorCode = Extract<ErrorCode, "io" | "no-space">;

/** Options of a world. */
export interface SimWorldOptions {
  /** Called with each trace line, e.g. console.log while debugging one seed. */
  readonly onTrace?: (line: string) => void;
}
