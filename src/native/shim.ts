/**
 * @module Loads the C shim: embedded in the compiled binary, from the source tree otherwise, always through a memfd, so
 * that neither a writable nor an executable temporary directory is needed.
 */
import { dlopen, FFIType, type Pointer, ptr, toArrayBuffer } from "bun:ffi";
import { closeSync, readFileSync, writeSync } from "node:fs";
import { WalbError } from "../errors.ts";
import type { RecordColumns } from "./columns.ts";

const { ptr: address } = FFIType;
const columnTypes = [address, address, address, address, address, address, address, address, address, address] as const;

const definitions = {
  walb_run_job: { args: [FFIType.ptr], returns: FFIType.void },
  walb_checksum: { args: [FFIType.ptr, FFIType.u64, FFIType.u32], returns: FFIType.u32 },
  walb_is_zero: { args: [FFIType.ptr, FFIType.u64], returns: FFIType.i32 },
  walb_siphash_begin: { args: [FFIType.ptr], returns: FFIType.void },
  walb_siphash_update: { args: [FFIType.ptr, FFIType.ptr, FFIType.u64], returns: FFIType.void },
  walb_siphash_end: { args: [FFIType.ptr, FFIType.ptr], returns: FFIType.void },
  walb_memory_map: { args: [FFIType.u64], returns: FFIType.ptr },
  walb_memory_cool: { args: [FFIType.ptr, FFIType.u64], returns: FFIType.i32 },
  walb_error_text: { args: [FFIType.i32, FFIType.ptr, FFIType.u32], returns: FFIType.i32 },
  walb_read_cached: { args: [FFIType.i32, FFIType.ptr, FFIType.f64, FFIType.f64], returns: FFIType.i32 },
  walb_open_cached: { args: [FFIType.ptr, FFIType.ptr], returns: FFIType.i32 },
  walb_close_cached: { args: [FFIType.i32], returns: FFIType.i32 },
  walb_read_packs_cached: { args: [FFIType.i32, FFIType.ptr, FFIType.f64, FFIType.f64], returns: FFIType.i32 },
  walb_write_cached: {
    args: [FFIType.i32, FFIType.ptr, FFIType.u32, FFIType.f64, FFIType.i32],
    returns: FFIType.i32,
  },
  walb_pool_create: { args: [FFIType.u32, FFIType.i32, FFIType.i32], returns: FFIType.ptr },
  walb_pool_slots: { args: [FFIType.ptr], returns: FFIType.ptr },
  walb_pool_fd: { args: [FFIType.ptr], returns: FFIType.i32 },
  walb_pool_submit: { args: [FFIType.ptr, FFIType.u32], returns: FFIType.i32 },
  walb_pool_reap: { args: [FFIType.ptr, FFIType.ptr], returns: FFIType.u32 },
  walb_pool_entrust: {
    args: [FFIType.ptr, FFIType.u32, FFIType.i32, FFIType.ptr, FFIType.u32],
    returns: FFIType.i32,
  },
  walb_pool_withdraw: { args: [FFIType.ptr, FFIType.u32], returns: FFIType.i32 },
  walb_pool_close: { args: [FFIType.ptr], returns: FFIType.void },
  walb_nbd_open: {
    args: [FFIType.ptr, FFIType.ptr, FFIType.ptr, FFIType.i32, FFIType.ptr],
    returns: FFIType.i32,
  },
  walb_nbd_close: { args: [FFIType.i32], returns: FFIType.void },
  walb_nbd_wait: { args: [FFIType.ptr, FFIType.i32, FFIType.i32], returns: FFIType.i32 },
  walb_nbd_configure: {
    args: [FFIType.i32, FFIType.ptr, FFIType.ptr, FFIType.i32, FFIType.ptr],
    returns: FFIType.i32,
  },
  walb_watch_create: { args: [], returns: FFIType.ptr },
  walb_watch_fd: { args: [FFIType.ptr], returns: FFIType.i32 },
  walb_watch_arm: { args: [FFIType.ptr, FFIType.i32, FFIType.u32, FFIType.i32], returns: FFIType.i32 },
  walb_watch_input: { args: [FFIType.ptr, FFIType.i32, FFIType.u32, FFIType.i32], returns: FFIType.i32 },
  walb_watch_fill: {
    args: [FFIType.ptr, FFIType.i32, FFIType.u32, FFIType.i32, FFIType.ptr, FFIType.f64],
    returns: FFIType.i32,
  },
  walb_watch_fill_take: {
    args: [FFIType.ptr, FFIType.i32, FFIType.i32, FFIType.ptr, FFIType.ptr],
    returns: FFIType.i32,
  },
  walb_receive: {
    args: [FFIType.i32, FFIType.ptr, FFIType.u32, FFIType.ptr, FFIType.u32],
    returns: FFIType.i32,
  },
  walb_keep_alive: { args: [FFIType.i32, FFIType.i32, FFIType.i32, FFIType.i32], returns: FFIType.i32 },
  walb_forget_cached: { args: [FFIType.i32], returns: FFIType.void },
  walb_duplicate: { args: [FFIType.i32], returns: FFIType.i32 },
  walb_parse_packs: {
    args: [FFIType.ptr, FFIType.u32, FFIType.ptr, ...columnTypes],
    returns: FFIType.u32,
  },
  walb_choose_rows: {
    args: [FFIType.ptr, FFIType.ptr, FFIType.ptr, FFIType.u32, ...columnTypes],
    returns: FFIType.i32,
  },
  walb_flow_create: { args: [FFIType.i32, FFIType.i32], returns: FFIType.ptr },
  walb_flow_stop: { args: [FFIType.ptr], returns: FFIType.void },
  walb_flow_destroy: { args: [FFIType.ptr], returns: FFIType.void },
  walb_watch_remove: { args: [FFIType.ptr, FFIType.i32], returns: FFIType.void },
} as const;

