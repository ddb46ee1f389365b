/** @module One life of an engine under random work, on stores that record what happens to them. It ends by a crash. */
import type { EngineOptions } from "../../../../src/device/user/engine.ts";
import type { MemoryPool } from "../../../../src/native/memory.ts";
import type { RunningSync } from "../../../../src/platform/disk.ts";
import {
  type DiskHooks,
  Fate,
  Journal,
  type JournalEvent,
  TestClock,
  TestDisk,
  TestPool,
  TestRandom,
  TestSync,
  testCompute,
} from "../../../log/doubles.ts";
import { settle } from "../../../log/helpers.ts";
import { openOn } from "../harness.ts";

/** Size of a volume when it is made, and that it never grows beyond. */
export const sizeLb = 96;
export const sizeLbMax = 128;
const stepsPerLife = 45;

/** Each block up to `sizeLbMax` holds the number of the write that wrote it; 0 for zeroes, and beyond the end. */
export type Picture = Uint32Array;
/** By path. */
export type Stores = Map<string, Uint8Array>;

interface Operation {
  readonly offsetLb: number;
  readonly sizeLb: number;
  readonly value: number;
}

/** A recorded life. */
export interface Life {
  /** At its begin. */
  readonly stores: Stores;
  readonly startLb: number;
  readonly events: readonly JournalEvent[];
  /** The volume after each number of writes, in the order of their arrival. */
  readonly pictures: readonly Picture[];
}

/** How one seed works. */
export interface Work {
  readonly options: Partial<EngineOptions>;
  /** Whether some writes are of zeroes. */
  readonly hasZeroes: boolean;
  /** Whether the volume grows. */
  readonly grows: boolean;
  /** What a careless engine leaves undone. */
  readonly forgets?: DiskHooks["forgets"];
}

export function copyOf(stores: Stores): Stores {
  return new Map([...stores].map(([path, bytes]) => [path, bytes.slice()]));
}

/** What an engine needs, around stores that it changes in place. */
export function benchOn<Pool extends MemoryPool>(stores: Stores, seed: number, memory: Pool) {
  const disk = new TestDisk({});
  for (const [path, bytes] of stores) disk.files.set(path, bytes);
  return { disk, clock: new TestClock(), random: new TestRandom(seed), memory, compute: testCompute };
}

let nextValue = 1;

/** Opens the stores (redo is part of the record) and works on them. */
export async function live(
  stores: Stores,
  start: { readonly picture: Picture; readonly sizeLb: number },
  seed: number,
  work: Work,
): Promise<Life> {
  const initial = copyOf(stores);
  const bench = benchOn(stores, seed, new TestPool(64 << 20));
  const { random } = bench;
  const { hooks } = bench.disk;
  const journal = new Journal();
  hooks.journal = journal;
  hooks.forgets = work.forgets;
  const fate = new Fate(random);
  const engine = await openOn(bench, work.options);
  hooks.fate = fate;
  if (random.chance(0.5)) hooks.cached = () => random.chance(0.8);
  // Who syncs each write makes the engine do both in one.
  const isSteady = random.chance(0.3);
  const operations: Operation[] = [];
  const { pbsBytes, ringSizePb } = engine.deviceInfo();
  const packPb = Math.floor((work.options.maxPackBytes ?? 1 << 20) / pbsBytes);
  const pieceLbMax = (Math.min(packPb, Math.floor(ringSizePb / 4)) * pbsBytes) / 512;
  let ackedCount = 0;
  /** What a sync answers itself is promised from then on. */
  const promise = (sync: RunningSync, count: number): void => {
    if (sync instanceof TestSync) sync.answers.push(() => journal.note("durable", count));
  };
  const submit = (): void => {
    const wanted = random.between(1, random.chance(0.1) ? 20 : 5);
    const offsetLb = random.between(0, engine.sizeBytes / 512 - wanted);
    const isFua = isSteady || random.chance(0.1);
    const kind = random.fraction();
    const isDiscard = kind >= 0.8 && (kind < 0.95 || !work.hasZeroes);
    // A write larger than a pack is several records, and a crash may come between them.
    const pieceLb = isDiscard ? wanted : pieceLbMax;
    const pieceCount = Math.ceil(wanted / pieceLb);
    const number = operations.length + pieceCount;
    const done = (error: unknown): void => {
      if (error !== undefined) throw new Error(`a write failed: ${error}`);
      ackedCount += pieceCount;
      if (isFua) journal.note("durable", number);
    };
    const value = kind < 0.8 ? nextValue++ : 0;
    for (let atLb = 0; atLb < wanted; atLb += pieceLb) {
      operations.push({ offsetLb: offsetLb + atLb, sizeLb: Math.min(pieceLb, wanted - atLb), value });
    }
    journal.note("submitted", number);
    if (kind < 0.8) {
      const blockBytes = engine.preferredBlockBytes;
      const lease = bench.memory.tryLease(Math.ceil((wanted * 512) / blockBytes) * blockBytes)!;
      new Uint32Array(lease.bytes.buffer, lease.bytes.byteOffset, wanted * 128).fill(value);
      engine.write(offsetLb * 512, wanted * 512, lease, isFua, done, (sync) => promise(sync, number));
    } else if (isDiscard) {
      engine.discard(offsetLb * 512, wanted * 512, isFua, done);
    } else {
      engine.writeZeroes(offsetLb * 512, wanted * 512, isFua, done);
    }
  };
  const flush = (): void => {
    const covered = ackedCount;
    const done = (error: unknown): void => {
      if (error !== undefined) throw new Error(`a flush failed: ${error}`);
      journal.note("durable", covered);
    };
    engine.flush(done, (sync) => promise(sync, covered));
  };
  const ignore = (): void => {};
  const grow = (): void => {
    const wantedLb = Math.min(sizeLbMax, engine.sizeBytes / 512 + random.between(0, 12));
    journal.note("growing", wantedLb);
    engine.resize(wantedLb).then(({ sizeLb: grownLb }) => journal.note("grown", grownLb), ignore);
  };
  for (let step = 0; step < stepsPerLife; step += 1) {
    const choice = random.fraction();
    if (choice < 0.3) for (let n = random.between(1, 4); n > 0; n -= 1) submit();
    else if (choice < 0.38) flush();
    else if (choice < 0.41) engine.checkpoint().catch(ignore);
    else if (choice < 0.45) engine.setOldest(engine.deviceStatus().lsids.prevWritten).catch(ignore);
    else if (choice < 0.5) bench.clock.advance(random.between(1, 120));
    else if (choice < 0.515) engine.resetLog().catch(ignore);
    else if (choice < 0.53) engine.freeze({ timeoutMs: random.between(1, 60) }).catch(ignore);
    else if (choice < 0.55) engine.melt();
    else if (choice < 0.565 && work.grows) grow();
    else for (let n = random.between(1, 4); n > 0; n -= 1) fate.step();
    await settle(2);
  }
  if (engine.readOnlyReason !== undefined) throw new Error(`read-only: ${engine.readOnlyReason}`);
  const events = [...journal.events];
  return { stores: initial, startLb: start.sizeLb, events, pictures: picturesOf(start.picture, operations) };
}

function picturesOf(start: Picture, operations: readonly Operation[]): Picture[] {
  const pictures = [start];
  for (const operation of operations) {
    const next = pictures.at(-1)!.slice();
    next.fill(operation.value, operation.offsetLb, operation.offsetLb + operation.sizeLb);
    pictures.push(next);
  }
  return pictures;
}
