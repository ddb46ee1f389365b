/** @module Opens stores after a crash as the next start of the daemon does, and checks them. */
import { LogDeviceReader } from "../../../../src/log/reader.ts";
import type { Lease, MemoryPool } from "../../../../src/native/memory.ts";
import { TestPool, testCompute } from "../../../log/doubles.ts";
import { openOn } from "../harness.ts";
import { benchOn, type Picture, type Stores, sizeLbMax, type Work } from "./life.ts";

/** A pool that hands the same memory out again, with what was in it: making it would take most of the time. */
class RecyclingPool implements MemoryPool {
  readonly budgetBytes = 64 << 20;
  leasedBytes = 0;
  readonly #free = new Map<number, Lease[]>();
  readonly #pool = new TestPool(this.budgetBytes);

  tryLease(sizeBytes: number): Lease {
    this.leasedBytes += sizeBytes;
    return this.#free.get(sizeBytes)?.pop() ?? this.#make(sizeBytes);
  }

  lease(sizeBytes: number): Promise<Lease> {
    return Promise.resolve(this.tryLease(sizeBytes));
  }

  carve(): MemoryPool {
    return this;
  }

  #make(sizeBytes: number): Lease {
    const lease = this.#pool.tryLease(sizeBytes);
    if (lease === undefined) throw new Error("memory is leaking");
    const release = (): void => {
      this.leasedBytes -= sizeBytes;
      const free = this.#free.get(sizeBytes);
      if (free === undefined) this.#free.set(sizeBytes, [lease]);
      else free.push(lease);
    };
    return Object.assign(lease, { release });
  }
}

const pool = new RecyclingPool();

/** Where the stores are recovered, again and again. */
const scratch: Stores = new Map();

function copyToScratch(stores: Stores): void {
  for (const [path, bytes] of stores) {
    const copy = scratch.get(path);
    if (copy?.length === bytes.length) copy.set(bytes);
    else scratch.set(path, bytes.slice());
  }
}

/** A volume as it is found after a crash. */
export interface Recovered {
  readonly picture: Picture;
  readonly sizeLb: number;
}

/**
 * Opens a copy of the stores, and returns what the volume is.
 * @throws when the engine does not open, or the lsids or the log are not in order.
 */
export async function recover(crashed: Stores, work: Work): Promise<Recovered> {
  copyToScratch(crashed);
  const bench = benchOn(scratch, 1, pool);
  bench.disk.hooks.forgets = work.forgets;
  const engine = await openOn(bench, work.options);
  const { lsids, isOverflow } = engine.deviceStatus();
  const { oldest, prevWritten, latest } = lsids;
  if (latest !== prevWritten || oldest > latest) throw new Error(`lsids out of order: ${JSON.stringify(lsids)}`);
  // Unless it says that it lost some, the log leads from oldest to latest.
  if (!isOverflow && oldest < latest) {
    const file = await engine.openLog();
    const reader = new LogDeviceReader({ file, ring: engine.deviceInfo(), pool, compute: testCompute });
    for await (const batch of reader.packs(oldest, latest)) batch.release();
    await file.close();
  }
  const { sizeLb } = engine.deviceInfo();
  await engine.close();
  if (pool.leasedBytes !== 0) throw new Error(`${pool.leasedBytes} bytes of memory are lost`);
  return { picture: pictureOf(scratch.get("data")!), sizeLb };
}

function pictureOf(data: Uint8Array): Picture {
  const picture = new Uint32Array(sizeLbMax);
  const words = new Uint32Array(data.buffer, data.byteOffset, data.length / 4);
  for (let block = 0; block < data.length / 512; block += 1) {
    const value = words[block * 128]!;
    for (let i = 1; i < 128; i += 1) if (words[block * 128 + i] !== value) throw new Error(`block ${block} is torn`);
    picture[block] = value;
  }
  return picture;
}