const library = await findLibrary();
const symbols = loadThroughMemfd(readFileSync(library));

/** The functions of the shim. Addresses are plain numbers: check them before, the FFI does not. */
export const shim = {
  runJob: (address: number): void => symbols.walb_run_job(address as Pointer),
  checksum: (bytes: Uint8Array, salt: number): number => symbols.walb_checksum(bytes, bytes.byteLength, salt),
  isZero: (bytes: Uint8Array): boolean => symbols.walb_is_zero(bytes, bytes.byteLength) !== 0,
  siphashBegin: (state: number): void => symbols.walb_siphash_begin(state as Pointer),
  siphashUpdate: (state: number, bytes: Uint8Array): void =>
    symbols.walb_siphash_update(state as Pointer, bytes, bytes.byteLength),
  siphashEnd: (state: number, out: number): void => symbols.walb_siphash_end(state as Pointer, out as Pointer),
  cool: (address: number, sizeBytes: number): number => symbols.walb_memory_cool(address as Pointer, sizeBytes),
  /** 0, or −errno: then the way through the pool must be taken. */
  readCached: (fd: number, address: number, sizeBytes: number, offsetBytes: number): number =>
    symbols.walb_read_cached(fd, address as Pointer, sizeBytes, offsetBytes),
  /** A descriptor, or −errno. @param path ends with a zero byte. @param size where a double is put. */
  openCached: (path: number, size: number): number => symbols.walb_open_cached(path as Pointer, size as Pointer),
  /** 0, or −errno. */
  closeCached: (fd: number): number => symbols.walb_close_cached(fd),
  /** How many were there. */
  readPacksCached: (fd: number, address: number, sizeBytes: number, offsetBytes: number): number =>
    symbols.walb_read_packs_cached(fd, address as Pointer, sizeBytes, offsetBytes),
  /** Also 1: it was written, but this thread had to wait. */
  writeCached: (fd: number, table: number, count: number, offsetBytes: number, isNowait: boolean): number =>
    symbols.walb_write_cached(fd, table as Pointer, count, offsetBytes, isNowait ? 1 : 0),
  /** 0 when there is no memory or file descriptor for it. */
  poolCreate: (slots: number, fast: number, slow: number): number =>
    Number(symbols.walb_pool_create(slots, fast, slow) ?? 0),
  poolSlots: (pool: number): number => Number(symbols.walb_pool_slots(pool as Pointer) ?? 0),
  poolFd: (pool: number): number => symbols.walb_pool_fd(pool as Pointer),
  poolSubmit: (pool: number, slot: number): number => symbols.walb_pool_submit(pool as Pointer, slot),
  poolReap: (pool: number, out: number): number => symbols.walb_pool_reap(pool as Pointer, out as Pointer),
  /** The bytes are copied. */
  poolEntrust: (pool: number, slot: number, fd: number, bytes: Uint8Array): boolean =>
    symbols.walb_pool_entrust(pool as Pointer, slot, fd, bytes, bytes.byteLength) !== 0,
  poolWithdraw: (pool: number, slot: number): boolean => symbols.walb_pool_withdraw(pool as Pointer, slot) !== 0,
  poolClose: (pool: number): void => symbols.walb_pool_close(pool as Pointer),
  /** Blocks. Texts end with a zero byte; see ffi/nbd.c for the results. */
  nbdOpen: (host: Uint8Array, port: Uint8Array, name: Uint8Array, timeoutS: number, out: Float64Array): number =>
    symbols.walb_nbd_open(host, port, name, timeoutS, out),
  nbdClose: (fd: number): void => symbols.walb_nbd_close(fd),
  /** Blocks until one of the connections is over; −1: for ever. Those that are over become −1. */
  nbdWait: (fds: Int32Array, timeoutMs: number): number => symbols.walb_nbd_wait(fds, fds.length, timeoutMs),
  nbdConfigure: (command: number, settings: Float64Array, fds: Int32Array, backend: Uint8Array): number =>
    symbols.walb_nbd_configure(command, settings, fds, fds.length, backend),
  /** 0 when there is no thread or file descriptor for it. */
  watchCreate: (): number => Number(symbols.walb_watch_create() ?? 0),
  watchFd: (watch: number): number => symbols.walb_watch_fd(watch as Pointer),
  /** 0, or −errno. */
  watchArm: (watch: number, fd: number, number: number, isNew: boolean): number =>
    symbols.walb_watch_arm(watch as Pointer, fd, number, isNew ? 1 : 0),
  /** 0, or −errno. */
  watchInput: (watch: number, fd: number, number: number, isNew: boolean): number =>
    symbols.walb_watch_input(watch as Pointer, fd, number, isNew ? 1 : 0),
  /** The slot of the fill, or −errno. The memory must stay until {@link watchFillTake} has answered true. */
  watchFill: (watch: number, fd: number, number: number, isNew: boolean, address: number, sizeBytes: number): number =>
    symbols.walb_watch_fill(watch as Pointer, fd, number, isNew ? 1 : 0, address as Pointer, sizeBytes),
  /** True when the fill is over, or is stopped by this; then `result` and `spill` tell of it. */
  watchFillTake: (watch: number, slot: number, isStop: boolean, result: Float64Array, spill: Uint8Array): boolean =>
    symbols.walb_watch_fill_take(watch as Pointer, slot, isStop ? 1 : 0, result, spill) !== 0,
  /** Bytes read, first into `target`, then into `spill`; 0 at the end, or −errno. Both are only used during the call. */
  receive: (fd: number, target: Uint8Array | null, spill: Uint8Array): number =>
    symbols.walb_receive(fd, target, target?.byteLength ?? 0, spill, spill.byteLength),
  /** 0, or −errno. Times are seconds. */
  keepAlive: (fd: number, idleS: number, intervalS: number, count: number): number =>
    symbols.walb_keep_alive(fd, idleS, intervalS, count),
  forgetCached: (fd: number): void => symbols.walb_forget_cached(fd),
  /** A descriptor of the same file, or −errno. */
  duplicate: (fd: number): number => symbols.walb_duplicate(fd),
  /** How many of the headers were good. */
  parsePacks: (headers: Uint8Array, count: number, parsing: Float64Array, columns: RecordColumns): number =>
    symbols.walb_parse_packs(headers, count, parsing, ...columnsOf(columns)),
  /** False for a record that no file has. */
  chooseRows: (choosing: Float64Array, table: number, files: Int32Array, columns: RecordColumns): boolean =>
    symbols.walb_choose_rows(choosing, table as Pointer, files, files.length, ...columnsOf(columns)) !== 0,
  /** 0 when there is no memory for it. */
  flowCreate: (workers: number, isStrict: boolean): number =>
    Number(symbols.walb_flow_create(workers, isStrict ? 1 : 0) ?? 0),
  flowStop: (flow: number): void => symbols.walb_flow_stop(flow as Pointer),
  flowDestroy: (flow: number): void => symbols.walb_flow_destroy(flow as Pointer),
  watchRemove: (watch: number, fd: number): void => symbols.walb_watch_remove(watch as Pointer, fd),
};

