/** @module An engine on doubles, and promises around its callbacks. */
import type { WriteAheadEngine } from "../../../src/device/user/engine.ts";
import { type EngineOptions, openEngine } from "../../../src/device/user/engine.ts";
import type { WalbError } from "../../../src/errors.ts";
import { formatLogDevice } from "../../../src/log/format.ts";
import type { MemoryPool } from "../../../src/native/memory.ts";
import { type DiskHooks, TestClock, TestDisk, TestPool, TestRandom, testCompute } from "../../log/doubles.ts";

/** A bench is a disk with two stores and what an engine on it needs. */
export interface Bench {
  readonly disk: TestDisk;
  readonly clock: TestClock;
  readonly random: TestRandom;
  readonly memory: TestPool;
  readonly compute: typeof testCompute;
}

export interface BenchOptions {
  readonly seed?: number;
  readonly pbsBytes?: number;
  readonly ringPb?: number;
  readonly sizeLb?: number;
  readonly hooks?: DiskHooks;
}

/** A new bench with formatted stores; the log's free space and the data store hold noise. */
export async function makeBench(options: BenchOptions = {}): Promise<Bench> {
  const { seed = 1, pbsBytes = 512, ringPb = 400, sizeLb = 256 } = options;
  const disk = new TestDisk({});
  const random = new TestRandom(seed);
  disk.files.set("data", new Uint8Array(sizeLb * 512));
  disk.files.set("log", random.bytes(8192 + (2 + ringPb) * pbsBytes));
  const bench: Bench = { disk, clock: new TestClock(), random, memory: new TestPool(64 << 20), compute: testCompute };
  const file = await disk.open("log", { mode: "write" });
  // Exactly the ring that was asked for.
  disk.files.set("log", disk.files.get("log")!.slice(0, 4096 + (2 + ringPb) * pbsBytes));
  await formatLogDevice(file, { name: "vol", pbsBytes, deviceSizeLb: sizeLb }, bench);
  await file.close();
  Object.assign(disk.hooks, options.hooks ?? {});
  return bench;
}

export function openOn(
  bench: Omit<Bench, "memory"> & { readonly memory: MemoryPool },
  options: Partial<EngineOptions> = {},
): Promise<WriteAheadEngine> {
  const paths = { name: "vol", dataPath: "data", logPath: "log", overflow: "keep-writing" } as const;
  return openEngine(bench, { ...paths, direct: false, ...options });
}

type Outcome = Promise<WalbError | undefined>;

/** Writes bytes; resolves with the error, or undefined. */
export function write(
  bench: Bench,
  engine: WriteAheadEngine,
  offsetLb: number,
  bytes: Uint8Array,
  fua = false,
): Outcome {
  const pbs = engine.preferredBlockBytes;
  const lease = bench.memory.tryLease(Math.ceil(bytes.length / pbs) * pbs)!;
  lease.bytes.set(bytes);
  return new Promise((resolve) => engine.write(offsetLb * 512, bytes.length, lease, fua, resolve));
}

export function writeZeroes(engine: WriteAheadEngine, offsetLb: number, sizeLb: number, fua = false): Outcome {
  return new Promise((resolve) => engine.writeZeroes(offsetLb * 512, sizeLb * 512, fua, resolve));
}

export function discard(engine: WriteAheadEngine, offsetLb: number, sizeLb: number, fua = false): Outcome {
  return new Promise((resolve) => engine.discard(offsetLb * 512, sizeLb * 512, fua, resolve));
}

export function flush(engine: WriteAheadEngine): Outcome {
  return new Promise((resolve) => engine.flush(resolve));
}

/** Reads blocks. @throws the error. */
export function read(bench: Bench, engine: WriteAheadEngine, offsetLb: number, sizeLb: number): Promise<Uint8Array> {
  const lease = bench.memory.tryLease(sizeLb * 512)!;
  return new Promise((resolve, reject) =>
    engine.read(offsetLb * 512, lease.slice(0, sizeLb * 512), (error) => {
      const bytes = lease.bytes.slice();
      lease.release();
      if (error === undefined) resolve(bytes);
      else reject(error);
    }),
  );
}

/** Blocks that all hold one value. */
export function blocks(sizeLb: number, value: number): Uint8Array {
  return new Uint8Array(sizeLb * 512).fill(value);
}