function columnsOf(columns: RecordColumns) {
  const { addressLb, blocksLb, kind, codec, source, dataOffset, storedBytes, imageLb, sliceLb, checksum } = columns;
  return [addressLb, blocksLb, kind, codec, source, dataOffset, storedBytes, imageLb, sliceLb, checksum] as const;
}

/** A range of shim memory as JavaScript sees it. It is never unmapped. */
export interface Mapping {
  readonly address: number;
  readonly buffer: ArrayBuffer;
}

/** Maps zeroed, page-aligned memory for good. @throws WalbError `internal` when the system has none. */
export function mapMemory(sizeBytes: number): Mapping {
  const address = Number(symbols.walb_memory_map(sizeBytes) ?? 0);
  if (address === 0) {
    throw new WalbError("internal", {
      what: `the system gives no ${sizeBytes} bytes of memory`,
      hint: "lower the memory budget, or look at the memory limit of the service",
    });
  }
  return { address, buffer: wrapMemory(address, sizeBytes) };
}

/** Wraps memory that the shim owns and never frees. */
export function wrapMemory(address: number, sizeBytes: number): ArrayBuffer {
  return toArrayBuffer(address as Pointer, 0, sizeBytes);
}

const errorTextBytes = 128;
let errorText: Mapping | undefined;

/** strerror of an errno. */
export function errnoText(errno: number): string {
  errorText ??= mapMemory(4096);
  const length = symbols.walb_error_text(errno, errorText.address as Pointer, errorTextBytes);
  return new TextDecoder().decode(new Uint8Array(errorText.buffer, 0, Math.min(length, errorTextBytes - 1)));
}

async function findLibrary(): Promise<string> {
  try {
    return (await import("../../ffi/build/libwalb.so", { with: { type: "file" } })).default;
  } catch (error) {
    throw new WalbError("internal", {
      what: "the C shim ffi/build/libwalb.so is not built",
      hint: "run: npm run build",
      cause: error,
    });
  }
}

function loadThroughMemfd(image: Uint8Array) {
  const libc = dlopen("libc.so.6", { syscall: { args: ["i64", "ptr", "u32"], returns: "i64" } });
  const memfdCreate = process.arch === "arm64" ? 279n : 319n;
  const name = Buffer.from("walb-shim\0");
  const fd = Number(libc.symbols.syscall(memfdCreate, ptr(name), 1));
  if (fd < 0) {
    throw new WalbError("internal", {
      what: "the kernel refuses memfd_create, which the C shim is loaded through",
      hint: "allow memfd_create in the seccomp filter of the service or container",
    });
  }
  try {
    let at = 0;
    while (at < image.length) at += writeSync(fd, image, at);
    return dlopen(`/proc/self/fd/${fd}`, definitions).symbols;
  } finally {
    closeSync(fd);
  }
}
